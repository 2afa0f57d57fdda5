"""One poll for all: plans, freshness, and what it costs, counted where the requests arrive."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import attrs
import pytest
from aiohttp import web

from loops_async import (
    AuthenticationError,
    DecodeError,
    DeploymentStatus,
    LoopsClient,
    NotFoundError,
    PollPolicy,
    Sampler,
    StatusChange,
    WaitTimeout,
    wait_until_active,
)
from loops_async._api import codec

from ..fleet_server import FleetServer, document
from ..support import KEY, QUICK_RETRY

pytestmark = pytest.mark.quick_clock

S = DeploymentStatus
POLICY = PollPolicy(initial=0.05, factor=1.0, maximum=0.05, multiples={})


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


def start(client: LoopsClient, ids: list[str], policy: PollPolicy = POLICY) -> list[asyncio.Task[Sampler]]:
    return [asyncio.create_task(wait_until_active(client, sampler_id, policy=policy)) for sampler_id in ids]


async def until_listed(server: FleetServer, more: int = 1) -> None:
    seen = server.requests["list"]
    async with asyncio.timeout(5):
        while server.requests["list"] < seen + more:
            await asyncio.sleep(0.001)


async def test_a_few_among_thousands_of_inactive_are_polled_by_get(client: LoopsClient, server: FleetServer) -> None:
    server.add(3_000, "INACTIVE", "dead")
    ids = server.add(2, "BUILDING", "own")
    waits = start(client, ids)
    await asyncio.sleep(0.3)
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)
    assert server.requests["list"] == 0
    assert 4 <= server.requests["get"] <= 20


async def test_hundreds_among_thousands_of_inactive_are_polled_by_lists(
    client: LoopsClient, server: FleetServer
) -> None:
    server.add(3_000, "INACTIVE", "dead")
    ids = server.add(500, "BUILDING", "own")
    waits = start(client, ids)
    await until_listed(server, 3)
    server.set_all(ids, "ACTIVE")
    results = await asyncio.gather(*waits)
    assert [sampler.id for sampler in results] == ids
    assert all(sampler.status is S.ACTIVE for sampler in results)
    assert server.requests["get"] == 0


async def test_the_last_of_many_is_polled_by_get(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(1_000, "BUILDING", "own")
    waits = start(client, ids)
    await until_listed(server)
    server.set_all(ids[:-1], "ACTIVE")
    await asyncio.gather(*waits[:-1])
    lists = server.requests["list"]
    await asyncio.sleep(0.2)
    server.set_all(ids, "ACTIVE")
    await waits[-1]
    # One list may have been under way.
    assert server.requests["list"] <= lists + 1
    assert set(server.asked) == {ids[-1]}


async def run_for(server: FleetServer, count: int, prefix: str) -> int:
    """Wait for *count* samplers that come up after a second; return the requests that it took."""
    ids = server.add(count, "BUILDING", prefix)
    before = server.requests.total()
    policy = PollPolicy(initial=0.1, factor=1.0, maximum=0.1)
    async with LoopsClient(KEY, base_url=server.url, rate_limit=None) as client:
        waits = start(client, ids, policy)
        await asyncio.sleep(1.0)
        server.set_all(ids, "ACTIVE")
        await asyncio.gather(*waits)
    return server.requests.total() - before


async def test_requests_do_not_grow_with_the_number_of_waits(server: FleetServer) -> None:
    few = await run_for(server, 10, "few")
    many = await run_for(server, 3_000, "many")
    # Ten within the second, one before it and one after it; on a busy machine, polls are further apart.
    assert many <= max(few, 12)
    assert few <= 12


async def test_what_the_list_lacks_is_asked_for_and_absence_fails_nothing(
    client: LoopsClient, server: FleetServer
) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.unlisted = set(ids[:3])
    waits = start(client, ids)
    await until_listed(server, 3)
    assert set(server.asked) == set(ids[:3])
    server.set_all(ids, "ACTIVE")
    assert len(await asyncio.gather(*waits)) == 30


async def test_a_sampler_that_the_list_shows_only_later_goes_back_to_it(
    client: LoopsClient, server: FleetServer
) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.unlisted = {ids[0]}
    waits = start(client, ids)
    await until_listed(server, 2)
    server.unlisted = set()
    await until_listed(server, 2)
    gets = server.requests["get"]
    await until_listed(server, 4)
    assert server.requests["get"] <= gets + 1
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


async def test_a_sampler_that_exists_nowhere_is_not_found_alone(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "BUILDING", "own")
    policy = attrs.evolve(POLICY, missing_grace=0.2)
    waits = start(client, ids, policy)
    (lost,) = start(client, ["unknown"], policy)
    with pytest.raises(NotFoundError):
        await lost
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


@pytest.mark.parametrize(
    ("odd", "path"),
    [
        ({"id": "own3"}, "status"),
        ({**document("own3", "ACTIVE"), "created_at": "yesterday"}, "created_at"),
        ({**document("own3", "ACTIVE"), "status": {"name": 5}}, "status.name"),
    ],
)
async def test_a_malformed_item_hurts_one_wait(
    client: LoopsClient, server: FleetServer, odd: dict[str, object], path: str
) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.odd = {"own3": odd}
    server.statuses["foreign"] = "ACTIVE"
    server.odd["foreign"] = {"nothing": "of use"}
    waits = start(client, ids)
    with pytest.raises(DecodeError) as caught:
        await waits[3]
    assert caught.value.sampler_id == "own3"
    assert caught.value.path.startswith("$.samplers[3].")
    assert not any(wait.done() for wait in waits[:3] + waits[4:])
    server.set_all(ids, "ACTIVE")
    results = await asyncio.gather(*waits[:3], *waits[4:])
    assert len(results) == 29
    assert path


async def test_a_wait_that_subscribes_during_a_list_is_served_by_the_next_one(
    client: LoopsClient, server: FleetServer
) -> None:
    ids = server.add(30, "FAILED", "own")
    server.list_delay = 0.1
    waits = start(client, ids[:-1])
    await until_listed(server)
    server.set_all(ids, "ACTIVE")
    (late,) = start(client, ids[-1:])
    assert (await late).status is S.ACTIVE
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert not any(isinstance(result, Sampler) for result in results)


async def test_a_list_does_not_end_a_later_wait_for_the_same_sampler(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "FAILED", "own")
    server.list_delay = 0.1
    waits = start(client, ids)
    await until_listed(server)
    server.set_all(ids, "ACTIVE")
    late = start(client, ids)
    assert all(sampler.status is S.ACTIVE for sampler in await asyncio.gather(*late))
    await asyncio.gather(*waits, return_exceptions=True)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_lists_that_fail_are_waited_through(client: LoopsClient, server: FleetServer, status: int) -> None:
    ids = server.add(30, "ACTIVE", "own")
    server.list_answers = [web.Response(status=status), web.Response(text="<html>"), web.Response(text="{}")]
    async with asyncio.timeout(5):
        assert len(await asyncio.gather(*start(client, ids))) == 30


async def test_a_rejected_key_ends_all_waits_and_no_later_one(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(40, "BUILDING", "own")
    server.list_answers = [web.Response(status=401)]
    server.get_status = 401
    results = await asyncio.gather(*start(client, ids), return_exceptions=True)
    assert [type(result) for result in results] == [AuthenticationError] * 40
    assert len({id(result) for result in results}) == 40
    server.get_status = 200
    server.set_all(ids, "ACTIVE")
    assert len(await asyncio.gather(*start(client, ids))) == 40


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_list_that_is_refused_is_not_requested_again(
    client: LoopsClient, server: FleetServer, status: int
) -> None:
    """To list takes another right than to get."""
    ids = server.add(40, "BUILDING", "own")
    server.list_answers = [web.Response(status=status)] * 100
    waits = start(client, ids)
    async with asyncio.timeout(5):
        while server.requests["get"] < 120:
            await asyncio.sleep(0.005)
    server.set_all(ids, "ACTIVE")
    assert len(await asyncio.gather(*waits)) == 40
    assert server.requests["list"] == 1


async def test_a_list_that_stays_broken_is_given_up(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(40, "ACTIVE", "own")
    server.list_answers = [web.Response(status=500) for _ in range(100)]
    async with asyncio.timeout(5):
        assert len(await asyncio.gather(*start(client, ids))) == 40
    assert server.requests["list"] <= 5


async def test_a_pause_named_to_a_list_holds_back_creates_too(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.list_answers = [web.Response(status=429, headers={"Retry-After": "0.3"})]
    waits = start(client, ids)
    await until_listed(server)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.02)
    await client.samplers.create(session_id="s", base_model="m")
    assert asyncio.get_running_loop().time() - began >= 0.28
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


async def test_final_polls_of_one_deadline_are_one_list(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(200, "BUILDING", "own")
    policy = PollPolicy(initial=60, maximum=60)
    waits = [asyncio.create_task(wait_until_active(client, each, timeout=0.3, policy=policy)) for each in ids]
    await until_listed(server)
    # Deadlines are rounded to a hundredth of a second; on a busy machine, 200 waits take longer than that to begin.
    poller = client._poller
    deadlines = {entry.deadline for entry in poller._schedule.samplers.values()}
    assert len(deadlines) < 20
    server.set_all(ids[:150], "ACTIVE")
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(result) for result in results] == [Sampler] * 150 + [WaitTimeout] * 50
    assert server.requests["list"] <= 1 + len(deadlines)
    assert server.requests["get"] <= 12
    timeout = results[-1]
    assert isinstance(timeout, WaitTimeout)
    assert timeout.sampler is not None
    assert [change.status for change in timeout.history] == [S.BUILDING]


async def test_the_end_of_the_last_wait_stops_the_polling(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(50, "BUILDING", "own")
    waits = start(client, ids)
    await until_listed(server, 2)
    for wait in waits:
        wait.cancel()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "loops-async-poll"]
    await asyncio.sleep(0.02)
    lists = server.requests["list"]
    await asyncio.sleep(0.15)
    assert server.requests["list"] == lists


async def test_cancelling_some_leaves_the_others(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(50, "BUILDING", "own")
    waits = start(client, ids)
    await until_listed(server)
    for wait in waits[::2]:
        wait.cancel()
    server.set_all(ids, "ACTIVE")
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert sum(isinstance(result, Sampler) for result in results) == 25


async def test_changes_seen_in_lists_show_the_sampler_as_it_was(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "BUILDING", "own")
    changes: list[StatusChange] = []
    watched = asyncio.create_task(wait_until_active(client, ids[0], policy=POLICY, on_status=changes.append))
    waits = start(client, ids[1:])
    for status in ("DEPLOYING", "LOADING_MODEL", "ACTIVE"):
        await until_listed(server, 2)
        server.set_all(ids, status)
    await asyncio.gather(watched, *waits)
    assert [change.status for change in changes] == [S.BUILDING, S.DEPLOYING, S.LOADING_MODEL, S.ACTIVE]
    assert [change.sampler.status for change in changes] == [change.status for change in changes]
    assert {change.sampler.id for change in changes} == {ids[0]}


async def test_a_burst_of_waits_shares_few_polls(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(100, "BUILDING", "own")
    policy = PollPolicy(initial=0.2, factor=1, maximum=0.2)
    waits = []
    began = asyncio.get_running_loop().time()
    for sampler_id in ids:
        waits += start(client, [sampler_id], policy)
        await asyncio.sleep(0.005)
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)
    # A busy machine takes longer than the two thirds of a second that this lasts otherwise.
    seconds = max(0.65, asyncio.get_running_loop().time() - began)
    assert server.requests.total() <= 15 * seconds / 0.65


async def test_the_first_poll_is_sent_at_once(client: LoopsClient, server: FleetServer) -> None:
    (sampler_id,) = server.add(1, "ACTIVE", "own")
    async with asyncio.timeout(1):
        for _ in range(3):
            await wait_until_active(client, sampler_id)
    assert server.requests["get"] == 3


async def test_a_crowd_is_not_polled_faster_than_initial(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(40, "LOADING_MODEL", "own")
    policy = PollPolicy(initial=0.1, factor=1, maximum=0.1, multiples={"LOADING_MODEL": 0.01}, jitter=0)
    waits = start(client, ids, policy)
    await asyncio.sleep(0.55)
    assert server.requests.total() <= 7
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


async def test_one_sampler_in_its_last_stage_is_polled_faster_than_initial(
    client: LoopsClient, server: FleetServer
) -> None:
    ids = server.add(1, "LOADING_MODEL", "own")
    policy = PollPolicy(initial=0.5, factor=1, maximum=0.5, multiples={"LOADING_MODEL": 0.04})
    waits = start(client, ids, policy)
    await asyncio.sleep(0.3)
    assert server.requests["get"] >= 8
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


def test_each_loop_has_a_client_of_its_own() -> None:
    async def main() -> int:
        async with FleetServer() as server:
            ids = server.add(30, "ACTIVE", "own")
            async with (
                LoopsClient(KEY, base_url=server.url, rate_limit=None) as one,
                LoopsClient(KEY, base_url=server.url, rate_limit=None) as other,
            ):
                results = await asyncio.gather(*start(one, ids), *start(other, ids))
        return len(results)

    assert [asyncio.run(main()) for _ in range(2)] == [60, 60]


async def test_slices_give_the_loop_its_turn(client: LoopsClient, server: FleetServer) -> None:
    """Five thousand waits that end at once come in pieces; how long the pieces are is the benchmark's to say."""
    ids = server.add(5_000, "BUILDING", "own")
    waits = start(client, ids)
    await until_listed(server)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while not waits[-1].done():
            turns += any(wait.done() for wait in waits[:10])
            await asyncio.sleep(0)

    server.set_all(ids, "ACTIVE")
    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*waits)
    await counting
    assert turns > 3


