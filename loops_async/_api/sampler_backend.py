"""What a launch of many asks of a client, beyond what everybody may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from .._http.limiter import Priority
from .._http.requests import sampler_request
from .._http.transport import Transport
from ..errors import APIError, CreateOutcomeUnknown, DecodeError, LoopsError, NotFoundError
from ..models import Sampler, SamplerSpec
from . import codec
from .deactivating import RELEASED
from .samplers import Samplers
from .sessions import Sessions
from .unknown_creates import Follower, UnknownCreate


class Launches:
    """Create, settle and release samplers on behalf of a launch."""

    def __init__(self, transport: Transport, sessions: Sessions, samplers: Samplers) -> None:
        self._transport = transport
        self._sessions = sessions
        self._samplers = samplers
        self._creates = samplers._creates
        self._releases = samplers._releases

    @property
    def home(self) -> str:
        """The address of the control plane, down to the account or team whose samplers these are."""
        return f"{self._transport.base_url}{self._samplers._collection.removesuffix('/samplers')}"

    async def session(self) -> str:
        """Make a session; return its id."""
        return (await self._sessions.create()).id

    async def take_stock(self) -> None:
        """Note all samplers that the account has by now: no create that begins later can have made them."""
        await self._creates.list_readable()

    async def create(self, session_id: str, spec: SamplerSpec, follower: Follower) -> Sampler:
        """Create a sampler, as `samplers.create()` does, but for a lost one: that is still to be settled."""
        return await self._samplers._create(session_id, spec, follower)

    async def settle(
        self, losses: Sequence[UnknownCreate], *, adopt: bool
    ) -> tuple[Sampler | CreateOutcomeUnknown, ...]:
        """Find out what lost creates may have made; see `SamplerCreator.settle`."""
        return await self._creates.settle(losses, adopt=adopt)

    async def release(
        self,
        sampler_id: str,
        *,
        within: float,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool:
        """Release a sampler; see `Deactivator.release_within`."""
        return await self._releases.release_within(sampler_id, within, is_new=is_new, troubled=troubled)

    def own(self, *sampler_ids: str) -> None:
        """Note that these samplers are accounted for: no lost create can have made them."""
        self._creates.own(*sampler_ids)

    async def look_up(self, sampler_ids: Collection[str]) -> dict[str, Sampler | None]:
        """Look samplers up; None for one that the service does not know, or describes in a way that cannot be read,
        and nothing of those that are released.

        Raises:
            LoopsError: As every call.
        """
        found: dict[str, Sampler | None] = {}
        if sampler_ids:
            # To list needs another right than to get.
            with suppress(APIError):
                listed = await self._creates.list_readable()
                found.update((sampler.id, sampler) for sampler in listed if sampler.id in sampler_ids)
        # Not being listed means nothing: lists lag, and show the caller's own.
        unlisted = [sampler_id for sampler_id in sampler_ids if sampler_id not in found]
        found.update(zip(unlisted, await asyncio.gather(*map(self._known, unlisted)), strict=True))
        return {
            sampler_id: sampler
            for sampler_id, sampler in found.items()
            if sampler is None or sampler.status not in RELEASED
        }

    async def _known(self, sampler_id: str) -> Sampler | None:
        request = sampler_request(sampler_id)
        try:
            body = await self._transport.read(request, Priority.TEARDOWN)
            return codec.decode_sampler(body, str(request), sampler_id)
        except (NotFoundError, DecodeError):
            return None
