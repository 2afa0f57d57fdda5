"""The environment and the code of a process that is `loops-async`; neither depends on the shell of the test run."""

from __future__ import annotations

import os
import subprocess
import sys

from ..processes import ROOT

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


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that change what a command does, proxies included."""
    kept = {
        name: value for name, value in os.environ.items() if name not in UNSET and not name.lower().endswith("_proxy")
    }
    return {**kept, "TERM": "xterm-256color", "XDG_CACHE_HOME": "/dev/null/none"}


def finished(*arguments: str, code: str | None = None) -> tuple[int, str, str]:
    """Run the command, or *code* in its place, in a fresh interpreter; return its exit code, stdout and stderr."""
    what = ["-m", "loops_async.cli"] if code is None else ["-c", code]
    process = subprocess.run(  # noqa: S603 -- our own code
        [sys.executable, "-W", "error", *what, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr
