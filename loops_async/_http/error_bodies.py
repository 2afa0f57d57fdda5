"""Responses that are no success: what they say, as errors. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from attrs import frozen

from ..errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from .requests import BODY_EXCERPT, RETRY_AFTER_LIMIT, Request

_BY_STATUS: Mapping[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
}


@frozen
class ServicePause:
    """A pause that the service asked for in an error response."""

    seconds: float
    """Length of the pause in seconds, 0 or more and at most a day."""
    whole_client: bool
    """True for a `Retry-After` header, which speaks for all requests of the client; False for the number in the body,
    which the service gives together with limits that count each endpoint by itself."""


def api_error(
    request: Request, status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
) -> APIError:
    """Return the error for a response whose status is not 2xx; see `read_error`."""
    return read_error(request, status, headers, text, scrub)[0]


def read_error(
    request: Request, status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
) -> tuple[APIError, ServicePause | None]:
    """Return the error for a response whose status is not 2xx, and the pause that the response names, if any.

    The pause is read whatever the status; whether to keep it is a question for `failures`.

    Args:
        request: The request that was answered.
        status: HTTP status of the response.
        headers: Headers of the response, in any case.
        text: Body of the response.
        scrub: Takes secrets out of a text: some services repeat in their errors what they were sent, and may write
            it with the escapes of JSON.
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
    pause = service_pause(status, headers, body)
    error = kind(
        status,
        request.method,
        request.path,
        code,
        message or _reason(status),
        headers.get("X-Request-Id") or headers.get("X-Baseten-Request-Id"),
        pause.seconds if pause is not None else None,
        text[:BODY_EXCERPT],
    )
    return error, pause


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


def service_pause(status: int, headers: Mapping[str, str], document: object) -> ServicePause | None:
    """Return the pause that a response names: its `Retry-After` header, else `retry_after` in the body of a 429 or 503.

    Args:
        status: HTTP status of the response.
        headers: Headers of the response, with their names in title case.
        document: JSON document in the body; None if there is none.
    """
    seconds = parse_retry_after(headers.get("Retry-After"), headers.get("Date"))
    if seconds is not None:
        return ServicePause(seconds, whole_client=True)
    seconds = parse_retry_after_body(document) if status in {429, 503} else None
    return None if seconds is None else ServicePause(seconds, whole_client=False)


def parse_retry_after_body(document: object) -> float | None:
    """Read `retry_after` of a JSON error document as seconds: 0 or more, at most a day.

    It is a number, or a string of one, at the top of the document or in its `error`. Returns None for everything else.
    """
    value = None
    if isinstance(document, dict):
        value = document.get("retry_after")
        if value is None and isinstance(error := document.get("error"), dict):
            value = error.get("retry_after")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # A comparison rather than math.isfinite, which fails for an int that is too large for a float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        return None
    return float(min(value, RETRY_AFTER_LIMIT))


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


def proves_not_created(status: int) -> bool:
    """Tell whether *status* proves that a create was not processed.

    408 and 499 are given by gateways that lost patience while the service may go on; 303, and by habit 302, point to
    the result of what was done.
    """
    return 300 <= status < 500 and status not in {302, 303, 408, 499}
