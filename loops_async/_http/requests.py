"""HTTP without I/O: build a request, turn an answer's status into an error, read `Retry-After`."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlencode, urlsplit

from attrs import frozen

from .. import _validate

RETRY_AFTER_LIMIT = 86_400.0
"""Seconds: what a `Retry-After` can ask for at most before the caller's policy clamps it further."""

BODY_EXCERPT = 4_096
"""Characters of an error body that are kept: enough for any JSON error, too little for a proxy's web page."""


@frozen
class Request:
    """A request, but for the origin and the credentials."""

    method: str
    path: str
    """Quoted, from the first slash on, without query."""
    query: str = ""
    """Encoded, without the question mark."""
    body: bytes | None = None
    """JSON, or None for no body at all."""
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
    """Return *segment* with everything escaped that means something in a URL."""
    return segment if segment.isalnum() and segment.isascii() else quote(segment, safe="")


def encode_query(**parameters: str | int | None) -> str:
    """Encode the parameters that are not None."""
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def sampler_request(sampler_id: str) -> Request:
    """Build `GET /v1/loops/samplers/{id}`."""
    path = f"{_SAMPLERS}/{quoted(_validate.require_path_segment('sampler id', sampler_id))}"
    return Request("GET", path, route=f"{_SAMPLERS}/{{sampler_id}}")


def deactivation(sampler_id: str) -> Request:
    """Build `POST /v1/loops/samplers/{id}/deactivate`."""
    path = f"{_SAMPLERS}/{quoted(_validate.require_path_segment('sampler id', sampler_id))}/deactivate"
    return Request("POST", path, route=f"{_SAMPLERS}/{{sampler_id}}/deactivate")


_SAMPLERS = "/v1/loops/samplers"


def check_base_url(value: object) -> str:
    """Return *value* without a trailing slash if a key may be sent there: https, or http on loopback."""
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
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            f"base_url must be https: over plain http the API key could be read on the way to {host} "
            "(http is accepted for localhost only)"
        )
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, by its name or its address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_receive_key(url: str, base_url: str) -> bool:
    """Tell whether *url*, which came from an answer, may be sent the key.

    That is an https host under baseten.co, or the control plane's own origin.
    """
    try:
        parts, own = urlsplit(url), urlsplit(base_url)
        origin, own_origin = (parts.scheme, parts.hostname, parts.port), (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    # Whatever a URL parser could read in two ways ("https://api.baseten.co\@elsewhere") is not worth a guess.
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url or "@" in parts.netloc:
        return False
    host = parts.hostname or ""
    if parts.scheme == "https" and (host == "baseten.co" or host.endswith(".baseten.co")):
        return True
    return bool(host) and origin == own_origin
