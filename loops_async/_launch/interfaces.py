"""What launches, and cleaning up after them, ask of a client."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from .._api.unknown_creates import Follower, UnknownCreate
from .._wait.waiter import SupportsWaiting
from ..errors import CreateOutcomeUnknown, LoopsError
from ..models import Sampler, SamplerSpec


class Launches(Protocol):
    """The part of a client that creates, settles and releases samplers on behalf of launches."""

    @property
    def home(self) -> str:
        """The address of the control plane, down to the account or team whose samplers these are."""
        ...

    async def session(self) -> str:
        """Make a session; return its id."""
        ...

    async def take_stock(self) -> None:
        """Note all samplers that the account has by now: no create that begins later can have made them."""
        ...

    async def create(self, session_id: str, spec: SamplerSpec, follower: Follower) -> Sampler:
        """Create a sampler, as `samplers.create()` does, but for a lost one: that is still to be settled."""
        ...

    async def settle(
        self, losses: Sequence[UnknownCreate], *, adopt: bool
    ) -> tuple[Sampler | CreateOutcomeUnknown, ...]:
        """Find out what lost creates may have made; return for each what its caller is to be told, in order."""
        ...

    async def release(
        self,
        sampler_id: str,
        *,
        within: float,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool:
        """Release a sampler, in so many seconds; return False if the service does not know it.

        *is_new* tells whether it is so new that parts of the service may not know it yet, and *troubled* is called with
        what each attempt came to that failed.

        Raises:
            LoopsError: It is still billed, as far as is known.
        """
        ...

    def own(self, *sampler_ids: str) -> None:
        """Note that these samplers are accounted for: no lost create can have made them."""
        ...

    async def look_up(self, sampler_ids: Collection[str]) -> Mapping[str, Sampler | None]:
        """Look samplers up; None for one that nothing can be told of, and nothing for those that are released."""
        ...


class SupportsLaunches(SupportsWaiting, Protocol):
    """What launches need of a client."""

    @property
    def _launches(self) -> Launches: ...
