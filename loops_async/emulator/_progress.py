"""The position of one sampler in its lifecycle: a small state machine.

No task moves a sampler on. A request computes its position from the time of the last
transition and the durations of the stages, so that ten thousand samplers cost nothing
between two requests. Every transition is a row of `TRANSITIONS`; an event without a row
for the present phase leaves the sampler as it is.

Chance is computed in the same way, from the seed of the sampler and the number of stages
that it has left, so that it does not depend on when requests come.
"""

from enum import Enum, auto
from math import inf, log

from attrs import evolve, frozen

from ._lifecycle import DEACTIVATING, FREE_STATUSES, INACTIVE, SCALED_TO_ZERO, Stage, position

_MASK = 2**64 - 1


class Phase(Enum):
    """What decides the status of a sampler."""

    FOLLOWING = auto()
    """The sampler follows its lifecycle."""
    FAILED = auto()
    """A stage failed permanently."""
    HELD = auto()
    """A caller forced a status, which stays."""
    DEACTIVATING = auto()
    """The sampler was deactivated and is shutting down."""
    INACTIVE = auto()
    """The sampler is shut down."""


class Event(Enum):
    """What can happen to a sampler."""

    STAGE_OVER = auto()
    STAGE_FAILED = auto()
    """The stage ended in a permanent failure."""
    STAGE_TROUBLED = auto()
    """The stage ended in a failure that is itself a stage of the lifecycle."""
    IDLE = auto()
    PREEMPTED = auto()
    WAKE = auto()
    DEACTIVATE = auto()
    DEACTIVATION_OVER = auto()
    FORCE = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.FOLLOWING, Event.STAGE_OVER): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.STAGE_FAILED): Phase.FAILED,
    (Phase.FOLLOWING, Event.STAGE_TROUBLED): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.IDLE): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.PREEMPTED): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.WAKE): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.DEACTIVATE): Phase.DEACTIVATING,
    (Phase.FOLLOWING, Event.FORCE): Phase.HELD,
    (Phase.FAILED, Event.DEACTIVATE): Phase.DEACTIVATING,
    (Phase.FAILED, Event.FORCE): Phase.HELD,
    (Phase.HELD, Event.DEACTIVATE): Phase.DEACTIVATING,
    (Phase.HELD, Event.FORCE): Phase.HELD,
    (Phase.DEACTIVATING, Event.DEACTIVATION_OVER): Phase.INACTIVE,
    (Phase.DEACTIVATING, Event.FORCE): Phase.HELD,
    (Phase.INACTIVE, Event.FORCE): Phase.HELD,
}


@frozen
class Due:
    """A transition that happens at a known time."""

    at: float
    event: Event
    index: int
    """The index of the stage that follows, or of the one that failed."""


