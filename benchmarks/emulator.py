"""How many samplers and requests does the emulator bear on one core, and how soon is it there?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from ._harness import ROOT, SERVER_CORE, in_fresh_process, median
from ._report import Report, Target

SAMPLERS = "/v1/loops/samplers"
CONNECTIONS = 32
COMMAND = [sys.executable, "-m", "loops_async.cli", "emulator"]


@contextlib.contextmanager
def running_emulator(*options: str) -> Iterator[tuple[str, int, float]]:
    """Run the command on a core of its own; give its URL, its process id and the seconds until it said so."""
    began = time.perf_counter()
    command = [*COMMAND, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None  # noqa: S101
            url = process.stdout.readline().strip()
            seconds = time.perf_counter() - began
            if hasattr(os, "sched_setaffinity"):
                cores = sorted(os.sched_getaffinity(0))
                os.sched_setaffinity(process.pid, {cores[min(SERVER_CORE, len(cores) - 1)]})
            yield url, process.pid, seconds
        finally:
            process.kill()


def _cpu(process_id: int) -> float:
    """Return the CPU seconds of another process."""
    with open(f"/proc/{process_id}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Connection:
    """As little of an HTTP client as can be, so that the server is what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(lines.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        if not lines.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{method} {path}: {answer!r}")
        return answer


async def load(url: str, process_id: int, count: int, turns: int) -> dict[str, Any]:
    """Create, get, list and deactivate *count* samplers; return the rates by the clock and by CPU time."""
    address = urlsplit(url)
    connections = [
        _Connection(*await asyncio.open_connection(address.hostname, address.port, limit=2**26))
        for _ in range(CONNECTIONS)
    ]
    answers: list[bytes] = []

    async def measure(requests: Iterable[tuple[str, str, bytes]]) -> tuple[float, float]:
        queue = iter(requests)
        answers.clear()

        async def work(connection: _Connection) -> None:
            for request in queue:
                answers.append(await connection.send(*request))  # noqa: PERF401 -- one queue feeds all connections

        wall, cpu = time.perf_counter(), _cpu(process_id)
        await asyncio.gather(*map(work, connections))
        wall, cpu = time.perf_counter() - wall, _cpu(process_id) - cpu
        return len(answers) / wall, len(answers) / cpu

    session = json.loads(await connections[0].send("POST", "/v1/loops/sessions"))["session"]["id"]
    body = json.dumps({"session_id": session, "base_model": "Qwen/Qwen3-8B"}).encode()
    rates = {"create": [await measure([("POST", SAMPLERS, body)] * count)]}
    ids = [json.loads(answer)["sampler"]["id"] for answer in answers]
    rates["get"] = [await measure([("GET", f"{SAMPLERS}/{each}", b"") for each in ids]) for _ in range(turns)]
    rates["list"] = [await measure([("GET", SAMPLERS, b"")] * 10) for _ in range(turns)]
    size = len(answers[0])
    rates["deactivate"] = [await measure([("POST", f"{SAMPLERS}/{each}/deactivate", b"") for each in ids])]
    for connection in connections:
        connection.writer.close()
    return {"rates": rates, "list_bytes": size}


def measure(quick: bool) -> Report:
    """Put the emulator under load, and start it some times."""
    count, turns = (1000, 1) if quick else (5000, 3)
    loads: dict[str, list[tuple[float, float]]] = {}
    starts: list[float] = []
    size = 0
    for _ in range(turns):
        with running_emulator() as (url, process_id, _):
            found = in_fresh_process(load, url=url, process_id=process_id, count=count, turns=turns)
        size = found["list_bytes"]
        for name, rates in found["rates"].items():
            loads.setdefault(name, []).extend((rate, per_cpu) for rate, per_cpu in rates)
    for turn in range(4 if quick else 8):
        with running_emulator() as (_, _, seconds):
            if turn:  # the first one writes and reads the compiled files
                starts.append(seconds)
    report = Report(
        f"emulator: requests answered with {count:,} samplers",
        ("request", "per second", "per second of server CPU"),
    )
    for name, rates in loads.items():
        by_clock, by_cpu = (median(column) for column in zip(*rates, strict=True))
        report.rows.append((name, by_clock, by_cpu))
        if name == "list":
            report.targets.append(Target(f"emulator, list of {count:,} samplers", 1e3 / by_clock, count / 500, "ms"))
        else:
            report.targets.append(Target(f"emulator, {name} with {count:,} samplers", 1e6 / by_clock, 500.0, "µs"))
    report.rows.append(("start-up", f"{median(starts):.2f} s", ""))
    report.targets.append(Target("emulator, start-up of the command", median(starts), 1.0, "s"))
    report.remarks.append(
        f"{CONNECTIONS} connections of one client on the other core; a list has {size / 1e6:.1f} MB. Medians of "
        f"{turns} servers, of {len(starts)} starts."
    )
    return report
