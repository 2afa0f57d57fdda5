"""Checks of what a caller gives, made before any I/O.

A wrong type is a `TypeError`, a wrong value a `ValueError`; each message says what was wrong and what would be right.
"""

from __future__ import annotations

import sys
from typing import Final

_LARGEST: Final = 2**63 - 1


def require_str(name: str, value: object) -> str:
    """Return *value* if it is a string with something in it."""
    if not isinstance(value, str):
        own_id = getattr(value, "id", None)
        hint = f"; give its id, {own_id!r}" if isinstance(own_id, str) else ""
        raise TypeError(f"{name} must be a str, not {type(value).__name__}{hint}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be valid Unicode, without lone surrogates: {value!r}") from None
    return value


def optional_str(name: str, value: object) -> str | None:
    """Return *value* if it is None or a string with something in it."""
    return None if value is None else require_str(name, value)


def require_path_segment(name: str, value: object) -> str:
    """Return *value* if it can stand as one segment of a path.

    Quoting keeps every other string inside its segment, but `.` and `..` are removed by servers and proxies even
    when their dots are percent-encoded.
    """
    value = require_str(name, value)
    if value in {".", ".."}:
        raise ValueError(f"{name} must be an id, not {value!r}")
    if not value.isprintable():
        raise ValueError(f"{name} must not hold control characters: {value!r}")
    return value


def optional_positive_int(name: str, value: object) -> int | None:
    """Return *value* if it is None or an integer of at least 1."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    if value > _LARGEST:
        raise ValueError(f"{name} must fit into 64 bits")
    return value


def require_number(name: str, value: object, *, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Return *value* as a float if it is a finite number of at least (or, when *exclusive*, above) *minimum*."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not abs(value) <= sys.float_info.max or value < minimum or (exclusive and value == minimum):
        bound = "above" if exclusive else "at least"
        raise ValueError(f"{name} must be {bound} {minimum:g}, not {str(value)[:40]}")
    return float(value)
