"""Tables and targets, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Target:
    """What was promised, and what came out."""

    promise: str
    figure: float
    limit: float
    unit: str = ""

    @property
    def reached(self) -> bool:
        """True if the figure is within its limit."""
        return self.figure <= self.limit

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT REACHED"
        unit = f" {self.unit}" if self.unit else ""
        return f"{verdict}: {self.promise}: {number(self.figure)}{unit} (at most {number(self.limit)})"


@dataclass
class Report:
    """One measurement: a table, remarks, targets."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", _line(self.header), _line(["---", *["---:"] * (len(self.header) - 1)])]
        lines += [_line(row) for row in self.rows]
        if self.remarks:
            lines += ["", *self.remarks]
        if self.targets:
            lines += ["", *(f"- {target}" for target in self.targets)]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(number(cell) if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def number(value: float) -> str:
    """Write a number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.2g}" if abs(value) < 0.01 else f"{value:.3f}"
