"""Journals: what they add up to, their file, and cleaning up with them after a crash."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from loops_async import CreateOutcomeUnknown, LoopsClient, SamplerSpec, TeardownError
from loops_async._api import creating
from loops_async._launch import journal_records, resuming
from loops_async._launch.journal_file import JournalFile, read_locked
from loops_async.emulator import Emulator, Fault
from loops_async.journal import Orphans, Reclaimed, orphans, reclaim

from ..launching import CREATE, DEACTIVATE, ONE, Setting, creates, deactivated, until
from ..processes import forked
from ..support import KEY, QUICK_RETRY

AT = datetime(2026, 11, 24, tzinfo=UTC)
HOME = "http://127.0.0.1:1/v1/loops"
BEGIN = journal_records.Launch("l", AT, HOME, "s", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)


def intent(number: int, model: str = "m") -> journal_records.Intent:
    return journal_records.Intent.of("l", number, AT, SamplerSpec(model))


def written(*records: journal_records.Record) -> bytes:
    return b"".join(map(journal_records.encode_record, records))


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


# What records add up to


def test_a_record_is_plain_json() -> None:
    spec = SamplerSpec("m", num_replicas=2, model_path="bt://loops:r/sampler_weights/a")
    record = journal_records.Intent.of("l", 3, AT, spec)
    assert json.loads(journal_records.encode_record(record)) == {
        "event": "intent",
        "launch": "l",
        "create": 3,
        "at": "2026-11-24T00:00:00Z",
        "spec": {"base_model": "m", "num_replicas": 2, "model_path": "bt://loops:r/sampler_weights/a"},
    }
    account = journal_records.replay(written(BEGIN, record))
    assert account.unresolved["l", 3] == journal_records.UnresolvedCreate(spec, AT, HOME)


def test_creates_are_unresolved_and_samplers_live_until_their_end() -> None:
    records: list[journal_records.Record] = [
        BEGIN,
        *(intent(number) for number in range(5)),
        journal_records.Created("l", 0, AT, "a"),
        journal_records.Rejected("l", 1, AT),
        journal_records.Created("l", 2, AT, "b"),
        journal_records.Deactivated("a", AT),
        journal_records.Created("l", 3, AT, "c"),
        journal_records.Detached("c", AT),
    ]
    account = journal_records.replay(written(*records))
    assert account.live == {"b": journal_records.LiveSampler(AT, HOME, SamplerSpec("m"))}
    assert list(account.unresolved) == [("l", 4)]
    assert account.known == {"a", "b", "c"}
    assert not account.unreadable


def test_an_acknowledged_create_has_its_end() -> None:
    acknowledged = journal_records.Acknowledged("l", 0, AT)
    assert json.loads(journal_records.encode_record(acknowledged)) == {
        "event": "acknowledged",
        "launch": "l",
        "create": 0,
        "at": "2026-11-24T00:00:00Z",
    }
    account = journal_records.replay(written(BEGIN, intent(0), intent(1), acknowledged, acknowledged))
    assert list(account.unresolved) == [("l", 1)]
    assert not account.unreadable


def test_a_create_that_is_sent_again_is_one_create() -> None:
    account = journal_records.replay(written(BEGIN, intent(0), journal_records.Rejected("l", 0, AT), intent(0)))
    assert list(account.unresolved) == [("l", 0)]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_torn_last_line_counts_for_nothing(cut: int) -> None:
    whole = written(BEGIN, intent(0), journal_records.Created("l", 0, AT, "a"))
    account = journal_records.replay(whole[:-cut])
    assert list(account.unresolved) == [("l", 0)]
    assert not account.live
    assert not account.unreadable


@pytest.mark.parametrize("length", range(len(written(BEGIN))))
def test_the_first_line_may_be_torn_too(length: int) -> None:
    assert journal_records.replay(written(BEGIN)[:length]) == journal_records.Replay()


def test_a_line_that_is_no_record_is_skipped_and_counted() -> None:
    strange = [b"{", b'{"event": "later"}', b"\xff", b'{"event":"intent","launch":"l","create":1,"at":"x","spec":{}}']
    lines = [
        journal_records.encode_record(BEGIN),
        *(each + b"\n" for each in strange),
        b"\n",
        journal_records.encode_record(intent(9)),
    ]
    account = journal_records.replay(b"".join(lines))
    assert list(account.unresolved) == [("l", 9)]
    assert account.unreadable == [2, 3, 4, 5]


def test_names_that_a_later_version_writes_are_ignored() -> None:
    text = journal_records.encode_record(intent(1)).replace(b'"base_model"', b'"colour": "red", "base_model"')
    assert list(journal_records.replay(journal_records.encode_record(BEGIN) + text).unresolved) == [("l", 1)]


@pytest.mark.parametrize("content", [b"[launch]\n", b"hello", b'{"a": 1}\n', b"\x00\x01\x02\n", b"\n\nmodel = 1\n"])
def test_another_file_is_no_journal(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a journal"):
        journal_records.replay(content)


def test_a_create_whose_spec_cannot_be_read_stays_unresolved() -> None:
    text = journal_records.encode_record(intent(1)).replace(b'"base_model":"m"', b'"base_model":"m","num_replicas":0')
    account = journal_records.replay(journal_records.encode_record(BEGIN) + text)
    assert account.unresolved["l", 1].spec == SamplerSpec("m")


# The file


async def test_records_are_on_the_disk_when_they_count(path: Path) -> None:
    file = await JournalFile.open(str(path), create=True)
    await file.append(BEGIN)
    assert path.read_bytes() == written(BEGIN)
    file.append_nowait(intent(1))
    await asyncio.gather(*(file.append(intent(number)) for number in range(2, 100)))
    assert path.read_bytes() == written(BEGIN, *map(intent, range(1, 100)))
    file.append_nowait(intent(100))
    await file.close()
    assert path.read_bytes() == written(BEGIN, *map(intent, range(1, 101)))


async def test_many_records_share_a_flush(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[int] = []
    fsync = os.fsync

    def counted(fd: int) -> None:
        flushes.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counted)
    file = await JournalFile.open(str(path), create=True)
    flushes.clear()
    await asyncio.gather(*(file.append(intent(number)) for number in range(500)))
    assert 1 <= len(flushes) <= 3
    await file.append(BEGIN)
    assert 2 <= len(flushes) <= 4
    await file.close()


async def test_a_line_that_a_crash_cut_off_is_not_continued(path: Path) -> None:
    path.write_bytes(written(BEGIN, intent(1))[:-7])
    file = await JournalFile.open(str(path), create=True)
    await file.append(intent(2))
    await file.close()
    account = journal_records.replay(path.read_bytes())
    assert list(account.unresolved) == [("l", 2)]
    assert account.unreadable == [2]


async def test_a_journal_is_open_once(path: Path) -> None:
    file = await JournalFile.open(str(path), create=True)
    for opening in (JournalFile.open(str(path), create=True), read_locked(str(path))):
        with pytest.raises(BlockingIOError, match=r"still running"):
            await opening
    await file.close()
    await read_locked(str(path))
    await (await JournalFile.open(str(path), create=True)).close()


async def test_another_process_cannot_open_it(path: Path) -> None:
    program = (
        "import asyncio; from loops_async._launch.journal_file import JournalFile; "
        f"asyncio.run(JournalFile.open({str(path)!r}, create=True)); print('open', flush=True); input()"
    )
    async with forked(program, stdin=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        with pytest.raises(BlockingIOError):
            await JournalFile.open(str(path), create=True)
    await (await JournalFile.open(str(path), create=True)).close()


async def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    path.write_text("[specs]\n")
    for opening in (JournalFile.open(str(path), create=True), read_locked(str(path))):
        with pytest.raises(ValueError, match="journal.jsonl"):
            await opening
    assert path.read_text() == "[specs]\n"


async def test_a_pipe_is_no_journal(path: Path) -> None:
    os.mkfifo(path)
    for opening in (JournalFile.open(str(path), create=True), read_locked(str(path))):
        with pytest.raises(OSError, match="plain file"):
            async with asyncio.timeout(5):
                await opening


async def test_a_process_that_was_forked_meanwhile_does_not_keep_the_lock(path: Path) -> None:
    file = await JournalFile.open(str(path), create=True)
    # What fork() makes, without forking a process full of threads: one more descriptor of the same open file.
    fd = os.dup(file._fd)
    await file.close()
    await (await JournalFile.open(str(path), create=True)).close()
    os.close(fd)


async def test_a_long_journal_is_not_read_to_be_written_on(path: Path) -> None:
    path.write_bytes(written(BEGIN) + b"garbage\n")
    file = await JournalFile.open(str(path), create=True)
    await file.append(intent(1))
    assert list((await file.read()).unresolved) == [("l", 1)]
    await file.close()


async def test_a_journal_whose_beginning_was_cut_off_is_one(path: Path) -> None:
    path.write_bytes(written(intent(1), intent(2)))
    file = await JournalFile.open(str(path), create=True)
    await file.append(intent(3))
    await file.close()
    assert len((await read_locked(str(path))).unresolved) == 3


async def test_a_disk_that_is_full_several_times_spoils_no_journal(path: Path) -> None:
    path.write_bytes(b'{"event":"la\n{"eve\n{"event":"launch","l')
    assert (await read_locked(str(path))).unreadable == [1, 2]
    file = await JournalFile.open(str(path), create=True)
    await file.append(BEGIN)
    await file.append(intent(1))
    await file.close()
    assert list(journal_records.replay(path.read_bytes()).unresolved) == [("l", 1)]


async def test_a_failure_to_write_is_raised_where_the_record_is_awaited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await JournalFile.open(str(path), create=True)
    await file.append(BEGIN)
    write = os.write
    calls = 0

    def full(fd: int, view: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            # A part of the line goes through before the disk is full.
            return write(fd, view[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        await file.append(intent(1))
    monkeypatch.setattr(os, "write", write)
    await file.append(intent(2))
    await file.close()
    assert file.failure is not None
    account = journal_records.replay(path.read_bytes())
    assert list(account.unresolved) == [("l", 2)]


async def test_an_interrupt_that_breaks_into_the_writing_ends_the_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Struck(BaseException):
        """What a Ctrl-C would be, without the end of the event loop."""

    file = await JournalFile.open(str(path), create=True)

    def strike(_: int, __: memoryview) -> int:
        raise Struck

    async with asyncio.timeout(5):
        with monkeypatch.context() as patched, pytest.raises(OSError, match="was interrupted"):
            patched.setattr(os, "write", strike)
            await file.append(BEGIN)
        file.append_nowait(intent(1))
        await file.close()
    # What is written after a failure begins on a new line.
    assert path.read_bytes() == b"\n" + written(intent(1))
    assert file.failure is not None


async def test_records_that_are_being_written_are_waited_for_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await JournalFile.open(str(path), create=True)
    assert file.written().done()
    fsync = os.fsync

    def slowly(fd: int) -> None:
        time.sleep(0.05)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slowly)
    file.append_nowait(BEGIN)
    await asyncio.sleep(0.01)
    assert not file.written().done()
    await file.written()
    assert path.read_bytes() == written(BEGIN)
    await file.close()


# A launch and its journal


async def test_a_launch_writes_down_what_it_does(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=400, times=1))
    async with launch(["good", "good", "good"], journal=path, max_concurrent_creates=1) as fleet:
        async for _ in fleet:
            pass
        fleet.detach(fleet.members[1])
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records[0]["event"] == "launch"
    assert records[0]["scope_url"] == f"{client.base_url}/v1/loops"
    assert records[0]["session_id"] == fleet.session_id
    assert sorted(events(path)) == sorted(
        ["launch", "intent", "rejected", "intent", "created", "intent", "created", "detached", "deactivated"]
    )
    account = journal_records.replay(path.read_bytes())
    assert not account.unresolved
    assert not account.live
    assert KEY not in path.read_text()
    await client.samplers.deactivate(str(fleet.members[1].sampler_id))


async def test_no_post_without_its_intent_on_the_disk(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    seen: list[int] = []
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.05, times=None))
    async with launch(["slow"] * 6, journal=path, max_concurrent_creates=2):
        while len(emulator.samplers) < 6:
            arrived = creates(emulator)
            seen.append(events(path).count("intent") - arrived)
            await asyncio.sleep(0.005)
    assert min(seen) >= 0


async def test_a_create_that_is_repeated_after_429_is_written_down_again(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, status=429, times=2))
    async with launch(["good"], journal=path) as fleet:
        await fleet.active()
    assert events(path) == ["launch", *["intent", "rejected"] * 2, "intent", "created", "deactivated"]


async def test_relaunches_are_written_down_in_order(stage: Setting, path: Path) -> None:
    _, _, launch = stage
    async with launch(["sick"], journal=path, relaunches=1) as fleet:
        async for _ in fleet:
            pass
    assert events(path) == ["launch", *["intent", "created", "deactivated"] * 2]


async def test_no_create_is_sent_if_the_journal_cannot_be_written(
    stage: Setting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, _, launch = stage

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        async with launch(["good"], journal=path) as fleet:
            monkeypatch.setattr(os, "fsync", full)
            (member,) = [member async for member in fleet]
            assert isinstance(member.error, OSError)
    assert not creates(emulator)


@pytest.mark.parametrize("when", ["locked", "strange", "no folder"])
async def test_a_journal_that_cannot_be_opened_ends_the_launch_before_it_begins(
    stage: Setting, path: Path, when: str
) -> None:
    emulator, _, launch = stage
    holder: JournalFile | None = None
    if when == "locked":
        holder = await JournalFile.open(str(path), create=True)
    elif when == "strange":
        path.write_text("hello\n")
    else:
        path = path / "below"
    with pytest.raises((OSError, ValueError)):
        async with launch(["good"], journal=path):
            pytest.fail("the block must not be entered")
    assert not emulator.received
    if holder is not None:
        await holder.close()


async def test_several_launches_share_a_journal(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    for _ in range(2):
        async with launch(["good"], journal=path, teardown="never") as fleet:
            await fleet.active()
    found = await orphans(client, path, include_kept=True)
    assert {sampler.id for sampler in found} == emulator.billed
    assert len(found) == 2
    done = await reclaim(client, path, include_kept=True)
    assert set(done.deactivated) == {sampler.id for sampler in found.samplers}
    assert not emulator.billed


async def test_the_file_is_free_again_after_the_block(stage: Setting, path: Path) -> None:
    _, client, launch = stage
    async with launch(["slow"], journal=path):
        with pytest.raises(BlockingIOError):
            await orphans(client, path, include_kept=True)
        with pytest.raises(BlockingIOError):
            await reclaim(client, path, include_kept=True)
    assert len(await orphans(client, path, include_kept=True)) == 0


# Orphans and reclaim


async def test_orphans_are_what_is_alive_and_nothing_else(stage: Setting, path: Path, no_second_look: None) -> None:
    emulator, client, launch = stage
    async with launch(["slow"] * 6, journal=path, teardown="never") as fleet:
        await until(lambda: all(member.sampler_id for member in fleet.members))
        fleet.detach(fleet.members[5])
    ids = [str(member.sampler_id) for member in fleet.members]
    await client.samplers.deactivate(ids[0])
    emulator.set_status(ids[1], "FAILED")
    before = path.read_bytes()
    found = await orphans(client, path, include_kept=True)
    assert {sampler.id for sampler in found} == set(ids[2:5])
    assert found.unknown == ()
    assert path.read_bytes() == before
    assert emulator.billed == set(ids[2:])
    done = await reclaim(client, path, include_kept=True)
    assert set(done.deactivated) == set(ids[:5])
    assert emulator.billed == {ids[5]}
    assert await orphans(client, path, include_kept=True) == Orphans((), ())
    emulator.clear_received()
    assert (await reclaim(client, path, include_kept=True)).deactivated == ()
    assert not deactivated(emulator)
    await client.samplers.deactivate(ids[5])


async def test_unknown_creates_are_reported_with_their_candidates(
    stage: Setting, path: Path, no_second_look: None
) -> None:
    emulator, client, launch = stage
    session = await client.sessions.create()
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="after", times=1))
    async with launch(["slow"] * 2, journal=path, max_concurrent_creates=1) as fleet:
        await until(lambda: fleet.members[0].done)
        assert isinstance(fleet.members[0].error, CreateOutcomeUnknown)
        fleet.acknowledge(fleet.members[0], keep_in_journal=True)
    (made,) = emulator.billed
    other = await client.samplers.create(session_id=session.id, base_model="good")
    async with LoopsClient(KEY, base_url=emulator.url) as later:
        found = await orphans(later, path, include_kept=True)
        assert found.samplers == ()
        (unknown,) = found.unknown
        assert unknown.spec == SamplerSpec("slow")
        assert [sampler.id for sampler in unknown.candidates] == [made]
        assert list(found) == list(found.candidates) == list(unknown.candidates)
        done = await reclaim(later, path, include_kept=True)
        assert done.deactivated == ()
        assert [sampler.id for sampler in done.candidates] == [made]
        assert emulator.billed == {made, other.id}
        for sampler in (*done.candidates, other):
            await later.samplers.deactivate(sampler.id)
        assert (await orphans(later, path, include_kept=True)).candidates == ()


@pytest.mark.parametrize("keep_in_journal", [False, True])
async def test_an_unknown_create_that_the_fleet_acknowledged_has_its_end_in_the_journal(
    stage: Setting, path: Path, no_second_look: None, keep_in_journal: bool
) -> None:
    emulator, client, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="before", times=2))
    with pytest.raises(TeardownError) as caught:
        async with launch(["good"] * 2, journal=path) as fleet:
            await fleet.created()
            fleet.acknowledge(fleet.members[1], keep_in_journal=keep_in_journal)
            if not keep_in_journal:
                fleet.acknowledge(fleet.members[1])
    # The file is closed.
    fleet.acknowledge(fleet.members[0])
    assert caught.value.unknown == (fleet.members[0].error,)
    assert events(path).count("acknowledged") == (0 if keep_in_journal else 1)
    number = 2 if keep_in_journal else 1
    assert len((await orphans(client, path)).unknown) == number
    assert len((await reclaim(client, path)).unknown) == number
    async with launch([], journal=path, resume=True) as later:
        assert len(later.unresolved) == number


async def test_unknown_creates_end_when_the_caller_of_reclaim_acknowledges_them(
    stage: Setting, path: Path, no_second_look: None
) -> None:
    emulator, client, _ = stage
    session = await client.sessions.create()
    at = datetime.now(UTC) - timedelta(minutes=6)
    elsewhere = journal_records.Launch("k", at, "https://api.example.com/v1/loops", "s", 1)
    path.write_bytes(
        written(
            journal_records.Launch("l", at, f"{client.base_url}/v1/loops", session.id, 1),
            journal_records.Intent.of("l", 0, at, SamplerSpec("slow")),
            elsewhere,
            journal_records.Intent.of("k", 0, at, SamplerSpec("slow")),
        )
    )
    async with LoopsClient(KEY, base_url=emulator.url) as dead:
        made = await dead.samplers.create(session_id=session.id, base_model="slow")
    before = await reclaim(client, path)
    assert (len(before.unknown), before.acknowledged) == (2, ())
    # A search that failed has shown nothing to look at.
    emulator.add_fault(Fault(method="GET", route=CREATE, status=403, times=None))
    failed = await reclaim(client, path, acknowledge_unknown=True)
    emulator.clear_faults()
    assert (len(failed.unknown), failed.acknowledged) == (2, ())
    done = await reclaim(client, path, acknowledge_unknown=True)
    (acknowledged,) = done.acknowledged
    assert [sampler.id for sampler in acknowledged.candidates] == [made.id]
    # That of another control plane was not looked for either.
    assert [unknown.look_error is None for unknown in done.unknown] == [False]
    assert len((await orphans(client, path)).unknown) == 1
    assert (await reclaim(client, path, acknowledge_unknown=True)).acknowledged == ()
    assert emulator.billed == {made.id}
    await client.samplers.deactivate(made.id)
    with pytest.raises(TypeError, match="acknowledge_unknown"):
        await reclaim(client, path, acknowledge_unknown="yes")  # type: ignore[arg-type]


def lost_create(client: LoopsClient, age: timedelta) -> bytes:
    """Return a journal with an unknown create of that age."""
    at = datetime.now(UTC) - age
    begin = journal_records.Launch("l", at, f"{client.base_url}/v1/loops", "s", 1)
    return written(begin, journal_records.Intent.of("l", 0, at, SamplerSpec("slow")))


async def test_creates_that_the_service_may_still_process_are_not_acknowledged(
    stage: Setting, path: Path, no_second_look: None
) -> None:
    _, client, _ = stage
    path.write_bytes(lost_create(client, timedelta(minutes=4)))
    done = await reclaim(client, path, acknowledge_unknown=True)
    assert (len(done.unknown), done.acknowledged) == (1, ())
    assert "acknowledged" not in events(path)


async def test_a_reclaim_that_is_cancelled_acknowledges_nothing(
    stage: Setting, path: Path, no_second_look: None
) -> None:
    emulator, client, _ = stage
    path.write_bytes(lost_create(client, timedelta(minutes=6)))
    emulator.add_fault(Fault(method="GET", route=CREATE, delay=0.05, times=None))
    reclaiming = asyncio.create_task(reclaim(client, path, acknowledge_unknown=True))
    await until(lambda: emulator.requests("GET", CREATE))
    reclaiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reclaiming
    assert "acknowledged" not in events(path)
    assert len((await reclaim(client, path, acknowledge_unknown=True)).acknowledged) == 1
    assert events(path)[-1] == "acknowledged"


async def test_a_reclaim_that_fails_acknowledges_nothing(stage: Setting, path: Path, no_second_look: None) -> None:
    emulator, client, launch = stage
    emulator.add_run("good", run_id="run1")
    async with launch([SamplerSpec("good", run_id="run1")], journal=path, teardown="never") as fleet:
        await fleet.active()
    with path.open("ab") as file:
        at = datetime.now(UTC) - timedelta(minutes=6)
        file.write(written(journal_records.Intent.of(fleet._supervisor.id, 7, at, SamplerSpec("slow"))))
    with pytest.raises(TeardownError) as caught:
        await reclaim(client, path, include_kept=True, acknowledge_unknown=True)
    assert [unknown.spec for unknown in caught.value.unknown] == [SamplerSpec("slow")]
    assert len((await orphans(client, path)).unknown) == 1


async def test_candidates_were_created_near_the_time_of_the_create(
    stage: Setting, path: Path, no_second_look: None
) -> None:
    emulator, client, _ = stage
    async with LoopsClient(KEY, base_url=emulator.url) as dead:
        session = await dead.sessions.create()
        sampler = await dead.samplers.create(session_id=session.id, base_model="slow")
    for age, matches in ((timedelta(), True), (timedelta(minutes=9), True), (timedelta(minutes=11), False)):
        at = datetime.now(UTC) - age
        begin = journal_records.Launch("l", at, f"{client.base_url}/v1/loops", "s", 1)
        path.write_bytes(written(begin, journal_records.Intent.of("l", 0, at, SamplerSpec("slow"))))
        (unknown,) = (await orphans(client, path, include_kept=True)).unknown
        assert [each.id for each in unknown.candidates] == ([sampler.id] if matches else [])
    await client.samplers.deactivate(sampler.id)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut": "before"}, {"status": 404}], ids=str)
async def test_reclaim_retries(stage: Setting, path: Path, fault: dict[str, Any]) -> None:
    emulator, client, launch = stage
    async with launch(["good"] * 2, journal=path, teardown="never") as fleet:
        await fleet.active()
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, times=5, **fault))
    assert len((await reclaim(client, path, include_kept=True)).deactivated) == 2
    assert not emulator.billed


async def test_what_cannot_be_reclaimed_is_raised_and_stays_in_the_journal(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    emulator.add_run("good", run_id="run1")
    async with launch([SamplerSpec("good", run_id="run1"), "good"], journal=path, teardown="never") as fleet:
        await fleet.active()
    with pytest.raises(TeardownError) as caught:
        await reclaim(client, path, include_kept=True)
    assert caught.value.sampler_ids == (fleet.members[0].sampler_id,)
    assert caught.value.deactivated == (fleet.members[1].sampler_id,)
    assert set(journal_records.replay(path.read_bytes()).live) == {fleet.members[0].sampler_id} == emulator.billed


async def test_a_sampler_that_the_service_does_not_know_is_missing_and_stays_in_the_journal(
    stage: Setting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of another account gets such a response."""
    emulator, client, launch = stage
    monkeypatch.setattr(resuming, "FRESH", timedelta())
    async with launch(["good"], journal=path, teardown="never") as fleet:
        await fleet.active()
    made = (str(fleet.members[0].sampler_id),)
    emulator.add_fault(Fault(method="GET", route=CREATE, status=403, times=None))
    for route in (("GET", ONE), ("POST", DEACTIVATE)):
        emulator.add_fault(Fault(method=route[0], route=route[1], status=404, times=None))
    # The client that made it would have patience.
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY) as stranger:
        assert await orphans(stranger, path, include_kept=True) == Orphans((), (), made)
        assert await reclaim(stranger, path, include_kept=True) == Reclaimed((), (), made)
    emulator.clear_faults()
    assert (await reclaim(client, path, include_kept=True)).deactivated == made


