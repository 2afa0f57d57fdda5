"""What a launch of many asks of a client, beyond what everybody may."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Final

from attrs import evolve

from .. import _codec
from .._governor import Priority
from .._losses import Follower, Loss
from .._protocol import sampler_request
from .._releases import RELEASED
from .._transport import Transport
from ..errors import CreateOutcomeUnknown, LoopsError, NotFoundError
from ..models import Sampler, SamplerSpec
from .samplers import Samplers
from .sessions import Sessions

SHORTEST_BACKOFF: Final = 0.01
"""Seconds: releases are repeated until time is up, which must not become a flood whatever the client's policy is."""


class Launches:
    """Create, settle and release samplers on behalf of a launch."""

    def __init__(self, transport: Transport, sessions: Sessions, samplers: Samplers) -> None:
        self._transport = transport
        self._sessions = sessions
        self._samplers = samplers
        self._creates = samplers._creates
        self._releases = samplers._releases

    @property
    def base_url(self) -> str:
        """The control plane's address."""
        return self._transport.base_url

    async def session(self) -> str:
        """Make a session; return its id."""
        return (await self._sessions.create()).id

    async def take_stock(self) -> None:
        """Note all samplers that the account has by now: no create that begins later can have made them."""
        await self._creates.list_readable()

    async def create(self, session_id: str, spec: SamplerSpec, follower: Follower) -> Sampler:
        """Create a sampler, as `samplers.create()` does, but for a lost one: that is still to be settled."""
        return await self._samplers._create(session_id, spec, follower)

    async def settle(self, losses: Sequence[Loss], *, adopt: bool) -> tuple[Sampler | CreateOutcomeUnknown, ...]:
        """Find out what lost creates may have made; see `Creates.settle`."""
        return await self._creates.settle(losses, adopt=adopt)

    async def release(
        self,
        sampler_id: str,
        *,
        within: float,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool:
        """Release a sampler, repeated for so many seconds however often the client's own policy would; see `Releases`.

        Raises:
            LoopsError: It is still billed, as far as is known.
        """
        retry = self._transport.retry
        policy = evolve(
            retry,
            attempts=sys.maxsize,
            initial=max(retry.initial, SHORTEST_BACKOFF),
            maximum=max(retry.maximum, SHORTEST_BACKOFF),
            total=within,
        )
        return await self._releases.release(sampler_id, policy, is_new=is_new, troubled=troubled)

    def own(self, *sampler_ids: str) -> None:
        """Note that these samplers are accounted for: no lost create can have made them."""
        self._creates.own(*sampler_ids)

    async def look_up(self, sampler_ids: Collection[str]) -> dict[str, Sampler | None]:
        """Look samplers up; None for one that the service does not know, and nothing of those that are released.

        Raises:
            LoopsError: As every call.
        """
        found: dict[str, Sampler | None] = {}
        if sampler_ids:
            found.update((each.id, each) for each in await self._creates.list_readable() if each.id in sampler_ids)
        # Not being listed means nothing: lists lag, and show the caller's own.
        for sampler_id in sampler_ids:
            if sampler_id not in found:
                request = sampler_request(sampler_id)
                try:
                    body = await self._transport.read(request, Priority.TEARDOWN)
                    found[sampler_id] = _codec.decode_sampler(body, str(request), sampler_id)
                except NotFoundError:
                    found[sampler_id] = None
        return {
            sampler_id: sampler
            for sampler_id, sampler in found.items()
            if sampler is None or sampler.status not in RELEASED
        }
