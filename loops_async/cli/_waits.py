"""Wait for several samplers at once, and sum up what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from loops_async import LoopsClient, LoopsError, PollPolicy, Sampler, StatusChange, wait_until_active

from ._exits import DONE, code_of_all
from ._json import error_fields, sampler_fields


@frozen
class Waits:
    """What became of samplers that were waited for."""

    outcomes: dict[str, Sampler | Exception]
    """The sampler that is up, or why it is not, by id, in the order in which they were asked for."""

    @property
    def up(self) -> list[Sampler]:
        """Those that are ACTIVE."""
        return [each for each in self.outcomes.values() if isinstance(each, Sampler)]

    @property
    def errors(self) -> list[Exception]:
        """What the others came to."""
        return [each for each in self.outcomes.values() if isinstance(each, Exception)]

    @property
    def code(self) -> int:
        """The exit code."""
        return code_of_all(self.errors) if self.errors else DONE

    def document(self) -> dict[str, Any]:
        """Return what `--json` writes."""
        samplers = []
        for sampler_id, outcome in self.outcomes.items():
            sampler = outcome if isinstance(outcome, Sampler) else getattr(outcome, "sampler", None)
            error = error_fields(outcome) if isinstance(outcome, Exception) else None
            known = sampler_fields(sampler) if isinstance(sampler, Sampler) else {"id": sampler_id}
            samplers.append({**known, "error": error})
        return {"exit_code": self.code, "samplers": samplers}


async def wait_for(
    client: LoopsClient,
    samplers: Sequence[Sampler | str],
    *,
    timeout: float | None,
    policy: PollPolicy,
    on_status: Callable[[StatusChange], object],
) -> Waits:
    """Wait until each one of *samplers* has settled; what *on_status* raises ends all waits."""

    async def outcome(sampler: Sampler | str) -> Sampler | Exception:
        try:
            return await wait_until_active(client, sampler, timeout=timeout, policy=policy, on_status=on_status)
        except LoopsError as exc:
            return exc

    by_id = {sampler if isinstance(sampler, str) else sampler.id: sampler for sampler in samplers}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {each: group.create_task(outcome(sampler)) for each, sampler in by_id.items()}
    except ExceptionGroup as failures:
        # What *on_status* raised, such as that nobody reads what it writes, is the same for all.
        raise failures.exceptions[0] from None
    return Waits({each: task.result() for each, task in tasks.items()})
