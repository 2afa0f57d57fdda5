"""The parts that `client.samplers` and `launch()` share: the creates, deactivations and searches of one client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime

from .. import _validate
from .._http.failures import Failure, classify
from .._http.limiter import Priority
from .._http.requests import Request, join_path, sampler_request
from .._http.transport import Transport
from ..errors import APIError, CreateOutcomeUnknown, DecodeError, LoopsError
from ..models import Sampler, SamplerSpec
from . import codec
from .creating import CreateObserver, CreateOutcome, SamplerCreator
from .deactivating import DEACTIVATED, Deactivator
from .known_samplers import KnownSamplers
from .sessions import Sessions
from .unknown_creates import Moment, UnknownCreate


class SamplerService:
    """Create, deactivate and find samplers of one account or team."""

    def __init__(self, transport: Transport, scope: tuple[str, ...], sessions: Sessions) -> None:
        self._transport = transport
        self._sessions = sessions
        self.collection = join_path(*scope, "samplers")
        """Path of the account's or team's samplers."""
        self.list_request = Request("GET", self.collection)
        self.scope_url = f"{transport.base_url}{join_path(*scope)}"
        """Address of the control plane, down to the account or team."""
        self.known = KnownSamplers()
        self.deactivator = Deactivator(transport, self.known)
        self.creator = SamplerCreator(transport, self.list_request, self.known, self.deactivator)

    @property
    def rate_limit(self) -> float | None:
        """Requests of one endpoint that start within any second; None for no limit."""
        return self._transport.limiter.rate

    async def new_session(self) -> str:
        """Create a session; return its id."""
        return (await self._sessions.create()).id

    def create_request(self, session_id: str, spec: SamplerSpec) -> Request:
        """Build the request that creates a sampler."""
        body = {"session_id": _validate.require_str("session_id", session_id), **codec.spec_fields(spec)}
        return Request("POST", self.collection, body=codec.encode(body))

    async def create(self, session_id: str, spec: SamplerSpec, observer: CreateObserver) -> CreateOutcome:
        """Create a sampler; return the outcome. See `SamplerCreator.send`."""
        return await self.creator.send(self.create_request(session_id, spec), spec, observer)

    async def resolve(self, create: UnknownCreate) -> CreateOutcomeUnknown:
        """Search for the sampler that an unknown create may have made. See `SamplerCreator.resolve`."""
        return await self.creator.resolve(create)

    async def resolve_earlier(
        self, spec: SamplerSpec, sent_at: datetime, ended_by: datetime, cause: LoopsError
    ) -> CreateOutcomeUnknown:
        """Search for the sampler that an unknown create of another process may have made, at times by its clock."""
        create = UnknownCreate(spec, cause, Moment(sent_at, None), Moment(ended_by, None))
        return await self.creator.resolve(create)

    async def deactivate_within(
        self, sampler_id: str, seconds: float, *, on_error: Callable[[LoopsError], None]
    ) -> bool:
        """Deactivate a sampler within *seconds*. See `Deactivator.deactivate_within`."""
        return await self.deactivator.deactivate_within(sampler_id, seconds, on_error=on_error)

    def mark_made(self, *sampler_ids: str, fresh: bool) -> None:
        """Record that the create of these samplers is known. See `KnownSamplers.mark_made`."""
        self.known.mark_made(*sampler_ids, fresh=fresh)

    async def find(self, sampler_ids: Collection[str]) -> dict[str, Sampler | None]:
        """Get samplers by their ids.

        The value is None for a sampler that the service does not know, or whose description cannot be read.
        Deactivated samplers are left out.

        Raises:
            LoopsError: As every call.
        """
        found: dict[str, Sampler | None] = {}
        if sampler_ids:
            # A key may have the right to get samplers but not to list them.
            with suppress(APIError):
                listed = await self.creator.list_readable()
                found.update((sampler.id, sampler) for sampler in listed if sampler.id in sampler_ids)
        # A sampler that is missing from the list may exist: lists lag, and show only the caller's own.
        unlisted = [sampler_id for sampler_id in sampler_ids if sampler_id not in found]
        found.update(zip(unlisted, await asyncio.gather(*map(self._get_or_none, unlisted)), strict=True))
        return {
            sampler_id: sampler
            for sampler_id, sampler in found.items()
            if sampler is None or sampler.status not in DEACTIVATED
        }

    async def wait_idle(self) -> None:
        """Wait until no create and no deactivation is under way."""
        await self.creator.wait_idle()
        await self.deactivator.wait_idle()

    async def _get_or_none(self, sampler_id: str) -> Sampler | None:
        request = sampler_request(sampler_id)
        try:
            body = await self._transport.send_with_retries(request, Priority.DEACTIVATION)
            return codec.decode_sampler(body, str(request), sampler_id)
        except DecodeError:
            return None
        except LoopsError as exc:
            if classify(exc) is Failure.MISSING:
                return None
            raise
