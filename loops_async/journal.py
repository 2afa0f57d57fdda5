"""Clean up after a launch whose process died: read its journal, find its samplers, release them.

The journal is the file that was given to `launch(..., journal=path)`: JSON objects, one a line, whose `event` is
`launch`, `intent`, `created`, `refused`, `released` or `handed_over`. What a launch kept on purpose, with another
`teardown` than `always`, counts as not released, too; what was handed over with `Fleet.release()` does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import field, frozen

from . import _validate
from ._aio import spawn_shielded, wait_through_cancellation
from ._api.unknown_creates import Timestamps, UnknownCreate
from ._launch import journal_records
from ._launch.interfaces import SupportsLaunches
from ._launch.journal_file import JournalFile, read_locked
from ._launch.remains import still_billed
from .errors import CreateOutcomeUnknown, LoopsError, TransportError
from .models import Sampler

__all__ = ["Orphans", "Reclaimed", "orphans", "reclaim"]

logger = logging.getLogger("loops_async")

ANSWERED_WITHIN: Final = timedelta(minutes=5)
"""How long after its intent a create can have been processed: as long as one is given by default."""


NEW: Final = timedelta(seconds=30)
"""How long after its creation a sampler may be unknown to parts of the service."""


def _candidates(unknown: Sequence[CreateOutcomeUnknown]) -> tuple[Sampler, ...]:
    return tuple({sampler.id: sampler for each in unknown for sampler in each.candidates}.values())


@frozen
class Orphans:
    """What a process left alive. Iterating gives all samplers in it: the certain ones, then the candidates."""

    samplers: tuple[Sampler, ...] = field()
    """The samplers that the journal names and that are still to be released, newest first."""
    unknown: tuple[CreateOutcomeUnknown, ...] = field()
    """One for each create whose answer never arrived, with the samplers that it may have made."""
    missing: tuple[str, ...] = field(default=())
    """Ids of samplers that the journal names and of which this client can tell nothing: the service does not know
    them, or they were created at another control plane or for another team, which are not asked about. They may well
    be billed: look for them with the right client."""

    @property
    def candidates(self) -> tuple[Sampler, ...]:
        """The samplers that the unknown creates may have made, each one once; some may be somebody else's."""
        return _candidates(self.unknown)

    def __iter__(self) -> Iterator[Sampler]:
        return iter((*self.samplers, *self.candidates))

    def __len__(self) -> int:
        return len(self.samplers) + len(self.candidates)


@frozen
class Reclaimed:
    """What `reclaim()` did, and what it left alone."""

    released: tuple[str, ...] = field()
    """Ids of the samplers that are certainly released now, in the order of their creation."""
    unknown: tuple[CreateOutcomeUnknown, ...] = field()
    """One for each create whose answer never arrived, with the samplers that it may have made. Nothing was done about
    these: look at them, and deactivate what is yours."""
    missing: tuple[str, ...] = field(default=())
    """Ids of samplers of which this client can tell nothing, as in `Orphans.missing`; they stay in the journal."""

    @property
    def candidates(self) -> tuple[Sampler, ...]:
        """The samplers that the unknown creates may have made, each one once; some may be somebody else's."""
        return _candidates(self.unknown)


async def orphans(client: SupportsLaunches, path: str | os.PathLike[str]) -> Orphans:
    """Find the samplers that the launches of a journal left alive. Nothing is changed, neither there nor in the file.

    Args:
        client: A client of the same account and control plane.
        path: The journal.

    Raises:
        OSError: The journal cannot be read (FileNotFoundError), or its launch still runs (BlockingIOError).
        ValueError: It is a file of something else.
        LoopsError: As every call.

    Source: `GET /v1/loops/samplers`, and `GET /v1/loops/samplers/{sampler_id}` for what that does not show.
    """
    path = _checked(client, path)
    account = await read_locked(path)
    here, elsewhere = _told_apart(client, path, account)
    found = await client._launches.look_up(here)
    samplers = tuple(sampler for sampler in found.values() if sampler is not None)
    missing = tuple(sampler_id for sampler_id, sampler in found.items() if sampler is None)
    return Orphans(samplers, await _unknown(client, account), (*missing, *elsewhere))


async def reclaim(client: SupportsLaunches, path: str | os.PathLike[str], *, timeout: float = 60.0) -> Reclaimed:
    """Deactivate the samplers that the launches of a journal certainly left behind, and note that in the journal.

    Deactivations that fail are repeated. Creates whose answer never arrived are looked for and told of, not acted on.
    A cancel does not cut this short, and comes afterwards. To do it twice does no harm.

    Args:
        client: A client of the same account and control plane.
        path: The journal.
        timeout: Seconds that the deactivations may take, above 0.

    Raises:
        OSError: The journal cannot be read or written, or its launch still runs (BlockingIOError).
        ValueError: It is a file of something else.
        TeardownError: Samplers could not be deactivated and are still billed; it holds the unknown creates, too, and
            the ids of those that were `deactivated`.

    Source: `POST /v1/loops/samplers/{sampler_id}/deactivate`, and what `orphans()` asks.
    """
    path = _checked(client, path)
    timeout = _validate.require_number("timeout", timeout, exclusive=True)
    journal = await JournalFile.open(path, create=False)
    work = spawn_shielded(_reclaim(client, journal, timeout))
    cancelled = await wait_through_cancellation(work)
    if cancelled is not None:
        raise cancelled from work.exception()
    result = work.result()
    if journal.failure is not None:
        raise journal.failure
    return result


