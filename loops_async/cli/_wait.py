"""`loops-async wait`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click

from loops_async import LoopsClient

from . import _json
from ._common import Common, check_ids, common_options, policy_of, poll_option, timeout_option
from ._exits import HELP
from ._formats import columns_of_stdout, format_option, text_of
from ._progress import progress
from ._run import Interrupts
from ._waits import wait_for
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

    Whatever happens, also Ctrl-C, the samplers stay as they are.
    """

    async def command(client: LoopsClient, _: Interrupts) -> int:
        try:
            async with AsyncExitStack() as stack:
                show = await stack.enter_async_context(progress(stderr=True, quiet=common.quiet))
                waits = await wait_for(
                    client, sampler_ids, timeout=timeout, policy=policy_of(poll, missing_grace=5.0), on_status=show
                )
        except asyncio.CancelledError:
            say("Interrupted. The samplers go on, and are billed.")
            raise
        errors(waits.errors)
        if common.as_json:
            _json.write(waits.document())
        elif waits.up or form != "table":
            click.echo(text_of(waits.up, form, columns_of_stdout()), nl=False)
        return waits.code

    return common.run(command)
