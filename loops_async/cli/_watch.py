"""`loops-async watch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import click

from loops_async import LoopsClient, Sampler, StatusChange, wait_until_active, wait_until_down

from . import _json
from ._common import Common, check_ids, common_options, policy_of, poll_option, timeout_option
from ._exits import DONE, HELP
from ._formats import own_samplers
from ._progress import Display
from ._wait import wait_for_each
from ._words import errors


@click.command(
    epilog=f"{HELP} JSON: one object a line, for each change with id, base_model, previous, status, seconds and "
    "base_url, and at the end for each sampler that failed with id and error.",
    short_help="Show the statuses of samplers until they are up, or down.",
)
@click.argument("sampler_ids", metavar="[ID]...", nargs=-1, callback=check_ids)
@timeout_option(None)
@click.option(
    "--until-down",
    is_flag=True,
    help="Wait until all of them have stopped serving, and show only that. One that is scaled to zero has not.",
)
@poll_option
@common_options
def watch(
    common: Common, sampler_ids: tuple[str, ...], timeout: float | None, until_down: bool, poll: float | None
) -> int:
    """Show each status change of samplers until all are ACTIVE or failed: of each ID, or else of all of yours.

    It changes nothing: samplers that are scaled to zero are not woken, and none is deactivated on Ctrl-C.
    """

    async def command(client: LoopsClient) -> int:
        samplers: Sequence[Sampler | str] = sampler_ids or await own_samplers(client)
        if not samplers:
            common.say("You have no samplers that are billed.")
            return DONE
        policy = policy_of(poll, wake=False, missing_grace=5.0)
        async with AsyncExitStack() as stack:
            show: Callable[[StatusChange], None] = _write
            if not common.as_json:
                show = (await stack.enter_async_context(Display(quiet=common.quiet))).changed

            async def until_active(sampler: Sampler | str) -> Sampler:
                return await wait_until_active(client, sampler, timeout=timeout, policy=policy, on_status=show)

            async def down(sampler: Sampler | str) -> Sampler:
                change = await wait_until_down(client, sampler, timeout=timeout, policy=policy)
                show(change)
                return change.sampler

            waits = await wait_for_each(samplers, down if until_down else until_active)
        errors(waits.errors)
        if common.as_json:
            for sampler_id, error in waits.failures.items():
                _json.write_line({"id": sampler_id, "error": _json.error_fields(error)})
        return waits.code

    return common.run(command)


def _write(change: StatusChange) -> None:
    _json.write_line(_json.change_fields(change))
