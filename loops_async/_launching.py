"""Bring up the members of a fleet, and take down again what they hold.

Rules:

- Each member has one task, which creates its sampler, waits for it, and replaces it if it failed and may be replaced.
  The tasks belong to the launch: whatever cancels the block reaches the teardown, never the tasks themselves.
- Each sampler that a create made is a holding, from the moment in which its id is known until it is certainly released
  or handed over. What is left of the holdings at the end is what is still billed.
- A POST that is in flight is never cut off, since it may make a sampler: the teardown waits for its answer. So does it
  for creates whose answer was lost. All else is cancelled at once.
- Lost creates are settled together, when no create of the launch is left to be answered: only then can the account's
  new samplers be told from each other.
- The teardown has a deadline. A POST that is not answered by then stays with the client, which releases what it makes;
  it is reported as unknown, since nobody here will see how that ends.
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
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

from attrs import define, frozen

from . import _journal
from ._journal_file import JournalFile
from ._losses import Follower, Loss
from ._member import Member
from ._policy import PollPolicy
from ._remains import still_billed
from ._shield import protected
from ._waiter import SupportsWaiting, wait_until_active
from .errors import (
    CreateOutcomeUnknown,
    DecodeError,
    LoopsError,
    SamplerFailed,
    TeardownError,
    TransportError,
    WaitTimeout,
)
from .models import Sampler, SamplerSpec, StatusChange

logger = logging.getLogger("loops_async")

Teardown: TypeAlias = Literal["always", "on_error", "never"]

UNANSWERED: Final = "its request is not answered yet; the client goes on, and releases what it makes before it closes"
"""What is told of a POST that outlasts the teardown."""

SECOND_END: Final = 10.0
"""Seconds that a further call of the teardown has at least, unless its time is shorter anyway."""

ROUNDS: Final = 3
"""How often a teardown goes through its samplers at most."""

NOTICE: Final = 2.0
"""Seconds after which a teardown says that it is going on."""

NEW: Final = 30.0
"""Seconds after its creation for which a sampler that nobody has seen yet may be unknown to parts of the service."""


class Launches(Protocol):
    """What a launch asks of a client."""

    @property
    def home(self) -> str: ...
    async def session(self) -> str: ...
    async def take_stock(self) -> None: ...
    async def create(self, session_id: str, spec: SamplerSpec, follower: Follower) -> Sampler: ...
    async def settle(self, losses: Sequence[Loss], *, adopt: bool) -> tuple[Sampler | CreateOutcomeUnknown, ...]: ...
    async def release(
        self,
        sampler_id: str,
        *,
        within: float,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool: ...


class SupportsLaunching(SupportsWaiting, Protocol):
    """What a launch needs of a client."""

    @property
    def _launches(self) -> Launches: ...


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


@define(eq=False)
class _Holding:
    """A sampler that is to be released."""

    sampler_id: str
    made_at: float
    """By the event loop's clock."""
    is_seen: bool = False
    """Whether a poll has shown it since."""
    is_going: bool = False
    """Whether it is being released to make room for another."""
    trouble: Exception | None = None
    """What the last attempt to release it came to."""


