"""A member of a fleet, and the record of its create."""

from __future__ import annotations

import asyncio
from enum import Enum, StrEnum

from attrs import Factory, define

from ..errors import CreateOutcomeUnknown, SamplerFailed
from ..models import DeploymentStatus, Sampler, SamplerSpec
from .interfaces import UnknownCreate


class MemberState(StrEnum):
    """The present state of a member of a fleet."""

    QUEUED = "QUEUED"
    """Its create has not been sent."""
    CREATING = "CREATING"
    """Its create was sent, and the response has not arrived."""
    UNKNOWN = "UNKNOWN"
    """The response to its create was lost: a sampler may or may not exist."""
    WAITING = "WAITING"
    """Its sampler exists, and is coming up."""
    ACTIVE = "ACTIVE"
    """Its sampler came up, and is owned by the launch."""
    FAILED = "FAILED"
    """It did not come up; `error` says why."""
    DETACHED = "DETACHED"
    """Its sampler was detached: it stays after the block, and the caller owns it."""
    DEACTIVATED = "DEACTIVATED"
    """Its sampler had come up, or was coming up when the block ended, and is deactivated."""


class CreateState(Enum):
    """The life of one create of a launch, from the queue to the end of its sampler.

    `QUEUED → SENDING → UNKNOWN | CREATED → DEACTIVATING → GONE | DETACHED`. A create that was rejected is QUEUED again,
    and a deactivation that failed leaves it CREATED. A sampler of an earlier launch begins as CREATED.
    """

    QUEUED = "queued"
    """No POST was sent, or the POST certainly made no sampler."""
    SENDING = "sending"
    """A POST is in flight and may make a sampler whose id is not known yet: it must not be cancelled."""
    UNKNOWN = "unknown"
    """The response was lost."""
    CREATED = "created"
    """The sampler exists, and the launch owns it."""
    DEACTIVATING = "deactivating"
    """The sampler is being deactivated."""
    GONE = "gone"
    """The sampler is deactivated."""
    DETACHED = "detached"
    """The sampler was detached, and the caller owns it."""


@define(eq=False)
class Create:
    """One create of a launch, and the sampler that it made; or a sampler that an earlier launch made."""

    spec: SamplerSpec | None
    """Spec of the create; None for a sampler of an earlier launch whose journal does not have it."""
    number: int | None = None
    """Number of the create within the launch; None for a sampler of an earlier launch."""
    state: CreateState = CreateState.QUEUED
    sampler_id: str | None = None
    unknown: UnknownCreate | None = None
    """The unknown create while the state is UNKNOWN."""
    is_acknowledged: bool = False
    """Whether the journal says that the caller handles the unknown create."""
    last_error: Exception | None = None
    """Why the last attempt to deactivate the sampler failed; None if none has failed."""
    deactivation: asyncio.Lock = Factory(asyncio.Lock)
    """Held while the sampler is being deactivated."""
    members: list[Member] = Factory(list)
    """Members that use the sampler, or have used it: creates for the same run may return the same one."""

    @property
    def is_owned(self) -> bool:
        """Whether the launch must deactivate the sampler."""
        return self.state in {CreateState.CREATED, CreateState.DEACTIVATING}

    @property
    def must_be_finished(self) -> bool:
        """Whether the end of the block waits for the request that is in flight."""
        return self.may_have_made_unknown or self.state is CreateState.DEACTIVATING

    @property
    def may_have_made_unknown(self) -> bool:
        """Whether a sampler may exist whose id is not known."""
        return self.state in {CreateState.SENDING, CreateState.UNKNOWN}


class Member:
    """One of the samplers that a launch was asked for.

    Once it is done, one of `sampler` and `error` is set, and stays. Until then both are None. Reading an attribute has
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
        self._has_worked = False
        self._failures: tuple[SamplerFailed, ...] = ()

    @property
    def index(self) -> int:
        """Position of its spec among those of the launch, from 0."""
        return self._index

    @property
    def spec(self) -> SamplerSpec:
        """Spec of the sampler that was asked for."""
        return self._spec

    @property
    def state(self) -> MemberState:
        """The present state."""
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
            # It was still coming up when the block ended.
            if self._create.is_owned:
                return MemberState.WAITING
            if self._create.state is CreateState.GONE:
                return MemberState.DEACTIVATED
        return MemberState.FAILED

    @property
    def sampler(self) -> Sampler | None:
        """The sampler as it was when it came up; None before that, and for a member that did not come up."""
        return self._sampler

    @property
    def error(self) -> Exception | None:
        """Why it did not come up; None before that is known, and for a member that came up.

        It is what `samplers.create()`, `wait_until_active()`, `on_status` or the probe raised; a RuntimeError for a
        member that was still coming up when the block ended.
        """
        return self._error

    @property
    def done(self) -> bool:
        """Whether it has come up or failed, so that `sampler` or `error` is set."""
        return self._sampler is not None or self._error is not None

    @property
    def sampler_id(self) -> str | None:
        """Id of its present or last sampler; None while none is known. A relaunch changes it."""
        return self._create.sampler_id if self._create is not None else None

    @property
    def status(self) -> DeploymentStatus | str | None:
        """Status of its present or last sampler at the last poll; None before the first one is known."""
        return self._last_seen.status if self._last_seen is not None else None

    @property
    def failures(self) -> tuple[SamplerFailed, ...]:
        """The failures of the samplers that were replaced, oldest first; each sampler was deactivated first."""
        return self._failures

    @property
    def resumed(self) -> bool:
        """Whether its present or last sampler was created by an earlier launch of the journal."""
        return self._create is not None and self._create.number is None

    def __repr__(self) -> str:
        error = f" ({type(self._error).__name__})" if self._error is not None else ""
        sampler = f" sampler {self.sampler_id}" if self.sampler_id is not None else ""
        return f"<Member {self._index} {self._spec.base_model}{sampler}: {self.state}{error}>"
