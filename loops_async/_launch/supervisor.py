"""Bring up the members of a launch.

Rules:

- Each member has one task, which creates its sampler, waits for it, and replaces it if it failed and may be replaced.
  The tasks belong to the launch: whatever cancels the block reaches its end, never the tasks themselves.
- Each sampler that a create made is a holding, from the moment in which its id is known until it is certainly released
  or handed over.
- Lost creates are settled together, when no create of the launch is left to be answered: only then can the account's
  new samplers be told from each other.
- With a journal, nothing that it has to tell counts before it is written: no POST without its intent on the disk, no
  wait before the id is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TypeAlias

from attrs import frozen

from .._aio import spawn_shielded
from .._wait.policy import PollPolicy
from .._wait.waiter import wait_until_active
from ..errors import (
    CreateOutcomeUnknown,
    DecodeError,
    LoopsError,
    SamplerFailed,
    TransportError,
    WaitTimeout,
)
from ..models import Sampler, StatusChange
from . import journal_records
from .creation import Creation
from .interfaces import SupportsLaunches
from .journal_file import JournalFile, NoJournal
from .member import Member
from .owned import Holding, Holdings

logger = logging.getLogger("loops_async")

Teardown: TypeAlias = Literal["always", "on_error", "never"]


@frozen
class Settings:
    """How members are brought up and taken down; `launch()` tells what each one means."""

    timeout: float | None
    policy: PollPolicy
    max_concurrent_creates: int
    relaunches: int
    teardown: Teardown
    teardown_timeout: float
    adopt_unknown: bool
    on_status: Callable[[StatusChange], object] | None


class LaunchSupervisor:
    """The members of one launch, the samplers that they hold, and the tasks that look after them."""

    def __init__(
        self,
        client: SupportsLaunches,
        members: Sequence[Member],
        settings: Settings,
        journal: JournalFile | NoJournal,
        session_id: str,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.settings = settings
        self.journal = journal
        self._numbers = itertools.count()
        self.is_ending = False
        self._client = client
        self._launches = client._launches
        self.members = members
        self._session_id = session_id
        self._report: Callable[[Member], None] = _nobody
        self.holdings = Holdings(client._launches, journal)
        self.tasks: dict[Member, asyncio.Task[None]] = {}
        self.creations: dict[Member, Creation] = {}
        self._unanswered = set[Member]()
        self.lost: list[Creation] = []
        self.settling: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(settings.max_concurrent_creates)
        self._deadline: float | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def announce(self) -> None:
        """Write down that the launch begins."""
        home = self._launches.home
        await self.journal.append(journal_records.Launch(self.id, _now(), home, self._session_id, os.getpid()))

    def start(self, report: Callable[[Member], None]) -> None:
        """Start to bring up all members; *report* is called with each one that has settled."""
        self._report = report
        if self.settings.timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + self.settings.timeout
            self._expiry = loop.call_at(self._deadline, self._expire)
        self._unanswered.update(self.members)
        for member in self.members:
            task = self.tasks[member] = spawn_shielded(self._bring_up(member))
            task.add_done_callback(partial(self._over, member))

    def stop(self) -> None:
        """Bring nobody up any more. What may have made a sampler already goes on until that is known."""
        self.is_ending = True
        if self._expiry is not None:
            self._expiry.cancel()
        for member, task in self.tasks.items():
            create = self.creations.get(member)
            if create is None or not create.is_out:
                task.cancel()

    def hand_over(self, member: Member) -> asyncio.Future[None]:
        """Leave the sampler of *member* to the caller from now on; the future tells when that is in the journal.

        Raises:
            ValueError: It has none.
            RuntimeError: The block has ended.
        """
        if self.is_ending:
            raise RuntimeError("the block of the launch has ended, and with it the time to release members")
        sampler_id = member._sampler_id
        if self.holdings.was_handed_over(sampler_id):
            return self.journal.written()
        holding = self.holdings.get(sampler_id)
        if holding is None or holding.is_going:
            when = "any more" if member.settled else "at the moment"
            raise ValueError(f"member {member.index} has no sampler to release {when}")
        return self.holdings.hand_over(holding)

    # On the way up

    async def _bring_up(self, member: Member) -> None:
        try:
            sampler = await self._up(member)
        except asyncio.CancelledError:
            if not self.is_ending and self.is_too_late():
                self.settle(member, WaitTimeout(None, (), None, self.settings.timeout))
                return
            # Otherwise nobody but the teardown cancels this task; or a callback did so to its own wait.
            member._is_cut_off = self.is_ending
            words = "the block of the launch ended" if self.is_ending else "the wait was cancelled"
            handed_over = ""
            if self.holdings.was_handed_over(member._sampler_id):
                handed_over = f"; its sampler {member._sampler_id} was handed over, and is still coming up"
            self.settle(member, RuntimeError(f"{words} before this member was up{handed_over}"))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is this member's to tell
            self.settle(member, exc)
        else:
            self.settle(member, sampler)

    def _over(self, member: Member, task: asyncio.Task[None]) -> None:
        """Take that the task of *member* has ended, be it without having begun."""
        if not member.settled:
            error = None if task.cancelled() else task.exception()
            member._is_cut_off = error is None
            create = self.creations.get(member)
            words = f"bringing it up broke off: {error!r}"
            if create is not None and create.is_out:
                self.settle(member, CreateOutcomeUnknown(member.spec, (), TransportError(words)))
            else:
                self.settle(member, RuntimeError(words))
        self._unanswered.discard(member)
        self._settle_lost()

    def settle(self, member: Member, outcome: Sampler | Exception) -> None:
        """Settle *member*, unless it is settled."""
        if member.settled:
            return
        if isinstance(outcome, Sampler):
            member._sampler = member._latest = outcome
        else:
            if isinstance(outcome, LoopsError):
                # Where in this package it came up is the same for all of them, and helps nobody.
                outcome.with_traceback(None)
            outcome.add_note(f"member {member.index} of the launch, {member.spec.base_model}")
            member._error = outcome
        self._report(member)

    async def _up(self, member: Member) -> Sampler:
        """Bring *member* up; return its sampler, or raise what it came to."""
        relaunches = self.settings.relaunches
        while True:
            made, holding = await self._create(member)
            try:
                return await self._wait(member, made, holding)
            except SamplerFailed as failed:
                if not relaunches or self.holdings.was_handed_over(holding.sampler_id) or self._remaining() == 0:
                    raise
                await self._make_room(member, holding, failed)
            relaunches -= 1

    async def _wait(self, member: Member, made: Sampler | str, holding: Holding) -> Sampler:
        settings = self.settings

        def noted(change: StatusChange) -> None:
            holding.is_seen = True
            member._latest = change.sampler
            if settings.on_status is not None:
                settings.on_status(change)

        return await wait_until_active(
            self._client, made, timeout=self._remaining(), policy=settings.policy, on_status=noted
        )

    def is_too_late(self) -> bool:
        """Tell whether nothing should be created any more."""
        return self.is_ending or self._remaining() == 0

    def _expire(self) -> None:
        """Give up the members whose time is up before anything was sent for them: it would be nothing but a bill."""
        for member, task in self.tasks.items():
            create = self.creations.get(member)
            if not member.settled and (create is None or not (create.is_out or create.is_over)):
                task.cancel()

    def _remaining(self) -> float | None:
        """Return the seconds that members have left to come up, None for no end."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def _make_room(self, member: Member, holding: Holding, failed: SamplerFailed) -> None:
        """Release the sampler that *failed*: there are never two bills for one member."""
        holding.is_going = True
        try:
            await self.holdings.let_go(holding, self.settings.teardown_timeout)
        except LoopsError as exc:
            holding.is_going = False
            failed.add_note(f"it was not replaced, since it could not be released: {exc}")
            raise failed from None
        member._failures = (*member._failures, failed)

    async def _create(self, member: Member) -> tuple[Sampler | str, Holding]:
        """Create a sampler for *member* and hold it; return it, or its id if the rest cannot be read."""
        if self.is_too_late():
            raise asyncio.CancelledError
        self._unanswered.add(member)
        create = Creation(member.spec, self.journal, self.id, next(self._numbers), self.is_too_late)
        self.creations[member] = create
        made: Sampler | str | None = None
        try:
            async with self._places:
                made = await self._post(create)
        except (Exception, asyncio.CancelledError):
            create.is_out = False
            raise
        finally:
            self._unanswered.discard(member)
            if create.loss is not None:
                self.lost.append(create)
            self._settle_lost()
        if made is None:
            verdict = await create.verdict
            if isinstance(verdict, CreateOutcomeUnknown):
                create.is_out = False
                raise verdict
            made = verdict
        sampler_id = made if isinstance(made, str) else made.id
        member._sampler_id = sampler_id
        member._latest = None if isinstance(made, str) else made
        holding = self.holdings.hold(sampler_id)
        await create.made(sampler_id)
        if self.is_ending:
            raise asyncio.CancelledError
        return made, holding

    async def _post(self, create: Creation) -> Sampler | str | None:
        """Send *create*; return its sampler, or its id, or None if it was lost."""
        try:
            return await self._launches.create(self._session_id, create.spec, create)
        except DecodeError as exc:
            if exc.sampler_id is None:
                raise
            return exc.sampler_id
        except CreateOutcomeUnknown:
            return None

    def _settle_lost(self) -> None:
        if self.lost and not self._unanswered:
            lost, self.lost = self.lost, []
            settling = spawn_shielded(self._look_for(lost))
            self.settling.add(settling)
            settling.add_done_callback(self._looked)

    async def _look_for(self, lost: Sequence[Creation]) -> None:
        """Find out what became of *lost* creates; whatever happens, they are told something."""
        try:
            losses = [create.loss for create in lost if create.loss is not None]
            verdicts = await self._launches.settle(losses, adopt=self.settings.adopt_unknown)
            for create, verdict in zip(lost, verdicts, strict=True):
                if not create.verdict.done():
                    create.verdict.set_result(verdict)
        finally:
            for create in lost:
                create.give_up("the time of the teardown was up before anybody could look")

    def _looked(self, settling: asyncio.Task[None]) -> None:
        self.settling.discard(settling)
        if not settling.cancelled() and (error := settling.exception()) is not None:
            logger.error("what lost creates have made could not be found out", exc_info=error)


def _nobody(_: Member) -> None:
    """Take a report that nobody waits for."""


def _now() -> datetime:
    return datetime.now(UTC)
