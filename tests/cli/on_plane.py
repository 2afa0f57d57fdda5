"""Run `loops-async` against an emulator that runs in the test, so that one can look at its own account."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from attrs import frozen

from loops_async.emulator import Emulator, Stage

from ..processes import Process, forked
from ..support import KEY
from .command_process import MAIN, SECONDS, clean_environment

GOOD, SLOW, BAD = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-4B-Instruct-2507"
"""Base models by what becomes of their samplers."""

LIFECYCLES = {
    GOOD: (Stage("BUILDING", 0.05), Stage("LOADING_MODEL", 0.05), Stage("ACTIVE")),
    SLOW: (Stage("BUILDING", 600.0), Stage("ACTIVE")),
    BAD: (Stage("BUILDING", 0.05), Stage("BUILD_FAILED")),
}

QUICK = ("--poll", "0.03")


@frozen
class Ended:
    """What a command came to."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """Its stdout, which must be one document and nothing else."""
        return json.loads(self.output)


@asynccontextmanager
async def plane(**settings: Any) -> AsyncIterator[Emulator]:
    """Give an emulator with samplers that come up in no time, never, or not at all."""
    async with Emulator(api_key=KEY, lifecycles=LIFECYCLES, **settings) as emulator:
        yield emulator


@asynccontextmanager
async def starting(
    emulator: Emulator | str | None,
    *arguments: str,
    key: str | None = KEY,
    before: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> AsyncIterator[Process]:
    """Start the command as a process that knows the emulator and its key, and runs other code *before*.

    *variables* are added to its environment.
    """
    environment = clean_environment()
    if emulator is not None:
        environment["LOOPS_BASE_URL"] = emulator if isinstance(emulator, str) else emulator.url
    if key is not None:
        environment["BASETEN_API_KEY"] = key
    environment |= variables
    code = f"{before}\n{MAIN}"
    async with forked(code, *arguments, environment=environment, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        yield process


async def end_of(process: Process, encoding: str = "utf-8") -> Ended:
    """Wait for the end of a process whose output is in *encoding*."""
    async with asyncio.timeout(SECONDS):
        output, errors = await process.communicate()
    assert process.returncode is not None
    ended = Ended(process.returncode, output.decode(encoding), errors.decode(encoding))
    assert "Traceback" not in ended.errors
    return ended


async def first_line(process: Process) -> str:
    """Return the next line that *process* writes to its piped stdout."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        return (await process.stdout.readline()).decode().removesuffix("\n")


async def run(
    emulator: Emulator | str | None,
    *arguments: str,
    key: str | None = KEY,
    before: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    encoding: str = "utf-8",
) -> Ended:
    """Run the command to its end, with pipes for output that are in *encoding*."""
    variables = {**variables, "PYTHONIOENCODING": encoding}
    async with starting(emulator, *arguments, key=key, before=before, variables=variables) as process:
        return await end_of(process, encoding)


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* is true."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
