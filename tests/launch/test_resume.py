"""`launch(journal=..., resume=True)`: a restarted program goes on with the samplers that are up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loops_async import (
    CreateOutcomeUnknown,
    LoopsClient,
    MemberState,
    PollPolicy,
    SamplerFailed,
    SamplerSpec,
    TeardownError,
    TransportError,
    launch,
)
from loops_async._api import creating
from loops_async._launch import journal_records, resuming
from loops_async.emulator import Emulator, Fault
from loops_async.journal import orphans, reclaim

from ..launching import CREATE, DEACTIVATE, LIFECYCLES, ONE, Setting, creates, deactivated, until
from ..processes import forked
from ..support import KEY, QUICK_POLL, QUICK_RETRY

AT = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)


@pytest.fixture
def nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "FRESH", timedelta())


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def live(path: Path) -> set[str]:
    return set(journal_records.replay(path.read_bytes()).live)


async def crash(stage: Setting, path: Path, *specs: SamplerSpec | str, kept: bool = False) -> list[str]:
    """Leave samplers as a launch does that was killed, or that kept them; return their ids."""
    _, _, launch = stage
    async with launch(specs, journal=path, teardown="never") as fleet:
        await until(lambda: all(member.sampler_id for member in fleet.members))
        await until(lambda: all(member.done or member.spec.base_model == "slow" for member in fleet.members))
    if not kept:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if '"kept"' not in line))
    stage[0].clear_received()
    return [str(member.sampler_id) for member in fleet.members]


# What is resumed


@pytest.mark.parametrize("kept", [False, True])
async def test_a_launch_resumes_what_a_crash_left_and_what_was_kept(stage: Setting, path: Path, kept: bool) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "good", "slow", kept=kept)
    async with launch(["slow", "good", "good"], journal=path, resume=True) as fleet:
        slow, first, second = fleet.members
        assert slow.resumed
        assert slow.state is MemberState.WAITING
        assert slow.sampler_id == left[1]
        emulator.set_status(left[1], "ACTIVE")
        samplers = await fleet.active()
        assert [member.resumed for member in fleet.members] == [True, True, False]
        assert [sampler.id for sampler in samplers[:2]] == [left[1], left[0]]
        assert second.sampler_id not in left
        assert first.status == "ACTIVE"
    assert creates(emulator) == 1
    assert not emulator.billed
    assert not live(path)
    assert fleet.unresolved == ()


async def test_a_launch_without_resume_takes_nothing_up(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    left = await crash(stage, path, "good")
    async with launch(["good"], journal=path) as fleet:
        assert not fleet.members[0].resumed
        await fleet.active()
    assert creates(emulator) == 1
    assert emulator.billed == set(left)
    assert (await reclaim(client, path)).deactivated == tuple(left)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def append_records(path: Path, *records: journal_records.Record) -> None:
    with path.open("ab") as file:
        file.write(b"".join(map(journal_records.encode_record, records)))


async def test_a_launch_without_resume_warns_of_what_a_crash_left(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator, client, launch = stage
    left = await crash(stage, path, *["good"] * 12)
    append_records(
        path,
        journal_records.Launch("l", AT, f"{client.base_url}/v1/loops", "s", 1),
        journal_records.Intent.of("l", 0, AT, SamplerSpec("good")),
    )
    session = await client.sessions.create()
    emulator.clear_received()
    async with launch(["good"], session_id=session.id, journal=path) as fleet:
        assert not emulator.received
        await fleet.active()
    of_samplers, of_creates = warnings(caplog)
    assert of_samplers.startswith(f"journal {path}: earlier launches left 12 samplers that may be billed, ")
    assert sum(each in of_samplers for each in left) == 10
    assert " and 2 more. " in of_samplers
    assert "resume=True" in of_samplers
    assert "reclaim()" in of_samplers
    assert " left 1 create whose outcome is unknown. " in of_creates
    assert "orphans()" in of_creates
    await reclaim(client, path)


async def test_a_launch_without_resume_does_not_warn_of_what_has_an_end(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither of what was kept, detached or deactivated, nor of another scope."""
    _, client, launch = stage
    kept = await crash(stage, path, "good", kept=True)
    async with launch(["good", "good"], journal=path) as fleet:
        (_, detached) = await fleet.active()
        await fleet.detach(detached)
    append_records(
        path,
        journal_records.Launch("l", AT, "https://api.example.com/v1/loops", "s", 1),
        journal_records.Intent.of("l", 0, AT, SamplerSpec("good")),
        journal_records.Intent.of("l", 1, AT, SamplerSpec("good")),
        journal_records.Created("l", 0, AT, "elsewhere"),
    )
    async with launch(["good"], journal=path):
        pass
    assert not warnings(caplog)
    for sampler_id in (*kept, detached.id):
        await client.samplers.deactivate(sampler_id)


