"""`wait_until_down()`: the guard of a running sampler, on the poll that all waits share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from aiohttp import web

from loops_async import (
    AuthenticationError,
    DeploymentStatus,
    LoopsClient,
    NotFoundError,
    PollPolicy,
    SamplerFailed,
    StatusChange,
    WaitTimeout,
    wait_until_active,
    wait_until_down,
)
from loops_async.emulator import Emulator, Fault

from ..fleet_server import FleetServer
from ..support import KEY, QUICK_RETRY, ClientMaker

pytestmark = pytest.mark.quick_clock

S = DeploymentStatus
POLICY = PollPolicy(initial=0.02, maximum=0.05, jitter=0)


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def fleet_client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


def guard(client: LoopsClient, sampler_id: str, **arguments: Any) -> asyncio.Task[StatusChange]:
    return asyncio.create_task(wait_until_down(client, sampler_id, **{"policy": POLICY, **arguments}))


async def until_polled(server: FleetServer, more: int = 2) -> None:
    seen = server.requests.total()
    async with asyncio.timeout(5):
        while server.requests.total() < seen + more:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "status",
    [S.UNHEALTHY, S.DEACTIVATING, S.INACTIVE, S.FAILED, S.BUILD_FAILED, S.DEPLOY_FAILED, S.BUILD_STOPPED],
)
@pytest.mark.parametrize("count", [1, 30])
async def test_it_returns_the_change_to_a_failed_status(
    fleet_client: LoopsClient, server: FleetServer, status: DeploymentStatus, count: int
) -> None:
    ids = server.add(count, "ACTIVE", "own")
    guards = [guard(fleet_client, each) for each in ids]
    await until_polled(server)
    assert not any(each.done() for each in guards)
    server.set_all(ids[:1], status)
    change = await guards[0]
    assert (change.sampler.id, change.previous, change.status) == (ids[0], S.ACTIVE, status)
    assert change.sampler.status is status
    assert change.elapsed > 0
    assert not any(each.done() for each in guards[1:])
    server.set_all(ids, status)
    await asyncio.gather(*guards)


@pytest.mark.parametrize(
    "status", [S.BUILDING, S.DEPLOYING, S.LOADING_MODEL, S.UPDATING, S.WAKING_UP, S.SCALED_TO_ZERO, S.ACTIVE, "NEW"]
)
async def test_other_statuses_are_no_loss(fleet_client: LoopsClient, server: FleetServer, status: str) -> None:
    server.add(1, "ACTIVE", "own")
    guarding = guard(fleet_client, "own0")
    await until_polled(server)
    server.statuses["own0"] = status
    await until_polled(server, 3)
    assert not guarding.done()
    server.statuses["own0"] = "FAILED"
    assert (await guarding).previous == status


async def test_what_is_down_already_is_returned_with_the_first_answer(
    fleet_client: LoopsClient, server: FleetServer
) -> None:
    server.add(1, "INACTIVE", "own")
    sampler = await fleet_client.samplers.get("own0")
    change = await wait_until_down(fleet_client, sampler)
    assert (change.previous, change.status, change.sampler) == (None, S.INACTIVE, sampler)


async def test_a_sampler_that_is_scaled_to_zero_is_not_woken(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client()
    session = await client.sessions.create()
    sampler = await client.samplers.create(session_id=session.id, base_model="m")
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    emulator.clear_received()
    with pytest.raises(WaitTimeout):
        await wait_until_down(client, sampler, timeout=0.2, policy=POLICY)
    assert {request.method for request in emulator.received} == {"GET"}


async def test_unhealthy_is_down_only_beyond_its_grace(fleet_client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    # The pace alone would poll again after a minute.
    policy = PollPolicy(initial=60, maximum=60, unhealthy_grace=0.1)
    server.statuses["own0"] = "UNHEALTHY"
    change = await guard(fleet_client, "own0", policy=policy)
    assert change.status is S.UNHEALTHY
    assert server.requests["get"] == 2
    patient = guard(fleet_client, "own0", policy=attrs.evolve(POLICY, unhealthy_grace=30))
    await until_polled(server, 3)
    server.statuses["own0"] = "ACTIVE"
    await until_polled(server)
    assert not patient.done()
    patient.cancel()


async def test_it_polls_at_the_pace_of_maximum(fleet_client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "LOADING_MODEL", "own")
    policy = PollPolicy(initial=0.01, maximum=0.2, jitter=0)
    with pytest.raises(WaitTimeout):
        await guard(fleet_client, "own0", timeout=0.9, policy=policy)
    assert 4 <= server.requests["get"] <= 6


async def test_a_thousand_guards_cost_one_list_per_tick(fleet_client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(1000, "ACTIVE", "own")
    policy = PollPolicy(initial=0.05, maximum=0.5, jitter=0)
    guards = [guard(fleet_client, each, policy=policy) for each in ids]
    await until_polled(server, 1)
    began = asyncio.get_running_loop().time()
    await until_polled(server, 4)
    assert asyncio.get_running_loop().time() - began >= 4 * 0.4
    assert server.requests == {"list": 5}
    server.set_all(ids, "FAILED")
    assert len(await asyncio.gather(*guards)) == 1000
    assert server.requests == {"list": 6}


async def test_a_guard_and_a_wait_share_the_polls_of_their_sampler(
    fleet_client: LoopsClient, server: FleetServer
) -> None:
    server.add(1, "BUILDING", "own")
    slow = PollPolicy(initial=60, maximum=60)
    guarding = guard(fleet_client, "own0", policy=slow)
    waiting = asyncio.create_task(wait_until_active(fleet_client, "own0", policy=POLICY))
    await until_polled(server, 4)
    server.statuses["own0"] = "ACTIVE"
    await waiting
    server.statuses["own0"] = "FAILED"
    with pytest.raises(SamplerFailed):
        await wait_until_active(fleet_client, "own0", policy=POLICY)
    assert (await guarding).status is S.FAILED


async def test_a_timeout_says_that_it_was_still_up(fleet_client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    with pytest.raises(WaitTimeout) as caught:
        await guard(fleet_client, "own0", timeout=0.1)
    assert "not ready" not in str(caught.value)
    assert caught.value.sampler is not None
    assert caught.value.sampler.status is S.ACTIVE
    assert [change.status for change in caught.value.history] == [S.ACTIVE]
    with pytest.raises(WaitTimeout):
        await guard(fleet_client, "own0", timeout=0)


async def test_the_final_poll_still_finds_it_down(fleet_client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    guarding = guard(fleet_client, "own0", timeout=0.2, policy=PollPolicy(initial=60, maximum=60))
    await until_polled(server, 1)
    server.statuses["own0"] = "FAILED"
    assert (await guarding).status is S.FAILED


async def test_a_missing_sampler_is_the_services_error_after_its_grace(
    fleet_client: LoopsClient, server: FleetServer
) -> None:
    server.add(2, "ACTIVE", "own")
    other = guard(fleet_client, "own1")
    policy = attrs.evolve(POLICY, missing_grace=0.2)
    guarding = guard(fleet_client, "own0", policy=policy)
    await asyncio.sleep(0.3)
    del server.statuses["own0"]
    await asyncio.sleep(0.1)
    server.statuses["own0"] = "ACTIVE"
    await asyncio.sleep(0.2)
    assert not guarding.done()
    began = asyncio.get_running_loop().time()
    del server.statuses["own0"]
    with pytest.raises(NotFoundError):
        await guarding
    assert asyncio.get_running_loop().time() - began >= 0.2
    assert not other.done()
    other.cancel()


async def test_an_outage_is_no_loss(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client()
    session = await client.sessions.create()
    sampler = await client.samplers.create(session_id=session.id, base_model="m")
    emulator.add_fault(Fault(method="GET", status=503, times=4))
    emulator.set_status(sampler.id, "ACTIVE")
    guarding = guard(client, sampler.id)
    while len(emulator.requests("GET", "/v1/loops/samplers/{sampler_id}")) < 6:
        await asyncio.sleep(0.001)
    assert not guarding.done()
    emulator.set_status(sampler.id, "FAILED")
    assert (await guarding).status is S.FAILED


async def test_a_rejected_key_ends_guards_too(fleet_client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "ACTIVE", "own")
    server.list_answers = [web.Response(status=401)]
    server.get_status = 401
    results = await asyncio.gather(*(guard(fleet_client, each) for each in ids), return_exceptions=True)
    assert {type(result) for result in results} == {AuthenticationError}


async def test_the_loss_ends_a_task_group_with_a_loop(fleet_client: LoopsClient, server: FleetServer) -> None:
    class Down(Exception):
        pass

    async def guarded() -> None:
        raise Down(await wait_until_down(fleet_client, "own0", policy=POLICY))

    server.add(1, "ACTIVE", "own")
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(guarded())
            working = group.create_task(asyncio.sleep(60))
            await until_polled(server)
            server.statuses["own0"] = "FAILED"
    assert caught.group_contains(Down)
    assert working.cancelled()


async def test_a_cancelled_guard_stops_the_polling(fleet_client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    guarding = guard(fleet_client, "own0")
    await until_polled(server)
    guarding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await guarding
    polls = server.requests.total()
    await asyncio.sleep(0.15)
    assert server.requests.total() == polls


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"policy": None}, TypeError),
        ({"sampler": ""}, ValueError),
        ({"sampler": None}, TypeError),
        ({"client": None}, TypeError),
    ],
)
async def test_a_bad_argument_sends_nothing(
    fleet_client: LoopsClient, server: FleetServer, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await wait_until_down(**{"client": fleet_client, "sampler": "x", **arguments})
    assert not server.requests