async def test_a_value_that_cannot_be_read_hurts_one_wait(client: LoopsClient, server: FleetServer) -> None:
    """Its row can be scanned, so that it comes to light only when the sampler is needed."""
    ids = server.add(30, "SCALED_TO_ZERO", "own")
    # They are woken, where no name has to be looked up.
    here = {"base_url": "http://127.0.0.1:9/deployment/d/sync"}
    samplers = [
        codec.decode_sampler(json.dumps({"sampler": document(each, "BUILDING") | here}).encode(), "") for each in ids
    ]
    rows = [json.dumps(document(each, "SCALED_TO_ZERO") | here).encode() for each in ids]
    rows[3] = rows[3].replace(b'"m1"', b"5")
    server.list_answers = [
        web.Response(body=b'{"samplers": [' + b",".join(rows) + b"]}", content_type="application/json")
    ]
    waits = [asyncio.create_task(wait_until_active(client, sampler, policy=POLICY)) for sampler in samplers]
    with pytest.raises(DecodeError) as caught:
        await waits[3]
    assert caught.value.sampler_id == "own3"
    server.set_all(ids, "ACTIVE")
    assert len(await asyncio.gather(*waits[:3], *waits[4:])) == 29


async def test_an_outage_during_a_grace_is_not_hammered(client: LoopsClient, server: FleetServer) -> None:
    (sampler_id,) = server.add(1, "UNHEALTHY", "own")
    policy = PollPolicy(initial=0.2, factor=1, maximum=0.2, unhealthy_grace=0.1)
    (waiting,) = start(client, [sampler_id], policy)
    while not server.requests["get"]:
        await asyncio.sleep(0.001)
    server.get_status = 503
    await asyncio.sleep(1.0)
    assert server.requests["get"] <= 8
    server.get_status = 200
    server.set_all([sampler_id], "ACTIVE")
    await waiting


