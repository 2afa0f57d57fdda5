"""What the tests share: an emulator on a real socket, clients on it, and a watch over what is left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from loops_async import LoopsClient
from loops_async.emulator import Emulator

from .launching import Setting, set_up
from .support import KEY, QUICK_RETRY, ClientMaker

with suppress(ImportError):  # the guide's pages and the SDK are run without it
    from hypothesis import HealthCheck, settings

    # How long an example takes says more about the machine than about the code.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    # A third of the time, tests wait for processes and sockets.
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick_clock: wait for timers a twentieth of their time; see tests.clock")
    config.addinivalue_line("markers", "usual_clock: do not, although the rest of the file does")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASETEN_API_KEY", "LOOPS_ALLOW_HTTP", "LOOPS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    # A proxy of the machine that runs the tests cannot reach the servers that they start.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test, such as a page of the guide, changes about logging."""
    loggers = logging.getLogger(), logging.getLogger("loops_async")
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


class Tasks:
    """A task factory that remembers its tasks, those that `asyncio.all_tasks()` does not show included."""

    def __init__(self) -> None:
        self._made: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **settings: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **settings)
        self._made.add(task)
        return task

    def pending(self) -> set[asyncio.Task[Any]]:
        return {task for task in self._made if not task.done()} - {asyncio.current_task()}


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind, or whose loop had to report an error that nobody took."""
    loop = asyncio.get_running_loop()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    tasks = Tasks()
    loop.set_task_factory(tasks)
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    assert not tasks.pending()
    assert not reports


@pytest.fixture
async def emulator(nothing_left: None) -> AsyncIterator[Emulator]:
    """An emulator whose samplers are ACTIVE after 150 ms."""
    async with Emulator(api_key=KEY, speed=200) as running:
        yield running


@pytest.fixture
async def make_client(emulator: Emulator) -> AsyncIterator[ClientMaker]:
    """Make clients of the emulator that retry quickly; they are closed with the test."""
    clients: list[LoopsClient] = []

    def make(**settings: Any) -> LoopsClient:
        settings = {"base_url": emulator.url, "retry": QUICK_RETRY, "rate_limit": None, **settings}
        client = LoopsClient(settings.pop("api_key", KEY), **settings)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(make_client: ClientMaker) -> LoopsClient:
    return make_client()


@pytest.fixture
async def session_id(client: LoopsClient, emulator: Emulator) -> str:
    session = await client.sessions.create()
    emulator.clear_received()
    return session.id


@pytest.fixture
async def stage(nothing_left: None) -> AsyncIterator[Setting]:
    """What a test of a launch needs; see `Setting`."""
    async with set_up() as parts:
        yield parts
