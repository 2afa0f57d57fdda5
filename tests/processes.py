"""Run programs in processes of their own that need not import the package first.

A fresh interpreter takes half a second to import what a program of `loops_async` needs. Each of these processes is
forked from one that has done so, in a hundredth of that: it has signals, standard streams and an end of its own, and
differs in nothing that a program of a test can see but the modules that are loaded already. What is about imports, or
about the command line of the interpreter, needs a fresh one.

Warnings are errors in them, and SIGINT interrupts them, which a shell keeps from what it starts in the background.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .fork_server import NUMBER

ROOT = Path(__file__).parents[1]

OF_THE_INTERPRETER = frozenset({"LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "PYTHONUTF8", "PYTHONWARNINGS"})
"""Variables that only a fresh interpreter looks at."""


class Process:
    """A process that runs; its methods are those of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, report: socket.socket, stdin: BinaryIO | None) -> None:
        self.pid = pid
        self.stdin = stdin
        """A pipe to its stdin without a buffer; None if another stream was given."""
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._report = report
        self._returncode: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit code, or a negative number for the signal that killed it; None while it runs."""
        if self._returncode is None:
            with suppress(BlockingIOError):
                self._take(self._report.recv(NUMBER.size))
        return self._returncode

    def _take(self, report: bytes) -> None:
        assert report, "the process that forks has ended"
        (self._returncode,) = NUMBER.unpack(report)

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        if self._returncode is None:
            self._take(await asyncio.get_running_loop().sock_recv(self._report, NUMBER.size))
        assert self._returncode is not None
        return self._returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Close its stdin, and return what it writes until its end."""
        if self.stdin is not None:
            self.stdin.close()
        output, errors, _ = await asyncio.gather(_rest(self.stdout), _rest(self.stderr), self.wait())
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _rest(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


class _Server:
    """The process that forks; there is one for each process that runs tests."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- our own code
                [sys.executable, "-W", "error", "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()

    def fork(self, order: Mapping[str, object], files: list[int]) -> socket.socket:
        """Ask for a process, and return the socket on which it is reported."""
        body = json.dumps(order).encode()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._requests, [NUMBER.pack(len(body))], [*files, theirs.fileno()])
            self._requests.sendall(body)
        ours.setblocking(False)
        return ours


_servers: list[_Server] = []


@asynccontextmanager
async def forked(
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    directory: Path = ROOT,
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> AsyncIterator[Process]:
    """Run a program as `python -W error -c CODE ARGUMENTS` does, and kill it at the end of the block.

    Args:
        code: The program.
        arguments: The rest of its `sys.argv`.
        environment: Its variables; None for those of the test.
        directory: Its working directory.
        stdin: A file descriptor, `DEVNULL` or `PIPE`.
        stdout: As *stdin*.
        stderr: As *stdin*.
    """
    if not _servers:
        _servers.append(_Server())
    order = {
        "code": code,
        "arguments": arguments,
        "environment": dict(os.environ if environment is None else environment),
        "directory": os.fspath(directory),
    }
    with ExitStack() as ours:
        with ExitStack() as theirs:
            streams = [_opened(*stream, ours, theirs) for stream in enumerate((stdin, stdout, stderr))]
            report = ours.enter_context(_servers[0].fork(order, [number for number, _ in streams]))
        loop = asyncio.get_running_loop()
        (pid,) = NUMBER.unpack(await loop.sock_recv(report, NUMBER.size))
        process = Process(pid, report, streams[0][1])
        try:
            process.stdout, process.stderr = [await _reader(end, ours) for _, end in streams[1:]]
            yield process
        finally:
            process.kill()
            await process.wait()


def _opened(number: int, stream: int, ours: ExitStack, theirs: ExitStack) -> tuple[int, BinaryIO | None]:
    """Return the end of a standard stream that is for the process, and if it is a pipe the other end."""
    if stream == DEVNULL:
        return theirs.enter_context(open(os.devnull, "r+b", buffering=0)).fileno(), None
    if stream != PIPE:
        return stream, None
    reading, writing = os.pipe()
    end, other = (writing, reading) if number == 0 else (reading, writing)
    theirs.callback(os.close, other)
    return other, ours.enter_context(open(end, "wb" if number == 0 else "rb", buffering=0))


async def _reader(end: BinaryIO | None, ours: ExitStack) -> asyncio.StreamReader | None:
    """Return a reader of a pipe that runs as long as *ours*."""
    if end is None:
        return None
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), end)
    ours.callback(transport.close)
    return reader
