"""The one careful way to deactivate a sampler.

`samplers.deactivate()`, cancelled creates, launches, `reclaim()` and the command line all come here.

- **Success** is a 2xx whose body names the sampler. After any other response one GET decides, since a proxy may answer
  anything with 200, and since a sampler that has failed costs nothing, however its deactivation was answered: a
  sampler that is gone, or is shutting down, is done.
- **404** for a sampler that this client created a moment ago proves nothing, since parts of the service may not know it
  yet: the request is sent again while the sampler is fresh.
- **A cancellation does not stop it.** The caller's cancellation is raised once the deactivation has ended. When the
  client is closed, it waits for the deactivations that are under way, so that a `gather()` which raises early leaves no
  sampler billed.

Where the time is limited, the last part of it is reserved for a final attempt that waits neither for a pause nor for a
slot. Otherwise a sampler could stay billed because the service asked for a long pause, or does not answer creates.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from attrs import evolve

from .._aio import spawn_shielded, wait_through_cancellation
from .._http.failures import DEACTIVATE, Action, Failure, action_for, classify
from .._http.limiter import Priority
from .._http.requests import Request, deactivation, sampler_request
from .._http.retry import RetryPolicy, with_retries
from .._http.transport import Transport
from ..errors import LoopsError
from ..models import TEARDOWN_DONE, TEARDOWN_IN_PROGRESS
from . import codec
from .known_samplers import KnownSamplers, loop_time

logger = logging.getLogger("loops_async")

DEACTIVATED: Final = TEARDOWN_IN_PROGRESS | TEARDOWN_DONE
"""Statuses of samplers that need no deactivation any more."""

FINAL_ATTEMPT_SHARE: Final = 0.2
"""Part of a limited time that is reserved for the final attempt."""

FINAL_ATTEMPT_MOST_S: Final = 10.0
"""Most seconds that are reserved for the final attempt."""

LEAST_BACKOFF_S: Final = 0.01
"""Least seconds between two attempts, whatever the client's policy is: a request without a limit of attempts must not
flood the service."""

UNLIMITED_ATTEMPTS: Final = 2**62

GONE_AFTER_S: Final = 1.0
"""Seconds for which a sampler must stay missing until it counts as gone: one part of the service may be behind the
others, or have restarted."""


class Deactivator:
    """Deactivates samplers through one transport; its requests get their slots before all others."""

    def __init__(self, transport: Transport, known: KnownSamplers) -> None:
        self._transport = transport
        self._known = known
        self._running: set[asyncio.Task[None]] = set()

    async def deactivate(self, sampler_id: str, *, least_attempts: int = 1) -> None:
        """Deactivate a sampler, in as many attempts as the client's policy allows, but at least *least_attempts*.

        A cancellation is raised after that.

        Raises:
            NotFoundError: The service does not know it.
            LoopsError: The error of the last attempt; the sampler is still billed, as far as is known.
        """
        task = spawn_shielded(self._deactivate(sampler_id, least_attempts))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        cancelled = await wait_through_cancellation(task)
        if cancelled is None:
            task.result()
            return
        error = task.exception()
        if error is not None and classify(error) is not Failure.MISSING:
            logger.error("sampler %s is still billed, as far as is known: %s", sampler_id, error)
        raise cancelled from error

    async def deactivate_within(
        self, sampler_id: str, seconds: float, *, on_error: Callable[[LoopsError], None] = lambda _: None
    ) -> bool:
        """Deactivate a sampler; repeat that until *seconds* are over, without a limit of attempts.

        Return False if the service does not know the sampler: it is gone, or belongs to another account.

        Args:
            sampler_id: The sampler.
            seconds: How long this may take.
            on_error: Called with the error of each attempt that fails.

        Raises:
            LoopsError: The error of the last attempt; the sampler is still billed, as far as is known.
        """
        kept = min(FINAL_ATTEMPT_SHARE * seconds, FINAL_ATTEMPT_MOST_S)
        retry = self._transport.retry
        policy = evolve(
            retry,
            attempts=UNLIMITED_ATTEMPTS,
            initial=max(retry.initial, LEAST_BACKOFF_S),
            maximum=max(retry.maximum, LEAST_BACKOFF_S),
            total=seconds - kept,
        )
        try:
            async with asyncio.timeout(seconds - kept):
                return await self._until_certain(sampler_id, policy, on_error=on_error)
        except LoopsError as exc:
            if not self._should_retry(sampler_id, exc, is_own=True):
                raise
        except TimeoutError:
            pass
        once = evolve(policy, attempts=1)
        return await self._until_certain(sampler_id, once, on_error=on_error, priority=Priority.FINAL_DEACTIVATION)

    async def wait_idle(self) -> None:
        """Wait until no deactivation of `deactivate()` is under way."""
        while self._running:
            await asyncio.wait(self._running)

    async def _deactivate(self, sampler_id: str, least_attempts: int) -> None:
        errors: list[LoopsError] = []
        retry = self._transport.retry
        policy = evolve(retry, attempts=max(retry.attempts, least_attempts))
        if not await self._until_certain(sampler_id, policy, on_error=errors.append, is_own=False):
            raise errors[-1]

    async def _until_certain(
        self,
        sampler_id: str,
        policy: RetryPolicy,
        *,
        on_error: Callable[[LoopsError], None],
        priority: Priority = Priority.DEACTIVATION,
        is_own: bool = True,
    ) -> bool:
        """Deactivate a sampler, with the retries of *policy*; return False if the service does not know it.

        *is_own* is whether the sampler certainly existed, since a launch made it: then a 404 is retried.
        """
        request = deactivation(sampler_id)
        missing_since: float | None = None

        async def attempt() -> bool:
            nonlocal missing_since
            try:
                codec.check_deactivated(await self._transport.send(request, priority), str(request), sampler_id)
            except LoopsError as exc:
                on_error(exc)
                if action_for(exc, DEACTIVATE) in {Action.LOOK_OR_RAISE, Action.LOOK_OR_RETRY}:
                    status = await self._look(sampler_id, priority)
                    if status in DEACTIVATED:
                        _log_deactivated(sampler_id)
                        return True
                    now = loop_time()
                    if status is not None or classify(exc) is not Failure.MISSING or self._known.is_fresh(sampler_id):
                        missing_since = None
                    elif missing_since is None:
                        missing_since = now
                    elif now - missing_since >= GONE_AFTER_S:
                        return False
                raise
            _log_deactivated(sampler_id)
            return True

        return await with_retries(
            attempt,
            policy,
            should_retry=lambda error: self._should_retry(sampler_id, error, is_own=is_own),
            pause_remaining=lambda: self._transport.pause_remaining(request),
        )

    async def _look(self, sampler_id: str, priority: Priority) -> str | None:
        """Return the status of a sampler; None if the service does not know it, and "" if the GET fails."""
        request: Request = sampler_request(sampler_id)
        try:
            body = await self._transport.send(request, priority)
            return codec.decode_sampler(body, str(request), sampler_id).status
        except LoopsError as exc:
            return None if classify(exc) is Failure.MISSING else ""

    def _should_retry(self, sampler_id: str, error: BaseException, *, is_own: bool) -> bool:
        if classify(error) is Failure.MISSING:
            return is_own or self._known.is_fresh(sampler_id)
        return action_for(error, DEACTIVATE) in {Action.RETRY, Action.LOOK_OR_RETRY}


def _log_deactivated(sampler_id: str) -> None:
    logger.info("sampler %s is deactivated", sampler_id)
