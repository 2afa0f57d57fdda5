"""The emulator in a thread of its own, for callers that have another event loop, or none.

A server in the loop of the test answers only while that loop runs. Three kinds of test
would wait for it for ever: one without a loop, one whose code calls `asyncio.run()`, and
one that closes a client after its loop has ended.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from types import TracebackType
from typing import Any, Self, TypeVar

from ._server import Emulator

T = TypeVar("T")


class BackgroundEmulator(Emulator):
    """An `Emulator` for `with`, whose methods may be called from any thread and any event loop.

    The emulator's own thread runs each method, and the caller gets its result or its
    exception. So no method meets a state that a request is just changing. `aclose()` and
    `start()` are still coroutines; without a loop, call `asyncio.run(emulator.aclose())`.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    """The event loop of the emulator, while its thread runs."""
    _thread: threading.Thread | None = None
    _leave: asyncio.Event

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        ready: Future[None] = Future()
        # A daemon, so that an interpreter that exits in the middle of a test does not wait for it.
        self._thread = threading.Thread(target=self._run, args=(ready,), name="loops-emulator", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        thread, loop = self._thread, self._loop
        if thread is None:
            return
        if loop is not None:
            loop.call_soon_threadsafe(self._leave.set)
        thread.join()
        self._thread = self._loop = None

    def _run(self, ready: "Future[None]") -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: "Future[None]") -> None:
        self._leave = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            await Emulator.start(self)
        except BaseException as error:  # noqa: BLE001 -- raised in the caller's thread
            self._loop = None
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._leave.wait()
        await Emulator.aclose(self)

    def _is_here(self) -> bool:
        """Return True if the caller may touch the state: in the emulator's thread, or when there is none."""
        return self._loop is None or threading.current_thread() is self._thread

    def _do(self, act: Callable[[], T]) -> T:
        """Run *act* in the emulator's thread and return what it returns."""
        loop = self._loop
        if loop is None or self._is_here():
            return act()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except BaseException as error:  # noqa: BLE001 -- raised in the caller's thread
                done.set_exception(error)

        loop.call_soon_threadsafe(run)
        return done.result()


def _forwarded(member: Any) -> Any:
    """Wrap a public member of `Emulator` so that the emulator's own thread runs it."""
    if isinstance(member, property):
        get, put = member.fget, member.fset
        assert get is not None  # noqa: S101 -- no property without a getter
        return property(
            lambda self: self._do(lambda: get(self)),
            None if put is None else lambda self, value: self._do(lambda: put(self, value)),
            doc=member.__doc__,
        )

    if inspect.iscoroutinefunction(member):

        @wraps(member)
        async def arrive(self: BackgroundEmulator, *args: Any, **options: Any) -> Any:
            loop = self._loop
            if loop is None:
                raise RuntimeError("the emulator's thread is not running: enter it using `with`")
            if self._is_here():
                return await member(self, *args, **options)
            running = asyncio.run_coroutine_threadsafe(member(self, *args, **options), loop)
            return await asyncio.wrap_future(running)

        return arrive

    @wraps(member)
    def call(self: BackgroundEmulator, *args: Any, **options: Any) -> Any:
        return self._do(lambda: member(self, *args, **options))

    return call


# All public members are wrapped here, so that one which is added later is not forgotten.
for _name, _member in tuple(vars(Emulator).items()):
    if not _name.startswith("_"):
        setattr(BackgroundEmulator, _name, _forwarded(_member))
