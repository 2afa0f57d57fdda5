"""Wait for a sampler: what its statuses mean, the deadline, the history."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import math
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from attrs import evolve

from .. import _validate
from .._http.failures import POLL, Action, action_for
from ..errors import LoopsError, SamplerFailed, WaitTimeout
from ..models import PERMANENT, DeploymentStatus, Sampler, StatusChange, status_of
from .interfaces import CHANGES, EVERY_ANSWER, NOTHING, Attention, LazySampler
from .policy import PollPolicy
from .probing import Probe, Prober, check_probe

if TYPE_CHECKING:
    from .._client import LoopsClient

T = TypeVar("T")

FINAL_POLL_GRACE_S: Final = (3.0, 10.0)
"""Shortest and longest time in seconds that the final poll may take beyond the deadline; in between, it may take a
tenth of the wait's timeout."""

DEFAULT_TIMEOUT: Final = 3600.0
"""Seconds: a sampler can take tens of minutes, and Baseten's own tools give it an hour."""

ENDLESS_TIMEOUT_S: Final = 1e9
"""Seconds, some thirty years, from which on a timeout counts as none."""

UNHEALTHY: Final = DeploymentStatus.UNHEALTHY.value
ACTIVE: Final = DeploymentStatus.ACTIVE.value


async def wait_until_active(
    client: LoopsClient,
    sampler: Sampler | str,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- immutable
    on_status: Callable[[StatusChange], object] | None = None,
    probe: Probe | bool | None = None,
) -> Sampler:
    """Wait until a sampler is ready, and return it as it is then.

    However many of these run, the client polls once for all of them. A wait outlives an outage of the service: polls
    that fail are repeated until the deadline. Cancelling the wait leaves no task behind, and does not touch the
    sampler.

    A sampler is ready when its status is in `policy.ready`; when that is ACTIVE, the sampler must also have a
    `base_url`. A serverless sampler is ready as soon as it is found not to have failed.

    Args:
        client: The client that polls.
        sampler: The sampler or its id.
        timeout: Seconds until the final poll, which may itself take some seconds more. 0 polls once; None or infinity
            waits without end.
        policy: When to poll, and what the statuses mean.
        on_status: Plain function that is called with each `StatusChange` as it is seen. What it raises ends the wait.
        probe: Async function that is given a ready sampler and returns True if the sampler answers. It is repeated
            with the policy's backoff, within the same timeout, and what it raises ends the wait. Meanwhile the
            sampler is polled on: one that is not ready any more is waited for again, and one that failed ends the
            wait. At most a quarter of the client's connections run probes at once. True takes
            `client.samplers.answers`; None or False probes nothing.

    Raises:
        TypeError, ValueError: An argument is malformed; nothing was sent.
        SamplerFailed: The sampler came to a status that the policy counts as failed.
        WaitTimeout: It was not ready at the deadline; `last_error` says why the last poll failed, if it did.
        NotFoundError: The service did not know the sampler for the policy's `missing_grace`. Other refusals to
            describe this one sampler (403, 400 and so on) are raised in the same way.
        AuthenticationError: The key is not accepted (401); this ends all waits of the client at once.
        DecodeError: The service describes this sampler in a way that cannot be read.
        TypeError: *on_status* returned an awaitable, which would never be awaited; or *probe* returned none, or one
            of something else than a bool.
        RuntimeError: The client was closed.

    Source: `GET /v1/loops/samplers/{sampler_id}`; the statuses are those of `DeploymentStatus`.
    """
    wait = ActiveWaiter(client, sampler, timeout, policy, on_status, probe)
    try:
        return await wait.begin()
    finally:
        if wait.end():
            await wait.wait_stopped()


