"""Words that log messages of launches share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

IDS_IN_A_MESSAGE: Final = 10
"""Number of ids that a log message names; the rest are counted."""


def some_ids(ids: Sequence[str], attribute: str = "") -> str:
    """Return the first of *ids*, and how many more *attribute* has, if there is one."""
    named = ", ".join(ids[:IDS_IN_A_MESSAGE])
    more = len(ids) - IDS_IN_A_MESSAGE
    if more <= 0:
        return named
    return f"{named} and {more} more" + (f" (all of them are in {attribute})" if attribute else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
