"""A member that failed or was late holds no sampler, and what `active()` and relaunches make of failures."""

from __future__ import annotations

import asyncio
import copy
import pickle
from dataclasses import dataclass
from typing import Literal

import pytest

from loops_async import (
    LaunchError,
    LoopsClient,
    PollPolicy,
    Sampler,
    SamplerFailed,
    StatusChange,
    TeardownError,
    WaitTimeout,
    launch,
)
from loops_async.emulator import Fault

from ..launching import CREATE, DEACTIVATE, Setting, creates, deactivated, until
from ..support import KEY, QUICK_RETRY


@pytest.mark.parametrize("teardown", ["always", "on_error"])
@pytest.mark.parametrize("model", ["bad", "sick", "late", "callback", "probe"])
async def test_a_member_that_failed_or_was_late_is_deactivated_at_once(
    stage: Setting, teardown: Literal["always", "on_error"], model: str
) -> None:
    emulator, _, launch = stage

    def on_status(_: StatusChange) -> None:
        if model == "callback":
            raise KeyError("mine")

    async def probe(_: object) -> bool:
        raise KeyError("mine")

    spec = model if model in {"bad", "sick"} else "good" if model == "probe" else "slow"
    timeout = 0.2 if model == "late" else 60
    async with launch(
        [spec], teardown=teardown, timeout=timeout, on_status=on_status, probe=probe if model == "probe" else None
    ) as fleet:
        (member,) = [member async for member in fleet]
        assert member.error is not None
        # Long before the end of the block.
        await until(lambda: deactivated(emulator) and not emulator.billed)
        assert deactivated(emulator) == [member.sampler_id]
    assert deactivated(emulator) == [member.sampler_id]


async def test_a_member_that_failed_is_kept_with_teardown_never(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["sick", "slow"], teardown="never", timeout=0.2) as fleet:
        async for _ in fleet:
            pass
        await asyncio.sleep(0.05)
    assert not deactivated(emulator)
    assert emulator.billed == {member.sampler_id for member in fleet.members}
    await asyncio.gather(*map(client.samplers.deactivate, emulator.billed))


async def test_a_failed_member_that_cannot_be_deactivated_at_once_is_by_the_teardown(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=1))
    async with launch(["sick"]) as fleet:
        async for _ in fleet:
            pass
        await until(lambda: deactivated(emulator))
        assert emulator.billed
    assert len(deactivated(emulator)) == 2
    assert not emulator.billed


async def test_a_failed_member_that_cannot_be_deactivated_is_in_the_teardown_error(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=None))
    with pytest.raises(TeardownError) as caught:
        async with launch(["sick"]) as fleet:
            async for _ in fleet:
                pass
    assert caught.value.sampler_ids == (fleet.members[0].sampler_id,)
    assert fleet.teardown_error is caught.value


async def test_the_end_of_the_block_waits_for_a_deactivation_in_progress(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.2, times=1))
    async with launch(["sick"]) as fleet:
        await until(lambda: deactivated(emulator))
        assert fleet.members[0].done
        assert emulator.billed
    assert len(deactivated(emulator)) == 1
    assert not emulator.billed


async def test_a_deactivation_in_progress_ends_with_the_teardown(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=60, times=None))
    loop = asyncio.get_running_loop()
    with pytest.raises(TeardownError) as caught:
        async with launch(["sick"], teardown_timeout=0.3):
            await until(lambda: deactivated(emulator))
            began = loop.time()
    assert loop.time() - began < 3
    assert set(caught.value.sampler_ids) == emulator.billed


async def test_what_on_status_raises_may_be_an_exception_that_takes_no_notes(stage: Setting) -> None:
    emulator, _, launch = stage

    @dataclass(frozen=True)
    class Frozen(Exception):
        pass

    def on_status(_: StatusChange) -> None:
        raise Frozen

    async with launch(["slow"], on_status=on_status) as fleet:
        (member,) = [member async for member in fleet]
        assert isinstance(member.error, Frozen)
        await until(lambda: not emulator.billed)


