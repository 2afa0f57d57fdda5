"""The shapes of the data plane: models, samples and errors as vLLM writes them, and the serverless queue."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

from ._shapes import Answer, Count, Number, Request, Text

MAX_CHOICES: Final = 1024
MAX_LOGPROBS: Final = 20
"""The default limit of vLLM."""

TokenId: TypeAlias = Annotated[int, Meta(ge=0)]
Logprob: TypeAlias = Annotated[float, Meta(le=0)]


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
