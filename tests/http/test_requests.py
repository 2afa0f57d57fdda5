from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async._http import error_bodies
from loops_async._http import requests as protocol
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

REQUEST = protocol.Request("GET", "/v1/loops/samplers/x")


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
    assert len(error.body) == protocol.BODY_EXCERPT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-7", 0.0),
        ("1e99", protocol.RETRY_AFTER_LIMIT),
        ("inf", protocol.RETRY_AFTER_LIMIT),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 21 Oct 9915 07:28:00 GMT", protocol.RETRY_AFTER_LIMIT),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert error_bodies.parse_retry_after(value, "Wed, 21 Oct 2015 07:28:00 GMT") == seconds


@given(st.text())
def test_no_retry_after_breaks_the_parser(value: str) -> None:
    seconds = error_bodies.parse_retry_after(value, value)
    assert seconds is None or 0 <= seconds <= protocol.RETRY_AFTER_LIMIT


@given(st.text(min_size=1).filter(lambda text: not any(0xD800 <= ord(letter) < 0xE000 for letter in text)))
def test_a_segment_never_leaves_its_place(value: str) -> None:
    path = protocol.join_path("v1", "loops", "samplers", value, "deactivate")
    assert path.count("/") == 5
    assert not set("?#\\ ") & set(path)
    assert path.isascii()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.baseten.co",
        "https://proxy.example/baseten/",
        "http://localhost:8080",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_a_base_url_is_https_or_loopback(url: str) -> None:
    assert protocol.check_base_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.baseten.co",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://0.0.0.0:80",
        "ftp://api.baseten.co",
        "api.baseten.co",
        "https://",
        "https://user:secret@api.baseten.co",
        "https://api.baseten.co/?x=1",
        "https://api.baseten.co/#x",
        "https://api.baseten.co:port",
        "https://[::1",
        "https://bäseten.co",
        "https://api.baseten.co/a b",
        "",
    ],
)
def test_other_base_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url|URL"):
        protocol.check_base_url(url)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://model-1.api.baseten.co/deployment/d/sync", True),
        ("https://baseten.co/x", True),
        ("https://model-1.api.baseten.co:8443/x", True),
        ("http://127.0.0.1:8080/models/1", True),
        ("http://127.0.0.1:8081/models/1", False),
        ("http://model-1.api.baseten.co/x", False),
        ("https://notbaseten.co/x", False),
        ("https://api.baseten.co.evil.example/x", False),
        ("https://evil.example/api.baseten.co", False),
        ("https://api.baseten.co@evil.example/x", False),
        ("https://evil.example\\@api.baseten.co/x", False),
        ("https://evil.example#@api.baseten.co", False),
        ("https://evil.example\n.baseten.co", False),
        ("//api.baseten.co/x", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_the_key_goes_to_baseten_or_the_own_origin_only(url: str, trusted: bool) -> None:
    assert protocol.may_receive_key(url, "http://127.0.0.1:8080") is trusted


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 301, 307, 308])
def test_statuses_that_prove_that_nothing_was_created(status: int) -> None:
    assert error_bodies.proves_not_created(status)


@pytest.mark.parametrize("status", [303, 408, 499, 500, 502, 503, 504])
def test_statuses_that_leave_it_open(status: int) -> None:
    assert not error_bodies.proves_not_created(status)
