"""Creates whose samplers always have an owner.

The API has no idempotency key, so a create is one POST whose fate must be known:

- It is sent again only if it cannot have been processed: no connection was made, or the answer was 429.
- Any other answer that is lost or failed leaves it open whether a sampler was made. That is told as
  `CreateOutcomeUnknown`, with the samplers that it could be; none of them is adopted, and nothing is repeated.
- A cancel while the POST is in flight cannot undo what the server does. So the POST is let finish, what it made is
  deactivated, and only then the cancellation goes on. Before the POST is sent, a cancel takes effect at once.

A launch of many follows each of its creates with a `Follower`, and settles those that were lost together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from .._aio import spawn_shielded, wait_through_cancellation
from .._http.error_bodies import proves_not_created
from .._http.limiter import Priority
from .._http.requests import Request
from .._http.retry import was_not_processed, with_retries
from .._http.transport import Response, Transport
from ..errors import APIError, CreateOutcomeUnknown, DecodeError, LoopsError, TeardownError, TransportError
from ..models import Sampler, SamplerSpec
from . import codec
from .deactivating import Deactivator
from .sampler_list import decode_readable_samplers
from .unknown_creates import CLOCK_SKEW, Follower, Timestamps, UnknownCreate, by_model, matched, shared

logger = logging.getLogger("loops_async")

SECOND_LOOK: Final = 1.0
"""Seconds after which an account that shows too few candidates is looked at once more, since lists can lag behind
creates; and so is one that could not be listed."""


SKEW_ERROR: Final = timedelta(seconds=2)
"""How far the service's clock may be from what its last create, or a `Date`, said of it, which is in whole seconds."""


