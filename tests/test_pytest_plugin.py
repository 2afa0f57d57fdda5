"""The fixtures as a user's project gets them: in a pytest of its own, in every kind of test."""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

TRAINING = """
import asyncio
from loops_async import LoopsClient, PollPolicy, wait_until_active

QUICK = PollPolicy(initial=0.01, maximum=0.02)

async def use(loops):
    session = await loops.sessions.create()
    sampler = await loops.samplers.create(session_id=session.id, base_model="m")
    try:
        return await wait_until_active(loops, sampler, policy=QUICK)
    finally:
        await loops.samplers.deactivate(sampler.id)

async def train():
    async with LoopsClient() as loops:
        return await use(loops)
"""

CONFTEST = """
import pytest

@pytest.fixture
def loops_emulator_options():
    return {"speed": 5000}

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

# In the tests below, %s stands for the mark of the mode, or for nothing.
ASYNC_TESTS = """
import asyncio
import pytest
from loops_async import AuthenticationError, LoopsClient
from loops_async.emulator import Fault
from training import train, use

%s
async def test_code_that_makes_its_own_client(loops_emulator):
    assert (await train()).base_url.startswith(loops_emulator.url)
    assert len(loops_emulator.samplers) == 1
    assert not loops_emulator.billed

%s
@pytest.mark.parametrize("turn", range(3))
async def test_the_client_of_the_fixture(turn, loops_client, loops_emulator):
    loops_emulator.add_fault(Fault(method="GET", status=503, times=2))
    assert (await use(loops_client)).status == "ACTIVE"
    assert not loops_emulator.billed

%s
async def test_a_wait_that_is_left_behind(loops_client, loops_emulator):
    from loops_async import wait_until_active
    session = await loops_client.sessions.create()
    sampler = await loops_client.samplers.create(session_id=session.id, base_model="m")
    loops_emulator.set_status(sampler.id, "BUILDING")
    task = asyncio.create_task(wait_until_active(loops_client, sampler))
    await asyncio.sleep(0.01)
    task.cancel()

%s
async def test_a_wrong_key_is_refused(loops_emulator):
    async with LoopsClient("other") as loops:
        with pytest.raises(AuthenticationError):
            await loops.samplers.list()

%s
async def test_an_outage(loops_client, loops_emulator):
    await loops_emulator.aclose()
    listing = asyncio.create_task(loops_client.samplers.list())
    await asyncio.sleep(0.01)
    await loops_emulator.start()
    assert await listing == ()

%s
async def test_a_client_that_is_closed_already(loops_client):
    await use(loops_client)
    await loops_client.aclose()
"""

SYNC_TESTS = """
import asyncio
import gc
import os
import threading
import pytest
from training import train, use

def test_code_that_makes_its_own_client(loops_emulator):
    for _ in range(2):
        assert asyncio.run(train()).base_url.startswith(loops_emulator.url)
    assert len(loops_emulator.samplers) == 2
    assert not loops_emulator.billed

@pytest.mark.parametrize("turn", range(3))
def test_the_client_of_the_fixture(turn, loops_client):
    assert asyncio.run(use(loops_client)).status == "ACTIVE"
    assert "closed" in repr(loops_client)

def test_a_client_that_is_not_used(loops_client):
    pass

def test_a_loop_that_outlives_the_test(loops_client, request):
    loop = asyncio.new_event_loop()
    request.config.loop = loop
    loop.run_until_complete(use(loops_client))

def test_the_client_was_closed_in_it(request):
    loop = request.config.loop
    assert not asyncio.all_tasks(loop)
    loop.close()

def test_a_loop_in_another_thread(loops_client, request):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(use(loops_client), loop).result(10)
    request.config.loop, request.config.thread = loop, thread

def test_the_client_was_closed_in_it_too(request):
    loop = request.config.loop
    loop.call_soon_threadsafe(loop.stop)
    request.config.thread.join()
    loop.close()

def test_a_loop_that_is_closed_by_hand(loops_client):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use(loops_client))
    loop.close()

def test_nothing_of_that_is_left_to_this_one():
    gc.collect()

def test_the_environment_is_as_it_was():
    assert (os.environ.get("LOOPS_BASE_URL"), os.environ["BASETEN_API_KEY"]) == (None, "real")
    assert not [thread for thread in threading.enumerate() if thread.name == "loops-emulator"]

def test_the_environment_can_be_changed_on_top(loops_emulator, monkeypatch):
    assert os.environ["LOOPS_BASE_URL"] == loops_emulator.url
    monkeypatch.setenv("LOOPS_BASE_URL", "https://example.com")

def test_and_is_as_it_was_after_that():
    test_the_environment_is_as_it_was()
"""

OPTIONS_TESTS = """
import asyncio
import os
import pytest
from loops_async import SamplerFailed
from training import train

