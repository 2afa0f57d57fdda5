"""Text that the log messages of launches share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

IDS_IN_A_MESSAGE: Final = 10
"""Number of ids that a log message names; the rest are counted."""


def some_ids(ids: Sequence[str], attribute: str) -> str:
    """Return the first of *ids*, and how many more there are in *attribute*."""
    named = ", ".join(ids[:IDS_IN_A_MESSAGE])
    more = len(ids) - IDS_IN_A_MESSAGE
    return f"{named} and {more} more (all of them are in {attribute})" if more > 0 else named
