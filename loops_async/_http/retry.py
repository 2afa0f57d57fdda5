"""How often and how soon a failed request is sent again.

tenacity costs about as much as a request, so it is entered only after a first failure, and each call gets an
`AsyncRetrying` of its own: a shared one mixes up concurrent calls. What is retried is said positively: a rule such as
"everything except ..." would retry a cancellation, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from attrs import field, fields, frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from .. import _validate
from ..errors import APIError, LoopsError
from .failures import names_pause

T = TypeVar("T")

SHORT_PAUSE_S: Final = 1.0
"""Seconds: shorter pauses than this, which the service does not document, grow up to it when they are repeated."""

SHORT_PAUSES: Final = 8
"""Number of the short pause from which on they last so long."""


@frozen(repr=False)
class RetryPolicy:
    """How often and how soon a failed request is sent again: exponential backoff with full jitter.

    Waiting for a pause that the service names (`Retry-After`, or `retry_after` in its body) uses up time, but no
    attempts.

    Attributes:
        attempts: Number of requests at most, the first one included, at least 1; 1 repeats nothing. Default 5.
        initial: Upper bound of the first pause, in seconds; default 0.5.
        factor: Growth of the upper bound from pause to pause, at least 1; default 2.
        maximum: Limit of the upper bound, in seconds; default 8.
        total: Seconds since the first failure after which nothing is sent again; default 120.
        retry_after_maximum: Longest pause that the service may name, in seconds; a longer one is cut to this. Default
            60.

    Raises:
        TypeError, ValueError: An argument is not what is said above.
    """

    attempts: int = field(default=5)
    initial: float = field(default=0.5)
    factor: float = field(default=2.0)
    maximum: float = field(default=8.0)
    total: float = field(default=120.0)
    retry_after_maximum: float = field(default=60.0)

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


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    should_retry: Callable[[BaseException], bool],
    pause_remaining: Callable[[], float],
) -> T:
    """Await `attempt()` until it succeeds, fails with an error that is not retried, or the policy is used up.

    Args:
        attempt: Sends the request once.
        policy: How often, how soon and for how long.
        should_retry: Whether the request is sent again after an error.
        pause_remaining: Returns the seconds for which the limiter would hold the request back at the moment. Where the
            service named a pause, the request queues up in the limiter at once, so that it can be sent by its urgency.

    Raises:
        Exception: The last error of `attempt()`, with a note of how often and how long it was tried.
    """
    try:
        return await attempt()
    except LoopsError as exc:
        if policy.attempts == 1 or not should_retry(exc):
            raise
        first = exc

    began = _loop_time()
    pending: list[LoopsError] = [first]
    sent = 1
    counted = 0

    async def attempt_or_first() -> T:
        # tenacity's first attempt is the one that was made without it.
        nonlocal sent
        if pending:
            raise pending.pop()
        sent += 1
        return await attempt()

    backoff = wait_random_exponential(multiplier=policy.initial, exp_base=policy.factor, max=policy.maximum)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if not (isinstance(error, APIError) and names_pause(error) and pause_remaining() > 0):
            return backoff(state)
        if (error.retry_after or 0.0) >= SHORT_PAUSE_S:
            return 0.0
        # Since it uses up no attempts, a pause that is next to nothing must not make a flood of requests.
        return min(SHORT_PAUSE_S, SHORT_PAUSE_S * 2.0 ** (state.attempt_number - SHORT_PAUSES))

    def stop(state: RetryCallState) -> bool:
        nonlocal counted
        error = state.outcome.exception() if state.outcome is not None else None
        counted += not (isinstance(error, LoopsError) and names_pause(error))
        spent = _loop_time() - began
        return counted >= policy.attempts or spent + max(state.upcoming_sleep, pause_remaining()) >= policy.total

    retrying = AsyncRetrying(
        retry=retry_if_exception(should_retry), wait=wait, stop=stop, sleep=asyncio.sleep, reraise=True
    )
    try:
        return await retrying(attempt_or_first)
    except LoopsError as exc:
        exc.add_note(f"after {sent} attempts in {_loop_time() - began:.1f} s")
        raise


def _loop_time() -> float:
    # Looked up each time: a test that freezes the clocks replaces the method in the middle of a request.
    return asyncio.get_running_loop().time()
