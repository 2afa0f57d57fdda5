"""Processes, cores, medians: what all measurements share. Imports nothing that would be measured."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
CLIENT_CORE, SERVER_CORE = 0, 1
PATIENCE = 300.0
"""Seconds for one contestant."""
LIBRARIES = ("loops-async", "aiohttp", "msgspec", "cattrs", "tenacity", "baseten", "httpx", "sniffio")


def pin(number: int) -> None:
    """Keep this process on one core, where there are at least two and the system can."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[number]})


@contextlib.contextmanager
def running_server(module: str = "benchmarks.server") -> Iterator[str]:
    """Run *module*, a server, in a process of its own; give its URL."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:  # noqa: S603
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def control(url: str, path: str, document: object = None) -> Any:
    """Ask the server for what is no part of the API."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", path, json.dumps(document))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def in_fresh_process(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call *function*, a coroutine function of this package, in a new interpreter; return what it returns, by JSON."""
    task = json.dumps({"module": function.__module__, "name": function.__name__, "arguments": arguments})
    command = [sys.executable, "-m", "benchmarks._harness", task]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, timeout=PATIENCE, check=True, text=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def _work(task: str) -> None:
    spec = json.loads(task)
    pin(CLIENT_CORE)
    function = getattr(importlib.import_module(spec["module"]), spec["name"])
    print(json.dumps(asyncio.run(function(**spec["arguments"]))))


class Stopwatch:
    """CPU seconds of this process and seconds by the clock, of a block."""

    cpu = wall = 0.0

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu, self.wall = time.process_time() - self._cpu, time.perf_counter() - self._wall


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Return the median of the ratios within each turn."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def percentile(values: Iterable[float], part: float) -> float:
    """Return the smallest value that *part* of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(part * len(ordered) + 0.5) - 1))]


def machine() -> str:
    """Describe where this runs."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}, {model}, "
        f"{os.cpu_count()} cores; {libraries}"
    )


if __name__ == "__main__":
    _work(sys.argv[1])
