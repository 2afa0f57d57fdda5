"""`/v1/loops/capabilities`."""

from __future__ import annotations

from .. import _validate
from .._http.requests import Request, encode_query, join_path
from .._http.transport import Transport
from ..models import SupportedModel
from . import codec


class Capabilities:
    """List the base models that can be used."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self, *, model: str | None = None, use_case: str | None = None, max_seq_len: int | None = None
    ) -> tuple[SupportedModel, ...]:
        """Send the request that `LoopsClient.capabilities` documents."""
        query = encode_query(
            model=_validate.optional_str("model", model),
            use_case=_validate.optional_str("use_case", use_case),
            max_seq_len=_validate.optional_positive_int("max_seq_len", max_seq_len),
        )
        request = Request("GET", join_path("v1", "loops", "capabilities"), query)
        return codec.decode_supported_models(await self._transport.send_with_retries(request), str(request))
