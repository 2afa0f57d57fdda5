"""Creates: never repeated on a guess, never orphaned."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from loops_async import (
    APIError,
    CreateOutcomeUnknown,
    DecodeError,
    LoopsClient,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TeardownError,
    TransportError,
    wait_until_active,
)
from loops_async._api import creating
from loops_async.emulator import Emulator, Fault

from ..support import KEY, QUICK_POLL, QUICK_RETRY, ClientMaker, serving

pytestmark = pytest.mark.quick_clock

SAMPLERS = "/v1/loops/samplers"
SAMPLER = "/v1/loops/samplers/{sampler_id}"


@pytest.fixture(autouse=True)
def quick_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)


def posts(emulator: Emulator) -> int:
    return len(emulator.requests("POST", SAMPLERS))


async def test_sends_what_is_set_and_nothing_else(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    await client.samplers.create(session_id=session_id, base_model="Qwen/Qwen3-8B")
    await client.samplers.create(
        session_id=session_id,
        base_model="Qwen/Qwen3-8B",
        max_seq_length=8192,
        model_path="bt://loops:k4q95w5/sampler_weights/step-100",
        reuse_from_session_id=session_id,
        num_replicas=2,
        availability_model="spot",
    )
    bare, full = emulator.requests("POST", SAMPLERS)
    assert bare.json == {"session_id": session_id, "base_model": "Qwen/Qwen3-8B"}
    assert full.json == {
        "session_id": session_id,
        "base_model": "Qwen/Qwen3-8B",
        "max_seq_length": 8192,
        "model_path": "bt://loops:k4q95w5/sampler_weights/step-100",
        "reuse_from_session_id": session_id,
        "num_replicas": 2,
        "availability_model": "spot",
    }
    assert bare.headers["Content-Type"] == "application/json"


async def test_429_is_repeated_until_it_is_made(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, status=429, retry_after="0", times=3))
    sampler = await client.samplers.create(session_id=session_id, base_model="m")
    assert posts(emulator) == 4
    assert emulator.billed == {sampler.id}


async def test_429_for_ever_is_the_error(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, status=429, times=None))
    with pytest.raises(RateLimitError):
        await client.samplers.create(session_id=session_id, base_model="m")
    assert posts(emulator) == QUICK_RETRY.attempts


async def test_no_connection_is_repeated(make_client: ClientMaker, unused_tcp_port: int) -> None:
    async with Emulator(port=unused_tcp_port) as late:
        client = make_client(base_url=late.url, retry=RetryPolicy(attempts=50, initial=0.02, maximum=0.02))
        session = await client.sessions.create()
        await late.aclose()
        creating = asyncio.create_task(client.samplers.create(session_id=session.id, base_model="m"))
        await asyncio.sleep(0.05)
        await late.start()
        sampler = await creating
        assert late.billed == {sampler.id}


async def test_no_connection_at_all_is_a_transport_error(make_client: ClientMaker, unused_tcp_port: int) -> None:
    client = make_client(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(TransportError) as caught:
        await client.samplers.create(session_id="s", base_model="m")
    assert caught.value.sent is False


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
async def test_a_refusal_is_told_and_not_repeated(
    client: LoopsClient, emulator: Emulator, session_id: str, status: int
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, status=status))
    with pytest.raises(APIError) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert caught.value.status == status
    assert len(emulator.received) == 1


LOST = [
    Fault(method="POST", route=SAMPLERS, cut="after"),
    Fault(method="POST", route=SAMPLERS, status_after=500),
    Fault(method="POST", route=SAMPLERS, status_after=502, body=b"<html>"),
    Fault(method="POST", route=SAMPLERS, status_after=504),
    Fault(method="POST", route=SAMPLERS, status_after=408),
    Fault(method="POST", route=SAMPLERS, delay_after=0.5),
    Fault(method="POST", route=SAMPLERS, body=b"<html>all is well</html>"),
    Fault(method="POST", route=SAMPLERS, body=b'{"sampler": {}}'),
    Fault(method="POST", route=SAMPLERS, body=b""),
    Fault(method="POST", route=SAMPLERS, partial=5),
]


@pytest.mark.parametrize("fault", LOST, ids=repr)
async def test_a_lost_answer_is_unknown_and_names_the_candidate(
    make_client: ClientMaker, emulator: Emulator, session_id: str, fault: Fault
) -> None:
    client = make_client(request_timeout=0.25)
    own = await client.samplers.create(session_id=session_id, base_model="m")
    await client.samplers.create(session_id=session_id, base_model="another")
    emulator.clear_received()
    emulator.add_fault(fault)
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await client.samplers.create(session_id=session_id, base_model="m", num_replicas=3)
    assert posts(emulator) == 1
    assert {sampler.id for sampler in caught.value.candidates} == {emulator.samplers[-1].id}
    assert own.id not in str(caught.value)
    assert caught.value.spec.num_replicas == 3
    assert isinstance(caught.value.__cause__, (TransportError, APIError, DecodeError))
    # Nothing was adopted, repeated or released.
    assert len(emulator.billed) == 3


@pytest.mark.parametrize(
    "fault",
    [Fault(method="POST", route=SAMPLERS, cut="before"), Fault(method="POST", route=SAMPLERS, status=503)],
    ids=repr,
)
async def test_a_failure_without_a_sampler_is_unknown_without_candidates(
    client: LoopsClient, emulator: Emulator, session_id: str, fault: Fault
) -> None:
    emulator.add_fault(fault)
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert caught.value.candidates == ()
    assert posts(emulator) == 1
    # A list can lag behind, so an empty one is read twice.
    assert len(emulator.requests("GET", SAMPLERS)) == 2


async def test_candidates_that_cannot_be_listed_are_told_as_such(
    client: LoopsClient, emulator: Emulator, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut="after"))
    emulator.add_fault(Fault(method="GET", route=SAMPLERS, status=503, times=None))
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert isinstance(caught.value.look_error, ServerError)
    assert "the search for it failed" in str(caught.value)


async def test_candidates_are_matched_by_model_owner_and_time(make_client: ClientMaker) -> None:
    now = datetime.now(UTC)

    def listed(id: str, **changes: Any) -> dict[str, Any]:
        item = {
            "id": id,
            "base_url": "https://x.api.baseten.co/sync",
            "base_model": "m",
            "created_at": now.isoformat(),
            "status": {"name": "BUILDING"},
            "user": {"email": "me@example.com"},
        }
        return {**item, **changes}

    own = listed("own")
    items = [
        listed("skewed-ahead", created_at=(now + timedelta(seconds=90)).isoformat()),
        listed("skewed-behind", created_at=(now - timedelta(seconds=90)).isoformat()),
        listed("no-owner", user=None),
        listed("other-model", base_model="n"),
        listed("other-owner", user={"email": "you@example.com"}),
        listed("old", created_at=(now - timedelta(hours=1)).isoformat()),
        {"id": "unreadable"},
        own,
    ]
    answers = [web.json_response({"sampler": own}), web.Response(status=500)]

    async def create(_: web.Request) -> web.StreamResponse:
        return answers.pop(0)

    async def list_all(_: web.Request) -> web.Response:
        return web.json_response({"samplers": items})

    async with serving(web.post(SAMPLERS, create), web.get(SAMPLERS, list_all)) as url:
        client = make_client(base_url=url)
        await client.samplers.create(session_id="s", base_model="m")
        with pytest.raises(CreateOutcomeUnknown) as caught:
            await client.samplers.create(session_id="s", base_model="m")
    assert [sampler.id for sampler in caught.value.candidates] == ["skewed-ahead", "skewed-behind", "no-owner"]


async def test_a_sampler_whose_own_create_is_still_unanswered_is_no_candidate(
    client: LoopsClient, emulator: Emulator, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay_after=0.2))
    slow = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    while not emulator.billed:
        await asyncio.sleep(0.001)
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut="before"))
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert caught.value.candidates == ()
    assert emulator.billed == {(await slow).id}


@pytest.mark.parametrize(
    "change", [{"status": None}, {"created_at": "soon"}, {"base_model": 5}, {"base_url": 1}], ids=repr
)
async def test_a_sampler_with_an_id_is_created_whatever_else_is_wrong(
    client: LoopsClient, emulator: Emulator, session_id: str, change: dict[str, Any]
) -> None:
    body = json.dumps({"sampler": {"id": "smp1", "base_url": "", "base_model": "m", **change}}).encode()
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, body=body))
    with pytest.raises(DecodeError) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert caught.value.sampler_id == "smp1"
    assert "smp1" in str(caught.value)
    assert len(emulator.received) == 1


async def test_the_id_is_kept_from_an_answer_that_was_cut(make_client: ClientMaker) -> None:
    async def create(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "500"})
        await response.prepare(request)
        await response.write(b'{"sampler": {"id": "smp1", "base_')
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(web.post(SAMPLERS, create)) as url:
        client = make_client(base_url=url)
        with pytest.raises(DecodeError) as caught:
            await client.samplers.create(session_id="s", base_model="m")
    assert caught.value.sampler_id == "smp1"


@pytest.fixture
def slow(emulator: Emulator) -> Emulator:
    """An emulator that takes its time with creates, before and after it makes the sampler."""
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay=0.01, delay_after=0.01, times=None))
    return emulator


@pytest.mark.parametrize("cancels", [1, 2])
async def test_creates_cancelled_at_any_moment_leave_nothing_alive(
    slow: Emulator, client: LoopsClient, session_id: str, cancels: int
) -> None:
    rng = random.Random(cancels)
    made = []
    for _ in range(60):
        creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
        await asyncio.sleep(rng.uniform(0, 0.03))
        for _ in range(cancels):
            creating.cancel()
            await asyncio.sleep(rng.uniform(0, 0.005))
        try:
            made.append((await creating).id)
        except asyncio.CancelledError:
            assert slow.billed == set(made)
    assert slow.billed == set(made)
    assert len(made) < 60 <= len(made) + len(slow.samplers)


async def test_a_burst_cancelled_at_random_moments_leaves_nothing_alive(
    slow: Emulator, make_client: ClientMaker, session_id: str
) -> None:
    client = make_client(max_connections=20)
    rng = random.Random(7)
    creating = [asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m")) for _ in range(200)]
    for task in creating:
        asyncio.get_running_loop().call_later(rng.uniform(0, 0.15), task.cancel)
    results = await asyncio.gather(*creating, return_exceptions=True)
    kept = {result.id for result in results if not isinstance(result, BaseException)}
    assert slow.billed == kept
    assert all(isinstance(r, asyncio.CancelledError) for r in results if isinstance(r, BaseException))
    assert len(slow.samplers) > len(kept)


async def test_a_cancel_before_the_request_is_sent_takes_effect_at_once(
    emulator: Emulator, make_client: ClientMaker, session_id: str
) -> None:
    client = make_client(max_connections=1)
    emulator.add_fault(Fault(method="GET", route=SAMPLERS, delay=0.2))
    listing = asyncio.create_task(client.samplers.list())
    await asyncio.sleep(0.02)
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    await asyncio.sleep(0.01)
    creating.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert creating.cancelled()
    await listing
    assert posts(emulator) == 0


@pytest.mark.parametrize("status", [429, 503])
async def test_the_release_of_a_cancelled_create_is_retried(
    slow: Emulator, client: LoopsClient, session_id: str, status: int
) -> None:
    slow.add_fault(Fault(method="POST", route=SAMPLER + "/deactivate", status=status, times=2))
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    await asyncio.sleep(0.015)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await creating
    assert caught.value.__cause__ is None
    assert len(slow.samplers) == 1
    assert slow.billed == set()


async def test_what_a_cancelled_create_could_not_release_is_told_with_its_id(
    slow: Emulator, client: LoopsClient, session_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow.add_fault(Fault(method="POST", route=SAMPLER + "/deactivate", status=500, times=None))
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.015):
            await client.samplers.create(session_id=session_id, base_model="m")
    (left,) = slow.billed
    assert caught.value.__cause__ is not None
    teardown = caught.value.__cause__.__cause__
    assert isinstance(teardown, TeardownError)
    assert teardown.sampler_ids == (left,)
    assert left in caplog.text


async def test_a_cancelled_create_with_an_unknown_outcome_tells_its_candidates(
    emulator: Emulator, client: LoopsClient, session_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay=0.03, cut="after"))
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    await asyncio.sleep(0.02)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await creating
    assert isinstance(caught.value.__cause__, CreateOutcomeUnknown)
    assert {sampler.id for sampler in caught.value.__cause__.candidates} == emulator.billed
    assert next(iter(emulator.billed)) in caplog.text


async def test_a_cancel_while_candidates_are_looked_for_still_tells_of_the_unknown(
    emulator: Emulator, client: LoopsClient, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut="after"))
    emulator.add_fault(Fault(method="GET", route=SAMPLERS, delay=0.2))
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    while not emulator.requests("GET", SAMPLERS):
        await asyncio.sleep(0.001)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await creating
    assert isinstance(caught.value.__cause__, CreateOutcomeUnknown)


@pytest.mark.usual_clock
async def test_a_create_left_running_by_asyncio_run_is_undone(emulator: Emulator, session_id: str) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay_after=0.1))

    async def main() -> None:
        client = LoopsClient(KEY, base_url=emulator.url)
        left_behind = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
        await asyncio.sleep(0.05)
        assert not left_behind.done()
        left_behind.add_done_callback(lambda _: asyncio.ensure_future(client.aclose()))

    await asyncio.to_thread(asyncio.run, main())
    assert len(emulator.samplers) == 1
    assert emulator.billed == set()


async def test_closing_the_client_waits_for_creates_in_flight(
    emulator: Emulator, make_client: ClientMaker, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay_after=0.05, times=2))
    client = make_client()
    kept = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    dropped = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    while len(emulator.billed) < 2:
        await asyncio.sleep(0.001)
    dropped.cancel()
    await client.aclose()
    assert emulator.billed == {(await kept).id}
    with pytest.raises(asyncio.CancelledError):
        await dropped


async def test_a_bad_argument_sends_nothing(client: LoopsClient, emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="session_id"):
        await client.samplers.create(session_id="", base_model="m")
    with pytest.raises(TypeError, match="session_id"):
        await client.samplers.create(session_id=None, base_model="m")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampler_weights"):
        await client.samplers.create(session_id="s", base_model="m", model_path="bt://loops:r/weights/a")
    assert emulator.received == ()


async def test_the_services_own_refusal_is_readable(client: LoopsClient) -> None:
    with pytest.raises(NotFoundError, match="no-such-session") as caught:
        await client.samplers.create(session_id="no-such-session", base_model="m")
    assert caught.value.code is not None


async def test_a_closed_foreign_session_is_no_unknown_create(make_client: ClientMaker) -> None:
    session = aiohttp.ClientSession()
    client = make_client(session=session)
    await session.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.samplers.create(session_id="s", base_model="m")


async def test_a_404_does_not_excuse_the_release_of_what_was_just_made(
    slow: Emulator, client: LoopsClient, session_id: str
) -> None:
    """A new sampler can be unknown to other parts of the service for a while."""
    slow.add_fault(Fault(method="POST", route=SAMPLER + "/deactivate", status=404, times=2))
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    await asyncio.sleep(0.015)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await creating
    assert caught.value.__cause__ is None
    assert slow.billed == set()


async def test_a_404_that_stays_is_told(slow: Emulator, client: LoopsClient, session_id: str) -> None:
    slow.add_fault(Fault(method="POST", route=SAMPLER + "/deactivate", status=404, times=None))
    creating = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    await asyncio.sleep(0.015)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await creating
    assert isinstance(caught.value.__cause__, TeardownError)
    assert set(caught.value.__cause__.sampler_ids) == slow.billed


async def test_an_id_that_makes_no_path_is_told_instead_of_sent(make_client: ClientMaker) -> None:
    sampler = {
        "id": "..",
        "base_url": "",
        "base_model": "m",
        "created_at": "2026-11-01T00:00:00Z",
        "status": {"name": "BUILDING"},
    }
    received: list[str] = []

    async def create(request: web.Request) -> web.Response:
        received.append(request.path)
        await asyncio.sleep(0.05)
        return web.json_response({"sampler": sampler})

    async with serving(web.route("*", "/{tail:.*}", create)) as url:
        creating = asyncio.create_task(make_client(base_url=url).samplers.create(session_id="s", base_model="m"))
        await asyncio.sleep(0.03)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await creating
    assert isinstance(caught.value.__cause__, TeardownError)
    assert received == [SAMPLERS]


async def test_a_session_closed_under_a_create_still_leaves_an_unknown(
    make_client: ClientMaker, emulator: Emulator, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay_after=0.3))
    session = aiohttp.ClientSession()
    creating = asyncio.create_task(make_client(session=session).samplers.create(session_id=session_id, base_model="m"))
    while not emulator.billed:
        await asyncio.sleep(0.001)
    await session.close()
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await creating
    assert isinstance(caught.value.look_error, RuntimeError)


async def test_a_session_closed_while_a_create_waits_for_its_turn_sends_nothing(
    make_client: ClientMaker, emulator: Emulator, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, delay_after=0.1))
    session = aiohttp.ClientSession()
    client = make_client(session=session, max_connections=1)
    creating = [asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m")) for _ in range(2)]
    while not emulator.billed:
        await asyncio.sleep(0.001)
    await session.close()
    with pytest.raises(CreateOutcomeUnknown):
        await creating[0]
    with pytest.raises(RuntimeError, match="session that LoopsClient was given is closed"):
        await creating[1]
    assert len(emulator.requests("POST", SAMPLERS)) == 1


async def test_a_cancel_that_is_already_on_its_way_sends_nothing(
    emulator: Emulator, client: LoopsClient, session_id: str
) -> None:
    async def late() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await client.samplers.create(session_id=session_id, base_model="m")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(late())
    assert emulator.received == ()


@pytest.mark.parametrize(
    "detail", [{"detail": [{"loc": 5, "msg": "x"}]}, {"error": {"code": []}}, {"detail": [[]]}, [1]]
)
async def test_no_error_body_hides_that_the_outcome_is_unknown(
    emulator: Emulator, client: LoopsClient, session_id: str, detail: object
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, status_after=500, body=json.dumps(detail).encode()))
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await client.samplers.create(session_id=session_id, base_model="m")
    assert {each.id for each in caught.value.candidates} == emulator.billed


async def test_what_the_client_knew_before_is_no_candidate(
    client: LoopsClient, emulator: Emulator, session_id: str
) -> None:
    seen: set[str] = set()
    for touch in ("none", "wait", "release", "get"):
        emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut="after"))
        with pytest.raises(CreateOutcomeUnknown) as caught:
            await client.samplers.create(session_id=session_id, base_model="m")
        (candidate,) = caught.value.candidates
        assert candidate.id not in seen
        seen.add(candidate.id)
        if touch == "wait":
            await wait_until_active(client, candidate, policy=QUICK_POLL)
        elif touch == "release":
            await client.samplers.deactivate(candidate.id)
        elif touch == "get":
            await client.samplers.get(candidate.id)


async def test_two_lost_at_once_are_candidates_of_both(
    client: LoopsClient, emulator: Emulator, session_id: str
) -> None:
    emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut="after", delay_after=0.05, times=2))
    results = await asyncio.gather(
        *(client.samplers.create(session_id=session_id, base_model="m") for _ in range(2)), return_exceptions=True
    )
    for result in results:
        assert isinstance(result, CreateOutcomeUnknown)
        assert {sampler.id for sampler in result.candidates} == emulator.billed
