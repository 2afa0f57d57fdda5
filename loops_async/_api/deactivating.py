"""Releasing one sampler, whatever the service answers.

All that is wanted is an answer of 2xx that speaks of this sampler: it is shutting down, or was shut down before. What
is worth another attempt gets one. Any other answer is not the last word, since a sampler that is dead costs nothing,
whatever its deactivation is answered with, and a proxy may answer anything: one look at the sampler tells.

Where the time is limited, its end is kept for one attempt more that waits neither for the end of a pause nor for a
place among the requests in flight: a service that asks for a minute's pause, or does not answer creates, must not be
the reason why a sampler was never released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from attrs import evolve

from .._http.limiter import Priority
from .._http.requests import deactivation, sampler_request
from .._http.retry import RetryPolicy, may_be_repeated, with_retries
from .._http.transport import Transport
from ..errors import APIError, DecodeError, LoopsError, NotFoundError, ServerError
from ..models import TEARDOWN_DONE, TEARDOWN_IN_PROGRESS
from . import codec

RELEASED: Final = TEARDOWN_IN_PROGRESS | TEARDOWN_DONE
"""Statuses of samplers that there is nothing more to do about."""

LAST_PART: Final = 0.2
"""Part of a limited time that is kept for the last attempt."""

LAST_SECONDS: Final = 10.0
"""Seconds that it is given at most."""

SHORTEST_BACKOFF: Final = 0.01
"""Seconds: what is repeated until its time is up must not become a flood, whatever the client's policy is."""

_ENDLESS: Final = 2**62


class Deactivator:
    """Release samplers through one transport, before everything else that wants to be sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def release_within(
        self,
        sampler_id: str,
        seconds: float,
        *,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None],
    ) -> bool:
        """Deactivate a sampler, repeating that for so many *seconds*, however often the client's own policy would.

        Arguments, result and errors are those of `release()`.
        """
        last = min(LAST_PART * seconds, LAST_SECONDS)
        retry = self._transport.retry
        policy = evolve(
            retry,
            attempts=_ENDLESS,
            initial=max(retry.initial, SHORTEST_BACKOFF),
            maximum=max(retry.maximum, SHORTEST_BACKOFF),
            total=seconds - last,
        )
        try:
            async with asyncio.timeout(seconds - last):
                return await self.release(sampler_id, policy, is_new=is_new, troubled=troubled)
        except LoopsError as exc:
            if not _is_passing(exc):
                raise
        except TimeoutError:
            pass
        once = evolve(policy, attempts=1)
        return await self.release(sampler_id, once, is_new=is_new, troubled=troubled, priority=Priority.FINAL)

    async def release(
        self,
        sampler_id: str,
        policy: RetryPolicy,
        *,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None] = lambda _: None,
        priority: Priority = Priority.TEARDOWN,
    ) -> bool:
        """Deactivate a sampler, repeating that as *policy* says, until it is released for certain.

        Return False if the service does not know it, which means that it is gone, or another account's.

        Args:
            sampler_id: The sampler.
            policy: How often, how soon and for how long.
            is_new: Whether the sampler is so new that parts of the service may not know it yet, so that 404 is no
                answer.
            troubled: Called with the error of each attempt that fails.
            priority: How urgent it is.

        Raises:
            LoopsError: What the last attempt came to; the sampler is still billed, as far as is known.
        """
        request = deactivation(sampler_id)
        unknown = 0

        async def attempt() -> bool:
            nonlocal unknown
            try:
                codec.check_released(await self._transport.once(request, priority), str(request), sampler_id)
            except LoopsError as exc:
                troubled(exc)
                if isinstance(exc, DecodeError) or (isinstance(exc, APIError) and not _is_passing(exc)):
                    status = await self._status(sampler_id, priority)
                    if status in RELEASED:
                        return True
                    unknown += status is None and isinstance(exc, NotFoundError) and not is_new()
                    # One part of the service may be behind the others, so that once is not enough.
                    if unknown > 1:
                        return False
                raise
            return True

        return await with_retries(attempt, policy, _is_worth_another, self._transport.limiter.held)

    async def _status(self, sampler_id: str, priority: Priority) -> str | None:
        """Look a sampler up; return its status, None if there is none of that id, and nothing if the look fails."""
        request = sampler_request(sampler_id)
        try:
            body = await self._transport.once(request, priority)
            return codec.decode_sampler(body, str(request), sampler_id).status
        except NotFoundError:
            return None
        except LoopsError:
            return ""


def _is_worth_another(error: BaseException) -> bool:
    return _is_passing(error) or isinstance(error, NotFoundError)


def _is_passing(error: BaseException) -> bool:
    return may_be_repeated(error) or isinstance(error, (ServerError, DecodeError))
