"""What a wait makes of more than the status: address, serverless, history, callbacks; and what it leaves behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loops_async import (
    DeploymentStatus,
    LoopsClient,
    PollPolicy,
    Sampler,
    SamplerFailed,
    StatusChange,
    WaitTimeout,
    wait_until_active,
    watch,
)
from loops_async._wait import poller as poller_module
from loops_async._wait.schedule import Schedule

from ..fleet_server import FleetServer, document
from ..support import KEY, QUICK_RETRY

pytestmark = pytest.mark.quick_clock

S = DeploymentStatus
POLICY = PollPolicy(initial=0.02, factor=1.0, maximum=0.02, multiples={})


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


def start(client: LoopsClient, sampler: Sampler | str, **arguments: Any) -> asyncio.Task[Sampler]:
    return asyncio.create_task(wait_until_active(client, sampler, **{"policy": POLICY, **arguments}))


async def until_polled(server: FleetServer, more: int = 3) -> None:
    seen = server.requests.total()
    async with asyncio.timeout(5):
        while server.requests.total() < seen + more:
            await asyncio.sleep(0.001)


def describe(server: FleetServer, sampler_id: str, status: str, **details: Any) -> None:
    server.odd[sampler_id] = {**document(sampler_id, status), **details}


MANY = 30
"""Samplers that are polled by lists."""


@pytest.mark.parametrize("count", [1, MANY])
async def test_active_without_an_address_is_not_ready_yet(client: LoopsClient, server: FleetServer, count: int) -> None:
    ids = server.add(count, "ACTIVE", "own")
    for each in ids:
        describe(server, each, "ACTIVE", base_url="")
    changes: list[StatusChange] = []
    waits = [start(client, each, on_status=changes.append) for each in ids]
    await until_polled(server)
    assert not any(wait.done() for wait in waits)
    server.odd.clear()
    assert all(sampler.base_url for sampler in await asyncio.gather(*waits))
    # The address is no change of status.
    assert [change.status for change in changes] == [S.ACTIVE] * count


async def test_active_without_an_address_may_still_fail_or_be_late(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    describe(server, "own0", "ACTIVE", base_url="")
    with pytest.raises(WaitTimeout) as caught:
        await start(client, "own0", timeout=0.1)
    assert caught.value.sampler is not None
    assert caught.value.sampler.status is S.ACTIVE
    waiting = start(client, "own0")
    await until_polled(server)
    describe(server, "own0", "FAILED", base_url="")
    with pytest.raises(SamplerFailed):
        await waiting


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("status", [S.BUILDING, S.DEPLOYING, S.SCALED_TO_ZERO, S.ACTIVE, "SOMETHING_NEW"])
async def test_a_serverless_sampler_is_ready_at_once(
    client: LoopsClient, server: FleetServer, status: str, count: int
) -> None:
    ids = server.add(count, status, "own")
    for each in ids:
        describe(server, each, status, model_id=None, deployment_id=None)
    samplers = await asyncio.gather(*(start(client, each) for each in ids))
    assert {sampler.status for sampler in samplers} == {status}
    assert server.requests.total() == 1
    assert [change.status async for change in watch(client, ids[0], policy=POLICY)] == [status]


async def test_a_serverless_sampler_that_was_given_as_such_is_ready_at_once(
    client: LoopsClient, server: FleetServer
) -> None:
    server.add(1, "BUILDING", "own")
    describe(server, "own0", "BUILDING", model_id=None, deployment_id=None)
    sampler = await client.samplers.get("own0")
    assert await start(client, sampler) == sampler


@pytest.mark.parametrize("status", [S.FAILED, S.INACTIVE, S.UNHEALTHY, S.BUILD_FAILED])
async def test_a_serverless_sampler_that_failed_is_not_ready(
    client: LoopsClient, server: FleetServer, status: str
) -> None:
    server.add(1, status, "own")
    describe(server, "own0", status, model_id=None, deployment_id=None)
    with pytest.raises(SamplerFailed):
        await start(client, "own0")


async def test_a_sampler_with_one_of_both_ids_is_waited_for(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "BUILDING", "own")
    describe(server, "own0", "BUILDING", deployment_id=None)
    waiting = start(client, "own0")
    await until_polled(server)
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.parametrize("count", [1, MANY])
async def test_the_history_shows_the_sampler_as_it_was_at_each_step(
    client: LoopsClient, server: FleetServer, count: int
) -> None:
    ids = server.add(count, "BUILDING", "own")
    for each in ids:
        describe(server, each, "BUILDING", base_url="", instance_type=None)
    waits = [start(client, each) for each in ids]
    await until_polled(server)
    for each in ids:
        describe(server, each, "DEPLOYING", base_url="https://first.api.baseten.co/sync")
    await until_polled(server)
    for each in ids:
        describe(server, each, "FAILED", base_url="https://second.api.baseten.co/sync", node_count=2)
    for error in await asyncio.gather(*waits, return_exceptions=True):
        assert isinstance(error, SamplerFailed)
        assert [(change.previous, change.status) for change in error.history] == [
            (None, S.BUILDING),
            (S.BUILDING, S.DEPLOYING),
            (S.DEPLOYING, S.FAILED),
        ]
        assert [change.sampler.status for change in error.history] == [S.BUILDING, S.DEPLOYING, S.FAILED]
        assert [change.sampler.base_url[:14] for change in error.history] == ["", "https://first.", "https://second"]
        assert [change.sampler.node_count for change in error.history] == [1, 1, 2]
        assert error.sampler == error.history[-1].sampler


async def test_a_timeout_shows_the_sampler_as_it_was_last_seen(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "BUILDING", "own")
    describe(server, "own0", "BUILDING", base_url="")
    waiting = start(client, "own0", timeout=0.3)
    await until_polled(server)
    server.odd.clear()
    with pytest.raises(WaitTimeout) as caught:
        await waiting
    assert caught.value.sampler is not None
    assert caught.value.sampler.base_url
    assert [change.sampler.base_url for change in caught.value.history] == [""]


class AsyncCallable:
    async def __call__(self, _: StatusChange) -> None:
        raise AssertionError("never runs")


async def coroutine_function(_: StatusChange) -> None:
    raise AssertionError("never runs")


async def generator_function(_: StatusChange) -> AsyncIterator[None]:
    raise AssertionError("never runs")
    yield


class Awaitable:
    def __await__(self) -> Any:
        raise AssertionError("never runs")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "callback",
    [
        AsyncCallable(),
        coroutine_function,
        functools.partial(coroutine_function),
        lambda change: functools.partial(coroutine_function, change)(),
        lambda _: Awaitable(),
        lambda _: asyncio.get_running_loop().create_future(),
        generator_function,
    ],
    ids=["object", "function", "partial", "lambda", "awaitable", "future", "generator"],
)
async def test_a_callback_that_would_have_to_be_awaited_is_a_type_error(
    client: LoopsClient, server: FleetServer, callback: Callable[[StatusChange], object]
) -> None:
    server.add(2, "BUILDING", "own")
    fine = start(client, "own1")
    with pytest.raises(TypeError, match="on_status must be a plain function"):
        await wait_until_active(client, "own0", policy=POLICY, on_status=callback)
    gc.collect()
    server.statuses["own1"] = "ACTIVE"
    assert (await fine).status is S.ACTIVE


@pytest.mark.parametrize("result", [None, False, 5, "text", [], object()])
async def test_other_results_of_a_callback_are_ignored(
    client: LoopsClient, server: FleetServer, result: object
) -> None:
    server.add(1, "ACTIVE", "own")
    await wait_until_active(client, "own0", policy=POLICY, on_status=lambda _: result)


@pytest.mark.parametrize(
    ("name", "count"),
    [("tick", 1), ("tick", MANY), ("reschedule", 1), ("set_status", 1), ("set_status", MANY), ("align_groups", MANY)],
)
async def test_a_defect_of_the_poller_reaches_every_wait_and_is_reported_once(
    client: LoopsClient,
    server: FleetServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    count: int,
) -> None:
    ids = server.add(count, "BUILDING", "own")
    waits = [start(client, each) for each in ids]
    await until_polled(server)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(Schedule, name, broken)
        server.set_all(ids, "DEPLOYING")
        results = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * count
    gc.collect()
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    # The next wait starts from nothing.
    server.set_all(ids, "ACTIVE")
    assert (await start(client, ids[0])).status is S.ACTIVE


async def test_closing_the_client_ends_all_its_waits_with_one_clear_error(server: FleetServer) -> None:
    ids = server.add(MANY, "BUILDING", "own")
    client = LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None)
    early = watch(client, ids[0])
    waits = [start(client, each) for each in ids]
    server.list_delay = 0.2
    await until_polled(server, 1)
    await client.aclose()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert {(type(result), str(result)) for result in results} == {
        (RuntimeError, "the LoopsClient was closed while this wait was on")
    }
    # Neither a wait that begins now nor one that was made before polls any more.
    with pytest.raises(RuntimeError, match="closed"):
        await start(client, ids[0])
    with pytest.raises(RuntimeError, match="closed"):
        await anext(early)


async def test_a_client_with_waits_at_all_times_remembers_no_more_than_it_needs(
    client: LoopsClient, server: FleetServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "MAX_WARNED_STATUSES", 3)
    server.add(1, "BUILDING", "always")
    always = start(client, "always0")
    for index in range(20):
        (sampler_id,) = server.add(1, f"NEW_{index}", f"own{index}-")
        policy = PollPolicy(initial=0.02, maximum=0.02 + index / 1000, multiples={})
        waiting = start(client, sampler_id, policy=policy)
        await until_polled(server, 1)
        server.statuses[sampler_id] = "ACTIVE"
        await waiting
    await until_polled(server)
    poller = client._poller
    groups = poller._schedule._groups
    assert [(policy, list(statuses)) for policy, statuses in groups.items()] == [(POLICY, ["BUILDING"])]
    assert list(poller._schedule.samplers) == ["always0"]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 3
    server.statuses["always0"] = "ACTIVE"
    await always
    assert not poller._schedule._groups
    assert not poller._requests
