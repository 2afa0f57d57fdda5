"""`member.state` through all of its values, and `fleet.created()`."""

from __future__ import annotations

import asyncio

import pytest

from loops_async import MemberState, SamplerFailed, TeardownError
from loops_async.emulator import Fault

from ..launching import CREATE, DEACTIVATE, Setting, creates, until


async def test_a_member_is_queued_created_waited_for_active_and_deactivated(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.05, times=None))
    states: list[MemberState] = []
    async with launch(["slow", "slow"], max_concurrent_creates=1) as fleet:
        first, second = fleet.members
        assert first.state is second.state is MemberState.QUEUED
        await until(lambda: creates(emulator))
        assert (first.state, second.state) == (MemberState.CREATING, MemberState.QUEUED)
        await fleet.created()
        assert (first.state, second.state) == (MemberState.WAITING, MemberState.WAITING)
        emulator.set_status(str(first.sampler_id), "ACTIVE")
        await fleet.active(at_least=1)
        assert (first.state, second.state) == (MemberState.ACTIVE, MemberState.WAITING)
        states = [first.state, second.state]
    assert states == ["ACTIVE", "WAITING"]
    # The second one was still coming up when the block ended.
    assert (first.state, second.state) == (MemberState.DEACTIVATED, MemberState.DEACTIVATED)


async def test_a_member_whose_sampler_failed_is_failed_also_after_it_was_deactivated(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["sick"]) as fleet:
        (member,) = fleet.members
        await until(lambda: member.done)
        assert member.state is MemberState.FAILED
        await until(lambda: not emulator.billed)
        assert member.state is MemberState.FAILED
    assert member.state is MemberState.FAILED
    assert isinstance(member.error, SamplerFailed)


async def test_a_member_whose_create_was_rejected_is_failed(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=403))
    async with launch(["good"]) as fleet:
        await until(lambda: fleet.members[0].done)
        assert fleet.members[0].state is MemberState.FAILED
        assert fleet.members[0].sampler_id is None


async def test_a_member_whose_response_was_lost_is_unknown_before_and_after_the_search(stage: Setting) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after"))
    emulator.add_fault(Fault(method="GET", route=CREATE, delay=0.1))
    async with launch(["slow"]) as fleet:
        (member,) = fleet.members
        await until(lambda: member.state is MemberState.UNKNOWN)
        assert not member.done
        created = asyncio.create_task(fleet.created())
        await asyncio.sleep(0)
        assert not created.done()
        await created
        assert member.done
        assert member.state is MemberState.UNKNOWN
        fleet.acknowledge(member)
        assert member.state is MemberState.UNKNOWN
    assert member.state is MemberState.UNKNOWN
    for sampler_id in emulator.billed:
        await client.samplers.deactivate(sampler_id)


async def test_a_detached_member_stays_detached_whatever_becomes_of_its_sampler(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["slow", "good"]) as fleet:
        slow, good = fleet.members
        await fleet.active(at_least=1)
        for member in fleet.members:
            fleet.detach(member)
        assert [member.state for member in fleet.members] == [MemberState.DETACHED] * 2
        emulator.set_status(str(slow.sampler_id), "FAILED")
        await until(lambda: slow.done)
        assert slow.state is MemberState.DETACHED
    assert [member.state for member in fleet.members] == [MemberState.DETACHED] * 2
    assert good.sampler is not None
    await client.samplers.deactivate(good.sampler.id)


async def test_a_member_that_cannot_be_deactivated_is_still_active(stage: Setting) -> None:
    emulator, _, launch = stage
    with pytest.raises(TeardownError):
        async with launch(["good"], teardown_timeout=0.1) as fleet:
            await fleet.active()
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
    assert fleet.members[0].state is MemberState.ACTIVE


async def test_created_returns_when_every_create_has_an_outcome(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=400, times=1))
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.02, times=None))
    async with launch(["slow"] * 4, max_concurrent_creates=1) as fleet:
        await fleet.created()
        assert [member.sampler_id is not None for member in fleet.members] == [False, True, True, True]
        assert fleet.members[0].error is not None
        await fleet.created()
    async with launch([]) as nothing:
        await nothing.created()


async def test_created_returns_when_the_block_ends_first(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.05, times=None))
    async with launch(["slow"] * 4, max_concurrent_creates=1) as fleet:
        created = asyncio.create_task(fleet.created())
        await until(lambda: creates(emulator))
    await created
    assert not emulator.billed


async def test_a_member_and_its_fleet_have_a_short_repr(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["good", "bad"]) as fleet:
        assert repr(fleet.members[0]) == "<Member 0 good: QUEUED>"
        async for _ in fleet:
            pass
        good, bad = fleet.members
        assert repr(good) == f"<Member 0 good sampler {good.sampler_id}: ACTIVE>"
        assert repr(bad) == f"<Member 1 bad sampler {bad.sampler_id}: FAILED (SamplerFailed)>"
        assert repr(fleet) == "<Fleet of 2: 1 active, 1 failed>"
