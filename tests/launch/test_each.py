"""`fleet.each()`: work for each member as it comes up, and its sampler deactivated when the work has ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from loops_async import (
    Fleet,
    LaunchError,
    Member,
    MemberState,
    Outcome,
    Sampler,
    SamplerFailed,
    SamplerSpec,
    TeardownError,
)
from loops_async._launch import each
from loops_async.emulator import Emulator, Fault

from ..launching import CREATE, DEACTIVATE, Setting, deactivated, until
from ..processes import forked
from ..support import KEY


class Mine(Exception):
    """What works raise."""


async def length(sampler: Sampler) -> int:
    return len(sampler.id)


class Works:
    """Works that record what becomes of them, and end when a test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go = asyncio.Event()

    async def __call__(self, sampler: Sampler) -> str:
        self.started.append(sampler.id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(sampler.id)
            raise
        finally:
            self.at_once -= 1
            self.ended.append(sampler.id)
        return sampler.id


async def all_of(fleet: Fleet, work: Any, **settings: Any) -> list[Outcome[Any]]:
    return [outcome async for outcome in fleet.each(work, **settings)]


async def test_each_member_yields_the_value_of_its_work_or_its_error(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["good", "bad", "good"]) as fleet:
        outcomes = await all_of(fleet, length)
        assert not emulator.billed
    assert sorted(outcome.member.index for outcome in outcomes) == [0, 1, 2]
    by_index = {outcome.member.index: outcome for outcome in outcomes}
    assert by_index[0] == Outcome(fleet.members[0], len(str(fleet.members[0].sampler_id)), None)
    assert by_index[1].value is None
    assert isinstance(by_index[1].error, SamplerFailed)
    assert by_index[1].error is fleet.members[1].error
    assert len(deactivated(emulator)) == 3


async def test_a_sampler_is_deactivated_when_its_work_has_ended_and_before_its_outcome(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["good", "slow"]) as fleet:
        outcomes = fleet.each(length)
        outcome = await anext(outcomes)
        assert outcome.member is fleet.members[0]
        assert outcome.member.state is MemberState.DEACTIVATED
        assert emulator.billed == {fleet.members[1].sampler_id}
        emulator.set_status(str(fleet.members[1].sampler_id), "ACTIVE")
        assert (await anext(outcomes)).member is fleet.members[1]
        assert not emulator.billed
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def test_outcomes_come_in_the_order_in_which_works_end(stage: Setting) -> None:
    _, _, launch = stage

    async def work(sampler: Sampler) -> None:
        await asyncio.sleep(0.3 if sampler.base_model == "good" else 0)

    async with launch(["good", "slow", "bad"]) as fleet:
        await until(lambda: fleet.members[1].sampler_id and fleet.members[2].done)
        stage[0].set_status(str(fleet.members[1].sampler_id), "ACTIVE")
        assert [outcome.member.index async for outcome in fleet.each(work)] == [2, 1, 0]


async def test_a_work_that_raises_cancels_nothing_and_its_sampler_is_deactivated(stage: Setting) -> None:
    emulator, _, launch = stage

    async def work(sampler: Sampler) -> str:
        if sampler.id == fleet.members[0].sampler_id:
            raise Mine(sampler.id)
        await asyncio.sleep(0.05)
        return sampler.id

    async with launch(["good"] * 3) as fleet:
        outcomes = {outcome.member.index: outcome async for outcome in fleet.each(work)}
        assert not emulator.billed
    assert isinstance(outcomes[0].error, Mine)
    assert [outcomes[index].value for index in (1, 2)] == [fleet.members[index].sampler_id for index in (1, 2)]


@pytest.mark.parametrize("how", ["detach in the work", "detach before"])
async def test_a_detached_members_sampler_stays(stage: Setting, how: str) -> None:
    emulator, client, launch = stage

    async def work(sampler: Sampler) -> None:
        if how == "detach in the work" and sampler.id == fleet.members[0].sampler_id:
            fleet.detach(sampler)

    async with launch(["good", "good"]) as fleet:
        if how == "detach before":
            await until(lambda: fleet.members[0].sampler_id)
            fleet.detach(fleet.members[0])
        outcomes = await all_of(fleet, work)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert emulator.billed == {fleet.members[0].sampler_id}
    await client.samplers.deactivate(str(fleet.members[0].sampler_id))


@pytest.mark.parametrize("teardown", ["never", "on_error"])
async def test_every_teardown_deactivates_samplers_whose_work_has_ended(stage: Setting, teardown: str) -> None:
    emulator, client, launch = stage
    async with launch(["good", "slow"], teardown=teardown) as fleet:
        await anext(fleet.each(length))
    kept = str(fleet.members[1].sampler_id)
    assert emulator.billed == {kept}
    await client.samplers.deactivate(kept)


async def test_works_of_members_that_are_up_start_in_the_order_of_the_specs(stage: Setting) -> None:
    _, _, launch = stage
    started: list[str] = []

    async def work(sampler: Sampler) -> None:
        started.append(sampler.id)

    async with launch(["good"] * 8) as fleet:
        samplers = await fleet.active()
        await all_of(fleet, work, concurrency=1)
    assert started == [sampler.id for sampler in samplers]


@pytest.mark.parametrize("concurrency", [1, 3, None])
async def test_works_of_members_that_come_up_together_start_in_the_order_of_the_specs(concurrency: int | None) -> None:
    """One answer shows several members to be up, and their tasks run in any order."""
    started: list[str] = []

    async def work(sampler: Sampler) -> None:
        started.append(sampler.id)

    async def deactivate(_: Member) -> None:
        pass

    of_launch = each.Works(5, deactivate, 60.0)
    outcomes = each.WorkOutcomes(of_launch, work, concurrency)
    iteration = asyncio.create_task(collected(outcomes))
    await asyncio.sleep(0)
    for index in (3, 1, 4, 0, 2):
        member = Member(index, SamplerSpec("m"))
        member._sampler = Sampler(f"s{index}", "", "m", datetime.now(UTC), "ACTIVE")
        of_launch.on_done(member)
    await iteration
    assert started == ["s0", "s1", "s2", "s3", "s4"]


async def collected(outcomes: each.WorkOutcomes[None]) -> list[Outcome[None]]:
    return [outcome async for outcome in outcomes]


async def test_concurrency_bounds_the_works_that_run_at_once(stage: Setting) -> None:
    emulator, _, launch = stage
    works = Works()
    async with launch(["good"] * 5) as fleet:
        loop = asyncio.create_task(all_of(fleet, works, concurrency=2))
        await until(lambda: all(member.done for member in fleet.members) and len(works.started) == 2)
        assert [member.state for member in fleet.members] == [MemberState.ACTIVE] * 5
        assert len(emulator.billed) == 5
        works.go.set()
        assert len(await loop) == 5
    assert works.most_at_once == 2


@pytest.mark.parametrize(
    ("work", "concurrency", "kind"),
    [(None, None, TypeError), (length, 0, ValueError), (length, True, TypeError), (length, "2", TypeError)],
)
async def test_malformed_arguments_are_refused_at_once(
    stage: Setting, work: Any, concurrency: Any, kind: type[Exception]
) -> None:
    _, _, launch = stage
    async with launch([]) as fleet:
        with pytest.raises(kind):
            fleet.each(work, concurrency=concurrency)


async def test_a_work_that_is_not_asynchronous_is_its_members_error(stage: Setting) -> None:
    emulator, _, launch = stage

    def work(sampler: Sampler) -> str:
        return sampler.id

    async with launch(["good"]) as fleet:
        (outcome,) = await all_of(fleet, work)
        assert not emulator.billed
    assert isinstance(outcome.error, TypeError)
    assert "async function" in str(outcome.error)


async def test_a_work_that_is_never_iterated_never_starts(stage: Setting) -> None:
    _, _, launch = stage
    works = Works()
    async with launch(["good"]) as fleet:
        outcomes = fleet.each(works)
        await fleet.active()
        await asyncio.sleep(0.02)
        await outcomes.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
        assert fleet.members[0].state is MemberState.ACTIVE
    assert not works.started


async def test_a_fleet_of_nothing_yields_nothing(stage: Setting) -> None:
    _, _, launch = stage
    async with launch([]) as fleet:
        assert await all_of(fleet, length) == []


async def test_works_have_the_context_variables_of_the_code_that_iterates(stage: Setting) -> None:
    _, _, launch = stage
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def work(_: Sampler) -> str:
        value = variable.get()
        variable.set("changed by a work")
        return value

    async with launch(["good"] * 2) as fleet:
        variable.set("of the loop")
        assert [outcome.value async for outcome in fleet.each(work)] == ["of the loop"] * 2
        assert variable.get() == "of the loop"


# Two loops


async def test_no_work_starts_twice_for_a_member_with_two_loops_at_once(stage: Setting) -> None:
    emulator, _, launch = stage
    one, two = Works(), Works()
    one.go.set()
    two.go.set()
    async with launch(["good"] * 8 + ["bad"]) as fleet:
        first, second = await asyncio.gather(all_of(fleet, one, concurrency=1), all_of(fleet, two, concurrency=1))
        assert not emulator.billed
    assert len(one.started) + len(two.started) == 8
    assert len({*one.started, *two.started}) == 8
    assert one.started
    assert two.started
    # What failed is reported by both.
    assert [outcome.member.index for outcome in first if outcome.error] == [
        outcome.member.index for outcome in second if outcome.error
    ]
    assert len(first) + len(second) == 10


async def test_a_second_loop_gets_the_members_whose_work_has_not_started(stage: Setting) -> None:
    emulator, _, launch = stage
    works = Works()
    async with launch(["good"] * 3) as fleet:
        await fleet.active()
        outcomes = fleet.each(works, concurrency=1)
        waiting = asyncio.ensure_future(anext(outcomes))
        await until(lambda: works.started)
        await outcomes.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        (started,) = works.started
        assert works.cancelled == [started]
        others = {member for member in fleet.members if member.sampler_id != started}
        assert {member.state for member in others} == {MemberState.ACTIVE}
        assert {member.state for member in {*fleet.members} - others} == {MemberState.DEACTIVATED}
        assert {outcome.member for outcome in await all_of(fleet, length)} == others
        assert not emulator.billed
        assert await all_of(fleet, length) == []


# Leaving early


@pytest.mark.parametrize("how", ["break", "raise", "aclose", "cancel", "timeout"])
async def test_leaving_the_loop_early_cancels_the_works_and_deactivates_their_samplers(
    stage: Setting, how: str
) -> None:
    emulator, _, launch = stage
    works = Works()

    async def work(sampler: Sampler) -> str:
        return sampler.id if sampler.id == fleet.members[0].sampler_id else await works(sampler)

    async def loop(fleet: Fleet) -> None:
        async for _ in fleet.each(work):
            if how == "break":
                break
            if how == "raise":
                raise Mine

    async with launch(["good"] * 3) as fleet:
        await fleet.active()
        task = asyncio.create_task(loop(fleet))
        if how == "aclose":
            task.cancel()
            async with contextlib.aclosing(fleet.each(work)) as outcomes:
                await anext(outcomes)
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await task
        else:
            await until(lambda: len(works.started) == 2)
            if how == "cancel":
                task.cancel()
            await asyncio.wait([task])
        if how in {"break", "raise"}:
            gc.collect()
            await until(lambda: len(works.cancelled) == 2 and not emulator.billed)
        # The other ways wait for the works and the deactivations.
        assert len(works.ended) == len(works.cancelled) == 2
        assert not emulator.billed
        await asyncio.gather(task, return_exceptions=True)
    assert sorted(deactivated(emulator)) == sorted(str(member.sampler_id) for member in fleet.members)


async def test_the_end_of_the_block_waits_for_works_that_a_break_has_cancelled(stage: Setting) -> None:
    emulator, _, launch = stage
    ended: list[str] = []

    async def work(sampler: Sampler) -> None:
        if sampler.id != fleet.members[0].sampler_id:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.1)
                assert sampler.id in emulator.billed
                ended.append(sampler.id)

    async with launch(["good"] * 3) as fleet:
        await fleet.active()
        async for _ in fleet.each(work):
            break
    assert len(ended) == 2
    assert not emulator.billed


