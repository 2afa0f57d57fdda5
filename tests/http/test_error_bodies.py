"""Error responses: what they say, and how long they ask the client to wait."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loops_async import RetryPolicy
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

from ..support import ClientMaker

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


REASON = "quota of 8 GPUs exceeded"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        # Baseten's own.
        ({"code": "VALIDATION_ERROR", "message": "bad length"}, "VALIDATION_ERROR", "bad length"),
        ({"error": "conflict", "message": "paired", "details": {"reason": "run r1"}}, "conflict", "paired (run r1)"),
        ({"error": {"code": "X", "message": "nested"}}, "X", "nested"),
        ({"error": "just words"}, None, "just words"),
        ({"error": "unauthorized"}, None, "unauthorized"),
        ({"error": "bad key", "error_code": "631"}, "631", "bad key"),
        ({"error": "bad key", "error_code": 631, "detail": "revoked in May"}, "631", "bad key (revoked in May)"),
        ({"error": "Rate limit exceeded.", "retry_after": 37}, None, "Rate limit exceeded."),
        ({"details": {"reason": "no capacity"}}, None, "no capacity"),
        # FastAPI and pydantic.
        ({"detail": "not here"}, None, "not here"),
        ({"detail": [{"loc": ["body", "m"], "msg": "required"}]}, None, "body.m: required"),
        (
            {
                "detail": [
                    {"type": "missing", "loc": ["body", 0], "msg": "Required", "input": {"a": "b c"}, "url": "u v"}
                ]
            },
            None,
            "body.0: Required",
        ),
        ({"detail": {"message": REASON}}, None, REASON),
        ({"detail": [REASON, "and more"]}, None, f"{REASON}; and more"),
        # problem+json and JSON:API.
        ({"title": "Bad", "detail": REASON, "status": 409, "instance": "/x y"}, None, f"Bad: {REASON}"),
        ({"title": REASON, "type": "about:blank"}, None, REASON),
        ({"type": "https://x.example/no-credit", "title": REASON}, "https://x.example/no-credit", REASON),
        ({"errors": [{"title": "No", "detail": REASON, "code": "q"}]}, "q", f"No: {REASON}"),
        ({"errors": [{"detail": REASON, "source": {"pointer": "/data/m"}}]}, None, f"/data/m: {REASON}"),
        # GraphQL.
        (
            {"data": None, "errors": [{"message": REASON, "path": ["a b"], "extensions": {"code": "QUOTA"}}]},
            "QUOTA",
            REASON,
        ),
        # Lists of errors, in strings and in objects.
        ({"errors": [REASON]}, None, REASON),
        ({"errors": [{"msg": "a"}, {"reason": "b"}, {"description": "c"}, {"detail": "d"}]}, None, "a; b; c; d"),
        (
            {"errors": [f"number {n}" for n in range(9)]},
            None,
            "; ".join(f"number {n}" for n in range(5)) + "; and 4 more",
        ),
        ([REASON], None, REASON),
        ([{"message": REASON}, {"message": REASON}], None, REASON),
        ({"message": [REASON]}, None, REASON),
        ({"message": {"text": REASON}}, None, REASON),
        # By field.
        ({"errors": {"base_model": [REASON]}}, None, f"base_model: {REASON}"),
        ({"base_model": [REASON]}, None, f"base_model: {REASON}"),
        ({"base_model": ["required"]}, None, "base_model: required"),
        ({"base_model": "required"}, None, "base_model: required"),
        ({"non_field_errors": [REASON]}, None, REASON),
        ({"message": "Invalid", "fields": {"m": REASON}}, None, f"Invalid (fields: m: {REASON})"),
        # OAuth, AWS, Azure, Google, SOAP, Anthropic, OpenAI, NestJS, Elasticsearch, Kubernetes.
        ({"error": "invalid_request", "error_description": REASON}, "invalid_request", REASON),
        ({"__type": "com.amazon.x#Throttling", "Message": REASON}, "Throttling", REASON),
        ({"Error": {"Code": "Quota", "Message": REASON}}, "Quota", REASON),
        ({"error": {"code": "A", "message": "No", "innererror": {"message": REASON}}}, "A", f"No ({REASON})"),
        ({"error": {"code": 409, "message": REASON, "status": "ABORTED", "details": []}}, "ABORTED", REASON),
        ({"fault": {"faultstring": REASON, "detail": {"errorcode": "policies.Quota"}}}, "policies.Quota", REASON),
        ({"type": "error", "error": {"type": "overloaded_error", "message": REASON}}, "overloaded_error", REASON),
        (
            {"error": {"message": REASON, "type": "invalid", "param": "model", "code": None}},
            "invalid",
            f"model: {REASON}",
        ),
        ({"statusCode": 409, "message": [REASON], "error": "Conflict"}, "Conflict", REASON),
        ({"error": {"root_cause": [{"reason": REASON}]}, "status": 409}, None, f"root_cause: {REASON}"),
        (
            {"kind": "Status", "status": "Failure", "message": REASON, "reason": "Gone", "code": 409},
            "409",
            f"{REASON} (Gone)",
        ),
        # Other names, and documents in strings or in other documents.
        ({"msg": REASON}, None, REASON),
        ({"error_message": REASON}, None, REASON),
        ({"errorMessage": REASON, "stackTrace": ["a b", "c d"]}, None, REASON),
        ({"reason": REASON}, None, REASON),
        ({"error": {"error": {"error": REASON}}}, None, REASON),
        ({"error": {"message": "No", "details": {"reason": REASON}}}, None, f"No ({REASON})"),
        ({"error": json.dumps({"message": REASON})}, None, REASON),
        ({"error": {"message": json.dumps({"error": {"message": REASON}})}}, None, REASON),
        ({"message": f"<html><body><p>{REASON}</p></body></html>"}, None, REASON),
        ({"message": "Bad Request", "explanation": REASON}, None, f"Bad Request (explanation: {REASON})"),
        ({"status": {"error_code": 1001, "error_message": REASON}}, "1001", f"status: {REASON}"),
        ({"success": False, "data": {"message": REASON}}, None, f"data: {REASON}"),
        ({"status": REASON, "code": 7}, "7", REASON),
        ({"message": "", "error": None, "detail": REASON}, None, REASON),
        (REASON, None, REASON),
        ("plain", None, "plain"),
        ({"errors": [{"field": "m", "messages": [REASON]}]}, None, f"m: {REASON}"),
        ({"error": {"message": REASON, "errors": [{"message": REASON}]}}, None, REASON),
        ({"message": "quota", "detail": REASON}, None, REASON),
        ({"ошибка": REASON, "причина": "no room"}, None, f"ошибка: {REASON} (причина: no room)"),
        ({"": REASON}, None, REASON),
        ({"message": REASON, "loc": ["x"] * 9999}, None, f"{'x.' * 48}x...: {REASON}"),
        # Nothing to read.
        (None, None, "Conflict"),
        (37, None, "Conflict"),
        ([], None, "Conflict"),
        ({}, None, "Conflict"),
        ({"code": 5, "message": None, "error": [], "detail": {}}, "5", "Conflict"),
        ({"code": True, "message": 5}, None, "Conflict"),
    ],
)
def test_the_services_words_are_found_in_every_shape_in_use(body: object, code: str | None, message: str) -> None:
    error = error_bodies.api_error(REQUEST, 409, {"X-Request-Id": "r-1"}, json.dumps(body))
    assert (error.code, error.message, error.request_id) == (code, message, "r-1")
    assert message in str(error)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (REASON, None, REASON),
        ("404 page not found\n", None, "404 page not found"),
        ('"quota" is used up', None, '"quota" is used up'),
        ("[error] no upstream", None, "[error] no upstream"),
        ("a\r\nb\tc\x1b[31m\x00d\u2028e", None, "a b c [31m d e"),
        ("\ufeff" + json.dumps({"message": REASON}), None, REASON),
        (json.dumps({"message": REASON}) + "\n" + json.dumps({"message": "more"}), None, REASON),
        ('{"message": "a\nb"}', None, "a b"),
        ('{"code": "Q", "detail": [{"msg": "a \\u00e9", "input": "' + "x" * 9999, "Q", "a é"),
        ("{not JSON", None, "{not JSON"),
        ("", None, "Conflict"),
        (" \n", None, "Conflict"),
        ("<html><head><title>Oops</title></head><body><h1>No\nroom</h1></body></html>", None, "Oops: No room"),
        ("<html><head><title>503 Busy</title><body><h1>503 Busy</h1><hr>nginx", None, "503 Busy nginx"),
        ("<!DOCTYPE html><title>Only &lt;this&gt; &amp; that</title>", None, "Only <this> & that"),
        ("<html><style>p {}</style><script>var a = '<b>';</script><!-- x --><p>Seen</p>", None, "Seen"),
        ("<html></html>", None, "Conflict"),
        ("<h1>" + REASON, None, REASON),
        (f"<?xml version='1.0'?><Error><Code>Q</Code><Message>{REASON}</Message><Id>7</Id></Error>", "Q", REASON),
        (f"<e:Fault><faultcode>e:Q</faultcode><faultstring>{REASON}</faultstring></e:Fault>", "e:Q", REASON),
        (f"<problem><why>{REASON}</why></problem>", None, REASON),
        ("<error><![CDATA[a < b]]></error>", None, "a < b"),
        ("error=quota&error_description=no+room%2C+sorry", "quota", "no room, sorry"),
        ("<nil> pointer", None, "pointer"),
        ("upstream connect error, reset reason: overflow", None, "upstream connect error, reset reason: overflow"),
    ],
)
def test_the_reason_is_found_in_text_that_is_no_json(text: str, code: str | None, message: str) -> None:
    error = error_bodies.api_error(REQUEST, 409, {}, text)
    assert (error.code, error.message) == (code, message)
    assert message in str(error)


def test_a_reason_is_short_and_a_body_is_kept_in_part() -> None:
    for body in ("word " * 50_000, json.dumps({"message": "word " * 50_000}), "<html>" + "x" * 100_000):
        error = error_bodies.api_error(REQUEST, 502, {"X-Request-Id": "r" * 9000}, body)
        assert 100 < len(error.message) <= 500
        assert error.message.endswith("...")
        assert len(error.body) == BODY_EXCERPT
        assert len(str(error)) < 1200


def test_a_redirect_names_where_it_leads() -> None:
    error = error_bodies.api_error(REQUEST, 301, {"location": "http://x/\udce9"}, "<html><h1>Moved</h1></html>")
    assert error.message == "redirects are not followed (to http://x/\ufffd): Moved"


@pytest.mark.parametrize(
    "text",
    [
        "<" * 60_000,
        "<a" * 30_000,
        "<html>" + "<!--" * 15_000,
        "<html>" + "<script" * 9_000,
        "<html>" + "<title" * 9_000,
        "<x>" + "<![CDATA[" * 7_000,
        "<x>" + "a:" * 30_000,
        '{"' * 30_000,
        '{"a": "' + "\\" * 60_000,
        "[" * 60_000,
        '{"error":' * 900 + '"x"' + "}" * 900,
        '{"a":' * 900 + '"x"' + "}" * 900,
        json.dumps({f"field {n}": f"too long {n}" for n in range(2_000)}),
        json.dumps([{"message": f"no {n}"} for n in range(2_000)]),
        "&amp;" * 12_000,
        "\\u005c" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_body_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    error_bodies.api_error(REQUEST, 500, {}, text)
    assert time.process_time() - began < 0.5


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["message", "error", "errors", "detail", "code", "type", "loc", "status", "a"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
)


@settings(deadline=None)
@given(JSON_VALUES, st.booleans())
def test_whatever_the_document_the_error_is_one_line_that_can_be_printed(document: object, ascii_only: bool) -> None:
    check_fit_for_print(error_bodies.api_error(REQUEST, 500, {}, json.dumps(document, ensure_ascii=ascii_only)))


ANY_TEXT = st.text(st.characters(exclude_categories=()))


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_whatever_the_text_and_the_headers_the_error_is_one_line_that_can_be_printed(text: str, header: str) -> None:
    headers = {"X-Request-Id": header, "Location": header, "Retry-After": header, "Date": header}
    for status in (302, 429):
        check_fit_for_print(error_bodies.api_error(REQUEST, status, headers, text))


def check_fit_for_print(error: APIError) -> None:
    assert str(error).isprintable()
    assert repr(error).isprintable()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(again) == str(error)
    for value in vars(error).values():
        str(value).encode()


RAW = (
    b"HTTP/1.1 %d Nein\r\nX-Request-Id: r\xe9q\xff\r\nLocation: http://x/\xe9\r\nRetry-After: \xe9\r\nDate: \xff\r\n"
    b"Content-Type: text/plain; charset=\xe9\r\nContent-Length: 10\r\nConnection: close\r\n\r\nno \xe9\xff\n bed"
)


@pytest.mark.parametrize("status", [302, 400, 429])
async def test_bytes_that_are_not_utf_8_break_nothing(make_client: ClientMaker, status: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RAW % status)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = make_client(base_url=f"http://127.0.0.1:{port}", retry=RetryPolicy(attempts=1))
        with pytest.raises(APIError) as caught:
            await client.samplers.get("x")
    error = caught.value
    check_fit_for_print(error)
    assert (error.status, error.request_id, error.retry_after) == (status, "r\ufffdq\ufffd", None)
    assert "no \ufffd\ufffd bed" in error.message


KEY = "s3cr3t-0123456789.abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"key {KEY} is revoked",
        json.dumps({"message": f"key {KEY} is revoked", "code": KEY}),
        json.dumps({KEY: [f"{KEY} is revoked"]}),
        json.dumps({"message": KEY}).replace("s3cr3t", "\\u00733cr3t"),
        json.dumps({"message": json.dumps({"message": KEY})}).replace("s3cr3t", "\\\\u00733cr3t"),
        # Cut, so that it is no JSON any more.
        '{"message": "' + KEY.replace("-", "\\u002d") + '", "input": "',
        f"<html><title>{KEY}</title>{KEY.replace('-', '&#45;')}</html>",
        f"<Error><Code>{KEY}</Code><Message>{KEY.replace('-', '&#x2d;')}</Message></Error>",
        f"https://x.example/?key={KEY.replace('-', '%2D')}",
    ],
)
def test_no_part_of_an_error_holds_the_key(text: str) -> None:
    headers = {"X-Request-Id": f"r-{KEY}", "Location": f"http://x/{KEY}", "Retry-After": KEY}
    for status in (302, 400):
        error = error_bodies.api_error(REQUEST, status, headers, text, lambda words: words.replace(KEY, "***"))
        shown = "\n".join([str(error), repr(error), *map(str, vars(error).values())])
        assert "***" in shown
        assert "s3cr3t" not in shown.replace("\\", "")
        assert "0123456789" not in shown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-7", 0.0),
        ("1e99", RETRY_AFTER_LIMIT),
        ("inf", None),
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


@settings(deadline=None)
@given(ANY_TEXT)
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
