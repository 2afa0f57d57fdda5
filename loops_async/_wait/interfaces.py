"""What the poller needs of its two sides: a client that reads statuses, and waits that subscribe to them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from ..models import Sampler
from .policy import PollPolicy


class Attention(Enum):
    """What a subscriber wants to be shown from now on."""

    NOTHING = "nothing"
    """The wait is done."""
    CHANGES = "changes"
    """The next answer with another status."""
    EVERY_ANSWER = "every answer"
    """The next answer, even with the same status: the wait depends on the time, or on details of the sampler."""


# Members of an enumeration are slow to look up, and these are used for each answer of each wait.
NOTHING: Final = Attention.NOTHING
CHANGES: Final = Attention.CHANGES
EVERY_ANSWER: Final = Attention.EVERY_ANSWER


class Row(Protocol):
    """The part of a listed sampler that can be read without building a model."""

    id: str

    @property
    def status(self) -> RowStatus: ...


class RowStatus(Protocol):
    """The status of a row; its name is empty if it cannot be read."""

    name: str


class Listing(Protocol):
    """A list of samplers, read as far as needed."""

    @property
    def rows(self) -> Sequence[Row | None]: ...

    @property
    def size(self) -> int: ...

    def sampler(self, index: int) -> Sampler:
        """Build the sampler at *index*."""
        ...

    def item(self, index: int) -> object:
        """Return what `StatusReader.read()` builds the sampler at *index* from, and nothing else of the list."""
        ...


class LazySampler:
    """The sampler of an answer. That of a list is built when it is first needed, and then kept."""

    __slots__ = ("_index", "_item", "_listing", "_sampler")

    def __init__(self, sampler: Sampler | None, listing: Listing | None = None, index: int = 0) -> None:
        self._sampler = sampler
        self._listing = listing
        self._index = index
        self._item: object = None

    def __call__(self) -> Sampler:
        """Return the sampler.

        Raises:
            LoopsError: It cannot be built from what the service sent.
        """
        if self._sampler is None:
            assert self._listing is not None  # noqa: S101 -- there is a sampler or a list
            self._sampler = self._listing.sampler(self._index)
        return self._sampler

    def item(self) -> object:
        """Return the sampler if it is built, or else what `StatusReader.read()` builds it from.

        A list is megabytes large: what is kept for later must not hold it.
        """
        if self._sampler is not None:
            return self._sampler
        if self._item is None and self._listing is not None:
            self._item = self._listing.item(self._index)
        return self._item


class StatusReader(Protocol):
    """What the poller asks of a client."""

    @property
    def probe_slots(self) -> int:
        """Number of probes that may run at once, at least 1."""
        ...

    async def get(self, sampler_id: str, *, final: bool) -> tuple[Sampler, int, float]:
        """Ask once for one sampler; return it, the size of the answer in bytes, and the seconds that it took."""
        ...

    async def list(self, *, final: bool, limit: float) -> tuple[Listing, float]:
        """Ask once for all samplers, for at most *limit* seconds; return them and the seconds that it took."""
        ...

    def read(self, item: object) -> Sampler | None:
        """Build a sampler from an item of a list; return None if it cannot be read."""
        ...

    def mark_seen(self, sampler_id: str) -> None:
        """Record that a sampler exists, so that no unknown create can be taken for its origin."""
        ...

    async def wake(self, sampler: Sampler) -> None:
        """Wake a sampler."""
        ...

    async def answers(self, sampler: Sampler) -> bool:
        """Return whether a sampler answers a sample of one token; the probe that is taken by default."""
        ...


class Subscriber(Protocol):
    """A wait, as the poller sees it. Times are the event loop's."""

    policy: PollPolicy
    subscribed_at: float
    """Time at which the wait subscribed; only answers to later requests count for it."""
    deadline: float
    """Time of the final poll; infinity if there is none."""

    def next_required_poll(self) -> float:
        """Return the time by which a poll is needed, even if none is due; infinity if there is no such time."""
        ...

    def on_status(self, status: str, sampler: LazySampler, requested: float, now: float) -> Attention:
        """Handle a status; calling *sampler* builds the sampler."""
        ...

    def on_error(self, error: Exception, requested: float, now: float) -> bool:
        """Handle a poll that failed; return True if the wait is done."""
        ...

    def record_error(self, error: Exception) -> None:
        """Keep an error that does not end the wait, such as a failed wake."""
        ...

    def on_deadline(self) -> None:
        """Called when the final poll is sent."""
        ...

    def on_poller_stopped(self, error: Exception) -> None:
        """End the wait with *error*, since no poll will follow."""
        ...