class NoJournal:
    """The journal of a launch that has none."""

    failure: OSError | None = None

    async def append(self, record: _journal.Record) -> None:
        """Do nothing."""

    def note(self, record: _journal.Record) -> asyncio.Future[None]:
        """Do nothing."""
        return self.written()

    def written(self) -> asyncio.Future[None]:
        """Return a future that is done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def close(self) -> None:
        """Do nothing."""


class _Create:
    """One create of a member, from its place in the queue to its outcome."""

    def __init__(self, launching: Launching, spec: SamplerSpec) -> None:
        self.spec = spec
        self.is_out = False
        """Whether it may have made a sampler that nobody knows yet: then it must not be cut off."""
        self.is_over = False
        """Whether it has made a sampler."""
        self.loss: Loss | None = None
        self.verdict: asyncio.Future[Sampler | CreateOutcomeUnknown] = asyncio.get_running_loop().create_future()
        """What a lost one is found to have made."""
        self._launching = launching
        self._number = next(launching.numbers)
        self._task = asyncio.current_task()

    async def sending(self) -> None:
        launching = self._launching
        try:
            await launching.journal.append(_journal.Intent.of(launching.id, self._number, _now(), self.spec))
        except BaseException:
            # It may be on the disk, or get there, and is not sent all the same.
            self._note_refused()
            raise
        self.is_out = True

    def refused(self) -> None:
        self.is_out = False
        self._note_refused()
        if self._launching.is_too_late() and self._task is not None:
            # It would be sent again after a while, and there is nobody to send it for any more.
            self._task.cancel()

    def lost(self, loss: Loss) -> None:
        self.loss = loss

    def _note_refused(self) -> None:
        self._launching.journal.note(_journal.Refused(self._launching.id, self._number, _now()))

    async def made(self, sampler_id: str) -> None:
        self.is_out, self.is_over = False, True
        launching = self._launching
        await launching.journal.append(_journal.Created(launching.id, self._number, _now(), sampler_id))

    def give_up(self, reason: str) -> None:
        """Settle a lost create without having looked."""
        if self.loss is not None and not self.verdict.done():
            self.verdict.set_result(self.loss.told(look_error=TransportError(reason)))


class Launching:
    """The members of one launch, the samplers that they hold, and the tasks that look after them."""

    def __init__(
        self,
        client: SupportsLaunching,
        members: Sequence[Member],
        settings: Settings,
        journal: JournalFile | NoJournal,
        session_id: str,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.settings = settings
        self.journal = journal
        self.numbers = itertools.count()
        self.is_ending = False
        self.overdue: list[asyncio.Task[None]] = []
        """Tasks that still await the answer to a POST when the teardown's time is up; somebody must await them."""
        self._client = client
        self._launches = client._launches
        self._members = members
        self._session_id = session_id
        self._report: Callable[[Member], None] = _nobody
        self._holdings: dict[str, _Holding] = {}
        self._handed_over: set[str] = set()
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._creates: dict[Member, _Create] = {}
        self._unanswered = set[Member]()
        self._lost: list[_Create] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(settings.max_concurrent_creates)
        self._deadline: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._end_at = 0.0

    async def announce(self) -> None:
        """Write down that the launch begins."""
        home = self._launches.home
        await self.journal.append(_journal.Launch(self.id, _now(), home, self._session_id, os.getpid()))

    def start(self, report: Callable[[Member], None]) -> None:
        """Start to bring up all members; *report* is called with each one that has settled."""
        self._report = report
        if self.settings.timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + self.settings.timeout
            self._expiry = loop.call_at(self._deadline, self._expire)
        self._unanswered.update(self._members)
        for member in self._members:
            task = self._tasks[member] = protected(self._bring_up(member))
            task.add_done_callback(partial(self._over, member))

    def hand_over(self, member: Member) -> asyncio.Future[None]:
        """Leave the sampler of *member* to the caller from now on; the future tells when that is in the journal.

        Raises:
            ValueError: It has none.
            RuntimeError: The block has ended.
        """
        if self.is_ending:
            raise RuntimeError("the block of the launch has ended, and with it the time to release members")
        sampler_id = member._sampler_id
        if sampler_id in self._handed_over:
            return self.journal.written()
        holding = self._holdings.get(sampler_id) if sampler_id is not None else None
        if holding is None or holding.is_going:
            when = "any more" if member.settled else "at the moment"
            raise ValueError(f"member {member.index} has no sampler to release {when}")
        del self._holdings[holding.sampler_id]
        self._handed_over.add(holding.sampler_id)
        return self.journal.note(_journal.HandedOver(holding.sampler_id, _now()))

    # On the way up

    async def _bring_up(self, member: Member) -> None:
        try:
            sampler = await self._up(member)
        except asyncio.CancelledError:
            if not self.is_ending and self.is_too_late():
                self._settle(member, WaitTimeout(None, (), None, self.settings.timeout))
                return
            # Otherwise nobody but the teardown cancels this task; or a callback did so to its own wait.
            member._is_cut_off = self.is_ending
            words = "the block of the launch ended" if self.is_ending else "the wait was cancelled"
            handed_over = ""
            if member._sampler_id in self._handed_over:
                handed_over = f"; its sampler {member._sampler_id} was handed over, and is still coming up"
            self._settle(member, RuntimeError(f"{words} before this member was up{handed_over}"))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is this member's to tell
            self._settle(member, exc)
        else:
            self._settle(member, sampler)

    def _over(self, member: Member, task: asyncio.Task[None]) -> None:
        """Take that the task of *member* has ended, be it without having begun."""
        if not member.settled:
            error = None if task.cancelled() else task.exception()
            member._is_cut_off = error is None
            create = self._creates.get(member)
            words = f"bringing it up broke off: {error!r}"
            if create is not None and create.is_out:
                self._settle(member, CreateOutcomeUnknown(member.spec, (), TransportError(words)))
            else:
                self._settle(member, RuntimeError(words))
        self._unanswered.discard(member)
        self._settle_lost()

    def _settle(self, member: Member, outcome: Sampler | Exception) -> None:
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
                if not relaunches or holding.sampler_id in self._handed_over or self._remaining() == 0:
                    raise
                await self._make_room(member, holding, failed)
            relaunches -= 1

    async def _wait(self, member: Member, made: Sampler | str, holding: _Holding) -> Sampler:
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
        for member, task in self._tasks.items():
            create = self._creates.get(member)
            if not member.settled and (create is None or not (create.is_out or create.is_over)):
                task.cancel()

    def _remaining(self) -> float | None:
        """Return the seconds that members have left to come up, None for no end."""
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def _make_room(self, member: Member, holding: _Holding, failed: SamplerFailed) -> None:
        """Release the sampler that *failed*: there are never two bills for one member."""
        holding.is_going = True
        try:
            await self._let_go(holding, self.settings.teardown_timeout)
        except LoopsError as exc:
            holding.is_going = False
            failed.add_note(f"it was not replaced, since it could not be released: {exc}")
            raise failed from None
        member._failures = (*member._failures, failed)

    async def _create(self, member: Member) -> tuple[Sampler | str, _Holding]:
        """Create a sampler for *member* and hold it; return it, or its id if the rest cannot be read."""
        if self.is_too_late():
            raise asyncio.CancelledError
        self._unanswered.add(member)
        create = self._creates[member] = _Create(self, member.spec)
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
                self._lost.append(create)
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
        # Creates for one and the same run may be answered with one and the same sampler.
        holding = self._holdings.get(sampler_id) or _Holding(sampler_id, asyncio.get_running_loop().time())
        if sampler_id not in self._handed_over:
            self._holdings[sampler_id] = holding
        await create.made(sampler_id)
        if self.is_ending:
            raise asyncio.CancelledError
        return made, holding

    async def _post(self, create: _Create) -> Sampler | str | None:
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
        if self._lost and not self._unanswered:
            lost, self._lost = self._lost, []
            settling = protected(self._look_for(lost))
            self._settling.add(settling)
            settling.add_done_callback(self._looked)

    async def _look_for(self, lost: Sequence[_Create]) -> None:
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
        self._settling.discard(settling)
        if not settling.cancelled() and (error := settling.exception()) is not None:
            logger.error("what lost creates have made could not be found out", exc_info=error)

    # On the way down

    async def _let_go(self, holding: _Holding, within: float) -> None:
        """Release a sampler. Raises what the last attempt came to."""
        loop = asyncio.get_running_loop()

        def is_new() -> bool:
            return not holding.is_seen and loop.time() - holding.made_at < NEW

        def troubled(error: LoopsError) -> None:
            holding.trouble = error

        await self._launches.release(holding.sampler_id, within=within, is_new=is_new, troubled=troubled)
        self._holdings.pop(holding.sampler_id, None)
        # That it could not be written is remembered by the journal; the sampler is released all the same.
        with suppress(OSError):
            await self.journal.append(_journal.Released(holding.sampler_id, _now()))

    async def end(self, failed: bool) -> TeardownError | None:
        """Take down what is to be taken down; return what is left to tell, None if nothing is.

        Must run as a task of its own that nobody cancels. It may be called again where a KeyboardInterrupt has broken
        it off, or for what it has left alone.
        """
        loop = asyncio.get_running_loop()
        timeout = self.settings.teardown_timeout
        if not self.is_ending:
            self._end_at = loop.time() + timeout
        self._end_at = max(self._end_at, loop.time() + min(timeout, SECOND_END))
        self.is_ending = True
        if self._expiry is not None:
            self._expiry.cancel()
        for member, task in self._tasks.items():
            create = self._creates.get(member)
            if create is None or not create.is_out:
                task.cancel()
        notice = loop.call_later(NOTICE, self._say_what_is_going_on, failed)
        try:
            # A second Ctrl-C strikes whatever runs in that moment; what it struck is begun anew.
            for _ in range(ROUNDS):
                ends = [
                    protected(self._end(member, failed))
                    for member, task in self._tasks.items()
                    if task not in self.overdue
                ]
                if not ends:
                    break
                done, late = await asyncio.wait(ends, timeout=max(0.0, self._end_at - loop.time()))
                if late:
                    await self._break_off(late)
                broken = [end for end in done if end.exception() is not None]
                if not broken:
                    break
        finally:
            notice.cancel()
        return self._left(failed)

    def _say_what_is_going_on(self, failed: bool) -> None:
        """Give a reason to be patient to whoever sits in front of this."""
        going = [
            member._sampler_id
            for member in self._members
            if member._sampler_id in self._holdings and not self._is_kept(member, failed)
        ]
        unanswered = sum(create.is_out for create in self._creates.values())
        logger.warning(
            "still releasing the samplers of a launch, for %.0f s at most; to kill it now leaves them billed: %s%s",
            self._end_at - asyncio.get_running_loop().time(),
            ", ".join(map(str, going)) or "none whose id is known",
            f", and those of {unanswered} unanswered creates" if unanswered else "",
        )

    async def _end(self, member: Member, failed: bool) -> None:
        """Wait until *member* is done with, and release its sampler."""
        await asyncio.wait([self._tasks[member]])
        holding = self._holdings.get(member._sampler_id or "")
        if holding is None or self._is_kept(member, failed):
            return
        try:
            within = self._end_at - asyncio.get_running_loop().time()
            await self._let_go(holding, max(0.0, within))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the id must be told
            holding.trouble = exc

    async def _break_off(self, late: set[asyncio.Task[None]]) -> None:
        """End what is still going on at the deadline."""
        for task in (*late, *self._settling):
            task.cancel()
        await asyncio.wait((*late, *self._settling))
        lost, self._lost = self._lost, []
        for create in lost:
            create.give_up("the time of the teardown was up before all creates were answered")
        remaining = []
        for member, task in self._tasks.items():
            posted = self._creates.get(member)
            if not task.done() and posted is not None and posted.is_out and posted.loss is None:
                task.cancel()
                self.overdue.append(task)
                self._settle(member, CreateOutcomeUnknown(member.spec, (), TransportError(UNANSWERED)))
            elif not task.done():
                remaining.append(task)
        if remaining:
            await asyncio.wait(remaining)

    def _is_kept(self, member: Member, failed: bool) -> bool:
        if self.settings.teardown == "on_error":
            return not failed and (member._error is None or member._is_cut_off)
        return self.settings.teardown == "never"

    def _left(self, failed: bool) -> TeardownError | None:
        """Say what is still billed, and what may be without anybody having been told."""
        billed: dict[str, Exception] = {}
        unknown: list[CreateOutcomeUnknown] = []
        for member in self._members:
            error = member._error
            holding = self._holdings.get(member._sampler_id or "")
            if holding is not None and holding.sampler_id not in billed and not self._is_kept(member, failed):
                trouble = holding.trouble or TransportError("no answer before the time of the teardown was up")
                trouble.add_note(f"sampler {holding.sampler_id} of {member.spec.base_model} is still billed")
                billed[holding.sampler_id] = trouble.with_traceback(None)
            elif isinstance(error, CreateOutcomeUnknown) and not member._is_told:
                unknown.append(error)
        return still_billed(billed, unknown)


def _nobody(_: Member) -> None:
    """Take a report that nobody waits for."""


def _now() -> datetime:
    return datetime.now(UTC)
