"""`loops-async launch`: what it gives to scripts, and that nothing stays alive that should not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from loops_async.emulator import Fault

from ..launching import CREATE, DEACTIVATE
from ..support import KEY
from .on_plane import BAD, GOOD, QUICK, SLOW, end_of, plane, run, starting, until
from .terminal import SHOW_CURSOR, plain, read_in_thread, resize, terminal

SAMPLER_KEYS = {"index", "base_model", "id", "state", "status", "base_url", "seconds", "error", "resumed", "kept"}
KEYS = {
    "outcome",
    "exit_code",
    "seconds",
    "gpu_minutes",
    "session_id",
    "journal",
    "samplers",
    "deactivated",
    "still_billed",
    "unknown",
    "unresolved",
}


async def test_active_samplers_stay_and_it_says_how_to_deactivate_them() -> None:
    async with plane() as emulator:
        as_json, as_urls, as_env, quiet = await asyncio.gather(
            run(emulator, "launch", GOOD, "--count", "2", "--json", *QUICK),
            run(emulator, "launch", GOOD, "--format", "urls", *QUICK),
            run(emulator, "launch", GOOD, "--format", "env", *QUICK),
            run(emulator, "launch", GOOD, "--format", "csv", "-q", *QUICK),
        )
        assert len(emulator.billed) == 5
        urls = {emulator.sampler_document(each.id)["base_url"] for each in emulator.samplers}
    document = as_json.json
    assert document.keys() == KEYS
    assert (document["outcome"], document["exit_code"], as_json.code) == ("active", 0, 0)
    assert all(each.keys() == SAMPLER_KEYS for each in document["samplers"])
    assert [(each["index"], each["status"], each["kept"]) for each in document["samplers"]] == [
        (0, "ACTIVE", True),
        (1, "ACTIVE", True),
    ]
    ids = " ".join(each["id"] for each in document["samplers"])
    assert as_json.errors.endswith(f"  loops-async deactivate {ids}\n")
    assert as_urls.output.strip() in urls
    assert as_env.output.startswith("export LOOPS_SAMPLER_COUNT=1\nexport LOOPS_SAMPLER_IDS=")
    assert quiet.output.startswith("id,base_model,status,base_url,created_at,model_id,deployment_id\n")
    assert quiet.errors == ""


async def test_a_launch_that_fails_or_is_late_deactivates_what_it_made() -> None:
    async with plane() as emulator:
        failed, late = await asyncio.gather(
            run(emulator, "launch", GOOD, BAD, "--json", *QUICK),
            run(emulator, "launch", SLOW, "--timeout", "0.5", "--json", *QUICK),
        )
        assert not emulator.billed
    assert (failed.code, failed.json["outcome"]) == (1, "failed")
    good, bad = failed.json["samplers"]
    assert good["error"]["type"] == "RuntimeError" if good["error"] else good["status"] == "ACTIVE"
    assert bad["error"]["type"] == "SamplerFailed"
    assert set(failed.json["deactivated"]) == {good["id"], bad["id"]}
    assert "Deactivated 2 samplers: " in failed.errors
    assert (late.code, late.json["outcome"]) == (3, "timeout")
    assert "Deactivated 1 sampler: " in late.errors


async def test_at_least_is_content_with_some_and_names_the_others() -> None:
    async with plane() as emulator:
        ended = await run(emulator, "launch", SLOW, GOOD, BAD, "--at-least", "1", "--json", *QUICK)
        slow, good, bad = ended.json["samplers"]
        assert emulator.billed == {slow["id"], good["id"]}
    assert ended.code == 0
    assert [slow["kept"], good["kept"], bad["kept"]] == [True, True, False]
    assert f"1 sampler still on the way: {slow['id']}" in ended.errors


@pytest.mark.parametrize("moment", ["create", "up", "hold"])
async def test_ctrl_c_at_any_moment_leaves_nothing_alive(moment: str) -> None:
    async with plane() as emulator:
        if moment == "create":
            emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.3))
        model, *options = [GOOD, "--hold"] if moment == "hold" else [SLOW]
        async with starting(emulator, "launch", model, "--count", "3", *options, *QUICK) as process:
            if moment == "create":
                await until(lambda: len(emulator.requests("POST", CREATE)) == 3)
            elif moment == "up":
                await until(lambda: len(emulator.requests("GET")) > 3)
            else:
                assert process.stderr is not None
                while b"Ctrl-C deactivates" not in await process.stderr.readline():
                    pass
                assert len(emulator.billed) == 3
            process.send_signal(signal.SIGINT)
            ended = await end_of(process)
        assert len(emulator.samplers) == 3
        assert not emulator.billed
    assert ended.code == 130
    assert "Interrupted; deactivating " in ended.errors
    assert "Interrupted.\nDeactivated 3 samplers: " in ended.errors


async def test_what_a_launch_holds_is_not_kept() -> None:
    async with plane() as emulator:
        async with starting(emulator, "launch", GOOD, "--hold", "--json", *QUICK) as process:
            assert process.stderr is not None
            while b"Ctrl-C deactivates" not in await process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            ended = await end_of(process)
        assert not emulator.billed
    (sampler,) = ended.json["samplers"]
    assert (sampler["state"], sampler["kept"], ended.json["deactivated"]) == ("ACTIVE", False, [])


async def test_sigterm_and_a_terminal_that_hangs_up_deactivate_too() -> None:
    async with plane() as emulator:
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(starting(emulator, "launch", SLOW, "--json", *QUICK))
            with terminal(80) as (ours, theirs):
                on_terminal = await stack.enter_async_context(starting(emulator, "launch", SLOW, *QUICK, stderr=theirs))
                os.close(theirs)
                await read_in_thread(ours, until="1 BUILDING")
                await until(lambda: len(emulator.billed) == 2)
            process.send_signal(signal.SIGTERM)
            ended = await end_of(process)
            on_terminal.send_signal(signal.SIGHUP)
            hung_up = await end_of(on_terminal)
        assert not emulator.billed
    assert (ended.code, ended.json["exit_code"], ended.json["outcome"]) == (143, 143, "interrupted")
    assert hung_up.code == 129


async def test_a_second_ctrl_c_says_what_is_still_billed_and_goes_on_deactivating() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.5))
        async with starting(emulator, "launch", SLOW, *QUICK) as process:
            await until(lambda: emulator.requests("GET", f"{CREATE}/{{sampler_id}}"))
            process.send_signal(signal.SIGINT)
            await until(lambda: emulator.requests("POST", DEACTIVATE))
            process.send_signal(signal.SIGINT)
            ended = await end_of(process)
        (sampler,) = emulator.samplers
        assert not emulator.billed
    assert ended.code == 130
    assert "Interrupted; deactivating 1 sampler. If this process is killed now, use\n" in ended.errors
    assert "Still deactivating; 1 sampler is billed until that is done." in ended.errors
    assert ended.errors.count(f"  loops-async deactivate {sampler.id}\n") == 2


async def test_what_cannot_be_deactivated_is_named() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=None))
        ended = await run(emulator, "launch", SLOW, "--timeout", "0.3", "--json", *QUICK)
        (left,) = emulator.billed
    assert ended.json["still_billed"] == [left]
    assert ended.json["deactivated"] == []
    assert "could not be deactivated and may still be billed; try again:" in ended.errors


async def test_an_unknown_create_is_reported() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=CREATE, cut="after"))
        ended = await run(emulator, "launch", SLOW, "--json", *QUICK)
        (sampler,) = emulator.samplers
    assert ended.code == 5
    assert [each["id"] for each in ended.json["unknown"][0]["candidates"]] == [sampler.id]
    assert sampler.id in ended.errors


async def test_a_journal_that_is_full_in_the_end_does_not_make_it_claim_a_deactivation(tmp_path: Path) -> None:
    full = """
