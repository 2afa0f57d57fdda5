"""A member of a fleet, and the record of its create."""

from __future__ import annotations

from enum import Enum, StrEnum

from attrs import define

from ..errors import CreateOutcomeUnknown, SamplerFailed
from ..models import DeploymentStatus, Sampler, SamplerSpec
from .interfaces import UnknownCreate


class MemberState(StrEnum):
    """Where a member of a fleet stands."""

    QUEUED = "QUEUED"
    """Its create is not sent yet."""
    CREATING = "CREATING"
    """Its create is sent, and not answered yet."""
    UNKNOWN = "UNKNOWN"
    """The response to its create was lost: a sampler may or may not exist."""
    WAITING = "WAITING"
    """Its sampler exists and is not ready yet."""
    ACTIVE = "ACTIVE"
    """Its sampler is ready."""
    FAILED = "FAILED"
    """It did not come up; `error` says why."""
    DETACHED = "DETACHED"
    """Its sampler was detached, and belongs to the caller."""
    DEACTIVATED = "DEACTIVATED"
    """Its sampler was ready, or on its way, and is deactivated."""


class CreateState(Enum):
    """The life of one create of a launch, from the queue to the end of its sampler.

    `QUEUED → SENDING → UNKNOWN | CREATED → DEACTIVATING → GONE | DETACHED`; a create that was rejected is QUEUED again,
    and a deactivation that failed leaves it CREATED.
    """

    QUEUED = "queued"
    """Nothing was sent, or what was sent has certainly made nothing."""
    SENDING = "sending"
    """A POST may have made a sampler whose id is not known yet: it must not be cut off."""
    UNKNOWN = "unknown"
    """The response was lost."""
    CREATED = "created"
    """The sampler exists, and the launch owns it."""
    DEACTIVATING = "deactivating"
    """The sampler is being deactivated."""
    GONE = "gone"
    """The sampler is deactivated."""
    DETACHED = "detached"
    """The sampler belongs to the caller."""


@define(eq=False)
class Create:
    """One create of a member, and the sampler that it made."""

    spec: SamplerSpec
    number: int
    """Its number within the launch."""
    state: CreateState = CreateState.QUEUED
    sampler_id: str | None = None
    unknown: UnknownCreate | None = None
    """What is known of it while it is UNKNOWN."""
    last_error: Exception | None = None
    """What the last attempt to deactivate the sampler came to, if it failed."""

    @property
    def is_owned(self) -> bool:
        """Whether the launch must deactivate its sampler."""
        return self.state in {CreateState.CREATED, CreateState.DEACTIVATING}

    @property
    def must_be_finished(self) -> bool:
        """Whether the end of the block waits for what is going on."""
        return self.may_have_made_unknown or self.state is CreateState.DEACTIVATING

    @property
    def may_have_made_unknown(self) -> bool:
        """Whether a sampler may exist whose id is not known."""
        return self.state in {CreateState.SENDING, CreateState.UNKNOWN}


class Member:
    """One of the samplers that a launch was asked for.

    Once it is done, either `sampler` or `error` is there, and stays. Until then both are None. Reading an attribute has
    no side effect.
    """

    def __init__(self, index: int, spec: SamplerSpec) -> None:
        self._index = index
        self._spec = spec
        self._sampler: Sampler | None = None
        self._last_seen: Sampler | None = None
        self._error: Exception | None = None
        self._create: Create | None = None
        self._was_cut_off = False
        self._is_acknowledged = False
        self._resumed = False
        self._failures: tuple[SamplerFailed, ...] = ()

    @property
    def index(self) -> int:
        """Its place among the specs of the launch, from 0."""
        return self._index

    @property
    def spec(self) -> SamplerSpec:
        """The spec that its sampler was created from."""
        return self._spec

    @property
    def state(self) -> MemberState:
        """Where it stands."""
        create = self._create
        if create is not None and create.state is CreateState.DETACHED:
            return MemberState.DETACHED
        if self._error is not None:
            return self._state_with_error(self._error)
        if self._sampler is not None:
            return MemberState.DEACTIVATED if create is None or not create.is_owned else MemberState.ACTIVE
        if create is None or create.state is CreateState.QUEUED:
            return MemberState.QUEUED
        if create.state is CreateState.SENDING:
            return MemberState.CREATING
        return MemberState.UNKNOWN if create.state is CreateState.UNKNOWN else MemberState.WAITING

    def _state_with_error(self, error: Exception) -> MemberState:
        if isinstance(error, CreateOutcomeUnknown):
            return MemberState.UNKNOWN
        if self._was_cut_off and self._create is not None:
            # The end of the block found it on its way.
            if self._create.is_owned:
                return MemberState.WAITING
            if self._create.state is CreateState.GONE:
                return MemberState.DEACTIVATED
        return MemberState.FAILED

    @property
    def sampler(self) -> Sampler | None:
        """The sampler as it was when it came up; None before, and for a member that did not come up."""
        return self._sampler

    @property
    def error(self) -> Exception | None:
        """Why it did not come up; None before that is known, and for a member that did.

        It is what `samplers.create()`, `wait_until_active()` or `on_status` raised; a RuntimeError for a member that
        was still on its way when the block ended.
        """
        return self._error

    @property
    def done(self) -> bool:
        """Whether it has a sampler that came up, or an error."""
        return self._sampler is not None or self._error is not None

    @property
    def sampler_id(self) -> str | None:
        """The id of its present or last sampler; None while none is known. A relaunch changes it."""
        return self._create.sampler_id if self._create is not None else None

    @property
    def status(self) -> DeploymentStatus | str | None:
        """The status of its present or last sampler as it was last seen; None before the first."""
        return self._last_seen.status if self._last_seen is not None else None

    @property
    def failures(self) -> tuple[SamplerFailed, ...]:
        """How its earlier samplers failed, oldest first; each was deactivated before it was replaced."""
        return self._failures

    @property
    def resumed(self) -> bool:
        """Whether its sampler was created by an earlier launch of the journal."""
        return self._resumed

    def __repr__(self) -> str:
        error = f" ({type(self._error).__name__})" if self._error is not None else ""
        sampler = f" sampler {self.sampler_id}" if self.sampler_id is not None else ""
        return f"<Member {self._index} {self._spec.base_model}{sampler}: {self.state}{error}>"
