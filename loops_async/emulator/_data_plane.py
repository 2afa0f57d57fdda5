"""What a sampler answers under its `base_url`: its models, and samples of a tiny language model.

The shapes are vLLM's completions, errors included, as Loops' own client expects them.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final

from aiohttp import web

from ._answers import cut, text_answer
from ._language_model import Distribution, Ending, LanguageModel
from ._lifecycle import ACTIVE
from ._records import Sampler
from ._refused import Refused
from ._requests import json_object
from ._sample_request import BadSample, SampleRequest, sample_request
from ._site import Site
from ._state import ControlPlane

POLICY_VERSION: Final = 0
"""No trainer ever publishes weights here, so that all is sampled from those that were deployed."""

# How Baseten's proxies mark the 404 of a deactivated deployment: to Loops' client, any other may pass.
_DEACTIVATED: Final = {"X-Baseten-Error-Source": "01", "X-Baseten-Error-Code": "631"}

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes, roughly; a few fields of a request could ask for more than a machine has."""

# What a token takes at most in an answer, by itself and with what is told of it.
_BYTES_OF_TOKEN: Final = 8
_BYTES_OF_LOGPROB: Final = 48

# Tokens after which the other requests get a turn: some milliseconds.
_TURN: Final = 64


class Gone(Exception):
    """Nobody waits for the answer any more, or nobody is to: the server closes."""


class DataPlane:
    """Answer the requests to the samplers of one control plane."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._plane = site.plane

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Give the routes of one sampler, which *prefix* names by `model_id` and `deployment_id`."""
        return [
            web.get(f"{prefix}/v1/models", self.served_models, allow_head=False),
            web.post(f"{prefix}/sample", self.sample),
        ]

    async def served_models(self, request: web.Request) -> web.Response:
        """List the one model that a sampler serves."""
        sampler = self._deployment(request)
        if isinstance(sampler, web.Response):
            return sampler
        model = {
            "id": sampler.base_model,
            "object": "model",
            "created": int(sampler.created_at.timestamp()),
            "owned_by": "baseten",
            "parent": None,
            "max_model_len": self._plane.catalog.model(sampler.base_model).max_seq_len,
        }
        return web.json_response({"object": "list", "data": [model]})

    async def sample(self, request: web.Request) -> web.Response:
        """Complete a prompt."""
        sampler = self._deployment(request)
        if isinstance(sampler, web.Response):
            return sampler
        try:
            model = self._plane.catalog.model(sampler.base_model)
            wanted = sample_request(_document(await request.read()), model.max_seq_len, sampler.max_seq_length)
            weights = self._weights(request, sampler)
            if _minimum_version(request) > POLICY_VERSION:
                message = f"The policy version is {POLICY_VERSION}, and stays behind the one asked for."
                return _error(408, "RequestTimeoutError", message, None)
            if wanted.model not in {None, sampler.base_model}:
                return _error(404, "NotFoundError", f"The model {wanted.model!r} does not exist.", "model")
            text = await self._answer(request, LanguageModel(weights, model.end_id), wanted, sampler.base_model)
        except BadSample as bad:
            return _error(400, "BadRequestError", bad.message, bad.param)
        except Gone:
            return cut(request)
        response = text_answer(text)
        response.headers["X-Trainers-Policy-Version"] = str(POLICY_VERSION)
        return response

    async def _answer(self, request: web.Request, model: LanguageModel, wanted: SampleRequest, base_model: str) -> str:
        turns = _Turns(self._site, request)
        random = self._site.random
        name = f"cmpl-{random.getrandbits(128):032x}"
        seed = random.getrandbits(63) if wanted.seed is None else wanted.seed
        prompt_logprobs = await _scores(model, wanted, turns)
        choices, drawn = [], 0
        for index in range(wanted.n):
            # Each choice has its own chances, whatever `n` is.
            chances = Random(f"{seed}/{index}")  # noqa: S311 -- repeatable chance, no secrets
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
                "model": json.dumps(base_model),
                "id": json.dumps(name),
                "object": json.dumps("text_completion"),
                "choices": _array(choices),
                "usage": json.dumps(usage),
            }
        )

    def _deployment(self, request: web.Request) -> Sampler | web.Response:
        """Find the sampler that a request is for, or the answer if there is none.

        Raises:
            Refused: with 503 if it is not active; one that was scaled to zero is then waking up.
        """
        model_id, deployment_id = request.match_info["model_id"], request.match_info["deployment_id"]
        try:
            sampler = self._plane.deployment(model_id, deployment_id, time.monotonic())
        except Refused as refused:
            headers = _DEACTIVATED if request.headers.get("X-Baseten-Accept-Error") == "1" else None
            problem = {"code": refused.code, "message": refused.message, "error": refused.message}
            return web.json_response(problem, status=refused.status, headers=headers)
        status = sampler.progress.status
        self._plane.use(sampler, time.monotonic())
        if status != ACTIVE:
            raise Refused(503, "NOT_READY", f"The deployment is {status}.")
        return sampler

    def _weights(self, request: web.Request, sampler: Sampler) -> str:
        """Name the weights that a request is for; other weights sample otherwise.

        A request chooses a checkpoint by its `X-Checkpoint-Path`. Without that header it gets the base model, even
        from a sampler that was made for a checkpoint.
        """
        path = request.headers.get("X-Checkpoint-Path")
        return sampler.base_model if path is None else checkpoint_weights(self._plane, path, sampler.base_model)


