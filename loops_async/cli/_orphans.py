"""`loops-async orphans`."""

from __future__ import annotations

from pathlib import Path

import click

from loops_async import LoopsClient
from loops_async.journal import Orphans
from loops_async.journal import orphans as find

from . import _json
from ._common import Common, common_options, journal_errors
from ._exits import DONE, FAILED, HELP
from ._formats import format_option, write_samplers
from ._words import command_line, counted, how_to_acknowledge, ids, report_unknown


@click.command(
    short_help="Show the samplers of a journal that are still billed.",
    epilog=f"{HELP} Here, 1 is also for anything that is billed, may be billed, or belongs to a control plane or team "
    "that was not asked. JSON: samplers, those that are certain; unknown, each with base_model, candidates and "
    "look_error; missing, a list of ids that the service does not know; elsewhere, each with id and address; kept, a "
    "list of ids that launches kept on purpose.",
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
                    "elsewhere": _json.elsewhere_fields(found.elsewhere),
                    "kept": list(found.kept),
                }
            )
        else:
            code = write_samplers(found.samplers, form)
        common.say(_summary(found))
        if found.samplers:
            common.say(f"  {command_line('deactivate', *common.words(), '--journal', str(journal))}")
        report_unknown(found.unknown, found.missing, found.elsewhere)
        if any(each.look_error is None for each in found.unknown):
            common.say(how_to_acknowledge(common.words(), journal))
        is_left = found.samplers or found.unknown or found.missing or found.elsewhere
        return FAILED if is_left else code

    return common.run(command)


def _summary(found: Orphans) -> str:
    """Count what is billed, what may be, and what is kept."""
    uncertain = (
        (len(found.unknown), "create", "unknown"),
        (len(found.missing), "sampler", "not known to the service"),
        (len(found.elsewhere), "sampler", "of another control plane or team"),
    )
    parts = [f"{counted(number, noun)} {words}" for number, noun, words in uncertain if number]
    parts.insert(0, f"{counted(len(found.samplers))} {'certainly' if parts else 'still'} billed")
    kept = f"; {counted(len(found.kept))} kept on purpose: {ids(found.kept)}" if found.kept else "."
    return ", ".join(parts) + kept
