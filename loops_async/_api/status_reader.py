"""The requests of the poller: single attempts, since a poll that fails is repeated by the next one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .._http.limiter import Priority
from .._http.requests import Request, sampler_request
from .._http.transport import Transport
from ..errors import DecodeError
from ..models import Sampler
from . import codec
from .sampler_list import SamplerList, read_item
from .samplers import Samplers


class ApiStatusReader:
    """Read statuses for waits. A final poll does not wait for a slot, nor for the end of a pause."""

    def __init__(self, transport: Transport, samplers: Samplers, list_request: Request) -> None:
        self._transport = transport
        self._samplers = samplers
        self._list_request = list_request

    @property
    def probe_slots(self) -> int:
        """Number of probes that may run at once: a quarter of the connections, so that polls always have some."""
        return self._transport.limiter.data_plane_limit

    async def get(self, sampler_id: str, *, final: bool) -> tuple[Sampler, int, float]:
        """Ask once for one sampler; return it, the size of the response in bytes, and the seconds that it took."""
        request = sampler_request(sampler_id)
        body, seconds = await self._transport.send_timed(request, _priority(final))
        return codec.decode_sampler(body, str(request), sampler_id), len(body), seconds

    async def list(self, *, final: bool, limit: float) -> tuple[SamplerList, float]:
        """Ask once for all samplers, for at most *limit* seconds; return them and the seconds that it took."""
        body, seconds = await self._transport.send_timed(self._list_request, _priority(final), limit=limit)
        # Reading five megabytes, scanning them and delivering them take some milliseconds each: the event loop gets a
        # turn in between.
        await asyncio.sleep(0)
        listing = await SamplerList.scan(body, str(self._list_request))
        await asyncio.sleep(0)
        return listing, seconds

    def read(self, item: object) -> Sampler | None:
        """Build the sampler of an item of a list; return None if it cannot be read."""
        with suppress(DecodeError):
            return read_item(item, str(self._list_request))
        return None

    def mark_seen(self, sampler_id: str) -> None:
        """Record that a sampler exists, so that it is no candidate of a later unknown create."""
        self._samplers._service.known.mark_seen(sampler_id)

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler, with retries."""
        await self._samplers.wake(sampler)

    async def answers(self, sampler: Sampler) -> bool:
        """Return True if a sampler answers a request for one token."""
        return await self._samplers.answers(sampler)


def _priority(final: bool) -> Priority:
    return Priority.FINAL_POLL if final else Priority.READ