@pytest.fixture
def loops_emulator_options():
    return {"lifecycles": {"*": [("BUILD_FAILED", None)]}}

@pytest.fixture
def loops_client_options():
    return {"team_id": "t1"}

def test_for_a_file(loops_emulator):
    with pytest.raises(SamplerFailed):
        asyncio.run(train())
    assert os.environ["BASETEN_API_KEY"] == "key-of-the-emulator"

@pytest.mark.parametrize("loops_emulator_options", [{"api_key": None}, {"api_key": "k"}])
def test_for_one_test(loops_emulator, loops_emulator_options):
    assert asyncio.run(train()).status == "ACTIVE"
    assert os.environ["BASETEN_API_KEY"] == (loops_emulator_options["api_key"] or "any-key")

def test_for_the_client(loops_client, loops_emulator):
    asyncio.run(loops_client.samplers.list())
    assert loops_emulator.received[-1].path == "/v1/teams/t1/loops/samplers"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose tests may not warn of anything."""
    monkeypatch.setenv("BASETEN_API_KEY", "real")
    pytester.makepyfile(training=TRAINING)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers -p no:hypothesispytest -p no:cacheprovider\n"
        # The second is about pytest-asyncio's own setting, which not every mode here can have.
        "filterwarnings =\n    error\n    ignore:The configuration option\n"
    )
    return pytester


def passed(project: pytest.Pytester, count: int, *arguments: str) -> None:
    result = project.runpytest_subprocess(*arguments, timeout=25)
    result.assert_outcomes(passed=count)
    assert result.ret == 0
    # What comes too late to fail a test.
    assert not re.search("unclosed|never retrieved|never awaited|was destroyed", result.stderr.str(), re.IGNORECASE)


def test_without_a_loop_and_with_other_settings(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=SYNC_TESTS, test_b=OPTIONS_TESTS)
    passed(project, 18, "-p", "no:asyncio", "-p", "no:anyio")


def test_under_pytest_asyncio_in_strict_mode_with_anyio_beside_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a=ASYNC_TESTS.replace("%s", "@pytest.mark.asyncio"),
        test_b=ASYNC_TESTS.replace("%s", "@pytest.mark.asyncio(loop_scope='module')"),
        test_c=ASYNC_TESTS.replace("%s", "@pytest.mark.anyio"),
    )
    passed(project, 24, "--asyncio-mode=strict")


def test_under_pytest_asyncio_in_auto_mode(project: pytest.Pytester) -> None:
    project.makepyfile(ASYNC_TESTS.replace("%s", ""))
    passed(project, 8, "--asyncio-mode=auto", "-p", "no:anyio")


def test_under_anyio_alone(project: pytest.Pytester) -> None:
    project.makepyfile(ASYNC_TESTS.replace("%s", "@pytest.mark.anyio"))
    passed(project, 8, "-p", "no:asyncio")


def test_in_workers_beside_each_other(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=SYNC_TESTS, test_b=ASYNC_TESTS.replace("%s", ""))
    passed(project, 22, "-n", "2", "--dist", "loadfile", "--asyncio-mode=auto")


def test_no_proxy_of_the_environment_comes_between(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 discards what comes, where anything listens on it at all.
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    project.makepyfile(
        """
        import asyncio
        import os
        from training import train, use

        def test_a_client_of_the_code(loops_emulator):
            asyncio.run(train())
            assert os.environ["NO_PROXY"].startswith("intranet.example,")

        def test_the_client_of_the_fixture(loops_client):
            asyncio.run(use(loops_client))

        def test_the_environment_is_as_it_was():
            assert os.environ["NO_PROXY"] == "intranet.example"
            assert "no_proxy" not in os.environ
        """
    )
    passed(project, 3)


def test_a_client_that_nobody_closes_is_not_silenced(project: pytest.Pytester) -> None:
    """The fixture closes its own client only: those of the code under test are that code's matter."""
    project.makepyfile(
        """
        import asyncio, gc
        from loops_async import LoopsClient

        def test_it(loops_emulator):
            asyncio.run(LoopsClient().samplers.list())
            gc.collect()
        """
    )
    result = project.runpytest_subprocess(timeout=25)
    assert result.ret != 0
    assert "Unclosed client session" in result.stdout.str() + result.stderr.str()


def test_nothing_is_loaded_before_a_fixture_is_used(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other people's plugins load whatever they like.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.makepyfile(
        """
        import sys

        def test_it():
            assert "loops_async.pytest_plugin" in sys.modules
            assert not {"aiohttp", "attrs", "msgspec", "loops_async.emulator", "asyncio"} & sys.modules.keys()
        """
    )
    passed(project, 1, "-p", "loops_async.pytest_plugin")
