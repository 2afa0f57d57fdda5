"""What a journal says about earlier launches, and what a new launch does with it.

A sampler that earlier launches left is one of these; only the ids of the journal count, never names or times:

```text
left by            a member has an equal spec            no member has
a crash            resumed, if it is up or coming up     deactivated
a good end (kept)  resumed, if it is up or coming up     left alone
detach()           left alone                            left alone
another scope      left alone, with a warning            left alone, with a warning
```

What has failed, or is not known to the service any more, is no resume: it is deactivated, which is carefully done and
so finds out what is gone, and the member gets a new sampler. If there are more samplers than members of a spec, those
that are ready are taken first, and among these the kept ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

from .._wait.policy import PollPolicy
from ..errors import CreateOutcomeUnknown, LoopsError, TransportError
from ..models import DeploymentStatus, Sampler, SamplerSpec
from .interfaces import SamplerBackend
from .journal_records import Replay, UnresolvedCreate
from .member import Member
from .messages import counted, some_ids

logger = logging.getLogger("loops_async")

CREATE_PROCESSED_WITHIN: Final = timedelta(minutes=5)
"""How long after its intent a create can have been processed: as long as one is given by default."""

FRESH: Final = timedelta(seconds=30)
"""How long after its creation a sampler may be unknown to parts of the service."""


class EarlierLaunches:
    """The launches of a journal, as a client of one control plane and account or team sees them."""

    def __init__(self, backend: SamplerBackend, path: str, replayed: Replay) -> None:
        self._backend = backend
        self._replayed = replayed
        here = backend.scope_url
        self.live = {each: sampler for each, sampler in replayed.live.items() if sampler.scope_url == here}
        """Samplers of this control plane and account or team that were neither deactivated nor detached, by their ids,
        in the order of their creation."""
        self.elsewhere = {
            each: _named(sampler.scope_url) for each, sampler in replayed.live.items() if sampler.scope_url != here
        }
        """Samplers of another control plane or team, by their ids, and its address: an id means nothing elsewhere."""
        if replayed.unreadable:
            lines = ", ".join(map(str, replayed.unreadable))
            logger.warning("journal %s: skipped what is no record, line %s", path, lines)
        unresolved = [create.scope_url for create in replayed.unresolved.values() if create.scope_url != here]
        scopes = {*self.elsewhere.values(), *map(_named, unresolved)}
        if scopes:
            logger.warning(
                "journal %s has samplers at %s, too, which a client of %s leaves alone",
                path,
                ", ".join(sorted(scopes)),
                here,
            )

    def is_fresh(self, sampler_id: str) -> bool:
        """Return True if a live sampler was created a moment ago."""
        return datetime.now(UTC) - self.live[sampler_id].at < FRESH

    def mark_known(self) -> None:
        """Have patience with 404 for fresh samplers, and take no sampler of the journal for an unknown create's."""
        self._backend.mark_made(*filter(self.is_fresh, self.live), fresh=True)
        self._backend.mark_made(*self._replayed.known, fresh=False)

    async def resolve(self) -> dict[tuple[str, int], CreateOutcomeUnknown]:
        """Look for what the creates without an end may have made; call `mark_known()` before.

        The keys are their launches and numbers, as in `Replay.unresolved`.
        """
        creates = self._replayed.unresolved
        errors = await asyncio.gather(*map(self._resolve_one, creates.values()))
        return dict(zip(creates, errors, strict=True))

    async def _resolve_one(self, create: UnresolvedCreate) -> CreateOutcomeUnknown:
        words = f"the process ended before the create of {create.at:%Y-%m-%d %H:%M:%S} UTC was answered"
        cause = TransportError(words)
        if create.scope_url == self._backend.scope_url:
            ended_by = create.at + CREATE_PROCESSED_WITHIN
            return await self._backend.resolve_earlier(create.spec, create.at, ended_by, cause)
        elsewhere = LoopsError(f"it was sent to {_named(create.scope_url)}, which is not asked")
        error = CreateOutcomeUnknown(create.spec, (), elsewhere)
        error.__cause__ = cause
        return error


def _named(scope_url: str) -> str:
    return scope_url or "an address that the journal does not name"


