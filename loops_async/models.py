"""The objects of the API, as frozen attrs classes. No I/O.

Names and spellings are the API's (`GET /v1/loops/...`, OpenAPI document of November 2026). All datetimes are aware
and in UTC.

The classes are also the one description of the API's documents. Where a document differs from the plain case (a member
of the same name and type), the field says so in its metadata (`API_PATH`, `NULL`, `DETAIL`). The codec reads documents
and `to_dict()` writes them by these fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias, overload

from attrs import AttrsInstance, field, fields, frozen, has

from . import _validate


class DeploymentStatus(StrEnum):
    """The statuses of a sampler that the API documents (`DeploymentStatusV1`)."""

    BUILDING = "BUILDING"
    """The service builds the sampler's image."""
    DEPLOYING = "DEPLOYING"
    """The service searches for a machine."""
    DEPLOY_FAILED = "DEPLOY_FAILED"
    """The service found no machine; the sampler will never come up."""
    LOADING_MODEL = "LOADING_MODEL"
    """A replica is up and loads its weights; from here on its GPU minutes are metered."""
    ACTIVE = "ACTIVE"
    """The sampler serves requests."""
    UNHEALTHY = "UNHEALTHY"
    """The sampler is up and fails its health checks; it may recover."""
    BUILD_FAILED = "BUILD_FAILED"
    """The image could not be built; the sampler will never come up."""
    BUILD_STOPPED = "BUILD_STOPPED"
    """The build was stopped; the sampler will never come up."""
    DEACTIVATING = "DEACTIVATING"
    """The sampler was deactivated, and is shutting down."""
    INACTIVE = "INACTIVE"
    """The sampler is shut down."""
    FAILED = "FAILED"
    """The sampler does not exist (any more)."""
    UPDATING = "UPDATING"
    """The sampler is being updated, or moves to another cluster."""
    SCALED_TO_ZERO = "SCALED_TO_ZERO"
    """The sampler is healthy and has no replica; a wake or a request starts one. Can come before the first ACTIVE."""
    WAKING_UP = "WAKING_UP"
    """The sampler starts from zero replicas."""


# What a status means stands here and nowhere else. A status in none of these sets, known or not, means: keep waiting,
# and for a teardown: keep going.

READY: Final = frozenset({DeploymentStatus.ACTIVE})
"""Statuses that end a wait well."""

PERMANENT: Final = frozenset(
    {DeploymentStatus.BUILD_FAILED, DeploymentStatus.DEPLOY_FAILED, DeploymentStatus.BUILD_STOPPED}
)
"""Failed statuses that a sampler never leaves."""

FAILED: Final = PERMANENT | {
    DeploymentStatus.UNHEALTHY,
    DeploymentStatus.DEACTIVATING,
    DeploymentStatus.INACTIVE,
    DeploymentStatus.FAILED,
}
"""Statuses that end a wait with `SamplerFailed`."""

TEARDOWN_IN_PROGRESS: Final = frozenset({DeploymentStatus.DEACTIVATING})
"""Statuses of samplers that are shutting down: a teardown has nothing more to do."""

TEARDOWN_DONE: Final = PERMANENT | {DeploymentStatus.INACTIVE, DeploymentStatus.FAILED}
"""Statuses of samplers that are gone, or never came up: a teardown has nothing to do."""

ONLY_BY_DEACTIVATION: Final = frozenset({DeploymentStatus.DEACTIVATING, DeploymentStatus.INACTIVE})
"""Statuses that a sampler has only after it was deactivated, and so never right after its create."""


_STATUSES: Final[Mapping[str, DeploymentStatus]] = {status.value: status for status in DeploymentStatus}

StatusName: TypeAlias = DeploymentStatus | str
"""A documented status, or the plain name of a status that the API added later."""


def status_of(name: str) -> StatusName:
    """Return the member of `DeploymentStatus` called *name*, or *name* itself if the API added it later."""
    return _STATUSES.get(name, name)


API_PATH: Final = "loops_async.api_path"
"""Metadata key: the names that lead to a field's value in the API's document; without it, the field's own name."""

NULL: Final = "loops_async.null"
"""Metadata key: the value that `null` stands for where the field has no default. (Where it has one, it is that.)"""

DETAIL: Final = "loops_async.detail"
"""Metadata key: True for a field that nothing depends on. What cannot be read there counts as left out, so that a
sampler is not lost for it."""


@frozen
class Session:
    """A Loops session, which groups samplers and runs.

    Attributes:
        id: Id of the session.
    """

    id: str


@frozen
class InstanceType:
    """The machine that a sampler runs on. A limit that the service does not name is None.

    Attributes:
        id: Id of the instance type.
        name: Name of the instance type for people, such as `H100:8`.
        memory_limit_mib: Memory of the machine, in MiB.
        millicpu_limit: CPUs of the machine, in thousandths of a CPU.
        gpu_count: Number of GPUs of the machine.
        gpu_type: Name of the GPUs' type, such as `H100`.
        gpu_memory_limit_mib: Memory of each GPU, in MiB.
    """

    id: str = ""
    name: str = ""
    memory_limit_mib: int | None = None
    millicpu_limit: int | None = None
    gpu_count: int | None = None
    gpu_type: str | None = None
    gpu_memory_limit_mib: int | None = None


