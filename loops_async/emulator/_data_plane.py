"""The answers of a sampler under its `base_url`: its models, and samples of a tiny language model.

The shapes are those of vLLM's completions, errors included, as Loops' own client expects them.
"""

import time
from typing import Any, Final

from aiohttp import web

from . import _sample_shapes as shapes
from ._answers import answer, cut, text_answer
from ._completions import Completions, Gone
from ._lifecycle import ACTIVE
from ._records import Sampler
from ._refused import Refused
from ._requests import json_object
from ._sample_request import BadSample, sample_request
from ._shapes import LARGEST
from ._site import Site
from ._state import ControlPlane

POLICY_VERSION: Final = 0
"""The version of the weights: always the deployed ones, since no trainer publishes weights here."""

# Baseten's proxies mark the 404 of a deactivated deployment with these; Loops' client retries after any other 404.
_DEACTIVATED: Final = {"X-Baseten-Error-Source": "01", "X-Baseten-Error-Code": "631"}


class DataPlane:
    """Answers the requests to the samplers of one control plane."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._plane = site.plane

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes of a sampler; *prefix* has its `model_id` and `deployment_id` as parameters."""
        return [
            web.get(f"{prefix}/v1/models", self.served_models, allow_head=False),
            web.post(f"{prefix}/sample", self.sample),
        ]

    async def served_models(self, request: web.Request) -> web.Response:
        """List the one model that a sampler serves."""
        sampler = self._deployment(request)
        if isinstance(sampler, web.Response):
            return sampler
        model = shapes.ServedModel(
            id=sampler.base_model,
            object="model",
            created=int(sampler.created_at.timestamp()),
            owned_by="baseten",
            parent=None,
            max_model_len=self._plane.catalog.model(sampler.base_model).max_seq_len,
        )
        return answer(shapes.ServedModels(object="list", data=[model]))

    async def sample(self, request: web.Request) -> web.Response:
        """Complete a prompt."""
        sampler = self._deployment(request)
        if isinstance(sampler, web.Response):
            return sampler
        try:
            model = self._plane.catalog.model(sampler.base_model)
            wanted = sample_request(sample_document(await request.read()), model.max_seq_len, sampler.max_seq_length)
            weights = self._weights(request, sampler)
            if _minimum_version(request) > POLICY_VERSION:
                message = f"The policy version is {POLICY_VERSION}, and stays behind the one asked for."
                return sample_error(408, "RequestTimeoutError", message, None)
            if wanted.model not in {None, sampler.base_model}:
                return sample_error(404, "NotFoundError", f"The model {wanted.model!r} does not exist.", "model")
            completions = Completions.of(
                wanted,
                base_model=sampler.base_model,
                weights=weights,
                end_id=model.end_id,
                random=self._site.random,
            )
            text = await completions.text(lambda: self._site.closed or request.transport is None)
        except BadSample as bad:
            return sample_error(400, "BadRequestError", bad.message, bad.param)
        except Gone:
            return cut(request)
        response = text_answer(text)
        response.headers["X-Trainers-Policy-Version"] = str(POLICY_VERSION)
        return response

    def _deployment(self, request: web.Request) -> Sampler | web.Response:
        """Return the sampler that a request is for, or the answer if there is none.

        Raises:
            Refused: with 503 if it is not active. A sampler that is scaled to zero begins to wake up.
        """
        model_id, deployment_id = request.match_info["model_id"], request.match_info["deployment_id"]
        try:
            sampler = self._plane.deployment(model_id, deployment_id, time.monotonic())
        except Refused as refused:
            if self._plane.is_trainer(model_id, deployment_id):
                raise
            headers = _DEACTIVATED if request.headers.get("X-Baseten-Accept-Error") == "1" else None
            problem = shapes.GoneError(code=refused.code, message=refused.message, error=refused.message)
            response = answer(problem, status=refused.status)
            response.headers.update(headers or {})
            return response
        status = sampler.progress.status
        self._plane.use(sampler, time.monotonic())
        if status != ACTIVE:
            raise Refused(503, "NOT_READY", f"The deployment is {status}.")
        return sampler

    def _weights(self, request: web.Request, sampler: Sampler) -> str:
        """Name the weights that a request is for; other weights give other samples.

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


def sample_document(body: bytes) -> dict[str, Any]:
    """Read a body that has to be a JSON object.

    Raises:
        BadSample: it is anything else.
    """
    try:
        return json_object(body, integral=False)
    except Refused as refused:
        raise BadSample("body", refused.message) from None


def _minimum_version(request: web.Request) -> int:
    text = request.headers.get("X-Min-Policy-Version", "0")
    if not (text.isascii() and text.isdecimal()):
        raise BadSample("X-Min-Policy-Version", "must be an integer of at least 0.")
    # A number with so many digits is ahead in any case, and int() raises for thousands of digits.
    return int(text) if len(text) < 19 else LARGEST


def sample_error(status: int, kind: str, message: str, param: str | None) -> web.Response:
    """Answer with an error as vLLM writes it."""
    error = shapes.VllmError(message=message, type=kind, param=param, code=status)
    return answer(shapes.SampleError(error=error), status=status)
