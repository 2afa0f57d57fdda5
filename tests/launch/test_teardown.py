"""How launches end: however a block is left, what it made is deactivated, or reported."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any, Literal

import anyio
import pytest

from loops_async import (
    ConflictError,
    CreateOutcomeUnknown,
    Fleet,
    LaunchError,
    LoopsClient,
    MemberState,
    NotFoundError,
    SamplerSpec,
    ServerError,
    TeardownError,
    TransportError,
    launch,
)
from loops_async._api import deactivating, known_samplers
from loops_async._launch import teardown
from loops_async.emulator import Fault

from ..launching import CREATE, DEACTIVATE, ONE, Setting, creates, deactivated, until
from ..processes import forked
from ..support import KEY


class Mine(Exception):
    """What the bodies of blocks raise."""


# What is deactivated


@pytest.mark.parametrize("teardown", ["always", "on_error", "never"])
@pytest.mark.parametrize("end", ["well", "raise", "cancel"])
async def test_teardown_says_when_samplers_are_deactivated(
    stage: Setting, teardown: Literal["always", "on_error", "never"], end: Literal["well", "raise", "cancel"]
) -> None:
    emulator, client, launch = stage

    async def body() -> None:
        async with launch(["good", "good", "slow"], teardown=teardown) as fleet:
            await fleet.active(at_least=2)
            if end == "raise":
                raise Mine
            if end == "cancel":
                await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await until(lambda: len(emulator.samplers) == 3)
    if end == "cancel":
        await until(lambda: [sampler.status for sampler in emulator.samplers].count("ACTIVE") == 2)
        await asyncio.sleep(0.05)
        task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert type(outcome) is {"well": type(None), "raise": Mine, "cancel": asyncio.CancelledError}[end]
    everything = {sampler.id for sampler in emulator.samplers}
    if teardown == "always" or (teardown == "on_error" and end != "well"):
        assert sorted(deactivated(emulator)) == sorted(everything)
        assert not emulator.billed
    else:
        assert not deactivated(emulator)
        assert emulator.billed == everything
    await asyncio.gather(*(client.samplers.deactivate(each) for each in everything))


async def test_what_failed_is_not_kept_on_a_good_end(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["good", "sick"], teardown="on_error") as fleet:
        async for _ in fleet:
            pass
    kept, failed = fleet.members
    assert deactivated(emulator) == [failed.sampler_id]
    assert kept.sampler is not None
    await client.samplers.deactivate(kept.sampler.id)


async def test_creates_that_are_not_sent_when_the_block_ends_never_are(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.05, times=None))
    async with launch(["slow"] * 10, max_concurrent_creates=2):
        await until(lambda: creates(emulator) == 2)
    assert creates(emulator) == 2
    assert not emulator.billed
    assert len(deactivated(emulator)) == 2


async def test_a_throttled_create_is_not_sent_again_after_the_block(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.1, status=429, retry_after="30"))
    began = asyncio.get_running_loop().time()
    async with launch(["slow"]):
        await until(lambda: creates(emulator))
    assert asyncio.get_running_loop().time() - began < 5
    assert creates(emulator) == 1
    assert not emulator.samplers


async def test_a_post_in_flight_is_awaited_and_its_sampler_deactivated(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.2, times=None))
    with pytest.raises(Mine):
        async with launch(["slow"] * 5):
            await until(lambda: len(emulator.samplers) == 5)
            raise Mine
    assert len(deactivated(emulator)) == 5
    assert not emulator.billed


async def test_deactivations_are_sent_at_the_same_time(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))
    async with launch(["slow"] * 30):
        await until(lambda: len(emulator.samplers) == 30)
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 1.5


async def test_a_detached_sampler_stays_after_the_block(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["good", "good", "slow"]) as fleet:
        await fleet.active(at_least=2)
        fleet.detach(fleet.members[0])
        assert fleet.members[0].sampler is not None
        fleet.detach(fleet.members[0].sampler)
        fleet.detach(fleet.members[2])
    assert deactivated(emulator) == [fleet.members[1].sampler_id]
    assert "was detached" in str(fleet.members[2].error)
    kept = {fleet.members[0].sampler_id, fleet.members[2].sampler_id}
    assert emulator.billed == kept
    await asyncio.gather(*(client.samplers.deactivate(str(each)) for each in kept))


async def test_only_a_member_with_a_sampler_can_be_detached_and_only_inside_the_block(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.1))
    async with launch(["slow"]) as fleet, launch(["good"]) as other:
        with pytest.raises(ValueError, match="has no sampler"):
            fleet.detach(fleet.members[0])
        await other.active()
        with pytest.raises(ValueError, match="another fleet"):
            fleet.detach(other.members[0])
        with pytest.raises(TypeError, match="Member"):
            fleet.detach("id")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no member"):
            fleet.detach((await other.active())[0])
    with pytest.raises(RuntimeError, match="ended"):
        other.detach(other.members[0])
    assert not emulator.billed


async def test_a_detached_member_that_fails_is_neither_relaunched_nor_deactivated(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["slow"], relaunches=5) as fleet:
        (member,) = fleet.members
        await until(lambda: member.sampler_id)
        fleet.detach(member)
        emulator.set_status(str(member.sampler_id), "UNHEALTHY")
        async for _ in fleet:
            pass
    assert creates(emulator) == 1
    assert not deactivated(emulator)
    await client.samplers.deactivate(str(member.sampler_id))


# Deactivations that fail


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429, "retry_after": "0.05"},
        {"status": 501},
        {"cut": "before"},
        {"cut": "after"},
        {"status_after": 502},
        {"status": 404},
    ],
    ids=str,
)
async def test_deactivations_are_retried(stage: Setting, fault: dict[str, Any]) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, times=8, **fault))
    async with launch(["slow"] * 2):
        await until(lambda: len(emulator.samplers) == 2)
    assert not emulator.billed


@pytest.mark.quick_clock
async def test_deactivations_are_retried_by_a_client_without_retries(stage: Setting) -> None:
    emulator, _, _ = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, times=2, status=503))
    async with LoopsClient(KEY, base_url=emulator.url, retry=None) as client, launch(client, ["slow"]):
        await until(lambda: len(emulator.samplers) == 1)
    assert not emulator.billed


async def test_samplers_that_cannot_be_deactivated_are_raised_with_their_ids(stage: Setting) -> None:
    emulator, _, launch = stage
    loop = asyncio.get_running_loop()
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"] * 3, teardown_timeout=0.3):
            await until(lambda: len(emulator.samplers) == 3)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
            began = loop.time()
    assert loop.time() - began < 2
    assert set(caught.value.sampler_ids) == emulator.billed
    assert len(caught.value.sampler_ids) == 3
    assert [type(error) for error in caught.value.exceptions] == [ServerError] * 3
    assert "3 samplers could not be deactivated" in str(caught.value)
    for sampler_id, error in zip(caught.value.sampler_ids, caught.value.exceptions, strict=True):
        assert any(sampler_id in note for note in error.__notes__)


async def test_a_deactivation_without_a_response_ends_with_the_teardown(stage: Setting) -> None:
    emulator, _, launch = stage
    loop = asyncio.get_running_loop()
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"] * 2, teardown_timeout=0.2):
            await until(lambda: len(emulator.samplers) == 2)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=60, times=None))
            began = loop.time()
    assert loop.time() - began < 2
    assert len(caught.value.sampler_ids) == 2
    assert isinstance(caught.value.exceptions[0], TransportError)
    assert set(caught.value.sampler_ids) == emulator.billed


async def test_a_teardown_that_takes_long_is_logged(
    stage: Setting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(teardown, "PROGRESS_LOG_AFTER_S", 0.05)
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.3, times=1))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.2, times=None))
    async with launch(["slow"] * 3) as fleet:
        await until(lambda: [member for member in fleet.members if member.sampler_id][1:])
    (notice,) = [record.getMessage() for record in caplog.records if "still deactivating" in record.message]
    assert len([member for member in fleet.members if str(member.sampler_id) in notice]) == 2
    assert "and what 1 create without a response made" in notice


async def test_a_sampler_that_is_paired_to_a_run_is_raised_without_retries(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_run("slow", run_id="run1")
    with pytest.raises(TeardownError) as caught:
        async with launch([SamplerSpec("slow", run_id="run1"), "slow"]) as fleet:
            await until(lambda: len(emulator.samplers) == 2)
    assert caught.value.sampler_ids == (fleet.members[0].sampler_id,)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConflictError)
    assert len(deactivated(emulator)) == 2


async def test_a_paired_sampler_that_is_inactive_counts_as_deactivated(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_run("slow", run_id="run1")
    async with launch([SamplerSpec("slow", run_id="run1")]) as fleet:
        await until(lambda: fleet.members[0].status)
        emulator.set_status(str(fleet.members[0].sampler_id), "INACTIVE")


async def test_a_sampler_that_stays_missing_counts_as_deactivated(
    stage: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(known_samplers, "FRESH_S", 0.0)
    monkeypatch.setattr(deactivating, "GONE_AFTER_S", 0.05)
    loop = asyncio.get_running_loop()
    async with launch(["slow"]):
        await until(lambda: emulator.billed)
        for route in (DEACTIVATE, ONE):
            emulator.add_fault(Fault(route=route, status=404, times=None))
        began = loop.time()
    # One part of the service may be behind the others: once is not enough.
    assert len(deactivated(emulator)) >= 2
    assert loop.time() - began >= 0.05


async def test_404_for_a_fresh_sampler_is_retried(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="GET", route=ONE, status=404, times=None))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=404, times=5))
    async with launch(["slow"]):
        await until(lambda: emulator.billed)
    assert len(deactivated(emulator)) == 6
    assert not emulator.billed


async def test_404_for_a_sampler_that_still_exists_is_no_deactivation(stage: Setting) -> None:
    """A service without the route answers so, too."""
    emulator, _, launch = stage
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"], teardown_timeout=0.2) as fleet:
            await until(lambda: fleet.members[0].status)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=404, times=None))
    assert isinstance(caught.value.exceptions[0], NotFoundError)
    assert set(caught.value.sampler_ids) == emulator.billed


# What ends the block goes on


async def test_the_exception_of_the_block_goes_on_with_a_note_about_what_is_still_billed(stage: Setting) -> None:
    emulator, _, launch = stage
    context, cause = KeyError("context"), ValueError("cause")
    with pytest.raises(Mine) as caught:
        async with launch(["slow"], teardown_timeout=0.1) as fleet:
            await until(lambda: emulator.samplers)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
            try:
                raise context
            except KeyError:
                raise Mine from cause
    assert caught.value.__cause__ is cause
    left = fleet.teardown_error
    assert left is not None
    assert set(left.sampler_ids) == emulator.billed
    assert left.sampler_ids[0] in caught.value.__notes__[0]


async def test_a_cancelled_block_names_what_is_still_billed_in_a_note_and_the_log(
    stage: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    emulator, _, launch = stage

    async def body() -> None:
        async with launch(["slow"], teardown_timeout=0.1):
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await until(lambda: emulator.samplers)
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
    task.cancel()
    with caplog.at_level(logging.ERROR), pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert next(iter(emulator.billed)) in caught.value.__notes__[0]
    assert next(iter(emulator.billed)) in caplog.text


async def test_further_cancellations_change_nothing(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.1, times=None))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))

    async def body() -> None:
        async with launch(["slow"] * 4):
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await until(lambda: len(emulator.samplers) == 4)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)
    assert task.cancelled()
    assert len(deactivated(emulator)) == 4
    assert not emulator.billed


async def test_a_cancel_during_the_teardown_is_not_swallowed(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))

    async def body(error: Exception | None) -> None:
        async with launch(["slow"]):
            await until(lambda: emulator.billed)
            if error is not None:
                raise error

    for error in (None, Mine()):
        emulator.clear_received()
        task = asyncio.create_task(body(error))
        await until(lambda: deactivated(emulator))
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.__context__ is error
        assert not emulator.billed


async def test_a_timeout_around_the_block_stays_the_callers(stage: Setting) -> None:
    emulator, _, launch = stage
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            async with launch(["slow"] * 3) as fleet:
                await fleet.active()
    assert len(emulator.samplers) == 3
    assert not emulator.billed
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_a_timeout_inside_the_block_stays_inside(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["slow", "good"]) as fleet:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await fleet.active()
        assert len(await fleet.active(at_least=1)) == 1
    assert not emulator.billed


async def test_task_groups_inside_and_around_the_block(stage: Setting) -> None:
    emulator, _, launch = stage
    used: list[str] = []

    async def use(url: str) -> None:
        used.append(url)

    async def training() -> None:
        async with launch(["good"] * 3) as fleet, asyncio.TaskGroup() as group:
            async for member in fleet:
                assert member.sampler is not None
                group.create_task(use(member.sampler.base_url))
        assert len(used) == 3

    async def endless() -> None:
        async with launch(["slow"] * 3) as fleet:
            await fleet.active()

    async def failing() -> None:
        await until(lambda: len(emulator.samplers) == 6)
        raise Mine

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(training())
            group.create_task(endless())
            group.create_task(failing())
    assert [type(error) for error in caught.value.exceptions] == [Mine]
    assert not emulator.billed


async def test_the_cancel_scopes_of_anyio_wait_for_the_teardown(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))
    current = asyncio.current_task()
    assert current is not None
    cancels: list[int] = []

    async def count() -> None:
        while True:
            cancels.append(current.cancelling())
            await asyncio.sleep(0.005)

    counting = asyncio.create_task(count())
    with anyio.move_on_after(0.1) as scope:
        async with launch(["slow"] * 2) as fleet:
            await fleet.active()
    counting.cancel()
    await asyncio.wait([counting])
    assert scope.cancelled_caught
    assert len(deactivated(emulator)) == 2
    assert not emulator.billed
    assert not current.cancelling()
    # Without the shield it would cancel in each turn of the loop, thousands of times during the deactivations.
    assert 0 < max(cancels) < 50


async def test_a_task_group_of_anyio_that_fails_deactivates_everything(stage: Setting) -> None:
    emulator, _, launch = stage

    async def endless() -> None:
        async with launch(["slow"] * 3) as fleet:
            await fleet.active()

    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(endless)
            await until(lambda: len(emulator.samplers) == 3)
            raise Mine
    assert len(deactivated(emulator)) == 3
    assert not emulator.billed


# What is not known


async def test_unknown_creates_share_a_list(stage: Setting) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after", times=3))
    async with launch(["slow"] * 6) as fleet:
        unknown = []
        async for member in fleet:
            assert member.state is MemberState.UNKNOWN
            fleet.acknowledge(member)
            unknown.append(member.error)
            if len(unknown) == 3:
                break
        assert len(emulator.requests("GET", CREATE)) == 1
        assert creates(emulator) == 6
    made = emulator.billed
    assert len(made) == 3
    for error in unknown:
        assert isinstance(error, CreateOutcomeUnknown)
        assert {sampler.id for sampler in error.candidates} == made
    await asyncio.gather(*(client.samplers.deactivate(each) for each in made))


async def test_unknown_creates_are_raised_at_the_end(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after", times=1))
    with pytest.raises(TeardownError) as caught:
        async with launch(["good"] * 3) as fleet:
            await fleet.active(at_least=2)
    assert caught.value.sampler_ids == ()
    (error,) = caught.value.exceptions
    assert isinstance(error, CreateOutcomeUnknown)
    assert {sampler.id for sampler in error.candidates} == emulator.billed
    assert "the outcome of 1 create is unknown" in str(caught.value)
    assert error.candidates[0].id in str(caught.value)


async def test_iterating_over_members_acknowledges_no_unknown_create(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after", times=1))
    with pytest.raises(TeardownError) as caught:
        async with launch(["good"] * 3) as fleet:
            urls = [member.sampler.base_url async for member in fleet if member.sampler is not None]
    assert len(urls) == 2
    assert isinstance(caught.value.exceptions[0], CreateOutcomeUnknown)
    assert len(emulator.billed) == 1


async def test_unknown_creates_that_the_blocks_own_exception_holds_are_not_raised_again(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status_after=500, times=1))
    with pytest.raises(LaunchError) as caught:
        async with launch(["good"] * 3) as fleet:
            await fleet.active()
    (error,) = caught.value.exceptions
    assert isinstance(error, CreateOutcomeUnknown)
    assert fleet.teardown_error is None
    assert {sampler.id for sampler in error.candidates} == emulator.billed


@pytest.mark.quick_clock
@pytest.mark.parametrize("relaunches", [0, 3])
async def test_an_unknown_create_is_not_sent_again(stage: Setting, relaunches: int) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="before", times=None))
    with pytest.raises(TeardownError) as caught:
        async with launch(["good"] * 4, relaunches=relaunches) as fleet:
            errors = [member.error async for member in fleet]
    assert set(caught.value.unknown) == set(errors)
    assert {type(error) for error in errors} == {CreateOutcomeUnknown}
    assert creates(emulator) == 4
    assert not emulator.billed


# The end of the time


async def test_a_post_that_outlasts_the_teardown_is_unknown_and_its_sampler_is_deactivated_by_the_client(
    stage: Setting,
) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.5, times=1))
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"] * 2, teardown_timeout=0.1) as fleet:
            await until(lambda: len(emulator.samplers) == 2)
    assert caught.value.sampler_ids == ()
    (error,) = caught.value.exceptions
    assert isinstance(error, CreateOutcomeUnknown)
    assert "the client goes on" in str(error)
    assert {type(member.error) for member in fleet.members} == {CreateOutcomeUnknown, RuntimeError}
    assert len(emulator.billed) == 1
    await client.aclose()
    assert not emulator.billed


async def test_an_unknown_create_whose_search_outlasts_the_teardown_is_raised(stage: Setting) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after", times=1))
    emulator.add_fault(Fault(method="GET", route=CREATE, delay=60, times=None))
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"], teardown_timeout=0.2):
            await until(lambda: len(emulator.samplers) == 1)
    (error,) = caught.value.exceptions
    assert isinstance(error, CreateOutcomeUnknown)
    assert error.look_error is not None
    # Nobody waits for the search any more.
    async with asyncio.timeout(5):
        await client.aclose()


async def test_closing_the_client_inside_the_block_deactivates_first(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["slow"] * 3) as fleet:
        await until(lambda: len(emulator.samplers) == 3)
        await client.aclose()
        assert not emulator.billed
        assert len(deactivated(emulator)) == 3
        assert all(isinstance(member.error, RuntimeError) for member in fleet.members)


async def test_a_program_that_ends_inside_the_block_deactivates_everything(stage: Setting) -> None:
    """`asyncio.run()` cancels what is left over, all at once."""
    emulator, _, _ = stage
    program = f"""