from loops_async._launch.journal_file import JournalFile

close = JournalFile.close_nowait

def fail(self):
    close(self)
    self.failure = OSError(28, "No space left on device")

JournalFile.close_nowait = fail
"""
    async with plane() as emulator:
        journal = str(tmp_path / "launch.jsonl")
        ended = await run(emulator, "launch", GOOD, "--journal", journal, "--json", *QUICK, before=full)
        (sampler_id,) = emulator.billed
    assert (ended.code, ended.json["samplers"][0]["id"]) == (1, sampler_id)
    assert "Error: the journal is not complete: No space left on device\n" in ended.errors
    assert "Deactivated" not in ended.errors
    assert "1 sampler ACTIVE" in ended.errors


async def test_a_launch_is_resumed_from_its_journal(tmp_path: Path) -> None:
    journal = ("--journal", str(tmp_path / "launch.jsonl"))
    async with plane() as emulator:
        first = await run(emulator, "launch", GOOD, "--count", "2", *journal, "--json", *QUICK)
        second = await run(emulator, "launch", GOOD, "--count", "3", *journal, "--resume", "--json", *QUICK)
        ids = {each["id"] for each in second.json["samplers"]}
        assert emulator.billed == ids
        alone = await run(emulator, "launch", GOOD, "--resume")
    assert (first.code, second.code, alone.code) == (0, 0, 2)
    assert ids > {each["id"] for each in first.json["samplers"]}
    assert sorted(each["resumed"] for each in second.json["samplers"]) == [False, True, True]
    assert "2 samplers resumed from " in second.errors
    assert second.json["unresolved"] == []


async def test_with_a_probe_a_sampler_is_up_once_it_answers() -> None:
    async with plane() as emulator:
        ended = await run(emulator, "launch", GOOD, "--probe", "--json", *QUICK)
        assert len(emulator.billed) == 1
        assert any(each.path.endswith("/sample") for each in emulator.received)
    assert (ended.code, ended.json["samplers"][0]["state"]) == (0, "ACTIVE")


async def test_unknown_creates_of_earlier_launches_are_a_warning_in_words_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "launch.jsonl"
    options = (GOOD, "--journal", str(path), *QUICK)
    no_second_look = "from loops_async._api import creating; creating.RELIST_DELAY_S = 0.01"
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route="/v1/loops/samplers", cut="before"))
        lost = await run(emulator, "launch", *options, before=no_second_look)
        plain = await run(emulator, "launch", *options)
        resumed = await run(emulator, "launch", *options, "--resume", "--json", before=no_second_look)
        quiet = await run(emulator, "launch", *options, "--resume", "-q", before=no_second_look)
    assert (lost.code, plain.code, resumed.code, quiet.code) == (5, 0, 0, 0)
    assert f"--journal {path} --acknowledge-unknown\n" in lost.errors
    assert "Warning: " in plain.errors
    assert " left 1 create whose outcome is unknown. " in plain.errors
    assert " which samplers they may have made, use orphans\n" in plain.errors
    assert "Warning: " in resumed.errors
    assert (
        "the outcome of 1 create of earlier launches is unknown; samplers that may have been made, " in resumed.errors
    )
    assert "use deactivate --journal --acknowledge-unknown, so that" in resumed.errors
    assert len(resumed.json["unresolved"]) == 1
    assert quiet.errors == ""
    for ended in (plain, resumed):
        assert "Error" not in ended.errors
        assert "fleet" not in ended.errors
        assert "loops_async" not in ended.errors
        assert "resume=" not in ended.errors


async def test_an_unknown_create_does_not_cost_those_that_are_enough() -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=CREATE, cut="after"))
        ended = await run(emulator, "launch", GOOD, GOOD, "--at-least", "1", "--json", *QUICK)
        (up,) = (each["id"] for each in ended.json["samplers"] if each["kept"])
        assert len(emulator.billed) == 2
    assert ended.code == 0
    assert up in emulator.billed
    assert len(ended.json["unknown"]) == 1
    assert "the response to a create of" in ended.errors


async def test_durations_of_earlier_launches_can_be_left_alone(tmp_path: Path) -> None:
    cache = tmp_path / "loops-async" / "durations.json"
    variables = {"XDG_CACHE_HOME": str(tmp_path)}
    async with plane() as emulator:
        await run(emulator, "launch", GOOD, "--no-cache", *QUICK, variables=variables)
        await run(emulator, "launch", GOOD, *QUICK, variables={**variables, "LOOPS_NO_CACHE": "1"})
        assert not cache.exists()
        await run(emulator, "launch", GOOD, *QUICK, variables=variables)
    assert list(json.loads(cache.read_text())["seconds"]) == [f"127.0.0.1 {GOOD}"]


async def test_the_log_of_the_library_is_shown_from_a_level_on() -> None:
    async with plane() as emulator:
        usual, info = await asyncio.gather(
            run(emulator, "launch", GOOD, *QUICK), run(emulator, "launch", GOOD, "--log-level", "info", *QUICK)
        )
        (sampler_id,) = (each for each in emulator.billed if each in info.errors)
    assert "Info: " not in usual.errors
    assert re.search(rf"^\d\d:\d\d:\d\d  Info: sampler {sampler_id} .*is created$", info.errors, re.MULTILINE)


FULL = """
import sys
sys.stdout = open("/dev/full", "w")
"""


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_data_that_nobody_takes_are_no_reason_to_keep_samplers(words: tuple[str, ...]) -> None:
    async with plane() as emulator:
        reading, pipe = os.pipe()
        full = os.open("/dev/full", os.O_WRONLY)
        async with (
            starting(emulator, "launch", GOOD, *words, *QUICK, stdout=pipe) as unread,
            starting(emulator, "launch", GOOD, *words, *QUICK, stdout=full) as unwritten,
        ):
            for each in (reading, pipe, full):
                os.close(each)
            ends = await asyncio.gather(end_of(unread), end_of(unwritten))
        assert len(emulator.samplers) == 2
        assert not emulator.billed
    for ended in ends:
        assert ended.code == 1
        assert "Deactivated 1 sampler: " in ended.errors


async def test_on_a_terminal_the_table_is_on_stderr_and_stdout_has_data_alone() -> None:
    async with plane() as emulator:
        with terminal(80) as (ours, theirs):
            async with starting(
                emulator, "launch", GOOD, "--count", "2", "--format", "urls", *QUICK, stderr=theirs
            ) as process:
                os.close(theirs)
                ended, shown = await asyncio.gather(end_of(process), read_in_thread(ours))
    assert ended.code == 0
    assert ended.output.count("\n") == 2
    assert all(line.startswith("http://127.0.0.1:") for line in ended.output.splitlines())
    assert SHOW_CURSOR in shown
    assert "2 ACTIVE · " in plain(shown)
    assert "They are billed until they are deactivated:" in plain(shown)


async def test_what_is_wrong_before_anything_is_created_takes_a_line_or_two(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[[sampler]]\nbase_modle = "x"\n')
    half = tmp_path / "half.jsonl"
    half.write_text("no journal at all\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with plane() as emulator:
        cases: list[tuple[int, str, tuple[Any, ...], str | None]] = [
            (2, "did you mean Qwen/Qwen3-8B?", (emulator, "launch", "qwen/qwen3-8b"), KEY),
            (4, "is not enabled for this account", (emulator, "launch", "zai-org/GLM-5.2-FP8"), KEY),
            (2, "did you mean 'base_model'?", (emulator, "launch", "--spec", str(spec)), KEY),
            (2, "this is not a journal", (emulator, "launch", GOOD, "--journal", str(half)), KEY),
            (4, "set BASETEN_API_KEY, or give --api-key-file", (emulator, "launch", GOOD), None),
            (4, "was answered with 401", (emulator, "launch", GOOD), "wrong-key"),
            (5, "nothing was created", (nobody, "launch", GOOD, "--attempts", "1"), KEY),
            (2, "nothing to launch", (emulator, "launch"), KEY),
        ]
        ends = await asyncio.gather(*(run(*arguments, key=key) for _, _, arguments, key in cases))
        assert not emulator.samplers
    for (code, words, *_), ended in zip(cases, ends, strict=True):
        assert (ended.code, ended.output) == (code, "")
        assert words in ended.errors
        assert len([line for line in ended.errors.splitlines() if line and "sage: " not in line]) <= 3
    assert half.read_text() == "no journal at all\n"


async def test_the_key_can_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    async with plane() as emulator:
        journal = str(tmp_path / "launch.jsonl")
        ended = await run(emulator, "launch", GOOD, "--api-key-file", str(key), "--journal", journal, *QUICK, key=None)
    assert ended.code == 0
    assert KEY not in ended.output + ended.errors
    assert re.search(rf"  loops-async deactivate --api-key-file {key} \w+\n$", ended.errors)


async def test_five_hundred_rows_on_a_terminal_that_becomes_smaller_end_in_deactivations() -> None:
    # At the usual rate, the creates and the deactivations of so many take five seconds each.
    hasty = "from loops_async import LoopsClient; LoopsClient.__init__.__kwdefaults__['rate_limit'] = None"
    async with plane() as emulator:
        with terminal(100, 30) as (ours, theirs):
            words = ("launch", SLOW, "--count", "500", *QUICK)
            async with starting(emulator, *words, before=hasty, stderr=theirs) as process:
                shown = await read_in_thread(ours, until="500 BUILDING")
                resize(theirs, 40, 10)
                shown += await read_in_thread(ours, until="… and 494 more")
                process.send_signal(signal.SIGINT)
                os.close(theirs)
                ended, rest = await asyncio.gather(end_of(process), read_in_thread(ours))
        assert len(emulator.samplers) == 500
        assert not emulator.billed
    assert ended.code == 130
    assert "… and 474 more" in plain(shown)
    assert "Deactivated 500 samplers: " in plain(rest)


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_what_is_left_is_said_although_stdout_is_full(words: tuple[str, ...]) -> None:
    async with plane() as emulator:
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=None))
        ended = await run(emulator, "launch", SLOW, "--timeout", "0.3", *words, *QUICK, before=FULL)
        (left,) = emulator.billed
    assert ended.code != 0
    assert f"deactivate {left}" in ended.errors.replace("\n", " ")
    assert "Traceback" not in ended.errors


async def test_a_stdout_that_is_closed_is_no_trouble() -> None:
    closed = "import sys; sys.stdout = sys.stdin = None\n"
    async with plane() as emulator:
        ended = await run(emulator, "launch", GOOD, "--hold", "--timeout", "0.3", "--poll", "nan", before=closed)
        assert ended.code == 2
        assert "a number of seconds" in ended.errors
        ended = await run(emulator, "deactivate", "--all-mine", before=closed)
        assert "Traceback" not in ended.errors
        assert not emulator.billed


async def test_an_interrupt_after_the_good_end_changes_nothing() -> None:
    late = """
import asyncio, os, signal
from loops_async import LoopsClient

close = LoopsClient.aclose

async def interrupted(self):
    os.kill(os.getpid(), signal.SIGINT)
    await close(self)

LoopsClient.aclose = interrupted
"""
    async with plane() as emulator:
        ended = await run(emulator, "launch", GOOD, "--json", *QUICK, before=late)
        (sampler_id,) = emulator.billed
    assert (ended.code, ended.json["exit_code"]) == (0, 0)
    assert ended.json["samplers"][0]["id"] == sampler_id
    assert "They are billed" in ended.errors
