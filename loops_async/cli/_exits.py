"""What a command can end with, and which error ends it how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any, Final

import click

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
"""128 and the number of SIGINT, as shells have it."""

HELP: Final = (
    "Exit codes: 0 all is as asked for, 1 a sampler failed or could not be released, 2 wrong use or a file that cannot "
    "be read, 3 the time was up, 4 no key or refused by the service, 5 no answer from the service, 130 Ctrl-C "
    "(143 SIGTERM, 129 hang-up)."
)


class Failure(click.ClickException):
    """An end that is told in one line, with an exit code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        # click keeps it on its classes, where type checkers refuse to have it changed for one instance.
        vars(self)["exit_code"] = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line to stderr."""
        error(self.message)


def code_of(exc: BaseException) -> int:
    """Return the exit code for a command that *exc* has ended."""
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
    """Return the exit code that *errors* have in common, or that of any failure; there must be one at least."""
    codes = {code_of(each) for each in errors}
    return codes.pop() if len(codes) == 1 else FAILED
