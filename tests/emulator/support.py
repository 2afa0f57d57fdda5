"""What the tests of the emulator share; none of it is the package's own client."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
from yarl import URL

from loops_async.emulator import Emulator

SESSIONS = "/v1/loops/sessions"
SAMPLERS = "/v1/loops/samplers"
ONE = "/v1/loops/samplers/{sampler_id}"
FAST = 1000.0


class Client:
    """Send requests to one emulator and read JSON answers."""

    def __init__(self, emulator: Emulator, http: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self.http = http

    async def send(
        self, method: str, path: str, expect: int = 200, **options: Any
    ) -> tuple[dict[str, Any], aiohttp.ClientResponse]:
        url = path if path.startswith("http") else self.emulator.url + path
        async with self.http.request(method, URL(url, encoded=True), **options) as response:
            document = await response.json()
            assert response.status == expect, document
            assert response.headers["X-Request-Id"]
            return document, response

    async def get(self, path: str, expect: int = 200, **options: Any) -> dict[str, Any]:
        return (await self.send("GET", path, expect, **options))[0]

    async def post(self, path: str, expect: int = 200, **options: Any) -> dict[str, Any]:
        return (await self.send("POST", path, expect, **options))[0]

    async def session_id(self) -> str:
        document = await self.post(SESSIONS)
        return str(document["session"]["id"])

    async def create(self, base_model: str = "Qwen/Qwen3-8B", **options: Any) -> dict[str, Any]:
        body = {"session_id": await self.session_id(), "base_model": base_model} | options
        document: dict[str, Any] = (await self.post(SAMPLERS, json=body))["sampler"]
        return document


async def until(reached: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.001)
