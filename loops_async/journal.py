"""Clean up after a launch whose process died: read its journal, find its samplers, deactivate them.

The journal is the file of `launch(..., journal=path)`: JSON objects, one a line, whose `event` is `launch`, `intent`,
`rejected`, `created`, `acknowledged`, `resumed`, `deactivated`, `detached` or `kept`. Samplers that a block has kept on
purpose (it ended well, with another `teardown` than `always`) and those that were detached are left alone. To go on
with the samplers instead, pass the journal to `launch(..., journal=path, resume=True)`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from attrs import field, frozen

from . import _validate
from ._aio import spawn_shielded, wait_through_cancellation
from ._launch import journal_records
from ._launch.journal_file import JournalFile, check_path, read_locked
from ._launch.resuming import EarlierLaunches
from ._launch.teardown import run_until, teardown_error
from .errors import CreateOutcomeUnknown, TransportError
from .models import Sampler

if TYPE_CHECKING:
    from ._client import LoopsClient
    from ._launch.interfaces import SamplerBackend

logger = logging.getLogger("loops_async")

__all__ = ["Orphans", "Reclaimed", "orphans", "reclaim"]


def _candidates(unknown: Sequence[CreateOutcomeUnknown]) -> tuple[Sampler, ...]:
    return tuple({sampler.id: sampler for each in unknown for sampler in each.candidates}.values())


@frozen
class Orphans:
    """The samplers that a process left billed. Iterating yields all of them: the certain ones, then the candidates.

    Attributes:
        samplers: The samplers that the journal names and that are not deactivated, newest first.
        unknown: One `CreateOutcomeUnknown` for each create whose response never arrived, with the samplers that it may
            have made.
        missing: Ids of samplers that the journal names and the service does not know, or describes in a way that cannot
            be read. They may be billed all the same, for another account.
        kept: Ids of samplers that a block kept on purpose; no request is sent for them.
        elsewhere: Samplers that belong to another control plane or team, by their ids, and its address. It is not
            asked, and they may be billed: ask with a client of that control plane and team.
    """

    samplers: tuple[Sampler, ...] = field()
    unknown: tuple[CreateOutcomeUnknown, ...] = field()
    missing: tuple[str, ...] = field(default=())
    kept: tuple[str, ...] = field(default=())
    elsewhere: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def candidates(self) -> tuple[Sampler, ...]:
        """The samplers that the unknown creates may have made, each one once; some may belong to others."""
        return _candidates(self.unknown)

    def __iter__(self) -> Iterator[Sampler]:
        return iter((*self.samplers, *self.candidates))

    def __len__(self) -> int:
        return len(self.samplers) + len(self.candidates)


@frozen
class Reclaimed:
    """What `reclaim()` did, and what it left alone.

    Attributes:
        deactivated: Ids of the samplers that are certainly deactivated now, in the order of their creation.
        unknown: One `CreateOutcomeUnknown` for each create whose response never arrived, with the samplers that it may
            have made. These were left alone: check them, and deactivate those that are yours.
        missing: Ids of samplers that the service does not know, as in `Orphans.missing`; they stay in the journal.
        kept: Ids of samplers that a block kept on purpose, and that were left alone.
        acknowledged: The unknown creates that *acknowledge_unknown* has ended: the journal does not report them again.
        elsewhere: Samplers of another control plane or team, as in `Orphans.elsewhere`; they stay in the journal.
    """

    deactivated: tuple[str, ...] = field()
    unknown: tuple[CreateOutcomeUnknown, ...] = field()
    missing: tuple[str, ...] = field(default=())
    kept: tuple[str, ...] = field(default=())
    acknowledged: tuple[CreateOutcomeUnknown, ...] = field(default=())
    elsewhere: Mapping[str, str] = field(factory=dict, hash=False)

    @property
    def candidates(self) -> tuple[Sampler, ...]:
        """The samplers that the unknown creates may have made, each one once; some may belong to others."""
        return _candidates(self.unknown)


async def orphans(client: LoopsClient, path: str | os.PathLike[str], *, include_kept: bool = False) -> Orphans:
    """Find the samplers that the launches of a journal left billed. No sampler and no file is changed.

    Args:
        client: A client of the same account and control plane.
        path: The journal.
        include_kept: Whether samplers that a block kept on purpose are included, too.

    Raises:
        OSError: The journal cannot be read (FileNotFoundError), or its launch still runs (BlockingIOError).
        ValueError: The file is no journal.
        LoopsError: As every call.

    Source: `GET /v1/loops/samplers`, and `GET /v1/loops/samplers/{sampler_id}` for samplers that it does not show.
    """
    path = _checked(client, path)
    backend = client._service
    earlier = EarlierLaunches(backend, path, await read_locked(path), include_kept=include_kept)
    earlier.mark_known()
    billed, kept = _divided(earlier, include_kept)
    found = await backend.find(billed)
    samplers = tuple(sampler for sampler in found.values() if sampler is not None)
    missing = tuple(sampler_id for sampler_id, sampler in found.items() if sampler is None)
    unknown = tuple((await earlier.resolve()).values())
    return Orphans(samplers, unknown, missing, kept, earlier.elsewhere)


async def reclaim(
    client: LoopsClient,
    path: str | os.PathLike[str],
    *,
    timeout: float = 60.0,
    include_kept: bool = False,
    acknowledge_unknown: bool = False,
) -> Reclaimed:
    """Deactivate the samplers that the launches of a journal certainly left billed, and record that in the journal.

    Deactivations that fail are retried. The samplers that a create without a response may have made are reported and
    left alone. A cancellation does not cut this short, and is raised afterwards. It may be called again.

    Args:
        client: A client of the same account and control plane.
        path: The journal.
        timeout: Seconds that the deactivations may take, above 0.
        include_kept: Whether samplers that a block kept on purpose are deactivated, too.
        acknowledge_unknown: Whether the caller confirms to handle the unknown creates: the journal then has an end for
            each of them, and nothing reports them again. Their candidates are left alone as ever. Some creates stay
            unknown: those for which this client cannot search, since the search failed or they belong to another
            control plane or team, and those of the last five minutes, which the service may still process. If this call
            raises, all of them stay unknown.

    Raises:
        OSError: The journal cannot be read or written, or its launch still runs (BlockingIOError).
        ValueError: The file is no journal.
        TeardownError: Samplers could not be deactivated and are still billed; it holds the unknown creates, too, and
            the ids of those that were `deactivated`.

    Source: `POST /v1/loops/samplers/{sampler_id}/deactivate`, and what `orphans()` asks.
    """
    path = _checked(client, path)
    timeout = _validate.require_number("timeout", timeout, exclusive=True)
    if not isinstance(acknowledge_unknown, bool):
        raise TypeError(f"acknowledge_unknown must be a bool, not {type(acknowledge_unknown).__name__}")
    file = await JournalFile.open(path, create=False)
    work = spawn_shielded(_reclaim(client._service, file, timeout, include_kept, acknowledge_unknown))
    cancelled = await wait_through_cancellation(work)
    acknowledged: Mapping[tuple[str, int], CreateOutcomeUnknown] = {}
    # If the caller does not get the result, the creates must be reported again.
    if cancelled is None and work.exception() is None:
        acknowledged = work.result()[1]
    end = spawn_shielded(_end(file, acknowledged))
    cancelled_at_end = await wait_through_cancellation(end)
    if cancelled_at_end is not None:
        for each in acknowledged.values():
            logger.warning("acknowledged in the journal, and not reported again: %s", each)
    if (cancelled := cancelled or cancelled_at_end) is not None:
        raise cancelled from work.exception()
    result, _ = work.result()
    end.result()
    if file.failure is not None:
        raise file.failure
    return result


async def _end(file: JournalFile, acknowledged: Iterable[tuple[str, int]]) -> None:
    """Write that these creates are acknowledged, and close the journal."""
    for launch, create in acknowledged:
        file.append_nowait(journal_records.Acknowledged(launch, create, datetime.now(UTC)))
    await file.close()


async def _reclaim(
    backend: SamplerBackend, file: JournalFile, timeout: float, include_kept: bool, acknowledge_unknown: bool
) -> tuple[Reclaimed, dict[tuple[str, int], CreateOutcomeUnknown]]:
    """Return the result, and the creates among it that the journal is to record as acknowledged."""
    earlier = EarlierLaunches(backend, file.path, await file.read(), include_kept=include_kept)
    earlier.mark_known()
    owned, kept = _divided(earlier, include_kept)
    deactivated: set[str] = set()
    missing: list[str] = []
    errors: dict[str, Exception] = {}

    async def deactivate(sampler_id: str) -> None:
        def on_error(error: Exception) -> None:
            errors[sampler_id] = error

        try:
            is_known = await backend.deactivate_within(sampler_id, timeout, on_error=on_error)
        except Exception as exc:  # noqa: BLE001 -- the id is reported with any error
            on_error(exc.with_traceback(None))
            exc.add_note(f"sampler {sampler_id} is still billed, as far as is known")
            return
        if is_known:
            deactivated.add(sampler_id)
            # The journal keeps a failure to write, which is raised at the end.
            file.append_nowait(journal_records.Deactivated(sampler_id, datetime.now(UTC)))
        else:
            missing.append(sampler_id)

    end_at = asyncio.get_running_loop().time() + timeout
    await run_until({sampler_id: partial(deactivate, sampler_id) for sampler_id in owned}, end_at)
    resolved = await earlier.resolve()
    in_order = tuple(sampler_id for sampler_id in owned if sampler_id in deactivated)
    no_longer_billed = {*deactivated, *missing}
    billed = {
        sampler_id: errors.get(sampler_id) or TransportError(f"no response in {timeout:g} s")
        for sampler_id in owned
        if sampler_id not in no_longer_billed
    }
    if error := teardown_error(billed, tuple(resolved.values()), in_order) if billed else None:
        raise error
    ended = {key: each for key, each in resolved.items() if acknowledge_unknown and earlier.may_acknowledge(key, each)}
    unknown = tuple(each for key, each in resolved.items() if key not in ended)
    acknowledged = tuple(ended.values())
    return Reclaimed(in_order, unknown, tuple(missing), kept, acknowledged, earlier.elsewhere), ended


def _divided(earlier: EarlierLaunches, include_kept: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of the samplers to deactivate, and of those that are kept on purpose."""
    billed: list[str] = []
    kept: list[str] = []
    for sampler_id, sampler in earlier.live.items():
        (kept if sampler.is_kept and not include_kept else billed).append(sampler_id)
    return tuple(billed), tuple(kept)


def _checked(client: object, path: object) -> str:
    if not hasattr(client, "_launches"):
        raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
    return check_path(path)
