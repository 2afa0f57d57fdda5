"""Draws samplers as a table with one line each, for a terminal of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen
from rich.text import Text

from loops_async import DeploymentStatus

from ._live import DONE_STATUSES, Row, Stage, most_telling
from ._words import clean

STYLES: Final[Mapping[str, str]] = {
    DeploymentStatus.BUILDING: "blue",
    DeploymentStatus.DEPLOYING: "cyan",
    DeploymentStatus.LOADING_MODEL: "yellow",
    DeploymentStatus.UPDATING: "yellow",
    DeploymentStatus.SCALED_TO_ZERO: "magenta",
    DeploymentStatus.WAKING_UP: "bright_magenta",
    DeploymentStatus.ACTIVE: "bold green",
}
"""Colours of the statuses of a sampler that is coming up; failed statuses are red."""

GAP: Final = "  "
BAR: Final = (8, 32)
"""Least and most columns of the bar of stages."""
MODEL: Final = (12, 24)
"""Least columns of a base model, and the number above which columns go to the bar first."""


@frozen
class Marks:
    """The characters of a picture that not every terminal has."""

    separator: str
    """Text between the counts and the totals."""
    ellipsis: str
    """Text in place of omitted text."""


UNICODE: Final = Marks(" · ", "…")
ASCII: Final = Marks(" | ", "...")


@frozen
class Layout:
    """Numbers of columns of the parts of a line; a part with 0 is left out."""

    model: int
    sampler: int
    status: int
    elapsed: int
    remaining: int
    bar: int


def picture(
    rows: Sequence[Row],
    *,
    width: int = 80,
    height: int | None = None,
    expected: int = 0,
    totals: Sequence[str] = (),
    mark: str | None = "■",
    is_ascii: bool = False,
) -> list[Text]:
    """Return lines that fit into the terminal: counts by status, a head, and the rows, or the most important ones.

    Args:
        rows: The samplers.
        width: Columns of the terminal.
        height: Most lines to return; None for no limit.
        expected: Number of samplers when all are created.
        totals: Texts to show next to the counts.
        mark: Character of the bars; None to use the first letter of each status, for terminals without colours.
        is_ascii: Whether to add only ASCII characters; *rows* and *totals* are shown as they are.
    """
    shown = list(rows)
    left_out: Counter[str] = Counter()
    marks = ASCII if is_ascii else UNICODE
    # The other three lines are the counts, the head, and the line about the rows that are left out.
    if height is not None and len(rows) > max(1, height - 2):
        shown = most_telling(rows, max(1, height - 3))
        left_out = Counter(row.status for row in rows) - Counter(row.status for row in shown)
    counts = Counter(row.status for row in rows)
    words = [f"{number} {status}" for status, number in counts.items()]
    if expected > len(rows):
        words.append(f"{expected - len(rows)} to be created")
    lines = [_line(marks.separator.join((", ".join(words), *totals)), width, marks)]
    layout = _layout(rows, width)
    scale = max((row.elapsed for row in rows), default=0.0) / layout.bar if layout.bar else 0.0
    model = shortened("base model", layout.model, marks.ellipsis)
    lines.append(_cells(layout, model, "sampler", Text("status"), "elapsed", "to go", Text("stages"), width))
    for row in shown:
        remaining = "" if row.remaining is None else f"~{duration(row.remaining)}" if row.remaining else "any time"
        status = Text(clean(row.status), style_of(row.status))
        bar = _bar(row.stages, layout.bar, scale, mark)
        model = shortened(row.base_model, layout.model, marks.ellipsis)
        lines.append(_cells(layout, model, row.sampler_id, status, duration(row.elapsed), remaining, bar, width))
    if left_out:
        others = ", ".join(f"{number} {status}" for status, number in left_out.items())
        lines.append(_line(f"{marks.ellipsis} and {left_out.total()} more: {others}", width, marks))
    return lines


def style_of(status: str) -> str:
    """Return the style of a status."""
    return STYLES.get(status, "bold red" if status in DONE_STATUSES else "")


def duration(seconds: float) -> str:
    """Write seconds as `12.3s`, `4m05s` or `1h02m`."""
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def shortened(text: str, width: int, ellipsis: str = UNICODE.ellipsis) -> str:
    """Cut the middle out of *text* if it is longer than *width*, since names differ at both ends."""
    text = clean(text)
    if len(text) <= width:
        return text
    room = width - len(ellipsis)
    if room < 3:
        return text[:width]
    head = room // 2
    return f"{text[:head]}{ellipsis}{text[len(text) - (room - head) :]}"


def _layout(rows: Sequence[Row], width: int) -> Layout:
    names = max((len(row.base_model) for row in rows), default=10)
    fixed = {
        "sampler": max([7, *(len(row.sampler_id) for row in rows)]),
        "status": max([14, *(len(row.status) for row in rows)]),
        "elapsed": 7,
        "remaining": 8 if any(row.remaining is not None for row in rows) else 0,
        "bar": BAR[0],
    }
    model = min(max(names, 10), MODEL[1])
    # The least important part is left out first.
    for name in ("bar", "sampler", "remaining", "elapsed"):
        if _columns(model, fixed) > width and _columns(min(model, MODEL[0]), fixed) > width:
            fixed[name] = 0
    # The columns that remain go to the bar first, then to the names.
    room = max(4, width - _columns(0, fixed))
    model = min(model, room)
    if fixed["bar"]:
        grown = min(BAR[1], BAR[0] + room - model)
        room -= grown - BAR[0]
        fixed["bar"] = grown
    model = min(max(names, 10), room)
    return Layout(model=model, **fixed)


def _columns(model: int, fixed: Mapping[str, int]) -> int:
    return model + sum(len(GAP) + each for each in fixed.values() if each)


def _cells(
    layout: Layout, model: str, sampler: str, status: Text, elapsed: str, remaining: str, bar: Text, width: int
) -> Text:
    line = Text(model.ljust(layout.model), no_wrap=True, end="")
    if layout.sampler:
        line.append(GAP + clean(sampler).ljust(layout.sampler))
    status.pad_right(max(0, layout.status - len(status)))
    line.append(GAP).append_text(status)
    if layout.elapsed:
        line.append(GAP + elapsed.rjust(layout.elapsed))
    if layout.remaining:
        line.append(GAP + remaining.rjust(layout.remaining))
    if layout.bar:
        line.append(GAP).append_text(bar)
    line.rstrip()
    line.truncate(width)
    return line


def _line(text: str, width: int, marks: Marks) -> Text:
    line = Text(clean(text), no_wrap=True, end="")
    # rich knows only the ellipsis that is one character.
    line.truncate(width, overflow="ellipsis" if marks is UNICODE else "crop")
    return line


def _bar(stages: Sequence[Stage], width: int, scale: float, mark: str | None) -> Text:
    """Draw each stage with at least one cell; *scale* is the seconds of a cell."""
    cells = [max(1, round(stage.seconds / scale)) if scale > 0 else 1 for stage in stages]
    while sum(cells) > width and max(cells) > 1:
        cells[cells.index(max(cells))] -= 1
    bar = Text()
    for stage, number in zip(stages, cells, strict=True):
        bar.append((mark or clean(stage.status[:1]) or "?") * number, style_of(stage.status))
    bar.truncate(width)
    return bar
