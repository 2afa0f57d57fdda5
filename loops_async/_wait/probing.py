"""Ask a ready sampler whether it answers, until it does.

ACTIVE is what the control plane says; the inference server behind the address may still need a while. A probe is an
asynchronous function that is given the sampler and returns whether it answers. It is repeated with the policy's
backoff. How many probes of a client run at once is bounded, since they may use the connections that the polls need.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import operator
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from tenacity.stop import stop_base

from .._aio import wait_through_cancellation
from ..models import Sampler
from .policy import PolicyBackoff, PollPolicy
from .poller import StatusPoller

Probe: TypeAlias = Callable[[Sampler], Awaitable[bool]]


class StopWhenSet(stop_base):
    """The end of the retries with the first attempt that ends when *event* is set, as tenacity takes it."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._event.is_set()


class Prober:
    """The probes of one wait: at most one task at a time, which belongs to the wait."""

    __slots__ = ("_context", "_is_last", "_on_outcome", "_policy", "_poller", "_probe", "_task", "_tasks")

    def __init__(
        self,
        probe: Probe,
        policy: PollPolicy,
        poller: StatusPoller,
        on_outcome: Callable[[asyncio.Task[bool]], None],
    ) -> None:
        self._probe = probe
        self._policy = policy
        self._poller = poller
        self._on_outcome = on_outcome
        """Called with the task once the sampler answered (True), a probe raised, or the last one said no (False)."""
        self._context = contextvars.copy_context()
        """The context variables of the caller, whose function the probe may be."""
        self._is_last = asyncio.Event()
        self._task: asyncio.Task[bool] | None = None
        self._tasks: set[asyncio.Task[bool]] = set()

    def start(self, sampler: Sampler) -> None:
        """Probe *sampler* until it answers, unless that is under way already."""
        if self._task is None:
            self._is_last.clear()
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(sampler), name="loops-async-probe", context=self._context)
            self._tasks.add(self._task)
            self._task.add_done_callback(self._finish)

    @property
    def is_running(self) -> bool:
        """Whether the sampler is being probed."""
        return self._task is not None

    def finish(self) -> None:
        """Let the probe that is in flight be the last, or send one more at once and let that be the last."""
        self._is_last.set()

    def cancel(self) -> None:
        """Stop probing: the sampler is not ready any more, or the wait is over."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def aclose(self) -> None:
        """Stop probing, and wait until no task is left."""
        self.cancel()
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            cancelled = await wait_through_cancellation(next(iter(self._tasks))) or cancelled
            # The callback that removes the task runs in the next turn of the event loop, if not in this one.
            self._tasks = {task for task in self._tasks if not task.done()}
        if cancelled is not None:
            raise cancelled

    def _finish(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if task is self._task:
            self._task = None
            self._on_outcome(task)
        elif not task.cancelled():
            # It ended in spite of its cancellation; its outcome is of no use.
            task.exception()

    async def _run(self, sampler: Sampler) -> bool:
        retrying = AsyncRetrying(
            retry=retry_if_result(operator.not_),
            wait=PolicyBackoff(self._policy),
            stop=StopWhenSet(self._is_last),
            sleep=self._sleep,
            retry_error_callback=lambda _: False,
            reraise=True,
        )
        return await retrying(self._ask, sampler)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._is_last.wait()
        except TimeoutError:
            pass

    async def _ask(self, sampler: Sampler) -> bool:
        async with self._poller.probe_slots:
            answer = self._probe(sampler)
            if not inspect.isawaitable(answer):
                raise TypeError(f"probe must be an async function, and returned {type(answer).__name__}")
            answers = await answer
        if not isinstance(answers, bool):
            raise TypeError(f"probe must return True or False, not {type(answers).__name__}")
        return answers


def check_probe(probe: object) -> None:
    """Check an argument *probe*."""
    if probe is not None and not isinstance(probe, bool) and not callable(probe):
        raise TypeError(f"probe must be True or an async function that takes a Sampler, not {type(probe).__name__}")