@frozen
class Resumption:
    """What a launch takes up of earlier ones, and what it does with the rest."""

    samplers: dict[Member, Sampler | str]
    """The sampler that each member resumes, or its id if the service does not describe it yet."""
    kept: tuple[str, ...]
    """Ids of those among them that were kept."""
    unwanted: dict[str, SamplerSpec | None]
    """Samplers that are to be deactivated, and their specs as far as they are known."""
    unresolved: tuple[CreateOutcomeUnknown, ...]
    """The unknown creates of earlier launches."""


async def plan_resumption(
    backend: SamplerBackend, path: str, replayed: Replay, members: Sequence[Member], policy: PollPolicy
) -> Resumption:
    """Decide what *members* resume of the launches of a journal. Nothing is changed, neither there nor in the file.

    Raises:
        LoopsError: The samplers could not be looked up.
    """
    earlier = EarlierLaunches(backend, path, replayed)
    earlier.mark_known()
    found = await backend.find(earlier.live)
    ready: list[str] = []
    coming_up: list[str] = []
    for sampler_id in found:
        sampler = found[sampler_id]
        if sampler is None:
            # Unknown to the service, or not readable. Only its own wait can say so of one that is fresh.
            if earlier.is_fresh(sampler_id):
                coming_up.append(sampler_id)
        elif sampler.status in policy.ready:
            ready.append(sampler_id)
        elif _may_come_up(sampler, policy):
            coming_up.append(sampler_id)
    usable = defaultdict[SamplerSpec | None, list[str]](list)
    for group in (ready, coming_up):
        for sampler_id in sorted(group, key=lambda each: not earlier.live[each].is_kept):
            usable[earlier.live[sampler_id].spec].append(sampler_id)
    samplers: dict[Member, Sampler | str] = {}
    taken: set[str] = set()
    for member in members:
        if usable[member.spec]:
            sampler_id = usable[member.spec].pop(0)
            samplers[member] = found[sampler_id] or sampler_id
            taken.add(sampler_id)
    specs = {member.spec for member in members}
    usable_ids = {*ready, *coming_up}
    unwanted = {
        sampler_id: live.spec
        for sampler_id, live in earlier.live.items()
        if sampler_id not in taken and (not live.is_kept or (live.spec in specs and sampler_id not in usable_ids))
    }
    kept = tuple(each for each in taken if earlier.live[each].is_kept)
    return Resumption(samplers, kept, unwanted, tuple((await earlier.resolve()).values()))


def _may_come_up(sampler: Sampler, policy: PollPolicy) -> bool:
    is_in_grace = sampler.status == DeploymentStatus.UNHEALTHY and policy.unhealthy_grace > 0
    return sampler.status not in policy.failed or is_in_grace


def warn_of_left(path: str, scope_url: str, replayed: Replay) -> None:
    """Log what earlier launches left at *scope_url*, for a launch that does not resume: it would stay billed unseen."""
    ids = [each for each, live in replayed.live.items() if live.scope_url == scope_url and not live.is_kept]
    unknown = sum(create.scope_url == scope_url for create in replayed.unresolved.values())
    parts = []
    if ids:
        parts.append(f"{counted(len(ids), 'sampler')} that may be billed: {some_ids(ids)}")
    if unknown:
        parts.append(f"{counted(unknown, 'create')} whose outcome is unknown")
    if parts:
        logger.warning(
            "journal %s: earlier launches left %s. This launch takes up nothing of that: pass resume=True to go on "
            "with it, or call loops_async.journal.reclaim() to deactivate it",
            path,
            "; and ".join(parts),
        )


def warn_of_unresolved(path: str, unresolved: Sequence[CreateOutcomeUnknown]) -> None:
    """Log that there are unknown creates of earlier launches, and the samplers that they may have made."""
    if not unresolved:
        return
    candidates = list(dict.fromkeys(sampler.id for create in unresolved for sampler in create.candidates))
    logger.warning(
        "journal %s: the outcome of %s of earlier launches is unknown (all of them are in fleet.unresolved); "
        "samplers that may have been made, and may be billed: %s. Once you have deactivated yours among them, call "
        "loops_async.journal.reclaim(acknowledge_unknown=True), so that this is not reported again",
        path,
        counted(len(unresolved), "create"),
        some_ids(candidates, "fleet.unresolved") or "none that is listed",
    )
