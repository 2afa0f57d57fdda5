"""The shape of single exchanges, without a socket; everything else is tested over real ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses, core
from yarl import URL

from loops_async import LoopsClient

BASE = "https://api.baseten.co/v1/loops"


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        # aioresponses 0.7.9 does not give aiohttp >= 3.14 the writer that it asks for.
        class Response(aiohttp.ClientResponse):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                writer: Any = SimpleNamespace(output_size=0)
                super().__init__(*args, stream_writer=writer, **kwargs)

        monkeypatch.setattr(core, "ClientResponse", Response)
    with aioresponses() as mock:
        yield mock


async def test_a_session_is_created_without_a_body(exchange: aioresponses) -> None:
    exchange.post(f"{BASE}/sessions", payload={"session": {"id": "s1", "later": True}})
    async with LoopsClient("key") as client:
        assert (await client.sessions.create()).id == "s1"
    ((_, url), (call,)) = next(iter(exchange.requests.items()))
    assert url == URL(f"{BASE}/sessions")
    assert call.kwargs["data"] is None
    assert call.kwargs["allow_redirects"] is False


async def test_capabilities_are_asked_for_with_what_is_set(exchange: aioresponses) -> None:
    exchange.get(f"{BASE}/capabilities?model=a%2Fb&max_seq_len=5", payload={"supported_models": []})
    async with LoopsClient("key") as client:
        assert await client.capabilities(model="a/b", max_seq_len=5) == ()


async def test_any_2xx_is_a_success(exchange: aioresponses) -> None:
    exchange.post(f"{BASE}/checkpoints/validate", status=204)
    async with LoopsClient("key") as client:
        await client.checkpoints.validate("bt://loops:r/sampler_weights/c")
