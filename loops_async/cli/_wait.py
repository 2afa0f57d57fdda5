"""`loops-async wait`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import click
from attrs import frozen

from loops_async import LoopsClient, LoopsError, Sampler, wait_until_active

from ._common import Common, check_ids, common_options, policy_of, poll_option, timeout_option
from ._exits import DONE, HELP, code_of_all
from ._formats import format_option, write_samplers
from ._json import error_fields, fields_of
from ._progress import Display
from ._words import errors, say


@click.command(
    epilog=f"{HELP} JSON: exit_code; samplers, in the order of the IDs, each with the fields of the API and error.",
    short_help="Wait until samplers are ACTIVE.",
)
@click.argument("sampler_ids", metavar="ID...", nargs=-1, required=True, callback=check_ids)
@timeout_option(3600.0)
@poll_option
@format_option
@common_options
def wait(common: Common, sampler_ids: tuple[str, ...], timeout: float | None, poll: float | None, form: str) -> int:
    """Wait until each sampler ID is ACTIVE; those that are scaled to zero are woken.

    The samplers are never deactivated, also not on Ctrl-C.
    """

    async def command(client: LoopsClient) -> int:
        policy = policy_of(poll, missing_grace=5.0)
        try:
            async with Display(stderr=True, quiet=common.quiet) as display:

                async def until_active(sampler: Sampler | str) -> Sampler:
                    return await wait_until_active(
                        client, sampler, timeout=timeout, policy=policy, on_status=display.changed
                    )

                waits = await wait_for_each(sampler_ids, until_active)
        except asyncio.CancelledError:
            say("Interrupted. The samplers were not deactivated, and are billed.")
            raise
        errors(waits.errors)
        if common.as_json:
            common.write(waits.document())
            return waits.code
        code = write_samplers(waits.up, form)
        return waits.code or code

    return common.run(command)


@frozen
class Waits:
    """The results of waits for several samplers."""

    outcomes: dict[str, Sampler | Exception]
    """The sampler that is up, or the error of the wait, by id, in the order of the arguments."""

    @property
    def up(self) -> list[Sampler]:
        """The samplers that are up."""
        return [each for each in self.outcomes.values() if isinstance(each, Sampler)]

    @property
    def failures(self) -> dict[str, Exception]:
        """The errors of the waits that failed, by id."""
        return {each: outcome for each, outcome in self.outcomes.items() if isinstance(outcome, Exception)}

    @property
    def errors(self) -> list[Exception]:
        """The errors of the waits that failed."""
        return list(self.failures.values())

    @property
    def code(self) -> int:
        """The exit code."""
        return code_of_all(self.errors) if self.errors else DONE

    def document(self) -> dict[str, Any]:
        """Return the document of `--json`."""
        samplers = []
        for sampler_id, outcome in self.outcomes.items():
            sampler = outcome if isinstance(outcome, Sampler) else getattr(outcome, "sampler", None)
            error = error_fields(outcome) if isinstance(outcome, Exception) else None
            known = fields_of(sampler) if isinstance(sampler, Sampler) else {"id": sampler_id}
            samplers.append({**known, "error": error})
        return {"exit_code": self.code, "samplers": samplers}


async def wait_for_each(
    samplers: Iterable[Sampler | str], wait: Callable[[Sampler | str], Awaitable[Sampler]]
) -> Waits:
    """Run *wait* for all *samplers* at the same time; an exception that is no `LoopsError` ends all waits."""

    async def outcome(sampler: Sampler | str) -> Sampler | Exception:
        try:
            return await wait(sampler)
        except LoopsError as exc:
            return exc

    by_id = {sampler if isinstance(sampler, str) else sampler.id: sampler for sampler in samplers}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {each: group.create_task(outcome(sampler)) for each, sampler in by_id.items()}
    except ExceptionGroup as failures:
        # An exception from `on_status`, such as one for a closed pipe, is the same for all waits.
        raise failures.exceptions[0] from None
    return Waits({each: task.result() for each, task in tasks.items()})
