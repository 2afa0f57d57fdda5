"""`loops-async demo`, on a pipe and on a terminal."""

from __future__ import annotations

import os
import re
import signal

import pytest

from .on_plane import end_of, first_line, run, starting
from .terminal import SHOW_CURSOR, plain, read_in_thread, terminal

CHANGE = re.compile(
    r"\d\d:\d\d:\d\d +\+\d+\.\d s  (?P<id>\w+)  (?P<model>\S+)  (?:(?P<previous>\w+) -> )?(?P<status>\w+)"
)
BASE_URL = re.compile(r"http://127\.0\.0\.1:\d+/models/\w+/deployment/\w+/sync")
NONE_LEFT = "all 6 deactivated, none billed any more"


async def test_on_a_pipe_writes_each_change_and_whole_urls() -> None:
    ended = await run(None, "demo", "--speed", "20")
    assert (ended.code, ended.errors) == (0, "")
    lines = ended.output.splitlines()
    begin = lines.index("Base URLs of the ACTIVE samplers:")
    changes = [CHANGE.fullmatch(line) for line in lines[1:begin]]
    assert all(changes)
    last = {change["id"]: change["status"] for change in changes if change}
    assert list(last.values()) == ["ACTIVE"] * 6
    urls = [line.split() for line in lines[begin + 1 : -1]]
    assert {each[1] for each in urls} == last.keys()
    assert all(BASE_URL.fullmatch(each[2]) for each in urls)
    assert len({each[0] for each in urls}) == 3
    assert re.fullmatch(rf"6 samplers ACTIVE in \d+\.\d s; {NONE_LEFT}", lines[-1])
    assert "\x1b" not in ended.output


async def test_shows_a_sampler_that_is_scaled_to_zero_before_its_first_active() -> None:
    ended = await run(None, "demo", "--speed", "20", "--count", "2")
    courses: dict[str, list[str]] = {}
    for change in map(CHANGE.fullmatch, ended.output.splitlines()):
        if change:
            courses.setdefault(change["id"], []).append(change["status"])
    woken = [course for course in courses.values() if "SCALED_TO_ZERO" in course]
    assert len(woken) == 1
    assert woken[0].index("SCALED_TO_ZERO") < woken[0].index("ACTIVE")


async def test_of_one_sampler_speaks_in_the_singular() -> None:
    ended = await run(None, "demo", "--speed", "50", "--count", "1")
    last = ended.output.splitlines()[-1]
    assert re.fullmatch(r"1 sampler ACTIVE in \d+\.\d s; 1 deactivated, none billed any more", last)


async def test_on_a_terminal_draws_a_table_and_leaves_urls_whole() -> None:
    with terminal(80) as (ours, theirs):
        async with starting(None, "demo", "--speed", "10", stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            output = await read_in_thread(ours)
            assert await process.wait() == 0
    assert SHOW_CURSOR in output
    before, _, after = plain(output).partition("Base URLs of the ACTIVE samplers:\n")
    # Several pictures, of which the last has everything in it.
    assert before.count("base model") > 2
    last = before[before.rindex("6 ACTIVE") :].splitlines()
    assert len(last) == 8
    assert all("ACTIVE" in line and "■" in line for line in last[2:])
    lines = after.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(BASE_URL.fullmatch(line.strip()) is not None for line in lines) == 6
    assert lines[-1].endswith(NONE_LEFT)


@pytest.mark.parametrize("presses", [1, 3])
async def test_ctrl_c_deactivates_what_was_created(presses: int) -> None:
    async with starting(None, "demo") as process:
        for _ in range(7):
            await first_line(process)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        ended = await end_of(process)
    assert ended.code == 130
    assert ended.errors == f"Interrupted: {NONE_LEFT}\n"


async def test_ctrl_c_on_a_terminal_gives_the_cursor_back() -> None:
    with terminal(80) as (ours, theirs):
        async with starting(None, "demo", stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            await read_in_thread(ours, until="6 BUILDING")
            process.send_signal(signal.SIGINT)
            output = await read_in_thread(ours)
            assert await process.wait() == 130
    assert SHOW_CURSOR in output
    assert f"Interrupted: {NONE_LEFT}" in output
    assert "Traceback" not in output


async def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    async with starting(None, "demo", "--speed", "20", stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        ended = await end_of(process)
    assert (ended.code, ended.errors) == (1, "")


async def test_a_create_that_fails_deactivates_the_others() -> None:
    failing = """
from loops_async import ConflictError
from loops_async._api.sampler_service import SamplerService

create = SamplerService.create

async def fail_for_one(self, session_id, spec, observer):
    if "Kimi" in spec.base_model:
        raise ConflictError(409, "POST", "/v1/loops/samplers", message="No.")
    return await create(self, session_id, spec, observer)

SamplerService.create = fail_for_one
"""
    ended = await run(None, "demo", "--count", "3", before=failing)
    assert ended.code == 4
    assert re.fullmatch(
        r"Failed: (all 2|1|0) deactivated, none billed any more\n"
        r"Error: POST /v1/loops/samplers was answered with 409: No\.\n",
        ended.errors,
    )
    assert "Base URLs" not in ended.output


async def test_says_so_if_something_is_still_billed() -> None:
    idle = """
from loops_async._api.sampler_service import SamplerService

async def nothing(self, sampler_id, timeout, **_):
    return True

SamplerService.deactivate_within = nothing
"""
    ended = await run(None, "demo", "--speed", "50", "--count", "2", before=idle)
    assert ended.code == 1
    assert re.fullmatch(r"Error: 2 of 2 samplers still billed: \w+, \w+\n", ended.errors)
    assert "none billed any more" not in ended.output
