"""The members of a launch, as its users see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from .. import _validate
from ..errors import CreateOutcomeUnknown, LaunchError, TeardownError
from ..models import Sampler
from .each import WorkOutcomes
from .member import Member
from .supervisor import LaunchSupervisor

T = TypeVar("T")

GATHER_FAILURES_S: Final = 0.5
"""Seconds for which `active()` waits for more failures after the decisive one: often many members fail for the same
reason, and the error should hold them all. It is short, since the other members are billed meanwhile."""


class Fleet:
    """The members of a launch.

    `async for member in fleet` yields each member once it is done, beginning with those that are done already. Any
    number of such loops may run; each one yields every member once.
    """

    def __init__(
        self,
        members: tuple[Member, ...],
        supervisor: LaunchSupervisor,
        session_id: str | None,
        unresolved: tuple[CreateOutcomeUnknown, ...] = (),
    ) -> None:
        self._members = members
        self._supervisor = supervisor
        self._session_id = session_id
        self._done: list[Member] = []
        self._failed = 0
        self._changed = asyncio.Event()
        self._teardown_error: TeardownError | None = None
        self._unresolved = unresolved

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, in the order of the specs."""
        return self._members

    @property
    def session_id(self) -> str | None:
        """Id of the session in which the samplers were created; None for a launch without specs."""
        return self._session_id

    @property
    def teardown_error(self) -> TeardownError | None:
        """The error for samplers that are still billed and unknown creates; None if there are none.

        It is set when the block has ended. If the block raised an exception of its own, that is what you catch, and
        this attribute is the only place that has the TeardownError.
        """
        return self._teardown_error

    @property
    def unresolved(self) -> tuple[CreateOutcomeUnknown, ...]:
        """The unknown creates of the journal's earlier launches; empty without `resume=True`."""
        return self._unresolved

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        active = len(self._done) - self._failed
        return f"<Fleet of {len(self._members)}: {active} active, {self._failed} failed>"

    def __aiter__(self) -> AsyncIterator[Member]:
        return _DoneMembers(self)

    async def active(self, *, at_least: int | None = None) -> tuple[Sampler, ...]:
        """Wait until all members have come up, or *at_least* of them; return their samplers in the order of the specs.

        Without *at_least* there is one sampler for each spec; with it, one for each member that has come up by then.
        The launch goes on bringing up the other members.

        Args:
            at_least: How many are enough, from 1 to the number of members; None for all.

        Raises:
            TypeError, ValueError: *at_least* is no such number.
            LaunchError: So many members failed that not enough can come up any more. It holds one error for each that
                has failed, in the order of the specs. It is raised up to half a second after the decisive failure, so
                that it can hold more errors. The launch goes on bringing up the other members.
        """
        needed = _validate.optional_positive_int("at_least", at_least) or len(self._members)
        if needed > len(self._members):
            raise ValueError(f"at_least is {needed}, more than the fleet has members: {len(self._members)}")
        while len(self._done) - self._failed < needed:
            if self._failed > len(self._members) - needed:
                raise await self._launch_error(needed)
            await self._changed.wait()
        return tuple(member.sampler for member in self._members if member.sampler is not None)

    async def created(self) -> None:
        """Wait until every create has an outcome: each member has a `sampler_id`, or an `error`.

        For an unknown create, the error is set once the search for its candidates has ended.
        """
        while any(member.sampler_id is None and not member.done for member in self._members):
            await self._changed.wait()

    def each(self, work: Callable[[Sampler], Awaitable[T]], *, concurrency: int | None = None) -> WorkOutcomes[T]:
        """Run `work(sampler)` for each member as it comes up, and deactivate its sampler when the work has ended.

        So no GPU is billed while the slowest member comes up, or the longest work runs:

            async for outcome in fleet.each(evaluate):
                print(outcome.member.spec.base_model, outcome.value, outcome.error)

        It yields an `Outcome` for each member, in order of completion. For a member that did not come up, the outcome
        has the error. An exception in a work is the `error` of its outcome, and cancels nothing. The sampler is
        deactivated before the outcome is yielded, however the work ended, and with every `teardown`, also with `never`.
        If the deactivation takes longer than two seconds, the outcome is yielded meanwhile. The sampler of a member
        that is detached by then stays; `fleet.detach(sampler)` may be called in the work.

        The works start with the first iteration, in the order of the specs among the members that are up at the same
        time. Leaving the loop early, by `break`, an exception, a cancellation or
        `aclose()`, cancels the works that run. Their samplers are deactivated once they have ended, or after ten
        seconds. `aclose()` and a cancellation wait for that. After `break` or an exception it goes on beside the block,
        whose end waits for it; `contextlib.aclosing()` makes the loop wait:

            async with aclosing(fleet.each(evaluate)) as outcomes:
                async for outcome in outcomes: ...

        No work starts twice for a member. Several loops share the members: each member goes to the first loop that has
        room for it. So a loop that begins later gets the members whose work has not started, and the errors of those
        that failed. If the block ends while a loop goes on in another task, its works are cancelled, and the loop
        yields a RuntimeError for each of the remaining members.

        Args:
            work: Async function, called with the sampler of a member that has come up.
            concurrency: How many works run at once, at least 1; None for no limit. The samplers of the other members
                are billed while they wait for their turn.

        Raises:
            TypeError, ValueError: An argument is malformed.
        """
        if not callable(work):
            raise TypeError(f"work must be an async function that takes a Sampler, not {type(work).__name__}")
        concurrency = _validate.optional_positive_int("concurrency", concurrency)
        return WorkOutcomes(self._supervisor.works, work, concurrency)

    def detach(self, member: Member | Sampler) -> asyncio.Future[None]:
        """Keep the sampler of *member* running after the block; the caller owns it, and must deactivate it.

        It takes effect at once, without an `await`. With a journal, the returned future is done when the record is on
        the disk, so that `reclaim()` leaves the sampler alone even after a crash; await it if that matters.

        A member that is still coming up can be detached, too; after the block,
        `wait_until_active(client, member.sampler_id)` waits for its sampler. If it fails, it is not relaunched.
        Detaching a member twice does nothing. Members whose creates were answered with the same sampler are detached
        together.

        Args:
            member: The member, or its sampler.

        Raises:
            TypeError: *member* is neither.
            ValueError: It belongs to another fleet, or has no sampler, or one that is being deactivated.
            RuntimeError: The block has ended.
        """
        return self._supervisor.detach(self._own(member))

    def acknowledge(self, member: Member, *, keep_in_journal: bool = False) -> None:
        """Confirm that the caller handles the unknown create of *member*; the end of the block then does not raise it.

        The caller must find out whether it made a sampler: see the `candidates` of `member.error`. The journal records
        that, too, so that `orphans()`, `reclaim()` and `resume` leave the create out. After the block, the journal does
        not change any more.

        Args:
            member: The member.
            keep_in_journal: Whether the journal goes on reporting the create as unknown.

        Raises:
            TypeError: *member* is no member.
            ValueError: It belongs to another fleet, or its error is no `CreateOutcomeUnknown`.
        """
        member = self._own(member)
        if not isinstance(member.error, CreateOutcomeUnknown):
            raise ValueError(f"member {member.index} has no unknown create to acknowledge: {member!r}")
        self._supervisor.acknowledge(member, keep_in_journal=keep_in_journal)

    def _own(self, member: object) -> Member:
        """Return *member*, or the member of that sampler, if it is one of this fleet."""
        if isinstance(member, Sampler):
            found = [each for each in self._members if each.sampler_id == member.id]
            if not found:
                raise ValueError(f"sampler {member.id} belongs to no member of this fleet")
            return found[0]
        if not isinstance(member, Member):
            raise TypeError(f"a Member of this fleet is needed, not {type(member).__name__}")
        if member.index >= len(self._members) or self._members[member.index] is not member:
            raise ValueError(f"{member!r} is a member of another fleet")
        return member

    async def _launch_error(self, needed: int) -> LaunchError:
        until = asyncio.get_running_loop().time() + min(GATHER_FAILURES_S, self._supervisor.settings.policy.initial)
        while len(self._done) < len(self._members):
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                break
        errors = [member.error for member in self._members if member.error is not None]
        of_all = "" if needed == len(self._members) else f", and {needed} were needed"
        return LaunchError(f"{len(errors)} of {len(self._members)} samplers did not come up{of_all}", errors)

    def _on_done(self, member: Member) -> None:
        self._done.append(member)
        self._failed += member.sampler is None

    def _on_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _on_end(self, error: TeardownError | None) -> None:
        self._teardown_error = error


class _DoneMembers:
    """An iterator over the members in the order in which they were done."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._next = 0

    def __aiter__(self) -> _DoneMembers:
        return self

    async def __anext__(self) -> Member:
        fleet = self._fleet
        if self._next == len(fleet.members):
            raise StopAsyncIteration
        while self._next >= len(fleet._done):
            await fleet._changed.wait()
        self._next += 1
        return fleet._done[self._next - 1]