import asyncio
from loops_async import LoopsClient, launch

async def fleet(client):
    async with launch(client, ["slow"] * 5) as fleet:
        await fleet.active()

async def main():
    client = LoopsClient({KEY!r}, base_url={emulator.url!r})
    left = asyncio.create_task(fleet(client))
    await asyncio.sleep(0.3)
    return client, left

client, left = asyncio.run(main())
assert left.cancelled()
"""
    async with forked(program) as process:
        _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert "never retrieved" not in err.decode()
    assert "destroyed" not in err.decode()
    assert len(emulator.samplers) == 5
    assert not emulator.billed


# Any moment


@pytest.mark.parametrize("kind", ["cancel", "raise", "leave"])
async def test_blocks_that_are_left_at_any_moment_leave_nothing_alive(stage: Setting, kind: str) -> None:
    emulator, _, launch = stage
    chance = random.Random(kind)

    async def body(fleets: list[Fleet], seconds: float) -> None:
        async with launch(["good", "slow", "bad"] * 4, max_concurrent_creates=4) as fleet:
            fleets.append(fleet)
            if kind == "cancel":
                await fleet.active()
            await asyncio.sleep(seconds)
            if kind == "raise":
                raise Mine

    for _ in range(30):
        fleets: list[Fleet] = []
        seconds = chance.uniform(0, 0.06)
        task = asyncio.create_task(body(fleets, seconds))
        if kind == "cancel":
            await asyncio.sleep(seconds)
            task.cancel()
        await asyncio.wait([task])
        expected = {"cancel": asyncio.CancelledError, "raise": Mine, "leave": type(None)}[kind]
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert type(outcome) is expected or (kind == "cancel" and isinstance(outcome, LaunchError))
        assert not emulator.billed
    assert creates(emulator) == len(emulator.samplers) > 50
