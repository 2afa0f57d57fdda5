"""What a launch logs: INFO for what happens to samplers, ERROR for what is still billed, and nothing else."""

from __future__ import annotations

import asyncio
import logging

import pytest

from loops_async import TeardownError
from loops_async._launch import teardown
from loops_async.emulator import Fault

from ..launching import CREATE, DEACTIVATE, Setting, until
from ..support import KEY


@pytest.fixture(autouse=True)
def at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "loops_async")


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "loops_async"]


async def test_a_launch_logs_created_statuses_and_deactivated(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    emulator, _, launch = stage
    async with launch(["slow"]) as fleet:
        await until(lambda: "is BUILDING" in caplog.text)
        emulator.set_status(str(fleet.members[0].sampler_id), "ACTIVE")
        await fleet.active()
    sampler_id = fleet.members[0].sampler_id
    assert logged(caplog) == [
        ("INFO", f"sampler {sampler_id} of slow is created"),
        ("INFO", f"sampler {sampler_id} is BUILDING"),
        ("INFO", f"sampler {sampler_id} changed from BUILDING to ACTIVE"),
        ("INFO", f"sampler {sampler_id} is deactivated"),
    ]
    assert KEY not in caplog.text


async def test_a_launch_logs_replaced(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    _, _, launch = stage
    async with launch(["sick"], relaunches=1) as fleet:
        async for _ in fleet:
            pass
    (failure,) = fleet.members[0].failures
    assert ("INFO", f"sampler {failure.sampler.id} failed and is replaced") in logged(caplog)


async def test_a_launch_logs_kept_at_a_good_end_only(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    _, client, launch = stage
    async with launch(["good", "good"], teardown="never") as fleet:
        await fleet.active()
        fleet.detach(fleet.members[1])
    kept = [message for level, message in logged(caplog) if "kept" in message and level == "INFO"]
    assert kept == [f"sampler {fleet.members[0].sampler_id} is kept"]
    caplog.clear()
    with pytest.raises(KeyError):
        async with launch(["good"], teardown="never") as other:
            await other.active()
            raise KeyError
    assert "kept" not in caplog.text
    for member in (*fleet.members, *other.members):
        await client.samplers.deactivate(str(member.sampler_id))


async def test_what_is_still_billed_is_one_error(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    emulator, _, launch = stage
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"] * 30, teardown_timeout=0.3) as fleet:
            await fleet.created()
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
    (error,) = [message for level, message in logged(caplog) if level == "ERROR"]
    assert "30 samplers could not be deactivated and are still billed" in error
    named = [each for each in caught.value.sampler_ids if each in error]
    assert 0 < len(named) <= 10
    assert f"{30 - len(named)} more" in error


async def test_a_teardown_that_goes_on_names_ten_ids_and_counts_the_rest(
    stage: Setting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(teardown, "PROGRESS_LOG_AFTER_S", 0.05)
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.3, times=None))
    async with launch(["slow"] * 25) as fleet:
        await fleet.created()
    (warning,) = [message for level, message in logged(caplog) if level == "WARNING"]
    assert len([member for member in fleet.members if str(member.sampler_id) in warning]) == 10
    assert "15 more (all of them are in `fleet.members`)" in warning


async def test_a_quick_teardown_logs_no_warning(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.05, times=None))
    async with launch(["slow"] * 3):
        await asyncio.sleep(0.02)
    assert not [message for level, message in logged(caplog) if level != "INFO"]
