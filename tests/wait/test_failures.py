"""What a failed poll means to its own wait and to the others: the column "poll" of the table of failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from loops_async import (
    AuthenticationError,
    BadRequestError,
    DeploymentStatus,
    LoopsClient,
    LoopsError,
    PermissionDeniedError,
    PollPolicy,
    Sampler,
    WaitTimeout,
    wait_until_active,
)
from loops_async._http.failures import POLL, Action, Failure, classify
from loops_async.emulator import Emulator

from ..fleet_server import FleetServer, document
from ..support import KEY, QUICK_POLL, QUICK_RETRY, ClientMaker

pytestmark = pytest.mark.quick_clock

S = DeploymentStatus
POLICY = PollPolicy(initial=0.02, factor=1.0, maximum=0.02, multiples={}, missing_grace=0.2)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


def wait(client: LoopsClient, sampler_id: str, **arguments: Any) -> asyncio.Task[Sampler]:
    return asyncio.create_task(wait_until_active(client, sampler_id, **{"policy": POLICY, **arguments}))


def status(code: int) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, headers={"Location": "/elsewhere"} if code < 400 else {})

    return answer


def body(text: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"sampler": ')
    assert request.transport is not None
    request.transport.close()
    return response


FAILURES: list[tuple[Failure, str, Answer]] = [
    (Failure.THROTTLED, "429", status(429)),
    *((Failure.REDIRECTED, str(code), status(code)) for code in (302, 303, 307)),
    *((Failure.REJECTED, str(code), status(code)) for code in (400, 402, 403, 405, 409, 410, 418, 422)),
    (Failure.UNAUTHENTICATED, "401", status(401)),
    (Failure.MISSING, "404", status(404)),
    *(
        (Failure.TRANSIENT, str(code), status(code))
        for code in (408, 499, 500, 501, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 530, 599)
    ),
    (Failure.TRANSIENT, "cut", cut),
    (Failure.TRANSIENT, "cut short", cut_short),
    (Failure.UNREADABLE, "a page", body("<html>be right back</html>")),
    (Failure.UNREADABLE, "another object", body("{}")),
    (Failure.UNREADABLE, "null", body('{"sampler": null}')),
    (Failure.MALFORMED, "no status", body(json.dumps({"sampler": {**document("faulty", "x"), "status": None}}))),
    (Failure.MALFORMED, "no date", body(json.dumps({"sampler": {**document("faulty", "x"), "created_at": "soon"}}))),
]


def test_every_class_of_the_table_is_tried() -> None:
    assert {failure for failure, _, _ in FAILURES} | {Failure.NOT_SENT} == set(POLL) == set(Failure)


@pytest.mark.parametrize(("failure", "name", "answer"), FAILURES, ids=[name for _, name, _ in FAILURES])
async def test_a_failed_poll_means_what_the_table_says(
    client: LoopsClient, server: FleetServer, failure: Failure, name: str, answer: Answer
) -> None:
    server.statuses = {"faulty": "ACTIVE", "fine": "BUILDING"}
    fine = wait(client, "fine")
    while not server.requests["get"]:
        await asyncio.sleep(0.001)
    server.get_answers["faulty"] = answer
    began = asyncio.get_running_loop().time()
    faulty = wait(client, "faulty")
    action = POLL[failure]
    if action is Action.GO_ON:
        while server.asked.count("faulty") < 4:
            await asyncio.sleep(0.001)
        await asyncio.sleep(POLICY.missing_grace)
        assert not faulty.done()
        del server.get_answers["faulty"]
        assert (await faulty).status is S.ACTIVE
    else:
        with pytest.raises(LoopsError) as caught:
            await faulty
        assert classify(caught.value) is failure
        took = asyncio.get_running_loop().time() - began
        if action is Action.PATIENCE:
            assert took >= POLICY.missing_grace
            assert server.asked.count("faulty") > 2
        else:
            assert server.asked.count("faulty") == 1
    if action is Action.END_ALL_WAITS:
        with pytest.raises(LoopsError) as ended:
            await fine
        assert classify(ended.value) is failure
        assert ended.value is not caught.value
    else:
        assert not fine.done()
        server.statuses["fine"] = "ACTIVE"
        assert (await fine).status is S.ACTIVE


async def test_a_poll_that_was_not_sent_is_repeated(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client()
    session = await client.sessions.create()
    sampler = await client.samplers.create(session_id=session.id, base_model="m")
    await emulator.aclose()
    waiting = wait(client, sampler.id, policy=attrs.evolve(QUICK_POLL, missing_grace=0))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await emulator.start()
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE


@pytest.mark.parametrize("code", [403, 404])
async def test_patience_starts_again_after_each_good_answer(
    client: LoopsClient, server: FleetServer, code: int
) -> None:
    """A gateway that says no in passing, long after the wait began, does not end it."""
    server.add(1, "BUILDING", "own")
    waiting = wait(client, "own0")
    for _ in range(3):
        await asyncio.sleep(0.12)
        server.get_answers["own0"] = status(code)
        await asyncio.sleep(0.12)
        server.get_answers.clear()
    assert not waiting.done()
    server.get_answers["own0"] = status(code)
    with pytest.raises(LoopsError) as caught:
        await waiting
    assert classify(caught.value) in {Failure.REJECTED, Failure.MISSING}


async def test_without_a_grace_a_refusal_ends_its_wait_at_once(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "BUILDING", "own")
    server.get_answers["own0"] = status(403)
    with pytest.raises(PermissionDeniedError):
        await wait(client, "own0", policy=attrs.evolve(POLICY, missing_grace=0))
    assert server.requests["get"] == 1


async def test_a_wait_that_times_out_during_its_patience_tells_why(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "BUILDING", "own")
    server.get_answers["own0"] = status(400)
    with pytest.raises(WaitTimeout) as caught:
        await wait(client, "own0", timeout=0.1, policy=attrs.evolve(POLICY, missing_grace=60))
    assert isinstance(caught.value.last_error, BadRequestError)


async def test_a_key_that_lists_do_not_accept_is_confirmed_by_one_get(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(40, "BUILDING", "own")
    server.list_answers = [web.Response(status=401)]
    server.get_status = 401
    results = await asyncio.gather(*(wait(client, each) for each in ids), return_exceptions=True)
    assert [type(result) for result in results] == [AuthenticationError] * 40
    assert server.requests == {"list": 1, "get": 1}


@pytest.mark.parametrize("code", [302, 400, 401, 403, 404, 405, 410])
async def test_a_list_that_is_refused_is_replaced_by_gets(client: LoopsClient, server: FleetServer, code: int) -> None:
    ids = server.add(40, "ACTIVE", "own")
    server.list_answers = [web.Response(status=code)] * 100
    assert len(await asyncio.gather(*(wait(client, each) for each in ids))) == 40
    assert server.requests == {"list": 1, "get": 40}


@pytest.mark.parametrize("code", [408, 429, 499, 500, 503, 520, 526, 599])
async def test_a_list_that_fails_is_repeated(client: LoopsClient, server: FleetServer, code: int) -> None:
    ids = server.add(40, "ACTIVE", "own")
    server.list_answers = [web.Response(status=code)]
    assert len(await asyncio.gather(*(wait(client, each) for each in ids))) == 40
    assert server.requests == {"list": 2}


async def test_a_page_in_place_of_a_list_is_waited_through(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(40, "ACTIVE", "own")
    server.list_answers = [web.Response(text="<html>"), web.Response(text='{"samplers": 5}')]
    assert len(await asyncio.gather(*(wait(client, each) for each in ids))) == 40
