"""`/v1/loops/sessions`."""

from __future__ import annotations

from .. import _validate
from .._http.limiter import Priority
from .._http.requests import Request, join_path
from .._http.transport import Transport
from ..models import Session
from . import codec


class Sessions:
    """Create and get sessions. A session cannot be listed, closed or deleted, and costs nothing."""

    def __init__(self, transport: Transport, scope: tuple[str, ...]) -> None:
        self._transport = transport
        self._scope = scope

    async def create(self) -> Session:
        """Create a session. The request is retried like a read, since a second session does no harm.

        Raises:
            LoopsError: As every call: `TransportError`, `APIError`, `DecodeError`.

        Source: `POST /v1/loops/sessions` or `POST /v1/teams/{team_id}/loops/sessions`; no body is sent.
        """
        request = Request("POST", join_path(*self._scope, "sessions"))
        return codec.decode_session(await self._transport.send_with_retries(request, Priority.CREATE), str(request))

    async def get(self, id: str) -> Session:
        """Get a session.

        Raises:
            NotFoundError: There is no session with that id.
            LoopsError: As every call.

        Source: `GET /v1/loops/sessions/{session_id}`.
        """
        path = join_path("v1", "loops", "sessions", _validate.require_path_segment("session id", id))
        request = Request("GET", path, route="/v1/loops/sessions/{session_id}")
        return codec.decode_session(await self._transport.send_with_retries(request), str(request))
