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
    """As it was decoded, and no more of it than the emulator keeps."""
    at: float
    """When it came in, by `time.monotonic()`."""

    @property
    def json(self) -> Any:
        """Decode the body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token"},
)

LONG_KEY = 8
"""Letters of a key that stands in no text by chance."""

_HIDDEN = "***"


def redacted(request: ReceivedRequest, keys: list[str]) -> dict[str, Any]:
    """Write a request as JSON, without credentials.

    Of *keys*, long ones are left out wherever they stand, short ones where they are the
    whole of a value: within words, they say nothing and would be missed.
    """
    long, short = [key for key in keys if len(key) >= LONG_KEY], {key for key in keys if len(key) < LONG_KEY}

    def clean(text: str) -> str:
        for key in long:
            text = text.replace(key, _HIDDEN)
        return _HIDDEN if text in short else text

    def clean_header(value: str) -> str:
        scheme, space, credentials = value.rpartition(" ")
        return f"{clean(scheme)}{space}{clean(credentials)}"

    def clean_json(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: clean_json(value) for name, value in node.items()}
        if isinstance(node, list):
            return [clean_json(value) for value in node]
        return _HIDDEN if isinstance(node, str) and node in short else node

    def clean_body(body: bytes) -> str:
        text = clean(body.decode(errors="replace"))
        try:
            document = json.loads(text)
            cleaned = clean_json(document)
            # As it was sent, if there is nothing to hide.
            return text if cleaned == document else json.dumps(cleaned)
        except (ValueError, RecursionError):
            return text

    return {
        "method": request.method,
        "path": "/".join(clean(part) for part in request.path.split("/")),
        "route": request.route,
        "query": {clean(name): clean(value) for name, value in request.query.items()},
        "headers": {
            name.lower(): clean_header(value)
            for name, value in request.headers.items()
            if name.lower() not in _SECRET_HEADERS
        },
        "body": clean_body(request.body),
        "at": request.at,
    }
