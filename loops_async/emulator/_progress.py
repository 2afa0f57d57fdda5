"""Where one sampler stands: a small state machine over its lifecycle.

No task moves a sampler on. Its position is worked out when somebody looks, from the
time of the last transition and the durations of the stages, so ten thousand samplers
that nobody asks about cost nothing. Every transition is a row of `TRANSITIONS`; a
pair that is not there leaves the sampler as it is.
"""

from enum import Enum, auto

from attrs import evolve, frozen

from ._lifecycle import DEACTIVATING, FREE_STATUSES, INACTIVE, SCALED_TO_ZERO, Stage


class Phase(Enum):
    """What decides the status of a sampler."""

    FOLLOWING = auto()
    """The lifecycle does."""
    HELD = auto()
    """A status was forced from outside and stays."""
    RELEASING = auto()
    """It was deactivated and is shutting down."""
    RELEASED = auto()
    """It is shut down."""


class Event(Enum):
    """What can happen to a sampler."""

    STAGE_OVER = auto()
    WAKE = auto()
    DEACTIVATE = auto()
    RELEASE_OVER = auto()
    FORCE = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.FOLLOWING, Event.STAGE_OVER): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.WAKE): Phase.FOLLOWING,
    (Phase.FOLLOWING, Event.DEACTIVATE): Phase.RELEASING,
    (Phase.FOLLOWING, Event.FORCE): Phase.HELD,
    (Phase.HELD, Event.DEACTIVATE): Phase.RELEASING,
    (Phase.HELD, Event.FORCE): Phase.HELD,
    (Phase.RELEASING, Event.RELEASE_OVER): Phase.RELEASED,
    (Phase.RELEASING, Event.FORCE): Phase.HELD,
    (Phase.RELEASED, Event.FORCE): Phase.HELD,
}


@frozen
class Progress:
    """The position of one sampler; times are seconds of whatever clock the caller uses."""

    stages: tuple[Stage, ...]
    release_seconds: float
    since: float
    """When the current stage or phase began."""
    phase: Phase = Phase.FOLLOWING
    index: int = 0
    held: str = ""

    @property
    def status(self) -> str:
        """Name the status, as of the last `advanced()`."""
        if self.phase is Phase.FOLLOWING:
            return self.stages[self.index].status
        if self.phase is Phase.HELD:
            return self.held
        return DEACTIVATING if self.phase is Phase.RELEASING else INACTIVE

    @property
    def billed(self) -> bool:
        """Tell whether the sampler still costs money."""
        return self.status not in FREE_STATUSES

    def advanced(self, now: float) -> "Progress":
        """Apply all that became due up to *now*; the same object if nothing did."""
        current = self
        while (due := current._due()) is not None and due[1] <= now:
            current = current._after(*due)
        return current

    def woken(self, now: float) -> "Progress":
        """Leave SCALED_TO_ZERO for the next stage at once; any other status stays.

        A forced SCALED_TO_ZERO stays too: whoever forced it says when it ends.
        """
        current = self.advanced(now)
        if current.status != SCALED_TO_ZERO or current.index + 1 == len(current.stages):
            return current
        return current._after(Event.WAKE, now)

    def deactivated(self, now: float) -> "Progress":
        """Begin to shut down; what is shutting or shut down, however it got there, stays."""
        current = self.advanced(now)
        if current.status in {DEACTIVATING, INACTIVE}:
            return current
        return current._after(Event.DEACTIVATE, now)

    def forced(self, status: str, now: float) -> "Progress":
        """Hold *status* from *now* on."""
        return evolve(self.advanced(now)._after(Event.FORCE, now), held=status)

    def _due(self) -> tuple[Event, float] | None:
        if self.phase is Phase.RELEASING:
            return Event.RELEASE_OVER, self.since + self.release_seconds
        if self.phase is Phase.FOLLOWING and self.index + 1 < len(self.stages):
            seconds = self.stages[self.index].seconds
            if seconds is not None:
                return Event.STAGE_OVER, self.since + seconds
        return None

    def _after(self, event: Event, at: float) -> "Progress":
        phase = TRANSITIONS.get((self.phase, event))
        if phase is None:
            return self
        step = 1 if event in {Event.STAGE_OVER, Event.WAKE} else 0
        return evolve(self, phase=phase, index=self.index + step, since=at)
