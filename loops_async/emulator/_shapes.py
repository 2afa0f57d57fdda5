"""The shapes of the documents of the management API, both of requests and of answers, as types.

Requests are checked by these types, answers are written from them, and the schemas of `openapi.json` are generated
from them (see `_contract`). Rules that a type cannot express, such as those between two fields, are in the readers.
The shapes of the data plane are in `_sample_shapes`, those of the emulator's own routes in `_admin_shapes`.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

LARGEST: Final = 10**18 - 1
"""The largest integer of a request: larger than any real count, and less than 64 bits."""

STATUSES: Final = (
    *("BUILDING", "DEPLOYING", "DEPLOY_FAILED", "LOADING_MODEL", "ACTIVE", "UNHEALTHY", "BUILD_FAILED"),
    *("BUILD_STOPPED", "DEACTIVATING", "INACTIVE", "FAILED", "UPDATING", "SCALED_TO_ZERO", "WAKING_UP"),
)
"""The statuses that the API lists."""

_AVAILABILITY: Final = ["dedicated", "spot", "serverless"]
_SAMPLER_WEIGHTS: Final = r"^bt://loops:[^/\s]+/sampler_weights/[^/\s]+/?$"
_TRAINER_WEIGHTS: Final = r"^bt://loops:[^/\s]+/weights/[^/\s]+/?$"
_ANY_WEIGHTS: Final = r"^bt://loops:[^/\s]+/(weights|sampler_weights)/[^/\s]+/?$"

Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=LARGEST)]
Number: TypeAlias = Annotated[int, Meta(ge=0)]
Count: TypeAlias = Annotated[int, Meta(ge=1)]
Moment: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Url: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
_Deprecated: TypeAlias = Annotated[Text, Meta(extra_json_schema={"deprecated": True})]
_Availability: TypeAlias = Annotated[Text, Meta(examples=_AVAILABILITY)]


class Request(Struct, frozen=True):
    """The body of a request; unknown keys are ignored."""


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of an answer, with all its keys."""


class CreateSampler(Request, frozen=True):
    """At least one of base_model, run_id and model_path, which must agree with each other. Unknown keys are ignored."""

    session_id: Text
    base_model: Text | None = None
    run_id: Text | None = None
    model_path: (
        Annotated[
            Text,
            Meta(description="A checkpoint that a sampler can load.", extra_json_schema={"pattern": _SAMPLER_WEIGHTS}),
        ]
        | None
    ) = None
    max_seq_length: (
        Annotated[Positive, Meta(description="The longest prompt, in tokens; at most what the base model takes.")]
        | None
    ) = None
    num_replicas: (
        Annotated[
            Positive,
            Meta(description="The fixed number of replicas; a sampler that has one never scales to zero."),
        ]
        | None
    ) = None
    availability_model: _Availability | None = None
    reuse_from_session_id: _Deprecated | None = None


class CreateRun(Request, frozen=True, kw_only=True):
    """Unknown keys are ignored."""

    session_id: Text
    base_model: Text
    name: Annotated[Text, Meta(max_length=255)] | None = None
    max_seq_len: Positive | None = None
    lora_rank: Positive = 64
    seed: int | None = None
    scale_down_delay_seconds: Annotated[int, Meta(ge=1, le=3600)] = 900
    availability_model: _Availability = "dedicated"
    replicas: Positive = 1
    path: (
        Annotated[
            Text,
            Meta(description="A checkpoint that a trainer can load.", extra_json_schema={"pattern": _TRAINER_WEIGHTS}),
        ]
        | None
    ) = None
    reuse_from_run_id: Text | None = None
    reuse_from_session_id: _Deprecated | None = None
    sampler_num_replicas: Positive | None = None


class ValidateCheckpoint(Request, frozen=True):
    """Unknown keys are ignored."""

    checkpoint_path: Annotated[Text, Meta(extra_json_schema={"pattern": _ANY_WEIGHTS})]
    run_id: Text | None = None


class CodeError(Answer, frozen=True):
    """The usual shape of an error."""

    code: str
    message: str


class ReasonError(Answer, frozen=True):
    """The shape of the sandbox API."""

    error: str
    message: str
    details: dict[str, Any]


class DetailError(Answer, frozen=True):
    """The shape of some gateways."""

    detail: str


class RateLimitExceeded(Answer, frozen=True):
    """A request beyond the rate limit; retry_after is in seconds."""

    error: str
    retry_after: Count


class Empty(Answer, frozen=True):
    """An empty object."""


class User(Answer, frozen=True):
    """The owner of something."""

    email: str | None


class Gone(Answer, frozen=True):
    """The resource that begins to shut down."""

    id: str
    base_model: str
    user: User


class Session(Answer, frozen=True):
    """A session."""

    id: str


class SessionAnswer(Answer, frozen=True):
    session: Session


class SamplerStatus(Answer, frozen=True):
    """The status of a sampler; other names than the listed ones are possible."""

    name: Annotated[Text, Meta(examples=list(STATUSES))]


