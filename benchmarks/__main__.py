"""`python -m benchmarks`: run all measurements, print Markdown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec

from . import creates, each, emulator, gets, imports, launches, limits, memory, schedule, single, waits
from ._harness import machine, running_server
from ._report import Report

NAMES = ("waits", "single", "get", "memory", "creates", "launches", "each", "limits", "import", "schedule", "emulator")


def main() -> int:
    """Run what was asked for; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"just these measurements: {', '.join(NAMES)}")
    parser.add_argument("--only", choices=NAMES, action="append", help="just this measurement; may be repeated")
    parser.add_argument("--sizes", default="", metavar="N,N", help="numbers of samplers for `waits`")
    parser.add_argument("--quick", action="store_true", help="fewer turns and smaller numbers")
    options = parser.parse_args()
    if missing := [name for name in ("baseten", "sniffio") if find_spec(name) is None]:
        parser.error(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}")
    quick: bool = options.quick
    if strange := [name for name in options.names if name not in NAMES]:
        parser.error(f"no such measurement: {', '.join(strange)}; there are {', '.join(NAMES)}")
    try:
        sizes = [int(size) for size in options.sizes.split(",") if size]
    except ValueError:
        parser.error("--sizes takes numbers with commas between them")
    sizes = sizes or ([1, 100, 1000] if quick else [1, 100, 1000, 5000, 10000])
    turns = 1 if quick else 3

    print(f"{machine()}\n", flush=True)
    missed = 0
    with running_server() as url:
        measurements: dict[str, Callable[[], Report]] = {
            "waits": lambda: waits.measure(url, sizes, turns),
            "single": lambda: single.measure(url, quick),
            "get": lambda: gets.measure(url, quick),
            "memory": lambda: memory.measure(url, quick),
            "creates": lambda: creates.measure(url, turns, quick),
            "launches": lambda: launches.measure(turns, quick),
            "each": lambda: each.measure(turns),
            "limits": lambda: limits.measure(quick),
            "import": lambda: imports.measure(quick),
            "schedule": lambda: schedule.measure(quick),
            "emulator": lambda: emulator.measure(quick),
        }
        for name in [*options.names, *(options.only or ())] or NAMES:
            report = measurements[name]()
            missed += sum(not target.reached for target in report.targets)
            print(report, flush=True)
    print(f"{missed} targets missed" if missed else "all targets reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
