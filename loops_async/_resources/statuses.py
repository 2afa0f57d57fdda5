"""The reads that a status source lives on: single attempts, since a poll that fails is repeated by the next one."""

from __future__ import annotations

from .. import _codec
from .._governor import Priority
from .._transport import Transport
from ..models import Sampler
from .samplers import Samplers, sampler_request


class Statuses:
    """Ask for statuses on behalf of waits."""

    def __init__(self, transport: Transport, samplers: Samplers) -> None:
        self._transport = transport
        self._samplers = samplers

    async def one(self, sampler_id: str, *, last_look: bool) -> Sampler:
        """Ask for one sampler, once; a last look does not wait for the end of a pause that the service asked for."""
        request = sampler_request(sampler_id)
        body = await self._transport.once(request, Priority.LAST_LOOK if last_look else Priority.READ)
        return _codec.decode_sampler(body, str(request))

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler, repeated like every read."""
        await self._samplers.wake(sampler)
