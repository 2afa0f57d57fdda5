"""`loops-async list`."""

from __future__ import annotations

import difflib

import click

from loops_async import DeploymentStatus, LoopsClient

from . import _json
from ._common import Common, common_options
from ._exits import DONE, HELP
from ._formats import format_option, is_billed, write_samplers
from ._words import counted


def _statuses(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> frozenset[str]:
    """Check the names, in upper or lower case; click's own Choice would show them in lower case."""
    known = [status.value for status in DeploymentStatus]
    for value in values:
        if value.upper() not in known:
            near = difflib.get_close_matches(value.upper(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
            raise click.BadParameter(f"{value!r} is not a status; {hint}", param=param)
    return frozenset(value.upper() for value in values)


@click.command(
    "list",
    epilog=f"{HELP} JSON: samplers, newest first, each with the fields of the API.",
    short_help="List samplers, newest first.",
)
@click.option(
    "--status",
    "statuses",
    callback=_statuses,
    multiple=True,
    metavar="STATUS",
    help="Only samplers with this status; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Also samplers that were deactivated or have failed.")
@click.option("--scope", type=click.Choice(["org"]), help="Samplers of the whole organisation, not only your own.")
@format_option
@common_options
def list_(common: Common, statuses: frozenset[str], everything: bool, scope: str | None, form: str) -> int:
    """List samplers, newest first: those that are billed, unless --all or --status asks for others."""

    async def command(client: LoopsClient) -> int:
        samplers = await client.samplers.list(scope=scope)
        if statuses:
            shown = [sampler for sampler in samplers if sampler.status in statuses]
        else:
            shown = [sampler for sampler in samplers if everything or is_billed(sampler)]
        if common.as_json:
            common.write({"samplers": [_json.fields_of(sampler) for sampler in shown]})
            return DONE
        code = write_samplers(shown, form)
        hidden = len(samplers) - len(shown)
        common.say(f"{counted(len(shown))}" + (f"; {hidden:,} more with --all" if hidden else ""))
        return code

    return common.run(command)