@frozen
class Sampler:
    """A sampler as the API last described it. The object does not change: ask again, or use `watch()`.

    Attributes:
        id: Id of the sampler.
        base_url: Address at which the sampler serves; empty while the service has not assigned one.
        base_model: Hugging Face name of the base model, such as `Qwen/Qwen3-8B`.
        created_at: Time at which the service created the sampler, by the service's clock, in UTC.
        status: Status of the sampler: a member of `DeploymentStatus`, or the plain name (`str`) of a status that the
            API added later.
        model_id: Id of the model behind the sampler; None for a serverless sampler.
        deployment_id: Id of the deployment behind the sampler; None for a serverless sampler.
        user_email: E-mail address of the sampler's owner; None where the service does not say.
        instance_type: Machine that each node of the sampler is; None where the service does not say.
        node_count: Number of machines that one replica of the sampler takes.
    """

    id: str
    base_url: str = field(metadata={NULL: ""})
    base_model: str
    created_at: datetime
    status: StatusName = field(metadata={API_PATH: ("status", "name")})
    model_id: str | None = None
    deployment_id: str | None = None
    user_email: str | None = field(default=None, metadata={API_PATH: ("user", "email"), DETAIL: True})
    instance_type: InstanceType | None = field(default=None, metadata={DETAIL: True})
    node_count: int = field(default=1, metadata={DETAIL: True})

    @property
    def serverless(self) -> bool:
        """True if the sampler has no model and no deployment of its own: it serves at once, and idle costs nothing."""
        return self.model_id is None and self.deployment_id is None


@frozen
class StatusChange:
    """One step of a wait: the first status that the wait saw, or a status other than the one before.

    Attributes:
        sampler: The sampler as it was at this step.
        previous: Status before this step; None at the first step.
        status: Status at this step.
        elapsed: Seconds from the start of the wait to this step, by a clock that is never set back.
    """

    sampler: Sampler
    previous: StatusName | None
    status: StatusName
    elapsed: float


@frozen
class EnablementDetails:
    """Why a model cannot be used, and what to do about it.

    Attributes:
        reason: `needs_approval`, `sequence_length_unsupported`, `loops_not_enabled`, or a name that the API added
            later.
        reason_detail: The reason in words; may be empty.
        remediation: What to do about it, in words; may be empty.
    """

    reason: str
    reason_detail: str = ""
    remediation: str = ""


@frozen
class SupportedModel:
    """A base model that Loops knows. An enabled model is no promise of a free GPU.

    Attributes:
        model_name: Hugging Face name of the model, such as `Qwen/Qwen3-8B`.
        max_seq_len: Longest sequence that the model supports, in tokens.
        max_enabled_seq_len: Longest sequence that this account may use, in tokens; 0 means that the model cannot run.
        supports_vision_language: True if the model takes images.
        enabled: True if this account may use the model.
        serverless: True if the model can be served serverless; None where the service does not say.
        enablement_details: Why the model cannot be used; None where there is nothing to say.
    """

    model_name: str
    max_seq_len: int
    max_enabled_seq_len: int = 0
    supports_vision_language: bool = False
    enabled: bool = True
    serverless: bool | None = None
    enablement_details: EnablementDetails | None = field(default=None, metadata={DETAIL: True})


@frozen
class LoRAConfig:
    """How the LoRA adapter of a checkpoint is laid out.

    Attributes:
        config_version: Version of this description; empty where the service does not say.
        targets: Names of the layers that the adapter changes, such as `q_proj`; may be empty.
        expert_layout: How the adapter treats a mixture of experts; None where the service does not say.
    """

    config_version: str = field(default="", metadata={DETAIL: True})
    targets: tuple[str, ...] = field(default=(), metadata={DETAIL: True})
    expert_layout: str | None = field(default=None, metadata={DETAIL: True})


_CHECKPOINT_PATH = re.compile(r"bt://loops:([^/\s:]+)/(weights|sampler_weights)/([^/\s]+)/?")


