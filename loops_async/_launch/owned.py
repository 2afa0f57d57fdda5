"""The samplers that a launch has to answer for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from attrs import define

from ..errors import LoopsError
from . import journal_records
from .interfaces import Launches
from .journal_file import JournalFile, NoJournal

NEW: Final = 30.0
"""Seconds after its creation for which a sampler that nobody has seen yet may be unknown to parts of the service."""


@define(eq=False)
class Holding:
    """A sampler that is to be released."""

    sampler_id: str
    made_at: float
    """By the event loop's clock."""
    is_seen: bool = False
    """Whether a poll has shown it since."""
    is_going: bool = False
    """Whether it is being released to make room for another."""
    trouble: Exception | None = None
    """What the last attempt to release it came to."""


class Holdings:
    """All that a launch has made and neither released nor handed over; what is left in the end is still billed."""

    def __init__(self, launches: Launches, journal: JournalFile | NoJournal) -> None:
        self._launches = launches
        self._journal = journal
        self._held: dict[str, Holding] = {}
        self._handed_over: set[str] = set()

    def get(self, sampler_id: str | None) -> Holding | None:
        """Return the sampler of that id if it is held."""
        return self._held.get(sampler_id) if sampler_id is not None else None

    def hold(self, sampler_id: str) -> Holding:
        """Answer for a sampler from now on."""
        # Creates for one and the same run may be answered with one and the same sampler.
        holding = self._held.get(sampler_id) or Holding(sampler_id, asyncio.get_running_loop().time())
        if sampler_id not in self._handed_over:
            self._held[sampler_id] = holding
        return holding

    def was_handed_over(self, sampler_id: str | None) -> bool:
        """Tell whether a sampler is the caller's by now."""
        return sampler_id in self._handed_over

    def hand_over(self, holding: Holding) -> asyncio.Future[None]:
        """Leave a sampler to the caller; the future tells when that is in the journal."""
        del self._held[holding.sampler_id]
        self._handed_over.add(holding.sampler_id)
        return self._journal.note(journal_records.HandedOver(holding.sampler_id, datetime.now(UTC)))

    async def let_go(self, holding: Holding, within: float) -> None:
        """Release a sampler, in so many seconds; afterwards nobody answers for it any more.

        Raises:
            Exception: What the last attempt came to; it is still held.
        """
        loop = asyncio.get_running_loop()

        def is_new() -> bool:
            return not holding.is_seen and loop.time() - holding.made_at < NEW

        def troubled(error: LoopsError) -> None:
            holding.trouble = error

        await self._launches.release(holding.sampler_id, within=within, is_new=is_new, troubled=troubled)
        self._held.pop(holding.sampler_id, None)
        # That it could not be written is remembered by the journal; the sampler is released all the same.
        with suppress(OSError):
            await self._journal.append(journal_records.Released(holding.sampler_id, datetime.now(UTC)))