async def test_a_final_poll_of_an_unlisted_sampler_does_not_stop_the_polls_of_others(
    client: LoopsClient, server: FleetServer
) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.unlisted = {ids[0]}
    short = [asyncio.create_task(wait_until_active(client, each, timeout=0.1, policy=POLICY)) for each in ids]
    (longer,) = start(client, ids[:1])
    results = await asyncio.gather(*short, return_exceptions=True)
    assert [type(result) for result in results] == [WaitTimeout] * 30
    server.set_all(ids, "ACTIVE")
    async with asyncio.timeout(1):
        await longer


async def test_a_final_poll_is_a_get_where_the_list_fails(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(20, "ACTIVE", "own")
    server.list_answers = [web.Response(status=500)]
    waits = [asyncio.create_task(wait_until_active(client, each, timeout=0, policy=POLICY)) for each in ids]
    assert len(await asyncio.gather(*waits)) == 20
    assert server.requests == {"list": 1, "get": 20}


@pytest.mark.parametrize("quick_first", [True, False])
async def test_the_quickest_of_several_policies_sets_the_pace(
    client: LoopsClient, server: FleetServer, quick_first: bool
) -> None:
    (sampler_id,) = server.add(1, "BUILDING", "own")
    quick = PollPolicy(initial=0.05, factor=1, maximum=0.05)
    slow = PollPolicy(initial=0.04, factor=50, maximum=60)
    policies = [quick, slow] if quick_first else [slow, quick]
    waits = []
    for policy in policies:
        waits += start(client, [sampler_id], policy)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.4)
    assert server.requests["get"] >= 6
    server.set_all([sampler_id], "ACTIVE")
    await asyncio.gather(*waits)


