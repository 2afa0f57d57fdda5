"""The reads that a status source lives on: single attempts, since a poll that fails is repeated by the next one."""

from __future__ import annotations

import asyncio

from .._http.limiter import Priority
from .._http.requests import Request, sampler_request
from .._http.transport import Transport
from ..models import Sampler
from . import codec
from .sampler_list import SamplerList
from .samplers import Samplers


class ApiStatusReader:
    """Ask for statuses on behalf of waits. A last look does not wait for the end of a pause."""

    def __init__(self, transport: Transport, samplers: Samplers, list_request: Request) -> None:
        self._transport = transport
        self._samplers = samplers
        self._list_request = list_request

    async def one(self, sampler_id: str, *, final: bool) -> tuple[Sampler, int, float]:
        """Ask for one sampler, once; return it, the bytes of the answer and the seconds that it took."""
        request = sampler_request(sampler_id)
        body, seconds = await self._transport.send_timed(request, _priority(final))
        return codec.decode_sampler(body, str(request), sampler_id), len(body), seconds

    async def all(self, *, final: bool, limit: float) -> tuple[SamplerList, float]:
        """Ask for all of the caller's samplers, once, for *limit* seconds; return them and the seconds that it took."""
        body, seconds = await self._transport.send_timed(self._list_request, _priority(final), limit=limit)
        # Reading five megabytes, scanning them and telling the waits each take some milliseconds: one turn of the
        # event loop for each.
        await asyncio.sleep(0)
        listing = await SamplerList.scan(body, str(self._list_request))
        await asyncio.sleep(0)
        return listing, seconds

    def know(self, sampler_id: str) -> None:
        """Note that a sampler exists, since somebody waits for it."""
        self._samplers._service.registry.mark_seen(sampler_id)

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler, repeated like every read."""
        await self._samplers.wake(sampler)


def _priority(final: bool) -> Priority:
    return Priority.FINAL_POLL if final else Priority.READ