class InstanceType(Answer, frozen=True):
    """The hardware."""

    id: str
    name: str
    memory_limit_mib: int
    millicpu_limit: int
    gpu_count: int
    gpu_type: str | None
    gpu_memory_limit_mib: int | None


class Sampler(Answer, frozen=True):
    """A sampler: billed until it is deactivated or has failed."""

    id: str
    base_url: Url
    base_model: str
    created_at: Moment
    model_id: Annotated[str, Meta(description="Null for a serverless sampler.")] | None
    deployment_id: Annotated[str, Meta(description="Null for a serverless sampler.")] | None
    status: SamplerStatus
    user: User
    instance_type: InstanceType | None
    node_count: Count


class SamplerAnswer(Answer, frozen=True):
    sampler: Sampler


class SamplerList(Answer, frozen=True):
    """All in one array, the newest first, deactivated ones included."""

    samplers: list[Sampler]


class EnablementDetails(Answer, frozen=True):
    """Why a model cannot be used."""

    reason: str
    reason_detail: str
    remediation: str


class SupportedModel(Answer, frozen=True):
    """A base model."""

    model_name: str
    max_seq_len: Count
    max_enabled_seq_len: Number
    max_context_length: Count
    supports_vision_language: bool
    enabled: bool
    serverless: bool | None
    enablement_details: EnablementDetails | None


class Capabilities(Answer, frozen=True):
    supported_models: list[SupportedModel]


class LoraConfig(Answer, frozen=True):
    """How a checkpoint was adapted."""

    config_version: str
    targets: list[str]
    expert_layout: str | None


class Checkpoint(Answer, frozen=True):
    """A checkpoint of a run; id is the key, checkpoint_id the name."""

    id: str
    checkpoint_id: str
    run_id: str
    target: Literal["sampler", "trainer"]
    checkpoint_type: str
    base_model: str | None
    created_at: Moment
    size_bytes: Number
    sync_status: str | None
    lora_config: LoraConfig | None
    lora_adapter_config: dict[str, int] | None


class CheckpointList(Answer, frozen=True):
    checkpoints: list[Checkpoint]


class CheckpointFile(Answer, frozen=True):
    """A file, with the address that it can be downloaded from without a key."""

    url: str
    relative_file_name: str
    node_rank: Number
    size_bytes: Number
    last_modified: Moment


class CheckpointFiles(Answer, frozen=True):
    """One page of files."""

    presigned_urls: list[CheckpointFile]
    next_page_token: Number | None
    total_count: Number


class Source(Answer, frozen=True):
    """Where a checkpoint is kept."""

    kind: Literal["s3"]


class CheckpointSource(Answer, frozen=True):
    source: Source


class RunStatus(Answer, frozen=True):
    """The status of a run."""

    name: Literal["ACTIVE", "INACTIVE"]


class Run(Answer, frozen=True):
    """A training run with the sampler that is paired to it."""

    id: str
    session_id: str
    deployment_id: str | None
    name: str
    base_model: str
    lora_config_version: str | None
    base_url: Url
    created_at: Moment
    status: RunStatus
    user: User
    sampler: Sampler | None


class RunAnswer(Answer, frozen=True):
    run: Run


class RunList(Answer, frozen=True):
    """All in one array, the newest first."""

    runs: list[Run]


class TrainerStatus(Answer, frozen=True):
    """The status of a trainer deployment; its names are not those of a sampler."""

    name: Annotated[str, Meta(extra_json_schema={"enum": ["CREATED", "DEPLOYING", "RUNNING", "STOPPED"]})]


class TrainerDeployment(Answer, frozen=True):
    """The deployment of the trainer of a run."""

    id: str
    active_run_id: str | None
    latest_run_id: str | None
    base_model: str
    base_url: Url
    status: TrainerStatus
    user: User
    created_at: Moment
    availability_model: str
    instance_type: InstanceType
    node_count: Count
    sampler: Sampler | None


class TrainerDeploymentAnswer(Answer, frozen=True):
    deployment: TrainerDeployment


class TrainerDeploymentList(Answer, frozen=True):
    """All in one array, the newest first."""

    deployments: list[TrainerDeployment]


class Team(Answer, frozen=True):
    """A team."""

    id: str
    name: str
    default: bool
    created_at: Moment


class TeamList(Answer, frozen=True):
    teams: list[Team]


class Autoscaling(Answer, frozen=True):
    """How a deployment scales."""

    min_replica: Number
    max_replica: Count
    autoscaling_window: int | None
    scale_down_delay: int | None
    concurrency_target: int
    target_utilization_percentage: int | None


class Backpressure(Answer, frozen=True):
    """What a deployment does with too many requests."""

    policy: str | None


class ModelDeployment(Answer, frozen=True):
    """The deployment behind a sampler. Its status is a plain string."""

    id: str
    created_at: Moment
    name: str
    model_id: str
    is_production: bool
    is_development: bool
    status: Text
    active_replica_count: Number
    autoscaling_settings: Autoscaling
    instance_type_name: str | None
    environment: str | None
    request_backpressure_settings: Backpressure
