"""Launch many samplers in one block, and release them when it ends."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol, get_args

from attrs import evolve

from .. import _validate
from .._aio import spawn_shielded, wait_through_cancellation
from .._wait.interfaces import C, StatusReader
from .._wait.policy import PollPolicy
from .._wait.waiter import DEFAULT_TIMEOUT, check_wait
from ..errors import LoopsError, TeardownError
from ..models import SamplerSpec, StatusChange
from .fleet import Fleet
from .interfaces import SupportsLaunches
from .journal_file import JournalFile, NoJournal
from .member import Member
from .supervisor import LaunchSupervisor, Settings, Teardown
from .teardown import Ending

logger = logging.getLogger("loops_async")

ATTEMPTS: Final = 4
"""How often a teardown is begun: once more where a Ctrl-C has struck it, and for what an end that was good until then
had kept."""


class SupportsFleets(SupportsLaunches, Protocol):
    """What `launch()` needs of a client."""

    def _companion(self, kind: type[C], make: Callable[[StatusReader], C]) -> C: ...


def launch(
    client: SupportsFleets,
    specs: Iterable[SamplerSpec | str],
    *,
    session_id: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- frozen
    max_concurrent_creates: int = 32,
    relaunches: int = 0,
    teardown: Teardown = "always",
    teardown_timeout: float = 60.0,
    adopt_unknown: bool = False,
    journal: str | os.PathLike[str] | None = None,
    on_status: Callable[[StatusChange], object] | None = None,
) -> AbstractAsyncContextManager[Fleet]:
    """Launch a sampler for each of *specs*, for the time of an `async with` block.

    Creates begin with the block, and each sampler is waited for from the moment in which it exists. When the block is
    left, by whatever way, the samplers that it created are deactivated: all at once, and not cut short by a cancel,
    however often it comes. A failing deactivation is repeated until *teardown_timeout* is over.

    What is still billed after that is raised as `TeardownError` if the block itself has ended well. An exception that
    leaves the block goes on as it is, with the `TeardownError` as the end of its chain of causes and in its notes.

    Args:
        client: The client that creates, polls and releases.
        specs: What to create: `SamplerSpec`s or plain names of base models, one member each; none is fine.
        session_id: Session of the samplers; None makes one.
        timeout: Seconds, above 0, from the beginning of the block in which members must come up, relaunches included;
            None never gives up. A member that is late gets a `WaitTimeout`, and nothing is created for it any more; the
            block goes on.
        policy: When to look, and what the statuses mean.
        max_concurrent_creates: Creates in flight at once, at least 1.
        relaunches: How often a member's sampler is replaced if it comes to a failed status. It is released first; if
            that fails, it is not replaced.
        teardown: When samplers are deactivated at the end of the block: `always`; `on_error`, if an exception leaves
            the block, and otherwise only those of members that failed; or `never`. What is kept is the caller's.
        teardown_timeout: Seconds that leaving the block may take, above 0. A create whose answer takes longer goes on
            in the care of the client, which releases what it makes and waits for that when it is closed.
        adopt_unknown: What to do about creates whose answer was lost. False tells of them as `CreateOutcomeUnknown`
            with their candidates. True takes the account's new samplers of that base model for theirs if there are no
            more of them than lost creates and these asked for the same: right only if nothing else creates samplers
            of that model with this account at that time.
        journal: File to which everything is appended that `loops_async.journal` needs to clean up after a crash.
        on_status: Called with each `StatusChange` as it is seen; what it raises is the member's error.

    Raises:
        TypeError, ValueError: An argument is malformed; nothing was sent.
        RuntimeError: On entering: the client is closed, or the block was entered before.
        LoopsError: On entering: no session could be made.
        OSError: On entering: the journal cannot be written, or is in use by another launch (BlockingIOError). On
            leaving: it could not be written to its end.
        TeardownError: On leaving: samplers are still billed, or may be and nobody was told; it names them.

    Source: `POST /v1/loops/samplers`, `GET /v1/loops/samplers/{sampler_id}`,
    `POST /v1/loops/samplers/{sampler_id}/deactivate`.
    """
    if not hasattr(client, "_launches"):
        raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
    check_wait(timeout, policy, on_status)
    if timeout == 0:
        raise ValueError("timeout must be above 0: in no time at all nothing comes up")
    if not isinstance(adopt_unknown, bool):
        raise TypeError(f"adopt_unknown must be a bool, not {type(adopt_unknown).__name__}")
    if _validate.optional_positive_int("max_concurrent_creates", max_concurrent_creates) is None:
        raise TypeError("max_concurrent_creates must be an int, not None")
    if isinstance(relaunches, bool) or not isinstance(relaunches, int):
        raise TypeError(f"relaunches must be an int, not {type(relaunches).__name__}")
    if relaunches < 0:
        raise ValueError(f"relaunches must not be negative: {relaunches}")
    if teardown not in get_args(Teardown):
        raise ValueError(f"teardown must be one of {', '.join(map(repr, get_args(Teardown)))}, not {teardown!r}")
    settings = Settings(
        timeout=None if timeout is None or math.isinf(timeout) else timeout,
        policy=policy,
        max_concurrent_creates=max_concurrent_creates,
        relaunches=relaunches,
        teardown=teardown,
        teardown_timeout=_validate.require_number("teardown_timeout", teardown_timeout, exclusive=True),
        adopt_unknown=adopt_unknown,
        on_status=on_status,
    )
    members = tuple(Member(index, spec) for index, spec in enumerate(_specs(specs)))
    if journal is not None and not isinstance(journal, (str, os.PathLike)):
        raise TypeError(f"journal must be a str or a path, not {type(journal).__name__}")
    path = None if journal is None else _validate.require_str("journal", os.fspath(journal))
    return Launch(client, members, settings, _validate.optional_str("session_id", session_id), path)


def _specs(specs: Iterable[SamplerSpec | str]) -> list[SamplerSpec]:
    # A lone name is an iterable of its letters, each of which would become a sampler.
    if isinstance(specs, (str, bytes, SamplerSpec)) or not isinstance(specs, Iterable):
        raise TypeError(f"specs must be several SamplerSpecs or names of base models, such as [{specs!r}]")
    checked = []
    for spec in specs:
        if not isinstance(spec, (SamplerSpec, str)):
            raise TypeError(f"a spec must be a SamplerSpec or the name of a base model, not {type(spec).__name__}")
        checked.append(SamplerSpec(spec) if isinstance(spec, str) else spec)
    return checked


class _Launches:
    """The launches of one client that are going on, and what their ends had to leave to it."""

    def __init__(self) -> None:
        self.going_on: set[Launch] = set()
        self._overdue: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """End all launches, since afterwards nobody could release anything; their own blocks tell what is left."""
        endings = [each.end(failed=True) for each in self.going_on]
        if endings:
            await asyncio.wait(endings)
        if self._overdue:
            await asyncio.wait(self._overdue)

    def look_after(self, overdue: Iterable[asyncio.Task[None]]) -> None:
        """Take tasks over that await the answer to a POST."""
        for task in overdue:
            self._overdue.add(task)
            task.add_done_callback(self._overdue.discard)


class Launch:
    """The way into a launch and out of it."""

    def __init__(
        self,
        client: SupportsFleets,
        members: tuple[Member, ...],
        settings: Settings,
        session_id: str | None,
        path: str | None,
    ) -> None:
        self._client = client
        self._members = members
        self._settings = settings
        self._session_id = session_id
        self._path = path
        self._is_entered = False
        self._launching: LaunchSupervisor
        self._last: Ending
        self._siblings: _Launches
        self._ending: asyncio.Task[TeardownError | None] | None = None

    async def __aenter__(self) -> Fleet:
        if self._is_entered:
            raise RuntimeError("a launch can be entered only once; call launch() again")
        self._is_entered = True
        siblings = self._client._companion(_Launches, lambda _: _Launches())
        journal = await JournalFile.open(self._path, create=True) if self._path is not None else NoJournal()
        try:
            if self._session_id is None and self._members:
                self._session_id = await self._client._launches.session()
            settings = evolve(self._settings, adopt_unknown=self._settings.adopt_unknown and await self._take_stock())
            launching = LaunchSupervisor(self._client, self._members, settings, journal, self._session_id or "")
            await launching.announce()
        except BaseException:
            await journal.close()
            raise
        # From here on nothing is awaited: whatever is started has somebody who ends it.
        fleet = Fleet(self._members, launching, self._session_id)
        self._launching, self._last, self._siblings = launching, Ending(launching), siblings
        siblings.going_on.add(self)
        launching.start(fleet._take)
        return fleet

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed = exc is not None
        cancelled: asyncio.CancelledError | None = None
        interrupt: BaseException | None = None
        left: Exception | None = None
        for _ in range(ATTEMPTS):
            ending = self.end(failed=failed)
            cancelled = await wait_through_cancellation(ending) or cancelled
            # A cancel that comes here still makes this a bad end, for which the journal must be open.
            cancelled = await wait_through_cancellation(spawn_shielded(self._launching.journal.flush())) or cancelled
            interrupt = ending.exception()
            if interrupt is None:
                left = ending.result()
                if failed or (cancelled is None and left is None) or self._settings.teardown != "on_error":
                    break
                # It was a good end until now; what was kept because of that is to be released, too.
                failed = True
            self._ending = None
        self._launching.journal.shut()
        left = left or self._launching.journal.failure
        error = cancelled or interrupt or exc
        if left is None or error is None:
            error = error or left
        elif isinstance(error, GeneratorExit):
            # Nobody would see what hangs on it: it ends with the generator.
            raise left from error
        else:
            _attach(left, error)
        if error is not None and error is not exc:
            raise error

    def end(self, *, failed: bool) -> asyncio.Task[TeardownError | None]:
        """Begin to end the launch, unless that has begun; await it with `wait_through_cancellation()`."""
        if self._ending is None:
            self._ending = spawn_shielded(self._end(failed))
        return self._ending

    async def _end(self, failed: bool) -> TeardownError | None:
        try:
            return await self._last.run(failed)
        finally:
            self._siblings.going_on.discard(self)
            self._siblings.look_after(self._last.overdue)

    async def _take_stock(self) -> bool:
        """Note what samplers there are, without which none can be adopted; return whether that could be done."""
        try:
            await self._client._launches.take_stock()
        except LoopsError as exc:
            logger.warning("samplers of lost creates will not be adopted, since none could be listed: %s", exc)
            return False
        return True


def _attach(left: Exception, error: BaseException) -> None:
    """Make *left* known with *error*, which goes on: as a note, and as the end of its chain of causes."""
    if not isinstance(error, Exception):
        # A task group, for one, drops the cancellations of its tasks with all that hangs on them.
        logger.error("a launch was cut short, and not all is well: %s", left)
    try:
        error.add_note(f"{type(left).__name__}: {left}")
        last, seen = error, {id(error)}
        while last.__cause__ is not None and id(last.__cause__) not in seen:
            last = last.__cause__
            seen.add(id(last))
        if last is not left:
            # A cause hides the context, which is to be seen all the same.
            left.__context__ = last.__context__
            last.__cause__ = left
    except Exception:  # noqa: BLE001 -- an exception may be of a class that lets nothing be written into it
        logger.error("%r has left a launch in which not all is well: %s", error, left)
