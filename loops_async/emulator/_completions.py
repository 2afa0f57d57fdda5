"""Completions of the tiny language model, written as vLLM writes them, errors included."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Final

from attrs import frozen

from ._language_model import Distribution, Ending, LanguageModel
from ._sample_request import BadSample, SampleRequest

MAX_ANSWER: Final = 64 * 1024 * 1024
"""The most bytes of an answer, roughly; without it, a small request could ask for more memory than there is."""

# The most bytes that a token takes in an answer: for itself, and for its log-probabilities.
_BYTES_OF_TOKEN: Final = 8
_BYTES_OF_LOGPROB: Final = 48

# The number of tokens after which other requests get a turn; sampling them takes some milliseconds.
_TURN: Final = 64


class Gone(Exception):
    """The client has disconnected, or the server is closing."""


@frozen(kw_only=True)
class Completions:
    """A request for samples, with everything that its answer depends on."""

    wanted: SampleRequest
    base_model: str
    weights: str
    """The base model, with the checkpoint if there is one; other weights give other samples."""
    end_id: int
    """The id of the token that ends a text."""
    name: str
    """The id of the answer."""
    seed: int

    @classmethod
    def of(cls, wanted: SampleRequest, *, base_model: str, weights: str, end_id: int, random: Random) -> "Completions":
        """Draw the id of the answer, and the seed if the request names none, from *random*."""
        return cls(
            wanted=wanted,
            base_model=base_model,
            weights=weights,
            end_id=end_id,
            name=f"cmpl-{random.getrandbits(128):032x}",
            seed=random.getrandbits(63) if wanted.seed is None else wanted.seed,
        )

    async def text(self, gone: Callable[[], bool]) -> str:
        """Sample, and write the answer as JSON; every call gives the same samples.

        Raises:
            BadSample: the answer is too large.
            Gone: *gone* returned True in the middle.
        """
        wanted, turns = self.wanted, _Turns(gone)
        model = LanguageModel(self.weights, self.end_id)
        prompt_logprobs = await _scores(model, wanted, turns)
        choices, drawn = [], 0
        for index in range(wanted.n):
            # Each choice has its own random numbers, so that `n` does not change the first one.
            chances = Random(f"{self.seed}/{index}")  # noqa: S311 -- repeatable chance, no secrets
            choice, count = await _choice(model, wanted, chances, turns)
            choices.append(_object({"index": str(index), **choice, "prompt_logprobs": prompt_logprobs}))
            drawn += count
        usage = {
            "prompt_tokens": len(wanted.prompt),
            "completion_tokens": drawn,
            "total_tokens": len(wanted.prompt) + drawn,
        }
        return _object(
            {
                "created": str(int(time.time())),
                "model": json.dumps(self.base_model),
                "id": json.dumps(self.name),
                "object": json.dumps("text_completion"),
                "choices": _array(choices),
                "usage": json.dumps(usage),
            }
        )


class _Turns:
    """Lets other requests run while a long answer is written, and limits the size of that answer."""

    def __init__(self, gone: Callable[[], bool]) -> None:
        self._gone = gone
        self._steps = 0
        self._left = MAX_ANSWER

    def reserve(self, length: int, param: str) -> None:
        """Count bytes that the answer grows by; *param* is the field of the request that asks for them.

        Raises:
            BadSample: the answer is too large.
        """
        self._left -= length
        if self._left < 0:
            raise BadSample(param, f"the answer would have more than {MAX_ANSWER} bytes.")

    async def step(self) -> None:
        """Count a token, and let other requests run now and then.

        Raises:
            Gone: the client has disconnected, or the server is closing.
        """
        self._steps += 1
        if self._steps % _TURN == 0:
            await asyncio.sleep(0)
            if self._gone():
                raise Gone


def _object(members: Mapping[str, str]) -> str:
    """Write a JSON object from values that are written as JSON."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}"


def _array(items: Iterable[str]) -> str:
    return "[" + ", ".join(items) + "]"


async def _choice(
    model: LanguageModel, wanted: SampleRequest, chances: Random, turns: _Turns
) -> tuple[dict[str, str], int]:
    """Sample one choice, and return its members as JSON and the number of its tokens."""
    steps = model.steps(wanted.prompt, wanted.sampling, wanted.stops, chances)
    tokens: list[int] = []
    logprobs: list[float] = []
    top: list[str] = []
    while True:
        try:
            token, distribution = next(steps)
        except StopIteration as over:
            ending: Ending = over.value
            break
        tokens.append(token)
        if wanted.logprobs is not None:
            logprobs.append(distribution.logprob(token))
            near = _with_top(distribution, token, wanted.logprobs)
            top.append(json.dumps({_name(model, each, wanted): distribution.logprob(each) for each in near}))
            turns.reserve(len(top[-1]) + _BYTES_OF_LOGPROB, "logprobs")
        turns.reserve(_BYTES_OF_TOKEN, "max_tokens")
        await turns.step()
    members = {
        "text": json.dumps(ending.text),
        "logprobs": "null" if wanted.logprobs is None else _logprobs(model, tokens, logprobs, top, wanted),
        "finish_reason": json.dumps(ending.finish_reason),
        "stop_reason": json.dumps(ending.stop_reason),
        "token_ids": json.dumps(tokens if wanted.token_ids else None),
        "prompt_token_ids": json.dumps(wanted.prompt if wanted.token_ids else None),
    }
    turns.reserve(len(members["prompt_token_ids"]), "n")
    return members, len(tokens)


def _name(model: LanguageModel, token: int, wanted: SampleRequest) -> str:
    return f"token_id:{token}" if wanted.tokens_as_ids else model.piece(token)


def _logprobs(
    model: LanguageModel, tokens: list[int], logprobs: list[float], top: list[str], wanted: SampleRequest
) -> str:
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(model.piece(token))
    return _object(
        {
            "text_offset": json.dumps(offsets),
            "token_logprobs": json.dumps(logprobs),
            "tokens": json.dumps([_name(model, token, wanted) for token in tokens]),
            "top_logprobs": _array(top),
        }
    )


async def _scores(model: LanguageModel, wanted: SampleRequest, turns: _Turns) -> str:
    """Write the log-probability of each token of the prompt, if the request asks for them; null for the first one."""
    if wanted.prompt_logprobs is None:
        return "null"
    scores = ["null"]
    for index, token in enumerate(wanted.prompt[1:], start=1):
        distribution = model.after(wanted.prompt, index)
        score = {
            str(each): {
                "logprob": distribution.logprob(each),
                "rank": distribution.rank(each),
                "decoded_token": model.piece(each),
            }
            for each in _with_top(distribution, token, wanted.prompt_logprobs)
        }
        scores.append(json.dumps(score))
        turns.reserve(len(scores[-1]) * wanted.n, "prompt_logprobs")
        await turns.step()
    return _array(scores)


def _with_top(distribution: Distribution, token: int, count: int) -> Sequence[int]:
    """Return the *count* likeliest tokens, with *token* in front unless it is one of them."""
    top = distribution.top(count) if count else []
    return top if token in top else [token, *top]
