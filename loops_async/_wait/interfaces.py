"""What the status source needs of the two sides it stands between: a client that it asks, and waits that it tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..models import Sampler
from .policy import PollPolicy


class Companion(Protocol):
    """Something that a client has at most one of, and that is closed with it."""

    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Companion)


class Row(Protocol):
    """What a list shows of a sampler without being read whole."""

    id: str

    @property
    def status(self) -> RowStatus: ...


class RowStatus(Protocol):
    """The status of a row; an empty name where it cannot be read."""

    name: str


class Listing(Protocol):
    """A list of samplers, read as far as needed."""

    @property
    def rows(self) -> Sequence[Row | None]: ...

    @property
    def size(self) -> int: ...

    def sampler(self, index: int) -> Sampler: ...


class LazySampler:
    """An item of a list, read when it is first needed and not again."""

    __slots__ = ("_index", "_listing", "_sampler")

    def __init__(self, listing: Listing, index: int) -> None:
        self._listing = listing
        self._index = index
        self._sampler: Sampler | None = None

    def __call__(self) -> Sampler:
        if self._sampler is None:
            self._sampler = self._listing.sampler(self._index)
        return self._sampler


class StatusReader(Protocol):
    """What the source asks of a client."""

    async def get(self, sampler_id: str, *, final: bool) -> tuple[Sampler, int, float]:
        """Ask once for one sampler; return it, the bytes of the answer and the seconds that it took."""
        ...

    async def list(self, *, final: bool, limit: float) -> tuple[Listing, float]:
        """Ask once for all samplers, for *limit* seconds at most; return them and the seconds that it took."""
        ...

    def mark_seen(self, sampler_id: str) -> None:
        """Take that there is such a sampler."""
        ...

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler."""
        ...


class Subscriber(Protocol):
    """A wait, as the source sees it. Times are the event loop's."""

    policy: PollPolicy
    subscribed_at: float
    deadline: float
    """Time of the last look; infinity for none."""

    def next_required_poll(self) -> float:
        """Return the time by which a look is needed whatever the schedule says; infinity for none."""
        ...

    def on_status(self, status: str, sampler: Callable[[], Sampler], requested: float, now: float) -> bool:
        """Take a status, and the sampler if it is needed; return True if the wait is settled."""
        ...

    def on_error(self, error: Exception, requested: float, now: float) -> bool:
        """Take a failure; return True if the wait is settled."""
        ...

    def record_error(self, error: Exception) -> None:
        """Take a trouble that does not settle anything, such as a wake that failed."""
        ...

    def on_deadline(self) -> None:
        """Take that the last look is being taken."""
        ...

    def on_poller_stopped(self, error: Exception) -> None:
        """Take the end of the source; the wait is settled."""
        ...
