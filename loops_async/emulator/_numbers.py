"""Numbers from outside, which may be larger than a float."""

from math import isfinite


def finite(number: float) -> bool:
    """Tell whether a float can hold a number: integers have no end, in Python and in JSON."""
    try:
        return isfinite(number)
    except OverflowError:
        return False
