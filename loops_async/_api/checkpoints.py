"""`/v1/loops/checkpoints`."""

from __future__ import annotations

from .. import _validate
from .._http.requests import Request, encode_query, join_path
from .._http.transport import Transport
from ..models import Checkpoint, CheckpointPath
from . import codec


class Checkpoints:
    """Find checkpoints and check that they can be used."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self,
        *,
        run_id: str | None = None,
        base_model: str | None = None,
        checkpoint_path: str | CheckpointPath | None = None,
    ) -> tuple[Checkpoint, ...]:
        """List the checkpoints of a run, of a base model, or the one at a path, in the service's order.

        Shape: may be empty. For a path that does not exist, the service decides between an empty list and a
        `NotFoundError`.

        Raises:
            TypeError, ValueError: Not exactly one filter was given, or it is malformed.
            LoopsError: As every call.

        Source: `GET /v1/loops/checkpoints`.
        """
        if sum(value is not None for value in (run_id, base_model, checkpoint_path)) != 1:
            raise ValueError("give exactly one of run_id, base_model and checkpoint_path")
        query = encode_query(
            run_id=_validate.optional_str("run_id", run_id),
            base_model=_validate.optional_str("base_model", base_model),
            checkpoint_path=None if checkpoint_path is None else str(CheckpointPath.parse(checkpoint_path)),
        )
        request = Request("GET", join_path("v1", "loops", "checkpoints"), query)
        return codec.decode_checkpoints(await self._transport.send_with_retries(request), str(request))

    async def validate(self, path: str | CheckpointPath, *, run_id: str | None = None) -> None:
        """Check that a checkpoint exists, may be read, and fits the LoRA configuration of the run, if one is given.

        Raises:
            TypeError, ValueError: The path is malformed; nothing was sent.
            BadRequestError: The service does not accept it.
            LoopsError: As every call.

        Source: `POST /v1/loops/checkpoints/validate`.
        """
        body = {"checkpoint_path": str(CheckpointPath.parse(path))}
        if run_id is not None:
            body["run_id"] = _validate.require_str("run_id", run_id)
        request = Request("POST", join_path("v1", "loops", "checkpoints", "validate"), body=codec.encode(body))
        await self._transport.send_with_retries(request)
