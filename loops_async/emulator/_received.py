"""The record of the requests that the emulator received, without their secrets."""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal

from attrs import define, field, frozen
from multidict import CIMultiDictProxy

from . import _admin_shapes as shapes

_SECRET_HEADERS: Final = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-auth-token")

# The most bytes of all bodies together; a test that samples all day from long prompts must not fill the memory.
_BYTES_KEPT: Final = 256 * 1024 * 1024

Key = Literal["right", "inference", "wrong"]


@frozen(eq=False)
class ReceivedRequest:
    """A request as it came in over the socket.

    Attributes:
        method: Method, in upper case.
        path: Path as sent, percent-encoding included, without the query.
        route: Template of the route that matched, such as `/v1/loops/samplers/{sampler_id}`; None if none did.
        query: Query, decoded.
        headers: Headers, except those that hold secrets, which are never kept.
        body: Decoded body, of which the emulator keeps at most *keep_body* bytes.
        at: Time at which the request arrived, by `time.monotonic()`.
        scheme: Scheme of the `Authorization` header as sent, such as `Bearer` or `Api-Key`; None if it is not known.
        key: Which key came with the request: `right`, the one for `inference`, or a `wrong` one; None for no key.
    """

    method: str
    path: str
    route: str | None
    query: dict[str, str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    body: bytes
    at: float
    scheme: str | None = field(repr=False)
    key: Key | None = field(repr=False)

    @property
    def json(self) -> Any:
        """Decode the body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


def public_headers(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """Copy headers without those that hold secrets."""
    kept = headers.copy()
    for name in _SECRET_HEADERS:
        kept.popall(name, None)
    return CIMultiDictProxy(kept)


@define(eq=False)
class Record:
    """The latest requests that were received."""

    limit: int | None
    """The most requests to keep; `None`: no limit except that on the bytes of all bodies."""
    _requests: deque[ReceivedRequest] = field(init=False, factory=deque)
    _bytes: int = field(init=False, default=0)

    def append(self, request: ReceivedRequest) -> None:
        """Add a request, and forget the oldest ones if there are too many."""
        self._requests.append(request)
        self._bytes += len(request.body)
        while (self.limit is not None and len(self) > self.limit) or (self._bytes > _BYTES_KEPT and len(self) > 1):
            self._bytes -= len(self._requests.popleft().body)

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[ReceivedRequest]:
        return iter(self._requests)

    def select(self, method: str | None, route: str | None) -> list[ReceivedRequest]:
        """Return the requests of a method and a route template; `None`: any."""
        return [each for each in self if method in {None, each.method} and route in {None, each.route}]


def document(request: ReceivedRequest) -> shapes.ReceivedRequest:
    """Write a request as a document."""
    return shapes.ReceivedRequest(
        method=request.method,
        path=request.path,
        route=request.route,
        query=request.query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.body.decode(errors="replace"),
        at=request.at,
        scheme=request.scheme,
        key=request.key,
    )
