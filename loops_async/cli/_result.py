"""The result of a launch: which samplers are up, which were deactivated, which are still billed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from attrs import Factory, define

from loops_async import (
    CreateOutcomeUnknown,
    Fleet,
    LaunchError,
    Member,
    MemberState,
    Sampler,
    TeardownError,
)

from ._exits import DONE, TIMEOUT, code_of
from ._json import error_fields, unknown_fields

KEPT: Final = frozenset({MemberState.ACTIVE, MemberState.WAITING})
"""States of members whose sampler the end of the block has kept."""


@define
class Result:
    """The result of a launch; complete once its block has ended."""

    fleet: Fleet | None = None
    """The fleet; None before the block was entered."""
    up_after: dict[str, float] = Factory(dict)
    """Seconds from the beginning of the launch to ACTIVE, by the id of the sampler."""
    is_held: bool = False
    """Whether the samplers that are up are deactivated after all, by the Ctrl-C that ends it."""
    error: BaseException | None = None
    """The exception that ended the launch; None if it ended well."""

    @property
    def code(self) -> int:
        """The exit code, unless a signal decides it."""
        return DONE if self.error is None else code_of(self.error)

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal has ended the launch."""
        return isinstance(self.error, asyncio.CancelledError)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order of the specs."""
        return () if self.fleet is None else self.fleet.members

    @property
    def made(self) -> list[str]:
        """Ids of all samplers that the launch made, in the order of the specs."""
        found: dict[str, None] = {}
        for member in self.members:
            found |= dict.fromkeys(failed.sampler.id for failed in member.failures)
            if member.sampler_id is not None:
                found[member.sampler_id] = None
        return list(found)

    @property
    def kept(self) -> list[str]:
        """Ids of the samplers that stay."""
        left = {*self.still_billed}
        ids = [each.sampler_id for each in self.members if each.state in KEPT and each.sampler_id not in left]
        return [each for each in ids if each is not None]

    @property
    def still_billed(self) -> list[str]:
        """Ids of the samplers that could not be deactivated."""
        error = None if self.fleet is None else self.fleet.teardown_error
        return [] if error is None else list(error.sampler_ids)

    @property
    def deactivated(self) -> list[str]:
        """Ids of the samplers that were deactivated."""
        others = {*self.kept, *self.still_billed}
        return [each for each in self.made if each not in others]

    @property
    def unknown(self) -> list[CreateOutcomeUnknown]:
        """The unknown creates: they may have made samplers that are still billed."""
        return [member.error for member in self.members if isinstance(member.error, CreateOutcomeUnknown)]

    @property
    def unresolved(self) -> tuple[CreateOutcomeUnknown, ...]:
        """The unknown creates of a journal's earlier launches."""
        return () if self.fleet is None else self.fleet.unresolved

    @property
    def active(self) -> list[Sampler]:
        """The samplers that are up, and stay."""
        return [each.sampler for each in self.members if each.sampler is not None and each.state is MemberState.ACTIVE]

    @property
    def errors(self) -> list[BaseException]:
        """The errors to report: those of the members, or the one that ended the launch."""
        error = self.error
        if isinstance(error, LaunchError):
            return list(error.exceptions)
        if error is None:
            return [each.error for each in self.members if each.error is not None and each.state not in KEPT]
        return [] if isinstance(error, (asyncio.CancelledError, TeardownError)) else [error]

    def document(self, code: int, seconds: float, gpu_minutes: float, journal: str | None) -> dict[str, Any]:
        """Return the document of `launch --json` for the exit *code*."""
        kept, error = set[str]() if self.is_held else {*self.kept}, self.error
        outcome = "active" if code == DONE else "interrupted" if self.is_interrupted else "failed"
        document: dict[str, Any] = {
            "outcome": "timeout" if code == TIMEOUT else outcome,
            "exit_code": code,
            "seconds": round(seconds, 3),
            "gpu_minutes": round(gpu_minutes, 3),
            "session_id": None if self.fleet is None else self.fleet.session_id,
            "journal": journal,
            "samplers": [
                {
                    "index": member.index,
                    "base_model": member.spec.base_model,
                    "id": member.sampler_id,
                    "state": member.state,
                    "status": member.status,
                    "base_url": member.sampler.base_url if member.sampler is not None else None,
                    "seconds": self._seconds(member),
                    "error": None if member.error is None else error_fields(member.error),
                    "resumed": member.resumed,
                    "kept": member.sampler_id in kept,
                }
                for member in self.members
            ],
            "deactivated": self.deactivated,
            "still_billed": self.still_billed,
            "unknown": unknown_fields(self.unknown),
            "unresolved": unknown_fields(self.unresolved),
        }
        if error is not None and not isinstance(error, (asyncio.CancelledError, LaunchError)):
            document["error"] = {**error_fields(error), "exit_code": code}
        return document

    def _seconds(self, member: Member) -> float | None:
        after = self.up_after.get(member.sampler_id or "")
        return None if after is None else round(after, 3)