@frozen
class Progress:
    """The position of one sampler; times are seconds of the caller's clock."""

    stages: tuple[Stage, ...]
    deactivation_seconds: float
    since: float
    """The time at which the current stage or phase began."""
    phase: Phase = Phase.FOLLOWING
    index: int = 0
    held: str = ""
    """The status while the phase is HELD or FAILED."""
    seed: int = 0
    visits: int = 0
    """The number of stages that the sampler has left."""
    used: float = -inf
    """The time of the last request to the data plane."""
    spot: bool = False
    fixed: bool = False
    """Whether the number of replicas is fixed, so that the sampler never scales down."""

    @property
    def status(self) -> str:
        """The status at the time of the last `advanced()`."""
        if self.phase is Phase.FOLLOWING:
            return self.stages[self.index].status
        if self.phase in {Phase.HELD, Phase.FAILED}:
            return self.held
        return DEACTIVATING if self.phase is Phase.DEACTIVATING else INACTIVE

    @property
    def billed(self) -> bool:
        """Whether the sampler costs money."""
        return self.status not in FREE_STATUSES

    def advanced(self, now: float) -> "Progress":
        """Apply every transition that is due at *now*; returns the same object if there is none."""
        current = self
        while (due := current._due()) is not None and due.at <= now:
            current = current._after(due.event, due.at, due.index)
            if due.event is Event.STAGE_FAILED:
                current = evolve(current, held=current.stages[due.index].failed_status)
        return current

    @property
    def until(self) -> float:
        """The time of the next transition; infinite if none comes with time alone."""
        due = self._due()
        return inf if due is None else due.at

    def woken(self, now: float) -> "Progress":
        """Leave SCALED_TO_ZERO for the next stage at once; any other status stays.

        A forced SCALED_TO_ZERO stays too, until the caller forces another status.
        """
        current = self.advanced(now)
        if current.status != SCALED_TO_ZERO:
            return current
        following = current._next()
        return current if following is None else current._after(Event.WAKE, now, following)

    def touched(self, now: float) -> "Progress":
        """Record a request to the data plane, which delays an idle scale-down."""
        current = self.advanced(now)
        if current.phase is not Phase.FOLLOWING or current.stages[current.index].idle is None:
            return current
        return evolve(current, used=now)

    def deactivated(self, now: float) -> "Progress":
        """Begin to shut down; a sampler that shows DEACTIVATING or INACTIVE stays as it is, also if that was forced."""
        current = self.advanced(now)
        if current.status in {DEACTIVATING, INACTIVE}:
            return current
        return current._after(Event.DEACTIVATE, now)

    def forced(self, status: str, now: float) -> "Progress":
        """Hold *status* from *now* on."""
        return evolve(self.advanced(now)._after(Event.FORCE, now), held=status)

    def _due(self) -> Due | None:
        if self.phase is Phase.DEACTIVATING:
            return Due(self.since + self.deactivation_seconds, Event.DEACTIVATION_OVER, self.index)
        if self.phase is not Phase.FOLLOWING:
            return None
        stage, following = self.stages[self.index], self._next()
        dues = []
        if stage.seconds is not None:
            dues += self._end(stage, self.since + stage.seconds, following)
        if stage.idle is not None and following is not None and not self.fixed:
            dues.append(Due(max(self.since, self.used) + stage.idle, Event.IDLE, following))
        if stage.preemption is not None and self.spot:
            at = self.since - log(1 - self._chance(1)) * stage.preemption
            # lifecycle() has checked that there is such a stage.
            dues.append(Due(at, Event.PREEMPTED, position(self.stages, stage.preempted) or 0))
        return min(dues, key=lambda due: due.at, default=None)

    def _end(self, stage: Stage, at: float, following: int | None) -> list[Due]:
        """Return the transition at the end of a stage; empty if it has none."""
        if stage.failure and self._chance(0) < stage.failure:
            trouble = position(self.stages, stage.failed_status)
            if trouble is None:
                return [Due(at, Event.STAGE_FAILED, self.index)]
            return [Due(at, Event.STAGE_TROUBLED, trouble)]
        return [] if following is None else [Due(at, Event.STAGE_OVER, following)]

    def _next(self) -> int | None:
        then = self.stages[self.index].then
        if then is not None:
            return position(self.stages, then)
        return self.index + 1 if self.index + 1 < len(self.stages) else None

    def _after(self, event: Event, at: float, index: int | None = None) -> "Progress":
        phase = TRANSITIONS.get((self.phase, event))
        if phase is None:
            return self
        step = 0 if index is None else 1
        return evolve(
            self, phase=phase, index=self.index if index is None else index, visits=self.visits + step, since=at
        )

    def _chance(self, which: int) -> float:
        """Draw from [0, 1) for the current stage, by the finaliser of SplitMix64: ten times faster than a Random."""
        mixed = (self.seed * 0x9E3779B97F4A7C15 + self.visits * 2 + which + 1) * 0xD1342543DE82EF95 & _MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
        return (mixed ^ mixed >> 31) / (_MASK + 1)