async def shared(stage: Setting, model: str) -> str:
    """Have the next two creates answered with one and the same new sampler, as for two specs of one run."""
    emulator, _, launch = stage
    async with launch([model], teardown="never") as made:
        await until(lambda: made.members[0].sampler_id)
    sampler_id = str(made.members[0].sampler_id)
    body = b'{"sampler": {"id": "%s", "created_at": "never"}}' % sampler_id.encode()
    emulator.add_fault(Fault(method="POST", route=CREATE, status=200, body=body, times=2))
    return sampler_id


async def test_a_sampler_that_two_members_share_stays_while_one_of_them_needs_it(stage: Setting) -> None:
    emulator, _, launch = stage
    sampler_id = await shared(stage, "slow")
    calls = 0

    def on_status(_: StatusChange) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("mine")

    async with launch(["slow"] * 2, on_status=on_status) as fleet:
        await fleet.created()
        await until(lambda: any(member.done for member in fleet.members))
        await asyncio.sleep(0.05)
        assert not deactivated(emulator)
        emulator.set_status(sampler_id, "ACTIVE")
        assert [sampler.id for sampler in await fleet.active(at_least=1)] == [sampler_id]
    assert deactivated(emulator) == [sampler_id]


async def test_a_sampler_that_two_members_share_is_deactivated_once_when_both_failed(stage: Setting) -> None:
    emulator, _, launch = stage
    sampler_id = await shared(stage, "sick")
    async with launch(["sick"] * 2) as fleet:
        errors = [member.error async for member in fleet]
        assert {type(error) for error in errors} == {SamplerFailed}
        await until(lambda: not emulator.billed)
    assert deactivated(emulator) == [sampler_id]


async def test_a_sampler_that_two_members_share_is_deactivated_once_before_both_are_relaunched(stage: Setting) -> None:
    emulator, _, launch = stage
    sampler_id = await shared(stage, "sick")
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.05, times=1))
    async with launch(["good"] * 2, relaunches=1) as fleet:
        samplers = await fleet.active()
        assert len({sampler_id, *(sampler.id for sampler in samplers)}) == 3
        assert deactivated(emulator) == [sampler_id]
        assert [member.failures[0].sampler.id for member in fleet.members] == [sampler_id] * 2
    assert not emulator.billed


async def test_members_that_share_a_sampler_are_detached_together(stage: Setting) -> None:
    emulator, client, launch = stage
    sampler_id = await shared(stage, "good")
    async with launch(["good"] * 2) as fleet:
        await fleet.active()
        fleet.detach(fleet.members[1])
        assert [member.state for member in fleet.members] == ["DETACHED", "DETACHED"]
    assert emulator.billed == {sampler_id}
    await client.samplers.deactivate(sampler_id)


# Relaunches


async def test_a_relaunch_that_is_not_created_in_time_says_so_with_the_failure_as_cause(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.5))
    async with launch(["sick"], relaunches=1, timeout=0.3) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, WaitTimeout)
    assert isinstance(member.error.__cause__, SamplerFailed)
    assert "no replacement was created after 0.3 s" in str(member.error)
    assert "UNHEALTHY" in str(member.error)
    assert creates(emulator) == 1


async def test_a_relaunch_that_is_not_ready_in_time_has_the_failure_as_cause(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["slow"], relaunches=1, timeout=0.5) as fleet:
        (member,) = fleet.members
        await until(lambda: member.sampler_id)
        first = str(member.sampler_id)
        emulator.set_status(first, "FAILED")
        await until(lambda: member.done)
        assert isinstance(member.error, WaitTimeout)
        assert member.error.__cause__ is member.failures[0]
        assert any(f"sampler {first} of slow failed" in note for note in member.error.__notes__)
    assert creates(emulator) == 2
    assert not emulator.billed


