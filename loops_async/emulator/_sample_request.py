"""Reading of the body of `POST /sample`: completions as vLLM takes them, with token ids for a prompt."""

from typing import Any, Final

from attrs import frozen

from ._language_model import VOCABULARY_SIZE, Sampling, Stops

MAX_CHOICES: Final = 1024
MAX_LOGPROBS: Final = 20
"""vLLM's limit, as it is set by default."""

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
"""Fields that change what is sampled, and the value that asks for nothing."""


class BadSample(Exception):
    """A request for samples that breaks a rule; *param* is the field at fault."""

    def __init__(self, param: str, problem: str) -> None:
        super().__init__(param, problem)
        self.param = param
        self.message = f"{param}: {problem}"


@frozen(kw_only=True)
class SampleRequest:
    """A request for samples whose fields have the right types."""

    prompt: tuple[int, ...]
    model: str | None
    n: int
    seed: int | None
    sampling: Sampling
    stops: Stops
    logprobs: int | None
    """How many alternatives of each token to tell; `None` tells nothing at all."""
    prompt_logprobs: int | None
    tokens_as_ids: bool
    """Write a token as `token_id:<id>` instead of its text."""
    token_ids: bool
    """Tell the ids of the prompt and of each choice."""


def sample_request(document: dict[str, Any], max_length: int, longest_prompt: int | None = None) -> SampleRequest:
    """Read a request for a model of *max_length* tokens; keys that vLLM does not have are ignored.

    The prompt may have *longest_prompt* tokens, if that is given and less.

    Raises:
        BadSample: a field has the wrong type, is out of range, or asks for what the emulator lacks.
    """
    for name, neutral in _NOT_EMULATED.items():
        if document.get(name) not in (None, neutral):
            raise BadSample(name, "is not emulated.")
    prompt = _prompt(document.get("prompt"))
    if longest_prompt is not None and len(prompt) > longest_prompt:
        raise BadSample("prompt", f"{len(prompt)} tokens exceed the sampler's max_seq_length of {longest_prompt}.")
    room = max_length - len(prompt)
    max_tokens = _whole(document, "max_tokens", 1, None, default=min(DEFAULT_MAX_TOKENS, max(room, 1)))
    if max_tokens > room:
        raise BadSample(
            "max_tokens",
            f"{len(prompt)} tokens of prompt and {max_tokens} more exceed the model's {max_length}.",
        )
    sampling = Sampling(
        temperature=_real(document, "temperature", 0, 100, default=1.0),
        top_p=_real(document, "top_p", 0, 1, default=1.0),
        top_k=max(0, _whole(document, "top_k", -1, None, default=0)),
    )
    if sampling.top_p == 0:
        raise BadSample("top_p", "must be above 0.")
    n = _whole(document, "n", 1, MAX_CHOICES, default=1)
    if n > 1 and sampling.temperature == 0:
        # As vLLM has it: https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
        raise BadSample("n", "must be 1 when using greedy sampling.")
    stops = Stops(
        max_tokens=max_tokens,
        strings=_strings(document.get("stop")),
        tokens=_ids("stop_token_ids", document.get("stop_token_ids")),
        ignore_end=_flag(document, "ignore_eos"),
    )
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise BadSample("model", "must be a string.")
    return SampleRequest(
        prompt=prompt,
        model=model,
        n=n,
        seed=_optional(document, "seed", -(2**63), 2**63 - 1),
        sampling=sampling,
        stops=stops,
        logprobs=_optional(document, "logprobs", 0, MAX_LOGPROBS),
        prompt_logprobs=_optional(document, "prompt_logprobs", 0, MAX_LOGPROBS),
        tokens_as_ids=_flag(document, "return_tokens_as_token_ids"),
        token_ids=_flag(document, "return_token_ids"),
    )


def _prompt(value: object) -> tuple[int, ...]:
    if not value:
        raise BadSample("prompt", "must be a list of token ids, at least one.")
    return _ids("prompt", value)


def _ids(name: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or any(type(token) is not int for token in value):
        raise BadSample(name, "must be a list of token ids.")
    for token in value:
        if not 0 <= token < VOCABULARY_SIZE:
            raise BadSample(name, f"token id {token} is out of vocabulary.")
    return tuple(value)


def _strings(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(each, str) and each for each in strings):
        raise BadSample("stop", "must be a non-empty string, or a list of them.")
    return tuple(strings)


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadSample(name, "must be a boolean.")
    return bool(value)


def _optional(document: dict[str, Any], name: str, minimum: int, maximum: int | None) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    # Not isinstance(): JSON's true is an int to Python.
    if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
        limits = f"of at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise BadSample(name, f"must be an integer {limits}.")
    return value


def _whole(document: dict[str, Any], name: str, minimum: int, maximum: int | None, *, default: int) -> int:
    value = _optional(document, name, minimum, maximum)
    return default if value is None else value


def _real(document: dict[str, Any], name: str, minimum: float, maximum: float, *, default: float) -> float:
    value = document.get(name)
    if value is None:
        return default
    # NaN, which Python reads in JSON, fails every comparison.
    if type(value) not in {int, float} or not minimum <= value <= maximum:
        raise BadSample(name, f"must be a number between {minimum} and {maximum}.")
    return float(value)
