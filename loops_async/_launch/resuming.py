"""The earlier launches of a journal, and what a new launch does with their samplers.

What happens to a sampler depends on how it was left. Only the ids in the journal count, never names or times:

```text
left by            a member has an equal spec            no member has one
a crash            resumed, if it is up or coming up     deactivated
a good end (kept)  resumed, if it is up or coming up     left alone
detach()           left alone                            left alone
another scope      left alone, with a warning            left alone, with a warning
```

A sampler that has failed, or that the service does not know any more, is not resumed: it is deactivated, which also
shows whether it is gone, and the member gets a new sampler. If a spec has more samplers than members, ready samplers
are taken first, and among them the kept ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

from .._text import counted, some_ids
from .._wait.policy import PollPolicy
from ..errors import CreateOutcomeUnknown, LoopsError, TransportError
from ..models import DeploymentStatus, Sampler, SamplerSpec
from .interfaces import SamplerBackend
from .journal_records import Replay, UnresolvedCreate
from .member import Member

logger = logging.getLogger("loops_async")

CREATE_PROCESSED_WITHIN: Final = timedelta(minutes=5)
"""How long after its intent a create can have been processed: the default timeout of its request."""

FRESH: Final = timedelta(seconds=30)
"""How long after the creation of a sampler parts of the service may not know it."""


class EarlierLaunches:
    """The launches of a journal, for a client of one control plane and one account or team."""

    def __init__(self, backend: SamplerBackend, path: str, replayed: Replay, *, include_kept: bool = False) -> None:
        self._backend = backend
        self._replayed = replayed
        here = backend.scope_url
        self.live = {each: sampler for each, sampler in replayed.live.items() if sampler.scope_url == here}
        """Samplers of this control plane and account or team that were neither deactivated nor detached, by their ids,
        in the order of their creation."""
        others = {each: sampler for each, sampler in replayed.live.items() if sampler.scope_url != here}
        self.elsewhere = {
            each: _named(sampler.scope_url) for each, sampler in others.items() if include_kept or not sampler.is_kept
        }
        """Samplers of another control plane or team, by their ids, and its address. This client cannot ask for them.
        Those that are kept on purpose are left out, unless *include_kept*."""
        if replayed.unreadable:
            lines = ", ".join(map(str, replayed.unreadable))
            logger.warning("journal %s: skipped what is no record, line %s", path, lines)
        unresolved = [create.scope_url for create in replayed.unresolved.values() if create.scope_url != here]
        scopes = {_named(scope_url) for scope_url in (*(sampler.scope_url for sampler in others.values()), *unresolved)}
        if scopes:
            logger.warning(
                "journal %s has samplers at %s, too, which a client of %s leaves alone",
                path,
                ", ".join(sorted(scopes)),
                here,
            )

    def is_fresh(self, sampler_id: str) -> bool:
        """Return True if a live sampler was created less than `FRESH` ago."""
        return datetime.now(UTC) - self.live[sampler_id].at < FRESH

    def mark_known(self) -> None:
        """Have the client retry a 404 for fresh samplers, and make no sampler of the journal a candidate."""
        self._backend.mark_made(*filter(self.is_fresh, self.live), fresh=True)
        self._backend.mark_made(*self._replayed.known, fresh=False)

    async def resolve(self) -> dict[tuple[str, int], CreateOutcomeUnknown]:
        """Search for the samplers that the unresolved creates may have made; call `mark_known()` before.

        The keys are their launches and numbers, as in `Replay.unresolved`.
        """
        creates = self._replayed.unresolved
        errors = await asyncio.gather(*map(self._resolve_one, creates.values()))
        return dict(zip(creates, errors, strict=True))

    def may_acknowledge(self, key: tuple[str, int], error: CreateOutcomeUnknown) -> bool:
        """Return True if an unresolved create can end: its sampler was searched for, and none can still appear."""
        age = datetime.now(UTC) - self._replayed.unresolved[key].at
        return error.look_error is None and age >= CREATE_PROCESSED_WITHIN

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
    """The samplers of earlier launches that a launch resumes, and what it does with the others."""

    samplers: dict[Member, Sampler | str]
    """The sampler that each member resumes, or its id if the service does not describe it yet."""
    kept: tuple[str, ...]
    """Ids of those among them that were kept."""
    unwanted: dict[str, SamplerSpec | None]
    """Ids of the samplers to deactivate, each with its spec; None if the journal does not have it."""
    unresolved: tuple[CreateOutcomeUnknown, ...]
    """The unknown creates of earlier launches."""


async def plan_resumption(
    backend: SamplerBackend, path: str, replayed: Replay, members: Sequence[Member], policy: PollPolicy
) -> Resumption:
    """Decide which samplers of a journal's launches *members* resume. No sampler and no file is changed.

    Raises:
        LoopsError: The requests for the samplers failed.
    """
    earlier = EarlierLaunches(backend, path, replayed)
    earlier.mark_known()
    found = await backend.find(earlier.live)
    ready: list[str] = []
    coming_up: list[str] = []
    for sampler_id in found:
        sampler = found[sampler_id]
        if sampler is None:
            # The service does not know it, or its description cannot be read. For a fresh one, its wait decides.
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
    if ids:
        logger.warning(
            "journal %s: earlier launches left %s that may be billed, and this launch does not use them: %s. To go on "
            "with them, pass resume=True; to deactivate them, call loops_async.journal.reclaim()",
            path,
            counted(len(ids), "sampler"),
            some_ids(ids),
        )
    if unknown:
        logger.warning(
            "journal %s: earlier launches left %s whose outcome is unknown. To see which samplers they may have made, "
            "call loops_async.journal.orphans()",
            path,
            counted(unknown, "create"),
        )


def warn_of_unresolved(path: str, unresolved: Sequence[CreateOutcomeUnknown]) -> None:
    """Log the unknown creates of earlier launches, with the samplers that they may have made."""
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
