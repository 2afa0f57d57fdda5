"""Releasing one sampler, whatever the service answers.

An answer of 2xx is all that is wanted: the sampler is shutting down, or was shut down before. What is worth another
attempt gets one. Any other refusal is not the last word, since a sampler that is dead costs nothing, whatever its
deactivation is answered with: one look at the sampler tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import _codec
from ._governor import Priority
from ._protocol import deactivation, sampler_request
from ._retry import RetryPolicy, may_be_repeated, with_retries
from ._transport import Transport
from .errors import APIError, LoopsError, NotFoundError, ServerError
from .models import DeploymentStatus

RELEASED: Final = frozenset(
    {
        DeploymentStatus.DEACTIVATING,
        DeploymentStatus.INACTIVE,
        DeploymentStatus.FAILED,
        DeploymentStatus.BUILD_FAILED,
        DeploymentStatus.DEPLOY_FAILED,
        DeploymentStatus.BUILD_STOPPED,
    }
)
"""Statuses of samplers that there is nothing more to do about."""


class Releases:
    """Release samplers through one transport, before everything else that wants to be sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def release(
        self,
        sampler_id: str,
        policy: RetryPolicy,
        *,
        is_new: Callable[[], bool],
        troubled: Callable[[LoopsError], None] = lambda _: None,
    ) -> bool:
        """Deactivate a sampler, repeating that as *policy* says, until it is released for certain.

        Return False if the service does not know it, which means that it is gone, or another account's.

        Args:
            sampler_id: The sampler.
            policy: How often, how soon and for how long.
            is_new: Whether the sampler is so new that parts of the service may not know it yet, so that 404 is no
                answer.
            troubled: Called with the error of each attempt that fails.

        Raises:
            LoopsError: What the last attempt came to; the sampler is still billed, as far as is known.
        """
        request = deactivation(sampler_id)

        async def attempt() -> bool:
            try:
                await self._transport.once(request, Priority.TEARDOWN)
            except LoopsError as exc:
                troubled(exc)
                if isinstance(exc, APIError) and not _is_passing(exc):
                    status = await self._status(sampler_id)
                    if status in RELEASED:
                        return True
                    if status is None and isinstance(exc, NotFoundError) and not is_new():
                        return False
                raise
            return True

        return await with_retries(
            attempt,
            policy,
            lambda error: _is_passing(error) or isinstance(error, NotFoundError),
            self._transport.governor.held,
        )

    async def _status(self, sampler_id: str) -> str | None:
        """Look a sampler up; return its status, None if there is none of that id, and nothing if the look fails."""
        request = sampler_request(sampler_id)
        try:
            body = await self._transport.once(request, Priority.TEARDOWN)
            return _codec.decode_sampler(body, str(request), sampler_id).status
        except NotFoundError:
            return None
        except LoopsError:
            return ""


def _is_passing(error: BaseException) -> bool:
    return may_be_repeated(error) or isinstance(error, ServerError)
