"""The end of a launch: deactivate what it owns, and report what is still billed.

- A POST that is in flight is never cancelled, since it may make a sampler: the teardown waits for its response, and for
  the search after a response that was lost. Everything else is cancelled at once.
- Works are cancelled, and the sampler of each is deactivated once it has ended.
- The teardown has a deadline. A POST without a response by then is left to the client, which deactivates its sampler,
  and waits for that when it is closed. It is reported as unknown, since the block will not see its outcome.
- Every step may be repeated: a sampler that is deactivated is left alone. So a step that a KeyboardInterrupt has
  interrupted starts again: a single deactivation in `run_until()`, the whole teardown in the block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from .._aio import spawn_shielded
from .._text import counted, some_ids
from ..errors import CreateOutcomeUnknown, TeardownError, TransportError
from . import journal_records
from .member import Create, CreateState, Member
from .supervisor import LaunchSupervisor

logger = logging.getLogger("loops_async")

K = TypeVar("K")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

UNANSWERED: Final = (
    "its request is not answered yet; the client goes on, and deactivates what it makes before it closes"
)
"""Reason for an unknown create whose POST has no response when the teardown ends."""

SECOND_RUN_S: Final = 10.0
"""Least seconds for a further run of the teardown, unless its timeout is shorter."""

PROGRESS_LOG_AFTER_S: Final = 2.0
"""Seconds after which a teardown logs that it is still under way."""

RESTARTS: Final = 3
"""How often a deactivation starts again after a KeyboardInterrupt has interrupted it."""


class Teardown:
    """The teardown of one launch."""

    def __init__(self, supervisor: LaunchSupervisor) -> None:
        self.unanswered: list[asyncio.Task[None]] = []
        """Tasks that still await the response to a POST after the deadline; the client must await them."""
        self._supervisor = supervisor
        self._end_at = 0.0

    async def run(self, failed: bool) -> None:
        """Deactivate the samplers that are not kept. *failed* is whether the block ended by an exception.

        It must run as a task of its own that is not cancelled. It may run again: after a KeyboardInterrupt has
        interrupted it, or with *failed* for the samplers that it has kept.
        """
        loop = asyncio.get_running_loop()
        supervisor = self._supervisor
        timeout = supervisor.settings.teardown_timeout
        if not supervisor.is_ending:
            self._end_at = loop.time() + timeout
        self._end_at = max(self._end_at, loop.time() + min(timeout, SECOND_RUN_S))
        supervisor.stop()
        progress_log = loop.call_later(PROGRESS_LOG_AFTER_S, self._log_progress, failed)
        try:
            taken = set[Create]()
            work: dict[Member | Create, Work] = {
                member: partial(self._take_down, member, failed, taken)
                for member, task in supervisor.tasks.items()
                if task not in self.unanswered
            }
            work.update((create, partial(self._take_down_unwanted, create)) for create in supervisor.unwanted)
            late = await run_until(work, self._end_at)
            if late:
                await self._stop_waiting(late)
        finally:
            progress_log.cancel()
        self._record_kept(failed)

    def error(self, failed: bool, is_reported: Callable[[CreateOutcomeUnknown], bool]) -> TeardownError | None:
        """Return the error for the samplers that are still billed and the unknown creates; None if there are none.

        Args:
            failed: Whether the block ended by an exception.
            is_reported: Whether an unknown create has reached the caller in another way.
        """
        billed: dict[str, Exception] = {}
        for create in self._still_owned(failed):
            error = create.last_error or TransportError("no response before the time of the teardown was over")
            model = f" of {create.spec.base_model}" if create.spec is not None else ""
            note = f"sampler {create.sampler_id}{model} is still billed"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            billed[str(create.sampler_id)] = error.with_traceback(None)
        unknown = [
            member.error
            for member in self._supervisor.members
            if isinstance(member.error, CreateOutcomeUnknown)
            and not member._is_acknowledged
            and not is_reported(member.error)
        ]
        return teardown_error(billed, unknown, self._supervisor.deactivated())

    def _still_owned(self, failed: bool) -> list[Create]:
        """Return the samplers that are owned and not kept: those of members in their order, then unwanted ones."""
        supervisor = self._supervisor
        creates = [member._create for member in supervisor.members if not self._is_kept(member, failed)]
        owned = {create: None for create in (*creates, *supervisor.unwanted) if create is not None and create.is_owned}
        return list(owned)

    async def _take_down(self, member: Member, failed: bool, taken: set[Create]) -> None:
        """Wait until the tasks of *member* are done, and deactivate its sampler, unless it is among those *taken*."""
        await asyncio.wait(self._tasks_of(member))
        create = member._create
        if create is None or not create.is_owned or create in taken or self._is_kept(member, failed):
            return
        taken.add(create)
        try:
            await self._deactivate(create)
        except KeyboardInterrupt:
            taken.discard(create)
            raise

    async def _take_down_unwanted(self, create: Create) -> None:
        """Wait until the task that deactivates *create* is done, and try again if it failed."""
        task = self._supervisor.unwanted[create]
        if task is not None:
            await asyncio.wait([task])
        if create.is_owned and not create.members:
            await self._deactivate(create)

    async def _deactivate(self, create: Create) -> None:
        seconds = self._end_at - asyncio.get_running_loop().time()
        # The error stays with the create, and is reported.
        with suppress(Exception):
            await self._supervisor.deactivate(create, max(0.0, seconds))

    def _tasks_of(self, member: Member) -> list[asyncio.Task[None]]:
        work = self._supervisor.works.task_of(member)
        return [self._supervisor.tasks[member]] if work is None else [self._supervisor.tasks[member], work]

    async def _stop_waiting(self, late: Collection[Member | Create]) -> None:
        """Leave each POST that has no response at the deadline to the client, and cancel everything else."""
        cancelled: list[asyncio.Task[None]] = []
        for each in late:
            if isinstance(each, Create):
                task = self._supervisor.unwanted[each]
                cancelled += [task] if task is not None and task.cancel() else []
        for member in (each for each in late if isinstance(each, Member)):
            *tasks, task = reversed(self._tasks_of(member))
            cancelled += [work for work in tasks if work.cancel()]
            create = member._create
            if task.done():
                continue
            task.cancel()
            if create is not None and create.state is CreateState.SENDING:
                self.unanswered.append(task)
                self._supervisor.complete(member, CreateOutcomeUnknown(member.spec, (), TransportError(UNANSWERED)))
            else:
                cancelled.append(task)
        if cancelled:
            await asyncio.wait(cancelled)

    def _is_kept(self, member: Member, failed: bool) -> bool:
        mode = self._supervisor.settings.teardown
        if mode == "on_error":
            return not failed and (member._error is None or member._was_cut_off)
        return mode == "never"

    def _record_kept(self, failed: bool) -> None:
        """Write to the journal which samplers a good end keeps on purpose."""
        if failed:
            return
        creates = [member._create for member in self._supervisor.members if self._is_kept(member, failed)]
        for create in {create: None for create in creates if create is not None and create.is_owned}:
            assert create.sampler_id is not None  # noqa: S101 -- it is owned
            self._supervisor.journal.append_nowait(journal_records.Kept(create.sampler_id, datetime.now(UTC)))
            logger.info("sampler %s is kept", create.sampler_id)

    def _log_progress(self, failed: bool) -> None:
        """Log which samplers are still billed, since a user who sees nothing may kill the process."""
        ids = [str(create.sampler_id) for create in self._still_owned(failed)]
        unanswered = sum(
            member._create is not None and member._create.may_have_made_unknown for member in self._supervisor.members
        )
        logger.warning(
            "still deactivating the samplers of a launch, for %.0f s at most; if the process is killed now, they stay "
            "billed: %s%s",
            self._end_at - asyncio.get_running_loop().time(),
            some_ids(ids, "fleet.members") or "none whose id is known",
            f", and what {counted(unanswered, 'create')} without a response made" if unanswered else "",
        )


async def run_until(work: Mapping[K, Work], end_at: float) -> list[K]:
    """Run all *work* side by side; at *end_at*, by the event loop's clock, cancel the rest, and return its keys.

    Work that a KeyboardInterrupt has interrupted is started again, so it must be repeatable. The interrupt is not
    raised here: the event loop has already raised it, and would raise it a second time.
    """
    pending = dict(work)
    for _ in range(RESTARTS + 1):
        tasks = {spawn_shielded(start()): key for key, start in pending.items()}
        if not tasks:
            break
        done, late = await asyncio.wait(tasks, timeout=max(0.0, end_at - asyncio.get_running_loop().time()))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
            return [tasks[task] for task in late]
        pending = {tasks[task]: work[tasks[task]] for task in done if task.cancelled() or task.exception() is not None}
    return []


def teardown_error(
    billed: Mapping[str, Exception], unknown: Sequence[CreateOutcomeUnknown], deactivated: Sequence[str] = ()
) -> TeardownError | None:
    """Return the error for samplers that could not be deactivated, by their ids, and for unknown creates.

    Return None if there are none of either. *deactivated* are ids of samplers that were deactivated.
    """
    if not billed and not unknown:
        return None
    parts = []
    if billed:
        words = counted(len(billed), "sampler")
        parts.append(f"{words} could not be deactivated and {'is' if len(billed) == 1 else 'are'} still billed")
    if unknown:
        parts.append(f"the outcome of {counted(len(unknown), 'create')} is unknown")
    error = TeardownError(", and ".join(parts), [*billed.values(), *unknown], tuple(billed), deactivated, unknown)
    if billed:
        error.add_note("to deactivate them by hand: samplers.deactivate(id)")
    if unknown:
        error.add_note("only you can tell whether a candidate is yours; if it is: samplers.deactivate(id)")
    return error
