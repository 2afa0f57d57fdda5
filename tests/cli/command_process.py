"""Run `loops-async` as a process of its own, in an environment that does not depend on whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSET = frozenset(
    {
        "BASETEN_API_KEY",
        "COLUMNS",
        "FORCE_COLOR",
        "LINES",
        "LOOPS_ALLOW_HTTP",
        "LOOPS_BASE_URL",
        "NO_COLOR",
        "PYTHONIOENCODING",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
    }
)
"""Variables that would change what a command does."""
SECONDS = 30.0

MAIN = "from loops_async.cli import main; main()"

# What a shell starts in the background, a test run included, has SIGINT ignored, and its children inherit that.
INTERRUPTIBLE = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that change what a command does, proxies included."""
    return {
        name: value for name, value in os.environ.items() if name not in UNSET and not name.lower().endswith("_proxy")
    }


@contextmanager
def started(
    *arguments: str, code: str | None = None, terminal: int | None = None, encoding: str = "utf-8"
) -> Iterator[subprocess.Popen[str]]:
    """Start the command, or *code* in its place; pipe its output unless it gets *terminal*, a file descriptor."""
    what = ["-m", "loops_async.cli"] if code is None else ["-c", code]
    environment = {**clean_environment(), "TERM": "xterm-256color"}
    process = subprocess.Popen(  # noqa: S603 -- our own code
        [sys.executable, "-W", "error", *what, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if terminal is None else terminal,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        encoding=encoding,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def finished(*arguments: str, code: str | None = None, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Run the command to its end and return its exit code, stdout and stderr."""
    with started(*arguments, code=code, encoding=encoding) as process:
        output, errors = process.communicate(timeout=SECONDS)
        return process.returncode, output, errors


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that *process* writes to its piped stdout."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")
