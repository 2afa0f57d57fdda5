"""A member of a fleet, as its users see it."""

from __future__ import annotations

from ..errors import SamplerFailed
from ..models import DeploymentStatus, Sampler, SamplerSpec


class Member:
    """One of the samplers that a launch was asked for.

    Once it has settled, either `sampler` or `error` is there, and stays. Until then both are None.
    """

    def __init__(self, index: int, spec: SamplerSpec) -> None:
        self._index = index
        self._spec = spec
        self._sampler: Sampler | None = None
        self._sampler_id: str | None = None
        self._latest: Sampler | None = None
        self._error: Exception | None = None
        self._is_told = False
        self._is_cut_off = False
        self._failures: tuple[SamplerFailed, ...] = ()

    @property
    def index(self) -> int:
        """Its place among the specs of the launch, from 0."""
        return self._index

    @property
    def spec(self) -> SamplerSpec:
        """What was asked for."""
        return self._spec

    @property
    def sampler(self) -> Sampler | None:
        """The sampler as it was when it came up; None before, and for a member that did not come up."""
        return self._sampler

    @property
    def error(self) -> Exception | None:
        """Why it did not come up; None before that is known, and for a member that did.

        It is what `samplers.create()` or `wait_until_active()` raised, or what `on_status` did; a RuntimeError for a
        member that was still on its way when the block ended. A `CreateOutcomeUnknown` counts as told once this was
        read; what nobody has read is raised when the block ends.
        """
        self._is_told = self._is_told or self._error is not None
        return self._error

    @property
    def settled(self) -> bool:
        """Whether it is known how it ended."""
        return self._sampler is not None or self._error is not None

    @property
    def sampler_id(self) -> str | None:
        """The id of its present or last sampler; None while none is known. A relaunch changes it."""
        return self._sampler_id

    @property
    def status(self) -> DeploymentStatus | str | None:
        """The status of its present or last sampler as it was last seen; None while none was."""
        return self._latest.status if self._latest is not None else None

    @property
    def failures(self) -> tuple[SamplerFailed, ...]:
        """How its earlier samplers failed, oldest first; all of them were released before they were replaced."""
        return self._failures

    def __repr__(self) -> str:
        if self._error is not None:
            state = type(self._error).__name__
        else:
            state = "on its way" if self._latest is None else str(self._latest.status)
        sampler = f" sampler {self._sampler_id}" if self._sampler_id is not None else ""
        return f"<Member {self._index} {self._spec.base_model}{sampler} ({state})>"
