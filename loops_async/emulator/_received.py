"""The record of what a client really sent."""

import json
from typing import Any

from attrs import field, frozen
from multidict import CIMultiDictProxy


@frozen(eq=False)
class ReceivedRequest:
    """A request as it came in over the socket."""

    method: str
    path: str
    """As sent, percent-encoding included, without the query."""
    route: str | None
    """The template of the route that it matched, such as `/v1/loops/samplers/{sampler_id}`."""
    query: dict[str, str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    """With whatever key the client sent, and so left out of the repr."""
    body: bytes
    at: float
    """When it came in, by `time.monotonic()`."""

    @property
    def json(self) -> Any:
        """Decode the body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})


def redacted(request: ReceivedRequest, keys: list[str]) -> dict[str, Any]:
    """Write a request as JSON, without credentials and without *keys* wherever they stand."""

    def clean(text: str) -> str:
        for key in keys:
            text = text.replace(key, "***")
        return text

    return {
        "method": request.method,
        "path": clean(request.path),
        "route": request.route,
        "query": {clean(name): clean(value) for name, value in request.query.items()},
        "headers": {
            name.lower(): clean(value) for name, value in request.headers.items() if name.lower() not in _SECRET_HEADERS
        },
        "body": clean(request.body.decode(errors="replace")),
        "at": request.at,
    }
