"""Lifecycles as data: the statuses of a sampler after its create."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from attrs import evolve, frozen

from ._numbers import finite

DEACTIVATING = "DEACTIVATING"
INACTIVE = "INACTIVE"
SCALED_TO_ZERO = "SCALED_TO_ZERO"
ACTIVE = "ACTIVE"

FREE_STATUSES = frozenset(
    {DEACTIVATING, INACTIVE, "FAILED", "BUILD_FAILED", "DEPLOY_FAILED", "BUILD_STOPPED"},
)
"""The statuses in which a sampler holds no GPU, or is about to give it back."""

DEACTIVATION_SECONDS = 2.0
"""How long a deactivated sampler stays DEACTIVATING, at speed 1."""

ANY_MODEL = "*"
"""The key of the lifecycle of all base models that a mapping of lifecycles does not name."""


FAILS_AS = {"BUILDING": "BUILD_FAILED", "DEPLOYING": "DEPLOY_FAILED"}
"""The status after a failure in a status; FAILED after a failure in any other."""

SHORTEST_SECONDS = 0.001
"""The shortest stage at any speed; stages in a circle would otherwise take for ever to advance."""


@frozen
class Stage:
    """One status of a lifecycle, how long it lasts, and what comes after it.

    The next stage of the list follows, unless one of the settings says otherwise. All
    durations are at speed 1. The seed of the emulator decides what happens by chance.

    Attributes:
        status: Name of the status; any name is allowed, also one that the API does not have.
        seconds: How long the stage lasts; None stays until something moves the sampler on.
        then: Status of the stage that follows, to go back to an earlier one; None is the next stage of the list.
        idle: Seconds without a request to the sampler after which the stage ends; None never. It has no effect on
            samplers with *num_replicas*.
        failure: Probability that the stage ends in *fails_as*, from 0 to 1.
        fails_as: Status after a failure. The sampler stays there, unless it is the status of a stage. None is
            BUILD_FAILED in BUILDING, DEPLOY_FAILED in DEPLOYING, and FAILED in all others.
        preemption: Mean seconds, exponentially distributed, after which a spot sampler loses its GPU; None never.
        preempted: Status of the stage at which a preempted sampler begins again.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: the status is empty, a duration is not a positive finite number, *failure*
            is no probability, or a stage with *failure* has no *seconds*.
    """

    status: str
    seconds: float | None = None
    then: str | None = None
    idle: float | None = None
    failure: float = 0.0
    fails_as: str | None = None
    preemption: float | None = None
    preempted: str = "DEPLOYING"

    def __attrs_post_init__(self) -> None:
        for name in (self.status, self.preempted, self.then or "", self.fails_as or ""):
            if not isinstance(name, str):
                raise TypeError(f"a stage names statuses as strings, not {name!r}")
        if not self.status:
            raise ValueError("a stage needs the name of a status")
        for seconds in (self.seconds, self.idle, self.preemption, self.failure):
            if seconds is not None and not isinstance(seconds, (int, float)):
                raise TypeError(f"the numbers of stage {self.status} must be numbers, not {seconds!r}")
        for seconds in (self.seconds, self.idle, self.preemption):
            if seconds is not None and not (finite(seconds) and seconds > 0):
                raise ValueError(f"the seconds of stage {self.status} must be positive, not {seconds!r}")
        if not 0 <= self.failure <= 1:
            raise ValueError(f"the failure of stage {self.status} must be between 0 and 1, not {self.failure!r}")
        if self.failure and self.seconds is None:
            raise ValueError(f"stage {self.status} has no end at which it could fail")

    @property
    def failed_status(self) -> str:
        return self.fails_as or FAILS_AS.get(self.status, "FAILED")


DEFAULT_LIFECYCLE: tuple[Stage, ...] = (
    Stage("BUILDING", 2.0),
    Stage("DEPLOYING", 8.0),
    Stage("LOADING_MODEL", 20.0),
    Stage(ACTIVE, None),
)
"""A cold start without detours, ten times faster than a quick real one."""

_ZERO_FIRST = (
    Stage("BUILDING", 1.0),
    Stage("DEPLOYING", 1.0),
    Stage(SCALED_TO_ZERO),
    Stage("WAKING_UP", 20.0),
    Stage("LOADING_MODEL", 10.0),
    Stage(ACTIVE),
)

COURSES: Mapping[str, tuple[Stage, ...]] = MappingProxyType(
    {
        "plain": DEFAULT_LIFECYCLE,
        # truss has seen this order, on candidates for promotion: SCALED_TO_ZERO long before the first ACTIVE.
        "zero-first": _ZERO_FIRST,
        "idle": (
            *DEFAULT_LIFECYCLE[:-1],
            Stage(ACTIVE, idle=900.0),
            Stage(SCALED_TO_ZERO),
            Stage("WAKING_UP", 5.0),
            Stage("LOADING_MODEL", 20.0, then=ACTIVE),
        ),
        # Which status a preempted sampler shows is not documented; this is a guess.
        "spot": (*DEFAULT_LIFECYCLE[:-1], Stage(ACTIVE, preemption=600.0)),
        "flaky": (
            Stage("BUILDING", 2.0, failure=0.1),
            Stage("DEPLOYING", 8.0, failure=0.1),
            Stage("LOADING_MODEL", 20.0, failure=0.1),
            Stage(ACTIVE, 300.0, then=ACTIVE, failure=0.2, fails_as="UNHEALTHY"),
            Stage("UNHEALTHY", 10.0, then=ACTIVE, failure=0.2),
        ),
    }
)
"""Lifecycles by name, for `Emulator(lifecycles={"*": COURSES["idle"]})`."""

SERVERLESS_LIFECYCLE: tuple[Stage, ...] = (Stage(ACTIVE),)
"""The lifecycle of a serverless sampler, which has no deployment to start.

