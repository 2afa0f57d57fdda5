"""`launch(probe=...)`: a member has come up once its sampler is ready and answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loops_async import MemberState, Sampler, WaitTimeout
from loops_async.emulator import Fault

from ..launching import Setting, deactivated, until

SAMPLE = "/models/{model_id}/deployment/{deployment_id}/sync/sample"


async def test_a_member_is_active_once_its_probe_says_yes(stage: Setting) -> None:
    _, _, launch = stage
    asked: list[str] = []
    go = asyncio.Event()

    async def probe(sampler: Sampler) -> bool:
        assert sampler.status == "ACTIVE"
        asked.append(sampler.id)
        return go.is_set()

    async with launch(["good", "good"], probe=probe) as fleet:
        await until(lambda: len({*asked}) == 2)
        assert [member.state for member in fleet.members] == [MemberState.WAITING] * 2
        assert [member.status for member in fleet.members] == ["ACTIVE"] * 2
        assert not any(member.done for member in fleet.members)
        go.set()
        assert [sampler.id for sampler in await fleet.active()] == [member.sampler_id for member in fleet.members]


async def test_probe_true_asks_for_one_token(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=SAMPLE, status=503, times=3))
    async with launch(["good"], probe=True) as fleet:
        await fleet.active()
        assert len(emulator.requests("POST", SAMPLE)) == 4


async def test_what_a_probe_raises_is_the_error_of_its_member(stage: Setting) -> None:
    emulator, _, launch = stage

    async def probe(sampler: Sampler) -> bool:
        raise KeyError(sampler.id)

    async with launch(["good"], probe=probe) as fleet:
        (member,) = [member async for member in fleet]
        assert isinstance(member.error, KeyError)
        await until(lambda: not emulator.billed)


async def test_a_probe_that_never_says_yes_ends_with_the_time_of_the_launch(stage: Setting) -> None:
    emulator, _, launch = stage

    async def probe(_: Sampler) -> bool:
        return False

    async with launch(["good"], probe=probe, timeout=0.3) as fleet:
        (member,) = [member async for member in fleet]
        assert isinstance(member.error, WaitTimeout)
        await until(lambda: not emulator.billed)
    assert len(deactivated(emulator)) == 1


async def test_works_begin_once_the_probe_says_yes(stage: Setting) -> None:
    _, _, launch = stage
    order: list[str] = []

    async def probe(_: Sampler) -> bool:
        order.append("probe")
        return len(order) > 1

    async def work(_: Sampler) -> None:
        order.append("work")

    async with launch(["good"], probe=probe) as fleet:
        async for outcome in fleet.each(work):
            assert outcome.error is None
    assert order == ["probe", "probe", "work"]


@pytest.mark.parametrize("probe", ["yes", 1, object()])
async def test_a_malformed_probe_is_refused_before_anything_is_sent(stage: Setting, probe: Any) -> None:
    emulator, _, launch = stage
    with pytest.raises(TypeError):
        launch(["good"], probe=probe)
    assert not emulator.received