async def test_the_end_of_the_block_ends_a_loop_in_another_task(stage: Setting) -> None:
    emulator, _, launch = stage
    works = Works()
    async with launch(["good", "good", "slow"]) as fleet:
        loop = asyncio.create_task(all_of(fleet, works, concurrency=1))
        await until(lambda: works.started and fleet.members[1].done)
    outcomes = await loop
    assert [type(outcome.error) for outcome in outcomes] == [RuntimeError] * 3
    assert all("ended" in str(outcome.error) for outcome in outcomes)
    assert {outcome.member for outcome in outcomes} == set(fleet.members)
    assert not emulator.billed
    late = await all_of(fleet, length)
    assert [type(outcome.error) for outcome in late] == [RuntimeError] * 2
    assert works.started == works.cancelled


async def test_closing_the_client_inside_the_loop_ends_it(stage: Setting) -> None:
    emulator, client, launch = stage
    works = Works()
    async with launch(["good"] * 2) as fleet:
        loop = asyncio.create_task(all_of(fleet, works))
        await until(lambda: len(works.started) == 2)
        await client.aclose()
        assert not emulator.billed
        assert [type(outcome.error) for outcome in await loop] == [RuntimeError] * 2


async def test_a_work_that_does_not_end_when_cancelled_loses_its_sampler(
    stage: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(each, "CANCELLED_WORK_S", 0.05)
    stop = asyncio.Event()

    async def stubborn(_: Sampler) -> None:
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stop.wait()

    async with launch(["good"]) as fleet:
        loop = asyncio.create_task(all_of(fleet, stubborn))
        await until(lambda: fleet.members[0].done)
        await asyncio.sleep(0.02)
    (outcome,) = await loop
    assert "had not ended" in str(outcome.error)
    assert not emulator.billed
    stop.set()
    await asyncio.sleep(0)


async def test_a_work_that_cancels_itself_is_an_outcome(stage: Setting) -> None:
    emulator, _, launch = stage

    async def work(_: Sampler) -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(1)

    async with launch(["good"] * 2) as fleet:
        outcomes = await all_of(fleet, work)
        assert not emulator.billed
    assert [type(outcome.error) for outcome in outcomes] == [RuntimeError] * 2
    assert "cancelled" in str(outcomes[0].error)


async def test_a_work_that_raises_no_exception_of_the_usual_kind_is_an_outcome(stage: Setting) -> None:
    _, _, launch = stage

    class Odd(BaseException):
        pass

    async def work(_: Sampler) -> None:
        raise Odd

    async with launch(["good"]) as fleet:
        (outcome,) = await all_of(fleet, work)
    assert isinstance(outcome.error, RuntimeError)
    assert isinstance(outcome.error.__cause__, Odd)


async def run_program(emulator: Emulator, main: str) -> str:
    """Run a program in a process of its own, whose `main(client)` is given; return what it wrote to stderr."""
    program = f"""
import asyncio, os, signal
from loops_async import LoopsClient, PollPolicy, launch

POLICY = PollPolicy(initial=0.02)
{main}
async def run():
    async with LoopsClient({KEY!r}, base_url={emulator.url!r}) as client:
        await main(client)

asyncio.run(run())
"""
    async with forked(program) as process:
        _, err = await process.communicate()
    for words in ("never retrieved", "destroyed", "never awaited"):
        assert words not in err.decode()
    return err.decode()


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGINT)", "raise SystemExit"])
async def test_an_interrupt_in_a_work_leaves_nothing_billed(stage: Setting, how: str) -> None:
    emulator, _, _ = stage
    main = f"""
async def main(client):
    async with launch(client, ["good", "good", "slow"], policy=POLICY) as fleet:
        async def work(sampler):
            if sampler.id == fleet.members[0].sampler_id:
                {how}
            await asyncio.sleep(60)

        async for outcome in fleet.each(work):
            pass
"""
    await run_program(emulator, main)
    assert len(emulator.samplers) == 3
    assert not emulator.billed


