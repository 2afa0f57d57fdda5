"""A control plane with the published rate limit: 100 requests a second for each endpoint, and 0.15 s of latency.

Each endpoint has windows of a second. Over the limit, it answers 429 with the seconds until the window ends in the
body, as the service documents it, and counts that.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import time
from collections import Counter
from datetime import UTC, datetime

from aiohttp import web

from ._harness import SERVER_CORE, pin

LATENCY = 0.15
LIMIT = 100

COLD_START = 2.0
"""Seconds from the create of a sampler until it is ACTIVE."""


class Server:
    """Samplers that come up quickly, behind the limit."""

    def __init__(self) -> None:
        self.limit = math.inf
        self.made_at: dict[str, float] = {}
        self.deactivated: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._windows: dict[str, tuple[int, int]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request."""
        if request.path == "/control":
            self.limit = (await request.json())["limit"] or math.inf
            self.made_at.clear()
            self.deactivated.clear()
            self.requests.clear()
            self.refused.clear()
            return web.json_response({})
        if request.path == "/stats":
            billed = len(self.made_at) - len(self.deactivated)
            stats = {"requests": self.requests, "refused": self.refused, "made": len(self.made_at), "billed": billed}
            return web.json_response(stats)
        await request.read()
        endpoint = f"{request.method} {re.sub(r's[0-9]+', '{id}', request.path)}"
        await asyncio.sleep(LATENCY / 2)
        if not self._admit(endpoint):
            await asyncio.sleep(LATENCY / 2)
            left = math.ceil(1 - time.monotonic() % 1)
            return web.json_response({"error": "Rate limit exceeded.", "retry_after": max(1, left)}, status=429)
        response = self._answer(request)
        await asyncio.sleep(LATENCY / 2)
        return response

    def _admit(self, endpoint: str) -> bool:
        window = int(time.monotonic())
        number, count = self._windows.get(endpoint, (window, 0))
        count = count + 1 if number == window else 1
        self._windows[endpoint] = window, count
        self.requests[endpoint] += 1
        if count > self.limit:
            self.refused[endpoint] += 1
            return False
        return True

    def _answer(self, request: web.Request) -> web.Response:
        parts = request.path.strip("/").split("/")
        if parts[-1] == "sessions":
            return web.json_response({"session": {"id": "session"}})
        if parts[-1] == "deactivate":
            self.deactivated.add(parts[-2])
            return web.json_response({"id": parts[-2], "base_model": "m"})
        if parts[-1] == "samplers" and request.method == "POST":
            sampler_id = f"s{len(self.made_at)}"
            self.made_at[sampler_id] = time.monotonic()
            return web.json_response({"sampler": self._describe(sampler_id)})
        if parts[-1] == "samplers":
            return web.json_response({"samplers": [self._describe(each) for each in self.made_at]})
        return web.json_response({"sampler": self._describe(parts[-1])})

    def _describe(self, sampler_id: str) -> dict[str, object]:
        is_up = time.monotonic() - self.made_at[sampler_id] >= COLD_START
        status = "INACTIVE" if sampler_id in self.deactivated else "ACTIVE" if is_up else "LOADING_MODEL"
        return {
            "id": sampler_id,
            "base_url": f"https://model-{sampler_id}.api.baseten.co/deployment/d/sync",
            "base_model": "m",
            "created_at": datetime.now(UTC).isoformat(),
            "status": {"name": status},
            "model_id": "m",
            "deployment_id": "d",
        }


async def main() -> None:
    """Serve until standard input is closed; print the port first."""
    pin(SERVER_CORE)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", Server().handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    assert site._server is not None  # noqa: S101
    print(json.dumps(site._server.sockets[0].getsockname()[1]), flush=True)  # type: ignore[attr-defined]
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