async def test_a_launch_without_resume_appends_to_a_journal_that_cannot_be_read(stage: Setting, path: Path) -> None:
    _, _, launch = stage
    path.write_text('{"event":"launch", of a later version\n{"event"\n')
    async with launch(["good"], journal=path) as fleet:
        await fleet.active()
    assert not live(path)


async def test_resume_with_a_journal_that_does_not_exist_creates_everything(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    async with launch(["good"] * 2, journal=path, resume=True) as fleet:
        await fleet.active()
        assert not any(member.resumed for member in fleet.members)
    assert creates(emulator) == 2


async def test_resume_needs_a_journal(stage: Setting) -> None:
    emulator, _, launch = stage
    with pytest.raises(ValueError, match="journal"):
        launch(["good"], resume=True)
    with pytest.raises(TypeError):
        launch(["good"], journal="journal", resume="yes")
    assert not emulator.received


async def test_only_equal_specs_are_resumed(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, SamplerSpec("good", max_seq_length=1), SamplerSpec("good", max_seq_length=2))
    async with launch([SamplerSpec("good", max_seq_length=2), "good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert [member.resumed for member in fleet.members] == [True, False]
        assert fleet.members[0].sampler_id == left[1]
        await until(lambda: emulator.billed == {member.sampler_id for member in fleet.members})
        assert deactivated(emulator) == [left[0]]
    assert not emulator.billed


async def test_a_spec_that_says_more_than_this_version_can_read_is_no_equal_one(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "good")
    path.write_text(path.read_text().replace('"base_model":"good"', '"base_model":"good","colour":"red"'))
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert not fleet.members[0].resumed
        await until(lambda: left[0] not in emulator.billed)
    assert not emulator.billed


async def test_ready_samplers_are_taken_before_those_that_are_coming_up(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "slow", "slow", "slow")
    emulator.set_status(left[1], "ACTIVE")
    async with launch(["slow"], journal=path, resume=True) as fleet:
        (sampler,) = await fleet.active()
        assert sampler.id == left[1]
        await until(lambda: emulator.billed == {left[1]})
    assert not emulator.billed


async def test_ids_are_taken_up_and_never_samplers_of_the_same_model_and_time(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    session = await client.sessions.create()
    other = await client.samplers.create(session_id=session.id, base_model="good")
    left = await crash(stage, path, "good")
    other = await client.samplers.create(session_id=session.id, base_model="good")
    async with launch(["good"] * 2, journal=path, resume=True) as fleet:
        await fleet.active()
        assert [member.resumed for member in fleet.members] == [True, False]
        assert fleet.members[0].sampler_id == left[0]
        assert other.id not in {member.sampler_id for member in fleet.members}
    assert len(emulator.billed) == 2
    for sampler_id in emulator.billed:
        await client.samplers.deactivate(sampler_id)


async def test_a_detached_sampler_is_never_resumed(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    async with launch(["good"], journal=path) as fleet:
        await fleet.active()
        await fleet.detach(fleet.members[0])
    detached = str(fleet.members[0].sampler_id)
    async with launch(["good"], journal=path, resume=True) as again:
        await again.active()
        assert not again.members[0].resumed
    assert emulator.billed == {detached}
    await client.samplers.deactivate(detached)


def test_a_sampler_that_was_detached_stays_so_when_its_run_returns_it_again() -> None:
    begin = journal_records.Launch("l", AT, "home", "s", 1)
    records: list[journal_records.Record] = [
        begin,
        journal_records.Intent.of("l", 0, AT, SamplerSpec("m", run_id="r")),
        journal_records.Created("l", 0, AT, "a"),
        journal_records.Detached("a", AT),
        journal_records.Intent.of("l", 1, AT, SamplerSpec("m", run_id="r")),
        journal_records.Created("l", 1, AT, "a"),
    ]
    replayed = journal_records.replay(b"".join(map(journal_records.encode_record, records)))
    assert not replayed.live
    assert not replayed.unresolved


async def test_what_was_kept_and_no_member_wants_is_left_alone(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    kept = await crash(stage, path, "good", "good", "slow", kept=True)
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert fleet.members[0].resumed
    assert len(emulator.billed) == 2
    assert emulator.billed < set(kept)
    assert live(path) == emulator.billed
    done = await reclaim(client, path)
    assert done.deactivated == ()
    assert len((await reclaim(client, path, include_kept=True)).deactivated) == 2


@pytest.mark.parametrize("status", ["FAILED", "INACTIVE", "BUILD_FAILED", "UNHEALTHY"])
@pytest.mark.parametrize("kept", [False, True])
async def test_a_sampler_that_has_failed_is_no_resume(stage: Setting, path: Path, status: str, kept: bool) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "good", kept=kept)
    emulator.set_status(left[0], status)
    async with launch(["good"], journal=path, resume=True) as fleet:
        (sampler,) = await fleet.active()
        assert sampler.id not in left
        assert not fleet.members[0].resumed
        assert fleet.members[0].failures == ()
    assert deactivated(emulator) == [left[0], sampler.id]
    assert not emulator.billed
    assert not live(path)


async def test_a_resumed_sampler_that_fails_before_it_is_up_is_replaced_without_a_relaunch(
    stage: Setting, path: Path
) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "slow")
    async with launch(["slow"], journal=path, resume=True) as fleet:
        (member,) = fleet.members
        assert member.resumed
        emulator.set_status(left[0], "FAILED")
        await until(lambda: creates(emulator) and member.sampler_id not in {None, *left})
        assert not member.resumed
        assert [failure.sampler.id for failure in member.failures] == left
        emulator.set_status(str(member.sampler_id), "FAILED")
        await until(lambda: member.done)
        assert isinstance(member.error, SamplerFailed)
        assert member.error.relaunches == 0
    assert creates(emulator) == 1
    assert not emulator.billed


async def test_an_unhealthy_sampler_is_resumed_if_the_policy_has_patience(stage: Setting, path: Path) -> None:
    emulator, client, _ = stage
    left = await crash(stage, path, "good")
    emulator.set_status(left[0], "UNHEALTHY")
    policy = PollPolicy(initial=0.01, factor=1.0, maximum=0.02, multiples={}, unhealthy_grace=60)
    async with launch(client, ["good"], policy=policy, journal=path, resume=True) as fleet:
        assert fleet.members[0].resumed
        await asyncio.sleep(0.05)
        emulator.set_status(left[0], "ACTIVE")
        await fleet.active()
    assert not creates(emulator)
    assert not emulator.billed


# Ids that the service does not know


async def test_an_id_that_the_service_does_not_know_is_gone(stage: Setting, path: Path, nothing_is_fresh: None) -> None:
    emulator, client, launch = stage
    records: list[journal_records.Record] = [
        journal_records.Launch("l", AT, f"{client.base_url}/v1/loops", "s", 1),
        journal_records.Intent.of("l", 0, AT, SamplerSpec("good")),
        journal_records.Created("l", 0, AT, "gone"),
    ]
    path.write_bytes(b"".join(map(journal_records.encode_record, records)))
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert not fleet.members[0].resumed
        await until(lambda: "gone" not in live(path))
    assert creates(emulator) == 1
    assert "gone" not in live(path)
    emulator.clear_received()
    async with launch([], journal=path, resume=True):
        pass
    assert not emulator.received


async def test_a_fresh_id_that_the_service_does_not_know_yet_is_resumed(stage: Setting, path: Path) -> None:
    emulator, _, _ = stage
    left = await crash(stage, path, "good")
    emulator.list_lag = 600
    emulator.add_fault(Fault(method="GET", route=ONE, status=404, times=3))
    async with (
        LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as later,
        launch(later, ["good"], policy=QUICK_POLL, journal=path, resume=True) as fleet,
    ):
        (sampler,) = await fleet.active()
        assert sampler.id == left[0]
    assert not creates(emulator)
    assert not emulator.billed


async def test_a_fresh_id_that_stays_unknown_is_replaced(stage: Setting, path: Path) -> None:
    emulator, client, _ = stage
    records: list[journal_records.Record] = [
        journal_records.Launch("l", AT, f"{client.base_url}/v1/loops", "s", 1),
        journal_records.Intent.of("l", 0, AT, SamplerSpec("good")),
        journal_records.Created("l", 0, datetime.now(UTC) - timedelta(seconds=29.5), "gone"),
    ]
    path.write_bytes(b"".join(map(journal_records.encode_record, records)))
    policy = PollPolicy(initial=0.01, factor=1.0, maximum=0.02, multiples={}, missing_grace=0.1)
    client._service.known.mark_made("gone", fresh=False)
    async with launch(client, ["good"], policy=policy, journal=path, resume=True) as fleet:
        assert fleet.members[0].resumed
        (sampler,) = await fleet.active()
        assert sampler.id != "gone"
        assert not fleet.members[0].resumed
    assert not emulator.billed
    assert not live(path)


# What belongs to others, and what is unknown


@pytest.mark.parametrize("elsewhere", ["team", "control plane"])
async def test_entries_of_another_scope_are_left_alone_with_a_warning(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture, elsewhere: str
) -> None:
    emulator, client, _ = stage
    left = await crash(stage, path, "good")
    team = "t1" if elsewhere == "team" else None
    if elsewhere == "control plane":
        path.write_text(path.read_text().replace(client.base_url, "https://api.example.com"))
    async with (
        LoopsClient(KEY, base_url=emulator.url, team_id=team, retry=QUICK_RETRY) as other,
        launch(other, ["good"], policy=QUICK_POLL, journal=path, resume=True) as fleet,
    ):
        await fleet.active()
        assert not fleet.members[0].resumed
    assert emulator.billed == set(left) == live(path)
    assert not emulator.requests("POST", f"{CREATE}/{left[0]}/deactivate")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "leaves alone" in warnings[0]
    await client.samplers.deactivate(left[0])


async def test_unknown_creates_of_a_dead_process_are_unresolved_with_a_warning(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator, client, launch = stage
    async with LoopsClient(KEY, base_url=emulator.url) as dead:
        session = await dead.sessions.create()
        sampler = await dead.samplers.create(session_id=session.id, base_model="slow")
    now = datetime.now(UTC)
    records: list[journal_records.Record] = [
        journal_records.Launch("l", now, f"{client.base_url}/v1/loops", "s", 1),
        journal_records.Intent.of("l", 0, now, SamplerSpec("slow")),
    ]
    path.write_bytes(b"".join(map(journal_records.encode_record, records)))
    async with launch(["slow"], journal=path, resume=True) as fleet:
        (unknown,) = fleet.unresolved
        assert isinstance(unknown, CreateOutcomeUnknown)
        assert [each.id for each in unknown.candidates] == [sampler.id]
        assert not fleet.members[0].resumed
        await fleet.created()
        assert fleet.members[0].sampler_id != sampler.id
    assert fleet.teardown_error is None
    assert emulator.billed == {sampler.id}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert sampler.id in warnings[0]
    assert "fleet.unresolved" in warnings[0]
    await client.samplers.deactivate(sampler.id)


# The journal


async def test_a_resumed_sampler_is_owned_even_if_it_was_kept(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    kept = await crash(stage, path, "good", kept=True)
    copy = path.with_suffix(".copy")
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert events(path)[-2:] == ["launch", "resumed"]
        # As a crash would leave it.
        copy.write_bytes(path.read_bytes())
        found = await orphans(client, copy)
        assert [sampler.id for sampler in found.samplers] == kept
        assert found.kept == ()
    assert not emulator.billed


async def test_a_resumed_sampler_can_be_kept_again(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    left = await crash(stage, path, "good")
    for _ in range(3):
        async with launch(["good"], journal=path, resume=True, teardown="never") as fleet:
            await fleet.active()
            assert fleet.members[0].resumed
    assert (await orphans(client, path)).kept == tuple(left)
    assert not creates(emulator)
    await client.samplers.deactivate(left[0])


async def test_the_journal_is_locked_from_reading_to_the_end(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    await crash(stage, path, "good")
    emulator.add_fault(Fault(method="GET", route=CREATE, delay=0.2))
    entering = asyncio.create_task(launch(["good"], journal=path, resume=True).__aenter__())
    await until(lambda: emulator.requests("GET", CREATE))
    with pytest.raises(BlockingIOError):
        await launch(["good"], journal=path, resume=True).__aenter__()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    # Nothing has begun, and the file is free again.
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert fleet.members[0].resumed
    assert not creates(emulator)


async def test_a_service_that_does_not_answer_ends_the_launch_before_it_begins(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "good")
    before = path.read_bytes()
    emulator.add_fault(Fault(method="GET", cut="before", times=None))
    with pytest.raises(TransportError):
        await launch(["good"], journal=path, resume=True).__aenter__()
    emulator.clear_faults()
    assert emulator.billed == set(left)
    assert path.read_bytes() == before
    async with launch([], journal=path, resume=True):
        pass
    assert not emulator.billed


async def test_a_disk_that_is_full_ends_the_launch_before_it_begins(
    stage: Setting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage
    left = await crash(stage, path, "good")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await launch(["good"], journal=path, resume=True).__aenter__()
    assert emulator.billed == set(left)
    assert not deactivated(emulator)
    async with launch(["good"], journal=path, resume=True) as fleet:
        await fleet.active()
        assert fleet.members[0].resumed


async def test_kept_samplers_stay_kept_if_the_launch_is_cancelled_when_the_journal_has_it(
    stage: Setting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, client, launch = stage
    kept = await crash(stage, path, "good", kept=True)
    fsync = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.1)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    entering = asyncio.create_task(launch(["good"], session_id="s", journal=path, resume=True).__aenter__())
    await until(lambda: events(path)[-1] == "resumed")
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert (await orphans(client, path)).kept == tuple(kept)
    assert not deactivated(emulator)
    await client.samplers.deactivate(kept[0])


@pytest.mark.parametrize("seed", range(20))
async def test_a_launch_that_is_cancelled_while_it_begins_changes_nothing(
    stage: Setting, path: Path, seed: int
) -> None:
    emulator, client, launch = stage
    left = await crash(stage, path, "slow")
    kept = await crash(stage, path, "good", kept=True)
    emulator.add_fault(Fault(method="GET", route=CREATE, delay=0.01))
    emulator.add_fault(Fault(method="POST", route="/v1/loops/sessions", delay=0.01))
    entering = asyncio.create_task(launch(["good"], journal=path, resume=True).__aenter__())
    for _ in range(random.Random(seed).randrange(60)):
        await asyncio.sleep(0.0005)
    entering.cancel()
    try:
        fleet = await entering
    except asyncio.CancelledError:
        found = await orphans(client, path)
        assert [sampler.id for sampler in found.samplers] == left
        assert found.kept == tuple(kept)
        assert not deactivated(emulator)
    else:
        # It had begun already.
        assert fleet.members[0].resumed
        await client.aclose()
        assert not emulator.billed


async def test_what_no_member_wants_and_cannot_be_deactivated_is_reported_by_the_block(
    stage: Setting, path: Path
) -> None:
    emulator, _, launch = stage
    emulator.add_run("good", run_id="run1")
    left = await crash(stage, path, SamplerSpec("good", run_id="run1"))
    with pytest.raises(TeardownError) as caught:
        async with launch(["good"], journal=path, resume=True, teardown="never") as fleet:
            await fleet.active()
    assert caught.value.sampler_ids == tuple(left)
    assert emulator.billed == {*left, str(fleet.members[0].sampler_id)}


@pytest.mark.parametrize("fault", [{"status": 503, "times": 3}, {"delay": 0.2, "times": 1}], ids=str)
async def test_the_end_of_the_block_waits_for_what_no_member_wants(
    stage: Setting, path: Path, fault: dict[str, Any]
) -> None:
    emulator, _, launch = stage
    await crash(stage, path, "good", "slow")
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, **fault))
    async with launch([], journal=path, resume=True):
        pass
    assert not emulator.billed
    assert not live(path)


# Kills

DRIVER = """
import asyncio, sys
from loops_async import LoopsClient, RetryPolicy, PollPolicy, launch

async def main(url, journal):
    retry = RetryPolicy(initial=0.01, maximum=0.05)
    async with LoopsClient("KEY", base_url=url, retry=retry, rate_limit=None) as client:
        print("begun", flush=True)
        async with launch(client, ["good"] * 6, journal=journal, resume=True, policy=PollPolicy(initial=0.01),
                          max_concurrent_creates=3) as fleet:
            await fleet.active()
            await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
""".replace("KEY", KEY)


async def kill_drivers(emulator: Emulator, path: Path, moments: list[float]) -> None:
    """Start a process and kill it, for each of *moments*, in seconds after its first request."""
    for number, moment in enumerate(moments, 1):
        received = len(emulator.received)
        async with forked(DRIVER, emulator.url, str(path)) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"begun\n"
            while len(emulator.received) == received:
                await asyncio.sleep(0.002)
            if number == len(moments):
                # On a busy machine, no moment after the beginning is late enough to be sure of a sampler.
                await until(lambda: path.exists() and live(path))
            await asyncio.sleep(moment)
        assert process.returncode == -signal.SIGKILL


async def one_journal(seed: int, path: Path) -> int:
    """Kill a process five times, resume each time, and check what is billed; return how many are resumed at last."""
    chance = random.Random(seed)
    async with (
        Emulator(api_key=KEY, lifecycles=LIFECYCLES, seed=seed) as emulator,
        LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client,
    ):
        emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.01, delay_after=0.02, times=None))
        await kill_drivers(emulator, path, [chance.uniform(0, 0.4) for _ in range(5)])
        # A create that is in flight may still be processed.
        await asyncio.sleep(0.1)
        emulator.clear_faults()
        named = live(path) if path.exists() else set()
        alive = emulator.billed
        emulator.clear_received()
        async with launch(client, ["good"] * 6, journal=path, resume=True, policy=QUICK_POLL) as fleet:
            candidates = {sampler.id for each in fleet.unresolved for sampler in each.candidates}
            members = {sampler.id for sampler in await fleet.active()}
            resumed = {member.sampler_id for member in fleet.members if member.resumed}
            # No sampler is created for a spec that has one, and none serves two members.
            assert len(members) == 6
            assert resumed <= named
            assert len(resumed) == min(6, len(named & alive))
            assert creates(emulator) == 6 - len(resumed)
            # What is billed is a member, or a candidate of a create that is reported as unknown.
            assert alive - named <= candidates
            await until(lambda: emulator.billed <= candidates | members)
        assert emulator.billed <= candidates
        for sampler_id in emulator.billed:
            emulator.set_status(sampler_id, "INACTIVE")
        return len(resumed)


@pytest.mark.timeout(120)
async def test_a_program_that_is_killed_at_twenty_moments_goes_on_with_what_is_up(
    nothing_left: None, tmp_path: Path
) -> None:
    resumed = await asyncio.gather(*(one_journal(seed, tmp_path / f"{seed}.jsonl") for seed in range(4)))
    assert sum(resumed) >= 4
