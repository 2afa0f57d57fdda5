"""The `loops-async` command, which needs the extra `cli`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any, Final

EXTRA: Final = frozenset({"click", "rich"})
"""Packages of the extra; nothing here imports them before `main()` runs."""


def main() -> None:
    """Run the command line and exit; docs/reference/command-line.md lists the exit codes."""
    _prepare_streams()
    code: int | str | None
    try:
        from ._main import exit_code

        code = exit_code()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        print(f'loops-async needs {package}: pip install "loops-async[cli]"', file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except SystemExit as exit_:
        # This is how click ends a command when the reader of its output has gone away.
        code = exit_.code
    sys.exit(_flushed(code))


def _prepare_streams() -> None:
    """Prepare the standard streams so that writing text to them fails only if they are closed or full."""
    # If a shell has closed them, the text can be discarded.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 -- until the process ends
    for stream in (sys.stdout, sys.stderr):
        # Names come from the service. Letters that the encoding lacks are escaped: an error in the middle of a launch
        # would deactivate its samplers because of one letter.
        with suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        # Another process may have made the pipe non-blocking, so that a slow reader would cause an error.
        with suppress(AttributeError, OSError, ValueError):
            os.set_blocking(stream.fileno(), True)


def _flushed(code: int | str | None) -> int | str | None:
    """Flush the standard streams; return *code*, or 1 instead of 0 if data could not be written to stdout."""
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except ValueError:
            continue
        except OSError:
            discard(stream)
            if stream in {sys.stdout, sys.__stdout__}:
                code = code or 1
    return code


def discard(stream: IO[Any] | None) -> None:
    """Discard what is written to *stream* from now on, so that Python does not report an error when it exits."""
    with suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]