async def test_a_sampler_of_another_control_plane_is_not_asked_for_and_stays_in_the_journal(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, client, launch = stage
    monkeypatch.setattr(resuming, "FRESH", timedelta())
    async with launch(["good"], journal=path, teardown="never") as fleet:
        await fleet.active()
    made = (str(fleet.members[0].sampler_id),)
    async with Emulator(api_key=KEY) as elsewhere, LoopsClient(KEY, base_url=elsewhere.url) as stranger:
        there = dict.fromkeys(made, f"{client.base_url}/v1/loops")
        assert await orphans(stranger, path, include_kept=True) == Orphans((), (), elsewhere=there)
        assert await reclaim(stranger, path, include_kept=True) == Reclaimed((), (), elsewhere=there)
    assert f"samplers at {emulator.url}" in caplog.text
    assert (await reclaim(client, path, include_kept=True)).deactivated == made
    assert not emulator.billed


async def test_another_team_is_another_scope(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    async with launch(["good"], journal=path, teardown="never") as fleet:
        await fleet.active()
    made = (str(fleet.members[0].sampler_id),)
    emulator.clear_received()
    async with LoopsClient(KEY, base_url=emulator.url, team_id="t1") as team:
        assert tuple((await orphans(team, path, include_kept=True)).elsewhere) == made
        assert tuple((await reclaim(team, path, include_kept=True)).elsewhere) == made
    # The same id may belong to another account there: nothing is sent.
    assert not emulator.received
    assert (await reclaim(client, path, include_kept=True)).deactivated == made


async def test_what_cannot_be_read_of_one_sampler_hides_no_other(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    async with launch(["good"] * 2, journal=path, teardown="never") as fleet:
        await fleet.active()
    emulator.add_fault(Fault(method="GET", route=CREATE, status=403))
    emulator.add_fault(Fault(method="GET", route=ONE, status=200, body=b'{"sampler": {"id": 3}}'))
    found = await orphans(client, path, include_kept=True)
    assert len(found.samplers) == len(found.missing) == 1
    assert {found.samplers[0].id, found.missing[0]} == emulator.billed
    assert len((await reclaim(client, path, include_kept=True)).deactivated) == 2


async def test_what_is_still_billed_is_raised_although_the_journal_cannot_be_written(
    stage: Setting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator, client, launch = stage
    emulator.add_run("good", run_id="run1")
    async with launch(["good", SamplerSpec("good", run_id="run1")], journal=path, teardown="never") as fleet:
        await fleet.active()

    def full(fd: int, view: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TeardownError) as caught:
        await reclaim(client, path, include_kept=True)
    assert set(caught.value.sampler_ids) == emulator.billed


async def test_a_detach_that_was_awaited_is_in_the_journal(stage: Setting, path: Path) -> None:
    _, client, launch = stage
    async with launch(["good"], journal=path) as fleet:
        await fleet.active()
        await fleet.detach(fleet.members[0])
        assert events(path)[-1] == "detached"
        await fleet.detach(fleet.members[0])
    async with launch(["good"]) as other:
        await other.active()
        await other.detach(other.members[0])
    for each in (fleet, other):
        await client.samplers.deactivate(str(each.members[0].sampler_id))


async def test_a_new_sampler_may_be_unknown_for_a_while(stage: Setting, path: Path) -> None:
    emulator, _, launch = stage
    async with launch(["good"], journal=path, teardown="never") as fleet:
        await fleet.active()
    for route in (DEACTIVATE, ONE):
        emulator.add_fault(Fault(route=route, status=404, times=3))
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY) as later:
        assert len((await reclaim(later, path, include_kept=True)).deactivated) == 1
    assert not emulator.billed


async def test_a_cancellation_does_not_cut_reclaim_off(stage: Setting, path: Path) -> None:
    emulator, client, launch = stage
    async with launch(["good"] * 3, journal=path, teardown="never") as fleet:
        await fleet.active()
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=None))
    task = asyncio.create_task(reclaim(client, path, include_kept=True))
    await until(lambda: deactivated(emulator))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not emulator.billed
    assert not journal_records.replay(path.read_bytes()).live


async def test_lines_that_are_no_records_are_logged_as_a_warning(
    stage: Setting, path: Path, caplog: pytest.LogCaptureFixture, no_second_look: None
) -> None:
    _, client, _ = stage
    path.write_bytes(written(BEGIN) + b"garbage\n" + written(intent(1)))
    with caplog.at_level(logging.WARNING):
        await orphans(client, path, include_kept=True)
    assert "line 2" in caplog.text


@pytest.mark.parametrize("call", [orphans, reclaim])
async def test_a_bad_journal_is_refused_before_any_request(stage: Setting, path: Path, call: Any) -> None:
    emulator, client, _ = stage
    with pytest.raises(FileNotFoundError):
        await call(client, path)
    assert not path.exists()
    path.write_text("hello\n")
    with pytest.raises(ValueError, match="not a journal"):
        await call(client, path)
    with pytest.raises(TypeError):
        await call(client, 3)
    with pytest.raises(TypeError):
        await call("client", path)
    assert not emulator.received


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_what_a_killed_process_left_is_reclaimed_or_reported(
    stage: Setting, path: Path, delay: float, no_second_look: None
) -> None:
    emulator, client, _ = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, delay=0.01, delay_after=0.01, times=None))
    program = f"""
import asyncio
from loops_async import LoopsClient, launch

async def main():
    async with LoopsClient({KEY!r}, base_url={emulator.url!r}) as client:
        async with launch(client, ["good"] * 50, journal={str(path)!r}, max_concurrent_creates=8) as fleet:
            print("launched", flush=True)
            await fleet.active()
            await asyncio.sleep(60)

asyncio.run(main())
"""
    async with forked(program) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"launched\n"
        await until(lambda: creates(emulator))
        await asyncio.sleep(delay)
    await asyncio.sleep(0.1)
    named = {json.loads(line)["sampler_id"] for line in path.read_text().splitlines() if '"created"' in line}
    alive = emulator.billed
    found = await orphans(client, path, include_kept=True)
    assert {sampler.id for sampler in found.samplers} == named
    assert {sampler.id for sampler in found} == alive
    done = await reclaim(client, path, include_kept=True)
    assert set(done.deactivated) == named
    assert {sampler.id for sampler in done.candidates} == alive - named == emulator.billed
    assert len(done.unknown) >= len(alive - named)
    for sampler in done.candidates:
        await client.samplers.deactivate(sampler.id)
