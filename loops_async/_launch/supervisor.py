"""Bring up the members of a launch.

- Each member has one task, which creates its sampler or resumes one, waits for it, and replaces it if it failed and may
  be replaced. The tasks belong to the launch: a cancellation of the block ends them through the teardown, not directly.
- Each create has one record (`Create`) with one state. A sampler is owned from the moment in which its id is known
  until it is certainly deactivated, or detached.
- A member that failed or was late holds no sampler: its sampler is deactivated at once.
- With a journal, each step waits for a record on the disk: the POST for the intent, and the wait for the sampler's id.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from .._aio import spawn_shielded
from .._wait.policy import PollPolicy
from .._wait.probing import Probe
from .._wait.waiter import wait_until_active
from ..errors import (
    CreateOutcomeUnknown,
    LoopsError,
    NotFoundError,
    SamplerFailed,
    TransportError,
    WaitTimeout,
)
from ..models import Sampler, SamplerSpec, StatusChange
from . import journal_records
from .each import Works
from .interfaces import SamplerBackend
from .journal_file import JournalFile, NoJournal
from .member import Create, CreateState, Member
from .resuming import Resumption

if TYPE_CHECKING:
    from .._client import LoopsClient

logger = logging.getLogger("loops_async")

TeardownMode: TypeAlias = Literal["always", "on_error", "never"]


@frozen
class Settings:
    """The arguments of `launch()` that the supervisor and the teardown need; `launch()` documents each one."""

    timeout: float | None
    policy: PollPolicy
    probe: Probe | bool | None
    max_concurrent_creates: int
    relaunches: int
    teardown: TeardownMode
    teardown_timeout: float
    on_status: Callable[[StatusChange], object] | None


class _StoppedError(Exception):
    """The block has ended, or the time of the launch is over, before a create was sent."""


class LaunchSupervisor:
    """The members of one launch, their creates, and their tasks."""

    def __init__(
        self,
        client: LoopsClient,
        backend: SamplerBackend,
        members: Sequence[Member],
        settings: Settings,
        journal: JournalFile | NoJournal,
        session_id: str,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.members = members
        self.settings = settings
        self.journal = journal
        self.is_ending = False
        self.tasks: dict[Member, asyncio.Task[None]] = {}
        """The task of each member."""
        self.unwanted: dict[Create, asyncio.Task[None] | None] = {}
        """Samplers of earlier launches that no member wants, and the tasks that deactivate them."""
        self.works = Works(len(members), self._end_work, settings.teardown_timeout)
        self._client = client
        self._backend = backend
        self._session_id = session_id
        self._numbers = itertools.count()
        self._by_id: dict[str, Create] = {}
        self._resumed: dict[Member, Sampler | str] = {}
        self._on_change: Callable[[], None] = _ignore
        self._on_done: Callable[[Member], None] = _ignore
        self._create_slots = asyncio.Semaphore(settings.max_concurrent_creates)
        self._deadline: float | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def record_launch(self, resumption: Resumption | None) -> None:
        """Write to the journal that the launch begins, and which samplers of earlier launches it owns now."""
        record = journal_records.Launch(self.id, _now(), self._backend.scope_url, self._session_id, os.getpid())
        written = self.journal.append_nowait(record)
        if resumption is not None:
            for member, sampler in resumption.samplers.items():
                sampler_id = sampler if isinstance(sampler, str) else sampler.id
                create = Create(member.spec, None, CreateState.CREATED, sampler_id, members=[member])
                member._create = self._by_id[sampler_id] = create
                if isinstance(sampler, Sampler):
                    member._last_seen = sampler
                self._resumed[member] = sampler
                written = self.journal.append_nowait(journal_records.Resumed(self.id, _now(), sampler_id))
            for sampler_id, spec in resumption.unwanted.items():
                create = self._by_id[sampler_id] = Create(spec, None, CreateState.CREATED, sampler_id)
                self.unwanted[create] = None
        # The records are written in this order, so the last one is enough; the journal keeps a failure of any.
        await asyncio.shield(written)
        if self.journal.failure is not None:
            raise OSError(*self.journal.failure.args)

    def start(self, on_done: Callable[[Member], None], on_change: Callable[[], None]) -> None:
        """Start to bring up all members, and to deactivate the samplers that no member resumes.

        Args:
            on_done: Called with each member that is done.
            on_change: Called when a member is done or a create has an outcome.
        """
        self._on_done, self._on_change = on_done, on_change
        if self.settings.timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + self.settings.timeout
            self._expiry = loop.call_at(self._deadline, self._expire)
        for member in self.members:
            task = self.tasks[member] = spawn_shielded(self._run(member))
            task.add_done_callback(partial(self._on_task_done, member))
        for create in self.unwanted:
            self.unwanted[create] = spawn_shielded(self._deactivate_if_unused(create))

    def stop(self) -> None:
        """Stop bringing up members, and cancel their works. A POST in flight goes on until its outcome is known."""
        self.is_ending = True
        self.works.end()
        if self._expiry is not None:
            self._expiry.cancel()
        for member, task in self.tasks.items():
            if member._create is None or not member._create.must_be_finished:
                task.cancel()

    def detach(self, member: Member) -> asyncio.Future[None]:
        """Leave the sampler of *member* to the caller; the future is done when the journal has the record.

        Raises:
            ValueError: The member has no sampler.
            RuntimeError: The block has ended.
        """
        if self.is_ending:
            raise RuntimeError("the block of the launch has ended: nothing can be detached any more")
        create = member._create
        if create is not None and create.state is CreateState.DETACHED:
            return self.journal.written()
        if create is None or create.sampler_id is None or create.state is not CreateState.CREATED:
            when = "any more" if member.done else "at the moment"
            raise ValueError(f"member {member.index} has no sampler to detach {when}")
        create.state = CreateState.DETACHED
        return self.journal.append_nowait(journal_records.Detached(create.sampler_id, _now()))

    def acknowledge(self, member: Member, *, keep_in_journal: bool) -> None:
        """Record that the caller looks after what the unknown create of *member* may have made."""
        member._is_acknowledged = True
        create = member._create
        # The journal may be closed once the block has ended.
        if keep_in_journal or self.is_ending or create is None or create.number is None:
            return
        if create.state is CreateState.UNKNOWN and not create.is_acknowledged:
            create.is_acknowledged = True
            self.journal.append_nowait(journal_records.Acknowledged(self.id, create.number, _now()))

    async def deactivate(self, create: Create, seconds: float) -> None:
        """Deactivate the sampler of *create* within *seconds*, unless it is deactivated or detached.

        Raises:
            Exception: The error of the last attempt; the sampler is still owned.
        """
        sampler_id = create.sampler_id
        assert sampler_id is not None  # noqa: S101 -- only what is created is deactivated

        def on_error(error: LoopsError) -> None:
            create.last_error = error

        async with create.deactivation:
            if not create.is_owned:
                return
            create.state = CreateState.DEACTIVATING
            try:
                await self._backend.deactivate_within(sampler_id, seconds, on_error=on_error)
            except BaseException as exc:
                create.state = CreateState.CREATED
                if isinstance(exc, Exception):
                    create.last_error = exc
                raise
            create.state = CreateState.GONE
        # The journal keeps the failure to write the record; the sampler is deactivated even so.
        with suppress(OSError):
            await self.journal.append(journal_records.Deactivated(sampler_id, _now()))

    def deactivated(self) -> tuple[str, ...]:
        """Return the ids of all samplers that were deactivated so far."""
        return tuple(each for each, create in self._by_id.items() if create.state is CreateState.GONE)

    def complete(self, member: Member, outcome: Sampler | Exception) -> None:
        """Record that *member* has come up or failed, unless it is done."""
        if member.done:
            return
        if isinstance(outcome, Sampler):
            member._sampler = member._last_seen = outcome
        else:
            if isinstance(outcome, LoopsError):
                # The traceback through this package is the same for all of them, and helps no reader.
                outcome.with_traceback(None)
            _add_note(outcome, f"member {member.index} of the launch, {member.spec.base_model}")
            member._error = outcome
        self._on_done(member)
        self._on_change()
        self.works.on_done(member)

    async def _run(self, member: Member) -> None:
        try:
            self.complete(member, await self._bring_up(member))
        except asyncio.CancelledError:
            self._complete_cut_off(member)
            if not self.is_ending:
                # The task was not cancelled by the launch: a callback has cancelled its own wait.
                await self._deactivate_failed(member)
            raise
        except _StoppedError as exc:
            self._complete_cut_off(member, exc.__cause__)
        except Exception as exc:  # noqa: BLE001 -- any exception is this member's error
            self.complete(member, exc)
            await self._deactivate_failed(member)

    def _complete_cut_off(self, member: Member, cause: BaseException | None = None) -> None:
        """Record why *member* was stopped before it had come up."""
        create = member._create
        if create is not None and create.unknown is not None:
            reason = TransportError("the time of the teardown was over before the search for candidates had ended")
            self.complete(member, create.unknown.error(look_error=reason))
            return
        error: Exception
        if not self.is_ending and self._is_out_of_time():
            # The deadline of the launch stops only members for which no POST is in flight.
            failed = member.failures[-1] if member.failures else None
            last_error = failed or (cause if isinstance(cause, Exception) else None)
            error = WaitTimeout(None, (), None, self.settings.timeout, last_error)
            error.__cause__ = last_error
            self.complete(member, error)
            return
        member._was_cut_off = self.is_ending
        words = "the block of the launch ended" if self.is_ending else "the wait was cancelled"
        detached = ""
        if create is not None and create.state is CreateState.DETACHED:
            detached = f"; its sampler {create.sampler_id} was detached, and is still coming up"
        self.complete(member, RuntimeError(f"{words} before this member had come up{detached}"))

    def _on_task_done(self, member: Member, task: asyncio.Task[None]) -> None:
        """Complete a member whose task did not do so, such as a task that was cancelled before its first step."""
        error = None if task.cancelled() else task.exception()
        if not member.done:
            member._was_cut_off = error is None
            words = "the block of the launch ended before this member had come up"
            if error is not None:
                words = f"bringing it up broke off: {error!r}"
            if member._create is not None and member._create.may_have_made_unknown:
                self.complete(member, CreateOutcomeUnknown(member.spec, (), TransportError(words)))
            else:
                self.complete(member, RuntimeError(words))

    async def _bring_up(self, member: Member) -> Sampler:
        """Bring *member* up; return its sampler, or raise the error."""
        relaunches = self.settings.relaunches
        while True:
            made = self._resumed.pop(member, None)
            is_resumed = made is not None
            if made is None:
                made = await self._create(member)
            create = member._create
            assert create is not None  # noqa: S101 -- there is a sampler
            try:
                return await self._wait(member, made)
            except (SamplerFailed, NotFoundError) as exc:
                if isinstance(exc, SamplerFailed):
                    exc.relaunches = self.settings.relaunches - relaunches
                # If a resumed sampler fails, or the service does not know it any more, the member gets its own first
                # sampler, which is no relaunch.
                may_replace = is_resumed or (relaunches > 0 and isinstance(exc, SamplerFailed))
                if not may_replace or create.state is CreateState.DETACHED:
                    raise
                if self._is_out_of_time():
                    exc.add_note("it was not replaced, since the time of the launch is over")
                    raise
                await self._make_room(member, create, exc)
            except WaitTimeout as exc:
                if member.failures:
                    exc.add_note(f"it had replaced a sampler that failed: {member.failures[-1]}")
                    exc.__cause__ = member.failures[-1]
                raise
            if not is_resumed:
                relaunches -= 1

    async def _create(self, member: Member) -> Sampler | str:
        """Create a sampler for *member*; return it or, if its description cannot be read, its id."""
        number = next(self._numbers)
        create = member._create = Create(member.spec, number, members=[member])
        async with self._create_slots:
            if self.is_ending or self._is_out_of_time():
                raise _StoppedError
            try:
                outcome = await self._backend.create(
                    self._session_id, member.spec, _Observer(self, create, number, member.spec)
                )
            except LoopsError as exc:
                if self.is_ending or self._is_out_of_time():
                    raise _StoppedError from exc
                raise
        if outcome.unknown is not None:
            create.state, create.unknown = CreateState.UNKNOWN, outcome.unknown
            self._on_change()
            raise await self._backend.resolve(outcome.unknown)
        assert outcome.sampler_id is not None  # noqa: S101 -- it is no unknown create
        self._own(member, create, outcome.sampler_id)
        if outcome.sampler is not None:
            member._last_seen = outcome.sampler
        self._on_change()
        await self.journal.append(journal_records.Created(self.id, number, _now(), outcome.sampler_id))
        if self.is_ending:
            raise _StoppedError
        return outcome.sampler or outcome.sampler_id

    def _own(self, member: Member, create: Create, sampler_id: str) -> None:
        """Own the sampler that *create* made, or share it with the create that has returned it before."""
        known = self._by_id.get(sampler_id)
        if known is None:
            create.state, create.sampler_id = CreateState.CREATED, sampler_id
            self._by_id[sampler_id] = create
            return
        # The service may answer creates for the same run with the same sampler.
        member._create = known
        known.members.append(member)
        if known.state is CreateState.GONE:
            known.state = CreateState.CREATED

    async def _wait(self, member: Member, made: Sampler | str) -> Sampler:
        settings = self.settings

        def on_status(change: StatusChange) -> object:
            member._last_seen = change.sampler
            # The wait refuses a result that would have to be awaited.
            return settings.on_status(change) if settings.on_status is not None else None

        remaining = self._remaining()
        try:
            return await wait_until_active(
                self._client,
                made,
                timeout=remaining,
                policy=settings.policy,
                on_status=on_status,
                probe=settings.probe,
            )
        except WaitTimeout as exc:
            # The user knows the time that the launch was given, and not what was left of it when the wait began. If it
            # is another time, this is the error of a wait in the caller's own callback or probe.
            if exc.timeout == remaining:
                exc.timeout = settings.timeout
            raise

    async def _make_room(self, member: Member, create: Create, failed: SamplerFailed | NotFoundError) -> None:
        """Deactivate the sampler whose wait ended with *failed*: two samplers of one member must never be billed."""
        try:
            await self.deactivate(create, self.settings.teardown_timeout)
        except asyncio.CancelledError:
            self.complete(member, failed)
            raise
        except Exception as exc:  # noqa: BLE001 -- after any error the sampler is still owned, and may be billed
            failed.add_note(f"it was not replaced, since it could not be deactivated: {exc}")
            raise failed from None
        if isinstance(failed, SamplerFailed):
            member._failures = (*member._failures, failed)
        logger.info("sampler %s failed and is replaced", create.sampler_id)

    async def _deactivate_failed(self, member: Member) -> None:
        """Deactivate the sampler of a member that failed, unless another member uses it, too."""
        if member._create is not None and self.settings.teardown != "never":
            await self._deactivate_if_unused(member._create)

    async def _end_work(self, member: Member) -> None:
        """Deactivate the sampler of a member whose work has ended, unless another member uses it, too."""
        member._has_worked = True
        if member._create is not None:
            await self._deactivate_if_unused(member._create)

    async def _deactivate_if_unused(self, create: Create) -> None:
        is_used = any(
            member._create is create and member._error is None and not member._has_worked for member in create.members
        )
        if create.state is CreateState.CREATED and not is_used:
            # If this fails, the sampler is still owned, and the teardown deactivates it.
            with suppress(Exception):
                await self.deactivate(create, self.settings.teardown_timeout)

    def _expire(self) -> None:
        """Cancel the members whose create was not sent in time: their samplers would be billed, and come too late."""
        for member, task in self.tasks.items():
            if not member.done and (member._create is None or member._create.state is CreateState.QUEUED):
                task.cancel()

    def _is_out_of_time(self) -> bool:
        return self._remaining() == 0

    def _remaining(self) -> float | None:
        """Return the seconds that members have left to come up; None for no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())