def watch(
    client: LoopsClient,
    sampler: Sampler | str,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- immutable
    probe: Probe | bool | None = None,
) -> AsyncGenerator[StatusChange, None]:
    """Yield each `StatusChange` of a sampler until it is ready; arguments and errors as in `wait_until_active()`.

    The first change comes with the first answer. After the last one the iteration ends if the sampler is ready and,
    with a *probe*, answers; it raises if the sampler failed. Changes are kept for a slow consumer. Leaving the loop
    early ends the wait; `contextlib.aclosing()` makes that happen at once.
    """
    changes: asyncio.Queue[StatusChange | None] = asyncio.Queue()
    wait = ActiveWaiter(client, sampler, timeout, policy, changes.put_nowait, probe)
    return _changes(wait, changes)


async def _changes(
    wait: ActiveWaiter, changes: asyncio.Queue[StatusChange | None]
) -> AsyncGenerator[StatusChange, None]:
    outcome = wait.begin()
    outcome.add_done_callback(lambda _: changes.put_nowait(None))
    try:
        while (change := await changes.get()) is not None:
            yield change
        outcome.result()
    finally:
        if wait.end():
            await wait.wait_stopped()


async def wait_until_down(
    client: LoopsClient,
    sampler: Sampler | str,
    *,
    timeout: float | None = None,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- immutable
) -> StatusChange:
    """Wait until a running sampler stops serving, and return the `StatusChange` that says so.

    This is the guard for a long run: give it a task of its own beside the work. It shares the client's one poll, at
    the pace of `policy.maximum`, so that a thousand guards cost one list per tick.

    A sampler is down when its status is in `policy.failed`; one that is UNHEALTHY may recover for
    `policy.unhealthy_grace` seconds. SCALED_TO_ZERO is no loss, since the next request starts the sampler again, and
    it is not woken for the guard's sake. A sampler that is still coming up is not down.

    Args:
        client: The client that polls.
        sampler: The sampler or its id.
        timeout: Seconds until the final poll, as in `wait_until_active()`; None or infinity waits without end.
        policy: Its `maximum`, `jitter`, `failed`, `unhealthy_grace` and `missing_grace` count here.

    Returns:
        The change to the failed status. It is the first change that was seen, with `previous` None, if the sampler
        was down already.

    Raises:
        TypeError, ValueError: An argument is malformed; nothing was sent.
        WaitTimeout: The sampler was still up at the deadline.
        NotFoundError: The service did not know the sampler for `missing_grace` seconds. Other refusals to describe
            this one sampler are raised in the same way.
        AuthenticationError: The key is not accepted (401); this ends all waits of the client at once.
        DecodeError: The service describes this sampler in a way that cannot be read.
        RuntimeError: The client was closed.

    Source: `GET /v1/loops/samplers/{sampler_id}`; the statuses are those of `DeploymentStatus`.
    """
    check_wait(timeout, policy, None)
    wait = DownWaiter(client, sampler, timeout, _guard_policy(policy))
    try:
        return await wait.begin()
    finally:
        if wait.end():
            await wait.wait_stopped()


