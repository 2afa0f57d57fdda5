"""A second server of the few routes that waits use, for accounts with thousands of samplers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self

from aiohttp import web

from .support import serving

CREATED = datetime.now(UTC).isoformat()


def document(sampler_id: str, status: str) -> dict[str, Any]:
    return {
        "id": sampler_id,
        "base_url": f"https://model-{sampler_id}.api.baseten.co/deployment/d/sync",
        "base_model": "m",
        "created_at": CREATED,
        "model_id": "m1",
        "deployment_id": "d1",
        "status": {"name": status},
        "user": {"email": "dev@example.com"},
    }


class FleetServer:
    """Serve `GET /v1/loops/samplers` and `.../{id}` out of dictionaries that a test changes."""

    def __init__(self) -> None:
        self.statuses: dict[str, str] = {}
        """Status of each sampler by its id."""
        self.unlisted: set[str] = set()
        """Ids that the list leaves out."""
        self.odd: dict[str, Any] = {}
        """Documents that are sent as they are."""
        self.requests: Counter[str] = Counter()
        """Requests received: `list` and `get`."""
        self.asked: list[str] = []
        """Ids that were asked for by GET."""
        self.list_answers: list[web.Response] = []
        """Answers that the next lists get instead."""
        self.get_answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        """What answers the GETs of a sampler instead, by its id."""
        self.get_status = 200
        """Status that GETs of one sampler answer with."""
        self.list_delay = 0.0
        """Seconds between the making of a list and its sending."""
        self._server = serving(
            web.get("/v1/loops/samplers", self._list),
            web.get("/v1/loops/samplers/{id}", self._get),
            web.post("/v1/loops/samplers", self._create),
        )
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__()

    def add(self, count: int, status: str, prefix: str) -> list[str]:
        """Add samplers of one status; return their ids."""
        ids = [f"{prefix}{index}" for index in range(count)]
        self.statuses.update(dict.fromkeys(ids, status))
        return ids

    def set_all(self, ids: list[str], status: str) -> None:
        self.statuses.update(dict.fromkeys(ids, status))

    async def _list(self, _: web.Request) -> web.Response:
        self.requests["list"] += 1
        if self.list_answers:
            return self.list_answers.pop(0)
        items = [
            self.odd.get(sampler_id, document(sampler_id, status))
            for sampler_id, status in self.statuses.items()
            if sampler_id not in self.unlisted
        ]
        body = json.dumps({"samplers": items})
        await asyncio.sleep(self.list_delay)
        return web.Response(text=body, content_type="application/json")

    async def _get(self, request: web.Request) -> web.StreamResponse:
        sampler_id = request.match_info["id"]
        self.requests["get"] += 1
        self.asked.append(sampler_id)
        if sampler_id in self.get_answers:
            return await self.get_answers[sampler_id](request)
        if self.get_status != 200:
            return web.Response(status=self.get_status)
        if sampler_id not in self.statuses:
            return web.json_response({"code": "NOT_FOUND", "message": sampler_id}, status=404)
        item = self.odd.get(sampler_id, document(sampler_id, self.statuses[sampler_id]))
        return web.json_response({"sampler": item})

    async def _create(self, _: web.Request) -> web.Response:
        self.requests["create"] += 1
        (sampler_id,) = self.add(1, "BUILDING", "new")
        return web.json_response({"sampler": document(sampler_id, "BUILDING")})