Which status such a sampler reports is not documented; this is a guess.
"""

TRAINER_LIFECYCLE: tuple[Stage, ...] = (Stage("CREATED", 1.0), Stage("DEPLOYING", 8.0), Stage("RUNNING"))
"""The lifecycle of the trainer of a run, whose statuses are not those of a sampler."""


def lifecycle(stages: str | Iterable[Stage | tuple[str, float | None]]) -> tuple[Stage, ...]:
    """Turn stages or (status, seconds) pairs, or a name out of `COURSES`, into a checked lifecycle.

    Raises:
        TypeError: *stages* is none of these.
        ValueError: there is no course of that name; there is no stage; a stage that is not the last never
            ends (no *seconds*, no *idle*, and not SCALED_TO_ZERO, which a wake ends); or a *then* or
            *preempted* names no stage.
    """
    if isinstance(stages, str):
        if stages not in COURSES:
            raise ValueError(f"{stages!r} is none of {', '.join(COURSES)}")
        return COURSES[stages]
    if not isinstance(stages, Iterable):
        raise TypeError(f"a lifecycle is made of stages, or the name of one; it cannot be {stages!r}")
    parsed = tuple(_stage(stage) for stage in stages)
    if not parsed:
        raise ValueError("a lifecycle needs at least one stage")
    for stage in parsed[:-1]:
        if stage.seconds is None and stage.idle is None and stage.status != SCALED_TO_ZERO:
            raise ValueError(f"stage {stage.status} never ends, so the stages after it are never reached")
    for stage in parsed:
        for target in (stage.then, None if stage.preemption is None else stage.preempted):
            if target is not None and position(parsed, target) is None:
                raise ValueError(f"stage {stage.status} leads to {target}, which is no stage")
    return parsed


def _stage(stage: Stage | tuple[str, float | None]) -> Stage:
    if isinstance(stage, Stage):
        return stage
    if not isinstance(stage, (tuple, list)) or not stage or len(stage) > 2:
        raise TypeError(f"a stage is a Stage or a pair of status and seconds; it cannot be {stage!r}")
    return Stage(*stage)


def position(stages: Sequence[Stage], status: str) -> int | None:
    """Find the first stage with a status."""
    return next((index for index, stage in enumerate(stages) if stage.status == status), None)


def faster(stages: Iterable[Stage], speed: float) -> tuple[Stage, ...]:
    """Divide every duration by *speed*."""

    def part(seconds: float | None) -> float | None:
        return None if seconds is None else max(seconds / speed, SHORTEST_SECONDS)

    return tuple(
        evolve(
            stage,
            seconds=part(stage.seconds),
            idle=part(stage.idle),
            preemption=part(stage.preemption),
        )
        for stage in stages
    )


@frozen
class Lifecycles:
    """The lifecycle of each base model, and one for all others."""

    by_model: Mapping[str, tuple[Stage, ...]]
    fallback: tuple[Stage, ...]
    deactivation_seconds: float
    trainer: tuple[Stage, ...]

    @classmethod
    def of(
        cls,
        lifecycles: Mapping[str, str | Sequence[Stage | tuple[str, float | None]]] | None = None,
        *,
        speed: float = 1.0,
    ) -> "Lifecycles":
        """Check *lifecycles* (by base model, `"*"` for the others) and speed them up.

        Raises:
            TypeError: it is no mapping from base models to stages.
            ValueError: a lifecycle is not valid, or *speed* is not a positive finite number.
        """
        if lifecycles is not None and not isinstance(lifecycles, Mapping):
            raise TypeError(f"lifecycles must be a mapping from base models to stages, not {lifecycles!r}")
        if not all(isinstance(model, str) for model in lifecycles or {}):
            raise TypeError("lifecycles are by base model, which is a string")
        if not (finite(speed) and speed > 0):
            raise ValueError(f"speed must be positive, not {speed!r}")
        given = {model: faster(lifecycle(stages), speed) for model, stages in (lifecycles or {}).items()}
        fallback = given.pop(ANY_MODEL, None) or faster(DEFAULT_LIFECYCLE, speed)
        return cls(given, fallback, DEACTIVATION_SECONDS / speed, faster(TRAINER_LIFECYCLE, speed))

    def of_model(self, base_model: str) -> tuple[Stage, ...]:
        """Return the stages of one base model."""
        return self.by_model.get(base_model, self.fallback)
