"""The parts of a client that launches use, as Protocols, since this package does not import `_api`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from ..errors import CreateOutcomeUnknown, DecodeError, LoopsError
from ..models import Sampler, SamplerSpec


class UnknownCreate(Protocol):
    """A create that may or may not have made a sampler."""

    def error(self, candidates: Iterable[Sampler] = (), look_error: Exception | None = None) -> CreateOutcomeUnknown:
        """Return the error for it."""
        ...


class CreateOutcome(Protocol):
    """The outcome of a create: a sampler whose id is known, or an unknown create."""

    @property
    def sampler_id(self) -> str | None: ...

    @property
    def sampler(self) -> Sampler | None: ...

    @property
    def error(self) -> DecodeError | None: ...

    @property
    def unknown(self) -> UnknownCreate | None: ...


class CreateObserver(Protocol):
    """Receives the events of one create."""

    async def before_send(self) -> None:
        """Called right before each POST. Raising here prevents it."""
        ...

    def on_rejected(self) -> None:
        """Called when a POST has certainly made no sampler."""
        ...

    def may_send_again(self) -> bool:
        """Return True if the create may be sent again after a POST that has made no sampler."""
        ...


class SamplerBackend(Protocol):
    """Creates, deactivates and finds samplers."""

    @property
    def scope_url(self) -> str:
        """Address of the control plane, down to the account or team."""
        ...

    @property
    def rate_limit(self) -> float | None:
        """Requests of one endpoint that start within any second; None for no limit."""
        ...

    async def new_session(self) -> str:
        """Create a session; return its id."""
        ...

    async def create(self, session_id: str, spec: SamplerSpec, observer: CreateObserver) -> CreateOutcome:
        """Create a sampler; return the outcome. Raises LoopsError if no sampler was made."""
        ...

    async def resolve(self, create: Any) -> CreateOutcomeUnknown:
        """Search for the sampler that an unknown create of this backend may have made."""
        ...

    async def resolve_earlier(
        self, spec: SamplerSpec, sent_at: datetime, ended_by: datetime, cause: LoopsError
    ) -> CreateOutcomeUnknown:
        """Search for the sampler that an unknown create of another process may have made."""
        ...

    async def deactivate_within(
        self, sampler_id: str, seconds: float, *, on_error: Callable[[LoopsError], None]
    ) -> bool:
        """Deactivate a sampler within *seconds*; return False if the service does not know it.

        *on_error* is called with the error of each attempt that fails.

        Raises:
            LoopsError: It is still billed, as far as is known.
        """
        ...

    def mark_made(self, *sampler_ids: str, fresh: bool) -> None:
        """Record that the create of these samplers is known; *fresh* is whether it was less than 30 s ago."""
        ...

    async def find(self, sampler_ids: Collection[str]) -> Mapping[str, Sampler | None]:
        """Get samplers by their ids; None for one that the service does not know. Deactivated ones are left out."""
        ...
