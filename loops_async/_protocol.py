"""HTTP without I/O: build a request, turn an answer's status into an error, read `Retry-After`."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import quote, urlencode, urlsplit

from attrs import frozen

from . import _checks
from .errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

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

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def path_of(*segments: str) -> str:
    """Join *segments* to a path, each quoted so that it stays one segment."""
    return "".join(f"/{quoted(segment)}" for segment in segments)


def quoted(segment: str) -> str:
    """Return *segment* with everything escaped that means something in a URL."""
    return segment if segment.isalnum() and segment.isascii() else quote(segment, safe="")


def query_of(**parameters: str | int | None) -> str:
    """Encode the parameters that are not None."""
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def sampler_request(sampler_id: str) -> Request:
    """Build `GET /v1/loops/samplers/{id}`."""
    return Request("GET", f"{_SAMPLERS}/{quoted(_checks.segment('sampler id', sampler_id))}")


def deactivation(sampler_id: str) -> Request:
    """Build `POST /v1/loops/samplers/{id}/deactivate`."""
    return Request("POST", f"{_SAMPLERS}/{quoted(_checks.segment('sampler id', sampler_id))}/deactivate")


_SAMPLERS = "/v1/loops/samplers"


def check_base_url(value: object) -> str:
    """Return *value* without a trailing slash if a key may be sent there: https, or http on loopback."""
    value = _checks.text("base_url", value)
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


def trusted_with_key(url: str, base_url: str) -> bool:
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


_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
}


def error_from(
    request: Request, status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
) -> APIError:
    """Make the error for an answer whose status is not 2xx.

    *headers* must look names up whatever their case. *scrub* takes secrets out: some services repeat in their errors
    what they were sent, be it with the escapes of JSON.
    """
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else APIError)
    headers = {name.title(): scrub(value) for name, value in headers.items()}
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    else:
        plain = json.dumps(body, ensure_ascii=False)
        if scrub(plain) != plain:
            text = scrub(plain)
            body = json.loads(text)
    text = scrub(text)
    code, message = _words_of(body)
    if not message and 300 <= status < 400:
        message = f"redirects are not followed (to {headers.get('Location', 'nowhere')})"
    return kind(
        status,
        request.method,
        request.path,
        code,
        message or _reason(status),
        headers.get("X-Request-Id") or headers.get("X-Baseten-Request-Id"),
        parse_retry_after(headers.get("Retry-After"), headers.get("Date")),
        text[:BODY_EXCERPT],
    )


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _words_of(body: object) -> tuple[str | None, str]:
    """Read code and message out of the error shapes in use.

    The service has several: `{code, message}`, `{error, message, details: {reason}}`, `{error: {code, message}}`,
    and `{detail}` as a string or as a list of `{loc, msg}`.
    """
    if not isinstance(body, dict):
        return None, body if isinstance(body, str) else ""
    error = body.get("error")
    if isinstance(error, dict):
        body = {**body, **error}
        error = None
    code = _first_text(body, "code", "error_code")
    message = _first_text(body, "message")
    if code is None and message is not None and isinstance(error, str):
        code = error
    message = message or (error if isinstance(error, str) else None) or _detail(body.get("detail"))
    details = body.get("details")
    reason = _first_text(details, "reason") if isinstance(details, dict) else None
    if message and reason:
        message = f"{message} ({reason})"
    return code, message or reason or ""


def _first_text(body: Mapping[str, object], *names: str) -> str | None:
    for name in names:
        value = body.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _detail(detail: object) -> str:
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return ""
    problems = []
    for item in detail:
        if isinstance(item, dict) and isinstance(item.get("msg"), str):
            loc = item.get("loc")
            where = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
            problems.append(f"{where}: {item['msg']}" if where else item["msg"])
    return "; ".join(problems)


def parse_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Read `Retry-After`, in seconds or as an HTTP date, as seconds from now: 0 or more, at most a day.

    A date is measured against the answer's own *date* where it has one, since this machine's clock may be off.
    None for no header and for nonsense.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = http_date(value)
        if until is None:
            return None
        seconds = (until - ((http_date(date) if date else None) or datetime.now(UTC))).total_seconds()
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def http_date(value: str) -> datetime | None:
    """Read a date as HTTP writes it; None for nonsense."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def surely_refused(status: int) -> bool:
    """Tell whether *status* proves that a create was not processed.

    408 and 499 are given by gateways that lost patience while the service may go on; 303, and by habit 302, point to
    the result of what was done.
    """
    return 300 <= status < 500 and status not in {302, 303, 408, 499}
