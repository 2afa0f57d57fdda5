"""Numbers from outside, which may be larger than a float."""

from math import isfinite


def finite(number: float) -> bool:
    """Return True if *number* is finite and a float can hold it; integers in Python and JSON can be larger."""
    try:
        return isfinite(number)
    except OverflowError:
        return False
