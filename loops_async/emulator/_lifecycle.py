"""What a sampler goes through after its create, as data."""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from attrs import frozen

DEACTIVATING = "DEACTIVATING"
INACTIVE = "INACTIVE"
SCALED_TO_ZERO = "SCALED_TO_ZERO"
ACTIVE = "ACTIVE"

FREE_STATUSES = frozenset(
    {DEACTIVATING, INACTIVE, "FAILED", "BUILD_FAILED", "DEPLOY_FAILED", "BUILD_STOPPED"},
)
"""Statuses in which a sampler holds no GPU, or is about to give it back."""

RELEASE_SECONDS = 2.0
"""How long a deactivated sampler stays DEACTIVATING, at speed 1."""

ANY_MODEL = "*"
"""The key under which a mapping of lifecycles holds the one for all other base models."""


@frozen
class Stage:
    """One status of a lifecycle and how long it lasts.

    Raises:
        ValueError: the status is empty, or *seconds* is not a positive finite number.
    """

    status: str
    """Any name; those that the API does not know are allowed, to try a client on them."""

    seconds: float | None = None
    """Duration at speed 1; `None` stays until something moves the sampler on."""

    def __attrs_post_init__(self) -> None:
        if not self.status:
            raise ValueError("a stage needs the name of a status")
        if self.seconds is not None and not (isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"the seconds of stage {self.status} must be positive, not {self.seconds!r}")


DEFAULT_LIFECYCLE: tuple[Stage, ...] = (
    Stage("BUILDING", 2.0),
    Stage("DEPLOYING", 8.0),
    Stage("LOADING_MODEL", 20.0),
    Stage(ACTIVE, None),
)
"""A cold start without detours, ten times faster than a quick real one."""


def lifecycle(stages: Iterable[Stage | tuple[str, float | None]]) -> tuple[Stage, ...]:
    """Turn stages or (status, seconds) pairs into a checked lifecycle.

    Raises:
        ValueError: there is no stage, or one would never end: `None` seconds are
            for the last stage and for SCALED_TO_ZERO, which a wake ends.
    """
    parsed = tuple(stage if isinstance(stage, Stage) else Stage(*stage) for stage in stages)
    if not parsed:
        raise ValueError("a lifecycle needs at least one stage")
    for stage in parsed[:-1]:
        if stage.seconds is None and stage.status != SCALED_TO_ZERO:
            raise ValueError(f"stage {stage.status} never ends, so the stages after it are never reached")
    return parsed


def faster(stages: Iterable[Stage], speed: float) -> tuple[Stage, ...]:
    """Divide every duration by *speed*."""
    return tuple(Stage(stage.status, None if stage.seconds is None else stage.seconds / speed) for stage in stages)


@frozen
class Lifecycles:
    """The lifecycle of every base model, with one for those not named."""

    by_model: Mapping[str, tuple[Stage, ...]]
    fallback: tuple[Stage, ...]
    release_seconds: float

    @classmethod
    def of(
        cls,
        lifecycles: Mapping[str, Sequence[Stage | tuple[str, float | None]]] | None = None,
        *,
        speed: float = 1.0,
    ) -> "Lifecycles":
        """Check *lifecycles* (by base model, `"*"` for the others) and speed them up.

        Raises:
            ValueError: a lifecycle is not valid, or *speed* is not a positive finite number.
        """
        if not (isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be positive, not {speed!r}")
        given = {model: faster(lifecycle(stages), speed) for model, stages in (lifecycles or {}).items()}
        fallback = given.pop(ANY_MODEL, None) or faster(DEFAULT_LIFECYCLE, speed)
        return cls(given, fallback, RELEASE_SECONDS / speed)

    def of_model(self, base_model: str) -> tuple[Stage, ...]:
        """Return the stages of one base model."""
        return self.by_model.get(base_model, self.fallback)
