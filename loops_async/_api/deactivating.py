"""The one careful way to deactivate a sampler.

`samplers.deactivate()`, cancelled creates, launches, `reclaim()` and the command line all come here.

- **Success** is a 2xx whose body names the sampler. Any other response is not the last word: a proxy may answer
  anything with 200, and a sampler that has failed costs nothing, whatever its deactivation is answered with. One GET
  tells: a sampler that is gone, or is shutting down, is done.
- **404** for a sampler that this client made a moment ago proves nothing, since parts of the service may not know it
  yet: it is sent again while the sampler is fresh.
- **A cancellation does not cut it off.** The caller goes on being cancelled once the deactivation has come to an end.
  The client waits for what is under way when it is closed, so that a `gather()` which raises early leaves no sampler
  billed.

Where the time is limited, its end is kept for one attempt more that waits neither for a pause nor for the slots of
others: a service that asks for a minute's pause, or does not answer creates, must not be the reason why a sampler stays
billed.
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
from .registry import SamplerRegistry, loop_time

logger = logging.getLogger("loops_async")

DEACTIVATED: Final = TEARDOWN_IN_PROGRESS | TEARDOWN_DONE
"""Statuses of samplers that nothing more has to be done about."""

FINAL_ATTEMPT_SHARE: Final = 0.2
"""Part of a limited time that is kept for the final attempt."""

FINAL_ATTEMPT_MOST_S: Final = 10.0
"""Seconds that are kept for the final attempt at most."""

LEAST_BACKOFF_S: Final = 0.01
"""Seconds: what is sent again until its time is over must not become a flood, whatever the client's policy is."""

UNLIMITED_ATTEMPTS: Final = 2**62

GONE_AFTER_S: Final = 1.0
"""Seconds after which a sampler that is still missing counts as gone: one part of the service may be behind the others,
or restarted."""


class Deactivator:
    """Deactivate samplers through one transport, before everything else that wants to be sent."""

    def __init__(self, transport: Transport, registry: SamplerRegistry) -> None:
        self._transport = transport
        self._registry = registry
        self._running: set[asyncio.Task[None]] = set()

    async def deactivate(self, sampler_id: str, *, least_attempts: int = 1) -> None:
        """Deactivate a sampler as often as the client's policy says, or *least_attempts* times if that is more.

        A cancellation comes after that.

        Raises:
            NotFoundError: The service does not know it.
            LoopsError: What the last attempt came to; the sampler is still billed, as far as is known.
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
        """Deactivate a sampler, again and again for *seconds*, however often the client's policy would.

        Return False if the service does not know it, which means that it is gone, or another account's.

        Args:
            sampler_id: The sampler.
            seconds: How long this may take.
            on_error: Called with the error of each attempt that fails.

        Raises:
            LoopsError: What the last attempt came to; the sampler is still billed, as far as is known.
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
        """Deactivate a sampler, again as *policy* says; return False if the service does not know it.

        *is_own* is whether it certainly exists, since it is a launch's own: then a 404 has to be repeated.
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
                        return True
                    now = loop_time()
                    if (
                        status is not None
                        or classify(exc) is not Failure.MISSING
                        or self._registry.is_fresh(sampler_id)
                    ):
                        missing_since = None
                    elif missing_since is None:
                        missing_since = now
                    elif now - missing_since >= GONE_AFTER_S:
                        return False
                raise
            logger.info("sampler %s is deactivated", sampler_id)
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
            return is_own or self._registry.is_fresh(sampler_id)
        return action_for(error, DEACTIVATE) in {Action.RETRY, Action.LOOK_OR_RETRY}
