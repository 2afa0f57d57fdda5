"""What the API speaks of, as frozen attrs classes. No JSON, no I/O.

Names and spellings are the API's (`GET /v1/loops/...`, OpenAPI document of November 2026). All datetimes are aware
and in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from attrs import field, frozen

from . import _validate


class DeploymentStatus(StrEnum):
    """The statuses of a sampler that the API documents (`DeploymentStatusV1`)."""

    BUILDING = "BUILDING"
    """Its image is being built."""
    DEPLOYING = "DEPLOYING"
    """It is being scheduled."""
    DEPLOY_FAILED = "DEPLOY_FAILED"
    """It could not be scheduled and never will be."""
    LOADING_MODEL = "LOADING_MODEL"
    """A replica is up and loads its weights; from here on it is billed."""
    ACTIVE = "ACTIVE"
    """It serves requests."""
    UNHEALTHY = "UNHEALTHY"
    """It is up but erring; it may recover."""
    BUILD_FAILED = "BUILD_FAILED"
    """Its image could not be built and never will be."""
    BUILD_STOPPED = "BUILD_STOPPED"
    """Somebody stopped the build."""
    DEACTIVATING = "DEACTIVATING"
    """It is being shut down."""
    INACTIVE = "INACTIVE"
    """It is shut down."""
    FAILED = "FAILED"
    """It does not exist (any more)."""
    UPDATING = "UPDATING"
    """It is updated, or moves between clusters."""
    SCALED_TO_ZERO = "SCALED_TO_ZERO"
    """It is healthy and has no replica; a wake or a request starts one. It can come before the first ACTIVE."""
    WAKING_UP = "WAKING_UP"
    """It is starting from zero replicas."""


_STATUSES: Final[Mapping[str, DeploymentStatus]] = {status.value: status for status in DeploymentStatus}


def status_of(name: str) -> DeploymentStatus | str:
    """Return the member of `DeploymentStatus` called *name*, or *name* itself if the API added it later."""
    return _STATUSES.get(name, name)


@frozen
class Session:
    """A Loops session: the bracket around samplers and runs."""

    id: str


@frozen
class InstanceType:
    """The machine that a sampler runs on."""

    id: str = ""
    name: str = ""
    memory_limit_mib: int | None = None
    millicpu_limit: int | None = None
    gpu_count: int | None = None
    gpu_type: str | None = None
    gpu_memory_limit_mib: int | None = None


@frozen
class Sampler:
    """A sampler as the API last described it; to see it move, ask again or `watch()` it."""

    id: str
    base_url: str
    """Where it serves; empty while the service has not assigned one."""
    base_model: str
    created_at: datetime
    """By the service's clock, in UTC."""
    status: DeploymentStatus | str
    """A member of `DeploymentStatus`, or the plain name of a status that the API added later."""
    model_id: str | None = None
    """None for a serverless sampler."""
    deployment_id: str | None = None
    """None for a serverless sampler."""
    user_email: str | None = None
    """Its owner, if the service says so."""
    instance_type: InstanceType | None = None
    node_count: int = 1


@frozen
class StatusChange:
    """One step of a wait: the first status that it saw, or a status other than the one before."""

    sampler: Sampler
    """The sampler as it was seen at this step."""
    previous: DeploymentStatus | str | None
    """The status before; None at the first step."""
    status: DeploymentStatus | str
    elapsed: float
    """Seconds from the wait's start until this was seen; monotonic."""


@frozen
class EnablementDetails:
    """Why a model cannot be used, and what to do about it."""

    reason: str
    """`needs_approval`, `sequence_length_unsupported`, `loops_not_enabled`, or a name added later."""
    reason_detail: str = ""
    remediation: str = ""


@frozen
class SupportedModel:
    """A base model that Loops knows; that it is enabled does not promise a free GPU."""

    model_name: str
    max_seq_len: int
    """Longest sequence that the model supports, in tokens."""
    max_enabled_seq_len: int = 0
    """Longest sequence that this account may use, in tokens; 0 means that it cannot run."""
    supports_vision_language: bool = False
    enabled: bool = True
    serverless: bool | None = None
    """None where the service does not say."""
    enablement_details: EnablementDetails | None = None


@frozen
class LoRAConfig:
    """How the adapter of a checkpoint is laid out."""

    config_version: str
    targets: tuple[str, ...] = ()
    expert_layout: str | None = None


