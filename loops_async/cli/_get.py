"""`loops-async get`."""

from __future__ import annotations

import click

from loops_async import LoopsClient

from . import _json
from ._common import Common, check_ids, common_options
from ._exits import DONE, HELP
from ._formats import format_option, write_samplers


def _check(ctx: click.Context, param: click.Parameter, value: str) -> str:
    check_ids(ctx, param, (value,))
    return value


@click.command(epilog=f"{HELP} JSON: sampler, with the fields of the API.", short_help="Show a sampler.")
@click.argument("sampler_id", metavar="ID", callback=_check)
@format_option
@common_options
def get(common: Common, sampler_id: str, form: str) -> int:
    """Show the sampler ID as it is now, whatever its status."""

    async def command(client: LoopsClient) -> int:
        sampler = await client.samplers.get(sampler_id)
        if common.as_json:
            common.write({"sampler": _json.fields_of(sampler)})
            return DONE
        return write_samplers([sampler], form)

    return common.run(command)