# active()


@pytest.mark.parametrize("initial", [0.01, 30.0])
async def test_active_holds_a_decisive_failure_back_for_half_a_second_at_most(stage: Setting, initial: float) -> None:
    emulator, client, _ = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=400, times=1))
    loop = asyncio.get_running_loop()
    policy = PollPolicy(initial=initial, maximum=max(initial, 1.0))
    async with launch(client, ["slow", "slow"], policy=policy) as fleet:
        began = loop.time()
        with pytest.raises(LaunchError):
            await fleet.active()
        assert loop.time() - began < 1.5
    assert not emulator.billed


async def test_active_needs_no_wait_when_all_members_are_done(stage: Setting) -> None:
    emulator, client, _ = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=400, times=2))
    loop = asyncio.get_running_loop()
    async with launch(client, ["slow"] * 2, policy=PollPolicy(initial=30.0, maximum=30.0)) as fleet:
        await until(lambda: all(member.done for member in fleet.members))
        began = loop.time()
        with pytest.raises(LaunchError) as caught:
            await fleet.active()
        assert loop.time() - began < 0.3
    assert len(caught.value.exceptions) == 2


# The time of the teardown


@pytest.mark.parametrize(("rate", "count", "seconds"), [(None, 500, 60.0), (100.0, 500, 65.0), (100.0, 1, 60.01)])
async def test_the_default_of_teardown_timeout_grows_with_members_and_the_rate_limit(
    stage: Setting, rate: float | None, count: int, seconds: float
) -> None:
    emulator, _, _ = stage
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=rate) as client:
        block = launch(client, ["slow"] * count)
        assert block._settings.teardown_timeout == pytest.approx(seconds)  # type: ignore[attr-defined]
        block = launch(client, ["slow"] * count, teardown_timeout=7)
        assert block._settings.teardown_timeout == 7  # type: ignore[attr-defined]


def repeated(error: Exception) -> Exception:
    """Send *error* through a pickle."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- written just now
    assert isinstance(again, Exception)
    return again


@pytest.mark.parametrize(("relaunches", "words"), [(0, ""), (1, " (relaunched once)"), (2, " (relaunched 2 times)")])
async def test_the_error_of_a_member_says_how_often_it_was_relaunched(
    stage: Setting, relaunches: int, words: str
) -> None:
    _, _, launch = stage
    async with launch(["bad"], relaunches=relaunches) as fleet:
        with pytest.raises(LaunchError) as caught:
            await fleet.active()
    (error,) = caught.value.exceptions
    assert isinstance(error, SamplerFailed)
    assert error.relaunches == relaunches == len(fleet.members[0].failures)
    for each in (error, repeated(error), copy.copy(error)):
        assert f" of bad failed permanently{words}: BUIL" in str(each)
    assert fleet.members[0].failures == () or "relaunched" not in str(fleet.members[0].failures[0])


async def test_a_member_that_is_late_names_the_time_of_the_launch(stage: Setting) -> None:
    """Not what was left of it when the wait began."""
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.05))
    async with launch(["slow"], timeout=0.2) as fleet:
        async for member in fleet:
            assert isinstance(member.error, WaitTimeout)
            assert member.error.timeout == 0.2
            for error in (member.error, repeated(member.error), copy.copy(member.error)):
                assert f"sampler {member.sampler_id} timed out after 0.2 s: BUILDING at " in str(error)


async def test_a_wait_of_the_callers_own_names_its_own_time(stage: Setting) -> None:
    _, client, launch = stage

    async def probe(sampler: Sampler) -> bool:
        await client.samplers.get(sampler.id)
        raise WaitTimeout(sampler, (), sampler.id, 3.0)

    async with launch(["good"], timeout=30.0, probe=probe) as fleet:
        async for member in fleet:
            assert isinstance(member.error, WaitTimeout)
            assert member.error.timeout == 3.0
