"""`loops-async orphans`."""

from __future__ import annotations

from pathlib import Path

import click

from loops_async import LoopsClient
from loops_async.journal import orphans as find

from . import _json
from ._common import Common, common_options, journal_errors
from ._exits import DONE, HELP
from ._formats import format_option, write_samplers
from ._words import command_line, counted, ids, report_unknown


@click.command(
    short_help="Show the samplers of a journal that are still billed.",
    epilog=f"{HELP} JSON: samplers, those that are certain; unknown, each with base_model and candidates; missing, "
    "a list of ids that the service does not know; kept, a list of ids that launches kept on purpose.",
)
@click.argument("journal", type=click.Path(dir_okay=False, path_type=Path))
@format_option
@common_options
def orphans(common: Common, journal: Path, form: str) -> int:
    """Show the samplers that the launches of JOURNAL made and did not deactivate. Nothing is changed.

    For samplers that a launch kept on purpose, because it ended well, only the ids are shown.
    """

    async def command(client: LoopsClient) -> int:
        with journal_errors(journal):
            found = await find(client, journal)
        code = DONE
        if common.as_json:
            common.write(
                {
                    "samplers": [_json.fields_of(sampler) for sampler in found.samplers],
                    "unknown": _json.unknown_fields(found.unknown),
                    "missing": list(found.missing),
                    "kept": list(found.kept),
                }
            )
        else:
            code = write_samplers(found.samplers, form)
        kept = f"; {counted(len(found.kept))} kept on purpose: {ids(found.kept)}" if found.kept else "."
        common.say(f"{counted(len(found.samplers))} still billed{kept}")
        if found.samplers:
            common.say(f"  {command_line('deactivate', *common.words(), '--journal', str(journal))}")
        report_unknown(found.unknown, found.missing)
        return code

    return common.run(command)