async def test_a_program_that_ends_while_works_run_in_another_task_leaves_nothing_billed(stage: Setting) -> None:
    emulator, _, _ = stage
    main = """
async def others(client, started):
    async with launch(client, ["good", "good", "slow"], policy=POLICY) as fleet:
        async def work(sampler):
            started.set()
            await asyncio.sleep(60)

        async for outcome in fleet.each(work):
            pass

async def main(client):
    started = asyncio.Event()
    main.task = asyncio.create_task(others(client, started))
    await started.wait()
"""
    assert "Error" not in await run_program(emulator, main)
    assert len(emulator.samplers) == 3
    assert not emulator.billed


async def test_closing_the_client_in_a_work_ends_the_block(stage: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator, client, launch = stage
    monkeypatch.setattr(each, "CANCELLED_WORK_S", 0.1)

    async def work(_: Sampler) -> None:
        await client.aclose()

    async with launch(["good", "slow"]) as fleet:
        outcomes = await all_of(fleet, work)
        assert [type(outcome.error) for outcome in outcomes] == [RuntimeError] * 2
        assert not emulator.billed


# Deactivations that fail or take long


async def test_a_sampler_that_cannot_be_deactivated_after_its_work_is_reported_by_the_block(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_run("good", run_id="run1")
    with pytest.raises(TeardownError) as caught:
        async with launch([SamplerSpec("good", run_id="run1"), "good"]) as fleet:
            outcomes = await all_of(fleet, length)
            assert [outcome.error for outcome in outcomes] == [None, None]
            assert emulator.billed == {fleet.members[0].sampler_id}
    assert caught.value.sampler_ids == (fleet.members[0].sampler_id,)
    assert caught.value.deactivated == (fleet.members[1].sampler_id,)


async def test_a_deactivation_that_takes_long_does_not_hold_the_outcome_back(
    stage: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(each, "DEACTIVATION_WAIT_S", 0.05)
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.5))
    async with launch(["good"]) as fleet:
        (outcome,) = await all_of(fleet, length)
        assert outcome.error is None
        assert emulator.billed
    assert not emulator.billed
    assert len(deactivated(emulator)) == 1


async def test_a_sampler_that_two_members_share_is_deactivated_after_both_works(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["good"], teardown="never") as made:
        (sampler,) = await made.active()
    body = b'{"sampler": {"id": "%s", "created_at": "never"}}' % sampler.id.encode()
    emulator.add_fault(Fault(method="POST", route=CREATE, status=200, body=body, times=2))
    calls = 0

    async def work(_: Sampler) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await asyncio.sleep(0.1)
            assert emulator.billed

    async with launch(["good"] * 2) as fleet:
        outcomes = await all_of(fleet, work)
        assert [outcome.error for outcome in outcomes] == [None, None]
        assert not emulator.billed
    assert calls == 2
    assert deactivated(emulator) == [sampler.id]


async def test_active_still_returns_the_samplers_of_members_whose_work_has_ended(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["good", "good"]) as fleet:
        await all_of(fleet, length)
        assert len(await fleet.active()) == 2


@pytest.mark.parametrize("seed", range(30))
async def test_blocks_that_are_cancelled_at_any_moment_leave_nothing_billed(stage: Setting, seed: int) -> None:
    emulator, _, launch = stage
    chance = random.Random(seed)
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.01, times=None))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.01, times=None))

    async def work(_: Sampler) -> None:
        try:
            await asyncio.sleep(chance.uniform(0, 0.05))
        finally:
            await asyncio.sleep(0.005)

    async def body() -> None:
        async with launch(["good", "good", "bad", "sick", "slow"] * 2) as fleet:
            async for _ in fleet.each(work, concurrency=chance.choice((None, 2))):
                pass

    task = asyncio.create_task(body())
    await asyncio.sleep(chance.uniform(0, 0.15))
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, (asyncio.CancelledError, LaunchError))
    assert not emulator.billed
