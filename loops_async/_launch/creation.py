"""One create of a launch, as its journal and its teardown see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from .._api.unknown_creates import UnknownCreate
from ..errors import CreateOutcomeUnknown, TransportError
from ..models import Sampler, SamplerSpec
from . import journal_records
from .journal_file import JournalFile, NoJournal


class Creation:
    """One create of a member, from its place in the queue to its outcome."""

    def __init__(
        self,
        spec: SamplerSpec,
        journal: JournalFile | NoJournal,
        launch_id: str,
        number: int,
        is_too_late: Callable[[], bool],
    ) -> None:
        self.spec = spec
        self.is_out = False
        """Whether it may have made a sampler that nobody knows yet: then it must not be cut off."""
        self.is_over = False
        """Whether it has made a sampler."""
        self.loss: UnknownCreate | None = None
        self.verdict: asyncio.Future[Sampler | CreateOutcomeUnknown] = asyncio.get_running_loop().create_future()
        """What a lost one is found to have made."""
        self._journal = journal
        self._launch_id = launch_id
        self._number = number
        self._is_too_late = is_too_late
        self._task = asyncio.current_task()

    async def sending(self) -> None:
        """Write down that the POST is about to be sent."""
        try:
            intent = journal_records.Intent.of(self._launch_id, self._number, datetime.now(UTC), self.spec)
            await self._journal.append(intent)
        except BaseException:
            # It may be on the disk, or get there, and is not sent all the same.
            self._note_refused()
            raise
        self.is_out = True

    def refused(self) -> None:
        """Take that the POST made nothing."""
        self.is_out = False
        self._note_refused()
        if self._is_too_late() and self._task is not None:
            # It would be sent again after a while, and there is nobody to send it for any more.
            self._task.cancel()

    def lost(self, loss: UnknownCreate) -> None:
        """Take that nobody knows what the POST made."""
        self.loss = loss

    def _note_refused(self) -> None:
        self._journal.note(journal_records.Refused(self._launch_id, self._number, datetime.now(UTC)))

    async def made(self, sampler_id: str) -> None:
        """Write down what it made."""
        self.is_out, self.is_over = False, True
        await self._journal.append(
            journal_records.Created(self._launch_id, self._number, datetime.now(UTC), sampler_id)
        )

    def give_up(self, reason: str) -> None:
        """Settle a lost create without having looked."""
        if self.loss is not None and not self.verdict.done():
            self.verdict.set_result(self.loss.told(look_error=TransportError(reason)))
