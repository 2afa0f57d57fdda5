"""Streams that lack a letter, are closed, full or slow: commands end as they do on any other stream."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import termios
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loops_async import LoopsClient, Sampler, launch
from loops_async.cli._live import Row, Stage
from loops_async.cli._picture import picture, shortened
from loops_async.emulator import Emulator, Fault
from loops_async.emulator import Stage as Course

from ..support import KEY, QUICK_POLL
from .on_plane import QUICK, end_of, run, starting, until
from .terminal import plain, read_in_thread, terminal

NAME = "org/模型-é"
ESCAPED = {"utf-8": NAME, "ascii": r"org/\u6a21\u578b-\xe9", "cp1252": r"org/\u6a21\u578b-é"}
"""A base model as each encoding has it."""

ENCODINGS = tuple(each for each in ESCAPED if each != "utf-8")


@asynccontextmanager
async def plane_with_letters() -> AsyncIterator[tuple[Emulator, Sampler]]:
    """Give an emulator that knows that base model, and a sampler of it that is ACTIVE."""
    models = [{"model_name": NAME, "max_seq_len": 4096, "max_enabled_seq_len": 4096, "enabled": True}]
    stages = (Course("BUILDING", 0.02), Course("ACTIVE"))
    async with Emulator(api_key=KEY, lifecycles={"*": stages}) as emulator:
        body = json.dumps({"supported_models": models}).encode()
        emulator.add_fault(Fault(method="GET", route="/v1/loops/capabilities", status=200, body=body, times=None))
        async with LoopsClient(KEY, base_url=emulator.url) as client:
            session = await client.sessions.create()
            sampler = await client.samplers.create(session_id=session.id, base_model=NAME)
        await until(lambda: [each.status for each in emulator.samplers] == ["ACTIVE"])
        yield emulator, sampler


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("models",),
        ("get", "{id}", "--format", "csv"),
        ("wait", "{id}", "--format", "env", *QUICK),
        ("watch", "{id}", *QUICK),
        ("launch", NAME, *QUICK),
    ],
    ids=" ".join,
)
async def test_a_name_that_a_pipe_cannot_encode_is_escaped(encoding: str, arguments: tuple[str, ...]) -> None:
    async with plane_with_letters() as (emulator, sampler):
        ended = await run(emulator, *(each.format(id=sampler.id) for each in arguments), encoding=encoding)
        assert len(emulator.billed) == (2 if arguments[0] == "launch" else 1)
    assert ended.code == 0
    assert ESCAPED[encoding] in ended.output
    if arguments[0] == "launch":
        assert ESCAPED[encoding] in ended.errors


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_json_is_the_same_in_every_encoding(encoding: str) -> None:
    async with plane_with_letters() as (emulator, sampler):
        got = await run(emulator, "get", sampler.id, "--json", encoding=encoding)
        launched = await run(emulator, "launch", NAME, "--json", *QUICK, encoding=encoding)
    assert (got.code, got.json["sampler"]["base_model"]) == (0, NAME)
    assert (launched.code, launched.json["samplers"][0]["base_model"]) == (0, NAME)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_errors_and_file_names_are_escaped_too(encoding: str, tmp_path: Path) -> None:
    journal = tmp_path / "é.jsonl"
    letter = "é" if encoding == "cp1252" else r"\xe9"
    async with plane_with_letters() as (emulator, _):
        async with (
            LoopsClient(KEY, base_url=emulator.url) as client,
            launch(client, [NAME], policy=QUICK_POLL, teardown="never", journal=journal) as fleet,
        ):
            await fleet.active()
        as_of_a_process_that_died(journal)
        refused, orphans, drawn = await asyncio.gather(
            run(emulator, "launch", "模é", *QUICK, encoding=encoding),
            run(emulator, "orphans", str(journal), encoding=encoding),
            run(emulator, "timeline", str(journal), encoding=encoding),
        )
    assert (refused.code, orphans.code, drawn.code) == (2, 1, 0)
    assert rf"\u6a21{letter}" in refused.errors
    assert f"{letter}.jsonl" in orphans.errors
    # An SVG file has escapes of its own.
    assert drawn.output.isascii()
    assert NAME in "".join(ET.fromstring(drawn.output).itertext())  # noqa: S314 -- our own


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_terminal_without_the_letters_gets_the_table_in_ascii(encoding: str) -> None:
    async with plane_with_letters() as (emulator, _):
        with terminal(100) as (ours, theirs):
            async with starting(
                emulator,
                *("launch", NAME, *QUICK),
                variables={"PYTHONIOENCODING": encoding},
                stdout=theirs,
                stderr=theirs,
            ) as process:
                os.close(theirs)
                # On a terminal the letters of cp1252 are bytes that are no UTF-8.
                _, shown = await asyncio.gather(end_of(process), read_in_thread(ours))
        assert len(emulator.billed) == 2
    assert process.returncode == 0
    lines = plain(shown).splitlines()
    at = max(n for n, line in enumerate(lines) if line.startswith(r"org/\u6a21") and "#" in line and "ACTIVE" in line)
    row, head = lines[at], lines[at - 1]
    # The layout knows of the escapes.
    assert row.index("ACTIVE") == head.index("status")
    assert not set("■·…") & set(shown)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_the_demo_runs_on_such_a_terminal(encoding: str) -> None:
    with terminal(80) as (ours, theirs):
        words = ("demo", "--speed", "20")
        variables = {"PYTHONIOENCODING": encoding}
        async with starting(None, *words, variables=variables, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            shown = plain(await read_in_thread(ours))
            assert await process.wait() == 0
    assert "6 ACTIVE | " in shown
    assert "all 6 deactivated" in shown
    assert shown.isascii()


def test_a_picture_in_ascii_is_ascii_and_as_wide() -> None:
    rows = [Row("nvidia/" + "n" * 40, f"id{number}", (Stage("ACTIVE", 9.0),), 9.0) for number in range(20)]
    for width in (1, 3, 5, 10, 20, 40, 80):
        lines = picture(rows, width=width, height=8, totals=("9.0s",), mark="#", is_ascii=True)
        assert all(line.plain.isascii() and len(line.plain) <= width for line in lines)
    assert lines[-1].plain == "... and 15 more: 15 ACTIVE"
    assert shortened("abcdefghij", 7, "...") == "ab...ij"


@pytest.mark.parametrize("arguments", [("--help",), ("launch", "--help"), ("--version",), ("no-such-commänd",)])
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_help_and_wrong_use_are_in_the_encoding_of_the_stream(arguments: tuple[str, ...], encoding: str) -> None:
    ended = await run(None, *arguments, encoding=encoding)
    assert ended.code == (2 if arguments[0].startswith("no") else 0)
    assert ("comm\\xe4nd" if encoding == "ascii" else "commänd") in ended.errors or ended.code == 0


def as_of_a_process_that_died(journal: Path) -> None:
    """Take out what the end of a block writes."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"kept"' not in line))