async def test_a_pause_is_no_part_of_the_cost(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(30, "BUILDING", "own")
    server.list_answers = [web.Response(status=429, headers={"Retry-After": "1"})]
    waits = start(client, ids)
    await asyncio.sleep(1.4)
    assert server.requests["list"] >= 3
    assert server.requests["get"] == 0
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


async def test_a_list_that_lags_is_tried_again(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(50, "BUILDING", "own")
    server.unlisted = set(ids)
    waits = start(client, ids)
    await until_listed(server)
    server.unlisted = set()
    await until_listed(server, 2)
    # What was sent beside this list, for samplers that no list had shown until then, may still be on its way.
    await asyncio.sleep(0.02)
    gets = server.requests["get"]
    await until_listed(server, 3)
    assert server.requests["get"] == gets
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)


async def test_a_callback_may_begin_another_wait(client: LoopsClient, server: FleetServer) -> None:
    (sampler_id,) = server.add(1, "ACTIVE", "own")
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    begun: list[asyncio.Task[Sampler]] = []

    def begin(_: StatusChange) -> None:
        begun.extend(start(client, [sampler_id]))

    async with asyncio.timeout(2):
        await wait_until_active(client, sampler_id, policy=POLICY, on_status=begin)
        await asyncio.gather(*begun)
    loop.set_task_factory(None)


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, ValueError, asyncio.CancelledError])
async def test_what_a_callback_raises_ends_its_own_wait_alone(
    client: LoopsClient, server: FleetServer, error: type[BaseException]
) -> None:
    ids = server.add(20, "BUILDING", "own")

    def refuse(_: StatusChange) -> None:
        raise error

    waits = start(client, ids)
    bad = asyncio.create_task(wait_until_active(client, ids[0], policy=POLICY, on_status=refuse))
    results = await asyncio.gather(bad, return_exceptions=True)
    assert isinstance(results[0], BaseException)
    server.set_all(ids, "ACTIVE")
    assert len(await asyncio.gather(*waits)) == 20
