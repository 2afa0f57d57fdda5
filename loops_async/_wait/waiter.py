"""Wait for a sampler: what its statuses mean, the deadline, the history."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Protocol

from attrs import evolve

from .. import _validate
from ..errors import (
    APIError,
    AuthenticationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    SamplerFailed,
    WaitTimeout,
)
from ..models import PERMANENT, Sampler, StatusChange, status_of
from .interfaces import StatusReader
from .policy import PollPolicy
from .poller import UNHEALTHY, StatusPoller

FINAL_POLL_GRACE_S: Final = (3.0, 10.0)
"""Seconds that the last look may take beyond the deadline: a tenth of the wait's time, within these bounds."""

DEFAULT_TIMEOUT: Final = 3600.0
"""Seconds: a sampler can take tens of minutes, and Baseten's own tools give it an hour."""


class SupportsWaiting(Protocol):
    """What a wait needs of a client: its one status source."""

    def _companion(self, kind: type[StatusPoller], make: Callable[[StatusReader], StatusPoller]) -> StatusPoller: ...


async def wait_until_active(
    client: SupportsWaiting,
    sampler: Sampler | str,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- frozen
    on_status: Callable[[StatusChange], object] | None = None,
) -> Sampler:
    """Wait until a sampler is ready and return it as it is then.

    However many of these run, the client polls once for all of them. A wait outlives an outage of the service: polls
    that fail are repeated until the deadline. Cancelling it leaves nothing behind, and leaves the sampler as it is.

    Args:
        client: The client that asks.
        sampler: The sampler or its id.
        timeout: Seconds until the last look, which may itself take some seconds more; 0 looks once, None or infinity
            never gives up.
        policy: When to look, and what the statuses mean.
        on_status: Called with each `StatusChange` as it is seen; what it raises ends the wait.

    Raises:
        TypeError, ValueError: An argument is malformed; nothing was sent.
        SamplerFailed: The sampler came to a status that the policy counts as failed.
        WaitTimeout: It was not ready at the deadline; its `last_error` says what ailed the last poll.
        NotFoundError: There is no such sampler, even after the policy's `missing_grace`. Other refusals of this
            one sampler (400 and the like) are raised in the same way.
        AuthenticationError, PermissionDeniedError: The key is not accepted; this ends all waits of the client.
        DecodeError: The service describes this sampler in a way that cannot be read.
        RuntimeError: The client was closed.

    Source: `GET /v1/loops/samplers/{sampler_id}`; the statuses are those of `DeploymentStatus`.
    """
    wait = _Wait(client, sampler, timeout, policy, on_status)
    try:
        return await wait.begin()
    finally:
        if wait.end():
            await wait.rest()


def watch(
    client: SupportsWaiting,
    sampler: Sampler | str,
    *,
    timeout: float | None = DEFAULT_TIMEOUT,
    policy: PollPolicy = PollPolicy(),  # noqa: B008 -- frozen
) -> AsyncGenerator[StatusChange, None]:
    """Yield each `StatusChange` of a sampler until it is ready; arguments and errors as in `wait_until_active()`.

    The first one comes with the first answer. The last one is followed by the end of the iteration if the sampler is
    ready, and by the error if it failed. Changes are kept for a slow consumer. Leaving the loop early ends the wait;
    `contextlib.aclosing()` makes that happen at once.
    """
    changes: asyncio.Queue[StatusChange | None] = asyncio.Queue()
    wait = _Wait(client, sampler, timeout, policy, changes.put_nowait)
    return _changes(wait, changes)


async def _changes(wait: _Wait, changes: asyncio.Queue[StatusChange | None]) -> AsyncGenerator[StatusChange, None]:
    settled = wait.begin()
    settled.add_done_callback(lambda _: changes.put_nowait(None))
    try:
        while (change := await changes.get()) is not None:
            yield change
        settled.result()
    finally:
        if wait.end():
            await wait.rest()


