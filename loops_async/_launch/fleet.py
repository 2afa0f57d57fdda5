"""The members of a launch, as its users see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from .. import _validate
from ..errors import LaunchError
from ..models import Sampler
from .member import Member
from .supervisor import LaunchSupervisor

TOGETHER: Final = 0.5
"""Seconds for which `active()` waits for more failures after the one that decides, so that it can tell of them all:
what makes one member fail makes many fail. No less than the policy's `initial`, since failures are seen at polls."""


class Fleet:
    """The members of a launch.

    `async for member in fleet` yields each member as it settles, beginning with those that have settled before; any
    number of such loops may run, each one sees every member once.
    """

    def __init__(self, members: tuple[Member, ...], launching: LaunchSupervisor, session_id: str | None) -> None:
        self._members = members
        self._launching = launching
        self._session_id = session_id
        self._together = max(TOGETHER, launching.settings.policy.initial)
        self._settled: list[Member] = []
        self._failed = 0
        self._news = asyncio.Event()

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, in the order of the specs."""
        return self._members

    @property
    def session_id(self) -> str | None:
        """The session that the samplers were created in; None for a launch of nothing."""
        return self._session_id

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        up = len(self._settled) - self._failed
        return f"<Fleet of {len(self._members)}: {up} active, {self._failed} failed>"

    def __aiter__(self) -> AsyncIterator[Member]:
        return _Settled(self)

    async def active(self, *, at_least: int | None = None) -> tuple[Sampler, ...]:
        """Wait until all members are up, or so many of them, and return their samplers, in the order of the specs.

        Without *at_least* that is one sampler for each spec; with it, one for each member that is up by then. The
        members that are not go on coming up.

        Args:
            at_least: How many are enough, from 1 to the number of members; None for all.

        Raises:
            TypeError, ValueError: *at_least* is no such number.
            LaunchError: So many failed that not enough can come up any more. It holds one error for each member that
                failed so far, in the order of the specs, and comes a moment after the failure that decides, in which
                more failures are waited for. The other members go on.
        """
        needed = _validate.optional_positive_int("at_least", at_least) or len(self._members)
        if needed > len(self._members):
            raise ValueError(f"at_least is {needed}, more than the fleet has members: {len(self._members)}")
        while len(self._settled) - self._failed < needed:
            if self._failed > len(self._members) - needed:
                raise await self._launch_error(needed)
            await self._news.wait()
        return tuple(member.sampler for member in self._members if member.sampler is not None)

    def release(self, member: Member | Sampler) -> asyncio.Future[None]:
        """Hand the sampler of *member* over: it is the caller's to deactivate, and stays when the block ends.

        That takes effect at once. With a journal, await what this returns before you rely on it across a crash: only
        then is it written down, and the sampler safe from `reclaim()`.

        A member that is still on its way can be handed over, too, and goes on to settle as the others do; after the
        block, `wait_until_active(client, member.sampler_id)` goes on waiting for it. One that fails is not relaunched
        any more. Releasing a member twice does nothing.

        Args:
            member: The member, or its sampler.

        Raises:
            TypeError: *member* is neither.
            ValueError: It is another fleet's, or has no sampler yet, or none any more.
            RuntimeError: The block has ended.
        """
        if isinstance(member, Sampler):
            found = [each for each in self._members if each.sampler_id == member.id]
            if not found:
                raise ValueError(f"sampler {member.id} is of no member of this fleet")
            member = found[0]
        if not isinstance(member, Member):
            raise TypeError(f"release needs a Member of this fleet or its Sampler, not {type(member).__name__}")
        if member.index >= len(self._members) or self._members[member.index] is not member:
            raise ValueError(f"{member!r} is a member of another fleet")
        return self._launching.hand_over(member)

    async def _launch_error(self, needed: int) -> LaunchError:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._together
        while len(self._settled) < len(self._members):
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                break
        errors = [member.error for member in self._members if member.error is not None]
        of_all = "" if needed == len(self._members) else f", and {needed} were needed"
        return LaunchError(f"{len(errors)} of {len(self._members)} samplers did not come up{of_all}", errors)

    def _take(self, member: Member) -> None:
        self._settled.append(member)
        self._failed += member.sampler is None
        news, self._news = self._news, asyncio.Event()
        news.set()


class _Settled:
    """Members in the order in which they settled."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._next = 0

    def __aiter__(self) -> _Settled:
        return self

    async def __anext__(self) -> Member:
        fleet = self._fleet
        if self._next == len(fleet.members):
            raise StopAsyncIteration
        while self._next >= len(fleet._settled):
            await fleet._news.wait()
        self._next += 1
        return fleet._settled[self._next - 1]
