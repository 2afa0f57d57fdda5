"""What an emulator can be told to be like, apart from lifecycles and faults."""

from math import isfinite
from typing import Literal, get_args

from attrs import define

ErrorShape = Literal["code", "error", "detail"]
"""`{code, message}`, `{error, message, details}` or `{detail}`: the sources name all three."""


@define(eq=False, kw_only=True)
class Settings:
    """The settings of one emulator; those that are no constants may change while it runs."""

    api_key: str | None
    inference_api_key: str | None
    user_email: str | None
    clock_skew: float
    list_lag: float
    error_shape: ErrorShape
    invalid_status: int

    def __attrs_post_init__(self) -> None:
        if self.error_shape not in get_args(ErrorShape):
            raise ValueError(f"error_shape must be one of {', '.join(get_args(ErrorShape))}")
        if self.invalid_status not in {400, 422}:
            raise ValueError("invalid_status must be 400 or 422")
        check_skew(self.clock_skew)
        check_lag(self.list_lag)


def check_lag(seconds: float) -> None:
    """Check a list lag.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError("list_lag must be finite and not negative")


def check_skew(seconds: float) -> None:
    """Check a clock skew.

    Raises:
        ValueError: it is more than thirty years, or not finite.
    """
    if not (isfinite(seconds) and abs(seconds) <= 1e9):
        raise ValueError("clock_skew must be finite, and not more than 1e9 seconds either way")
