"""`loops-async list`."""

from __future__ import annotations

import click

from loops_async import LoopsClient

from . import _json
from ._common import Common, common_options
from ._exits import DONE, HELP
from ._formats import columns_of_stdout, format_option, text_of
from ._run import Interrupts
from ._statuses import GONE
from ._words import counted


@click.command(
    "list",
    epilog=f"{HELP} JSON: samplers, newest first, each with the fields of the API.",
    short_help="List samplers, newest first.",
)
@click.option("--status", "statuses", multiple=True, metavar="STATUS", help="Only those with this one; repeatable.")
@click.option("--all", "everything", is_flag=True, help="Those that are shut down or never came up, too.")
@click.option("--scope", type=click.Choice(["org"]), help="Those of the whole organisation, not your own alone.")
@format_option
@common_options
def list_(common: Common, statuses: tuple[str, ...], everything: bool, scope: str | None, form: str) -> int:
    """List samplers, newest first: those that are alive, unless --all or --status asks for others."""
    wanted = {status.upper() for status in statuses}

    async def command(client: LoopsClient, _: Interrupts) -> int:
        samplers = await client.samplers.list(scope=scope)
        if wanted:
            shown = [sampler for sampler in samplers if sampler.status.upper() in wanted]
        else:
            shown = [sampler for sampler in samplers if everything or sampler.status not in GONE]
        if common.as_json:
            _json.write({"samplers": [_json.sampler_fields(sampler) for sampler in shown]})
        else:
            click.echo(text_of(shown, form, columns_of_stdout()) if shown or form != "table" else "", nl=False)
            hidden = len(samplers) - len(shown)
            common.say(f"{counted(len(shown))}" + (f"; {hidden:,} more with --all" if hidden else ""))
        return DONE

    return common.run(command)
