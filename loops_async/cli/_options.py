"""Options that several commands share."""

from __future__ import annotations

import math
from typing import Any

import click


class Speed(click.FloatRange):
    """A factor that is positive and finite."""

    name = "factor"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        speed = float(super().convert(value, param, ctx))
        if not math.isfinite(speed):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return speed


speed_option = click.option(
    "--speed",
    type=Speed(),
    default=1.0,
    show_default=True,
    metavar="X",
    help="Factor by which all durations are divided.",
)
