"""The published rate limit: fixed windows of a second for each route and key."""

import asyncio
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from loops_async.cli._main import cli
from loops_async.emulator import Emulator, Fault
from loops_async.emulator._rate_limit import RateLimit
from loops_async.emulator._site import Site

from .support import ONE, SAMPLERS, SESSIONS, Client

BODY = {"error": "Rate limit exceeded. Please try again later.", "retry_after": 1}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that the emulator reads, which moves only when a test moves it."""
    clock = [1000.0]
    monkeypatch.setattr(Site, "now", lambda _: clock[0])
    return clock


async def test_nothing_is_limited_by_default(client: Client) -> None:
    for _ in range(300):
        await client.get(SAMPLERS)


async def test_what_is_beyond_the_limit_gets_the_documented_answer(clock: list[float]) -> None:
    async with Emulator(rate_limit=3.0, error_shape="code") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        for _ in range(3):
            await client.get(SAMPLERS)
        for _ in range(2):
            document, response = await client.send("GET", SAMPLERS, 429)
            assert document == BODY
            assert type(document["retry_after"]) is int
            assert "Retry-After" not in response.headers
        assert len(emulator.requests("GET", SAMPLERS)) == 5


async def test_all_are_rejected_until_the_window_ends(clock: list[float]) -> None:
    async with Emulator(rate_limit=2) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        statuses = []
        for at in (0.0, 0.9, 0.95, 0.999, 1.0, 1.5, 1.999, 2.0):
            clock[0] = 1000.0 + at
            async with http.get(emulator.url + SAMPLERS) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429, 429, 200, 200, 429, 200]
        await client.get(SAMPLERS)


async def test_a_create_beyond_the_limit_makes_nothing(clock: list[float]) -> None:
    async with Emulator(rate_limit=5) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        body = {"session_id": await client.session_id(), "base_model": "Qwen/Qwen3-8B"}

        async def create() -> int:
            async with http.post(emulator.url + SAMPLERS, json=body) as response:
                return response.status

        statuses = await asyncio.gather(*(create() for _ in range(12)))
        assert sorted(statuses) == [200] * 5 + [429] * 7
        assert len(emulator.samplers) == 5


async def test_methods_routes_and_keys_are_counted_by_themselves(clock: list[float]) -> None:
    async with Emulator(rate_limit=1) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)

        async def ask(method: str, path: str, expect: int, key: str = "one") -> None:
            await client.send(method, path, expect, headers={"Authorization": f"Bearer {key}"})

        await ask("POST", SESSIONS, 200)
        await ask("POST", SESSIONS, 429)
        await ask("GET", SAMPLERS, 200)
        await ask("POST", SAMPLERS, 400)  # a request that is refused counts, too
        await ask("POST", SAMPLERS, 429)
        # Two ids are one route.
        await ask("GET", ONE.format(sampler_id="a"), 404)
        await ask("GET", ONE.format(sampler_id="b"), 429)
        await ask("POST", SESSIONS, 200, "two")
        # Both schemes carry the same key.
        await client.post(SESSIONS, 429, headers={"Authorization": "Api-Key two"})


async def test_only_the_management_api_is_limited(clock: list[float]) -> None:
    async with Emulator(rate_limit=1) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        for _ in range(3):
            await client.get("/models/a/deployment/b/sync/v1/models", 404)
            await client.get("/_emulator")
            await client.get("/v1/spec")
            await client.get("/v1/nothing", 404)


async def test_a_wrong_key_uses_nothing_up_and_faults_wait_for_those_let_through(clock: list[float]) -> None:
    async with Emulator(rate_limit=2, api_key="key") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        headers = {"Authorization": "Bearer key"}
        for _ in range(3):
            await client.get(SAMPLERS, 401)
        for expect in (200, 200, 429):
            await client.get(SAMPLERS, expect, headers=headers)
        emulator.add_fault(Fault(status=503))
        await client.get(SAMPLERS, 429, headers=headers)
        clock[0] += 1
        await client.get(SAMPLERS, 503, headers=headers)


def test_windows_that_ended_are_forgotten() -> None:
    limit = RateLimit(1)
    for number in range(10_000):
        assert limit.retry_after(f"key-{number}", "GET", SAMPLERS, float(number)) is None
    assert len(limit._windows) <= 1025


def test_the_seconds_to_wait_are_whole_and_at_least_one() -> None:
    limit = RateLimit(1)
    limit.retry_after("k", "GET", SAMPLERS, 0.0)
    assert [limit.retry_after("k", "GET", SAMPLERS, now) for now in (0.0, 0.5, 0.9999)] == [1, 1, 1]


@pytest.mark.parametrize("value", [0, 0.5, -1, float("inf"), float("nan"), 10**400, "100", True])
def test_a_limit_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="rate_limit"):
        Emulator(rate_limit=value)


def test_the_command_refuses_a_limit_that_lets_nothing_through() -> None:
    assert CliRunner().invoke(cli, ["emulator", "--rate-limit", "0"]).exit_code == 2