COMMANDS = (
    ("list",),
    ("list", "--json"),
    ("list", "--format", "csv"),
    ("models",),
    ("get", "{id}"),
    ("get", "{id}", "--json"),
    ("wait", "{id}", *QUICK),
    ("watch", "{id}", *QUICK),
    ("watch", "{id}", "--json", *QUICK),
    ("orphans", "{journal}"),
    ("timeline", "{journal}"),
    ("demo", "--speed", "20", "--count", "1"),
    ("--help",),
    ("launch", "--help"),
    ("--version",),
)


@pytest.mark.parametrize("kind", ["closed pipe", "full"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_data_that_cannot_be_written_are_reported_and_deactivate_nothing(
    arguments: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    async with plane_with_letters() as (emulator, sampler):
        journal = tmp_path / "launch.jsonl"
        async with (
            LoopsClient(KEY, base_url=emulator.url) as client,
            launch(client, [NAME], policy=QUICK_POLL, teardown="never", journal=journal) as fleet,
        ):
            await fleet.active()
        as_of_a_process_that_died(journal)
        if kind == "full":
            out = os.open("/dev/full", os.O_WRONLY)
        else:
            reading, out = os.pipe()
            os.close(reading)
        words = [each.format(id=sampler.id, journal=journal) for each in arguments]
        async with starting(emulator, *words, stdout=out) as process:
            os.close(out)
            ended = await end_of(process)
        assert len(emulator.billed) == 2
    assert ended.code == 1
    assert "Exception ignored" not in ended.errors
    assert "[Errno" not in ended.errors
    if kind == "full":
        assert "stdout cannot be written: No space left on device" in ended.errors


async def test_an_error_that_stdout_does_not_take_as_json_keeps_its_exit_code() -> None:
    async with plane_with_letters() as (emulator, _):
        full = os.open("/dev/full", os.O_WRONLY)
        async with starting(emulator, "get", "no-such", "--json", stdout=full) as process:
            os.close(full)
            ended = await end_of(process)
    assert ended.code == 4
    assert ended.errors.count("\n") == 1
    assert ended.errors.startswith("Error: GET /v1/loops/samplers/no-such was answered with 404")


@pytest.mark.parametrize(
    "words", [("list",), ("get", "no-such"), ("deactivate", "{id}"), ("launch", NAME, *QUICK), ("wait", "{id}")]
)
async def test_a_full_stderr_changes_nothing(words: tuple[str, ...]) -> None:
    async with plane_with_letters() as (emulator, sampler):
        arguments = [each.format(id=sampler.id) for each in words]
        full = os.open("/dev/full", os.O_WRONLY)
        async with starting(emulator, *arguments, stderr=full) as process:
            os.close(full)
            ended = await end_of(process)
        number = len(emulator.billed)
    assert ended.code == (4 if words[0] == "get" else 0)
    assert number == {"launch": 2, "deactivate": 0}.get(words[0], 1)


async def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    async with plane_with_letters() as (emulator, _):
        async with LoopsClient(KEY, base_url=emulator.url) as client:
            session = await client.sessions.create()
            await asyncio.gather(*(client.samplers.create(session_id=session.id, base_model=NAME) for _ in range(60)))
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writing, False)
        async with starting(emulator, "list", "--all", "--json", stdout=writing) as process:
            os.close(writing)
            await until(lambda: _unread(reading) == 4096)
            with os.fdopen(reading, "rb") as pipe:
                output = await asyncio.to_thread(pipe.read)
            ended = await end_of(process)
    assert (ended.code, ended.errors) == (0, "")
    assert len(json.loads(output)["samplers"]) == 61


def _unread(pipe: int) -> int:
    """Return the number of bytes in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])
