"""`loops-async wait`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import click

from loops_async import LoopsClient

from ._common import Common, check_ids, common_options, policy_of, poll_option, timeout_option
from ._exits import HELP
from ._formats import FORMATS_OF_ADDRESSES, columns_of_stdout, format_option, report_without_address, text_of
from ._progress import progress
from ._run import Interrupts
from ._waits import wait_for
from ._words import errors, say, write_out


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

    async def command(client: LoopsClient, _: Interrupts) -> int:
        try:
            async with AsyncExitStack() as stack:
                show = await stack.enter_async_context(progress(stderr=True, quiet=common.quiet))
                waits = await wait_for(
                    client, sampler_ids, timeout=timeout, policy=policy_of(poll, missing_grace=5.0), on_status=show
                )
        except asyncio.CancelledError:
            say("Interrupted. The samplers were not deactivated, and are billed.")
            raise
        errors(waits.errors)
        if common.as_json:
            common.write(waits.document())
        elif waits.up or form != "table":
            write_out(text_of(waits.up, form, columns_of_stdout()))
            if form in FORMATS_OF_ADDRESSES:
                return waits.code or report_without_address(waits.up)
        return waits.code

    return common.run(command)
