"""Launches among hostile things: foreign code, services that lie, interrupts, pauses that outlast the teardown."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from loops_async import (
    ConflictError,
    CreateOutcomeUnknown,
    DecodeError,
    LoopsClient,
    Sampler,
    SamplerSpec,
    TeardownError,
    launch,
)
from loops_async._api import creating
from loops_async._launch import journal_records
from loops_async.emulator import Emulator, Fault

from ..launching import CREATE, DEACTIVATE, Setting, creates, deactivated, until
from ..processes import forked
from ..support import KEY, QUICK_POLL, QUICK_RETRY

# Foreign code


async def test_what_a_trace_raises_after_a_create_leaves_its_outcome_unknown(stage: Setting) -> None:
    emulator, _, _ = stage
    trace = aiohttp.TraceConfig()

    async def fail(_: Any, __: SimpleNamespace, ended: aiohttp.TraceRequestEndParams) -> None:
        if ended.method == "POST" and ended.url.path.endswith("/samplers"):
            raise KeyError("token refresh")

    trace.on_request_end.append(fail)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        LoopsClient(KEY, base_url=emulator.url, session=session, retry=QUICK_RETRY, rate_limit=None) as client,
        launch(client, ["good"], policy=QUICK_POLL) as fleet,
    ):
        (member,) = [member async for member in fleet]
        fleet.acknowledge(member)
        error = member.error
    assert isinstance(error, CreateOutcomeUnknown)
    assert isinstance(error.__cause__, KeyError)
    assert {sampler.id for sampler in error.candidates} == emulator.billed


async def test_a_session_that_was_closed_sends_nothing_and_hides_nothing(stage: Setting) -> None:
    emulator, _, _ = stage
    async with aiohttp.ClientSession() as session:
        client = LoopsClient(KEY, base_url=emulator.url, session=session)
        made = await client.sessions.create()
    async with launch(client, ["good"], session_id=made.id) as fleet:
        (member,) = [member async for member in fleet]
    assert isinstance(member.error, RuntimeError)
    assert not creates(emulator)


async def test_an_exception_that_takes_no_notes_goes_on(stage: Setting, caplog: pytest.LogCaptureFixture) -> None:
    emulator, _, launch = stage

    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        pass

    with pytest.raises(Frozen):
        async with launch(["slow"], teardown_timeout=0.1):
            await until(lambda: emulator.billed)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, times=None))
            raise Frozen
    assert next(iter(emulator.billed)) in caplog.text


async def test_a_generator_that_is_closed_raises_what_is_still_billed(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_run("good", run_id="run1")

    async def samplers() -> AsyncGenerator[Sampler | None, None]:
        async with launch([SamplerSpec("good", run_id="run1")]) as fleet:
            async for member in fleet:
                yield member.sampler

    with pytest.raises(TeardownError) as caught:
        async with contextlib.aclosing(samplers()) as generator:
            async for _ in generator:
                break
    assert isinstance(caught.value.exceptions[0], ConflictError)


# Interrupts


async def one_second_ctrl_c(emulator: Emulator, after: float) -> None:
    program = f"""
import asyncio, os, signal, threading
from loops_async import LoopsClient, PollPolicy, launch

def second():
    os.kill(os.getpid(), signal.SIGINT)

async def main():
    async with LoopsClient({KEY!r}, base_url={emulator.url!r}) as client:
        async with launch(client, ["good"] * 5, policy=PollPolicy(initial=0.02)) as fleet:
            await fleet.active()
            threading.Timer({after}, second).start()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)

asyncio.run(main())
"""
    async with forked(program) as process:
        _, err = await process.communicate()
    assert process.returncode == -signal.SIGINT, err.decode()
    assert "destroyed" not in err.decode()


@pytest.mark.timeout(60)
async def test_a_second_ctrl_c_in_the_middle_of_the_teardown_cuts_nothing_short(stage: Setting) -> None:
    emulator, _, _ = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))
    moments = [0.001, 0.005, 0.05, 0.1, 0.11]
    await asyncio.gather(*(one_second_ctrl_c(emulator, moment) for moment in moments))
    assert len(emulator.samplers) == 5 * len(moments)
    assert not emulator.billed


async def test_a_create_that_an_interrupt_breaks_into_is_unknown(stage: Setting) -> None:
    emulator, _, _ = stage
    program = f"""
import asyncio
import aiohttp
from loops_async import LoopsClient, launch

async def strike(session, context, ended):
    if ended.url.path.endswith("/samplers") and ended.method == "POST":
        raise KeyboardInterrupt

trace = aiohttp.TraceConfig()
trace.on_request_end.append(strike)

async def main():
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        LoopsClient({KEY!r}, base_url={emulator.url!r}, session=session) as client,
        launch(client, ["good"]),
    ):
        await asyncio.sleep(60)

