"""A control plane that is quick enough not to be what is measured: `python -m benchmarks.server`.

It prints its port and ends when its standard input does. The course of a sampler is a pure function of the time since
its start. Documents are written beforehand, one per sampler and status; a list is the pieces joined, again only after
something changed.

Besides the API's routes: `POST /_reset` (samplers of a plan, not started), `POST /_start` (their clocks begin; gives
the moments of `time.monotonic()` at which each becomes ACTIVE, in the order of the ids), `GET /_counts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from . import _harness

STATUSES = ("BUILDING", "DEPLOYING", "LOADING_MODEL", "ACTIVE")
ALPHABET = "13456789bcdfghjkmnpqrstvwxyz"
LIFETIME = 3600.0
"""Seconds after which the server ends whatever happens."""


def pieces_of(chance: random.Random, sampler_id: str, created: datetime, *statuses: str) -> list[bytes]:
    """Write a sampler in the newest shape of the OpenAPI document, once for each status."""
    model_id, deployment_id = ("".join(chance.choices(ALPHABET, k=k)) for k in (8, 7))
    document: dict[str, Any] = {
        "id": sampler_id,
        "base_url": f"https://model-{model_id}.api.baseten.co/deployment/{deployment_id}/sync",
        "base_model": chance.choice(("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B", "moonshotai/Kimi-K2.6")),
        "created_at": created.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z",
        "model_id": model_id,
        "deployment_id": deployment_id,
        "status": {"name": ""},
        "user": {"email": "developer@example.com"},
        "instance_type": {
            "id": "H100:1x26x234",
            "name": "H100:1x26x234",
            "memory_limit_mib": 239616,
            "millicpu_limit": 26000,
            "gpu_count": 1,
            "gpu_type": "H100",
            "gpu_memory_limit_mib": 81559,
        },
        "node_count": 1,
    }
    pieces = []
    for status in statuses:
        document["status"]["name"] = status
        pieces.append(json.dumps(document, separators=(",", ":")).encode())
    return pieces


class Plane:
    """Samplers that come up by themselves; no I/O."""

    def __init__(self) -> None:
        self.reset({})

    def reset(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Forget everything; make `count` samplers and `dead` foreign ones, with stages of `medians` seconds."""
        self.counts: Counter[str] = Counter()
        self.create_delay = float(plan.get("create_delay", 0.0))
        self._chance = random.Random(plan.get("seed", 0))
        self._medians = plan.get("medians", [1.2, 2.2, 1.4])
        self._sigma = float(plan.get("sigma", 0.15))
        self._ids: dict[str, int] = {}
        self._pieces: list[list[bytes]] = []
        self._current: list[bytes] = []
        self._events: list[tuple[float, int, int]] = []
        self._next = math.inf
        self._body: bytes | None = None
        self._created = datetime.now(UTC)
        self._dead = [
            pieces_of(self._chance, f"z{index:06}", self._created - timedelta(days=1), "INACTIVE")[0]
            for index in range(int(plan.get("dead", 0)))
        ]
        for _ in range(int(plan.get("count", 0))):
            self._add()
        return {"ids": list(self._ids)}

    def _add(self) -> int:
        index = len(self._pieces)
        sampler_id = "".join(self._chance.choices(ALPHABET, k=3)) + f"{index:05x}"
        self._ids[sampler_id] = index
        pieces = pieces_of(self._chance, sampler_id, self._created + timedelta(microseconds=index), *STATUSES)
        self._pieces.append(pieces)
        self._current.append(pieces[0])
        self._body = None
        return index

    def start(self) -> dict[str, Any]:
        """Let the clocks of all samplers begin now."""
        began = time.monotonic()
        active_at = []
        for index in range(len(self._pieces)):
            moment = began
            for stage, median in enumerate(self._medians, 1):
                moment += median * math.exp(self._chance.gauss(0.0, self._sigma))
                self._events.append((moment, index, stage))
            active_at.append(moment)
        self._events.sort(reverse=True)
        self._next = self._events[-1][0] if self._events else math.inf
        return {"began": began, "active_at": active_at}

    def _advance(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        events = self._events
        while events and events[-1][0] <= now:
            _, index, stage = events.pop()
            self._current[index] = self._pieces[index][stage]
        self._next = events[-1][0] if events else math.inf
        self._body = None

    def one(self, sampler_id: str) -> bytes | None:
        """Write `{sampler}`, or None for an unknown id."""
        self._advance()
        index = self._ids.get(sampler_id)
        return None if index is None else b'{"sampler":' + self._current[index] + b"}"

    def all(self) -> bytes:
        """Write `{samplers}`, newest first."""
        self._advance()
        if self._body is None:
            self._body = b'{"samplers":[' + b",".join([*reversed(self._current), *self._dead]) + b"]}"
        return self._body

    def create(self) -> bytes:
        """Make a sampler that stays BUILDING."""
        return b'{"sampler":' + self._current[self._add()] + b"}"


class Connection(asyncio.Protocol):
    """As much of HTTP/1.1 as the contestants speak: one request at a time, kept alive."""

    transport: asyncio.Transport

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, begin = self._buffer[:end], end + 4
            length = 0
            if not head.startswith(b"GET "):
                lowered = head.lower()
                if (at := lowered.find(b"\r\ncontent-length:")) >= 0:
                    length = int(lowered[at + 17 :].split(b"\r\n", 1)[0])
            if len(self._buffer) < begin + length:
                return
            body = self._buffer[begin : begin + length]
            self._buffer = self._buffer[begin + length :]
            method, target, _ = head.split(b" ", 2)
            self._answer(method, target.partition(b"?")[0].decode(), body)

    def _answer(self, method: bytes, path: str, body: bytes) -> None:
        plane = self._plane
        if path.startswith("/v1/loops/samplers/") and method == b"GET":
            document = plane.one(path[19:])
            if document is None:
                self._send("get", b'{"error":"no such sampler"}', b"404 Not Found")
            else:
                self._send("get", document)
        elif path == "/v1/loops/samplers" and method == b"GET":
            self._send("list", plane.all())
        elif path == "/v1/loops/samplers":
            loop = asyncio.get_running_loop()
            loop.call_later(plane.create_delay, lambda: self._send("create", plane.create()))
        elif path == "/v1/loops/sessions":
            self._send("session", b'{"session":{"id":"s1"}}')
        elif path == "/_reset":
            self._send("_control", json.dumps(plane.reset(json.loads(body))).encode())
        elif path == "/_start":
            self._send("_control", json.dumps(plane.start()).encode())
        elif path == "/_counts":
            self._send("_control", json.dumps(plane.counts).encode())
        else:
            self._send("unknown", b"{}", b"404 Not Found")

    def _send(self, route: str, body: bytes, status: bytes = b"200 OK") -> None:
        counts = self._plane.counts
        counts[route] += 1
        counts[route + "_bytes"] += len(body)
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        if not self.transport.is_closing():
            self.transport.write(head + body)


async def serve() -> None:
    """Serve on a free port until standard input ends."""
    loop = asyncio.get_running_loop()
    plane = Plane()
    server = await loop.create_server(lambda: Connection(plane), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIFETIME):
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            await reader.read()
    server.close()


if __name__ == "__main__":
    _harness.pin(_harness.SERVER_CORE)
    asyncio.run(serve())
