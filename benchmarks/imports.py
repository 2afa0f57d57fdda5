"""How long does the import of all of `loops_async` take?"""

from __future__ import annotations

import subprocess
import sys

from ._harness import median, ratio
from ._report import Report, Target

# The package alone is imported at once, and its names when they are used.
MODULES = {
    "loops_async": "from loops_async import *",
    "aiohttp": "import aiohttp",
    "baseten.client": "import baseten.client",
}
CODE = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def _seconds(module: str) -> float:
    command = [sys.executable, "-I", "-c", CODE.format(MODULES[module])]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=60).stdout)  # noqa: S603


def measure(quick: bool) -> Report:
    """Compare the time of imports, each in a fresh interpreter."""
    turns = 7 if quick else 15
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for turn in range(turns + 1):
        for module in MODULES:
            seconds = _seconds(module)
            if turn:  # the first one writes and reads the compiled files
                times[module].append(seconds)
    report = Report("import: time of one import in a fresh interpreter", ("module", "ms", "ratio"))
    for module in MODULES:
        share = ratio(times[module], times["loops_async"])
        report.rows.append((module, 1000 * median(times[module]), f"{share:.2f}x"))
    report.remarks.append(f"Medians of {turns} turns, `python -I`, with compiled files in the cache.")
    for module, limit in (("aiohttp", 1.25), ("baseten.client", 0.3)):
        report.targets.append(Target(f"import next to {module}", ratio(times["loops_async"], times[module]), limit))
    return report
