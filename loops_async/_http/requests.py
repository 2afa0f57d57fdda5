"""Requests without I/O: build them, and decide where the API key may be sent."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlencode, urlsplit

from attrs import frozen

from .. import _validate

RETRY_AFTER_LIMIT = 86_400.0
"""Seconds: longest pause that is taken from a `Retry-After`; the caller's policy may cut it further."""

BODY_EXCERPT = 4_096
"""Characters of an error body that are kept: enough for any JSON error, too little for a proxy's web page."""


@frozen
class Request:
    """A request without its origin and its credentials."""

    method: str
    path: str
    """Path from the first slash on, percent-encoded, without the query."""
    query: str = ""
    """Query, encoded, without the question mark."""
    body: bytes | None = None
    """Body as JSON, or None for no body at all."""
    route: str = ""
    """The path with names in place of ids, where it has any: the service counts requests by method and route."""

    @property
    def endpoint(self) -> str:
        """Method and route."""
        return f"{self.method} {self.route or self.path}"

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def join_path(*segments: str) -> str:
    """Join *segments* to a path, each quoted so that it stays one segment."""
    return "".join(f"/{quoted(segment)}" for segment in segments)


def quoted(segment: str) -> str:
    """Return *segment* with all characters escaped that have a meaning in a URL."""
    return segment if segment.isalnum() and segment.isascii() else quote(segment, safe="")


def encode_query(**parameters: str | int | None) -> str:
    """Encode the parameters that are not None."""
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def sampler_request(sampler_id: str) -> Request:
    """Build `GET /v1/loops/samplers/{id}`."""
    path = f"{_SAMPLERS}/{quoted(_validate.require_path_segment('sampler id', sampler_id))}"
    return Request("GET", path, route=_SAMPLER_ROUTE)


def deactivation(sampler_id: str) -> Request:
    """Build `POST /v1/loops/samplers/{id}/deactivate`."""
    path = f"{_SAMPLERS}/{quoted(_validate.require_path_segment('sampler id', sampler_id))}/deactivate"
    return Request("POST", path, route=f"{_SAMPLER_ROUTE}/deactivate")


_SAMPLERS = "/v1/loops/samplers"
_SAMPLER_ROUTE = f"{_SAMPLERS}/{{sampler_id}}"


def check_base_url(value: object, *, allow_http: bool = False) -> str:
    """Return *value* without a trailing slash if the API key may be sent there.

    That is the case for https and for http on this machine; *allow_http* permits http on any machine.

    Raises:
        TypeError, ValueError: It is no such URL.
    """
    value = _validate.require_str("base_url", value)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"base_url is not a URL: {exc}") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise ValueError("base_url must be a URL such as https://api.baseten.co")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("base_url must be plain ASCII without blanks; write an international host name in punycode")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold credentials; give the key as api_key")
    if parts.query or parts.fragment:
        raise ValueError("base_url must end with its path: no query, no fragment")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise ValueError(
            f"base_url must be https: over plain http others could read the API key on its way to {host}. If that is "
            "an emulator or a network of your own, pass allow_http=True or set LOOPS_ALLOW_HTTP=1; http to localhost "
            "needs neither"
        )
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return True if *host*, a name or an address, is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_receive_key(url: str, base_url: str) -> bool:
    """Return True if the API key may be sent to *url*, which came from a response.

    That is the case for https hosts under baseten.co and for the control plane's own origin.
    """
    try:
        parts, own = urlsplit(url), urlsplit(base_url)
        origin, own_origin = (parts.scheme, parts.hostname, parts.port), (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    # Another parser may read a URL such as "https://api.baseten.co\@elsewhere" in another way: it is refused.
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url or "@" in parts.netloc:
        return False
    host = parts.hostname or ""
    if parts.scheme == "https" and (host == "baseten.co" or host.endswith(".baseten.co")):
        return True
    return bool(host) and origin == own_origin
