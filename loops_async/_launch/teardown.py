"""The end of a launch: release what is to be released, and say what is left.

Rules:

- A POST that is in flight is never cut off, since it may make a sampler: the end waits for its answer, and so it does
  for creates whose answer was lost. All else is cancelled at once.
- The end has a deadline. A POST that is not answered by then stays with the client, which releases what it makes; it is
  reported as unknown, since nobody here will see how that ends.
- What interrupts struck is begun anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from .._aio import spawn_shielded
from ..errors import CreateOutcomeUnknown, TeardownError, TransportError
from .member import Member
from .remains import still_billed
from .supervisor import LaunchSupervisor

logger = logging.getLogger("loops_async")

UNANSWERED: Final = "its request is not answered yet; the client goes on, and releases what it makes before it closes"
"""What is told of a POST that outlasts the teardown."""

SECOND_END: Final = 10.0
"""Seconds that a further call of the teardown has at least, unless its time is shorter anyway."""

ROUNDS: Final = 3
"""How often a teardown goes through its samplers at most."""

NOTICE: Final = 2.0
"""Seconds after which a teardown says that it is going on."""


class Ending:
    """Take one launch down."""

    def __init__(self, launching: LaunchSupervisor) -> None:
        self.overdue: list[asyncio.Task[None]] = []
        """Tasks that still await the answer to a POST when the time is up; somebody must await them."""
        self._launching = launching
        self._end_at = 0.0

    async def run(self, failed: bool) -> TeardownError | None:
        """Take down what is to be taken down; return what is left to tell, None if nothing is.

        Must run as a task of its own that nobody cancels. It may be called again where a KeyboardInterrupt has broken
        it off, or for what it has left alone.
        """
        loop = asyncio.get_running_loop()
        timeout = self._launching.settings.teardown_timeout
        if not self._launching.is_ending:
            self._end_at = loop.time() + timeout
        self._end_at = max(self._end_at, loop.time() + min(timeout, SECOND_END))
        self._launching.stop()
        notice = loop.call_later(NOTICE, self._say_what_is_going_on, failed)
        try:
            # A second Ctrl-C strikes whatever runs in that moment; what it struck is begun anew.
            for _ in range(ROUNDS):
                ends = [
                    spawn_shielded(self._end(member, failed))
                    for member, task in self._launching.tasks.items()
                    if task not in self.overdue
                ]
                if not ends:
                    break
                done, late = await asyncio.wait(ends, timeout=max(0.0, self._end_at - loop.time()))
                if late:
                    await self._break_off(late)
                broken = [end for end in done if end.exception() is not None]
                if not broken:
                    break
        finally:
            notice.cancel()
        return self._left(failed)

    def _say_what_is_going_on(self, failed: bool) -> None:
        """Give a reason to be patient to whoever sits in front of this."""
        going = [
            member._sampler_id
            for member in self._launching.members
            if self._launching.holdings.get(member._sampler_id) is not None and not self._is_kept(member, failed)
        ]
        unanswered = sum(create.is_out for create in self._launching.creations.values())
        logger.warning(
            "still releasing the samplers of a launch, for %.0f s at most; to kill it now leaves them billed: %s%s",
            self._end_at - asyncio.get_running_loop().time(),
            ", ".join(map(str, going)) or "none whose id is known",
            f", and those of {unanswered} unanswered creates" if unanswered else "",
        )

    async def _end(self, member: Member, failed: bool) -> None:
        """Wait until *member* is done with, and release its sampler."""
        await asyncio.wait([self._launching.tasks[member]])
        holding = self._launching.holdings.get(member._sampler_id)
        if holding is None or self._is_kept(member, failed):
            return
        try:
            within = self._end_at - asyncio.get_running_loop().time()
            await self._launching.holdings.let_go(holding, max(0.0, within))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the id must be told
            holding.trouble = exc

    async def _break_off(self, late: set[asyncio.Task[None]]) -> None:
        """End what is still going on at the deadline."""
        for task in (*late, *self._launching.settling):
            task.cancel()
        await asyncio.wait((*late, *self._launching.settling))
        lost, self._launching.lost = self._launching.lost, []
        for create in lost:
            create.give_up("the time of the teardown was up before all creates were answered")
        remaining = []
        for member, task in self._launching.tasks.items():
            posted = self._launching.creations.get(member)
            if not task.done() and posted is not None and posted.is_out and posted.loss is None:
                task.cancel()
                self.overdue.append(task)
                self._launching.settle(member, CreateOutcomeUnknown(member.spec, (), TransportError(UNANSWERED)))
            elif not task.done():
                remaining.append(task)
        if remaining:
            await asyncio.wait(remaining)

    def _is_kept(self, member: Member, failed: bool) -> bool:
        if self._launching.settings.teardown == "on_error":
            return not failed and (member._error is None or member._is_cut_off)
        return self._launching.settings.teardown == "never"

    def _left(self, failed: bool) -> TeardownError | None:
        """Say what is still billed, and what may be without anybody having been told."""
        billed: dict[str, Exception] = {}
        unknown: list[CreateOutcomeUnknown] = []
        for member in self._launching.members:
            error = member._error
            holding = self._launching.holdings.get(member._sampler_id)
            if holding is not None and holding.sampler_id not in billed and not self._is_kept(member, failed):
                trouble = holding.trouble or TransportError("no answer before the time of the teardown was up")
                trouble.add_note(f"sampler {holding.sampler_id} of {member.spec.base_model} is still billed")
                billed[holding.sampler_id] = trouble.with_traceback(None)
            elif isinstance(error, CreateOutcomeUnknown) and not member._is_told:
                unknown.append(error)
        return still_billed(billed, unknown)
