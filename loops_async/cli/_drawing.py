"""Draws a chart of lanes as SVG, alone or in an HTML page. All text in it is escaped, since it comes from outside."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from ._lanes import CREATED, CREATING, UNANSWERED, Chart, Lane, Span
from ._picture import duration, shortened
from ._words import clean

COLOURS: Final[Mapping[str, str]] = {
    CREATING: "#d0d7de",
    CREATED: "#57ab5a",
    UNANSWERED: "#d4534c",
    "BUILDING": "#5b8fd9",
    "DEPLOYING": "#3fb6c6",
    "LOADING_MODEL": "#e3b341",
    "UPDATING": "#b98b2f",
    "SCALED_TO_ZERO": "#c792d6",
    "WAKING_UP": "#8f5fb8",
    "ACTIVE": "#3d9950",
    "DEACTIVATING": "#9aa4ae",
    "INACTIVE": "#6e7781",
    "UNHEALTHY": "#d98032",
}
BAD: Final = "#d4534c"
OTHER: Final = "#8c959f"

LEFT, PLOT, RIGHT, TOP, BOTTOM = 300, 640, 190, 64, 16
WIDTH: Final = LEFT + PLOT + RIGHT
GAP: Final = 10
"""Pixels between a label and what is beside it."""

STYLE: Final = "font-family: ui-sans-serif, system-ui, Helvetica, Arial, sans-serif; font-size: 12px"


def svg(chart: Chart) -> str:
    """Return the chart as an SVG document."""
    lane_height = 20 if len(chart.lanes) <= 60 else 14 if len(chart.lanes) <= 200 else 5
    bottom = TOP + lane_height * len(chart.lanes)
    legend = _legend(chart)
    height = bottom + BOTTOM + (22 if chart.note else 0)
    size = f'width="{WIDTH}" height="{height}"'
    scale = PLOT / chart.seconds if chart.seconds > 0 else 0.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" style="{STYLE}" role="img">',
        f"<title>{_text(f'{len(chart.lanes)} samplers in {duration(chart.seconds)}')}</title>",
        f'<rect {size} fill="#ffffff"/>',
        *legend,
        *_axis(chart.seconds, scale, bottom),
    ]
    before = None
    for index, lane in enumerate(chart.lanes):
        top = TOP + index * lane_height
        if before is not None and lane.base_model != before:
            parts.append(f'<line x1="8" x2="{WIDTH - 8}" y1="{top}" y2="{top}" stroke="#d0d7de"/>')
        # Where lanes are too thin for text, the first of each model has the name.
        is_labelled = lane_height >= 12 or lane.base_model != before
        parts += _lane(lane, top, lane_height, scale, is_labelled=is_labelled)
        before = lane.base_model
    if chart.note:
        parts.append(
            f'<text x="8" y="{height - 10}" fill="#57606a">{_text(_fitted(chart.note, WIDTH - 2 * GAP))}</text>'
        )
    return "\n".join((*parts, "</svg>", ""))


def page(chart: Chart, title: str) -> str:
    """Return the chart as an HTML page that needs no other file."""
    cells = ((lane.base_model, lane.sampler_id or "-", _course(lane)) for lane in chart.lanes)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in cells)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{_text(title)}</title>
<style>
body {{ font-family: ui-sans-serif, system-ui, sans-serif; margin: 2em; color: #1f2328; background: #fff }}
svg {{ max-width: 100%; height: auto }}
td, th {{ text-align: left; padding: 0.2em 1em 0.2em 0; font-size: 0.85em; vertical-align: top }}
</style>
</head>
<body>
<h1>{_text(title)}</h1>
{svg(chart)}
<table>
<tr><th>base model</th><th>sampler</th><th>course</th></tr>
{rows}
</table>
</body>
</html>
"""


