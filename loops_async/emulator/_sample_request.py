"""Reads the body of `POST /sample`: a completion request of vLLM whose prompt is token ids."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from ._language_model import VOCABULARY_SIZE, Sampling, Stops
from ._reading import Misfit, read
from ._sample_shapes import Sample

DEFAULT_MAX_TOKENS: Final = 16

_NOT_EMULATED: Final = {
    "best_of": 1,
    "echo": False,
    "frequency_penalty": 0,
    "include_stop_str_in_output": False,
    "length_penalty": 1,
    "logit_bias": {},
    "min_p": 0,
    "min_tokens": 0,
    "model_input_chunks": [],
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "stream": False,
    "structured_outputs": {},
    "suffix": "",
    "use_beam_search": False,
}
"""The fields that the emulator lacks, each with the value that changes nothing and is therefore accepted."""


class BadSample(Exception):
    """A request for samples that breaks a rule; *param* is the field at fault."""

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(param, problem)
        self.param = param
        self.message = f"{param}: {problem}"


@frozen(kw_only=True)
class SampleRequest:
    """A request for samples whose fields were checked."""

    prompt: tuple[int, ...]
    model: str | None
    n: int
    seed: int | None
    sampling: Sampling
    stops: Stops
    logprobs: int | None
    """The number of alternatives of each token to report; `None`: report no log-probabilities."""
    prompt_logprobs: int | None
    tokens_as_ids: bool
    """Whether a token is written as `token_id:<id>` instead of its text."""
    token_ids: bool
    """Whether the answer has the token ids of the prompt and of each choice."""


def sample_request(
    document: dict[str, Any], max_length: int, longest_prompt: int | None = None, kind: type[Sample] = Sample
) -> SampleRequest:
    """Read a request for a model of *max_length* tokens; keys that vLLM does not have are ignored.

    With *longest_prompt*, the prompt may have no more tokens than that.

    Raises:
        BadSample: a field has the wrong type, is out of range, or asks for what the emulator lacks.
    """
    for name, neutral in _NOT_EMULATED.items():
        if document.get(name) not in (None, neutral):
            raise BadSample(name, "is not emulated.")
    try:
        body = read(document, kind)
    except Misfit as misfit:
        raise BadSample(misfit.field or "body", misfit.problem) from None
    prompt = _known("prompt", body.prompt)
    if longest_prompt is not None and len(prompt) > longest_prompt:
        raise BadSample("prompt", f"{len(prompt)} tokens exceed the sampler's max_seq_length of {longest_prompt}.")
    room = max_length - len(prompt)
    max_tokens = min(DEFAULT_MAX_TOKENS, max(room, 1)) if body.max_tokens is None else body.max_tokens
    if max_tokens > room:
        raise BadSample(
            "max_tokens",
            f"{len(prompt)} tokens of prompt and {max_tokens} more exceed the model's {max_length}.",
        )
    sampling = Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        top_k=max(0, body.top_k or 0),
    )
    n = body.n or 1
    if n > 1 and sampling.temperature == 0:
        # vLLM has this rule: https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
        raise BadSample("n", "must be 1 when using greedy sampling.")
    strings = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return SampleRequest(
        prompt=prompt,
        model=body.model,
        n=n,
        seed=body.seed,
        sampling=sampling,
        stops=Stops(
            max_tokens=max_tokens,
            strings=tuple(strings),
            tokens=_known("stop_token_ids", body.stop_token_ids or ()),
            ignore_end=bool(body.ignore_eos),
        ),
        logprobs=body.logprobs,
        prompt_logprobs=body.prompt_logprobs,
        tokens_as_ids=bool(body.return_tokens_as_token_ids),
        token_ids=bool(body.return_token_ids),
    )


def _known(name: str, tokens: Sequence[int]) -> tuple[int, ...]:
    largest = max(tokens, default=0)
    if largest >= VOCABULARY_SIZE:
        raise BadSample(name, f"token id {largest} is out of vocabulary.")
    return tuple(tokens)