class Waiter(Generic[T]):
    """One wait, as a subscriber of the poller: a future, and what was seen so far. Times are the event loop's."""

    __slots__ = (
        "_future",
        "_last_error",
        "_on_status",
        "_poller",
        "_rejected_since",
        "_sampler",
        "_sampler_id",
        "_steps",
        "_timeout",
        "_timer",
        "_unhealthy_since",
        "deadline",
        "policy",
        "subscribed_at",
    )

    def __init__(
        self,
        client: LoopsClient,
        sampler: Sampler | str,
        timeout: float | None,
        policy: PollPolicy,
        on_status: Callable[[StatusChange], object] | None = None,
    ) -> None:
        if not hasattr(client, "_launches"):
            raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
        check_wait(timeout, policy, on_status)
        self._sampler = sampler if isinstance(sampler, Sampler) else None
        self._sampler_id = _validate.require_path_segment(
            "sampler id", sampler.id if isinstance(sampler, Sampler) else sampler
        )
        self._timeout = timeout
        self.policy = policy
        self._on_status = _prepared(on_status) if on_status is not None else None
        # Status, sampler (or what it is built from) and time of each change. Flat, and of things that the garbage
        # collector does not visit, since there are thousands of these.
        self._steps: tuple[Any, ...] = ()
        self._last_error: Exception | None = None
        self._unhealthy_since = math.inf
        self._rejected_since = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._poller = client._poller

    def begin(self) -> asyncio.Future[T]:
        """Subscribe to the client's poller; return the future outcome. `end()` must follow."""
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[T] = loop.create_future()
        self.subscribed_at = loop.time()
        self.deadline = _deadline(self.subscribed_at, self._timeout)
        self._poller.subscribe(self._sampler_id, self)
        return self._future

    def end(self) -> bool:
        """Unsubscribe; return True if this was the last wait of the client, which must await `wait_stopped()`."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._future.done():
            self._future.cancel()
        elif not self._future.cancelled():
            # A wait that is cancelled in the moment in which it fails never retrieves its exception.
            self._future.exception()
        return self._poller.unsubscribe(self._sampler_id, self)

    async def wait_stopped(self) -> None:
        """Wait until the polling has stopped, unless another wait needs it."""
        await self._poller.wait_stopped()

    # As a subscriber

    def on_deadline(self) -> None:
        """Bound the final poll, which is being sent."""
        shortest, longest = FINAL_POLL_GRACE_S
        grace = min(longest, max(shortest, 0.1 * (self._timeout or 0.0)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(grace, self._time_out)

    def next_required_poll(self) -> float:
        """Return the time at which a grace period ends."""
        return min(
            self._unhealthy_since + self.policy.unhealthy_grace, self._rejected_since + self.policy.missing_grace
        )

    def on_status(self, status: str, sampler: LazySampler, requested: float, now: float) -> Attention:
        """Handle a status."""
        if self._future.done():
            return NOTHING
        try:
            attention = self._apply_status(status, sampler, requested, now)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 -- the caller's own code: it gets what it raises
            self._fail(exc)
            return NOTHING
        return NOTHING if self._future.done() else attention

    def on_error(self, error: Exception, requested: float, now: float) -> bool:
        """Handle a poll that failed; return True if the wait is done."""
        if self._future.done():
            return True
        action = action_for(error, POLL)
        if action is Action.PATIENCE:
            self._rejected_since = min(self._rejected_since, now)
            is_over = now - self._rejected_since >= self.policy.missing_grace
        else:
            is_over = action is not Action.GO_ON
        if is_over:
            self._future.set_exception(_copy_error(error))
        else:
            self._last_error = error
            if requested >= self.deadline:
                self._time_out()
        return self._future.done()

    def record_error(self, error: Exception) -> None:
        """Keep an error that does not end the wait."""
        self._last_error = error

    def on_poller_stopped(self, error: Exception) -> None:
        """End the wait with *error*."""
        if not self._future.done():
            self._future.set_exception(_copy_error(error))

    # What an answer means

    def _apply_status(self, status: str, sampler: LazySampler, requested: float, now: float) -> Attention:
        is_final = requested >= self.deadline
        previous = self._steps[-3] if self._steps else None
        is_change = status != previous
        known = self._sampler
        counts = known is None or self._counts(status, known)
        # To build models of all samplers of a long list takes longer than everything else that is done with it.
        if known is None or counts or is_final or not status or (is_change and self._on_status is not None):
            try:
                known = self._sampler = sampler()
            except LoopsError as exc:
                return NOTHING if self.on_error(exc, requested, now) else CHANGES
        self._last_error = None
        self._rejected_since = math.inf
        if is_change:
            self._steps = (*self._steps, status, known if known.status == status else sampler.item(), now)
            if self._on_status is not None:
                self._on_status(StatusChange(known, _named(previous), known.status, now - self.subscribed_at))
                if self._future.done():
                    # The callback has cancelled its own wait.
                    return NOTHING
        if status == UNHEALTHY:
            self._unhealthy_since = min(self._unhealthy_since, now)
            is_in_grace = now - self._unhealthy_since < self.policy.unhealthy_grace
            self._judge(status, known, is_in_grace=is_in_grace)
            attention = EVERY_ANSWER
        else:
            self._unhealthy_since = math.inf
            attention = self._judge(status, known, is_in_grace=False) if counts else self._keep_waiting()
        if is_final and not self._future.done():
            self._end_at_deadline()
        return attention

    def _counts(self, status: str, known: Sampler) -> bool:
        """Return True if `_judge()` must see *status*, and the sampler as it is now rather than as it was *known*."""
        raise NotImplementedError

    def _judge(self, status: str, sampler: Sampler, *, is_in_grace: bool) -> Attention:
        """End the wait if its sampler is what it waits for, or has failed and is not in its grace period."""
        raise NotImplementedError

    def _keep_waiting(self) -> Attention:
        """Handle a status that neither ends the wait nor might."""
        return CHANGES

    def _fail(self, error: BaseException) -> None:
        if self._future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self._future.cancel()
        elif isinstance(error, StopIteration):
            # A future cannot carry it, as a coroutine could not.
            self._future.set_exception(RuntimeError(f"on_status raised {error!r}"))
        else:
            self._future.set_exception(error)

    def _end_at_deadline(self) -> None:
        """Called when the final poll did not end the wait."""
        self._time_out()

    def _time_out(self) -> None:
        if not self._future.done():
            history = self._history()
            last = self._sampler
            if history and last is not None and last.status != history[-1].status:
                last = history[-1].sampler
            error = WaitTimeout(last, history, self._sampler_id, self._timeout, self._last_error)
            error.__cause__ = self._last_error
            self._future.set_exception(error)

    def _history(self) -> tuple[StatusChange, ...]:
        changes: list[StatusChange] = []
        steps = iter(self._steps)
        for status, item, at in zip(steps, steps, steps, strict=True):
            previous = changes[-1].status if changes else None
            seen = self._seen(status, item)
            changes.append(StatusChange(seen, previous, seen.status, at - self.subscribed_at))
        return tuple(changes)

    def _seen(self, status: str, item: object) -> Sampler:
        """Return the sampler as it was at a step."""
        seen = self._poller.read(item)
        if seen is not None:
            return seen
        # Only its status could be read, so that no more than that is shown as it was then.
        assert self._sampler is not None  # noqa: S101 -- there is no step before the first sampler
        return evolve(self._sampler, status=status_of(status))


class ActiveWaiter(Waiter[Sampler]):
    """A wait for a sampler that is ready and, with a probe, answers."""

    __slots__ = ("_prober",)

    def __init__(
        self,
        client: LoopsClient,
        sampler: Sampler | str,
        timeout: float | None,
        policy: PollPolicy,
        on_status: Callable[[StatusChange], object] | None,
        probe: Probe | bool | None,
    ) -> None:
        check_probe(probe)
        super().__init__(client, sampler, timeout, policy, on_status)
        self._prober: Prober | None = None
        if probe is not None and probe is not False:
            probe = self._poller.answers if probe is True else probe
            self._prober = Prober(probe, policy, self._poller, self._on_probed)

    def end(self) -> bool:
        """Unsubscribe; with a probe, `wait_stopped()` must always be awaited."""
        return super().end() or self._prober is not None

    async def wait_stopped(self) -> None:
        """Wait until neither probes nor, unless another wait needs them, polls go on."""
        try:
            if self._prober is not None:
                await self._prober.aclose()
        finally:
            await super().wait_stopped()

    def _counts(self, status: str, known: Sampler) -> bool:
        return status in self.policy.ready or status in self.policy.failed or known.serverless

    def _judge(self, status: str, sampler: Sampler, *, is_in_grace: bool) -> Attention:
        is_failed = status in self.policy.failed
        is_serverless = sampler.serverless
        is_ready = not is_failed and (is_serverless or status in self.policy.ready)
        if is_ready and (sampler.base_url or is_serverless or status != ACTIVE):
            if self._prober is None:
                self._future.set_result(sampler)
            else:
                self._prober.start(sampler)
            return CHANGES
        self._keep_waiting()
        if is_failed and not is_in_grace:
            self._future.set_exception(SamplerFailed(sampler, self._history(), status in PERMANENT))
        # An address may come later, without another change of the status.
        return EVERY_ANSWER if is_ready else CHANGES

    def _keep_waiting(self) -> Attention:
        if self._prober is not None:
            self._prober.cancel()
        return CHANGES

    def _end_at_deadline(self) -> None:
        if self._prober is not None and self._prober.is_running:
            self._prober.finish()
        else:
            self._time_out()

    def _on_probed(self, task: asyncio.Task[bool]) -> None:
        if self._future.done():
            return
        if task.cancelled():
            self._future.cancel()
        elif (error := task.exception()) is not None:
            self._future.set_exception(error)
        elif task.result():
            assert self._sampler is not None  # noqa: S101 -- it was given to the probe
            self._future.set_result(self._sampler)
        else:
            self._time_out()


class DownWaiter(Waiter[StatusChange]):
    """A wait for a sampler that has stopped serving."""

    __slots__ = ()

    def _counts(self, status: str, known: Sampler) -> bool:
        return status in self.policy.failed

    def _judge(self, status: str, sampler: Sampler, *, is_in_grace: bool) -> Attention:
        if status in self.policy.failed and not is_in_grace:
            self._future.set_result(self._history()[-1])
        return CHANGES


@lru_cache(maxsize=64)
def _guard_policy(policy: PollPolicy) -> PollPolicy:
    """Return *policy* with a steady pace of `maximum`, and without wakes."""
    return evolve(policy, initial=policy.maximum, factor=1.0, multiples={}, wake=False)


def check_wait(timeout: object, policy: object, on_status: object) -> None:
    """Check the arguments that waits and launches share."""
    if not isinstance(policy, PollPolicy):
        raise TypeError(f"policy must be a PollPolicy, not {type(policy).__name__}")
    if on_status is not None and (not callable(on_status) or inspect.iscoroutinefunction(on_status)):
        kind = "a coroutine function" if callable(on_status) else type(on_status).__name__
        raise TypeError(f"on_status must be a plain function that takes a StatusChange, not {kind}")
    if timeout is not None and timeout != math.inf:
        _validate.require_number("timeout", timeout)


def _named(status: str | None) -> DeploymentStatus | str | None:
    return None if status is None else status_of(status)


def _deadline(now: float, timeout: float | None) -> float:
    """Return the time of the final poll: up to 1 % late, so that waits which began together share it."""
    if timeout is None or timeout > ENDLESS_TIMEOUT_S:
        return math.inf
    if not timeout:
        return now
    grid = min(0.5, max(0.01, 0.01 * timeout))
    return math.ceil((now + timeout) / grid) * grid


def _prepared(callback: Callable[[StatusChange], object]) -> Callable[[StatusChange], None]:
    """Return a function that calls *callback* in the present context, and makes sure that its result may be dropped."""
    # The poller calls from a task of its own; the callback must find the context variables of its caller.
    context = contextvars.copy_context()

    def call(change: StatusChange) -> None:
        result = context.run(callback, change)
        if result is not None and (inspect.isawaitable(result) or inspect.isasyncgen(result)):
            if inspect.iscoroutine(result):
                # Otherwise Python warns that it was never awaited.
                result.close()
            raise TypeError(
                f"on_status must be a plain function, whose result is ignored; it returned {type(result).__name__}, "
                "which would have to be awaited"
            )

    return call


def _copy_error(error: Exception) -> Exception:
    """Return a copy of *error*: many waits may raise it, and tracebacks are written into the instance."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 -- an error that cannot be copied is better shared than lost
        return error
    own.__cause__ = error.__cause__
    return own
