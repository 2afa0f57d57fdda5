"""Error responses: what they say, and how long they ask the client to wait."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async._http import error_bodies
from loops_async._http.error_bodies import ServicePause
from loops_async._http.requests import BODY_EXCERPT, RETRY_AFTER_LIMIT, Request
from loops_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

REQUEST = Request("GET", "/v1/loops/samplers/x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, APIError),
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (418, APIError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[APIError]) -> None:
    error = error_bodies.api_error(REQUEST, status, {}, "")
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"code": "VALIDATION_ERROR", "message": "bad length"}, "VALIDATION_ERROR", "bad length"),
        ({"error": "conflict", "message": "paired", "details": {"reason": "run r1"}}, "conflict", "paired (run r1)"),
        ({"error": {"code": "X", "message": "nested"}}, "X", "nested"),
        ({"error": "just words"}, None, "just words"),
        ({"error": "bad key", "error_code": "631"}, "631", "bad key"),
        ({"detail": "not here"}, None, "not here"),
        (
            {"detail": [{"loc": ["body", "base_model"], "msg": "field required"}]},
            None,
            "body.base_model: field required",
        ),
        ({"details": {"reason": "no capacity"}}, None, "no capacity"),
        (["odd"], None, "Conflict"),
        ("plain", None, "plain"),
        (None, None, "Conflict"),
        ({"code": 5, "message": None, "error": [], "detail": {}}, None, "Conflict"),
    ],
)
def test_the_services_words_are_found_in_every_shape_in_use(body: object, code: str | None, message: str) -> None:
    error = error_bodies.api_error(REQUEST, 409, {"X-Request-Id": "r-1"}, json.dumps(body))
    assert (error.code, error.message, error.request_id) == (code, message, "r-1")


def test_a_web_page_is_kept_in_part() -> None:
    error = error_bodies.api_error(REQUEST, 502, {}, "<html>" + "x" * 100_000)
    assert error.message == "Bad Gateway"
    assert len(error.body) == BODY_EXCERPT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-7", 0.0),
        ("1e99", RETRY_AFTER_LIMIT),
        ("inf", RETRY_AFTER_LIMIT),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 21 Oct 9915 07:28:00 GMT", RETRY_AFTER_LIMIT),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert error_bodies.parse_retry_after(value, "Wed, 21 Oct 2015 07:28:00 GMT") == seconds


@given(st.text())
def test_no_retry_after_breaks_the_parser(value: str) -> None:
    seconds = error_bodies.parse_retry_after(value, value)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_LIMIT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (37, 37.0),
        (0, 0.0),
        (0.25, 0.25),
        ("37", 37.0),
        ("0.5", 0.5),
        (1e30, RETRY_AFTER_LIMIT),
        (10**400, RETRY_AFTER_LIMIT),
        (-1, None),
        ("-1", None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        ("nan", None),
        ("1e999", None),
        ("soon", None),
        ("", None),
        (True, None),
        ([37], None),
        ({"seconds": 37}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_in_the_body_is_for_the_endpoint(status: int, value: object, seconds: float | None) -> None:
    expected = None if seconds is None else ServicePause(seconds, whole_client=False)
    for document in ({"error": "Rate limit exceeded.", "retry_after": value}, {"error": {"retry_after": value}}):
        error, pause = error_bodies.read_error(REQUEST, status, {}, json.dumps(document))
        assert (error.retry_after, pause) == (seconds, expected)


@pytest.mark.parametrize("status", [302, 400, 403, 404, 408, 409, 500, 502, 504])
def test_a_pause_in_the_body_of_another_status_is_none(status: int) -> None:
    error, pause = error_bodies.read_error(REQUEST, status, {}, '{"retry_after": 37}')
    assert (error.retry_after, pause) == (None, None)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_header_beats_the_body_and_is_for_the_whole_client(status: int) -> None:
    error, pause = error_bodies.read_error(REQUEST, status, {"retry-after": "2"}, '{"retry_after": 37}')
    assert (error.retry_after, pause) == (2.0, ServicePause(2.0, whole_client=True))


def test_a_header_that_cannot_be_read_leaves_the_body() -> None:
    error, pause = error_bodies.read_error(REQUEST, 429, {"Retry-After": "soon\udce9"}, '{"retry_after": 37}')
    assert (error.retry_after, pause) == (37.0, ServicePause(37.0, whole_client=False))


@pytest.mark.parametrize("body", ["", "[]", "null", "37", '"37"', "[" * 100_000, '{"retry_after": 37'])
def test_a_body_that_is_no_object_names_no_pause(body: str) -> None:
    assert error_bodies.read_error(REQUEST, 429, {}, body)[1] is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 301, 307, 308])
def test_statuses_that_prove_that_nothing_was_created(status: int) -> None:
    assert error_bodies.proves_not_created(status)


@pytest.mark.parametrize("status", [303, 408, 499, 500, 502, 503, 504])
def test_statuses_that_leave_it_open(status: int) -> None:
    assert not error_bodies.proves_not_created(status)
