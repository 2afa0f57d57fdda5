"""`loops-async timeline`, and the files that `launch --timeline` writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from ._common import journal_errors
from ._drawing import page, svg
from ._exits import DONE, FAILED, HELP
from ._lanes import Chart, of_journal
from ._words import counted, error, say, write_out

KINDS: Final = (".svg", ".html", ".json")


def check_kind(_ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file with another extension, or in a folder that does not exist."""
    if value is not None and value.suffix.lower() not in KINDS:
        raise click.BadParameter(f"{value} must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.", param=param)
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {value.absolute().parent}.", param=param)
    return value


def write(chart: Chart, path: Path, title: str) -> bool:
    """Write a chart in the form of the file's extension; return False after an error, which is reported."""
    match path.suffix.lower():
        case ".html":
            text = page(chart, title)
        case ".json":
            text = as_json(chart)
        case _:
            text = svg(chart)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        error(f"{path}: {exc.strerror or exc}")
        return False
    return True


def _as_xml(text: str, encoding: str | None) -> str:
    """Write characters that *encoding* may lack as references, which are valid in an SVG file."""
    if encoding is not None and encoding.lower().replace("-", "").startswith("utf8"):
        return text
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def as_json(chart: Chart) -> str:
    """Return a chart as JSON."""
    return json.dumps(chart.document(), indent=2) + "\n"


@click.command(
    epilog=f"{HELP} JSON: seconds, note; lanes, each with base_model, id, outcome and spans, each with status, begin "
    "and end in seconds.",
    short_help="Draw the launches of a journal as a chart.",
)
@click.argument("journal", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=check_kind,
    metavar="FILE.svg|html|json",
    help="File to write; the default is SVG on stdout.",
)
@click.option("--json", "is_json", is_flag=True, help="Write JSON to stdout instead of SVG.")
@click.option("-q", "--quiet", is_flag=True, help="Write nothing but errors to stderr.")
def timeline(journal: Path, output: Path | None, is_json: bool, quiet: bool) -> int:
    """Draw when the samplers of JOURNAL were requested, created and deactivated: one lane each.

    A journal has no statuses; `launch --timeline` draws them, too.
    """
    with journal_errors(journal):
        chart = of_journal(journal)
    if output is not None and not write(chart, output, f"Launches of {journal.name}"):
        return FAILED
    if is_json:
        write_out(as_json(chart))
    elif output is None:
        write_out(_as_xml(svg(chart), sys.stdout.encoding))
    if not quiet and output is not None:
        say(f"{counted(len(chart.lanes), 'lane')} in {output}")
    return DONE
