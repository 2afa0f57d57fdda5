"""The shapes of all documents, both of requests and of answers, as types.

Requests are checked by these types, answers are written from them, and the schemas of `openapi.json` are generated
from them (see `_contract`). Rules that a type cannot express, such as those between two fields, are in the readers.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

LARGEST: Final = 10**18 - 1
"""The largest integer of a request: larger than any real count, and less than 64 bits."""

MAX_CHOICES: Final = 1024
MAX_LOGPROBS: Final = 20
"""The default limit of vLLM."""

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
TokenId: TypeAlias = Annotated[int, Meta(ge=0)]
Logprob: TypeAlias = Annotated[float, Meta(le=0)]
Moment: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Url: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
_Deprecated: TypeAlias = Annotated[Text, Meta(extra_json_schema={"deprecated": True})]
_Availability: TypeAlias = Annotated[Text, Meta(examples=_AVAILABILITY)]
# `Fault` checks the limits, and names both in its message.
_Status: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 200, "maximum": 599})]
# Printable ASCII characters.
_Header: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": "^[ -~]*$"})]


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


class SetStatus(Request, frozen=True):
    """Any name is allowed. Unknown keys are ignored."""

    status: Text


class Sample(Request, frozen=True, kw_only=True):
    """A completion request of vLLM whose prompt is token ids. Unknown keys are ignored."""

    prompt: Annotated[list[TokenId], Meta(min_length=1)]
    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Text | list[Text] | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None


class ServerlessSample(Sample, frozen=True, kw_only=True):
    """The same request as to a dedicated sampler, with the base model."""

    model: str
    lora: Annotated[str, Meta(description="The checkpoint that X-Checkpoint-Path names.")] | None = None


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to misbehave, and the requests that meet it; every key is a setting of loops_async.emulator.Fault."""

    method: (
        Annotated[
            str, Meta(description="In upper or lower case; with a route, one that it takes.", examples=["GET", "POST"])
        ]
        | None
    ) = None
    route: (
        Annotated[
            str,
            Meta(description="The template of a route in this document, except those of the emulator itself."),
        ]
        | None
    ) = None
    times: Annotated[Count, Meta(description="How many requests meet it; null: all.")] | None = 1
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    delay: Annotated[float, Meta(ge=0)] = 0.0
    delay_after: Annotated[float, Meta(ge=0)] = 0.0
    cut: Literal["before", "after"] | None = None
    partial: Number | None = None
    status: _Status | None = None
    status_after: _Status | None = None
    retry_after: _Header | None = None
    body: str | None = None
    list_lag: Annotated[float, Meta(ge=0)] | None = None
    clock_skew: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    headers: Annotated[
        dict[str, _Header],
        Meta(
            extra_json_schema={
                "propertyNames": {
                    "pattern": "^[A-Za-z0-9-]+$",
                    "not": {"enum": ["Content-Length", "content-length", "Transfer-Encoding", "transfer-encoding"]},
                }
            }
        ),
    ] = {}


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage of a lifecycle; every key is a setting of loops_async.emulator.Stage."""

    status: str
    seconds: float | None = None
    then: str | None = None
    idle: float | None = None
    failure: float = 0.0
    fails_as: str | None = None
    preemption: float | None = None
    preempted: str = "DEPLOYING"


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


class GoneError(Answer, frozen=True):
    """The usual shape with the message twice, as the proxies of the service write it."""

    code: str
    message: str
    error: str


class VllmError(Answer, frozen=True):
    """The problem of a request for samples."""

    message: str
    type: str
    param: str | None
    code: int


class SampleError(Answer, frozen=True):
    """An error in the shape of vLLM."""

    error: VllmError


class Rejection(Answer, frozen=True):
    """The reason why the gateway rejects a request."""

    error: str
    message: str


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


class ServedModel(Answer, frozen=True):
    """A model in the shape of OpenAI."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | None
    max_model_len: Count


class ServedModels(Answer, frozen=True):
    """The models that are served, in the shape of OpenAI."""

    object: Literal["list"]
    data: list[ServedModel]


class Logprobs(Answer, frozen=True):
    """The tokens of a choice with their log-probabilities."""

    text_offset: list[Number]
    token_logprobs: list[Logprob]
    tokens: list[str]
    top_logprobs: list[dict[str, Logprob]]


class Choice(Answer, frozen=True):
    """One text."""

    index: Number
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]
    stop_reason: str | int | None
    prompt_logprobs: list[dict[str, Any] | None] | None
    token_ids: list[TokenId] | None
    prompt_token_ids: list[TokenId] | None


class Usage(Answer, frozen=True):
    """How many tokens a request took."""

    prompt_tokens: Number
    completion_tokens: Number
    total_tokens: Number


class SampleAnswer(Answer, frozen=True):
    """Completions in the shape of OpenAI."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class OperationAccepted(Answer, frozen=True):
    """An accepted operation, whose result can be asked for."""

    operation_id: str
    schema_version: Literal[1]


class OperationDone(Answer, frozen=True):
    """The result of an operation."""

    status: Literal["done"]
    result: SampleAnswer


class OperationFailed(Answer, frozen=True):
    """Why there is no result."""

    status: Literal["error"]
    error: str
    error_class: str


class OperationCancelled(Answer, frozen=True):
    """An operation that was cancelled."""

    operation_id: str


class FaultAdded(Answer, frozen=True):
    id: Count


class PlannedFaults(Answer, frozen=True):
    """left counts the requests that still meet the first of the script; null: all."""

    id: Count
    left: Count | None
    script: list[Fault]


class FaultList(Answer, frozen=True):
    faults: list[PlannedFaults]


class SamplerCounts(Answer, frozen=True):
    """How many samplers there are."""

    total: Number
    billed: Number
    by_status: dict[str, Count]


class Counts(Answer, frozen=True):
    """How many samplers, received requests and planned faults there are."""

    samplers: SamplerCounts
    requests: Number
    faults: Number


class ReceivedRequest(Answer, frozen=True):
    """A request without the headers that hold secrets, which are never kept.

    The body may be cut short. route is null if no route matched; at is a time of the server's monotonic clock, in
    seconds; scheme is that of the Authorization header; key says which key came with it.
    """

    method: str
    path: str
    route: str | None
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    at: float
    scheme: str | None
    key: Literal["right", "inference", "wrong"] | None


class ReceivedRequests(Answer, frozen=True):
    requests: list[ReceivedRequest]


class StatusSet(Answer, frozen=True):
    id: str
    status: str
