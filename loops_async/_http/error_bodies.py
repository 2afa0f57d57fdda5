"""Responses that are no success, as errors; the pause that they ask for. No I/O."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from attrs import frozen

from .._text import one_line, without_surrogates
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
from .error_reasons import Reason, reason_of_document, reason_of_text
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

HEADER_LIMIT_CHARACTERS: Final = 500
"""Characters of a header's value that an error can show."""

_ESCAPED_TIMES: Final = 3
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


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
    headers = {name.title(): one_line(scrub(value), HEADER_LIMIT_CHARACTERS) for name, value in headers.items()}
    document, reason = _read_body(text, status, scrub)
    message = scrub(reason.message) or _phrase(status)
    if 300 <= status < 400:
        words = f": {message}" if reason.message else ""
        message = f"redirects are not followed (to {headers.get('Location', 'nowhere')}){words}"
    pause = service_pause(status, headers, document)
    error = kind(
        status,
        request.method,
        request.path,
        scrub(reason.code) if reason.code is not None else None,
        message,
        headers.get("X-Request-Id") or headers.get("X-Baseten-Request-Id"),
        pause.seconds if pause is not None else None,
        _scrub_escaped(text, scrub)[:BODY_EXCERPT],
    )
    return error, pause


def _read_body(text: str, status: int, scrub: Callable[[str], str]) -> tuple[object, Reason]:
    """Return the JSON document in *text*, None if there is none, and the reason that the body gives."""
    text = text.removeprefix("\ufeff")
    try:
        document, end = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
        document = _scrub_document(document, scrub)
        reason = reason_of_document(document, status)
    except (ValueError, RecursionError):
        return None, reason_of_text(_scrub_escaped(text, scrub), status)
    # Several documents may follow each other. What merely begins as JSON, such as "404 page not found", is text.
    if text.lstrip()[end:].strip() and not (isinstance(document, (dict, list)) and reason.message):
        return None, reason_of_text(_scrub_escaped(text, scrub), status)
    return document, reason


def _scrub_document(value: object, scrub: Callable[[str], str]) -> object:
    """Return a copy of a JSON document without secrets. The order of its fields stays."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [_scrub_document(each, scrub) for each in value]
    if isinstance(value, dict):
        return {scrub(name): _scrub_document(each, scrub) for name, each in value.items()}
    return value


def _scrub_escaped(text: str, scrub: Callable[[str], str]) -> str:
    """Return *text* without secrets, even if they are written with the escapes of JSON, HTML or URLs.

    Where an escape hides a secret, the text is returned without escapes of that kind.
    """
    text = scrub(without_surrogates(text))
    for unescape in (_unescape_json, html.unescape, unquote):
        plain = text
        # Documents within documents are escaped more than once.
        for _ in range(_ESCAPED_TIMES):
            plain, before = without_surrogates(unescape(plain)), plain
            if plain == before:
                break
            if scrub(plain) != plain:
                text = plain = scrub(plain)
    return text


def _unescape_json(text: str) -> str:
    return _JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], text)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


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
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def http_date(value: str) -> datetime | None:
    """Read a date as HTTP writes it; None for nonsense."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