async def _reclaim(client: SupportsLaunches, journal: JournalFile, timeout: float) -> Reclaimed:
    try:
        account = await journal.read()
        return await _reclaim_of(client, journal, account, timeout)
    finally:
        await journal.close()


async def _reclaim_of(
    client: SupportsLaunches, journal: JournalFile, account: journal_records.Replay, timeout: float
) -> Reclaimed:
    here, elsewhere = _told_apart(client, journal.path, account)
    troubles: dict[str, Exception] = {}
    tasks = {
        sampler_id: spawn_shielded(_release(client, journal, sampler_id, held.at, timeout, troubles))
        for sampler_id, held in here.items()
    }
    if tasks:
        _, late = await asyncio.wait(tasks.values(), timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
    outcomes = {sampler_id: None if task.cancelled() else task.result() for sampler_id, task in tasks.items()}
    unknown = await _unknown(client, account)
    billed = {
        sampler_id: troubles.get(sampler_id) or TransportError(f"no answer in {timeout:g} s")
        for sampler_id, outcome in outcomes.items()
        if outcome is None
    }
    released = tuple(sampler_id for sampler_id, outcome in outcomes.items() if outcome)
    if billed:
        error = still_billed(billed, unknown, released)
        assert error is not None  # noqa: S101 -- something is billed
        raise error
    return Reclaimed(
        released,
        unknown,
        (*(sampler_id for sampler_id, outcome in outcomes.items() if not outcome), *elsewhere),
    )


async def _release(
    client: SupportsLaunches,
    journal: JournalFile,
    sampler_id: str,
    made_at: datetime,
    timeout: float,
    troubles: dict[str, Exception],
) -> bool | None:
    """Release a sampler; return False if the service does not know it, None if that failed."""

    def is_new() -> bool:
        return datetime.now(UTC) - made_at < NEW

    def troubled(error: Exception) -> None:
        troubles[sampler_id] = error

    try:
        released = await client._launches.release(sampler_id, within=timeout, is_new=is_new, troubled=troubled)
    except Exception as exc:  # noqa: BLE001 -- whatever it is, the id must be told
        troubled(exc.with_traceback(None))
        exc.add_note(f"sampler {sampler_id} is still billed, as far as is known")
        return None
    if released:
        # A failure is remembered by the journal, and raised in the end.
        journal.note(journal_records.Released(sampler_id, datetime.now(UTC)))
    return released


async def _unknown(client: SupportsLaunches, account: journal_records.Replay) -> tuple[CreateOutcomeUnknown, ...]:
    client._launches.own(*account.known)
    losses = [
        UnknownCreate(_lost(each), Timestamps(each.at), Timestamps(each.at + ANSWERED_WITHIN))
        for each in account.open.values()
    ]
    here = [loss for loss, each in zip(losses, account.open.values(), strict=True) if _is_here(client, each.home)]
    told: dict[UnknownCreate, Sampler | CreateOutcomeUnknown] = {loss: _elsewhere(loss) for loss in losses}
    if here:
        told.update(zip(here, await client._launches.settle(here, adopt=False), strict=True))
    return tuple(each for each in told.values() if isinstance(each, CreateOutcomeUnknown))


def _lost(create: journal_records.UnresolvedCreate) -> CreateOutcomeUnknown:
    unknown = CreateOutcomeUnknown(create.spec)
    words = f"the process ended before the create of {create.at:%Y-%m-%d %H:%M:%S} UTC was answered"
    unknown.__cause__ = TransportError(words)
    return unknown


def _elsewhere(loss: UnknownCreate) -> CreateOutcomeUnknown:
    return loss.told(look_error=LoopsError("it was sent to another control plane, or for another team"))


def _is_here(client: SupportsLaunches, home: str) -> bool:
    return home == client._launches.home


def _told_apart(
    client: SupportsLaunches, path: str, account: journal_records.Replay
) -> tuple[dict[str, journal_records.LiveSampler], tuple[str, ...]]:
    """Return the samplers that this client may speak of, and the ids of all others: an id says nothing elsewhere."""
    if account.unreadable:
        lines = ", ".join(map(str, account.unreadable))
        logger.warning("journal %s: passed over what is no record, line %s", path, lines)
    here = {sampler_id: held for sampler_id, held in account.held.items() if _is_here(client, held.home)}
    homes = {each.home for each in account.held.values()} | {each.home for each in account.open.values()}
    if homes := homes - {client._launches.home}:
        made, asked = ", ".join(sorted(homes)), client._launches.home
        logger.warning(
            "journal %s is about samplers at %s, too, which a client of %s cannot tell of", path, made, asked
        )
    return here, tuple(sampler_id for sampler_id in account.held if sampler_id not in here)


def _checked(client: object, path: object) -> str:
    if not hasattr(client, "_launches"):
        raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"the journal must be a str or a path, not {type(path).__name__}")
    return _validate.require_str("journal", os.fspath(path))
