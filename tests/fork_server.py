"""The process from which `tests.processes` forks: everything that a program of a test imports is there already.

It has one thread and never runs an event loop. A child gets the streams, arguments, environment and directory that its
test names, and does at its end what every interpreter does: `serve()` returns in the child, and the program runs at the
top level of this module.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import sys
from contextlib import ExitStack, suppress
from types import ModuleType
from typing import Any, Final, TextIO

NUMBER: Final = struct.Struct("i")
"""How a length, a process id and an exit code are sent."""

STREAMS: Final = 3


def import_everything() -> None:
    """Import the package, and what it imports only when it is needed."""
    import loops_async

    for module in pkgutil.walk_packages(loops_async.__path__, "loops_async."):
        if not module.name.endswith((".__main__", ".pytest_plugin")):
            importlib.import_module(module.name)
    for name in ("aiohttp.web", "asyncio", "concurrent.futures.thread", "rich.live", "rich.table", "rich.progress"):
        importlib.import_module(name)


def serve(socket_number: int) -> dict[str, Any] | None:
    """Fork a child for each request, and report its id and its exit code.

    Returns:
        In a child, what it is to run. None once nothing more can be requested.
    """
    # Ctrl-C reaches every process of a terminal; a child takes it from the moment when it runs its program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    reports: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        requests = stack.enter_context(socket.socket(fileno=socket_number))
        woken, wakes = map(stack.enter_context, socket.socketpair())
        woken.setblocking(False)
        wakes.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno())
        stack.callback(signal.set_wakeup_fd, -1)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([requests, woken], [], [])
            if woken in ready:
                woken.recv(4096)
                report_ends(reports)
            if requests in ready:
                header, files, _, _ = socket.recv_fds(requests, NUMBER.size, STREAMS + 1)
                if not header:
                    return None
                order: dict[str, Any] = json.loads(received(requests, *NUMBER.unpack(header)))
                report = socket.socket(fileno=files.pop())
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for each in (report, *reports.values()):
                        each.close()
                    for number, file in enumerate(files):
                        os.dup2(file, number)
                        os.close(file)
                    return order
                for file in files:
                    os.close(file)
                reports[child] = report
                tell(report, child)


def received(requests: socket.socket, size: int) -> bytes:
    """Receive that many bytes."""
    data = b""
    while len(data) < size:
        data += requests.recv(size - len(data))
    return data


def report_ends(reports: dict[int, socket.socket]) -> None:
    """Report the exit codes of all children that have ended."""
    while reports:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with reports.pop(child) as report:
            tell(report, os.waitstatus_to_exitcode(status))


def tell(report: socket.socket, number: int) -> None:
    # The test may have ended without it.
    with suppress(BrokenPipeError):
        report.send(NUMBER.pack(number))


def begin(order: dict[str, Any]) -> dict[str, Any]:
    """Make this child what a fresh interpreter is when it begins to run code, and return the names of that code."""
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = ["-c", *order["arguments"]]
    sys.path[0] = ""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = opened(number, name, mode)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    return main.__dict__


def opened(number: int, name: str, mode: str) -> TextIO:
    """Open a standard stream as `create_stdio()` in CPython's Python/pylifecycle.c does."""
    # The server's own streams have what follows from the locale alone.
    usual = getattr(sys, f"__{name}__")
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    errors = errors or ("strict" if encoding else usual.errors)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = io.FileIO(number, mode, closefd=False)
    raw.name = f"<{name}>"
    buffer = io.BufferedReader(raw) if mode == "r" else raw if unbuffered else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(
        buffer,
        encoding or usual.encoding,
        "backslashreplace" if name == "stderr" else errors,
        newline="\n",
        line_buffering=not unbuffered and (name == "stderr" or raw.isatty()),
        write_through=unbuffered,
    )
    stream.mode = mode  # type: ignore[misc]
    return stream


if __name__ == "__main__":
    import_everything()
    # What is imported is never garbage; a child need not look at it.
    gc.collect()
    gc.freeze()
    order = serve(int(sys.argv[1]))
    if order is not None:
        exec(compile(order["code"], "<string>", "exec"), begin(order))  # noqa: S102 -- a program of a test
