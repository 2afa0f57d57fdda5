"""The settings of an emulator, apart from lifecycles and faults."""

from collections.abc import Mapping
from typing import Literal, get_args

from attrs import define

from ._numbers import finite

ErrorShape = Literal["code", "error", "detail"]
"""The shapes of errors that the sources name: `{code, message}`, `{error, message, details}` or `{detail}`."""


@define(eq=False, kw_only=True)
class Settings:
    """The settings of one emulator; `list_lag` may change while it runs."""

    api_key: str | None
    inference_api_key: str | None
    user_email: str | None
    clock_skew: float
    list_lag: float
    error_shape: ErrorShape
    invalid_status: int
    rate_limit: float | None = None
    keep_body: int | None = None
    """The most bytes of a body that are kept; None: all."""

    def __attrs_post_init__(self) -> None:
        for name, key in (("api_key", self.api_key), ("inference_api_key", self.inference_api_key)):
            check_key(name, key)
        if self.error_shape not in get_args(ErrorShape):
            raise ValueError(f"error_shape must be one of {', '.join(get_args(ErrorShape))}")
        if self.invalid_status not in {400, 422}:
            raise ValueError("invalid_status must be 400 or 422")
        check_count("keep_body", self.keep_body)
        check_rate_limit(self.rate_limit)
        check_skew(self.clock_skew)
        check_lag(self.list_lag)


def check_key(name: str, key: str | None) -> None:
    """Check a key that the emulator accepts.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty.
    """
    if key is not None and not isinstance(key, str):
        raise TypeError(f"{name} must be a string or None")
    if key == "":
        raise ValueError(f"{name} must not be empty; None asks for no key")


def check_rate_limit(limit: float | None) -> None:
    """Check a rate limit.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 1, so that no request could pass, or is not finite.
    """
    if limit is None:
        return
    if not isinstance(limit, (int, float)) or isinstance(limit, bool):
        raise TypeError(f"rate_limit must be a number or None, not {limit!r}")
    if not (finite(limit) and limit >= 1):
        raise ValueError("rate_limit must be at least 1; None limits nothing")


def check_count(name: str, count: int | None) -> None:
    """Check a number of things that are kept.

    Raises:
        TypeError: it is no integer.
        ValueError: it is negative.
    """
    if count is None:
        return
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{name} must be an integer or None, not {count!r}")
    if count < 0:
        raise ValueError(f"{name} must not be negative")


def check_seed(seed: int) -> None:
    """Check a seed.

    Raises:
        TypeError: it is no integer.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, not {seed!r}")


def check_teams(teams: Mapping[str, str] | None) -> None:
    """Check the names of teams by id.

    Raises:
        TypeError: they are no mapping of strings.
        ValueError: an id or a name is empty.
    """
    if teams is None:
        return
    if not isinstance(teams, Mapping) or not all(isinstance(each, str) for pair in teams.items() for each in pair):
        raise TypeError(f"teams must be a mapping of ids to names, not {teams!r}")
    if not all(each for pair in teams.items() for each in pair):
        raise ValueError("the ids and names of teams must not be empty")


def check_lag(seconds: float) -> None:
    """Check a list lag.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not (finite(seconds) and seconds >= 0):
        raise ValueError("list_lag must be finite and not negative")


def check_skew(seconds: float) -> None:
    """Check a clock skew.

    Raises:
        ValueError: it is more than thirty years, or not finite.
    """
    if not (finite(seconds) and abs(seconds) <= 1e9):
        raise ValueError("clock_skew must be finite, and not more than 1e9 seconds either way")
