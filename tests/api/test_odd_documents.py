"""No call fails, and no wait goes on, for what stands in a field that nothing depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from loops_async import CreateOutcomeUnknown, DecodeError, LoopsClient, Sampler, wait_until_active

from ..support import QUICK_POLL, QUICK_RETRY, serving
from .test_codec import ITEM, ODD_VALUES, body

COUNT = 40
"""Samplers of the account: more than one asks for by a GET each."""

Change = Callable[[dict[str, Any]], dict[str, Any]]


class OddServer:
    """A control plane that writes *value* wherever a document has `@@`."""

    def __init__(self, value: bytes, change: Change = lambda item: item) -> None:
        self.value = value
        self.lists = 0
        self.change = change

    def answer(self, document: dict[str, Any]) -> web.Response:
        return web.Response(body=body({"note": "@@", **document}).replace(b'"@@"', self.value))

    def item(self, sampler_id: str) -> dict[str, Any]:
        odd = {"note": "@@", "user": {"email": "@@"}, "instance_type": "@@", "node_count": "@@"}
        return self.change({**ITEM, **odd, "id": sampler_id, "status": {"name": "ACTIVE", "note": "@@"}})

    def serve(self) -> serving:
        async def session(_: web.Request) -> web.Response:
            return self.answer({"session": {"id": "ses1", "note": "@@"}})

        async def one(request: web.Request) -> web.Response:
            return self.answer({"sampler": self.item(request.match_info.get("id", "smp1"))})

        async def every(_: web.Request) -> web.Response:
            self.lists += 1
            return self.answer({"samplers": [self.item(f"smp{number}") for number in range(COUNT)]})

        async def deactivated(request: web.Request) -> web.Response:
            return self.answer({"id": request.match_info["id"], "user": "@@"})

        samplers = "/v1/loops/samplers"
        return serving(
            web.post("/v1/loops/sessions", session),
            web.get("/v1/loops/sessions/ses1", session),
            web.post(samplers, one),
            web.get(samplers, every),
            web.get(f"{samplers}/{{id}}", one),
            web.post(f"{samplers}/{{id}}/deactivate", deactivated),
        )


async def use_everything(url: str) -> list[Sampler]:
    """Make each call, and wait by GET and by list; return the samplers."""
    async with LoopsClient("key", base_url=url, retry=QUICK_RETRY) as client:
        session = await client.sessions.create()
        assert await client.sessions.get("ses1") == session
        created = await client.samplers.create(session_id=session.id, base_model="m")
        assert await client.samplers.get("smp1") == created
        assert await wait_until_active(client, "smp1", timeout=20, policy=QUICK_POLL) == created
        waits = (wait_until_active(client, f"smp{number}", timeout=20, policy=QUICK_POLL) for number in range(COUNT))
        samplers = await asyncio.gather(*waits)
        assert await client.samplers.list() == tuple(samplers)
        await client.samplers.deactivate("smp1")
    return samplers


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
async def test_every_call_and_wait_gets_along_with_odd_values(nothing_left: None, value: bytes) -> None:
    server = OddServer(value)
    async with server.serve() as url:
        samplers = await use_everything(url)
    assert [sampler.id for sampler in samplers] == [f"smp{number}" for number in range(COUNT)]
    # One list is samplers.list(), the others are polls.
    assert server.lists > 1


@pytest.mark.parametrize(
    "written",
    ["2016-12-31T23:59:60Z", "2026-11-03T24:00:00Z", "2026-11-03t10:00:00,5z", "2026-11-03T10:00:00.1234567890+0530",
     "2026-11-03", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", 1793700000],
)  # fmt: skip
async def test_every_call_and_wait_gets_along_with_odd_dates(nothing_left: None, written: str | int) -> None:
    server = OddServer(b'"-"', lambda item: {**item, "created_at": written})
    async with server.serve() as url:
        samplers = await use_everything(url)
    assert all(sampler.created_at.tzinfo is not None for sampler in samplers)


@pytest.mark.parametrize(
    "change",
    [
        lambda item: {**item, "created_at": "yesterday"},
        lambda item: {**item, "status": "@@"},
        lambda item: {**item, "base_url": 5},
        lambda item: {"id": item["id"]},
    ],
    ids=["date", "status", "address", "id alone"],
)
@pytest.mark.parametrize("value", [b"NaN", rb'"cut \ud83d"', b"[" * 5000 + b"]" * 5000, b"<broken"])
async def test_a_created_sampler_is_not_lost_whatever_is_wrong_with_its_description(
    nothing_left: None, change: Change, value: bytes
) -> None:
    async with (
        OddServer(value, change).serve() as url,
        LoopsClient("key", base_url=url, retry=QUICK_RETRY) as client,
    ):
        with pytest.raises(DecodeError) as caught:
            await client.samplers.create(session_id="ses1", base_model="m")
    assert caught.value.sampler_id == "smp1"
    assert not isinstance(caught.value, CreateOutcomeUnknown)
