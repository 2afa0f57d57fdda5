"""Waits: what each status means, deadlines, outages, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from loops_async import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    DeploymentStatus,
    LoopsClient,
    NotFoundError,
    PollPolicy,
    Sampler,
    SamplerFailed,
    StatusChange,
    TransportError,
    WaitTimeout,
    wait_until_active,
    watch,
)
from loops_async._wait import waiter
from loops_async.emulator import Emulator, Fault

from ..support import KEY, QUICK_POLL, ClientMaker

SAMPLER = "/v1/loops/samplers/{sampler_id}"
WAKE = "/models/{model_id}/deployment/{deployment_id}/wake"
S = DeploymentStatus


def quick(**changes: Any) -> PollPolicy:
    return attrs.evolve(QUICK_POLL, **changes)


@pytest.fixture
async def sampler(client: LoopsClient, emulator: Emulator, session_id: str) -> Sampler:
    """A sampler that stays in BUILDING until a test moves it."""
    made = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(made.id, "BUILDING")
    emulator.clear_received()
    return made


def polls(emulator: Emulator) -> int:
    return len(emulator.requests("GET", SAMPLER))


COURSE = [S.BUILDING, S.DEPLOYING, S.LOADING_MODEL, S.ACTIVE]


def going_on(emulator: Emulator) -> Callable[[StatusChange], None]:
    """Return a callback that takes a sampler to the next status of `COURSE` as soon as it is seen in one."""

    def go_on(change: StatusChange) -> None:
        for status, following in itertools.pairwise(COURSE):
            if change.status == status:
                emulator.set_status(change.sampler.id, following)

    return go_on


async def until_polled(emulator: Emulator, more: int = 1) -> None:
    seen = polls(emulator)
    try:
        async with asyncio.timeout(5):
            while polls(emulator) < seen + more:
                await asyncio.sleep(0.001)
    except TimeoutError:
        pytest.fail(f"polled {polls(emulator) - seen} times instead of {more}")


async def test_waits_through_the_whole_course(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    changes: list[StatusChange] = []
    go_on = going_on(emulator)

    def on_status(change: StatusChange) -> None:
        changes.append(change)
        go_on(change)

    ready = await wait_until_active(client, sampler, policy=QUICK_POLL, on_status=on_status)
    assert ready.status is S.ACTIVE
    assert ready.id == sampler.id
    assert [change.status for change in changes] == COURSE
    assert [change.previous for change in changes] == [None, *COURSE[:-1]]
    assert [change.elapsed for change in changes] == sorted(change.elapsed for change in changes)
    assert changes[-1].sampler == ready
    # The request that is fresh enough to end a wait is one that was sent after it began.
    again = await wait_until_active(client, sampler.id, policy=QUICK_POLL)
    assert again.status is S.ACTIVE


@pytest.mark.parametrize(
    "status", [S.BUILDING, S.DEPLOYING, S.LOADING_MODEL, S.UPDATING, S.WAKING_UP, S.SCALED_TO_ZERO]
)
async def test_statuses_that_are_waited_through(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: str
) -> None:
    emulator.set_status(sampler.id, status)
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator, 4)
    assert not waiting.done()
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (S.UNHEALTHY, False),
        (S.DEACTIVATING, False),
        (S.INACTIVE, False),
        (S.FAILED, False),
        (S.BUILD_FAILED, True),
        (S.DEPLOY_FAILED, True),
        (S.BUILD_STOPPED, True),
    ],
)
async def test_statuses_that_fail(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: DeploymentStatus, permanent: bool
) -> None:
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    emulator.set_status(sampler.id, status)
    with pytest.raises(SamplerFailed) as caught:
        await waiting
    assert caught.value.permanent is permanent
    assert caught.value.sampler.status is status
    assert [change.status for change in caught.value.history] == [S.BUILDING, status]
    assert caught.value.history[0].elapsed <= caught.value.history[1].elapsed


async def test_an_unknown_status_is_waited_through_with_one_warning(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.set_status(sampler.id, "DEFRAGMENTING")
    changes: list[StatusChange] = []
    waits = [
        asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL, on_status=changes.append))
        for _ in range(2)
    ]
    await until_polled(emulator, 5)
    emulator.set_status(sampler.id, "ACTIVE")
    await asyncio.gather(*waits)
    assert caplog.text.count("DEFRAGMENTING") == 1
    assert [change.status for change in changes[::2]] == ["DEFRAGMENTING", "ACTIVE"]


async def test_the_sets_are_data(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    accepting = quick(ready={"ACTIVE", "SCALED_TO_ZERO"})
    assert (await wait_until_active(client, sampler, policy=accepting)).status is S.SCALED_TO_ZERO
    assert emulator.requests("POST", WAKE) == []
    emulator.set_status(sampler.id, "DEFRAGMENTING")
    with pytest.raises(SamplerFailed):
        await wait_until_active(client, sampler, policy=quick(failed={"DEFRAGMENTING"}))


async def test_one_wake_per_visit_however_many_wait(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waits = [asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL)) for _ in range(3)]
    await until_polled(emulator, 4)
    assert len(emulator.requests("POST", WAKE)) == 1
    emulator.set_status(sampler.id, "WAKING_UP")
    await until_polled(emulator, 2)
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    await until_polled(emulator, 4)
    assert len(emulator.requests("POST", WAKE)) == 2
    emulator.set_status(sampler.id, "ACTIVE")
    await asyncio.gather(*waits)


async def test_no_wake_on_request(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=quick(wake=False)))
    await until_polled(emulator, 4)
    emulator.set_status(sampler.id, "ACTIVE")
    await waiting
    assert emulator.requests("POST", WAKE) == []


async def test_a_wake_that_fails_does_not_end_the_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.add_fault(Fault(route=WAKE, status=403, times=None))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator, 5)
    assert len(emulator.requests("POST", WAKE)) == 1
    assert "could not be woken" in caplog.text
    emulator.set_status(sampler.id, "ACTIVE")
    await waiting


async def test_a_wake_that_an_outage_prevented_is_repeated(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(route=WAKE, status=503, times=7))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    async with asyncio.timeout(5):
        while len(emulator.requests("POST", WAKE)) < 8:
            await asyncio.sleep(0.001)
    emulator.set_status(sampler.id, "ACTIVE")
    await waiting
    assert len(emulator.requests("POST", WAKE)) == 8


async def test_a_sampler_that_waits_for_its_wake_comes_up(make_client: ClientMaker) -> None:
    course = [("BUILDING", 1), ("SCALED_TO_ZERO", None), ("WAKING_UP", 1), ("ACTIVE", None)]
    async with Emulator(speed=100, lifecycles={"*": course}) as sleepy:
        client = make_client(base_url=sleepy.url)
        session = await client.sessions.create()
        sampler = await client.samplers.create(session_id=session.id, base_model="m")
        async with asyncio.timeout(5):
            assert (await wait_until_active(client, sampler, policy=QUICK_POLL)).status is S.ACTIVE


async def test_unhealthy_within_its_grace_recovers(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.set_status(sampler.id, "UNHEALTHY")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=quick(unhealthy_grace=30)))
    await until_polled(emulator, 4)
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE


async def test_unhealthy_beyond_its_grace_fails_on_time(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.set_status(sampler.id, "UNHEALTHY")
    # The schedule alone would poll again after a minute.
    policy = PollPolicy(initial=60, maximum=60, unhealthy_grace=0.1)
    async with asyncio.timeout(2):
        with pytest.raises(SamplerFailed) as caught:
            await wait_until_active(client, sampler, policy=policy)
    assert not caught.value.permanent
    assert polls(emulator) == 2


async def test_grace_counts_from_the_last_time_that_it_turned_unhealthy(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=quick(unhealthy_grace=0.1)))
    for _ in range(3):
        emulator.set_status(sampler.id, "UNHEALTHY")
        await asyncio.sleep(0.06)
        emulator.set_status(sampler.id, "UPDATING")
        await until_polled(emulator, 2)
    assert not waiting.done()
    emulator.set_status(sampler.id, "UNHEALTHY")
    with pytest.raises(SamplerFailed):
        await waiting


async def test_a_missing_sampler_is_waited_for_within_its_grace(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=404, times=3))
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await wait_until_active(client, sampler, policy=QUICK_POLL)).status is S.ACTIVE
    assert polls(emulator) == 4


async def test_a_sampler_that_stays_missing_fails_its_own_wait_alone(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    policy = quick(missing_grace=0.1)
    other = asyncio.create_task(wait_until_active(client, sampler, policy=policy))
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotFoundError):
        await wait_until_active(client, "unknown", policy=policy)
    assert 0.1 <= asyncio.get_running_loop().time() - began < 1
    assert not other.done()
    emulator.set_status(sampler.id, "ACTIVE")
    await other


async def test_without_a_grace_a_missing_sampler_is_an_error_at_once(client: LoopsClient, emulator: Emulator) -> None:
    with pytest.raises(NotFoundError):
        await wait_until_active(client, "unknown", policy=quick(missing_grace=0))
    assert polls(emulator) == 1


async def test_other_refusals_of_one_sampler_are_like_a_missing_one(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=400, times=None))
    with pytest.raises(BadRequestError):
        await wait_until_active(client, sampler, policy=quick(missing_grace=0.05))


OUTAGES = [
    Fault(method="GET", route=SAMPLER, status=500, times=12),
    Fault(method="GET", route=SAMPLER, status=429, times=12),
    Fault(method="GET", route=SAMPLER, status=408, times=12),
    Fault(method="GET", route=SAMPLER, cut="before", times=12),
    Fault(method="GET", route=SAMPLER, cut="after", times=12),
    Fault(method="GET", route=SAMPLER, body=b"<html>be right back</html>", times=12),
    Fault(method="GET", route=SAMPLER, body=b"{}", times=12),
    Fault(method="GET", route=SAMPLER, partial=20, times=12),
]


@pytest.mark.parametrize("fault", OUTAGES, ids=repr)
async def test_a_wait_outlives_an_outage(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, fault: Fault
) -> None:
    emulator.add_fault(fault)
    emulator.set_status(sampler.id, "ACTIVE")
    async with asyncio.timeout(5):
        assert (await wait_until_active(client, sampler, policy=QUICK_POLL)).status is S.ACTIVE


async def test_a_wait_outlives_a_service_that_is_gone(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    await emulator.aclose()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await emulator.start()
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE


async def test_a_hung_poll_holds_up_no_other_wait(
    make_client: ClientMaker, emulator: Emulator, sampler: Sampler, session_id: str
) -> None:
    client = make_client()
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=1))
    hung = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    other = await client.samplers.create(session_id=session_id, base_model="m")
    async with asyncio.timeout(0.8):
        await wait_until_active(client, other, policy=QUICK_POLL)
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung


async def test_a_rejected_key_ends_all_waits_at_once_and_no_later_one(
    client: LoopsClient, emulator: Emulator, session_id: str
) -> None:
    samplers = [await client.samplers.create(session_id=session_id, base_model="m") for _ in range(5)]
    for each in samplers:
        emulator.set_status(each.id, "BUILDING")
    patient = PollPolicy(initial=60, maximum=60)
    waits = [asyncio.create_task(wait_until_active(client, each, policy=patient)) for each in samplers[1:]]
    async with asyncio.timeout(5):
        while polls(emulator) < 4:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=401))
    results = await asyncio.gather(
        wait_until_active(client, samplers[0], policy=QUICK_POLL), *waits, return_exceptions=True
    )
    assert [type(result) for result in results] == [AuthenticationError] * 5
    assert len({id(result) for result in results}) == 5
    emulator.set_status(samplers[0].id, "ACTIVE")
    assert (await wait_until_active(client, samplers[0], policy=QUICK_POLL)).status is S.ACTIVE


async def test_a_wait_that_joins_during_a_rejected_poll_is_not_ended_by_it(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=401, delay=0.05))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=0.1))
    early = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    late = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    emulator.set_status(sampler.id, "ACTIVE")
    with pytest.raises(AuthenticationError):
        await early
    assert (await late).status is S.ACTIVE


async def test_an_answer_to_an_earlier_request_does_not_end_a_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.set_status(sampler.id, "FAILED")
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay_after=0.05))
    early = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    emulator.set_status(sampler.id, "ACTIVE")
    late = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    with contextlib.suppress(SamplerFailed):
        await early
    assert (await late).status is S.ACTIVE


async def test_a_sampler_that_cannot_be_read_hurts_its_own_wait_alone(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    other = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    emulator.set_status(sampler.id, "ACTIVE")
    await other
    document = {"sampler": {**emulator.sampler_document(sampler.id), "status": None}}
    emulator.add_fault(Fault(method="GET", route=SAMPLER, body=json.dumps(document).encode()))
    with pytest.raises(DecodeError) as caught:
        await wait_until_active(client, sampler, policy=QUICK_POLL)
    assert caught.value.path == "$.sampler.status"
    assert caught.value.sampler_id == sampler.id


async def test_one_final_poll_at_the_deadline(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    # The schedule alone would not poll again before the deadline.
    policy = PollPolicy(initial=60, maximum=60)
    waiting = asyncio.create_task(wait_until_active(client, sampler, timeout=0.2, policy=policy))
    await until_polled(emulator)
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE
    assert polls(emulator) == 2
    assert emulator.received[1].at - emulator.received[0].at >= 0.19


async def test_a_wait_timeout_has_the_history(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    with pytest.raises(WaitTimeout) as caught:
        await wait_until_active(client, sampler.id, timeout=0.1, policy=QUICK_POLL)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.sampler is not None
    assert error.sampler.id == error.sampler_id == sampler.id
    assert [change.status for change in error.history] == [S.BUILDING]
    assert error.timeout == 0.1
    assert error.last_error is None
    # It is the caller's business whether the sampler goes on.
    assert emulator.billed == {sampler.id}


async def test_a_wait_timeout_in_an_outage_has_its_error(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    await emulator.aclose()
    with pytest.raises(WaitTimeout) as caught:
        await wait_until_active(client, sampler.id, timeout=0.05, policy=QUICK_POLL)
    assert caught.value.sampler is None
    assert caught.value.sampler_id == sampler.id
    assert isinstance(caught.value.last_error, TransportError)
    assert caught.value.__cause__ is caught.value.last_error


async def test_no_time_is_one_poll(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    with pytest.raises(WaitTimeout):
        await wait_until_active(client, sampler, timeout=0, policy=QUICK_POLL)
    assert polls(emulator) == 1
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await wait_until_active(client, sampler, timeout=0, policy=QUICK_POLL)).status is S.ACTIVE


async def test_a_final_poll_that_hangs_is_cut_short(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiter, "FINAL_POLL_GRACE_S", (0.1, 0.1))
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=20, times=None))
    began = asyncio.get_running_loop().time()
    with pytest.raises(WaitTimeout):
        await wait_until_active(client, sampler, timeout=0.05, policy=QUICK_POLL)
    assert asyncio.get_running_loop().time() - began < 2
    assert polls(emulator) == 2


async def test_a_final_poll_does_not_wait_for_a_pause(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=429, retry_after="60"))
    waiting = asyncio.create_task(wait_until_active(client, sampler, timeout=0.1, policy=QUICK_POLL))
    await until_polled(emulator)
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await waiting).status is S.ACTIVE
    assert polls(emulator) == 2


@pytest.mark.parametrize("timeout", [None, float("inf")])
async def test_a_wait_without_a_deadline(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, timeout: float | None
) -> None:
    emulator.set_status(sampler.id, "ACTIVE")
    await wait_until_active(client, sampler, timeout=timeout)


async def test_the_callers_timeout_stays_the_callers(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await wait_until_active(client, sampler, policy=QUICK_POLL)
    assert not isinstance(caught.value, WaitTimeout)


async def test_a_cancelled_wait_stops_the_polling(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    tasks = asyncio.all_tasks()
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not [task for task in asyncio.all_tasks() - tasks if "loops" in task.get_name()]
    await asyncio.sleep(0.02)
    count = polls(emulator)
    await asyncio.sleep(0.05)
    assert polls(emulator) == count


async def test_a_late_answer_to_a_cancelled_wait_does_not_hurt_the_next(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, session_id: str
) -> None:
    other = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(other.id, "BUILDING")
    alive = asyncio.create_task(wait_until_active(client, other, policy=PollPolicy(initial=60, maximum=60)))
    await until_polled(emulator)
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=0.05))
    gone = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    gone.cancel()
    await asyncio.sleep(0.01)
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=0.1))
    late = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await asyncio.sleep(0.15)
    emulator.set_status(sampler.id, "ACTIVE")
    async with asyncio.timeout(2):
        assert (await late).status is S.ACTIVE
    alive.cancel()


async def test_cancelling_one_of_many_leaves_the_others(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    waits = [asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL)) for _ in range(5)]
    await until_polled(emulator, 2)
    waits[2].cancel()
    emulator.set_status(sampler.id, "ACTIVE")
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(results[2], asyncio.CancelledError)
    assert sum(isinstance(result, Sampler) for result in results) == 4


async def test_waits_for_one_sampler_share_its_polls(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    policy = PollPolicy(initial=0.05, factor=1, maximum=0.05, multiples={})
    waits = [asyncio.create_task(wait_until_active(client, sampler, policy=policy)) for _ in range(200)]
    await asyncio.sleep(0.3)
    emulator.set_status(sampler.id, "ACTIVE")
    await asyncio.gather(*waits)
    assert polls(emulator) <= 10


async def test_it_works_in_a_task_group(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    doomed, fine = [await client.samplers.create(session_id=session_id, base_model="m") for _ in range(2)]
    emulator.set_status(doomed.id, "BUILD_FAILED")
    emulator.set_status(fine.id, "BUILDING")
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_until_active(client, doomed, policy=QUICK_POLL))
            other = group.create_task(wait_until_active(client, fine, policy=QUICK_POLL))
    assert caught.group_contains(SamplerFailed)
    assert other.cancelled()


async def test_a_callback_that_raises_ends_its_own_wait_with_its_error(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    def refuse(_: StatusChange) -> None:
        raise ZeroDivisionError("mine")

    fine = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    with pytest.raises(ZeroDivisionError, match="mine"):
        await wait_until_active(client, sampler, policy=QUICK_POLL, on_status=refuse)
    emulator.set_status(sampler.id, "ACTIVE")
    await fine


async def test_a_callback_runs_in_the_context_of_its_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    seen: list[str] = []
    emulator.set_status(sampler.id, "ACTIVE")

    async def one(own: str) -> None:
        name.set(own)
        await wait_until_active(client, sampler, policy=QUICK_POLL, on_status=lambda _: seen.append(name.get()))

    await asyncio.gather(one("first"), one("second"))
    assert seen == ["first", "second"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "60"}, TypeError),
        ({"policy": {"initial": 1}}, TypeError),
        ({"on_status": 5}, TypeError),
        ({"on_status": asyncio.sleep}, TypeError),
        ({"sampler": ""}, ValueError),
        ({"sampler": None}, TypeError),
        ({"client": None}, TypeError),
    ],
)
async def test_a_bad_argument_sends_nothing(
    client: LoopsClient, emulator: Emulator, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await wait_until_active(**{"client": client, "sampler": "x", **arguments})
    assert emulator.received == ()


async def test_closing_the_client_ends_its_waits(
    make_client: ClientMaker, emulator: Emulator, sampler: Sampler
) -> None:
    client = make_client()
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting


async def test_a_foreign_session_that_is_closed_ends_the_wait(
    make_client: ClientMaker, emulator: Emulator, sampler: Sampler
) -> None:
    import aiohttp

    session = aiohttp.ClientSession()
    client = make_client(session=session)
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    await session.close()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting


def test_the_end_of_asyncio_run_ends_a_wait_left_behind() -> None:
    async def main() -> None:
        async with Emulator(api_key=KEY, lifecycles={"*": [("BUILDING", None)]}) as emulator:
            client = LoopsClient(KEY, base_url=emulator.url)
            session = await client.sessions.create()
            sampler = await client.samplers.create(session_id=session.id, base_model="m")
            left_behind = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
            await until_polled(emulator)
            left_behind.add_done_callback(lambda _: asyncio.ensure_future(client.aclose()))

    asyncio.run(main())


async def test_watch_yields_every_change_and_ends_when_ready(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    go_on = going_on(emulator)
    statuses = []
    async for change in watch(client, sampler, policy=QUICK_POLL):
        statuses.append(change.status)
        go_on(change)
    assert statuses == COURSE


async def test_watch_raises_what_the_wait_would(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.set_status(sampler.id, "BUILD_FAILED")
    seen = []
    with pytest.raises(SamplerFailed):
        async for change in watch(client, sampler, policy=QUICK_POLL):
            seen.append(change.status)
    assert seen == [S.BUILD_FAILED]
    with pytest.raises(WaitTimeout):
        _ = [change async for change in watch(client, "unknown", timeout=0, policy=QUICK_POLL)]


async def test_a_slow_consumer_of_watch_misses_nothing(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    statuses: list[str] = []
    async for change in watch(client, sampler, policy=QUICK_POLL):
        if not statuses:
            # All the others are seen before the consumer goes on.
            await wait_until_active(client, sampler, policy=QUICK_POLL, on_status=going_on(emulator))
        statuses.append(change.status)
    assert statuses == COURSE


async def test_leaving_watch_early_stops_the_polling(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    async with contextlib.aclosing(watch(client, sampler, policy=QUICK_POLL)) as changes:
        async for _ in changes:
            break
    count = polls(emulator)
    await asyncio.sleep(0.05)
    assert polls(emulator) == count


async def test_watch_checks_its_arguments_at_the_call(client: LoopsClient) -> None:
    with pytest.raises(ValueError, match="empty"):
        watch(client, "")


async def test_a_callback_that_raises_a_cancellation_ends_no_other_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    def broken(_: StatusChange) -> None:
        raise asyncio.CancelledError

    fine = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL, on_status=broken))
    emulator.set_status(sampler.id, "ACTIVE")
    async with asyncio.timeout(2):
        assert (await fine).status is S.ACTIVE


@pytest.mark.parametrize("timeout", [0, 0.1])
async def test_a_final_poll_waits_for_no_slot(
    make_client: ClientMaker, emulator: Emulator, session_id: str, timeout: float
) -> None:
    client = make_client(max_connections=2)
    sampler = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(sampler.id, "ACTIVE")
    emulator.add_fault(Fault(method="GET", route="/v1/loops/samplers", delay=0.5, times=None))
    busy = [asyncio.create_task(client.samplers.list()) for _ in range(4)]
    await asyncio.sleep(0.02)
    ready = await wait_until_active(client, sampler, timeout=timeout, policy=QUICK_POLL)
    assert ready.status is S.ACTIVE
    assert not any(task.done() for task in busy)
    await asyncio.gather(*busy)


async def test_the_only_poll_of_no_time_waits_for_no_pause(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route="/v1/loops/capabilities", status=429, retry_after="60"))
    asking = asyncio.create_task(client.capabilities())
    await asyncio.sleep(0.05)
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await wait_until_active(client, sampler, timeout=0)).status is S.ACTIVE
    asking.cancel()


async def test_a_wake_that_fails_late_does_not_wake_the_next_visit_twice(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(route=WAKE, delay=0.1, status=500))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator, 2)
    emulator.set_status(sampler.id, "WAKING_UP")
    await until_polled(emulator, 2)
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    await asyncio.sleep(0.3)
    assert len(emulator.requests("POST", WAKE)) == 2
    emulator.set_status(sampler.id, "ACTIVE")
    await waiting


async def test_a_wait_that_ends_during_its_wake_leaves_no_task(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(route=WAKE, delay=1))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    before = asyncio.all_tasks()
    async for change in watch(client, sampler, policy=QUICK_POLL):
        if change.status is S.SCALED_TO_ZERO:
            await until_polled(emulator, 2)
            emulator.set_status(sampler.id, "ACTIVE")
    ours = [task for task in asyncio.all_tasks() - before if "_poller" in repr(task)]
    assert not ours


async def test_a_hung_poll_does_not_delay_a_later_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    emulator.add_fault(Fault(method="GET", route=SAMPLER, delay=1))
    early = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    await until_polled(emulator)
    emulator.set_status(sampler.id, "ACTIVE")
    async with asyncio.timeout(0.5):
        await wait_until_active(client, sampler, policy=QUICK_POLL)
        assert (await early).status is S.ACTIVE


async def test_an_error_body_of_any_shape_is_waited_through(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    body = json.dumps({"detail": [{"loc": True, "msg": "x"}]}).encode()
    emulator.add_fault(Fault(method="GET", route=SAMPLER, status=503, body=body, times=3))
    emulator.set_status(sampler.id, "ACTIVE")
    await wait_until_active(client, sampler, policy=QUICK_POLL)


async def test_an_answer_about_another_sampler_is_waited_through(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, session_id: str
) -> None:
    other = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(other.id, "ACTIVE")
    document = {"sampler": emulator.sampler_document(other.id)}
    emulator.add_fault(Fault(method="GET", route=SAMPLER, body=json.dumps(document).encode(), times=3))
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await wait_until_active(client, sampler, policy=QUICK_POLL)).id == sampler.id


@pytest.mark.parametrize("status", [408, 429, 503])
async def test_a_wake_that_is_put_off_is_tried_again(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: int
) -> None:
    emulator.add_fault(Fault(route=WAKE, status=status, times=6))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    async with asyncio.timeout(5):
        while len(emulator.requests("POST", WAKE)) < 7:
            await asyncio.sleep(0.001)
    emulator.set_status(sampler.id, "ACTIVE")
    await waiting


async def test_a_wake_ends_with_the_waits_that_wanted_it(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, session_id: str
) -> None:
    other = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(other.id, "BUILDING")
    alive = asyncio.create_task(wait_until_active(client, other, policy=QUICK_POLL))
    emulator.add_fault(Fault(route=WAKE, status=503, times=None))
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    waiting = asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL))
    while not emulator.requests("POST", WAKE):
        await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.sleep(0.02)
    wakes = len(emulator.requests("POST", WAKE))
    await asyncio.sleep(0.2)
    assert len(emulator.requests("POST", WAKE)) == wakes
    alive.cancel()


async def test_hung_wakes_starve_no_poll(make_client: ClientMaker, emulator: Emulator, session_id: str) -> None:
    client = make_client(max_connections=4)
    samplers = [await client.samplers.create(session_id=session_id, base_model="m") for _ in range(6)]
    emulator.add_fault(Fault(route=WAKE, delay=1, times=None))
    for each in samplers:
        emulator.set_status(each.id, "SCALED_TO_ZERO")
    waits = [asyncio.create_task(wait_until_active(client, each, policy=QUICK_POLL)) for each in samplers]
    await asyncio.sleep(0.1)
    emulator.set_status(samplers[-1].id, "ACTIVE")
    async with asyncio.timeout(0.5):
        await waits[-1]
    for wait in waits:
        wait.cancel()


@pytest.mark.parametrize("timeout", [1e9, 1e300])
async def test_a_timeout_of_decades_is_none(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, timeout: float
) -> None:
    emulator.set_status(sampler.id, "ACTIVE")
    await wait_until_active(client, sampler, timeout=timeout)


@pytest.mark.parametrize("status", ["BUILDING", "ACTIVE", "FAILED"])
async def test_a_callback_may_cancel_its_own_wait(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: str
) -> None:
    emulator.set_status(sampler.id, status)
    other = asyncio.create_task(wait_until_active(client, sampler, policy=quick(failed={"BUILD_FAILED"})))
    own: list[asyncio.Task[Sampler]] = []

    def cancel(_: StatusChange) -> None:
        own[0].cancel()

    own.append(asyncio.create_task(wait_until_active(client, sampler, policy=QUICK_POLL, on_status=cancel)))
    with pytest.raises(asyncio.CancelledError):
        await own[0]
    emulator.set_status(sampler.id, "ACTIVE")
    assert (await other).status is S.ACTIVE
