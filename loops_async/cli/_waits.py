"""Wait for several samplers at once, and sum up the results."""

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
    """The results of waits for several samplers."""

    outcomes: dict[str, Sampler | Exception]
    """The sampler that is up, or the error of its wait, by id, in the order of the arguments."""

    @property
    def up(self) -> list[Sampler]:
        """The samplers that are up."""
        return [each for each in self.outcomes.values() if isinstance(each, Sampler)]

    @property
    def failures(self) -> dict[str, Exception]:
        """The errors of the others, by id."""
        return {each: outcome for each, outcome in self.outcomes.items() if isinstance(outcome, Exception)}

    @property
    def errors(self) -> list[Exception]:
        """The errors of the others."""
        return list(self.failures.values())

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
    """Wait until each one of *samplers* is up or has failed; an exception from *on_status* ends all waits."""

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
        # An exception from *on_status*, such as one for a reader that has gone away, is the same for all.
        raise failures.exceptions[0] from None
    return Waits({each: task.result() for each, task in tasks.items()})
