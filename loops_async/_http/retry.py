"""What may be repeated, how long, and how soon. tenacity stays inside this module.

tenacity costs about as much as a request, so it is entered only after a first failure, and each call gets an
`AsyncRetrying` of its own: one that is shared mixes up concurrent calls. What may be repeated is said positively;
"everything but ..." would repeat a cancellation too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import field, fields, frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from .. import _validate
from ..errors import APIError, LoopsError, RateLimitError, TransportError

T = TypeVar("T")

REPEATABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which a request that is safe to repeat is repeated."""


@frozen(repr=False)
class RetryPolicy:
    """How often and how soon a failed request is repeated: exponential backoff with full jitter.

    Raises:
        TypeError, ValueError: An argument is not what the field says.
    """

    attempts: int = field(default=5)
    """Requests at most, the first one included; 1 repeats nothing."""
    initial: float = field(default=0.5)
    """Seconds: upper bound of the first pause."""
    factor: float = field(default=2.0)
    """By which the upper bound grows with every further pause."""
    maximum: float = field(default=8.0)
    """Seconds: the upper bound's own limit."""
    total: float = field(default=120.0)
    """Seconds since the first failure after which nothing is repeated any more."""
    retry_after_maximum: float = field(default=60.0)
    """Seconds: a longer `Retry-After` is cut to this."""

    def __repr__(self) -> str:
        # Short, since the policy is a default argument, which `help()` shows.
        default = {each.name: each.default for each in fields(RetryPolicy)}
        changed = (f"{name}={getattr(self, name)!r}" for name in default if getattr(self, name) != default[name])
        return f"RetryPolicy({', '.join(changed)})"

    def __attrs_post_init__(self) -> None:
        if _validate.optional_positive_int("attempts", self.attempts) is None:
            raise TypeError("attempts must be an int, not None")
        _validate.require_number("factor", self.factor, minimum=1.0)
        for name in ("initial", "maximum", "total", "retry_after_maximum"):
            _validate.require_number(name, getattr(self, name))


def may_be_repeated(error: BaseException) -> bool:
    """Tell whether a request that is safe to repeat should be repeated after *error*."""
    return isinstance(error, TransportError) or (isinstance(error, APIError) and error.status in REPEATABLE_STATUSES)


def was_not_processed(error: BaseException) -> bool:
    """Tell whether *error* proves that a create was not processed and may be sent again."""
    return isinstance(error, RateLimitError) or (isinstance(error, TransportError) and not error.sent)


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    repeat_after: Callable[[BaseException], bool],
    held: Callable[[], float],
) -> T:
    """Await `attempt()` until it succeeds, fails otherwise than *repeat_after* allows, or the policy is used up.

    *held* gives the seconds for which all requests are held back at the moment. Where the service named a pause, that
    hold is the pause, and this function adds none of its own: the request queues up at once, so that what is urgent
    can go before it.

    Raises:
        Exception: The last error of `attempt()`, with a note of how often and how long it was tried.
    """
    try:
        return await attempt()
    except LoopsError as exc:
        if policy.attempts == 1 or not repeat_after(exc):
            raise
        first = exc

    began = time.monotonic()
    pending: list[LoopsError] = [first]

    async def attempt_or_first() -> T:
        # tenacity's first attempt is the one that was made without it.
        if pending:
            raise pending.pop()
        return await attempt()

    backoff = wait_random_exponential(multiplier=policy.initial, exp_base=policy.factor, max=policy.maximum)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        named = isinstance(error, APIError) and bool(error.retry_after) and held() > 0
        return 0.0 if named else backoff(state)

    def used_up(state: RetryCallState) -> bool:
        spent = time.monotonic() - began
        return last_attempt(state) or spent + max(state.upcoming_sleep, held()) >= policy.total

    last_attempt = stop_after_attempt(policy.attempts)
    retrying = AsyncRetrying(
        retry=retry_if_exception(repeat_after), wait=pause, stop=used_up, sleep=asyncio.sleep, reraise=True
    )
    try:
        return await retrying(attempt_or_first)
    except LoopsError as exc:
        attempts = int(retrying.statistics.get("attempt_number", 1))
        exc.add_note(f"after {attempts} attempts in {time.monotonic() - began:.1f} s")
        raise
