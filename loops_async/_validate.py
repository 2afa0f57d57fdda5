"""Checks of what a caller gives, made before any I/O.

A wrong type is a `TypeError`, a wrong value a `ValueError`; each message says what was wrong and what would be right.

Subclasses of `str` and `int` (`numpy.str_`, members of a `StrEnum` or `IntEnum`) are taken by value: what a check
returns is a plain `str`, `int` or `float`, and that is what to store and send. A subclass may print, compare or encode
as something else than its value.
"""

from __future__ import annotations

import sys
from typing import Final

_LARGEST: Final = 2**63 - 1


def require_str(name: str, value: object) -> str:
    """Return *value* as a plain string if it is a string that is not blank."""
    if not isinstance(value, str):
        own_id = getattr(value, "id", None)
        hint = f"; give its id, {own_id!r}" if isinstance(own_id, str) else ""
        raise TypeError(f"{name} must be a str, not {type(value).__name__}{hint}")
    value = str.__str__(value)
    if not value.strip():
        raise ValueError(f"{name} must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be valid Unicode, without lone surrogates: {value!r}") from None
    return value


def optional_str(name: str, value: object) -> str | None:
    """Return None for None, else what `require_str()` returns."""
    return None if value is None else require_str(name, value)


def require_path_segment(name: str, value: object) -> str:
    """Return *value* as a plain string if it can stand as one segment of a path.

    Quoting keeps every other string inside its segment, but `.` and `..` are removed by servers and proxies even
    when their dots are percent-encoded.
    """
    if type(value) is str and value.isascii() and value.isalnum():
        return value  # as nearly all ids are
    value = require_str(name, value)
    if value in {".", ".."}:
        raise ValueError(f"{name} must be an id, not {value!r}")
    if not value.isprintable():
        raise ValueError(f"{name} must not hold control characters: {value!r}")
    return value


def optional_positive_int(name: str, value: object) -> int | None:
    """Return None for None, else what `require_positive_int()` returns."""
    return None if value is None else require_positive_int(name, value)


def require_positive_int(name: str, value: object) -> int:
    """Return *value* as a plain integer if it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    value = int.__int__(value)
    # First, since Python refuses to print an integer of thousands of digits.
    if abs(value) > _LARGEST:
        raise ValueError(f"{name} must fit into 64 bits")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def require_number(name: str, value: object, *, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Return *value* as a plain float if it is finite and at least (or, when *exclusive*, above) *minimum*."""
    number: int | float
    if isinstance(value, int) and not isinstance(value, bool):
        number = int.__int__(value)
    elif isinstance(value, float):
        number = float.__float__(value)
    else:
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not abs(number) <= sys.float_info.max or number < minimum or (exclusive and number == minimum):
        bound = "above" if exclusive else "at least"
        shown = "a number with so many digits" if abs(number) > 10**40 else f"{number}"
        raise ValueError(f"{name} must be {bound} {minimum:g}, not {shown}")
    return float(number)
