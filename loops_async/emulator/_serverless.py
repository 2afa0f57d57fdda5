"""The data plane of serverless samplers: one gateway for all of them, and a queue behind it.

`POST /sample` is answered with 202 and the id of an operation, whose result the client then asks for. Every request
names its run or sampler in a header, and `POST /sample` also its base model, since the address has neither. The rules
are those that Loops' own client follows; where no source gives a rule, it is a guess.
"""

from typing import Final

from aiohttp import web

from . import _sample_shapes as shapes
from ._answers import answer, cut, text_answer
from ._completions import Completions, Gone
from ._data_plane import checkpoint_weights, sample_document, sample_error
from ._documents import SERVERLESS_PREFIX as PREFIX
from ._lifecycle import ACTIVE
from ._operations import Operation
from ._records import Sampler
from ._refused import Refused
from ._sample_request import BadSample, sample_request
from ._site import Site

_RUN, _SAMPLER, _CHECKPOINT = "X-Run-Id", "X-Sampler-Id", "X-Checkpoint-Path"

# The mark of the gateway's rejections.
_GATEWAY_SOURCE: Final = "06"


class _Rejected(Exception):
    """A request that the gateway rejects."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message


class Serverless:
    """Answers the requests to the serverless samplers of one control plane."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._plane = site.plane

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the gateway."""
        operation = f"{PREFIX}/operations/{{operation_id}}"
        return [
            web.post(f"{PREFIX}/sample", self.submit),
            web.get(operation, self.result, allow_head=False),
            web.post(f"{operation}/cancel", self.cancel),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """Accept a request for samples; one with the `Idempotency-Key` of an earlier one gets the same operation."""
        try:
            base_model, sampler = self._authorized(request)
            key, credentials = request.headers.get("Idempotency-Key"), request.headers.get("Authorization", "")
            if not key:
                raise BadSample("Idempotency-Key", "header required.")
            operation = self._site.operations.submitted(credentials, key)
            if operation is None:
                completions = await self._completions(request, base_model, sampler)
                operation = Operation(f"op-{self._site.random.getrandbits(64):016x}", completions)
                self._site.operations.add(operation, credentials, key)
        except _Rejected as rejected:
            return _rejection(request, rejected)
        except BadSample as bad:
            return sample_error(400, "BadRequestError", bad.message, bad.param)
        response = answer(shapes.OperationAccepted(operation_id=operation.id, schema_version=1), status=202)
        response.headers["Location"] = f"{PREFIX}/operations/{operation.id}"
        return response

    async def result(self, request: web.Request) -> web.Response:
        """Sample the result of an operation, and answer with it."""
        try:
            operation = self._operation(request)
            if operation.cancelled:
                return _failed("CancelledError", "The operation was cancelled.")
            operation.started = True
            text = await operation.completions.text(lambda: self._site.closed or request.transport is None)
        except _Rejected as rejected:
            return _rejection(request, rejected)
        except BadSample as bad:
            return _failed("BadRequestError", bad.message)
        except Gone:
            return cut(request)
        return text_answer(f'{{"status": "done", "result": {text}}}')

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel an operation whose result no client has asked for."""
        try:
            operation = self._operation(request)
            if operation.started:
                raise _Rejected(409, "operation_running", f"Operation {operation.id} runs already.")
        except _Rejected as rejected:
            return _rejection(request, rejected)
        operation.cancelled = True
        return answer(shapes.OperationCancelled(operation_id=operation.id))

    def _operation(self, request: web.Request) -> Operation:
        self._authorized(request)
        operation_id = request.match_info["operation_id"]
        operation = self._site.operations.get(operation_id)
        if operation is None:
            raise _Rejected(404, "operation_not_found", f"Operation {operation_id!r} does not exist.")
        return operation

    async def _completions(self, request: web.Request, base_model: str, sampler: Sampler | None) -> Completions:
        document = sample_document(await request.read())
        model, longest = self._plane.catalog.model(base_model), None if sampler is None else sampler.max_seq_length
        wanted = sample_request(document, model.max_seq_len, longest, shapes.ServerlessSample)
        if wanted.model != base_model:
            raise BadSample("model", f"the sampler is of {base_model}, not of {wanted.model}.")
        path, weights = request.headers.get(_CHECKPOINT), base_model
        if document.get("lora") not in {None, path}:
            raise BadSample("lora", f"must be the checkpoint that {_CHECKPOINT} names.")
        if path is not None:
            weights = checkpoint_weights(self._plane, path, base_model)
        return Completions.of(
            wanted, base_model=base_model, weights=weights, end_id=model.end_id, random=self._site.random
        )

    def _authorized(self, request: web.Request) -> tuple[str, Sampler | None]:
        """Return the base model that a request is for, and its sampler; no sampler if it names only a checkpoint.

        Raises:
            _Rejected: the request names nothing, names both a run and a sampler, or names one that does not exist.
        """
        run_id, sampler_id = request.headers.get(_RUN), request.headers.get(_SAMPLER)
        path = request.headers.get(_CHECKPOINT)
        if run_id is not None and sampler_id is not None:
            raise _Rejected(400, "run_and_sampler_given", f"Give only one of {_RUN} and {_SAMPLER}.")
        try:
            checkpoint = None if path is None else self._plane.sampler_checkpoint(path)
            if run_id is not None:
                paired = self._plane.paired_sampler(self._plane.run(run_id), self._site.now())
                sampler_id = "" if paired is None else paired[0].id
                if checkpoint is not None and checkpoint.run_id != run_id:
                    raise _Rejected(400, "run_mismatch", f"{path!r} is no checkpoint of run {run_id!r}.")
            if sampler_id is not None:
                return self._running(sampler_id)
        except Refused as refused:
            raise _Rejected(refused.status, refused.code.lower(), refused.message) from refused
        if checkpoint is None:
            message = f"Name a run, a sampler or a checkpoint in {_RUN}, {_SAMPLER} or {_CHECKPOINT}."
            raise _Rejected(400, "run_or_sampler_required", message)
        return checkpoint.base_model, None

    def _running(self, sampler_id: str) -> tuple[str, Sampler]:
        sampler = self._plane.sampler(sampler_id, self._site.now())
        if not sampler.serverless:
            raise _Rejected(400, "not_serverless", f"Sampler {sampler_id} has a deployment of its own.")
        if sampler.progress.status != ACTIVE:
            raise _Rejected(404, "not_found", f"Sampler {sampler_id} is {sampler.progress.status}.")
        return sampler.base_model, sampler


def _failed(error_class: str, message: str) -> web.Response:
    return answer(shapes.OperationFailed(status="error", error=message, error_class=error_class))


def _rejection(request: web.Request, rejected: _Rejected) -> web.Response:
    response = answer(shapes.Rejection(error=rejected.code, message=rejected.message), status=rejected.status)
    if request.headers.get("X-Baseten-Accept-Error") == "1":
        response.headers["X-Baseten-Error-Source"] = _GATEWAY_SOURCE
        response.headers["X-Baseten-Error-Code"] = rejected.code
    return response
