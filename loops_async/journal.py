"""Clean up after a launch whose process died: read its journal, find its samplers, release them.

The journal is the file that was given to `launch(..., journal=path)`: JSON objects, one a line, whose `event` is
`launch`, `intent`, `created`, `refused`, `released` or `handed_over`. What a launch kept on purpose, with another
`teardown` than `always`, counts as not released, too; what was handed over with `Fleet.release()` does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from attrs import field, frozen

from . import _checks, _journal
from ._journal_file import JournalFile, read_locked
from ._losses import Loss, Moment
from ._remains import still_billed
from ._shield import outlast, protected
from .errors import CreateOutcomeUnknown, LoopsError, TransportError
from .models import Sampler, SamplerSpec

__all__ = ["Orphans", "Reclaimed", "orphans", "reclaim"]

logger = logging.getLogger("loops_async")

ANSWERED_WITHIN: Final = timedelta(minutes=5)
"""How long after its intent a create can have been processed: as long as one is given by default."""


NEW: Final = timedelta(seconds=30)
"""How long after its creation a sampler may be unknown to parts of the service."""


class Launches(Protocol):
    """What cleaning up asks of a client."""

    @property
    def base_url(self) -> str: ...
    def own(self, *sampler_ids: str) -> None: ...
    async def look_up(self, sampler_ids: Collection[str]) -> Mapping[str, Sampler | None]: ...
    async def settle(self, losses: Sequence[Loss], *, adopt: bool) -> tuple[Sampler | CreateOutcomeUnknown, ...]: ...
    async def release(
        self,
        sampler_id: str,
        *,
        within: float,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool: ...


class SupportsCleaning(Protocol):
    """What cleaning up needs of a client."""

    @property
    def _launches(self) -> Launches: ...


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
    """Ids of samplers that the journal names and the service does not know: those of another account or another
    control plane, most likely, for which somebody with the right key should look."""

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
    """Ids of samplers that the service does not know, as in `Orphans.missing`; they stay in the journal."""

    @property
    def candidates(self) -> tuple[Sampler, ...]:
        """The samplers that the unknown creates may have made, each one once; some may be somebody else's."""
        return _candidates(self.unknown)


async def orphans(client: SupportsCleaning, path: str | os.PathLike[str]) -> Orphans:
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
    _warn(client, path, account)
    found = await client._launches.look_up(account.held)
    samplers = tuple(sampler for sampler in found.values() if sampler is not None)
    missing = tuple(sampler_id for sampler_id, sampler in found.items() if sampler is None)
    return Orphans(samplers, await _unknown(client, account), missing)


async def reclaim(client: SupportsCleaning, path: str | os.PathLike[str], *, timeout: float = 60.0) -> Reclaimed:
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
        TeardownError: Samplers could not be released and are still billed; it holds the unknown creates, too.

    Source: `POST /v1/loops/samplers/{sampler_id}/deactivate`, and what `orphans()` asks.
    """
    path = _checked(client, path)
    timeout = _checks.number("timeout", timeout, exclusive=True)
    journal = await JournalFile.open(path, create=False)
    try:
        _warn(client, path, journal.account)
        work = protected(_reclaim(client, journal, timeout))
        cancelled = await outlast(work)
    finally:
        await journal.close()
    if cancelled is not None:
        raise cancelled from work.exception()
    if journal.failure is not None:
        raise journal.failure
    return work.result()


async def _reclaim(client: SupportsCleaning, journal: JournalFile, timeout: float) -> Reclaimed:
    held = journal.account.held
    troubles: dict[str, Exception] = {}
    tasks = {sampler_id: protected(_release(client, journal, sampler_id, timeout, troubles)) for sampler_id in held}
    if tasks:
        _, late = await asyncio.wait(tasks.values(), timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
    outcomes = {sampler_id: None if task.cancelled() else task.result() for sampler_id, task in tasks.items()}
    unknown = await _unknown(client, journal.account)
    billed = {
        sampler_id: troubles.get(sampler_id) or TransportError(f"no answer in {timeout:g} s")
        for sampler_id, outcome in outcomes.items()
        if outcome is None
    }
    if billed:
        error = still_billed(billed, unknown)
        assert error is not None  # noqa: S101 -- something is billed
        raise error
    return Reclaimed(
        tuple(sampler_id for sampler_id, outcome in outcomes.items() if outcome),
        unknown,
        tuple(sampler_id for sampler_id, outcome in outcomes.items() if not outcome),
    )


async def _release(
    client: SupportsCleaning,
    journal: JournalFile,
    sampler_id: str,
    timeout: float,
    troubles: dict[str, Exception],
) -> bool | None:
    """Release a sampler; return False if the service does not know it, None if that failed."""
    made_at = journal.account.held[sampler_id]

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
        journal.note(_journal.Released(sampler_id, datetime.now(UTC)))
    return released


async def _unknown(client: SupportsCleaning, account: _journal.Account) -> tuple[CreateOutcomeUnknown, ...]:
    if not account.open:
        return ()
    client._launches.own(*account.known)
    losses = [
        Loss(_lost(each.spec, each.at), Moment(each.at), Moment(each.at + ANSWERED_WITHIN))
        for each in account.open.values()
    ]
    verdicts = await client._launches.settle(losses, adopt=False)
    return tuple(each for each in verdicts if isinstance(each, CreateOutcomeUnknown))


def _lost(spec: SamplerSpec, at: datetime) -> CreateOutcomeUnknown:
    unknown = CreateOutcomeUnknown(spec)
    unknown.__cause__ = TransportError(
        f"the process ended before the create of {at:%Y-%m-%d %H:%M:%S} UTC was answered"
    )
    return unknown


def _checked(client: object, path: object) -> str:
    if not hasattr(client, "_launches"):
        raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"the journal must be a str or a path, not {type(path).__name__}")
    return _checks.text("journal", os.fspath(path))


def _warn(client: SupportsCleaning, path: str, account: _journal.Account) -> None:
    if account.unreadable:
        lines = ", ".join(map(str, account.unreadable))
        logger.warning("journal %s: passed over what is no record, line %s", path, lines)
    if elsewhere := account.planes - {client._launches.base_url}:
        made, asked = ", ".join(sorted(elsewhere)), client._launches.base_url
        logger.warning("journal %s was written by launches at %s, and %s is asked about it", path, made, asked)
