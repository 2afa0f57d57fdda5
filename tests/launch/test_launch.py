"""Launches on their way up: members, waiting for them, replacing them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loops_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    DeploymentStatus,
    Fleet,
    LaunchError,
    LoopsClient,
    Member,
    SamplerFailed,
    SamplerSpec,
    StatusChange,
    WaitTimeout,
    launch,
)
from loops_async.emulator import Emulator, Fault

from ..launching import CREATE, DEACTIVATE, Setting, creates, deactivated, until
from ..support import QUICK_POLL

# What is asked for


async def test_members_are_in_the_order_of_the_specs_and_are_yielded_as_they_are_done(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["good", SamplerSpec("bad", num_replicas=2), "good"]) as fleet:
        assert [member.spec.base_model for member in fleet.members] == ["good", "bad", "good"]
        assert [member.index for member in fleet.members] == [0, 1, 2]
        assert not any(member.done for member in fleet.members)
        done = [member async for member in fleet]
    assert sorted(done, key=lambda member: member.index) == list(fleet.members)
    first, second, third = fleet.members
    assert first.sampler is not None
    assert first.sampler.status is DeploymentStatus.ACTIVE
    assert first.sampler_id == first.sampler.id
    assert third.sampler is not None
    assert second.sampler is None
    assert isinstance(second.error, SamplerFailed)
    assert second.error.permanent
    assert second.status is DeploymentStatus.BUILD_FAILED
    assert [request.json for request in emulator.requests("POST", CREATE)] == [
        {"session_id": fleet.session_id, "base_model": "good"},
        {"session_id": fleet.session_id, "base_model": "bad", "num_replicas": 2},
        {"session_id": fleet.session_id, "base_model": "good"},
    ]


async def test_every_loop_sees_every_member_once(stage: Setting) -> None:
    _, _, launch = stage

    async def all_of(fleet: Fleet) -> list[Member]:
        return [member async for member in fleet]

    async with launch(["good", "bad", "good"]) as fleet:
        one, two = await asyncio.gather(all_of(fleet), all_of(fleet))
        three = await all_of(fleet)
    assert one == two == three
    assert len(one) == 3


async def test_one_session_is_made_if_none_is_given(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["slow", "slow"]) as fleet:
        await until(lambda: creates(emulator) == 2)
    sessions = emulator.requests("POST", "/v1/loops/sessions")
    assert len(sessions) == 1
    assert {sampler.session_id for sampler in emulator.samplers} == {fleet.session_id}
    session = await client.sessions.create()
    async with launch(["slow"], session_id=session.id) as fleet:
        await until(lambda: creates(emulator) == 3)
    assert fleet.session_id == session.id
    assert emulator.samplers[-1].session_id == session.id
    assert len(emulator.requests("POST", "/v1/loops/sessions")) == 2


async def test_a_session_that_cannot_be_made_ends_the_launch_before_it_begins(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route="/v1/loops/sessions", status=403))
    with pytest.raises(APIError) as caught:
        async with launch(["good"]):
            pytest.fail("the block must not be entered")
    assert caught.value.status == 403
    assert not creates(emulator)


async def test_a_launch_of_nothing_asks_for_nothing(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch([]) as fleet:
        assert await fleet.active() == ()
        assert [member async for member in fleet] == []
        assert len(fleet) == 0
    assert not emulator.received


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"specs": "good"}, TypeError),
        ({"specs": SamplerSpec("good")}, TypeError),
        ({"specs": None}, TypeError),
        ({"specs": ["good", 1]}, TypeError),
        ({"specs": [""]}, ValueError),
        ({"session_id": ""}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"policy": None}, TypeError),
        ({"on_status": 1}, TypeError),
        ({"max_concurrent_creates": 0}, ValueError),
        ({"max_concurrent_creates": None}, TypeError),
        ({"relaunches": -1}, ValueError),
        ({"relaunches": True}, TypeError),
        ({"teardown": "sometimes"}, ValueError),
        ({"teardown_timeout": 0}, ValueError),
        ({"teardown_timeout": float("inf")}, ValueError),
        ({"journal": ""}, ValueError),
        ({"journal": 3}, TypeError),
    ],
)
async def test_malformed_arguments_are_refused_before_anything_is_sent(
    client: LoopsClient, emulator: Emulator, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    specs = arguments.pop("specs", ["good"])
    with pytest.raises(kind):
        launch(client, specs, **arguments)
    assert not emulator.received


async def test_it_needs_a_client() -> None:
    with pytest.raises(TypeError, match="LoopsClient"):
        launch("client", ["good"])  # type: ignore[arg-type]


async def test_a_launch_is_entered_once(stage: Setting) -> None:
    _, _, launch = stage
    block = launch(["slow"])
    async with block:
        pass
    with pytest.raises(RuntimeError, match="only once"):
        await block.__aenter__()


async def test_a_closed_client_launches_nothing(stage: Setting) -> None:
    emulator, client, launch = stage
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await launch(["good"]).__aenter__()
    assert not emulator.received


# Creates and waits


async def test_creates_in_flight_are_bounded_and_in_order(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.05, times=None))
    specs = [SamplerSpec("good", max_seq_length=length) for length in range(1, 8)]
    async with launch(specs, max_concurrent_creates=3) as fleet:
        await fleet.active()
    arrived = emulator.requests("POST", CREATE)
    lengths = [request.json["max_seq_length"] for request in arrived]
    assert set(lengths[:3]) == {1, 2, 3}
    assert set(lengths) == set(range(1, 8))
    # Each was answered 50 ms after its arrival, and the third next one came only then.
    for earlier, later in zip(arrived, arrived[3:], strict=False):
        assert later.at - earlier.at >= 0.05


async def test_waits_begin_before_all_are_created(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.1, times=None))
    async with launch(["good"] * 4, max_concurrent_creates=1) as fleet:
        await fleet.active(at_least=1)
        assert creates(emulator) < 4


async def test_a_rejected_create_is_the_error_of_its_member_alone(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=400, times=1))
    async with launch(["good"] * 3, max_concurrent_creates=1) as fleet:
        done = [member async for member in fleet]
    errors = [member.error for member in done if member.error is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], BadRequestError)
    assert "member 0 of the launch, good" in errors[0].__notes__
    assert creates(emulator) == 3
    assert not emulator.billed


async def test_a_sampler_whose_description_is_unreadable_is_waited_for_by_its_id(stage: Setting) -> None:
    emulator, client, launch = stage
    async with launch(["slow"], teardown="never") as fleet:
        await until(lambda: fleet.members[0].sampler_id)
    made = fleet.members[0].sampler_id
    assert made is not None
    emulator.set_status(made, "ACTIVE")
    body = b'{"sampler": {"id": "%s", "created_at": "never"}}' % made.encode()
    emulator.add_fault(Fault(method="POST", route=CREATE, status=200, body=body))
    async with launch(["good"]) as fleet:
        (sampler,) = await fleet.active()
        assert sampler.id == made
    assert deactivated(emulator) == [made]
    await client.samplers.deactivate(made)


async def test_members_that_are_late_time_out_and_the_others_go_on(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["good", "slow"], timeout=0.3) as fleet:
        errors = {member.index: member.error async for member in fleet}
    assert errors[0] is None
    assert isinstance(errors[1], WaitTimeout)
    assert not emulator.billed


async def test_the_time_runs_from_the_beginning_of_the_block(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.4))
    async with launch(["slow"], timeout=0.3) as fleet:
        began = asyncio.get_running_loop().time()
        (member,) = [member async for member in fleet]
        took = asyncio.get_running_loop().time() - began
    assert isinstance(member.error, WaitTimeout)
    assert took < 0.65


async def test_nothing_is_created_once_the_time_is_over(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.2, times=None))
    async with launch(["slow"] * 5, timeout=0.3, max_concurrent_creates=1) as fleet:
        errors = [member.error async for member in fleet]
        sent = creates(emulator)
        await asyncio.sleep(0.3)
        assert creates(emulator) == sent < 5
    assert {type(error) for error in errors} == {WaitTimeout}
    late = [error for error in errors if isinstance(error, WaitTimeout) and error.sampler_id is None]
    assert len(late) == 5 - sent
    assert str(late[0]) == "no sampler was created after 0.3 s"
    assert not emulator.billed


@pytest.mark.parametrize("delay", [0.0, 0.4])
async def test_a_create_whose_pause_outlasts_the_time_is_not_sent_again(stage: Setting, delay: float) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=delay, status=429, retry_after="30"))
    async with launch(["slow"], timeout=0.2) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, WaitTimeout)
    assert creates(emulator) == 1


async def test_on_status_is_called_with_each_change(stage: Setting) -> None:
    _, _, launch = stage
    changes: list[StatusChange] = []
    async with launch(["good", "bad"], on_status=changes.append) as fleet:
        async for _ in fleet:
            pass
    for member in fleet.members:
        seen = [change for change in changes if change.sampler.id == member.sampler_id]
        assert seen[-1].status == member.status
        assert [change.previous for change in seen] == [None, *(change.status for change in seen[:-1])]


async def test_what_on_status_raises_is_the_error_of_the_member(stage: Setting) -> None:
    emulator, _, launch = stage

    def on_status(change: StatusChange) -> None:
        if change.status is DeploymentStatus.ACTIVE:
            raise KeyError("mine")

    async with launch(["good"], on_status=on_status) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, KeyError)
    assert not emulator.billed


async def test_a_callback_that_cancels_its_wait_fails_its_member(stage: Setting) -> None:
    emulator, _, launch = stage

    def on_status(_: StatusChange) -> None:
        raise asyncio.CancelledError

    async with launch(["good"], on_status=on_status) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, RuntimeError)
    assert "cancelled" in str(member.error)
    assert not emulator.billed


# Waiting for members


async def test_active_returns_all_samplers_in_the_order_of_the_specs(stage: Setting) -> None:
    _, _, launch = stage
    async with launch([SamplerSpec("good", max_seq_length=length) for length in (1, 2, 3)]) as fleet:
        samplers = await fleet.active()
        assert [sampler.id for sampler in samplers] == [member.sampler_id for member in fleet.members]
        assert await fleet.active() == samplers


async def test_active_returns_as_soon_as_enough_are_up(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["slow", "good", "bad", "good", "slow"]) as fleet:
        samplers = await fleet.active(at_least=2)
        assert [sampler.id for sampler in samplers] == [fleet.members[1].sampler_id, fleet.members[3].sampler_id]


async def test_active_raises_every_failure_and_does_not_wait_for_the_other_members(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["bad", "slow", "sick"]) as fleet:
        await until(lambda: fleet.members[0].done and fleet.members[2].done)
        with pytest.raises(LaunchError) as caught:
            await fleet.active()
        assert not fleet.members[1].done
    assert [type(error) for error in caught.value.exceptions] == [SamplerFailed, SamplerFailed]
    assert list(caught.value.exceptions) == [fleet.members[0].error, fleet.members[2].error]
    assert "2 of 3 samplers did not come up" in str(caught.value)


async def test_active_fails_once_enough_cannot_come_up(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["bad", "good", "bad", "slow"]) as fleet:
        assert len(await fleet.active(at_least=1)) == 1
        with pytest.raises(LaunchError, match="3 were needed"):
            await fleet.active(at_least=3)


@pytest.mark.parametrize(("at_least", "kind"), [(0, ValueError), (4, ValueError), (True, TypeError), ("2", TypeError)])
async def test_at_least_is_a_number_of_members(stage: Setting, at_least: Any, kind: type[Exception]) -> None:
    _, _, launch = stage
    async with launch(["slow"] * 3) as fleet:
        with pytest.raises(kind):
            await fleet.active(at_least=at_least)


async def test_waiting_for_members_can_be_cancelled_without_harm(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["slow"]) as fleet:
        for waiting in (fleet.active(), anext(aiter(fleet))):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await waiting
        assert not fleet.members[0].done


async def test_a_loop_in_another_task_ends_with_the_block(stage: Setting) -> None:
    _, _, launch = stage

    async def consume(fleet: Fleet) -> list[Member]:
        return [member async for member in fleet]

    async with launch(["slow", "good"]) as fleet:
        consumer = asyncio.create_task(consume(fleet))
        await fleet.active(at_least=1)
    async with asyncio.timeout(5):
        late = (await consumer)[-1]
    assert isinstance(late.error, RuntimeError)
    assert "ended" in str(late.error)
    with pytest.raises(LaunchError):
        await fleet.active()


# Relaunches


async def test_a_failed_sampler_is_deactivated_before_it_is_replaced(stage: Setting) -> None:
    emulator, _, launch = stage
    states: list[tuple[str, str]] = []
    async with launch(["sick"], relaunches=2) as fleet:
        (member,) = [member async for member in fleet]
        states = [(each.method, each.route or "") for each in emulator.received if each.method == "POST"]
    assert isinstance(member.error, SamplerFailed)
    assert len(member.failures) == 2
    ids = [sampler.id for sampler in emulator.samplers]
    assert [failure.sampler.id for failure in member.failures] == ids[:2]
    assert member.sampler_id == member.error.sampler.id == ids[2]
    assert states[1:] == [("POST", CREATE), ("POST", DEACTIVATE)] * 2 + [("POST", CREATE)]
    assert deactivated(emulator) == ids


async def test_a_replacement_that_comes_up_is_the_members_sampler(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["slow"], relaunches=1) as fleet:
        await until(lambda: emulator.samplers)
        first = emulator.samplers[0].id
        emulator.set_status(first, "FAILED")
        await until(lambda: len(emulator.samplers) == 2)
        second = emulator.samplers[1].id
        emulator.set_status(second, "ACTIVE")
        (sampler,) = await fleet.active()
    assert sampler.id == second
    assert deactivated(emulator) == [first, second]
    assert [failure.sampler.id for failure in fleet.members[0].failures] == [first]


async def test_a_sampler_that_cannot_be_deactivated_is_not_replaced(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=1))
    async with launch(["sick"], relaunches=3) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, SamplerFailed)
    assert "not replaced" in member.error.__notes__[0]
    assert creates(emulator) == 1
    assert not emulator.billed


async def test_what_timed_out_is_not_replaced(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["slow"], relaunches=3, timeout=0.1) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, WaitTimeout)
    assert creates(emulator) == 1


async def test_a_rejected_key_is_the_error_of_every_member(stage: Setting) -> None:
    emulator, _, _ = stage
    async with (
        LoopsClient("wrong-key", base_url=emulator.url, rate_limit=None) as stranger,
        launch(stranger, ["good"] * 300, session_id="s", policy=QUICK_POLL) as fleet,
    ):
        assert len([member async for member in fleet]) == 300
        with pytest.raises(LaunchError) as caught:
            await fleet.active()
    assert {type(error) for error in caught.value.exceptions} == {AuthenticationError}
    assert len(caught.value.exceptions) == 300
