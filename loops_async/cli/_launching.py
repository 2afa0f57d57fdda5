"""Carry out a launch, and keep its promises: what is up stays, or nothing does, and either is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from attrs import frozen

from loops_async import (
    DeploymentStatus,
    Fleet,
    LoopsClient,
    LoopsError,
    NotFoundError,
    PollPolicy,
    SamplerSpec,
    StatusChange,
    launch,
)

from . import _json, _models_check
from ._common import Common, deliver, failure_of, forget_stdout
from ._durations import Durations
from ._exits import FAILED, USAGE, Failure
from ._formats import columns_of_stdout, text_of
from ._lanes import of_changes
from ._live import Board
from ._progress import progress
from ._result import Result
from ._run import Interrupts
from ._timeline import write
from ._words import command_line, counted, describe, error, errors, ids, say, tell_of_unknown, write_out


@frozen
class Order:
    """What is to be launched, and how."""

    specs: tuple[SamplerSpec, ...]
    session_id: str | None
    timeout: float
    at_least: int | None
    relaunches: int
    hold: bool
    journal: Path | None
    timeline: Path | None
    check: bool
    policy: PollPolicy
    form: str


async def launch_samplers(common: Common, order: Order, client: LoopsClient, interrupts: Interrupts) -> int:
    """Launch what is ordered; return the exit code."""
    return await _Launching(common, order, client, interrupts).run()


class _Launching:
    def __init__(self, common: Common, order: Order, client: LoopsClient, interrupts: Interrupts) -> None:
        self._common = common
        self._order = order
        self._client = client
        self._interrupts = interrupts
        self._began = time.monotonic()
        self._result = Result()
        self._durations = Durations(client.base_url)
        self._board = Board(expected=len(order.specs), typical=self._durations.typical)
        self._took: list[tuple[str, float]] = []
        self._changes: list[tuple[float, StatusChange]] = []
        self._is_delivered = False
        self._ended: float | None = None

    async def run(self) -> int:
        result = self._result
        try:
            if self._order.check:
                await self._check()
            await self._launch()
        except (asyncio.CancelledError, LoopsError) as exc:
            result.end(exc, self._interrupts.code)
        except Failure:
            raise
        except (OSError, ValueError) as exc:
            self._take(exc)
        # From here on nothing is released any more.
        self._interrupts.is_settled = True
        self._durations.add(self._took)
        self._tell()
        self._draw()
        return result.code

    def _take(self, exc: OSError | ValueError) -> None:
        """Take what is wrong with the journal, or that nobody reads stdout any more."""
        result = self._result
        if self._is_delivered:
            # The launch has ended well, and its samplers stay; what is in the journal does not tell of all of them.
            error(f"the journal is not complete: {describe(exc)}")
            result.code = FAILED
            return
        result.end(exc)
        if result.made:
            forget_stdout()
        else:
            result.code = USAGE

    async def _check(self) -> None:
        try:
            known = await self._client.capabilities()
        except LoopsError as exc:
            hint = "; --no-check does without that" if isinstance(exc, NotFoundError) else ""
            raise failure_of(exc, f" (nothing was created{hint})") from None
        _models_check.check((spec.base_model for spec in self._order.specs), known)

    async def _launch(self) -> None:
        order, result = self._order, self._result
        async with AsyncExitStack() as stack:
            show = await stack.enter_async_context(progress(self._board, stderr=True, quiet=self._common.quiet))
            async with launch(
                self._client,
                order.specs,
                session_id=order.session_id,
                timeout=order.timeout,
                policy=order.policy,
                relaunches=order.relaunches,
                teardown="on_error",
                journal=order.journal,
                on_status=partial(self._changed, show),
            ) as fleet:
                result.session_id, result.members = fleet.session_id, fleet.members
                self._interrupts.struck = self._say_that_it_releases
                self._interrupts.repeated = self._say_what_is_billed
                await fleet.active(at_least=order.at_least)
                await _all_known(fleet)
                # The table is complete, and what follows goes below it. If nobody takes the data, nobody will release
                # what they speak of either: so they are written while that still ends in a release.
                await stack.aclose()
                deliver(self._write)
                self._is_delivered = True
                self._ended = time.monotonic() - self._began
                if order.hold:
                    self._common.say(f"{counted(len(result.active))} ACTIVE; Ctrl-C releases what was launched.")
                    await asyncio.Event().wait()

    def _changed(self, show: Callable[[StatusChange], None], change: StatusChange) -> None:
        seconds = time.monotonic() - self._began
        self._changes.append((seconds, change))
        if change.status == DeploymentStatus.ACTIVE:
            self._result.up_after[change.sampler.id] = seconds
            self._took.append((change.sampler.base_model, change.elapsed))
        show(change)

    def _write(self) -> None:
        if self._common.as_json:
            _json.write(self._document())
        else:
            write_out(text_of(self._result.active, self._order.form, columns_of_stdout()))

    def _document(self) -> dict[str, object]:
        journal = None if self._order.journal is None else str(self._order.journal)
        document = self._result.document(time.monotonic() - self._began, journal)
        return {**document, "gpu_minutes": round(self._board.gpu_minutes, 3)}

    def _say_that_it_releases(self) -> None:
        self._common.say("Releasing what was launched; another Ctrl-C says what is still billed.")

    def _say_what_is_billed(self) -> None:
        made = self._result.made
        if made:
            say(f"Still releasing. Billed until that is done: {ids(made)}. If it is killed now, release them with")
            say(f"  {self._release_command(made)}")
        else:
            say("Still waiting for the answers to creates; no sampler is known to be billed.")

    def _release_command(self, samplers: list[str]) -> str:
        if self._order.journal is not None:
            samplers = ["--journal", str(self._order.journal)]
        return command_line("deactivate", *self._common.words(), *samplers)

    def _tell(self) -> None:
        """Say how it ended, and what is billed now."""
        result, common = self._result, self._common
        errors(result.troubles)
        if isinstance(result.error, asyncio.CancelledError):
            say("Interrupted.")
        if result.error is None:
            self._tell_of_kept()
        elif result.released:
            say(f"Released {counted(len(result.released))}: {ids(result.released)}")
        elif not result.made and not result.unknown:
            say("Nothing was created.")
        if left := result.still_billed:
            say(f"Error: {counted(len(left))} could not be released and may still be billed; try again:")
            say(f"  {self._release_command(left)}")
        tell_of_unknown(result.unknown)
        if common.as_json and not self._is_delivered:
            try:
                deliver(lambda: _json.write(self._document()))
            except OSError as exc:
                # What is billed was said by then, which matters more.
                error(f"stdout cannot be written: {exc.strerror or exc}")
                forget_stdout()

    def _draw(self) -> None:
        if self._order.timeline is not None:
            # A hold of hours would make the way up too small to see.
            seconds = self._ended if self._ended is not None else time.monotonic() - self._began
            chart = of_changes(self._changes, seconds)
            if write(chart, self._order.timeline, f"Launch of {counted(len(self._order.specs))}"):
                self._common.say(f"Timeline: {self._order.timeline}")

    def _tell_of_kept(self) -> None:
        result, common = self._result, self._common
        up = {sampler.id for sampler in result.active}
        if coming := [each for each in result.kept if each not in up]:
            common.say(f"{counted(len(coming))} still on the way: {ids(coming)}")
        took = time.monotonic() - self._began
        cost = f", {self._board.gpu_minutes:.1f} GPU-minutes so far" if self._board.gpu_minutes else ""
        common.say(f"{counted(len(up))} ACTIVE after {took:.1f} s{cost}. They are billed until they are released:")
        common.say(f"  {self._release_command(result.kept)}")


async def _all_known(fleet: Fleet) -> None:
    """Wait until each create is answered: what stays must be told of."""
    await fleet.created()
