"""The end of a launch: deactivate what it owns, and say what is left.

- A POST that is in flight is never cut off, since it may make a sampler: the teardown waits for its response, and for
  the search after a response that was lost. All else is cancelled at once.
- The teardown has a deadline. A POST that is not answered by then is left to the client, which deactivates what it
  makes, and waits for that when it is closed. It is reported as unknown, since the block will not see how it ends.
- Every step may be repeated: what is deactivated is left alone. So what a KeyboardInterrupt has broken off is simply
  started again: single deactivations by `run_until()`, the teardown itself by the block.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from .._aio import spawn_shielded
from ..errors import CreateOutcomeUnknown, TeardownError, TransportError
from . import journal_records
from .member import Create, CreateState, Member
from .supervisor import LaunchSupervisor

logger = logging.getLogger("loops_async")

K = TypeVar("K")

UNANSWERED: Final = (
    "its request is not answered yet; the client goes on, and deactivates what it makes before it closes"
)
"""Why a create is unknown whose POST outlasts the teardown."""

SECOND_RUN_S: Final = 10.0
"""Seconds that a further run of the teardown has at least, unless its time is shorter anyway."""

PROGRESS_LOG_AFTER_S: Final = 2.0
"""Seconds after which a teardown logs that it is going on."""

RESTARTS: Final = 3
"""Times that work is started again which a KeyboardInterrupt has broken off."""

IDS_IN_A_MESSAGE: Final = 10
"""Ids that a log message names; more are counted."""


class Teardown:
    """Take one launch down."""

    def __init__(self, supervisor: LaunchSupervisor) -> None:
        self.unanswered: list[asyncio.Task[None]] = []
        """Tasks that still await the response to a POST when the time is over; somebody must await them."""
        self._supervisor = supervisor
        self._end_at = 0.0

    async def run(self, failed: bool) -> None:
        """Deactivate what is to be deactivated. *failed* is whether the block ended by an exception.

        It must run as a task of its own that is not cancelled. It may run again after a KeyboardInterrupt has broken it
        off, or for what it has left alone.
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
            pending = [member for member, task in supervisor.tasks.items() if task not in self.unanswered]
            taken = set[Create]()
            work = {member: partial(self._take_down, member, failed, taken) for member in pending}
            late = await run_until(work, self._end_at)
            if late:
                await self._stop_waiting(late)
        finally:
            progress_log.cancel()
        self._record_kept(failed)

    def error(self, failed: bool, is_reported: Callable[[CreateOutcomeUnknown], bool]) -> TeardownError | None:
        """Return the error for what is still billed, or may be; None if there is nothing.

        Args:
            failed: Whether the block ended by an exception.
            is_reported: Whether an unknown create has reached the caller in another way.
        """
        billed: dict[str, Exception] = {}
        unknown: list[CreateOutcomeUnknown] = []
        for member in self._supervisor.members:
            create = member._create
            if create is not None and create.is_owned and not self._is_kept(member, failed):
                error = create.last_error or TransportError("no response before the time of the teardown was over")
                if create.sampler_id is not None and create.sampler_id not in billed:
                    error.add_note(f"sampler {create.sampler_id} of {create.spec.base_model} is still billed")
                    billed[create.sampler_id] = error.with_traceback(None)
            elif (
                isinstance(member.error, CreateOutcomeUnknown)
                and not member._is_acknowledged
                and not is_reported(member.error)
            ):
                unknown.append(member.error)
        return teardown_error(billed, unknown, self._supervisor.deactivated())

    async def _take_down(self, member: Member, failed: bool, taken: set[Create]) -> None:
        """Wait until the task of *member* is done, and deactivate its sampler, unless it is among those *taken*."""
        await asyncio.wait([self._supervisor.tasks[member]])
        create = member._create
        if create is None or not create.is_owned or create in taken or self._is_kept(member, failed):
            return
        taken.add(create)
        try:
            seconds = self._end_at - asyncio.get_running_loop().time()
            await self._supervisor.deactivate(create, max(0.0, seconds))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the id is reported
            create.last_error = exc
        except KeyboardInterrupt:
            taken.discard(create)
            raise

    async def _stop_waiting(self, late: Collection[Member]) -> None:
        """Leave to the client what is not answered at the deadline."""
        cancelled = []
        for member in late:
            task, create = self._supervisor.tasks[member], member._create
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
        """Write to the journal what a good end keeps on purpose."""
        if failed:
            return
        for create in self._to_be_kept(failed):
            if create.sampler_id is not None:
                self._supervisor.journal.append_nowait(journal_records.Kept(create.sampler_id, datetime.now(UTC)))
                logger.info("sampler %s is kept", create.sampler_id)

    def _to_be_kept(self, failed: bool) -> Iterable[Create]:
        kept = {
            id(member._create): member._create
            for member in self._supervisor.members
            if member._create is not None and member._create.is_owned and self._is_kept(member, failed)
        }
        return kept.values()

    def _log_progress(self, failed: bool) -> None:
        """Log what the teardown still waits for, so that it is not killed out of impatience."""
        going = [
            member.sampler_id
            for member in self._supervisor.members
            if member._create is not None and member._create.is_owned and not self._is_kept(member, failed)
        ]
        unanswered = sum(
            member._create is not None and member._create.may_have_made_unknown for member in self._supervisor.members
        )
        logger.warning(
            "still deactivating the samplers of a launch, for %.0f s at most; if the process is killed now, they stay "
            "billed: %s%s",
            self._end_at - asyncio.get_running_loop().time(),
            some_ids(dict.fromkeys(map(str, going))) or "none whose id is known",
            f", and those of {unanswered} creates without a response" if unanswered else "",
        )


async def run_until(work: Mapping[K, Callable[[], Coroutine[Any, Any, None]]], end_at: float) -> list[K]:
    """Run all *work* side by side; at *end_at*, by the event loop's clock, cancel the rest, and return its keys.

    Work that a KeyboardInterrupt has broken off is started again, so it must be repeatable. The interrupt itself is not
    raised here: it has already left the event loop through the task that it struck, and would do so once more.
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
    """Return the error for samplers that could not be deactivated, by id, and for unknown creates.

    Return None if there is neither. *deactivated* are ids of samplers that were deactivated all the same.
    """
    if not billed and not unknown:
        return None
    parts = []
    if billed:
        words = "1 sampler" if len(billed) == 1 else f"{len(billed)} samplers"
        parts.append(f"{words} could not be deactivated and {'is' if len(billed) == 1 else 'are'} still billed")
    if unknown:
        words = "1 create" if len(unknown) == 1 else f"{len(unknown)} creates"
        parts.append(f"the outcome of {words} is unknown")
    error = TeardownError(", and ".join(parts), [*billed.values(), *unknown], tuple(billed), deactivated, unknown)
    if billed:
        error.add_note("to deactivate them by hand: samplers.deactivate(id)")
    if unknown:
        error.add_note("only you can tell whether a candidate is yours; if it is: samplers.deactivate(id)")
    return error


def some_ids(ids: Collection[str]) -> str:
    """Return the first of *ids* for a message, and how many more there are."""
    named = ", ".join(list(ids)[:IDS_IN_A_MESSAGE])
    more = len(ids) - IDS_IN_A_MESSAGE
    return f"{named} and {more} more (all of them are in fleet.members)" if more > 0 else named
