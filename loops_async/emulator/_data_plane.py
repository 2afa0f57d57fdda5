"""What a sampler answers under its `base_url`: its models, and samples of a tiny language model.

The shapes are vLLM's completions, errors included, as Loops' own client expects them.
"""

import asyncio
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from aiohttp import web

from ._catalog import MAX_LENGTH_OF_OTHERS, MAX_LENGTHS
from ._language_model import Completion, Distribution, LanguageModel, piece
from ._lifecycle import ACTIVE
from ._records import Sampler
from ._refused import Refused
from ._requests import json_object
from ._sample_request import BadSample, SampleRequest, sample_request
from ._state import ControlPlane

POLICY_VERSION: Final = 0
"""No trainer ever publishes weights here, so that all is sampled from those that were deployed."""

# How Baseten's proxies mark the 404 of a deactivated deployment: to Loops' client, any other may pass.
_DEACTIVATED: Final = {"X-Baseten-Error-Source": "01", "X-Baseten-Error-Code": "631"}

# Positions after which the other requests get a turn.
_TURN = 256


class DataPlane:
    """Answer the requests to the samplers of one control plane."""

    def __init__(self, plane: ControlPlane, *, seed: int = 0) -> None:
        self._plane = plane
        self._random = Random(seed)  # noqa: S311 -- repeatable chance, no secrets

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
            "max_model_len": _max_length(sampler),
        }
        return web.json_response({"object": "list", "data": [model]})

    async def sample(self, request: web.Request) -> web.Response:
        """Complete a prompt."""
        sampler = self._deployment(request)
        if isinstance(sampler, web.Response):
            return sampler
        try:
            wanted = sample_request(_document(await request.read()), _max_length(sampler), sampler.max_seq_length)
            weights = self._weights(request, sampler)
            behind = _minimum_version(request) > POLICY_VERSION
        except BadSample as bad:
            return _error(400, "BadRequestError", bad.message, bad.param)
        if behind:
            message = f"The policy version is {POLICY_VERSION}, and stays behind the one asked for."
            return _error(408, "RequestTimeoutError", message, None)
        if wanted.model not in {None, sampler.base_model}:
            return _error(404, "NotFoundError", f"The model {wanted.model!r} does not exist.", "model")
        answer = await self._answer(LanguageModel(weights), wanted)
        document = {"created": int(time.time()), "model": sampler.base_model, **answer}
        return web.json_response(document, headers={"X-Trainers-Policy-Version": str(POLICY_VERSION)})

    async def _answer(self, model: LanguageModel, wanted: SampleRequest) -> dict[str, Any]:
        name = f"cmpl-{self._random.getrandbits(128):032x}"
        seed = self._random.getrandbits(63) if wanted.seed is None else wanted.seed
        prompt_logprobs = None if wanted.prompt_logprobs is None else await _scores(model, wanted)
        choices, drawn = [], 0
        for index in range(wanted.n):
            # Each choice has its own chances, whatever `n` is.
            chances = Random(f"{seed}/{index}")  # noqa: S311 -- repeatable chance, no secrets
            completion = model.complete(wanted.prompt, wanted.sampling, wanted.stops, chances)
            choices.append(_choice(index, completion, wanted, prompt_logprobs))
            drawn += len(completion.tokens)
            await asyncio.sleep(0)
        return {
            "id": name,
            "object": "text_completion",
            "choices": choices,
            "usage": {
                "prompt_tokens": len(wanted.prompt),
                "completion_tokens": drawn,
                "total_tokens": len(wanted.prompt) + drawn,
            },
        }

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
        """Name the weights that a request is for; another checkpoint samples otherwise."""
        path = request.headers.get("X-Checkpoint-Path")
        if path is not None:
            try:
                path = self._plane.sampler_checkpoint(path).path
            except Refused as refused:
                raise BadSample("X-Checkpoint-Path", refused.message) from None
        path = path or sampler.model_path
        return sampler.base_model if path is None else f"{sampler.base_model} {path}"


def _max_length(sampler: Sampler) -> int:
    return MAX_LENGTHS.get(sampler.base_model, MAX_LENGTH_OF_OTHERS)


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


def _choice(
    index: int, completion: Completion, wanted: SampleRequest, prompt_logprobs: list[dict[str, Any] | None] | None
) -> dict[str, Any]:
    return {
        "index": index,
        "text": completion.text,
        "logprobs": None if wanted.logprobs is None else _logprobs(completion, wanted),
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "prompt_logprobs": prompt_logprobs,
        "token_ids": completion.tokens if wanted.token_ids else None,
        "prompt_token_ids": wanted.prompt if wanted.token_ids else None,
    }


def _logprobs(completion: Completion, wanted: SampleRequest) -> dict[str, Any]:
    def name(token: int) -> str:
        return f"token_id:{token}" if wanted.tokens_as_ids else piece(token)

    drawn = list(zip(completion.tokens, completion.distributions, strict=True))
    offsets, at = [], 0
    for token in completion.tokens:
        offsets.append(at)
        at += len(piece(token))
    return {
        "text_offset": offsets,
        "token_logprobs": [distribution.logprob(token) for token, distribution in drawn],
        "tokens": [name(token) for token in completion.tokens],
        "top_logprobs": [
            {name(each): distribution.logprob(each) for each in _with_top(distribution, token, wanted.logprobs or 0)}
            for token, distribution in drawn
        ],
    }


async def _scores(model: LanguageModel, wanted: SampleRequest) -> list[dict[str, Any] | None]:
    """Write the log-probability of each token of the prompt; the first has nothing before it."""
    scores: list[dict[str, Any] | None] = [None]
    for index, token in enumerate(wanted.prompt[1:], start=1):
        distribution = model.after(wanted.prompt, index)
        scores.append(
            {
                str(each): {
                    "logprob": distribution.logprob(each),
                    "rank": distribution.rank(each),
                    "decoded_token": piece(each),
                }
                for each in _with_top(distribution, token, wanted.prompt_logprobs or 0)
            }
        )
        if index % _TURN == 0:
            await asyncio.sleep(0)
    return scores


def _with_top(distribution: Distribution, token: int, count: int) -> Sequence[int]:
    """Give a token and the *count* likeliest ones, itself among them or in front."""
    top = distribution.top(count) if count else []
    return top if token in top else [token, *top]