_CHECKPOINT_PATH = re.compile(r"bt://loops:([^/\s:]+)/(weights|sampler_weights)/([^/\s]+)/?")


@frozen
class CheckpointPath:
    """A `bt://loops:<run_id>/(weights|sampler_weights)/<name>` URI; `str()` prints it.

    `sampler_weights` are for samplers, `weights` for trainers.
    """

    run_id: str = field()
    target: str = field()
    """`weights` or `sampler_weights`."""
    name: str = field()

    def __attrs_post_init__(self) -> None:
        for attribute in ("run_id", "target", "name"):
            _validate.require_str(attribute, getattr(self, attribute))
        if _CHECKPOINT_PATH.fullmatch(str(self)) is None or self.name.endswith("/"):
            raise ValueError(f"not a checkpoint path: {str(self)!r}; {_FORM}")

    @classmethod
    def parse(cls, value: str | CheckpointPath) -> Self:
        """Read a checkpoint URI; one trailing slash, which the service sometimes adds, is dropped.

        Raises:
            TypeError: *value* is no string.
            ValueError: *value* does not have the form above.
        """
        if isinstance(value, CheckpointPath):
            value = str(value)
        match = _CHECKPOINT_PATH.fullmatch(_validate.require_str("checkpoint path", value))
        if match is None:
            raise ValueError(f"not a checkpoint path: {value!r}; {_FORM}")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"bt://loops:{self.run_id}/{self.target}/{self.name}"


_FORM = "it has the form bt://loops:<run_id>/sampler_weights/<checkpoint_name> (or /weights/ for a trainer's)"


@frozen
class Checkpoint:
    """Weights that a run saved."""

    id: str
    checkpoint_id: str
    """The name within its run."""
    run_id: str
    target: str
    """`sampler`, `trainer`, or a name added later."""
    created_at: datetime
    checkpoint_type: str | None = None
    base_model: str | None = None
    size_bytes: int = 0
    sync_status: str | None = None
    """`SYNCING`, `COMPLETE`, or None where the service does not say (it may stay None)."""
    lora_config: LoRAConfig | None = None
    """None means that the checkpoint cannot be loaded."""

    @property
    def path(self) -> CheckpointPath:
        """Its URI, as `samplers.create(model_path=...)` takes it if `target` is `sampler`."""
        return CheckpointPath(
            self.run_id, "sampler_weights" if self.target == "sampler" else "weights", self.checkpoint_id
        )


def _model_path(value: str | CheckpointPath | None) -> str | None:
    if value is None:
        return None
    path = CheckpointPath.parse(value)
    if path.target != "sampler_weights":
        raise ValueError(f"model_path must be a sampler_weights checkpoint, and {path} holds a trainer's weights")
    return str(path)


@frozen
class SamplerSpec:
    """What sampler to create: the arguments of `samplers.create()` without the session.

    Raises:
        TypeError, ValueError: An argument is not what the field says.
    """

    base_model: str = field()
    """Hugging Face name, such as `Qwen/Qwen3-8B`."""
    max_seq_length: int | None = field(default=None, kw_only=True)
    """Longest prompt in tokens, at least 1; None takes the model's default."""
    model_path: str | None = field(default=None, kw_only=True, converter=_model_path)
    """`bt://` URI of a `sampler_weights` checkpoint to start from."""
    reuse_from_session_id: str | None = field(default=None, kw_only=True)
    """Session whose deployment is reused if it still can be (best effort, by the service)."""
    run_id: str | None = field(default=None, kw_only=True)
    """Run to pair the sampler to; a paired sampler is deactivated with its run only."""
    num_replicas: int | None = field(default=None, kw_only=True)
    """Smallest and largest number of replicas at once, at least 1: set, the sampler never scales to zero."""
    availability_model: str | None = field(default=None, kw_only=True)
    """`dedicated`, `spot`, or a name added later."""

    def __attrs_post_init__(self) -> None:
        _validate.require_str("base_model", self.base_model)
        _validate.optional_positive_int("max_seq_length", self.max_seq_length)
        _validate.optional_positive_int("num_replicas", self.num_replicas)
        for name in ("reuse_from_session_id", "run_id", "availability_model"):
            _validate.optional_str(name, getattr(self, name))