def _legend(chart: Chart) -> list[str]:
    statuses = dict.fromkeys(span.status for lane in chart.lanes for span in lane.spans)
    order = {status: index for index, status in enumerate(COLOURS)}
    parts, x = [], 8
    for status in sorted(statuses, key=lambda each: (order.get(each, len(order)), each)):
        label = _fitted(status, 160)
        if x + 18 + _pixels(label) > WIDTH:
            break
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" rx="2" fill="{colour(status)}"/>')
        parts.append(f'<text x="{x + 18}" y="22" fill="#1f2328">{_text(label)}</text>')
        x += 34 + round(_pixels(label))
    return parts


def colour(status: str) -> str:
    """Return the colour of a status."""
    bad = status.endswith("FAILED") or status == "BUILD_STOPPED"
    return COLOURS.get(status, BAD if bad else OTHER)


def _axis(seconds: float, scale: float, bottom: int) -> Iterable[str]:
    for tick in ticks(seconds):
        x = LEFT + tick * scale
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="#eaeef2"/>'
        yield f'<text x="{x:.1f}" y="{TOP - 12}" fill="#57606a" text-anchor="middle">{_tick(tick)}</text>'


def ticks(seconds: float) -> list[float]:
    """Return some round times from 0 to *seconds*."""
    steps = (
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1,
        2,
        5,
        10,
        15,
        30,
        60,
        120,
        300,
        600,
        900,
        1800,
        3600,
        7200,
        21600,
        86400,
    )
    step = next((each for each in steps if seconds / each <= 8), max(seconds / 8, steps[-1]))
    return [number * step for number in range(int(seconds / step) + 1)]


def _tick(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s" if seconds else "0"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def _lane(lane: Lane, top: int, height: int, scale: float, *, is_labelled: bool) -> Iterable[str]:
    bar = height - (5 if height >= 12 else 1)
    middle = top + height / 2 + 4
    if is_labelled:
        room = LEFT - 2 * GAP
        sampler = _fitted(f" {lane.sampler_id}", room // 2) if lane.sampler_id and height >= 12 else ""
        label = _fitted(lane.base_model, room - _pixels(sampler)) + sampler
        yield f'<text x="{LEFT - GAP}" y="{middle:.1f}" fill="#1f2328" text-anchor="end">{_text(label)}</text>'
    for span in lane.spans:
        x, width = LEFT + span.begin * scale, max(1.5, (span.end - span.begin) * scale)
        width = min(width, LEFT + PLOT + 2 - x)
        yield (
            f'<rect x="{x:.1f}" y="{top + (height - bar) / 2:.1f}" width="{max(1.5, width):.1f}" height="{bar}" '
            f'fill="{colour(span.status)}"><title>{_text(_words(span))}</title></rect>'
        )
    if height >= 12:
        last = lane.spans[-1]
        at = last.end if lane.outcome else last.begin
        seconds = f" {duration(at)}"
        words = _fitted(lane.outcome or last.status, RIGHT - 2 * GAP - _pixels(seconds)) + seconds
        yield f'<text x="{LEFT + PLOT + GAP}" y="{middle:.1f}" fill="#57606a">{_text(words)}</text>'


def _words(span: Span) -> str:
    return f"{span.status}: {duration(span.end - span.begin)}, from {duration(span.begin)} to {duration(span.end)}"


def _course(lane: Lane) -> str:
    return ", ".join(f"{span.status} {duration(span.end - span.begin)}" for span in lane.spans)


def _pixels(text: str) -> float:
    """Return an upper bound of the width of a text, since fonts differ."""
    return sum(_letter(each) for each in text)


def _letter(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 12.5
    if letter in "mwMW@%" or not letter.isascii():
        return 11.0
    return 8.7 if letter.isupper() or letter in "_&" else 7.0


def _fitted(text: str, room: float) -> str:
    """Cut the middle out of *text* until it is no wider than *room* pixels."""
    text = clean(text)
    letters = len(text)
    while letters > 1 and _pixels(shown := shortened(text, letters)) > room:
        letters -= 1
    return shown if letters > 1 else text[:1]


def _text(text: str) -> str:
    return escape(clean(text))