class _Observer:
    """Keeps the record and the journal of one create up to date."""

    def __init__(self, supervisor: LaunchSupervisor, create: Create, number: int, spec: SamplerSpec) -> None:
        self._supervisor = supervisor
        self._create = create
        self._number = number
        self._spec = spec

    async def before_send(self) -> None:
        """Write to the journal that the POST is about to be sent."""
        create, supervisor = self._create, self._supervisor
        try:
            intent = journal_records.Intent.of(supervisor.id, self._number, _now(), self._spec)
            await supervisor.journal.append(intent)
        except BaseException:
            # The intent may already be on the disk although the POST was never sent: record that.
            self._record_rejected()
            raise
        create.state = CreateState.SENDING

    def on_rejected(self) -> None:
        """Record that the POST certainly made no sampler."""
        self._create.state = CreateState.QUEUED
        self._record_rejected()

    def may_send_again(self) -> bool:
        """Return False once the launch is over."""
        return not (self._supervisor.is_ending or self._supervisor._is_out_of_time())

    def _record_rejected(self) -> None:
        record = journal_records.Rejected(self._supervisor.id, self._number, _now())
        self._supervisor.journal.append_nowait(record)


def _ignore(*_: object) -> None:
    """Do nothing: the callback before the launch starts."""


def _add_note(error: Exception, note: str) -> None:
    # The class of a caller's exception may not allow its instances to be changed.
    with suppress(Exception):
        error.add_note(note)


def _now() -> datetime:
    return datetime.now(UTC)
