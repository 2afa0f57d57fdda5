"""Launch many samplers in one block, and deactivate them when it ends."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, get_args

from .. import _validate
from .._aio import spawn_shielded, wait_through_cancellation
from .._run import Billed, register_billed
from .._wait.policy import PollPolicy
from .._wait.probing import Probe, check_probe
from .._wait.waiter import DEFAULT_TIMEOUT, check_wait
from ..errors import CreateOutcomeUnknown, TeardownError
from ..models import SamplerSpec, StatusChange
from .fleet import Fleet
from .journal_file import JournalFile, NoJournal, check_path
from .journal_records import Kept
from .member import CreateState, Member
from .resuming import Resumption, plan_resumption, warn_of_left, warn_of_unresolved
from .supervisor import LaunchSupervisor, Settings, TeardownMode
from .teardown import Teardown

if TYPE_CHECKING:
    from .._client import LoopsClient

logger = logging.getLogger("loops_async")

TEARDOWN_TIMEOUT_S: Final = 60.0
"""Seconds that a teardown may take by default; the time that the rate limit needs for its requests is added."""

TEARDOWN_RUNS: Final = 4
"""Most runs of a teardown: it runs again after a KeyboardInterrupt, and after a late cancellation, which turns a good
end into a bad one, so that the samplers that were kept must be deactivated, too."""


def launch(
    client: LoopsClient,
    specs: Iterable[SamplerSpec | str],
    *,
    session_id: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- immutable
    probe: Probe | bool | None = None,
    max_concurrent_creates: int = 32,
    relaunches: int = 0,
    teardown: TeardownMode = "always",
    teardown_timeout: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_status: Callable[[StatusChange], object] | None = None,
) -> AbstractAsyncContextManager[Fleet]:
    """Launch a sampler for each of *specs*, for the duration of an `async with` block.

    Creates begin with the block, and the wait for each sampler begins as soon as it exists. The sampler of a member
    that fails, or is late, is deactivated at once. When the block ends, on any exit, the samplers that it owns are
    deactivated, all at the same time. A cancellation does not cut that short. A deactivation that fails is repeated
    until *teardown_timeout* is over.

    If samplers are still billed after that, and the block itself has ended well, a `TeardownError` names them. An
    exception that leaves the block goes on as it is, with the `TeardownError` in its notes and as
    `fleet.teardown_error`.

    Args:
        client: The client that creates, polls and deactivates.
        specs: The samplers to create: `SamplerSpec`s or names of base models, one for each member; may be empty.
        session_id: Session of the samplers; None creates one.
        timeout: Seconds, above 0, from the beginning of the block in which members must come up, relaunches included;
            None for no limit. A member that is late gets a `WaitTimeout`, and no sampler is created for it any more;
            the block goes on.
        policy: When to poll, and what the statuses mean.
        probe: As in `wait_until_active()`: a member has come up once its sampler is ready and answers the probe.
        max_concurrent_creates: Creates in flight at once, at least 1.
        relaunches: How often a member's sampler is replaced if it comes to a failed status, permanent or not. It is
            deactivated first; if that fails, it is not replaced.
        teardown: When samplers are deactivated at the end of the block: `always`; `on_error`, if an exception leaves
            the block; or `never`, which keeps also those of members that failed. The caller must deactivate what is
            kept.
        teardown_timeout: Seconds that leaving the block may take, above 0; None for 60 and the time that the client's
            rate limit needs for all samplers. A create whose response takes longer is left to the client, which
            deactivates its sampler, and waits for that when it is closed.
        journal: File that records what is needed after a crash: to clean up with `loops_async.journal`, or to go on
            with *resume*. Records are appended, and the file is locked until the block has ended.
        resume: Whether members resume samplers of the journal's earlier launches: those that a crash left, and those
            that were kept, if the spec is equal and they have not failed. Only the ids in the journal count. Other
            samplers that a crash left are deactivated; other kept ones, and detached ones, are left alone. Samplers of
            another control plane or team are left alone, with a warning in the log. Creates whose outcome is unknown
            since the process died are `fleet.unresolved`. A journal that does not exist is created.
        on_status: Called with each `StatusChange` at once; an exception that it raises is the member's error.

    Raises:
        TypeError, ValueError: An argument is malformed, such as *resume* without a *journal*; nothing was sent.
        RuntimeError: On entering: the client is closed, or the block was entered before.
        LoopsError: On entering: no session could be created, or the requests for the samplers to resume failed.
        OSError: On entering: the journal cannot be written, or is in use by another launch (BlockingIOError). On
            leaving: it could not be written to its end.
        TeardownError: On leaving: samplers are still billed, or creates are unknown. Creates that the exception of the
            block itself holds do not count, nor do those for which `fleet.acknowledge()` was called.

    Source: `POST /v1/loops/samplers`, `GET /v1/loops/samplers/{sampler_id}`,
    `POST /v1/loops/samplers/{sampler_id}/deactivate`.
    """
    if not hasattr(client, "_launches"):
        raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
    check_wait(timeout, policy, on_status)
    check_probe(probe)
    if timeout == 0:
        raise ValueError("timeout must be above 0: nothing comes up in no time")
    max_concurrent_creates = _validate.require_positive_int("max_concurrent_creates", max_concurrent_creates)
    if isinstance(relaunches, bool) or not isinstance(relaunches, int):
        raise TypeError(f"relaunches must be an int, not {type(relaunches).__name__}")
    if relaunches < 0:
        raise ValueError(f"relaunches must not be negative: {relaunches}")
    if teardown not in get_args(TeardownMode):
        raise ValueError(f"teardown must be one of {', '.join(map(repr, get_args(TeardownMode)))}, not {teardown!r}")
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be a bool, not {type(resume).__name__}")
    if resume and journal is None:
        raise ValueError("resume needs the journal of the launches to resume")
    members = tuple(Member(index, spec) for index, spec in enumerate(_specs(specs)))
    if teardown_timeout is None:
        rate = client._service.rate_limit
        teardown_timeout = TEARDOWN_TIMEOUT_S + (len(members) / rate if rate is not None else 0.0)
    settings = Settings(
        timeout=None if timeout is None or math.isinf(timeout) else timeout,
        policy=policy,
        probe=probe,
        max_concurrent_creates=max_concurrent_creates,
        relaunches=relaunches,
        teardown=teardown,
        teardown_timeout=_validate.require_number("teardown_timeout", teardown_timeout, exclusive=True),
        on_status=on_status,
    )
    path = None if journal is None else check_path(journal)
    return _LaunchBlock(client, members, settings, _validate.optional_str("session_id", session_id), path, resume)


def _specs(specs: Iterable[SamplerSpec | str]) -> list[SamplerSpec]:
    # A single name is an iterable too, and a sampler would be created for each letter.
    if isinstance(specs, (str, bytes, SamplerSpec)) or not isinstance(specs, Iterable):
        raise TypeError(f"specs must be several SamplerSpecs or names of base models, such as [{specs!r}]")
    checked = []
    for spec in specs:
        if not isinstance(spec, (SamplerSpec, str)):
            raise TypeError(f"a spec must be a SamplerSpec or the name of a base model, not {type(spec).__name__}")
        checked.append(SamplerSpec(spec) if isinstance(spec, str) else spec)
    return checked


class LaunchRegistry:
    """The open launches of one client, and the creates without a response of launches that have ended."""

    def __init__(self) -> None:
        self._open: set[_LaunchBlock] = set()
        self._unanswered: set[asyncio.Task[None]] = set()

    def add(self, block: _LaunchBlock) -> None:
        """Add *block*; closing the client ends it."""
        self._open.add(block)

    def remove(self, block: _LaunchBlock, unanswered: Iterable[asyncio.Task[None]]) -> None:
        """Remove *block*, which has ended; own its tasks that still await the response to a POST."""
        self._open.discard(block)
        for task in unanswered:
            self._unanswered.add(task)
            task.add_done_callback(self._unanswered.discard)

    async def aclose(self) -> None:
        """End all launches, while samplers can still be deactivated; each block raises its own `TeardownError`."""
        teardowns = [block.start_teardown(failed=True) for block in self._open]
        if teardowns:
            await asyncio.wait(teardowns)
        if self._unanswered:
            await asyncio.wait(self._unanswered)


class _LaunchBlock:
    """The async context manager that `launch()` returns."""

    def __init__(
        self,
        client: LoopsClient,
        members: tuple[Member, ...],
        settings: Settings,
        session_id: str | None,
        path: str | None,
        resume: bool,
    ) -> None:
        self._client = client
        self._members = members
        self._settings = settings
        self._session_id = session_id
        self._path = path
        self._resume = resume
        self._is_entered = False
        self._supervisor: LaunchSupervisor
        self._teardown: Teardown
        self._fleet: Fleet
        self._teardown_task: asyncio.Task[None] | None = None
        self._end_of_report: Callable[[], None]

    async def __aenter__(self) -> Fleet:
        if self._is_entered:
            raise RuntimeError("a launch can be entered only once; call launch() again")
        self._is_entered = True
        self._client._check_open()
        backend = self._client._service
        journal = await JournalFile.open(self._path, create=True) if self._path is not None else NoJournal()
        resumption: Resumption | None = None
        try:
            if not self._resume and isinstance(journal, JournalFile):
                # It is read for the warning only: a journal that cannot be read does not stop this launch.
                with suppress(OSError, ValueError):
                    warn_of_left(journal.path, backend.scope_url, await journal.read())
            if self._resume and isinstance(journal, JournalFile):
                resumption = await plan_resumption(
                    backend, journal.path, await journal.read(), self._members, self._settings.policy
                )
                warn_of_unresolved(journal.path, resumption.unresolved)
            if self._session_id is None and self._members:
                self._session_id = await backend.new_session()
            supervisor = LaunchSupervisor(
                self._client, backend, self._members, self._settings, journal, self._session_id or ""
            )
            await supervisor.record_launch(resumption)
            self._client._check_open()
        except BaseException:
            if resumption is not None:
                # The journal may say that this launch owns them, but the launch does not begin.
                for sampler_id in resumption.kept:
                    journal.append_nowait(Kept(sampler_id, datetime.now(UTC)))
            await journal.close()
            raise
        # There is no await from here on, so that __aexit__ runs for everything that is started.
        fleet = Fleet(
            self._members, supervisor, self._session_id, resumption.unresolved if resumption is not None else ()
        )
        self._supervisor, self._teardown, self._fleet = supervisor, Teardown(supervisor), fleet
        self._client._launches.add(self)
        self._end_of_report = register_billed(self._billed)
        supervisor.start(fleet._on_done, fleet._on_change)
        return fleet

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed = exc is not None
        journal = self._supervisor.journal
        cancelled: asyncio.CancelledError | None = None
        interrupt: BaseException | None = None
        left: Exception | None = None
        for _ in range(TEARDOWN_RUNS):
            task = self.start_teardown(failed=failed)
            cancelled = await wait_through_cancellation(task) or cancelled
            # A cancellation at this point still makes this a bad end, for which the journal must be open.
            cancelled = await wait_through_cancellation(spawn_shielded(journal.flush())) or cancelled
            interrupt = task.exception()
            if interrupt is None:
                left = self._teardown.error(failed, _reported_in(exc))
                if failed or (cancelled is None and left is None) or self._settings.teardown != "on_error":
                    break
                # It was a good end until now. The samplers that were kept for that reason are deactivated, too.
                failed = True
            self._teardown_task = None
        self._end_of_report()
        journal.close_nowait()
        if isinstance(left, TeardownError):
            self._fleet._on_end(left)
            logger.error("a launch has ended, and %s", left)
            if journal.failure is not None:
                left.add_note(f"the journal is incomplete: {journal.failure}")
        left = left or journal.failure
        error = cancelled or interrupt or exc
        if left is None or error is None:
            error = error or left
        elif isinstance(error, GeneratorExit):
            # This exception is never shown, and neither would be its notes.
            raise left from error
        else:
            # The exception may be of a class whose instances cannot be changed.
            with suppress(Exception):
                error.add_note(f"{type(left).__name__}: {left}")
        if error is not None and error is not exc:
            raise error

    def start_teardown(self, *, failed: bool) -> asyncio.Task[None]:
        """Start the teardown, unless it was started; the caller must wait for the task through cancellations."""
        if self._teardown_task is None:
            self._teardown_task = spawn_shielded(self._tear_down(failed))
        return self._teardown_task

    def _billed(self) -> Billed:
        """Return what the launch still has to deactivate, for `run()` to print."""
        creates = [member._create for member in self._members if member._create is not None]
        owned = dict.fromkeys(each.sampler_id for each in creates if each.is_owned and each.sampler_id is not None)
        unanswered = sum(each.state is CreateState.SENDING for each in creates)
        return Billed(tuple(owned), unanswered, self._client._command_options)

    async def _tear_down(self, failed: bool) -> None:
        try:
            await self._teardown.run(failed)
        finally:
            self._client._launches.remove(self, self._teardown.unanswered)


def _reported_in(error: BaseException | None) -> Callable[[CreateOutcomeUnknown], bool]:
    """Return a function that returns True if *error* is an unknown create, or has it as a part or a cause."""
    held = {id(each) for each in _walk(error, set())}
    return lambda unknown: id(unknown) in held


def _walk(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for part in (*getattr(error, "exceptions", ()), error.__cause__, error.__context__):
        if isinstance(part, BaseException):
            yield from _walk(part, seen)