@frozen
class CheckpointPath:
    """A `bt://loops:<run_id>/(weights|sampler_weights)/<name>` URI; `str()` prints it.

    Attributes:
        run_id: Id of the run that saved the checkpoint.
        target: `sampler_weights` for a checkpoint that samplers take, `weights` for one that trainers take.
        name: Name of the checkpoint within its run.

    Raises:
        TypeError, ValueError: An argument is not what the attribute says.
    """

    run_id: str
    target: str
    name: str

    def __attrs_post_init__(self) -> None:
        for name in ("run_id", "target", "name"):
            object.__setattr__(self, name, _validate.require_str(name, getattr(self, name)))
        if _CHECKPOINT_PATH.fullmatch(str(self)) is None or self.name.endswith("/"):
            raise ValueError(f"not a checkpoint path: {str(self)!r}; {_FORM}")

    @classmethod
    def parse(cls, value: str | CheckpointPath) -> Self:
        """Read a checkpoint URI. One trailing slash, which the service sometimes adds, is dropped.

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
    """Weights that a run saved.

    Attributes:
        id: Id of the checkpoint.
        checkpoint_id: Name of the checkpoint within its run.
        run_id: Id of the run that saved the checkpoint.
        target: `sampler`, `trainer`, or a name that the API added later.
        created_at: Time at which the checkpoint was saved, by the service's clock, in UTC.
        checkpoint_type: `lora`, `full`, or another name; None where the service does not say.
        base_model: Hugging Face name of the base model; None where the service does not say.
        size_bytes: Size of the checkpoint's files, in bytes; 0 where the service does not say.
        sync_status: `SYNCING`, `COMPLETE`, or None where the service does not say (it may stay None).
        lora_config: How the LoRA adapter is laid out; None means that the checkpoint cannot be loaded.
    """

    id: str
    checkpoint_id: str
    run_id: str
    target: str
    created_at: datetime
    checkpoint_type: str | None = field(default=None, metadata={DETAIL: True})
    base_model: str | None = None
    size_bytes: int = field(default=0, metadata={DETAIL: True})
    sync_status: str | None = field(default=None, metadata={DETAIL: True})
    lora_config: LoRAConfig | None = None

    @property
    def path(self) -> CheckpointPath:
        """The checkpoint's URI; `samplers.create(model_path=...)` takes it if *target* is `sampler`."""
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
    """Which sampler to create: the arguments of `samplers.create()` without the session.

    Attributes:
        base_model: Hugging Face name of the base model, such as `Qwen/Qwen3-8B`.
        max_seq_length: Longest prompt in tokens, at least 1; None takes the model's default.
        model_path: `bt://` URI of a `sampler_weights` checkpoint to start from; None starts from the base model.
        reuse_from_session_id: Id of a session whose deployment the service reuses if it still can (best effort).
        run_id: Id of a run to pair the sampler to; a paired sampler can only be deactivated together with its run.
        num_replicas: Smallest and largest number of replicas at once, at least 1. If set, the sampler never scales to
            zero.
        availability_model: `dedicated`, `spot`, or a name that the API added later; None leaves it to the service.

    Raises:
        TypeError, ValueError: An argument is not what the attribute says.
    """

    base_model: str
    max_seq_length: int | None = field(default=None, kw_only=True)
    model_path: str | None = field(default=None, kw_only=True, converter=_model_path)
    reuse_from_session_id: str | None = field(default=None, kw_only=True)
    run_id: str | None = field(default=None, kw_only=True)
    num_replicas: int | None = field(default=None, kw_only=True)
    availability_model: str | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        # The plain values are stored, since not everything that is a str by its class can be written as JSON.
        for name, checked in _SPEC_CHECKS.items():
            object.__setattr__(self, name, checked(name, getattr(self, name)))


_SPEC_CHECKS: Final = {
    "base_model": _validate.require_str,
    "max_seq_length": _validate.optional_positive_int,
    "reuse_from_session_id": _validate.optional_str,
    "run_id": _validate.optional_str,
    "num_replicas": _validate.optional_positive_int,
    "availability_model": _validate.optional_str,
}


@overload
def to_dict(model: CheckpointPath) -> str: ...


@overload
def to_dict(model: AttrsInstance) -> dict[str, Any]: ...


def to_dict(model: AttrsInstance) -> dict[str, Any] | str:
    """Return *model* as data that `json.dumps()` writes, in the API's spelling.

    A status of a `Sampler` is `{"name": ...}`, its owner `{"email": ...}`; a `CheckpointPath` is its URI; a time is
    ISO 8601 in UTC and ends in `Z`. Of a `SamplerSpec`, what is None is left out, as in the request that it stands for.

    Raises:
        TypeError: *model* is no model of this package.
    """
    if isinstance(model, CheckpointPath):
        return str(model)
    if not has(type(model)) or type(model).__module__ != __name__:
        raise TypeError(f"to_dict needs a model of loops_async, such as a Sampler, not {type(model).__name__}")
    document: dict[str, Any] = {}
    for attribute in fields(type(model)):
        value = getattr(model, attribute.name)
        if value is None and isinstance(model, SamplerSpec):
            continue
        *parents, name = attribute.metadata.get(API_PATH, (attribute.name,))
        inner = document
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = _plain(value)
    return document


def _plain(value: Any) -> Any:
    if has(type(value)):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        in_utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return in_utc.replace(tzinfo=None).isoformat() + "Z"
    return str(value) if isinstance(value, str) else value