class _Wait:
    """One wait, as the status source sees it: a future and what has been seen so far. Times are the loop's."""

    __slots__ = (
        "_future",
        "_last_error",
        "_on_status",
        "_sampler",
        "_sampler_id",
        "_source",
        "_steps",
        "_timeout",
        "_timer",
        "_unhealthy_since",
        "deadline",
        "joined",
        "policy",
    )

    def __init__(
        self,
        client: SupportsWaiting,
        sampler: Sampler | str,
        timeout: float | None,
        policy: PollPolicy,
        on_status: Callable[[StatusChange], object] | None,
    ) -> None:
        if not hasattr(client, "_companion"):
            raise TypeError(f"the first argument must be a LoopsClient, not {type(client).__name__}")
        check_wait(timeout, policy, on_status)
        self._sampler = sampler if isinstance(sampler, Sampler) else None
        self._sampler_id = _validate.require_path_segment(
            "sampler id", sampler.id if isinstance(sampler, Sampler) else sampler
        )
        self._timeout = timeout
        self.policy = policy
        self._on_status = _in_this_context(on_status) if on_status is not None else None
        # Status, time, status, time ... of each change: flat, since there is one of these for each of thousands.
        self._steps: tuple[Any, ...] = ()
        self._last_error: Exception | None = None
        self._unhealthy_since = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._source = client._companion(StatusPoller, StatusPoller)

    def begin(self) -> asyncio.Future[Sampler]:
        """Join the client's status source; the future settles with the wait, and `end()` must follow."""
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Sampler] = loop.create_future()
        self.joined = loop.time()
        self.deadline = _deadline(self.joined, self._timeout)
        self._source.join(self._sampler_id, self)
        return self._future

    def end(self) -> bool:
        """Leave the source; return whether this was the last wait, which is to await `rest()`."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._future.done():
            self._future.cancel()
        elif not self._future.cancelled():
            # A wait that is cancelled in the moment in which it fails has an outcome that nobody asks for any more.
            self._future.exception()
        return self._source.leave(self._sampler_id, self)

    async def rest(self) -> None:
        """Wait until nothing of the polling goes on."""
        await self._source.rest()

    def expired(self) -> None:
        """Take that the last look is being taken: bound it."""
        least, most = FINAL_POLL_GRACE_S
        grace = min(most, max(least, 0.1 * (self._timeout or 0.0)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(grace, self._time_out)

    def _time_out(self) -> None:
        if not self._future.done():
            last = self._sampler
            history: tuple[StatusChange, ...] = ()
            if last is not None and self._steps:
                last = evolve(last, status=status_of(self._steps[-2]))
                history = self._history(last)
            error = WaitTimeout(last, history, self._sampler_id, self._timeout, self._last_error)
            error.__cause__ = self._last_error
            self._future.set_exception(error)

    def due_by(self) -> float:
        """Return the time at which waiting on would be wrong without another look."""
        if self._unhealthy_since < math.inf:
            return self._unhealthy_since + self.policy.unhealthy_grace
        if self._last_error is not None and _is_refusal(self._last_error):
            return self.joined + self.policy.missing_grace
        return math.inf

    def seen(self, status: str, sampler: Callable[[], Sampler], requested: float, now: float) -> bool:
        """Take a status; return True if the wait is settled."""
        if self._future.done():
            return True
        try:
            self._take(status, sampler, requested, now)
        except DecodeError as exc:
            return self.missed(exc, requested, now)
        except BaseException as exc:
            # The caller's own code; whatever it raises goes to the caller alone.
            if not isinstance(exc, (Exception, asyncio.CancelledError)):
                raise
            if not self._future.done():
                self._fail(exc)
        return self._future.done()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._future.cancel()
        elif isinstance(error, StopIteration):
            # A future cannot carry it, as a coroutine could not.
            self._future.set_exception(RuntimeError(f"on_status raised {error!r}"))
        else:
            self._future.set_exception(error)

    def _take(self, status: str, sampler: Callable[[], Sampler], requested: float, now: float) -> None:
        # A sampler is built only where somebody will look at it; a list of thousands has no time for more.
        if self._sampler is None or not status:
            self._sampler = sampler()
        self._last_error = None
        previous = self._steps[-2] if self._steps else None
        if status != previous:
            self._steps = (*self._steps, status, now)
            if self._on_status is not None:
                self._sampler = sampler()
                self._on_status(_change(self._sampler, previous, now - self.joined))
                if self._future.done():
                    # The callback has cancelled its own wait.
                    return
        spared = False
        if status == UNHEALTHY:
            self._unhealthy_since = min(self._unhealthy_since, now)
            spared = now - self._unhealthy_since < self.policy.unhealthy_grace
        else:
            self._unhealthy_since = math.inf
        if status in self.policy.ready:
            self._future.set_result(sampler())
        elif status in self.policy.failed and not spared:
            current = sampler()
            self._future.set_exception(SamplerFailed(current, self._history(current), status in PERMANENT))
        elif requested >= self.deadline:
            self._sampler = sampler()
            self._time_out()

    def _history(self, sampler: Sampler) -> tuple[StatusChange, ...]:
        """Write the steps out; but for its status, a sampler stays the same through all of them."""
        changes: list[StatusChange] = []
        previous: str | None = None
        for status, at in zip(self._steps[::2], self._steps[1::2], strict=True):
            then = evolve(sampler, status=status_of(status))
            changes.append(_change(then, previous, at - self.joined))
            previous = status
        return tuple(changes)

    def missed(self, error: Exception, requested: float, now: float) -> bool:
        """Take a failure; return True if the wait is settled."""
        if self._future.done():
            return True
        refused = _is_refusal(error) and now - self.joined >= self.policy.missing_grace
        if refused or _is_final(error):
            self._future.set_exception(_own(error))
        else:
            self._last_error = error
            if requested >= self.deadline:
                self._time_out()
        return self._future.done()

    def noted(self, error: Exception) -> None:
        """Take a trouble that does not settle anything."""
        self._last_error = error

    def abandoned(self, error: Exception) -> None:
        """Take the end of the source."""
        if not self._future.done():
            self._future.set_exception(_own(error))


def check_wait(timeout: object, policy: object, on_status: object) -> None:
    """Check the arguments that waits and launches share."""
    if not isinstance(policy, PollPolicy):
        raise TypeError(f"policy must be a PollPolicy, not {type(policy).__name__}")
    if on_status is not None and (not callable(on_status) or inspect.iscoroutinefunction(on_status)):
        kind = "a coroutine function" if callable(on_status) else type(on_status).__name__
        raise TypeError(f"on_status must be a plain function that takes a StatusChange, not {kind}")
    if timeout is not None and timeout != math.inf:
        _validate.require_number("timeout", timeout)


_ENDLESS: Final = 1e9
"""Seconds, some thirty years, beyond which a deadline is none."""


def _change(sampler: Sampler, previous: str | None, elapsed: float) -> StatusChange:
    return StatusChange(sampler, status_of(previous) if previous is not None else None, sampler.status, elapsed)


def _deadline(now: float, timeout: float | None) -> float:
    """Return the time of the last look: up to 1 % late, so that waits which began together look together."""
    if timeout is None or timeout > _ENDLESS:
        return math.inf
    if not timeout:
        return now
    grid = min(0.5, max(0.01, 0.01 * timeout))
    return math.ceil((now + timeout) / grid) * grid


def _in_this_context(callback: Callable[[StatusChange], object]) -> Callable[[StatusChange], object]:
    # The source calls from a task of its own; the caller's callback must find the caller's context variables.
    context = contextvars.copy_context()
    return lambda change: context.run(callback, change)


def _own(error: Exception) -> Exception:
    """Return a copy of *error*: many waits may raise it, and tracebacks are written into the instance."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 -- a foreign error that cannot be copied is better shared than lost
        return error
    own.__cause__ = error.__cause__
    return own


def _is_final(error: Exception) -> bool:
    """Tell whether no further poll of this sampler can succeed."""
    if isinstance(error, DecodeError):
        # What is no such document at all comes from something in between, such as a proxy in an outage.
        return error.path not in {"$", "$.sampler", "$.samplers"}
    return isinstance(error, (AuthenticationError, PermissionDeniedError))


def _is_refusal(error: Exception) -> bool:
    """Tell whether the service refuses to speak of this sampler, which is patience's business for a while."""
    return isinstance(error, NotFoundError) or (
        isinstance(error, APIError) and 400 <= error.status < 500 and error.status not in {401, 403, 408, 429}
    )
