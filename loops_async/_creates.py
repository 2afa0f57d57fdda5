"""Creates whose samplers always have an owner.

The API has no idempotency key, so a create is one POST whose fate must be known:

- It is sent again only if it cannot have been processed: no connection was made, or the answer was 429.
- Any other answer that is lost or failed leaves it open whether a sampler was made. That is told as
  `CreateOutcomeUnknown`, with the samplers that it could be; none of them is adopted, and nothing is repeated.
- A cancel while the POST is in flight cannot undo what the server does. So the POST is let finish, what it made is
  deactivated, and only then the cancellation goes on. Before the POST is sent, a cancel takes effect at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

from . import _checks, _codec
from ._governor import Priority
from ._protocol import Request, path_of, surely_refused
from ._retry import may_be_repeated, was_not_processed, with_retries
from ._shield import outlast, protected
from ._transport import Answer, Transport
from .errors import (
    APIError,
    CreateOutcomeUnknown,
    DecodeError,
    LoopsError,
    NotFoundError,
    TeardownError,
    TransportError,
)
from .models import DeploymentStatus, Sampler, SamplerSpec

logger = logging.getLogger("loops_async")

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the service's clock may be from ours when candidates are matched by their time of creation."""

SECOND_LOOK: Final = 1.0
"""Seconds after which an account that shows no candidate is looked at once more: lists can lag behind creates."""


@frozen
class _Moment:
    """The moment before a POST, on two clocks."""

    utc: datetime
    monotonic: float