def checkpoint_weights(plane: ControlPlane, path: str, base_model: str) -> str:
    """Name the weights of a checkpoint of a base model.

    Raises:
        BadSample: there is no such checkpoint, or it is one of another base model.
    """
    try:
        found = plane.sampler_checkpoint(path)
    except Refused as refused:
        raise BadSample("X-Checkpoint-Path", refused.message) from None
    if found.base_model != base_model:
        raise BadSample("X-Checkpoint-Path", f"{path!r} is a checkpoint of {found.base_model}, not of {base_model}.")
    return f"{base_model} {found.path}"


def _document(body: bytes) -> dict[str, Any]:
    try:
        return json_object(body)
    except Refused as refused:
        raise BadSample("body", refused.message) from None


def _minimum_version(request: web.Request) -> int:
    text = request.headers.get("X-Min-Policy-Version", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadSample("X-Min-Policy-Version", "must be an integer of at least 0.")
    return int(text)


def _error(status: int, kind: str, message: str, param: str | None) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return web.json_response({"error": error}, status=status)


class _Turns:
    """Lets other requests have their turn while a long one is worked on, and sees that it does not grow for ever."""

    def __init__(self, site: Site, request: web.Request) -> None:
        self._site = site
        self._request = request
        self._steps = 0
        self._left = MAX_ANSWER

    def reserve(self, length: int, param: str) -> None:
        """Count what the answer has grown by, as *param* wants it.

        Raises:
            BadSample: it is too large.
        """
        self._left -= length
        if self._left < 0:
            raise BadSample(param, f"the answer would have more than {MAX_ANSWER} bytes.")

    async def step(self) -> None:
        """Count a token, and stand back now and then.

        Raises:
            Gone: the server closes, or the client has gone.
        """
        self._steps += 1
        if self._steps % _TURN == 0:
            await asyncio.sleep(0)
            if self._site.closed or self._request.transport is None:
                raise Gone


def _object(members: Mapping[str, str]) -> str:
    """Write a JSON object whose values are JSON already."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}"


def _array(items: Iterable[str]) -> str:
    return "[" + ", ".join(items) + "]"


async def _choice(
    model: LanguageModel, wanted: SampleRequest, chances: Random, turns: _Turns
) -> tuple[dict[str, str], int]:
    """Sample one choice, and give its members as JSON and the number of its tokens."""
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
    """Write the log-probability of each token of the prompt, if asked for; the first has nothing before it."""
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
    """Give a token and the *count* likeliest ones, itself among them or in front."""
    top = distribution.top(count) if count else []
    return top if token in top else [token, *top]
