"""Writes samplers in forms for people and for scripts."""

from __future__ import annotations

import csv
import io
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import click

from loops_async import DeploymentStatus, LoopsClient, Sampler
from loops_async.models import TEARDOWN_DONE, TEARDOWN_IN_PROGRESS

from ._exits import DONE, FAILED
from ._words import clean, error, ids, write_out

FORMATS: Final = ("table", "urls", "env", "csv")

COLUMNS: Final = ("id", "base_model", "status", "base_url", "created_at", "model_id", "deployment_id")
"""Columns of `--format csv`."""

FORMATS_OF_ADDRESSES: Final = frozenset({"urls", "env"})
"""Forms with only the ACTIVE samplers, which need the addresses of these."""

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="Form of the samplers on stdout; urls and env contain only those that are ACTIVE.",
)


def is_billed(sampler: Sampler) -> bool:
    """Return True if a sampler was not deactivated and has not failed: it can cost money at any time."""
    return sampler.status not in TEARDOWN_DONE | TEARDOWN_IN_PROGRESS


async def own_samplers(client: LoopsClient) -> list[Sampler]:
    """Return the caller's samplers that are billed, newest first."""
    return [sampler for sampler in await client.samplers.list() if is_billed(sampler)]


def text_of(samplers: Sequence[Sampler], form: str, width: int | None = None) -> str:
    """Return samplers in one of the `FORMATS`; *width* is the width of the terminal, for tables."""
    active = [each for each in samplers if each.status == DeploymentStatus.ACTIVE and each.base_url]
    match form:
        case "urls":
            return "".join(f"{sampler.base_url}\n" for sampler in active)
        case "env":
            return _env(active)
        case "csv":
            return _csv(samplers)
        case _:
            return "".join(f"{line}\n" for line in table_lines(samplers, width))


def write_samplers(samplers: Sequence[Sampler], form: str) -> int:
    """Write samplers to stdout in one of the `FORMATS`, but no table without rows; return the exit code.

    It is FAILED if `urls` or `env` leave out samplers that are ACTIVE, but have no address; they are reported.
    """
    if samplers or form != "table":
        write_out(text_of(samplers, form, columns_of_stdout()))
    if form not in FORMATS_OF_ADDRESSES:
        return DONE
    left_out = [each.id for each in samplers if each.status == DeploymentStatus.ACTIVE and not each.base_url]
    if left_out:
        error(f"ACTIVE, but without an address so far: {ids(left_out)}")
    return FAILED if left_out else DONE


def columns_of_stdout() -> int | None:
    """Return the width of the terminal that stdout is; None if it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(samplers: Sequence[Sampler], width: int | None = None) -> list[str]:
    """List samplers, one a line; a URL that does not fit has a line of its own, so that it can be copied."""
    rows = [tuple(map(clean, (each.base_model, each.id, str(each.status), each.base_url or ""))) for each in samplers]
    head = ("BASE MODEL", "SAMPLER", "STATUS", "URL")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(4)]
    is_wide = width is None or sum(widths) + 6 <= width
    if width is not None and sum(widths[:3]) + 4 > width:
        widths = [0] * 4
    lines = []
    for row in (head, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row[:3], widths, strict=False)]
        if is_wide:
            lines.append("  ".join((*cells, row[3])).rstrip())
        else:
            lines.append("  ".join(cells).rstrip())
            if row is not head and row[3]:
                lines.append(f"  {row[3]}")
    return lines


def url_lines(samplers: Iterable[Sampler], width: int | None = None) -> list[str]:
    """List samplers with their base URLs, one line each if they all fit into *width* columns (None: no limit).

    Otherwise each URL has a line of its own, so that it can be copied even if the terminal breaks it.
    """
    samplers = tuple(samplers)
    models = max((len(sampler.base_model) for sampler in samplers), default=0)
    lines = [f"{sampler.base_model:<{models}}  {sampler.id}  {sampler.base_url}" for sampler in samplers]
    if width is None or all(len(line) <= width for line in lines):
        return lines
    return [
        line
        for sampler in samplers
        for line in (f"{sampler.base_model}  {sampler.id}", f"  {sampler.base_url}".rstrip())
    ]


def _env(samplers: Sequence[Sampler]) -> str:
    """Return assignments for `eval`, or for a file that a shell sources."""
    values = {"COUNT": str(len(samplers)), "IDS": " ".join(sampler.id for sampler in samplers)}
    for number, sampler in enumerate(samplers):
        values[f"{number}_ID"] = sampler.id
        values[f"{number}_MODEL"] = sampler.base_model
        values[f"{number}_URL"] = sampler.base_url
    return "".join(f"export LOOPS_SAMPLER_{name}={shlex.quote(value)}\n" for name, value in values.items())


def _csv(samplers: Sequence[Sampler]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in samplers:
        writer.writerow(
            (
                each.id,
                each.base_model,
                each.status,
                each.base_url or "",
                each.created_at.isoformat(),
                each.model_id or "",
                each.deployment_id or "",
            )
        )
    return written.getvalue()
