"""Carries out a launch: either the samplers that are up stay, or all are deactivated; then it reports that."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from loops_async import (
    DeploymentStatus,
    Fleet,
    LoopsClient,
    LoopsError,
    Member,
    MemberState,
    NotFoundError,
    PollPolicy,
    SamplerSpec,
    StatusChange,
    launch,
)

from . import _models
from ._common import Common, deliver, deliver_or_report, failure_of, forget_stdout
from ._durations import Durations
from ._exits import FAILED, USAGE, Failure
from ._formats import columns_of_stdout, text_of
from ._lanes import of_changes
from ._live import Board
from ._log import on_deactivated
from ._progress import Display
from ._result import KEPT, Result
from ._timeline import write
from ._words import (
    command_line,
    counted,
    describe,
    error,
    errors,
    how_to_acknowledge,
    ids,
    report_unknown,
    say,
    write_out,
)


@frozen
class Order:
    """The samplers to launch, and the options of the launch."""

    specs: tuple[SamplerSpec, ...]
    session_id: str | None
    timeout: float
    at_least: int | None
    relaunches: int
    hold: bool
    journal: Path | None
    resume: bool
    probe: bool
    timeline: Path | None
    check: bool
    cache: bool
    policy: PollPolicy
    form: str


class Launching:
    """One `loops-async launch`."""

    def __init__(self, common: Common, order: Order) -> None:
        self._common = common
        self._order = order
        self._began = time.monotonic()
        self._result = Result(is_held=order.hold)
        self._durations = Durations()
        self._board = Board(expected=len(order.specs), typical=self._typical)
        self._display = Display(self._board, stderr=True, quiet=common.quiet)
        self._took: list[tuple[str, float]] = []
        self._changes: list[tuple[float, StatusChange]] = []
        self._deactivated: dict[str, float] = {}
        """Seconds from the beginning of the launch to the deactivation of a sampler, by id."""
        self._seen: set[str] = set()
        self._code: int | None = None
        """The exit code, if the result of the launch does not decide it."""
        self._is_delivered = False
        self._up_after: float | None = None

    def run(self) -> int:
        """Carry out the order, report the result, and return the exit code."""
        return self._common.run(self._carry_out, self._document)

    async def _carry_out(self, client: LoopsClient) -> int:
        result = self._result
        self._durations = Durations(client.base_url) if self._order.cache else Durations()
        try:
            if self._order.check:
                await self._check(client)
            with on_deactivated(self._note_deactivated):
                await self._launch(client)
        except LoopsError as exc:
            result.error = exc
        except asyncio.CancelledError as exc:
            result.error = exc
            self._report()
            raise
        except Failure:
            raise
        except (OSError, ValueError) as exc:
            self._take(exc)
        self._durations.add(self._took)
        self._report()
        code = result.code if self._code is None else self._code
        if self._common.as_json and not self._is_delivered:
            # The samplers that are billed were reported on stderr before.
            deliver_or_report(lambda: self._common.write(self._document(code)))
        return code

    def _take(self, exc: OSError | ValueError) -> None:
        """Record an error of the journal or of stdout."""
        if self._is_delivered:
            # The launch has ended well, and its samplers stay; but the journal is not complete.
            error(f"the journal is not complete: {describe(exc)}")
            self._code = FAILED
            return
        self._result.error = exc
        if self._result.made:
            forget_stdout()
        else:
            self._code = USAGE

    async def _check(self, client: LoopsClient) -> None:
        try:
            known = await client.capabilities()
        except LoopsError as exc:
            hint = "; --no-check does without that" if isinstance(exc, NotFoundError) else ""
            raise failure_of(exc, f" (nothing was created{hint})") from None
        _models.check((spec.base_model for spec in self._order.specs), known)

    async def _launch(self, client: LoopsClient) -> None:
        order = self._order
        async with (
            self._display as display,
            launch(
                client,
                order.specs,
                session_id=order.session_id,
                timeout=order.timeout,
                policy=order.policy,
                relaunches=order.relaunches,
                teardown="on_error",
                journal=order.journal,
                resume=order.resume,
                probe=order.probe or None,
                on_status=self._changed,
            ) as fleet,
        ):
            self._result.fleet = fleet
            try:
                await fleet.active(at_least=order.at_least)
                # All samplers that stay must be reported, so each create must have an outcome.
                await fleet.created()
                for member in fleet.members:
                    if member.state is MemberState.UNKNOWN:
                        # It is reported below, and does not prevent the other samplers from staying.
                        fleet.acknowledge(member, keep_in_journal=True)
                # If the data cannot be written, the user does not learn the ids: so they are written here, where an
                # error still deactivates the samplers.
                await display.aclose()
                deliver(self._write)
                self._is_delivered = True
                self._up_after = time.monotonic() - self._began
                if order.hold:
                    self._common.say(f"{counted(len(self._result.active))} ACTIVE; Ctrl-C deactivates all of them.")
                    await asyncio.Event().wait()
            except BaseException as exc:
                # A table would overwrite what is written during the teardown.
                await display.aclose()
                self._say_that_it_deactivates(fleet, exc)
                raise

    def _changed(self, change: StatusChange) -> None:
        seconds = time.monotonic() - self._began
        self._changes.append((seconds, change))
        if change.status == DeploymentStatus.ACTIVE:
            self._result.up_after[change.sampler.id] = seconds
            self._took.append((change.sampler.base_model, change.elapsed))
        self._display.changed(change, self._remark(change.sampler.id))

    def _remark(self, sampler_id: str) -> str:
        """Return the addition to the first line of a sampler that replaces another one; else an empty text."""
        if self._order.relaunches == 0 or sampler_id in self._seen:
            return ""
        self._seen.add(sampler_id)
        replacing = (each for each in self._result.members if each.sampler_id == sampler_id and each.failures)
        return next((_replaces(member, self._order.relaunches) for member in replacing), "")

    def _note_deactivated(self, sampler_id: str) -> None:
        self._deactivated[sampler_id] = time.monotonic() - self._began

    def _typical(self, base_model: str) -> float | None:
        return self._durations.typical(base_model)

    def _write(self) -> None:
        if self._common.as_json:
            self._common.write(self._document(self._result.code))
        else:
            write_out(text_of(self._result.active, self._order.form, columns_of_stdout()))

    def _document(self, code: int) -> dict[str, Any]:
        journal = None if self._order.journal is None else str(self._order.journal)
        seconds = time.monotonic() - self._began
        return self._result.document(code, seconds, self._board.gpu_minutes, journal)

    def _say_that_it_deactivates(self, fleet: Fleet, exc: BaseException) -> None:
        words = "Interrupted" if isinstance(exc, asyncio.CancelledError) else "Failed"
        billed = [each.sampler_id for each in fleet.members if each.sampler_id is not None and each.state in KEPT]
        pending = sum(each.state is MemberState.CREATING for each in fleet.members)
        parts = [counted(len(billed))] if billed else []
        if pending:
            parts.append(f"what {counted(pending, 'create')} still make{'s' if pending == 1 else ''}")
        if parts:
            self._common.say(f"{words}; deactivating {' and '.join(parts)}. If this process is killed now, use")
            self._common.say(f"  {self._deactivate_command(billed)}" if billed else "  loops-async list")

    def _deactivate_command(self, samplers: list[str]) -> str:
        return command_line("deactivate", *self._common.words(), *samplers)

    def _report(self) -> None:
        """Report how the launch ended, and which samplers are billed now."""
        result, common = self._result, self._common
        errors(result.errors)
        if result.is_interrupted:
            say("Interrupted.")
        if result.error is None:
            self._report_kept()
        elif result.deactivated:
            say(f"Deactivated {counted(len(result.deactivated))}: {ids(result.deactivated)}")
        elif not result.made and not result.unknown:
            say("Nothing was created.")
        if left := result.still_billed:
            say(f"Error: {counted(len(left))} could not be deactivated and may still be billed; try again:")
            say(f"  {self._deactivate_command(left)}")
        # The unknown creates of earlier launches are no error of this one: the log has named them as a warning.
        report_unknown(result.unknown)
        if result.unknown and self._order.journal is not None:
            common.say(how_to_acknowledge(common.words(), self._order.journal))
        if resumed := sum(member.resumed for member in result.members):
            common.say(f"{counted(resumed)} resumed from {self._order.journal}.")
        if self._order.timeline is not None:
            # If the samplers were held for hours, their statuses before ACTIVE would be too small to see.
            seconds = self._up_after if self._up_after is not None else time.monotonic() - self._began
            chart = of_changes(self._changes, seconds, self._deactivated)
            if write(chart, self._order.timeline, f"Launch of {counted(len(self._order.specs))}"):
                common.say(f"Timeline: {self._order.timeline}")

    def _report_kept(self) -> None:
        result, common = self._result, self._common
        up = {sampler.id for sampler in result.active}
        if coming := [each for each in result.kept if each not in up]:
            common.say(f"{counted(len(coming))} still on the way: {ids(coming)}")
        took = time.monotonic() - self._began
        cost = f", {self._board.gpu_minutes:.1f} GPU-minutes so far" if self._board.gpu_minutes else ""
        common.say(f"{counted(len(up))} ACTIVE after {took:.1f} s{cost}. They are billed until they are deactivated:")
        common.say(f"  {self._deactivate_command(result.kept)}")


def _replaces(member: Member, relaunches: int) -> str:
    return f"replaces {member.failures[-1].sampler.id}, relaunch {len(member.failures)} of {relaunches}"
