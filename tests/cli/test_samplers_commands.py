"""`list`, `get`, `wait`, `watch`, `deactivate`, `models` and `orphans`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from loops_async import DeploymentStatus, LoopsClient, Sampler, launch
from loops_async.cli._main import cli
from loops_async.emulator import Emulator, Fault

from ..launching import DEACTIVATE
from ..support import KEY, QUICK_POLL
from .on_plane import BAD, GOOD, QUICK, SLOW, Ended, end_of, plane, run, starting, until
from .terminal import plain, read_in_thread, terminal

ONE = "/v1/loops/samplers/{sampler_id}"


async def made(emulator: Emulator, *models: str) -> list[Sampler]:
    """Create samplers."""
    async with LoopsClient(KEY, base_url=emulator.url) as client:
        session = await client.sessions.create()
        return [await client.samplers.create(session_id=session.id, base_model=model) for model in models]


def lines(ended: Ended) -> list[list[str]]:
    return [line.split() for line in ended.output.splitlines()]


async def test_what_is_billed_is_the_same_for_the_emulator_and_all_commands() -> None:
    async with plane() as emulator:
        samplers = await made(emulator, *[SLOW] * len(DeploymentStatus))
        for sampler, status in zip(samplers, DeploymentStatus, strict=True):
            emulator.set_status(sampler.id, status)
        billed = emulator.billed
        listed = await run(emulator, "list", "--json")
        ended = await run(emulator, "deactivate", "--all-mine", "--yes", "--json")
    free = {"INACTIVE", "DEACTIVATING", "FAILED", "BUILD_FAILED", "DEPLOY_FAILED", "BUILD_STOPPED"}
    costly = {sampler.id for sampler, status in zip(samplers, DeploymentStatus, strict=True) if status not in free}
    assert {each["id"] for each in listed.json["samplers"]} == billed == costly
    assert set(ended.json["deactivated"]) == costly


async def test_list_shows_what_is_billed_and_on_request_all() -> None:
    async with plane() as emulator:
        slow, bad, good = await made(emulator, SLOW, BAD, GOOD)
        await until(lambda: [each.status for each in emulator.samplers] == ["BUILDING", "BUILD_FAILED", "ACTIVE"])
        table, everything, by_status, urls, none = await asyncio.gather(
            run(emulator, "list"),
            run(emulator, "list", "--all", "--json"),
            run(emulator, "list", "--status", "build_failed", "--format", "csv", "-q"),
            run(emulator, "list", "--format", "urls", "-q"),
            run(emulator, "list", "--status", "UPDATING", "--scope", "org"),
        )
    assert [line[:3] for line in lines(table)] == [
        ["BASE", "MODEL", "SAMPLER"],
        [GOOD, good.id, "ACTIVE"],
        [SLOW, slow.id, "BUILDING"],
    ]
    assert table.errors == "2 samplers; 1 more with --all\n"
    assert [each["id"] for each in everything.json["samplers"]] == [good.id, bad.id, slow.id]
    assert everything.json["samplers"][0].keys() >= {"id", "base_model", "status", "base_url", "created_at"}
    assert by_status.output.splitlines()[1].startswith(f"{bad.id},{BAD},BUILD_FAILED,")
    assert (urls.output, urls.errors) == (f"{good.base_url}\n", "")
    assert (none.output, none.errors) == ("", "0 samplers; 3 more with --all\n")
    assert {each.code for each in (table, everything, by_status, urls, none)} == {0}


async def test_get_and_models() -> None:
    async with plane() as emulator:
        (sampler,) = await made(emulator, SLOW)
        got, missing, models, as_json = await asyncio.gather(
            run(emulator, "get", sampler.id, "--json"),
            run(emulator, "get", "no-such", "--json"),
            run(emulator, "models"),
            run(emulator, "models", "--use-case", "rl", "--json"),
        )
    assert (got.code, got.json["sampler"]["id"]) == (0, sampler.id)
    assert (missing.code, missing.json["error"]["type"]) == (4, "NotFoundError")
    assert missing.errors.startswith("Error: GET /v1/loops/samplers/no-such was answered with 404")
    assert ["Qwen/Qwen3-8B", "40,960", "yes"] in lines(models)
    assert any(line[0] == "zai-org/GLM-5.2-FP8" and line[2] == "no:" for line in lines(models))
    assert as_json.json["models"][0].keys() >= {"model_name", "max_seq_len", "enabled"}


async def test_wait_and_watch_end_as_the_samplers_do() -> None:
    async with plane() as emulator:
        good, bad, slow = await made(emulator, GOOD, BAD, SLOW)
        up, failed, late, changes, watched = await asyncio.gather(
            run(emulator, "wait", good.id, "--json", *QUICK),
            run(emulator, "wait", good.id, bad.id, "--format", "urls", *QUICK),
            run(emulator, "wait", slow.id, "--timeout", "0.2", "--json", *QUICK),
            run(emulator, "watch", good.id, bad.id, "--json", *QUICK),
            run(emulator, "watch", "--timeout", "0.5", *QUICK),
        )
        assert len(emulator.billed) == 2
    assert (up.code, up.json["exit_code"], up.json["samplers"][0]["status"]) == (0, 0, "ACTIVE")
    assert (failed.code, failed.output) == (1, f"{good.base_url}\n")
    assert f"Error: sampler {bad.id} of {BAD} failed permanently: " in failed.errors
    assert (late.code, late.json["samplers"][0]["error"]["type"]) == (3, "WaitTimeout")
    *seen, end = [json.loads(line) for line in changes.output.splitlines()]
    assert (end["id"], end["error"]["type"]) == (bad.id, "SamplerFailed")
    assert {each["id"]: each["status"] for each in seen} == {good.id: "ACTIVE", bad.id: "BUILD_FAILED"}
    assert all(each.keys() == {"id", "base_model", "previous", "status", "seconds", "base_url"} for each in seen)
    assert changes.code == 1
    assert watched.code in {1, 3}
    assert "BUILDING" in watched.output


async def test_ctrl_c_ends_wait_and_watch_and_leaves_the_samplers() -> None:
    async with plane() as emulator:
        await made(emulator, SLOW)
        (sampler_id,) = emulator.billed
        with terminal(80) as (ours, theirs):
            async with AsyncExitStack() as stack:
                wait = await stack.enter_async_context(starting(emulator, "wait", sampler_id, *QUICK))
                watch = await stack.enter_async_context(
                    starting(emulator, "watch", *QUICK, stdout=theirs, stderr=theirs)
                )
                os.close(theirs)
                shown = await read_in_thread(ours, until="1 BUILDING")
                assert wait.stderr is not None
                assert b"BUILDING" in await wait.stderr.readline()
                for process in (wait, watch):
                    process.send_signal(signal.SIGINT)
                waited = await end_of(wait)
                shown += await read_in_thread(ours)
                watched = await end_of(watch)
        assert emulator.billed == {sampler_id}
    assert (waited.code, watched.code) == (130, 130)
    assert waited.errors.endswith("Interrupted. The samplers were not deactivated, and are billed.\n")
    assert SLOW in plain(shown)


async def test_deactivate_takes_ids_and_reports_those_that_it_could_not() -> None:
    async with plane() as emulator:
        first, second = await made(emulator, SLOW, SLOW)
        partly = await run(emulator, "deactivate", first.id, "no-such", "--json")
        assert emulator.billed == {second.id}
        again = await run(emulator, "deactivate", first.id, second.id, first.id)
        assert not emulator.billed
    assert (partly.code, partly.json["deactivated"]) == (4, [first.id])
    assert [each["id"] for each in partly.json["failed"]] == ["no-such"]
    assert (again.code, again.errors) == (0, f"Deactivated 2 samplers: {first.id}, {second.id}\n")


async def test_deactivate_all_mine_asks_and_takes_no_silence_for_a_yes() -> None:
    async with plane() as emulator:
        await made(emulator, SLOW, SLOW)
        silent = await run(emulator, "deactivate", "--all-mine")
        assert (silent.code, len(emulator.billed)) == (2, 2)
        assert "2 samplers would be deactivated" in silent.errors
        for answer, code, left in ((b"n\n", 130, 2), (None, 130, 2), (b"y\n", 0, 0)):
            with terminal(100) as (ours, theirs):
                async with starting(
                    emulator, "deactivate", "--all-mine", stdin=theirs, stdout=theirs, stderr=theirs
                ) as process:
                    os.close(theirs)
                    asked = await read_in_thread(ours, until="[y/N] ")
                    if answer is None:
                        process.send_signal(signal.SIGINT)
                    else:
                        os.write(ours, answer)
                    ended, _ = await asyncio.gather(end_of(process), read_in_thread(ours))
            assert asked.count(SLOW) == 2
            assert (ended.code, len(emulator.billed)) == (code, left)
        await made(emulator, SLOW)
        ended = await run(emulator, "deactivate", "--all-mine", "--yes", "--json")
        assert not emulator.billed
    assert (ended.code, len(ended.json["deactivated"])) == (0, 1)


async def test_ctrl_c_in_a_deactivation_names_what_is_not_known() -> None:
    async with plane() as emulator:
        (sampler,) = await made(emulator, SLOW)
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=1))
        async with starting(emulator, "deactivate", sampler.id, "--json") as process:
            await until(lambda: emulator.requests("POST", DEACTIVATE))
            process.send_signal(signal.SIGINT)
            ended = await end_of(process)
    assert (ended.code, ended.json["unsure"]) == (130, [sampler.id])
    assert f"Not known to be deactivated: {sampler.id}" in ended.errors


async def test_a_journal_shows_what_is_billed_and_has_it_deactivated(tmp_path: Path) -> None:
    journal = tmp_path / "launch.jsonl"
    async with plane() as emulator:
        async with (
            LoopsClient(KEY, base_url=emulator.url) as client,
            launch(client, [GOOD, GOOD], policy=QUICK_POLL, teardown="never", journal=journal) as fleet,
        ):
            await fleet.active()
            busy = await run(emulator, "orphans", str(journal))
        # What the end of a block writes there: without it, the process has died.
        ended = journal.read_bytes()
        died = b"".join(line for line in ended.splitlines(True) if b'"kept"' not in line)
        journal.write_bytes(died + b'{"event":"deac')
        left, words = await asyncio.gather(
            run(emulator, "orphans", str(journal), "--json"), run(emulator, "orphans", str(journal), "--format", "urls")
        )
        ids = {each["id"] for each in left.json["samplers"]}
        assert ids == emulator.billed
        journal.write_bytes(ended)
        kept, kept_words, alone = await asyncio.gather(
            run(emulator, "orphans", str(journal), "--json"),
            run(emulator, "orphans", str(journal)),
            run(emulator, "deactivate", "--include-kept", "--all-mine"),
        )
        kept_done = await run(emulator, "deactivate", "--journal", str(journal), "--json")
        assert ids == emulator.billed
        done = await run(emulator, "deactivate", "--journal", str(journal), "--include-kept", "--json")
        assert not emulator.billed
        journal.write_bytes(journal.read_bytes() + b"damage\n")
        none, foreign = await asyncio.gather(
            run(emulator, "orphans", str(journal)), run(emulator, "orphans", __file__, "--json")
        )
    assert busy.code == 2
    assert "is still running" in busy.errors
    assert (left.code, left.json.keys()) == (1, {"samplers", "unknown", "missing", "elsewhere", "kept"})
    assert (kept.code, kept_words.code, words.code) == (0, 0, 1)
    assert (kept.json["samplers"], set(kept.json["kept"])) == ([], ids)
    assert kept_words.errors.startswith("0 samplers still billed; 2 samplers kept on purpose: ")
    assert (alone.code, kept_done.code, kept_done.json["deactivated"], set(kept_done.json["kept"])) == (2, 0, [], ids)
    assert words.output.count("/sync\n") == 2
    assert words.errors == f"2 samplers still billed.\n  loops-async deactivate --journal {journal}\n"
    assert (done.code, set(done.json["deactivated"])) == (0, ids)
    assert (none.code, none.output) == (0, "")
    assert re.fullmatch(
        r".* Warning: journal .*: skipped what is no record, line \d+\n0 samplers still billed\.\n", none.errors
    )
    assert (foreign.code, foreign.json["error"]["exit_code"]) == (2, 2)
    assert "this is not a journal of a launch" in foreign.errors


def journal_of(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(f"{json.dumps(record, separators=(',', ':'))}\n" for record in records))


def intent(launch: str, number: int, model: str, at: str) -> dict[str, Any]:
    return {"event": "intent", "launch": launch, "create": number, "at": at, "spec": {"base_model": model}}


# The search for a candidate waits for a list that lags behind, which the tests need not.
NO_SECOND_LOOK = "from loops_async._api import creating; creating.RELIST_DELAY_S = 0.01"


ELSEWHERE = "https://api.example.com/v1/loops"


def uncertain(path: Path, emulator: Emulator) -> None:
    """Write a journal with two unknown creates, and a sampler of another control plane."""
    # The service may still process creates of the last five minutes.
    at = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
    begin = {"event": "launch", "at": at, "session_id": "s", "pid": 1}
    journal_of(
        path,
        {**begin, "launch": "l", "scope_url": f"{emulator.url}/v1/loops"},
        *(intent("l", number, SLOW, at) for number in range(2)),
        {**begin, "launch": "k", "scope_url": ELSEWHERE},
        intent("k", 0, GOOD, at),
        {"event": "created", "launch": "k", "create": 0, "at": at, "sampler_id": "x1"},
    )


async def test_what_a_journal_does_not_know_for_certain_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "launch.jsonl"
    async with plane() as emulator:
        (candidate,) = await made(emulator, SLOW)
        uncertain(path, emulator)
        before = path.read_bytes()
        words, document, brief = await asyncio.gather(
            run(emulator, "orphans", str(path), before=NO_SECOND_LOOK),
            run(emulator, "orphans", str(path), "--json", before=NO_SECOND_LOOK),
            run(emulator, "orphans", str(path), "--format", "urls", "-q", before=NO_SECOND_LOOK),
        )
        left = await run(emulator, "deactivate", "--journal", str(path), before=NO_SECOND_LOOK)
        assert path.read_bytes() == before
        assert emulator.billed == {candidate.id}
    assert [each.code for each in (words, document, brief, left)] == [1, 1, 1, 1]
    lost = f"Error: the response to a create of {SLOW} was lost; samplers it may have made: {candidate.id}\n"
    foreign = f"Error: x1 belongs to {ELSEWHERE}; not asked\n"
    summary = "0 samplers certainly billed, 2 creates unknown, 1 sampler of another control plane or team.\n"
    assert summary in words.errors
    for each in (words, left):
        assert each.errors.count(lost) == 2
        assert foreign in each.errors
        assert each.errors.endswith(f"  loops-async deactivate --journal {path} --acknowledge-unknown\n")
        assert "does not know" not in each.errors
    assert document.json["elsewhere"] == [{"id": "x1", "address": ELSEWHERE}]
    assert [len(each["candidates"]) for each in document.json["unknown"]] == [1, 1]
    assert brief.errors == lost * 2 + foreign


async def test_unknown_creates_of_a_journal_are_not_reported_once_they_are_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "launch.jsonl"
    async with plane() as emulator:
        (candidate,) = await made(emulator, SLOW)
        uncertain(path, emulator)
        options = ("--journal", str(path), "--acknowledge-unknown", "--json")
        ended = await run(emulator, "deactivate", *options, before=NO_SECOND_LOOK)
        left = await run(emulator, "orphans", str(path))
        path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if b'"k"' not in line))
        none = await run(emulator, "orphans", str(path))
        assert emulator.billed == {candidate.id}
    assert [each.code for each in (ended, left, none)] == [1, 1, 0]
    assert f"Acknowledged 2 unknown creates; samplers that may be theirs: {candidate.id}\n" in ended.errors
    assert (ended.json["unknown"], len(ended.json["acknowledged"])) == ([], 2)
    assert ended.json["elsewhere"] == [{"id": "x1", "address": ELSEWHERE}]
    assert "0 samplers certainly billed, 1 sampler of another control plane or team.\n" in left.errors
    assert none.errors == "0 samplers still billed.\n"


async def test_a_search_that_failed_is_not_said_to_have_found_nothing(tmp_path: Path) -> None:
    path = tmp_path / "launch.jsonl"
    at = datetime.now(UTC).isoformat()
    async with plane() as emulator:
        scope = f"{emulator.url}/v1/loops"
        begin = {"event": "launch", "launch": "l", "at": at, "scope_url": scope, "session_id": "s", "pid": 1}
        journal_of(path, begin, intent("l", 0, SLOW, at))
        emulator.add_fault(Fault(method="GET", route="/v1/loops/samplers", status=403, times=None))
        words = await run(emulator, "orphans", str(path))
        document = await run(emulator, "deactivate", "--journal", str(path), "--acknowledge-unknown", "--json")
    assert (words.code, document.code) == (1, 1)
    assert "samplers it may have made: not known, since GET /v1/loops/samplers was answered with 403" in words.errors
    assert document.json["acknowledged"] == []
    assert document.json["unknown"][0]["look_error"]["status"] == 403


async def test_watch_until_down_returns_when_all_have_stopped_serving() -> None:
    async with plane() as emulator:
        good, other = await made(emulator, GOOD, GOOD)
        await until(lambda: [each.status for each in emulator.samplers] == ["ACTIVE", "ACTIVE"])
        words = ("watch", good.id, other.id, "--until-down", *QUICK)
        late = await run(emulator, *words, "--timeout", "0.2")
        async with starting(emulator, *words, "--json") as process:
            emulator.clear_received()
            await until(lambda: emulator.received)
            for sampler, status in ((good, "SCALED_TO_ZERO"), (other, "FAILED"), (good, "INACTIVE")):
                emulator.set_status(sampler.id, status)
                await asyncio.sleep(0.1)
            ended = await end_of(process)
    assert (late.code, ended.code) == (3, 0)
    changes = [json.loads(line) for line in ended.output.splitlines()]
    assert [(each["id"], each["status"]) for each in changes] == [(other.id, "FAILED"), (good.id, "INACTIVE")]


async def test_a_reader_that_goes_away_ends_watch_quietly() -> None:
    async with plane() as emulator:
        await made(emulator, SLOW, SLOW)
        reading, writing = os.pipe()
        async with starting(emulator, "watch", "--json", *QUICK, stdout=writing) as process:
            os.close(writing)
            os.close(reading)
            ended = await end_of(process)
    assert (ended.code, ended.errors) == (1, "")


@pytest.mark.parametrize(
    "words",
    [
        ["deactivate"],
        ["deactivate", "a", "--acknowledge-unknown"],
        ["deactivate", "a", "--all-mine"],
        ["deactivate", ".."],
        ["wait"],
        ["get", " "],
        ["orphans"],
    ],
)
def test_wrong_use_is_2(words: list[str]) -> None:
    with pytest.raises(click.UsageError) as caught:
        cli.main(words, standalone_mode=False)
    assert caught.value.exit_code == 2
