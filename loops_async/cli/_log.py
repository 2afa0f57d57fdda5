"""The log of the library: written to stderr, and read by a command that needs the times of deactivations."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ._words import say

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""Names of the levels for `--log-level`."""

OUTAGE_IS_OVER: Final = "polls work again"
"""Beginning of the record that ends an outage. It is shown wherever the warning of the outage is shown."""

DEACTIVATED: Final = "sampler %s is deactivated"
"""Message of the record that a sampler is deactivated; keep it equal to the one in `_api/deactivating.py`. Its argument
is the id. A timeline needs the time of the deactivation, and no other public API has it."""

OPTIONS: Final = {
    "pass resume=True": "give --resume",
    "call loops_async.journal.reclaim(acknowledge_unknown=True)": "use deactivate --journal --acknowledge-unknown",
    "call loops_async.journal.reclaim()": "use deactivate --journal",
    "call loops_async.journal.orphans()": "use orphans",
}
"""What the messages of the library ask for, and what it is called on the command line."""

_ATTRIBUTE: Final = re.compile(r" \(all of them are in `?fleet\.\w+`?\)")
"""Where a program finds more than a message has."""

logger = logging.getLogger("loops_async")


@contextmanager
def log_lines(level: int) -> Iterator[None]:
    """Write records of the library of at least *level* to stderr during the block, one line each, with the time."""

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= level or (level <= logging.WARNING and str(record.msg).startswith(OUTAGE_IS_OVER))

    def write(record: logging.LogRecord) -> None:
        text = _ATTRIBUTE.sub("", " ".join(record.getMessage().split()))
        for words, option in OPTIONS.items():
            text = text.replace(words, option)
        say(f"{time.strftime('%H:%M:%S')}  {record.levelname.capitalize()}: {text}")

    with _handled(is_shown, write, min(level, logging.INFO)):
        yield


@contextmanager
def on_deactivated(call: Callable[[str], object]) -> Iterator[None]:
    """During the block, call *call* with the id of each sampler at the time when it is deactivated."""

    def pass_on(record: logging.LogRecord) -> None:
        call(str(record.args[0]) if isinstance(record.args, tuple) else "")

    with _handled(lambda record: record.msg == DEACTIVATED, pass_on, logging.INFO):
        yield


class _Handler(logging.Handler):
    """Passes records to a function."""

    def __init__(self, write: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record)


@contextmanager
def _handled(
    accept: Callable[[logging.LogRecord], bool], write: Callable[[logging.LogRecord], None], level: int
) -> Iterator[None]:
    handler, before = _Handler(write), logger.level
    handler.addFilter(accept)
    logger.addHandler(handler)
    logger.setLevel(min(level, before or level))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
