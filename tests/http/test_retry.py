"""What is repeated, counted where it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from loops_async import (
    APIError,
    BadRequestError,
    LoopsClient,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from loops_async.emulator import Emulator, Fault

from ..support import QUICK_RETRY, ClientMaker

pytestmark = pytest.mark.quick_clock

SAMPLER = "/v1/loops/samplers/{sampler_id}"
SAMPLERS = "/v1/loops/samplers"
SESSIONS = "/v1/loops/sessions"


@pytest.fixture
async def sampler_id(client: LoopsClient, emulator: Emulator, session_id: str) -> str:
    sampler = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.clear_received()
    return sampler.id


Call = Callable[[LoopsClient, str], Awaitable[object]]


async def get(client: LoopsClient, sampler_id: str) -> None:
    await client.samplers.get(sampler_id)


async def deactivate(client: LoopsClient, sampler_id: str) -> None:
    await client.samplers.deactivate(sampler_id)


async def wake(client: LoopsClient, sampler_id: str) -> None:
    sampler = await client.samplers.get(sampler_id)
    await client.samplers.wake(sampler)


async def create_session(client: LoopsClient, _: str) -> None:
    await client.sessions.create()


REPEATED = pytest.mark.parametrize(
    ("call", "method", "route"),
    [
        (get, "GET", SAMPLER),
        (deactivate, "POST", SAMPLER + "/deactivate"),
        (wake, "POST", "/models/{model_id}/deployment/{deployment_id}/wake"),
        (create_session, "POST", SESSIONS),
    ],
)


@REPEATED
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_is_safe_to_repeat_is_repeated(
    client: LoopsClient, emulator: Emulator, sampler_id: str, call: Call, method: str, route: str, status: int
) -> None:
    emulator.add_fault(Fault(method=method, route=route, status=status, times=2))
    await call(client, sampler_id)
    assert len(emulator.requests(method, route)) == 3


@REPEATED
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_dropped_connection_is_repeated(
    client: LoopsClient, emulator: Emulator, sampler_id: str, call: Call, method: str, route: str, cut: str
) -> None:
    # aiohttp sends a dropped GET once more by itself, so three drops are two of our attempts at the least.
    emulator.add_fault(Fault(method=method, route=route, cut=cut, times=3))  # type: ignore[arg-type]
    await call(client, sampler_id)
    assert len(emulator.requests(method, route)) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 302])
async def test_other_statuses_are_final(client: LoopsClient, emulator: Emulator, sampler_id: str, status: int) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=status))
    with pytest.raises(APIError) as caught:
        await client.samplers.get(sampler_id)
    assert caught.value.status == status
    assert len(emulator.requests("GET", SAMPLER)) == 1


@pytest.mark.parametrize("status", [408, 499, 500, 501, 502, 520, 522, 526, 530, 599])
async def test_every_transient_status_is_retried_on_reads(
    client: LoopsClient, emulator: Emulator, sampler_id: str, status: int
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=status, times=2))
    assert (await client.samplers.get(sampler_id)).id == sampler_id
    assert len(emulator.requests("GET", SAMPLER)) == 3


async def test_404_is_final_except_for_a_sampler_that_this_client_has_just_created(
    client: LoopsClient, emulator: Emulator, sampler_id: str, make_client: ClientMaker
) -> None:
    fault = Fault(method="GET", route=SAMPLER, status=404, times=QUICK_RETRY.attempts - 1)
    emulator.add_fault(fault)
    assert (await client.samplers.get(sampler_id)).id == sampler_id
    asked = len(emulator.requests("GET", SAMPLER))
    assert asked == QUICK_RETRY.attempts
    emulator.add_fault(fault)
    with pytest.raises(NotFoundError):
        await make_client().samplers.get(sampler_id)
    assert len(emulator.requests("GET", SAMPLER)) == asked + 1


async def test_when_attempts_run_out_the_last_real_error_comes_through(
    client: LoopsClient, emulator: Emulator, sampler_id: str
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=429, times=4))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=503, times=None, body=b'{"message": "the last"}'))
    with pytest.raises(ServerError, match="the last") as caught:
        await client.samplers.get(sampler_id)
    assert len(emulator.requests("GET", SAMPLER)) == QUICK_RETRY.attempts
    assert "after 5 attempts" in caught.value.__notes__[0]


async def test_total_time_bounds_the_attempts(make_client: ClientMaker, emulator: Emulator, sampler_id: str) -> None:
    client = make_client(retry=RetryPolicy(attempts=1000, initial=0.02, maximum=0.02, total=0.2))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=500, times=None))
    began = asyncio.get_running_loop().time()
    with pytest.raises(ServerError):
        await client.samplers.get(sampler_id)
    assert asyncio.get_running_loop().time() - began < 2
    assert 2 < len(emulator.requests("GET", SAMPLER)) < 500


@pytest.mark.parametrize("retry", [None, RetryPolicy(attempts=1)])
async def test_no_retries_on_request(
    make_client: ClientMaker, emulator: Emulator, sampler_id: str, retry: RetryPolicy | None
) -> None:
    client = make_client(retry=retry)
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=500))
    with pytest.raises(ServerError):
        await client.samplers.get(sampler_id)
    assert len(emulator.requests("GET", SAMPLER)) == 1


@pytest.mark.usual_clock
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_beats_the_own_backoff_and_holds_back_every_request(
    make_client: ClientMaker, emulator: Emulator, sampler_id: str, session_id: str, form: str
) -> None:
    # One connection, since requests on several arrive in any order.
    client = make_client(retry=RetryPolicy(initial=0.001, maximum=0.001), max_connections=1)
    seconds, headers = 0.3, {}
    value = str(seconds)
    if form == "date":
        # Dates know whole seconds only, and are measured against the answer's own clock.
        now = datetime.now(UTC)
        seconds, value = 1.0, format_datetime(now + timedelta(seconds=1), usegmt=True)
        headers = {"Date": format_datetime(now, usegmt=True)}
    fault = Fault(method="GET", route=SAMPLER, status=429, retry_after=value, headers=headers)
    emulator.add_fault(fault)
    getting = asyncio.create_task(client.samplers.get(sampler_id))
    while not emulator.requests("GET", SAMPLER):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    await asyncio.gather(
        getting,
        client.samplers.list(),
        client.samplers.create(session_id=session_id, base_model="m"),
        client.samplers.deactivate(sampler_id),
    )
    refused, *held = emulator.received
    assert min(request.at for request in held) - refused.at >= seconds - 0.02
    # What releases goes first, then what creates, then what only reads.
    order = [request.route for request in held]
    assert order.index(SAMPLER + "/deactivate") == 0
    assert held[1].method == "POST"
    assert {request.method for request in held[2:]} == {"GET"}


async def test_an_absurd_retry_after_is_clamped(make_client: ClientMaker, emulator: Emulator, sampler_id: str) -> None:
    client = make_client(retry=RetryPolicy(retry_after_maximum=0.05))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=503, retry_after="1e30"))
    async with asyncio.timeout(5):
        assert (await client.samplers.get(sampler_id)).id == sampler_id


async def test_a_pause_longer_than_the_budget_fails_at_once(
    make_client: ClientMaker, emulator: Emulator, sampler_id: str
) -> None:
    client = make_client(retry=RetryPolicy(total=1, retry_after_maximum=30))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=429, retry_after="20"))
    async with asyncio.timeout(5):
        with pytest.raises(RateLimitError) as caught:
            await client.samplers.get(sampler_id)
    assert caught.value.retry_after == 20


@pytest.mark.usual_clock
async def test_a_cancel_is_never_retried(client: LoopsClient, emulator: Emulator, sampler_id: str) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=500, times=None))
    fast = asyncio.create_task(client.samplers.get(sampler_id))
    while len(emulator.requests("GET", SAMPLER)) < 2:
        await asyncio.sleep(0.001)
    fast.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fast
    # A request that was under way still arrives.
    await asyncio.sleep(0.05)
    count = len(emulator.requests("GET", SAMPLER))
    await asyncio.sleep(0.1)
    assert len(emulator.requests("GET", SAMPLER)) == count


async def test_concurrent_calls_keep_their_own_count(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    samplers = await asyncio.gather(*(client.samplers.create(session_id=session_id, base_model="m") for _ in range(20)))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=500, times=None, rate=0.3))
    results = await asyncio.gather(*(client.samplers.get(sampler.id) for sampler in samplers), return_exceptions=True)
    for sampler, result in zip(samplers, results, strict=True):
        assert isinstance(result, ServerError) or getattr(result, "id", None) == sampler.id


async def test_nobody_listening_is_a_transport_error_that_was_not_sent(
    make_client: ClientMaker, unused_tcp_port: int
) -> None:
    client = make_client(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(TransportError) as caught:
        await client.samplers.list()
    assert caught.value.sent is False
    assert caught.value.__cause__ is not None
    # aiohttp names its default for TLS, which an address of plain http does not use.
    assert f"Cannot connect to host 127.0.0.1:{unused_tcp_port} [" in str(caught.value)


async def test_a_refusal_carries_what_is_needed_to_act(client: LoopsClient, emulator: Emulator) -> None:
    emulator.add_fault(
        Fault(
            route="/v1/loops/capabilities",
            status=400,
            body=b'{"code": "VALIDATION_ERROR", "message": "unknown model"}',
            headers={"X-Request-Id": "req-77"},
        )
    )
    with pytest.raises(BadRequestError) as caught:
        await client.capabilities(model="nope")
    error = caught.value
    assert (error.code, error.message, error.request_id) == ("VALIDATION_ERROR", "unknown model", "req-77")
    assert (error.method, error.path) == ("GET", "/v1/loops/capabilities")
