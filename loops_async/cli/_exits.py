"""The exit codes of a command, and the errors that lead to each."""

from __future__ import annotations

import signal
from collections.abc import Coroutine, Iterable, Mapping
from typing import IO, Any, Final

import click

import loops_async
from loops_async import (
    APIError,
    CreateOutcomeUnknown,
    DecodeError,
    LaunchError,
    RateLimitError,
    ServerError,
    TransportError,
    WaitTimeout,
)

from ._words import error

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
TIMEOUT: Final = 3
REFUSED: Final = 4
NO_ANSWER: Final = 5
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as in shells."""

HELP: Final = (
    "Exit codes: 0 all is as asked for, 1 a sampler failed or could not be deactivated, 2 wrong use or a file that "
    "cannot be read, 3 the time was up, 4 no key or refused by the service, 5 no answer from the service, 130 Ctrl-C "
    "(143 SIGTERM, 129 hang-up). With --json, an error that ends the command is an object with error: its type, "
    "message and exit_code, and where the service answered, status, code and request_id."
)


class Failure(click.ClickException):
    """The end of a command that is reported in one line, with an exit code of its own.

    Args:
        message: The line, for people.
        exit_code: The exit code of the process.
        fields: The error in `--json`; None to make it of the other two.
    """

    def __init__(self, message: str, exit_code: int, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        # click declares it on the class, so that type checkers refuse an assignment to an instance.
        vars(self)["exit_code"] = exit_code
        kind = "UsageError" if exit_code == USAGE else "Refused" if exit_code == REFUSED else "Failed"
        self.fields = fields or {"type": kind, "message": message, "exit_code": exit_code}
        """The error in `--json`."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line to stderr."""
        error(self.message)


def run_to_end(main: Coroutine[Any, Any, int]) -> int:
    """Run the coroutine of a command with `loops_async.run()`, as the last step of the process.

    Return the exit code: that of the coroutine, or that of a signal. Later signals are ignored, since they could only
    change the exit code.
    """
    try:
        return loops_async.run(main)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else FAILED
    finally:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(signal.Signals[name], signal.SIG_IGN)


def code_of(exc: BaseException) -> int:
    """Return the exit code of a command that *exc* has ended."""
    if isinstance(exc, LaunchError):
        return code_of_all(exc.exceptions)
    if isinstance(exc, WaitTimeout):
        return TIMEOUT
    if isinstance(exc, (TransportError, RateLimitError, ServerError, DecodeError, CreateOutcomeUnknown)):
        return NO_ANSWER
    if isinstance(exc, APIError):
        return NO_ANSWER if exc.status == 408 else REFUSED
    return FAILED


def code_of_all(errors: Iterable[BaseException]) -> int:
    """Return the exit code of *errors*, of which there must be some; FAILED if they have several codes."""
    codes = {code_of(each) for each in errors}
    return codes.pop() if len(codes) == 1 else FAILED