asyncio.run(main())
"""
    async with forked(program) as process:
        _, err = await process.communicate()
    assert "the outcome of 1 create is unknown" in err.decode()
    assert len(emulator.billed) == 1


# Services that lie


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b'{"id": "another"}', b"[]"])
async def test_a_response_about_something_else_is_no_deactivation(stage: Setting, body: bytes) -> None:
    emulator, _, launch = stage
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"], teardown_timeout=0.2):
            await until(lambda: emulator.billed)
            emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=200, body=body, times=None))
    assert set(caught.value.sampler_ids) == emulator.billed
    assert isinstance(caught.value.exceptions[0], DecodeError)


@pytest.mark.parametrize("body", [b"{}", b"", b'{"success": true}'])
async def test_a_response_that_does_not_name_the_sampler_makes_the_client_look(stage: Setting, body: bytes) -> None:
    emulator, _, launch = stage
    # The first answers without having done anything, the second after it has.
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=200, body=body, times=1))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, body=body, times=1))
    async with launch(["slow"]):
        await until(lambda: emulator.billed)
    assert len(deactivated(emulator)) == 2
    assert not emulator.billed


async def test_garbage_after_a_deactivation_that_was_processed_makes_the_client_look(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, body=b"<html>", times=None))
    async with launch(["slow"]):
        await until(lambda: emulator.billed)
    assert len(deactivated(emulator)) == 1
    assert not emulator.billed


async def test_a_redirect_after_a_create_leaves_its_outcome_unknown(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status_after=302))
    async with launch(["good"]) as fleet:
        (member,) = [member async for member in fleet]
        fleet.acknowledge(member)
    assert creates(emulator) == 1


# Pauses, and slots that are taken


async def test_one_deactivation_is_sent_in_spite_of_a_pause_that_outlasts_the_teardown(stage: Setting) -> None:
    emulator, _, launch = stage
    async with launch(["slow"] * 3, teardown_timeout=0.5):
        await until(lambda: len(emulator.billed) == 3)
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=503, retry_after="60"))
    assert not emulator.billed


async def test_a_pause_of_a_sampler_does_not_pause_the_control_plane(stage: Setting) -> None:
    emulator, _, launch = stage
    route = "/models/{model_id}/deployment/{deployment_id}/wake"
    emulator.add_fault(Fault(method="POST", route=route, status=429, retry_after="60"))
    loop = asyncio.get_running_loop()
    async with launch(["slow"]) as fleet:
        await until(lambda: fleet.members[0].sampler_id)
        emulator.set_status(str(fleet.members[0].sampler_id), "SCALED_TO_ZERO")
        await until(lambda: emulator.requests("POST", route))
        began = loop.time()
    assert loop.time() - began < 5
    assert not emulator.billed


async def test_retry_after_on_a_rejection_pauses_nothing(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, retry_after="60"))
    loop = asyncio.get_running_loop()
    with pytest.raises(TeardownError) as caught:
        async with launch(["slow"] * 5):
            await until(lambda: len(emulator.billed) == 5)
            began = loop.time()
    assert loop.time() - began < 5
    assert set(caught.value.sampler_ids) == emulator.billed
    assert len(emulator.billed) == 1


async def test_a_create_that_hangs_does_not_delay_deactivations(stage: Setting) -> None:
    emulator, _, _ = stage
    emulator.add_fault(Fault(method="POST", route=CREATE))
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=1.5))
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, max_connections=1) as client:
        with pytest.raises(TeardownError) as caught:
            async with launch(client, ["slow"] * 2, policy=QUICK_POLL, teardown_timeout=0.5) as fleet:
                await until(lambda: creates(emulator) == 2 and fleet.members[0].sampler_id)
        assert caught.value.sampler_ids == ()
        assert not emulator.billed
    assert len(emulator.samplers) == 2
    assert not emulator.billed


# What changes while it goes on


async def test_the_sampler_of_a_create_in_flight_is_no_candidate_of_an_unknown_one(
    stage: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="before"))
    emulator.add_fault(Fault(method="POST", route=CREATE))
    # The one that replaces the second sampler is answered long after it was listed.
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.5))
    async with launch(["slow"] * 2, max_concurrent_creates=1, relaunches=1) as fleet:
        emulator.add_fault(Fault(method="GET", route=CREATE, delay=0.3, times=None))
        first, second = fleet.members
        await until(lambda: second.sampler_id)
        emulator.set_status(str(second.sampler_id), "FAILED")
        await until(lambda: len(emulator.samplers) == 2)
        await until(lambda: first.done)
        assert isinstance(first.error, CreateOutcomeUnknown)
        assert first.error.candidates == ()
        fleet.acknowledge(first)
        await until(lambda: second.failures and second.sampler_id == emulator.samplers[1].id)
    assert not emulator.billed


async def test_a_good_end_that_is_cancelled_deactivates_everything(stage: Setting) -> None:
    emulator, _, launch = stage
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4), launch(["good", "slow"], teardown="on_error") as fleet:
            await fleet.active(at_least=1)
            emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.5))
            async with launch(["slow"], teardown="on_error"):
                await until(lambda: creates(emulator) == 3)
    assert len(emulator.samplers) == 3
    assert not emulator.billed


async def test_a_good_end_that_leaves_something_billed_keeps_nothing_else(stage: Setting) -> None:
    emulator, _, launch = stage
    emulator.add_run("sick", run_id="run1")
    with pytest.raises(TeardownError) as caught:
        async with launch([SamplerSpec("sick", run_id="run1"), "good"], teardown="on_error") as fleet:
            async for _ in fleet:
                pass
    assert caught.value.sampler_ids == (fleet.members[0].sampler_id,)
    assert emulator.billed == {fleet.members[0].sampler_id}


async def test_a_cancel_while_the_journal_is_completed_is_no_good_end(
    stage: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    fsync = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.1)
        fsync(fd)

    async def body(ending: asyncio.Event) -> None:
        async with launch(["good"] * 2, teardown="on_error", journal=tmp_path / "journal") as fleet:
            await fleet.active()
            monkeypatch.setattr(os, "fsync", slow)
            ending.set()

    ending = asyncio.Event()
    task = asyncio.create_task(body(ending))
    await ending.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not emulator.billed
    assert not journal_records.replay((tmp_path / "journal").read_bytes()).live