class SamplerCreator:
    """All creates of one client: what is in flight, what they made, and what was lost."""

    def __init__(self, transport: Transport, list_request: Request, releases: Deactivator) -> None:
        self._transport = transport
        self._list_request = list_request
        self._releases = releases
        self._losses: list[UnknownCreate] = []
        self._owned: set[str] = set()
        self._known: dict[str, float] = {}
        self._emails: set[str] = set()
        self._skew: timedelta | None = None
        self._in_flight: dict[asyncio.Task[Response], str] = {}
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def create(self, request: Request, spec: SamplerSpec, follower: Follower | None = None) -> Sampler:
        """Send the create *request* for *spec* and return the sampler that it made.

        Raises:
            CreateOutcomeUnknown: A sampler may have been made, and its id is not known. With a *follower*, the
                candidates are still to be looked for, by `settle()`.
            DecodeError: A sampler was made, its `sampler_id` is known, and its description cannot be read.
            APIError, TransportError: No sampler was made.
        """

        async def attempt() -> Sampler:
            return await self._attempt(request, spec, follower)

        self._running += 1
        self._idle.clear()
        try:
            # A cancel that is already on its way comes here, before anything is sent.
            await asyncio.sleep(0)
            return await with_retries(attempt, self._transport.retry, was_not_processed, self._transport.limiter.held)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def know(self, *sampler_ids: str) -> None:
        """Note that these samplers exist by now: no create that begins later can have made them."""
        now = time.monotonic()
        for sampler_id in sampler_ids:
            self._known.setdefault(sampler_id, now)

    def own(self, *sampler_ids: str) -> None:
        """Note whose samplers these are: another create's, and so none that was lost can have made them."""
        self._owned.update(sampler_ids)

    async def list_readable(self) -> tuple[Sampler, ...]:
        """Read the account's samplers, but for those that cannot be read, and note that they exist by now."""
        body = await self._transport.read(self._list_request, Priority.TEARDOWN)
        listed = await decode_readable_samplers(body, str(self._list_request))
        self.know(*(sampler.id for sampler in listed))
        return listed

    async def drain(self) -> None:
        """Wait until no create is under way, not even the aftermath of a cancelled one."""
        await self._idle.wait()

    async def settle(
        self, losses: Sequence[UnknownCreate], *, adopt: bool = False
    ) -> tuple[Sampler | CreateOutcomeUnknown, ...]:
        """Find out what *losses* may have made; return for each of them what its caller is to be told, in order.

        That is an error with the candidates. To *adopt* means to return the sampler instead where the losses of a
        base model can be matched with the candidates one to one.
        """
        try:
            candidates, look_error = await self._looked_for(losses)
            if look_error is not None or _too_few(candidates, losses):
                await asyncio.sleep(SECOND_LOOK)
                second, second_error = await self._looked_for(losses)
                if second_error is None:
                    candidates, look_error = second, None
        except asyncio.CancelledError as exc:
            for loss in losses:
                logger.error("cancelled while looking for what a create has made: %s", loss.unknown)
            raise exc from losses[0].unknown
        adopted = self._adopted(losses, candidates) if adopt and look_error is None else {}
        told: dict[UnknownCreate, tuple[Sampler, ...]] = {}
        for model, group in by_model(losses).items():
            left = tuple(each for each in candidates if each.base_model == model and each.id not in self._owned)
            told.update(shared(group, left, self._known))
        return tuple(adopted.get(loss) or loss.told(told[loss], look_error) for loss in losses)

    def _fits(self, loss: UnknownCreate, sampler: Sampler) -> bool:
        return loss.may_have_made(sampler, self._known.get(sampler.id))

    def _adopted(self, losses: Sequence[UnknownCreate], candidates: Sequence[Sampler]) -> dict[UnknownCreate, Sampler]:
        """Give those of *candidates* that can be nobody else's to the *losses*."""
        adopted: dict[UnknownCreate, Sampler] = {}
        for model, group in by_model(losses).items():
            since = group[0].began.monotonic
            rivals = {
                each for each in self._losses if each.spec.base_model == model and each.ended.monotonic >= since
            } - set(group)
            if not rivals:
                # It is known better than in general how far the service's clock is from ours.
                skew = self._skew if self._skew is not None else self._transport.skew()
                earliest = group[0].began.utc - CLOCK_SKEW
                if skew is not None:
                    earliest = max(earliest, group[0].began.utc + skew - SKEW_ERROR)
                own = [each for each in candidates if each.base_model == model and each.created_at >= earliest]
                adopted |= matched(group, own, self._known) or {}
        self._losses = [loss for loss in self._losses if loss not in adopted]
        for sampler in adopted.values():
            self._note_owned(sampler)
        return adopted

    async def _attempt(self, request: Request, spec: SamplerSpec, follower: Follower | None) -> Sampler:
        await self._transport.admit(Priority.CREATE)
        if follower is not None:
            try:
                await follower.sending()
            except BaseException:
                self._transport.limiter.release(Priority.CREATE)
                raise
        began = _now()
        post = spawn_shielded(self._transport.create(request))
        self._in_flight[post] = spec.base_model
        post.add_done_callback(self._answered)
        cancelled = await wait_through_cancellation(post)
        if cancelled is None:
            try:
                return self._outcome(post, request, spec)
            except CreateOutcomeUnknown as exc:
                unknown = exc
            except (APIError, TransportError):
                if follower is not None:
                    follower.refused()
                raise
            # Outside of the except block: what is raised here has the request's failure as its cause, nothing else.
            loss = self._lost(unknown, began)
            if follower is not None:
                follower.lost(loss)
                raise unknown
            raise await self._told(loss)
        undo = spawn_shielded(self._undo(post, request, spec, began))
        await wait_through_cancellation(undo)
        left = undo.exception() or undo.result()
        if left is not None:
            reasons = "; ".join(map(str, left.exceptions)) if isinstance(left, TeardownError) else ""
            logger.error("a create was cancelled, and not all is well: %s %s", left, reasons)
        raise cancelled from left

    def _answered(self, post: asyncio.Task[Response]) -> None:
        del self._in_flight[post]
        self._transport.limiter.release(Priority.CREATE)

    def _outcome(self, post: asyncio.Task[Response], request: Request, spec: SamplerSpec) -> Sampler:
        """Return the sampler that *post* made, or raise what it came to instead."""
        error: Exception
        failure = None if post.cancelled() else post.exception()
        if post.cancelled() or not (failure is None or isinstance(failure, Exception)):
            # Nobody of ours cancels it; a second Ctrl-C can still break into the middle of it.
            error = TransportError("the request was broken off from outside", request.method, request.path)
        elif failure is not None:
            # What a session of the caller's raises by its traces or middlewares says nothing of the sampler.
            error = failure
            refused = isinstance(failure, APIError) and proves_not_created(failure.status)
            if refused or was_not_processed(failure):
                raise failure
        else:
            answer = post.result()
            try:
                sampler = codec.decode_sampler(answer.body, str(request))
            except DecodeError as exc:
                if exc.sampler_id is not None:
                    self._owned.add(exc.sampler_id)
                    raise
                error = answer.cut or exc
            else:
                self._note_owned(sampler)
                self._skew = sampler.created_at - datetime.now(UTC)
                return sampler
        unknown = CreateOutcomeUnknown(spec)
        unknown.__cause__ = error
        raise unknown

    def _note_owned(self, sampler: Sampler) -> None:
        self._owned.add(sampler.id)
        if sampler.user_email is not None:
            self._emails.add(sampler.user_email)

    def _lost(self, unknown: CreateOutcomeUnknown, began: Timestamps) -> UnknownCreate:
        loss = UnknownCreate(unknown, began, _now())
        self._losses.append(loss)
        return loss

    async def _told(self, loss: UnknownCreate) -> CreateOutcomeUnknown:
        (unknown,) = await self.settle([loss])
        assert isinstance(unknown, CreateOutcomeUnknown)  # noqa: S101 -- nothing is adopted unasked
        return unknown

    async def _looked_for(self, losses: Sequence[UnknownCreate]) -> tuple[tuple[Sampler, ...], Exception | None]:
        """Return the candidates for *losses*, or why they could not be looked for."""
        try:
            return await self._candidates(losses), None
        except Exception as exc:  # noqa: BLE001 -- nothing may hide that the outcome is unknown
            return (), exc

    async def _candidates(self, losses: Sequence[UnknownCreate]) -> tuple[Sampler, ...]:
        """Return the samplers that any of *losses* may have made, newest first."""
        groups = by_model(losses)
        matching = tuple(
            sampler
            for sampler in await self.list_readable()
            if (sampler.user_email is None or not self._emails or sampler.user_email in self._emails)
            and any(self._fits(loss, sampler) for loss in groups.get(sampler.base_model, ()))
        )
        # What is listed may be the work of another create that is still to be answered: then it is that one's. Those
        # that begin from here on cannot have made it.
        siblings = {post for post, model in self._in_flight.items() if model in groups}
        if siblings and any(sampler.id not in self._owned for sampler in matching):
            await asyncio.wait(siblings)
        return tuple(sampler for sampler in matching if sampler.id not in self._owned)

    async def _undo(
        self, post: asyncio.Task[Response], request: Request, spec: SamplerSpec, began: Timestamps
    ) -> LoopsError | None:
        """Deactivate what a cancelled create made; return what is left to tell, None if nothing is."""
        try:
            sampler_id = self._outcome(post, request, spec).id
        except CreateOutcomeUnknown as exc:
            return await self._told(self._lost(exc, began))
        except DecodeError as exc:
            if exc.sampler_id is None:
                raise
            sampler_id = exc.sampler_id
        except LoopsError:
            return None
        try:
            # What has just been made can be unknown to other parts of the service for a while: 404 proves nothing here.
            await self._releases.release(sampler_id, self._transport.retry, is_new=lambda: True)
        except Exception as exc:  # noqa: BLE001 -- whatever went wrong, the id must be told
            return TeardownError("the sampler could not be released and is still billed", [exc], (sampler_id,))
        return None


def _now() -> Timestamps:
    return Timestamps(datetime.now(UTC), time.monotonic())


def _too_few(candidates: Sequence[Sampler], losses: Sequence[UnknownCreate]) -> bool:
    listed = Counter(sampler.base_model for sampler in candidates)
    return any(listed[model] < len(group) for model, group in by_model(losses).items())