class Creates:
    """All creates of one client: what is in flight, and what they made."""

    def __init__(self, transport: Transport, list_request: Request) -> None:
        self._transport = transport
        self._list_request = list_request
        self._owned: set[str] = set()
        self._known: dict[str, float] = {}
        self._emails: set[str] = set()
        self._in_flight: dict[asyncio.Task[Answer], str] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def create(self, request: Request, spec: SamplerSpec) -> Sampler:
        """Send the create *request* for *spec* and return the sampler that it made.

        Raises:
            CreateOutcomeUnknown: A sampler may have been made, and its id is not known.
            DecodeError: A sampler was made, its `sampler_id` is known, and its description cannot be read.
            APIError, TransportError: No sampler was made.
        """

        async def attempt() -> Sampler:
            return await self._attempt(request, spec)

        self._running += 1
        self._idle.clear()
        try:
            # A cancel that is already on its way comes here, before anything is sent.
            await asyncio.sleep(0)
            return await with_retries(attempt, self._transport.retry, was_not_processed, self._transport.governor.held)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def know(self, *sampler_ids: str) -> None:
        """Note that these samplers exist by now: no create that begins later can have made them."""
        now = time.monotonic()
        for sampler_id in sampler_ids:
            self._known.setdefault(sampler_id, now)

    async def drain(self) -> None:
        """Wait until no create is under way, not even the aftermath of a cancelled one."""
        await self._idle.wait()

    async def _attempt(self, request: Request, spec: SamplerSpec) -> Sampler:
        await self._transport.admit(Priority.CREATE)
        began = _Moment(datetime.now(UTC), time.monotonic())
        post = protected(self._transport.create(request))
        self._in_flight[post] = spec.base_model
        post.add_done_callback(self._answered)
        cancelled = await outlast(post)
        if cancelled is None:
            try:
                return self._outcome(post, request, spec)
            except CreateOutcomeUnknown as exc:
                unknown = exc
            # Outside of the except block: what is raised here has the request's failure as its cause, nothing else.
            raise await self._with_candidates(unknown, began)
        undo = protected(self._undo(post, request, spec, began))
        await outlast(undo)
        left = undo.exception() or undo.result()
        if left is not None:
            reasons = "; ".join(map(str, left.exceptions)) if isinstance(left, TeardownError) else ""
            logger.error("a create was cancelled, and not all is well: %s %s", left, reasons)
        raise cancelled from left

    def _answered(self, post: asyncio.Task[Answer]) -> None:
        del self._in_flight[post]
        self._transport.governor.release(Priority.CREATE)

    def _outcome(self, post: asyncio.Task[Answer], request: Request, spec: SamplerSpec) -> Sampler:
        """Return the sampler that *post* made, or raise what it came to instead."""
        error: Exception
        failure = None if post.cancelled() else post.exception()
        if post.cancelled() or (failure is not None and not isinstance(failure, Exception)):
            # Nobody of ours cancels it; a second Ctrl-C can still break into the middle of it.
            error = TransportError("the request was broken off from outside", request.method, request.path)
        elif isinstance(failure, (TransportError, APIError)):
            error = failure
            refused = isinstance(failure, APIError) and surely_refused(failure.status)
            if refused or was_not_processed(failure):
                raise failure
        else:
            answer = post.result()
            try:
                sampler = _codec.decode_sampler(answer.body, str(request))
            except DecodeError as exc:
                if exc.sampler_id is not None:
                    self._owned.add(exc.sampler_id)
                    raise
                error = answer.cut or exc
            else:
                self._owned.add(sampler.id)
                if sampler.user_email is not None:
                    self._emails.add(sampler.user_email)
                return sampler
        unknown = CreateOutcomeUnknown(spec)
        unknown.__cause__ = error
        raise unknown

    async def _with_candidates(self, unknown: CreateOutcomeUnknown, began: _Moment) -> CreateOutcomeUnknown:
        """Return *unknown* with the samplers that the create may have made."""
        candidates: tuple[Sampler, ...] = ()
        look_error: Exception | None = None
        try:
            candidates = await self._candidates(unknown.spec.base_model, began)
            if not candidates:
                await asyncio.sleep(SECOND_LOOK)
                candidates = await self._candidates(unknown.spec.base_model, began)
        except Exception as exc:  # noqa: BLE001 -- nothing may hide that the outcome is unknown
            look_error = exc
        except asyncio.CancelledError as exc:
            logger.error("cancelled while looking for what a create has made: %s", unknown)
            raise exc from unknown
        found = CreateOutcomeUnknown(unknown.spec, candidates, look_error)
        found.__cause__ = unknown.__cause__
        return found

    async def _candidates(self, base_model: str, began: _Moment) -> tuple[Sampler, ...]:
        siblings = {post for post, model in self._in_flight.items() if model == base_model}
        while True:
            body = await self._transport.read(self._list_request, Priority.TEARDOWN)
            listed = _codec.decode_readable_samplers(body, str(self._list_request))
            until = datetime.now(UTC) + CLOCK_SKEW
            # Whoever is shut down is nobody's bill, and was not made a moment ago.
            matching = tuple(
                sampler
                for sampler in listed
                if sampler.base_model == base_model
                and sampler.status not in {DeploymentStatus.DEACTIVATING, DeploymentStatus.INACTIVE}
                and began.utc - CLOCK_SKEW <= sampler.created_at <= until
                and self._known.get(sampler.id, began.monotonic) >= began.monotonic
                and (sampler.user_email is None or not self._emails or sampler.user_email in self._emails)
            )
            # What is listed may be the work of another create that is still to be answered: then it is that one's.
            self.know(*(sampler.id for sampler in listed))
            siblings &= self._in_flight.keys()
            unclaimed = tuple(sampler for sampler in matching if sampler.id not in self._owned)
            if not siblings or not unclaimed:
                return unclaimed
            await asyncio.wait(siblings)

    async def _undo(
        self, post: asyncio.Task[Answer], request: Request, spec: SamplerSpec, began: _Moment
    ) -> LoopsError | None:
        """Deactivate what a cancelled create made; return what is left to tell, None if nothing is."""
        try:
            sampler_id = self._outcome(post, request, spec).id
        except CreateOutcomeUnknown as exc:
            return await self._with_candidates(exc, began)
        except DecodeError as exc:
            if exc.sampler_id is None:
                raise
            sampler_id = exc.sampler_id
        except (LoopsError, RuntimeError):
            return None
        try:
            release = deactivation(sampler_id)

            async def attempt() -> bytes:
                return await self._transport.once(release, Priority.TEARDOWN)

            # What has just been made can be unknown to other parts of the service for a while: 404 proves nothing here.
            await with_retries(
                attempt,
                self._transport.retry,
                lambda error: may_be_repeated(error) or isinstance(error, NotFoundError),
                self._transport.governor.held,
            )
        except Exception as exc:  # noqa: BLE001 -- whatever went wrong, the id must be told
            return TeardownError("the sampler could not be released and is still billed", [exc], (sampler_id,))
        return None


def deactivation(sampler_id: str) -> Request:
    """Build `POST /v1/loops/samplers/{id}/deactivate`."""
    sampler_id = _checks.segment("sampler id", sampler_id)
    return Request("POST", path_of("v1", "loops", "samplers", sampler_id, "deactivate"))
