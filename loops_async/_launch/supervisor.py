"""Bring up the members of a launch.

- Each member has one task, which creates its sampler, waits for it, and replaces it if it failed and may be replaced.
  The tasks belong to the launch: what cancels the block ends them through the teardown, never directly.
- Each create has one record (`Create`) with one state. A sampler is owned from the moment in which its id is known
  until it is certainly deactivated, or detached.
- A member that failed or was late holds no sampler: it is deactivated at once.
- With a journal, nothing counts before it is written: no POST without its intent on the disk, no wait before the id is.
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
from .._wait.waiter import wait_until_active
from ..errors import CreateOutcomeUnknown, LoopsError, SamplerFailed, TransportError, WaitTimeout
from ..models import Sampler, StatusChange
from . import journal_records
from .interfaces import SamplerBackend
from .journal_file import JournalFile, NoJournal
from .member import Create, CreateState, Member

if TYPE_CHECKING:
    from .._client import LoopsClient

logger = logging.getLogger("loops_async")

TeardownMode: TypeAlias = Literal["always", "on_error", "never"]


@frozen
class Settings:
    """How members are brought up and taken down; `launch()` documents each one."""

    timeout: float | None
    policy: PollPolicy
    max_concurrent_creates: int
    relaunches: int
    teardown: TeardownMode
    teardown_timeout: float
    on_status: Callable[[StatusChange], object] | None


class _StoppedError(Exception):
    """The block has ended, or the time is over, before something was sent."""


class LaunchSupervisor:
    """The members of one launch, their creates, and the tasks that look after them."""

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
        self._client = client
        self._backend = backend
        self._session_id = session_id
        self._numbers = itertools.count()
        self._by_id: dict[str, Create] = {}
        self._on_change: Callable[[], None] = _ignore
        self._on_done: Callable[[Member], None] = _ignore
        self._create_slots = asyncio.Semaphore(settings.max_concurrent_creates)
        self._deadline: float | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def record_launch(self) -> None:
        """Write to the journal that the launch begins."""
        record = journal_records.Launch(self.id, _now(), self._backend.scope_url, self._session_id, os.getpid())
        await self.journal.append(record)

    def start(self, on_done: Callable[[Member], None], on_change: Callable[[], None]) -> None:
        """Start to bring up all members.

        Args:
            on_done: Called with each member that is done.
            on_change: Called whenever a create has an outcome.
        """
        self._on_done, self._on_change = on_done, on_change
        if self.settings.timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + self.settings.timeout
            self._expiry = loop.call_at(self._deadline, self._expire)
        for member in self.members:
            task = self.tasks[member] = spawn_shielded(self._run(member))
            task.add_done_callback(partial(self._on_task_done, member))

    def stop(self) -> None:
        """Stop bringing up members. What may have made a sampler goes on until that is known."""
        self.is_ending = True
        if self._expiry is not None:
            self._expiry.cancel()
        for member, task in self.tasks.items():
            if member._create is None or not member._create.must_be_finished:
                task.cancel()

    def detach(self, member: Member) -> asyncio.Future[None]:
        """Leave the sampler of *member* to the caller; the future is done when that is in the journal.

        Raises:
            ValueError: It has none.
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

    async def deactivate(self, create: Create, seconds: float) -> None:
        """Deactivate the sampler of *create* within *seconds*.

        Raises:
            LoopsError: What the last attempt came to; it is still owned.
        """
        assert create.sampler_id is not None  # noqa: S101 -- only what is created is deactivated
        create.state = CreateState.DEACTIVATING

        def on_error(error: LoopsError) -> None:
            create.last_error = error

        try:
            await self._backend.deactivate_within(create.sampler_id, seconds, on_error=on_error)
        except BaseException:
            # Another attempt that ran at the same time may have succeeded.
            if create.state is CreateState.DEACTIVATING:
                create.state = CreateState.CREATED
            raise
        create.state = CreateState.GONE
        # The journal remembers that it could not be written; the sampler is deactivated all the same.
        with suppress(OSError):
            await self.journal.append(journal_records.Deactivated(create.sampler_id, _now()))

    def owned(self) -> list[Create]:
        """Return the creates whose samplers the launch must deactivate, in the order of their ids' arrival."""
        return [create for create in self._by_id.values() if create.is_owned]

    def deactivated(self) -> list[str]:
        """Return the ids of the samplers that the launch has deactivated, in the order of their arrival."""
        return [sampler_id for sampler_id, create in self._by_id.items() if create.state is CreateState.GONE]

    def complete(self, member: Member, outcome: Sampler | Exception) -> None:
        """Record what *member* came to, unless it is done."""
        if member.done:
            return
        if isinstance(outcome, Sampler):
            member._sampler = member._last_seen = outcome
        else:
            if isinstance(outcome, LoopsError):
                # Where in this package it came up is the same for all of them, and helps no reader.
                outcome.with_traceback(None)
            outcome.add_note(f"member {member.index} of the launch, {member.spec.base_model}")
            member._error = outcome
        self._on_done(member)
        self._on_change()

    async def _run(self, member: Member) -> None:
        try:
            self.complete(member, await self._bring_up(member))
        except asyncio.CancelledError:
            self._complete_cut_off(member)
            if not self.is_ending:
                # A callback has cancelled its own wait.
                await self._deactivate_failed(member)
            raise
        except _StoppedError as exc:
            self._complete_cut_off(member, exc.__cause__)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is this member's error
            self.complete(member, exc)
            await self._deactivate_failed(member)

    def _complete_cut_off(self, member: Member, cause: BaseException | None = None) -> None:
        """Say why *member* was stopped before it was up."""
        create = member._create
        if create is not None and create.unknown is not None:
            reason = TransportError("the time of the teardown was over before its candidates were looked for")
            self.complete(member, create.unknown.error(look_error=reason))
            return
        error: Exception
        if not self.is_ending and self._is_out_of_time():
            # Only what was not sent yet is stopped by the launch's own deadline.
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
        self.complete(member, RuntimeError(f"{words} before this member was up{detached}"))

    def _on_task_done(self, member: Member, task: asyncio.Task[None]) -> None:
        """Complete a member whose task ended without doing so, such as one that was cancelled before it began."""
        error = None if task.cancelled() else task.exception()
        if not member.done:
            member._was_cut_off = error is None
            words = "the block of the launch ended before this member was up"
            if error is not None:
                words = f"bringing it up broke off: {error!r}"
            if member._create is not None and member._create.may_have_made_unknown:
                self.complete(member, CreateOutcomeUnknown(member.spec, (), TransportError(words)))
            else:
                self.complete(member, RuntimeError(words))

    async def _bring_up(self, member: Member) -> Sampler:
        """Bring *member* up; return its sampler, or raise what it came to."""
        relaunches = self.settings.relaunches
        while True:
            create, made = await self._create(member)
            try:
                return await self._wait(member, made)
            except SamplerFailed as failed:
                if not relaunches or create.state is CreateState.DETACHED or self._is_out_of_time():
                    raise
                await self._make_room(member, create, failed)
            relaunches -= 1

    async def _create(self, member: Member) -> tuple[Create, Sampler | str]:
        """Create a sampler for *member*; return its record, and the sampler or, if that cannot be read, its id."""
        create = member._create = Create(member.spec, next(self._numbers))
        async with self._create_slots:
            if self.is_ending or self._is_out_of_time():
                raise _StoppedError
            try:
                outcome = await self._backend.create(self._session_id, create.spec, _Observer(self, create))
            except LoopsError as exc:
                if self.is_ending or self._is_out_of_time():
                    raise _StoppedError from exc
                raise
        if outcome.unknown is not None:
            create.state, create.unknown = CreateState.UNKNOWN, outcome.unknown
            self._on_change()
            raise await self._backend.resolve(outcome.unknown)
        assert outcome.sampler_id is not None  # noqa: S101 -- it is no unknown create
        create = self._own(member, create, outcome.sampler_id)
        if outcome.sampler is not None:
            member._last_seen = outcome.sampler
        self._on_change()
        await self.journal.append(journal_records.Created(self.id, create.number, _now(), outcome.sampler_id))
        if self.is_ending:
            raise _StoppedError
        return create, outcome.sampler or outcome.sampler_id

    def _own(self, member: Member, create: Create, sampler_id: str) -> Create:
        """Own the sampler that *create* made, if it is not known yet; return its record."""
        known = self._by_id.get(sampler_id)
        if known is not None:
            # Creates for one and the same run may be answered with one and the same sampler.
            member._create = known
            if known.state is CreateState.GONE:
                known.state = CreateState.CREATED
            return known
        create.state, create.sampler_id = CreateState.CREATED, sampler_id
        self._by_id[sampler_id] = create
        return create

    async def _wait(self, member: Member, made: Sampler | str) -> Sampler:
        settings = self.settings

        def on_status(change: StatusChange) -> object:
            member._last_seen = change.sampler
            self._backend.mark_described(change.sampler.id)
            # The wait refuses a result that would have to be awaited.
            return settings.on_status(change) if settings.on_status is not None else None

        return await wait_until_active(
            self._client, made, timeout=self._remaining(), policy=settings.policy, on_status=on_status
        )

    async def _make_room(self, member: Member, create: Create, failed: SamplerFailed) -> None:
        """Deactivate the sampler that *failed*: there are never two bills for one member."""
        try:
            await self.deactivate(create, self.settings.teardown_timeout)
        except asyncio.CancelledError:
            self.complete(member, failed)
            raise
        except LoopsError as exc:
            failed.add_note(f"it was not replaced, since it could not be deactivated: {exc}")
            raise failed from None
        member._failures = (*member._failures, failed)
        logger.info("sampler %s failed and is replaced", create.sampler_id)

    async def _deactivate_failed(self, member: Member) -> None:
        """Deactivate the sampler of a member that failed, unless another one uses it, too."""
        create = member._create
        if create is None or create.state is not CreateState.CREATED or self.settings.teardown == "never":
            return
        if any(other._create is create and other.error is None for other in self.members):
            return
        # What fails now is still owned, and tried again by the teardown.
        with suppress(LoopsError):
            await self.deactivate(create, self.settings.teardown_timeout)

    def _expire(self) -> None:
        """Give up the members whose time is over before anything was sent for them: it would be nothing but a bill."""
        for member, task in self.tasks.items():
            if not member.done and (member._create is None or member._create.state is CreateState.QUEUED):
                task.cancel()

    def _is_out_of_time(self) -> bool:
        return self._remaining() == 0

    def _remaining(self) -> float | None:
        """Return the seconds that members have left to come up, None for no end."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())


class _Observer:
    """Keeps the record and the journal of one create up to date."""

    def __init__(self, supervisor: LaunchSupervisor, create: Create) -> None:
        self._supervisor = supervisor
        self._create = create

    async def before_send(self) -> None:
        """Write to the journal that the POST is about to be sent."""
        create, supervisor = self._create, self._supervisor
        try:
            intent = journal_records.Intent.of(supervisor.id, create.number, _now(), create.spec)
            await supervisor.journal.append(intent)
        except BaseException:
            # The intent may already be on the disk although the POST was never sent: record that.
            self._record_rejected()
            raise
        create.state = CreateState.SENDING

    def on_rejected(self) -> None:
        """Record that the POST has made nothing."""
        self._create.state = CreateState.QUEUED
        self._record_rejected()

    def may_send_again(self) -> bool:
        """Return False once the launch is over."""
        return not (self._supervisor.is_ending or self._supervisor._is_out_of_time())

    def _record_rejected(self) -> None:
        record = journal_records.Rejected(self._supervisor.id, self._create.number, _now())
        self._supervisor.journal.append_nowait(record)


def _ignore(*_: object) -> None:
    """Stand in for a callback until the launch starts."""


def _now() -> datetime:
    return datetime.now(UTC)
