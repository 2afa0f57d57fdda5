"""Creates that never leak: the life of a create.

The API has no idempotency key, and a sampler carries no label. So the outcome of a create is known from its one POST,
or is reported as unknown:

```text
state       what happens                                              goes on to
waiting     for a slot; a cancellation takes effect at once           sent
sent        the POST is on its way, on a connection of its own        created, not created, unknown
created     2xx whose body names a sampler, whatever else is wrong    (the caller owns it)
not created no connection, or 429                                     waiting: it is sent again
            a clear no, such as 400 or 403                            (the caller gets the error)
unknown     cut, timed out, 5xx, a proxy's page                       (never sent again)
```

After *unknown*, the account's samplers are listed, and those that the create may have made are reported as its
candidates. They are left alone, since they may belong to another user.

**A cancellation** while the POST is on its way cannot undo what the server does. So the POST is a task that the
cancellation does not reach: the caller waits for it, deactivates what it has made, and only then raises the
cancellation. For example: a training loop is cancelled 0.1 s after 50 creates were sent. The responses arrive within
the next seconds, 50 samplers are deactivated, and `CancelledError` goes on. Each create waits for its own request and
for the deactivation of its own sampler, not for other creates.

**The same for launches.** `launch()` passes a `CreateObserver` with each create, which writes the journal, and gets its
`CreateOutcome` as a value.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from attrs import frozen

from .._aio import spawn_shielded, wait_through_cancellation
from .._http.failures import CREATE, Action, action_for, classify
from .._http.limiter import Priority, Slot
from .._http.requests import Request
from .._http.retry import with_retries
from .._http.transport import Response, Transport
from ..errors import CreateOutcomeUnknown, DecodeError, LoopsError, TeardownError, TransportError
from ..models import Sampler, SamplerSpec
from . import codec, sampler_list
from .deactivating import Deactivator
from .known_samplers import KnownSamplers
from .unknown_creates import Moment, UnknownCreate, candidates_for_each, shows_too_few

logger = logging.getLogger("loops_async")

RELIST_DELAY_S: Final = 1.0
"""Seconds until the samplers are listed again, after a list that failed or that shows too few candidates: lists can lag
behind creates."""

SIBLINGS_WAIT_S: Final = 30.0
"""Most seconds to wait for the other creates in flight: a listed sampler may be theirs."""

ROLLBACK_ATTEMPTS: Final = 5
"""Least number of attempts to deactivate the sampler of a cancelled create, even if the client retries nothing else:
nothing later would deactivate it."""

QUICK_LIST_S: Final = 5.0
"""Seconds that the list after a cancelled create may take."""


@frozen
class CreateOutcome:
    """The outcome of a create: a sampler whose id is known, or an unknown create."""

    sampler_id: str | None = None
    """Id of the sampler; None for an unknown create."""
    sampler: Sampler | None = None
    """The sampler; None for an unknown create, and if only the id can be read."""
    error: DecodeError | None = None
    """Why the sampler cannot be read; None if it was."""
    unknown: UnknownCreate | None = None
    """The unknown create; None if the id of the sampler is known."""


class CreateObserver(Protocol):
    """Receives the events of one create."""

    async def before_send(self) -> None:
        """Called right before each POST. Raising here prevents it."""
        ...

    def on_rejected(self) -> None:
        """Called when a POST has certainly made no sampler."""
        ...

    def may_send_again(self) -> bool:
        """Return True if the create may be sent again after a POST that has made no sampler."""
        ...


class SamplerCreator:
    """All creates of one client."""

    def __init__(
        self, transport: Transport, list_request: Request, known: KnownSamplers, deactivator: Deactivator
    ) -> None:
        self._transport = transport
        self._list_request = list_request
        self._known = known
        self._deactivator = deactivator
        self._emails: set[str] = set()
        self._in_flight: dict[asyncio.Future[None], str] = {}
        self._unresolved: list[tuple[UnknownCreate, asyncio.Future[CreateOutcomeUnknown]]] = []
        self._resolver: asyncio.Task[None] | None = None
        self._resolvers: set[asyncio.Task[None]] = set()
        self._searches = 0
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def create(self, request: Request, spec: SamplerSpec) -> Sampler:
        """Send the create *request* for *spec*; return the sampler that it made.

        Raises:
            CreateOutcomeUnknown: A sampler may have been made, and its id is not known.
            DecodeError: A sampler was made, its `sampler_id` is known, and its description cannot be read.
            APIError, TransportError: No sampler was made.
        """
        outcome = await self.send(request, spec)
        if outcome.sampler is not None:
            return outcome.sampler
        if outcome.unknown is not None:
            raise await self.resolve(outcome.unknown)
        assert outcome.error is not None  # noqa: S101 -- there is no fourth outcome
        raise outcome.error

    async def send(self, request: Request, spec: SamplerSpec, observer: CreateObserver | None = None) -> CreateOutcome:
        """Send the create *request* for *spec* until it has an outcome; return that.

        Raises:
            APIError, TransportError: No sampler was made.
        """

        async def attempt() -> CreateOutcome:
            return await self._attempt(request, spec, observer)

        def should_retry(error: BaseException) -> bool:
            return action_for(error, CREATE) is Action.RETRY and (observer is None or observer.may_send_again())

        with self._counted():
            # Deliver a pending cancellation before anything is sent.
            await asyncio.sleep(0)
            return await with_retries(
                attempt,
                self._transport.retry,
                should_retry=should_retry,
                pause_remaining=lambda: self._transport.pause_remaining(request),
            )

    async def resolve(self, create: UnknownCreate) -> CreateOutcomeUnknown:
        """Search for the sampler that an unknown create may have made; return the error that names the candidates.

        Creates that become unknown at about the same time share the lists. If the caller is cancelled, the error
        without candidates is logged.
        """
        found: asyncio.Future[CreateOutcomeUnknown] = asyncio.get_running_loop().create_future()
        self._unresolved.append((create, found))
        if self._resolver is None:
            self._resolver = spawn_shielded(self._resolve_all())
            self._resolvers.add(self._resolver)
            self._resolver.add_done_callback(self._resolvers.discard)
        self._searches += 1
        try:
            return await found
        except asyncio.CancelledError as exc:
            if self._searches == 1 and self._resolver is not None:
                # No other caller waits for the lists, and the client must not wait for them when it is closed.
                self._resolver.cancel()
                self._resolver = None
                self._unresolved.clear()
            error = create.error()
            logger.error("cancelled while searching for the sampler of a create: %s", error)
            raise exc from error
        finally:
            self._searches -= 1

    async def list_readable(self) -> tuple[Sampler, ...]:
        """List the account's samplers, except for those that cannot be read."""
        body = await self._transport.send_with_retries(self._list_request, Priority.DEACTIVATION)
        return await self._read_list(body)

    async def wait_idle(self) -> None:
        """Wait until no create, and no rollback of a cancelled one, is under way."""
        await self._idle.wait()
        while self._resolvers:
            await asyncio.wait(self._resolvers)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a create as running."""
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _attempt(self, request: Request, spec: SamplerSpec, observer: CreateObserver | None) -> CreateOutcome:
        slot = await self._transport.create_slot(request)
        try:
            if observer is not None:
                await observer.before_send()
        except BaseException:
            slot.release()
            raise
        began = Moment()
        post = spawn_shielded(self._post(request, slot))
        # It is in flight until its outcome is recorded, a little later than its response arrives.
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight[recorded] = spec.base_model
        try:
            cancelled = await wait_through_cancellation(post)
            if cancelled is None:
                try:
                    return self._outcome(post, request, spec, began)
                except LoopsError:
                    if observer is not None:
                        observer.on_rejected()
                    raise
            await self._take_back(post, request, spec, began, cancelled)
        finally:
            del self._in_flight[recorded]
            recorded.set_result(None)
        raise cancelled

    async def _take_back(
        self,
        post: asyncio.Task[Response],
        request: Request,
        spec: SamplerSpec,
        began: Moment,
        cancelled: asyncio.CancelledError,
    ) -> None:
        """Roll a cancelled create back; if a sampler may still be billed, log that, and make it *cancelled*'s cause."""
        rollback = spawn_shielded(self._roll_back(post, request, spec, began))
        await wait_through_cancellation(rollback)
        left = rollback.exception() or rollback.result()
        if left is not None:
            reasons = "; ".join(map(str, left.exceptions)) if isinstance(left, TeardownError) else ""
            logger.error("a create was cancelled, and may have left a sampler: %s %s", left, reasons)
        cancelled.__cause__ = left

    async def _post(self, request: Request, slot: Slot) -> Response:
        try:
            return await self._transport.send_create(request)
        finally:
            slot.release()

    def _outcome(
        self, post: asyncio.Task[Response], request: Request, spec: SamplerSpec, began: Moment
    ) -> CreateOutcome:
        """Return the outcome of *post*; raise its error if it has certainly made no sampler."""
        cause: BaseException | None
        failure = None if post.cancelled() else post.exception()
        if post.cancelled() or not (failure is None or isinstance(failure, Exception)):
            # This library never cancels the task, but a KeyboardInterrupt can interrupt it.
            cause = TransportError("the request was broken off from outside", request.method, request.path)
        elif failure is not None:
            # An exception from the traces or middlewares of a caller's session says nothing about the sampler.
            if classify(failure) is not None and action_for(failure, CREATE) is not Action.UNKNOWN:
                raise failure
            cause = failure
        else:
            response = post.result()
            try:
                sampler = codec.decode_sampler(response.body, str(request))
            except DecodeError as exc:
                if exc.sampler_id is not None:
                    self._known.mark_made(exc.sampler_id)
                    logger.info("sampler %s of %s is created", exc.sampler_id, spec.base_model)
                    return CreateOutcome(exc.sampler_id, None, exc)
                cause = response.cut_by or exc
            else:
                self._known.mark_made(sampler.id)
                if sampler.user_email is not None:
                    self._emails.add(sampler.user_email)
                logger.info("sampler %s of %s is created", sampler.id, spec.base_model)
                return CreateOutcome(sampler.id, sampler)
        return CreateOutcome(unknown=UnknownCreate(spec, cause, began, Moment()))

    async def _roll_back(
        self, post: asyncio.Task[Response], request: Request, spec: SamplerSpec, began: Moment
    ) -> LoopsError | None:
        """Deactivate the sampler of a cancelled create; return an error if one may still be billed, else None."""
        try:
            outcome = self._outcome(post, request, spec, began)
        except LoopsError:
            return None
        if (unknown := outcome.unknown) is not None:
            try:
                # A final poll waits for no pause; the time for it includes everything.
                async with asyncio.timeout(QUICK_LIST_S):
                    body = await self._transport.send(self._list_request, Priority.FINAL_POLL)
                    listed = await self._read_list(body)
            except Exception as exc:  # noqa: BLE001 -- whatever it is, the outcome stays unknown, and is reported
                return unknown.error(look_error=exc)
            return unknown.error(self._candidates([unknown], listed)[unknown])
        sampler_id = outcome.sampler_id or ""
        try:
            await self._deactivator.deactivate(sampler_id, least_attempts=ROLLBACK_ATTEMPTS)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the id is reported
            words = "the sampler of a cancelled create could not be deactivated and is still billed"
            return TeardownError(words, [exc], (sampler_id,))
        return None

    async def _resolve_all(self) -> None:
        try:
            while self._unresolved:
                # Creates in flight may become unknown, too, and then share the list.
                await self._siblings_answered({create.spec.base_model for create, _ in self._unresolved})
                batch, self._unresolved = self._unresolved, []
                creates = [create for create, _ in batch]
                try:
                    candidates, look_error = await self._look_for(creates)
                except BaseException:
                    self._unresolved = [*batch, *self._unresolved]
                    raise
                for create, found in batch:
                    if not found.done():
                        found.set_result(create.error(candidates.get(create, ()), look_error))
        finally:
            if self._resolver is asyncio.current_task():
                self._resolver = None
                self._break_off()

    def _break_off(self) -> None:
        """Answer the callers whose search has not ended, since a KeyboardInterrupt has interrupted it."""
        for create, found in self._unresolved:
            if not found.done():
                found.set_result(create.error(look_error=TransportError("the search was broken off")))
        self._unresolved.clear()

    async def _look_for(
        self, creates: Sequence[UnknownCreate]
    ) -> tuple[dict[UnknownCreate, tuple[Sampler, ...]], Exception | None]:
        """Return the candidates for each of *creates*, or the error of the search."""
        candidates, look_error = await self._list_candidates(creates)
        if look_error is not None or shows_too_few(creates, _distinct(candidates)):
            await asyncio.sleep(RELIST_DELAY_S)
            second, second_error = await self._list_candidates(creates)
            if second_error is None:
                candidates, look_error = second, None
        return candidates, look_error

    async def _list_candidates(
        self, creates: Sequence[UnknownCreate]
    ) -> tuple[dict[UnknownCreate, tuple[Sampler, ...]], Exception | None]:
        try:
            listed = await self.list_readable()
            candidates = self._candidates(creates, listed)
            # A listed sampler may belong to a create that is in flight. Creates that begin now cannot have made it.
            if any(candidates.values()):
                await self._siblings_answered({create.spec.base_model for create in creates})
                candidates = self._candidates(creates, listed)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the outcome stays unknown, and is reported
            return {}, exc
        return candidates, None

    async def _siblings_answered(self, models: Collection[str]) -> None:
        """Wait until the creates of *models* that are in flight now have outcomes, for up to `SIBLINGS_WAIT_S`."""
        siblings = {create for create, model in self._in_flight.items() if model in models}
        if siblings:
            await asyncio.wait(siblings, timeout=SIBLINGS_WAIT_S)

    def _candidates(
        self, creates: Sequence[UnknownCreate], listed: Sequence[Sampler]
    ) -> dict[UnknownCreate, tuple[Sampler, ...]]:
        own = [each for each in listed if not self._emails or each.user_email in {None, *self._emails}]
        return candidates_for_each(creates, own, self._known, self._transport.service_time)

    async def _read_list(self, body: bytes) -> tuple[Sampler, ...]:
        listed = await sampler_list.decode_samplers(body, str(self._list_request), only_readable=True)
        self._known.mark_seen(*(sampler.id for sampler in listed))
        return listed


def _distinct(candidates: dict[UnknownCreate, tuple[Sampler, ...]]) -> Collection[Sampler]:
    return {sampler.id: sampler for each in candidates.values() for sampler in each}.values()
