"""What became of a launch: who is up, what was released, what is still billed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from attrs import Factory, define, field

from loops_async import CreateOutcomeUnknown, LaunchError, Member, Sampler, TeardownError

from ._exits import DONE, INTERRUPTED, TIMEOUT, code_of
from ._json import error_fields, unknown_fields

OUTCOMES = {DONE: "active", TIMEOUT: "timeout", INTERRUPTED: "interrupted"}


@define
class Result:
    """What is known of a launch; complete once its block has ended."""

    session_id: str | None = None
    members: Sequence[Member] = ()
    up_after: dict[str, float] = Factory(dict)
    """Seconds from the launch's beginning to ACTIVE, by sampler."""
    error: BaseException | None = None
    """What the launch ended by; None if it went well."""
    code: int = field(default=DONE)

    def end(self, error: BaseException, interrupted: int = INTERRUPTED) -> None:
        """Take what the launch ended by."""
        self.error = error
        self.code = interrupted if isinstance(error, asyncio.CancelledError) else code_of(error)

    @property
    def made(self) -> list[str]:
        """Ids of all samplers that are known to have been made, in the order of the specs."""
        found: dict[str, None] = {}
        for member in self.members:
            found |= dict.fromkeys(failed.sampler.id for failed in member.failures)
            if member.sampler_id is not None:
                found[member.sampler_id] = None
        return list(found)

    @property
    def kept(self) -> list[str]:
        """Ids of those that stay: all that did not fail, if the launch went well."""
        if self.error is not None:
            return []
        return [member.sampler_id for member in self.members if member.sampler_id is not None and self._stays(member)]

    @property
    def still_billed(self) -> list[str]:
        """Ids of those that should have been released and could not be."""
        left = self._left()
        return list(left.sampler_ids) if left is not None else []

    @property
    def released(self) -> list[str]:
        """Ids of those that were released."""
        others = {*self.kept, *self.still_billed}
        return [each for each in self.made if each not in others]

    @property
    def unknown(self) -> list[CreateOutcomeUnknown]:
        """The creates whose answer was lost: they may have made samplers that nobody has released."""
        found = [member.error for member in self.members if isinstance(member.error, CreateOutcomeUnknown)]
        left = self._left()
        more = [] if left is None else [each for each in left.exceptions if isinstance(each, CreateOutcomeUnknown)]
        return list({id(each): each for each in (*found, *more)}.values())

    @property
    def active(self) -> list[Sampler]:
        """The samplers that came up and stay."""
        if self.error is not None:
            return []
        return [member.sampler for member in self.members if member.sampler is not None]

    @property
    def troubles(self) -> list[BaseException]:
        """What to tell of as errors: those of the members, or the one that ended the launch."""
        error = self.error
        if isinstance(error, LaunchError):
            return list(error.exceptions)
        if error is None:
            return [each.error for each in self.members if each.error is not None and not self._stays(each)]
        return [] if isinstance(error, (asyncio.CancelledError, TeardownError)) else [error]

    def document(self, seconds: float, journal: str | None) -> dict[str, Any]:
        """Return what `launch --json` writes."""
        kept, error = set(self.kept), self.error
        document: dict[str, Any] = {
            "outcome": OUTCOMES.get(self.code, "interrupted" if self.code > INTERRUPTED - 2 else "failed"),
            "exit_code": self.code,
            "seconds": round(seconds, 3),
            "session_id": self.session_id,
            "journal": journal,
            "samplers": [
                {
                    "index": member.index,
                    "base_model": member.spec.base_model,
                    "id": member.sampler_id,
                    "status": member.status,
                    "base_url": member.sampler.base_url if member.sampler is not None else None,
                    "seconds": self._seconds(member),
                    "error": None if member.error is None else error_fields(member.error),
                    "kept": member.sampler_id in kept,
                }
                for member in self.members
            ],
            "released": self.released,
            "still_billed": self.still_billed,
            "unknown": unknown_fields(self.unknown),
        }
        if error is not None and not isinstance(error, (asyncio.CancelledError, LaunchError)):
            document["error"] = error_fields(error)
        return document

    def _seconds(self, member: Member) -> float | None:
        after = self.up_after.get(member.sampler_id or "")
        return None if after is None else round(after, 3)

    def _stays(self, member: Member) -> bool:
        # What was still on its way when the block ended well got a RuntimeError, and goes on coming up.
        return member.error is None or type(member.error) is RuntimeError

    def _left(self) -> TeardownError | None:
        error = self.error
        while error is not None and not isinstance(error, TeardownError):
            error = error.__cause__
        return error
