"""A forked process is what a fresh interpreter is, as far as a program of a test can see it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from .cli.terminal import read_in_thread, terminal
from .processes import ROOT, forked

ABOUT_ITSELF = """
import asyncio, json, os, random, signal, sys, threading, warnings

def about(stream):
    return [
        *(stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.newlines, stream.name),
        *(stream.mode, stream.isatty(), type(stream.buffer).__name__, stream.fileno(), stream.buffer.name),
    ]

print(json.dumps({
    "streams": [about(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
    "same": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "argv": sys.argv,
    "path": sys.path,
    "directory": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k != "LC_CTYPE"},
    "name": [__name__, sys.modules["__main__"].__dict__ is globals()],
    "warnings": [sys.warnoptions, warnings.filters[0][0]],
    "threads": [threading.active_count(), threading.current_thread() is threading.main_thread()],
    "files": sorted(os.listdir("/dev/fd")),
    "signals": {int(each): str(signal.getsignal(each)) for each in signal.valid_signals() if each != signal.SIGINT},
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    "woken": signal.set_wakeup_fd(-1),
}))
"""


@asynccontextmanager
async def fresh(code: str, *arguments: str, environment: Mapping[str, str], **streams: Any) -> AsyncIterator[Any]:
    """Do what `forked()` does with an interpreter of its own."""
    command = ("-W", "error", "-c", code, *arguments)
    pipes: dict[str, Any] = {"stdin": asyncio.subprocess.DEVNULL, "stdout": -1, "stderr": -1, **streams}
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, env=environment, **pipes)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


BOTH = (fresh, forked)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252:replace"},
        {"PYTHONIOENCODING": ":replace"},
        {"PYTHONUNBUFFERED": "1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("on", ["pipe", "terminal"])
async def test_it_begins_as_a_fresh_one_does(variables: dict[str, str], on: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONI", "PYTHONU"))}
    found = []
    for start in BOTH:
        with terminal(80) as (_ours, theirs):
            streams: dict[str, Any] = {"stdin": theirs, "stderr": theirs} if on == "terminal" else {}
            async with start(ABOUT_ITSELF, "a", "é", environment=environment | variables, **streams) as process:
                os.close(theirs)
                output, errors = await process.communicate()
        assert process.returncode == 0, errors
        found.append(json.loads(output))
    assert found[0] == found[1]


ENDS = {
    "end": "print('a')",
    "exit": "import sys; print('a'); sys.exit(7)",
    "words": "raise SystemExit('words')",
    "error": "def f():\n    1/0\nf()",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 15)",
    "sigint": "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), 2)",
    "at exit": "import atexit; atexit.register(print, 'late')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(.05), print('late'))).start()",
    "object": "class A:\n    def __del__(self): print('gone')\na = A()",
    "unclosed": "f = open('/dev/null')",
    "never awaited": "async def f(): pass\nf()",
    "deprecated": "import warnings; warnings.warn('old', DeprecationWarning)",
    "much": "print('a' * 100_000)",
}


WRITES = ("end", "exit", "error", "at exit", "much")
"""Those for which it matters where stdout leads."""


@pytest.mark.parametrize(
    ("name", "to"), [*((name, "pipe") for name in ENDS), *itertools.product(WRITES, ("closed pipe", "full"))]
)
async def test_it_ends_as_a_fresh_one_does(name: str, to: str) -> None:
    code = ENDS[name]
    ends = []
    for start in BOTH:
        if to == "full":
            out = os.open("/dev/full", os.O_WRONLY)
        elif to == "closed pipe":
            reading, out = os.pipe()
            os.close(reading)
        else:
            out = asyncio.subprocess.PIPE
        async with start(code, environment=os.environ, stdout=out) as process:
            if to != "pipe":
                os.close(out)
            output, errors = await process.communicate()
        ends.append((process.returncode, output or b"", own_lines(errors.decode())))
    assert ends[0] == ends[1]


def own_lines(text: str) -> list[str]:
    """Return what an interpreter printed, without the frames of a traceback that are not of the program."""
    lines = re.sub("0x[0-9a-f]+", "0x", text).splitlines()
    return [line for line in lines if not line.startswith("    ") and ("<string>" in line or "File" not in line)]


async def test_it_takes_signals_and_input_and_is_killed_at_the_end_of_the_block() -> None:
    code = "import sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)"
    async with forked(code, stdin=asyncio.subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"once\n")
        assert await process.stdout.readline() == b"once\n"
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in (await process.communicate())[1]
    assert process.returncode == -signal.SIGINT
    async with forked(code, stdin=asyncio.subprocess.PIPE) as process:
        pass
    assert process.returncode == -signal.SIGKILL


async def test_those_that_run_beside_each_other_do_not_hold_each_others_pipes() -> None:
    code = "import os, sys; os.close(1); sys.stdin.read()"
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(forked(code, stdin=asyncio.subprocess.PIPE)) for _ in range(3)]
        for process in processes:
            assert process.stdin is not None
            assert process.stdout is not None
            assert await process.stdout.read() == b""
            assert process.returncode is None
            process.stdin.close()
            assert await process.wait() == 0
        assert [process.returncode for process in processes] == [0, 0, 0]


async def test_on_a_terminal_it_writes_what_a_fresh_one_does() -> None:
    code = """
import os, sys
print("é", os.get_terminal_size().columns)
print("e", file=sys.stderr)
sys.stdout.write("x")
"""
    shown = []
    for start in BOTH:
        with terminal(33) as (ours, theirs):
            async with start(code, environment=os.environ, stdout=theirs, stderr=theirs) as process:
                os.close(theirs)
                shown.append(await read_in_thread(ours))
                assert await process.wait() == 0
    assert shown[0] == shown[1] == "é 33\r\ne\r\nx"
