"""One table says what a failure means, and all callers do what it says."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

import loops_async
from loops_async import APIError, DecodeError, LoopsError, TransportError
from loops_async._http.error_bodies import api_error
from loops_async._http.failures import (
    CREATE,
    DEACTIVATE,
    POLL,
    READ,
    Action,
    Failure,
    action_for,
    classify,
    names_pause,
    says_not_ready,
)
from loops_async._http.requests import Request

PACKAGE = Path(loops_async.__file__).parent
TABLES: dict[str, Mapping[Failure, Action]] = {"create": CREATE, "read": READ, "deactivate": DEACTIVATE, "poll": POLL}


def answered(status: int) -> APIError:
    return api_error(Request("GET", "/x"), status, MappingProxyType({}), "{}")


def expected(status: int, *, create: bool) -> Failure:
    """Write the design's table once more, in another way."""
    if create and status in {302, 303}:
        return Failure.TRANSIENT
    named = {
        401: Failure.UNAUTHENTICATED,
        404: Failure.MISSING,
        429: Failure.THROTTLED,
        408: Failure.TRANSIENT,
        499: Failure.TRANSIENT,
    }
    by_hundred = {3: Failure.REDIRECTED, 4: Failure.REJECTED, 5: Failure.TRANSIENT}
    return named.get(status, by_hundred[status // 100])


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_has_its_class(status: int) -> None:
    error = answered(status)
    assert classify(error) is expected(status, create=False)
    assert classify(error, create=True) is expected(status, create=True)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TransportError("refused", sent=False), Failure.NOT_SENT),
        (TransportError("cut", sent=True), Failure.TRANSIENT),
        (DecodeError("not JSON", "$"), Failure.UNREADABLE),
        (DecodeError("missing", "$.samplers"), Failure.UNREADABLE),
        (DecodeError("missing", "$.sampler"), Failure.UNREADABLE),
        (DecodeError("expected a string", "$.samplers[3].id"), Failure.MALFORMED),
        (LoopsError("something else"), None),
        (ValueError(), None),
        (RuntimeError(), None),
        (asyncio.CancelledError(), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_every_exception_has_its_class(error: BaseException, failure: Failure | None) -> None:
    assert classify(error) is failure
    if failure is None:
        assert all(action_for(error, table) is Action.RAISE for table in TABLES.values())


DESIGN = {
    Failure.NOT_SENT: (Action.RETRY, Action.RETRY, Action.RETRY, Action.GO_ON),
    Failure.THROTTLED: (Action.RETRY, Action.RETRY, Action.RETRY, Action.GO_ON),
    Failure.REDIRECTED: (Action.RAISE, Action.RAISE, Action.LOOK_OR_RETRY, Action.PATIENCE),
    Failure.REJECTED: (Action.RAISE, Action.RAISE, Action.LOOK_OR_RAISE, Action.PATIENCE),
    Failure.UNAUTHENTICATED: (Action.RAISE, Action.RAISE, Action.RAISE, Action.END_ALL_WAITS),
    Failure.MISSING: (Action.RAISE, Action.RAISE, Action.LOOK_OR_RAISE, Action.PATIENCE),
    Failure.TRANSIENT: (Action.UNKNOWN, Action.RETRY, Action.RETRY, Action.GO_ON),
    Failure.UNREADABLE: (Action.UNKNOWN, Action.RAISE, Action.LOOK_OR_RETRY, Action.GO_ON),
    Failure.MALFORMED: (Action.UNKNOWN, Action.RAISE, Action.LOOK_OR_RETRY, Action.END_WAIT),
}


@pytest.mark.parametrize("failure", Failure)
def test_every_caller_has_an_action_for_every_class(failure: Failure) -> None:
    assert tuple(table[failure] for table in TABLES.values()) == DESIGN[failure]


@pytest.mark.parametrize("status", range(300, 600))
def test_a_pause_counts_only_with_a_refusal_for_haste(status: int) -> None:
    error = answered(status)
    assert not names_pause(error)
    error.retry_after = 3.0
    assert names_pause(error) == (status == 429 or status in {408, 499} or status >= 500)


@pytest.mark.parametrize("status", [400, 404, 408, 409, 425, 429, 499, 500, 502, 503, 522])
def test_a_sampler_that_is_coming_up_may_answer_with_this(status: int) -> None:
    assert says_not_ready(answered(status))


@pytest.mark.parametrize("status", [401, 402, 403, 405, 413, 422])
def test_a_sampler_that_answers_with_this_will_not_come_up(status: int) -> None:
    assert not says_not_ready(answered(status))


def test_a_refusal_of_the_model_is_final() -> None:
    body = '{"object": "error", "message": "The model `m` does not exist.", "type": "BadRequestError", "code": 400}'
    for text in (body, '{"error": {"message": "no such model", "type": "BadRequestError", "code": 400}}'):
        assert not says_not_ready(api_error(Request("POST", "/sample"), 400, MappingProxyType({}), text))


JUDGED_ELSEWHERE = {
    "errors.py",
    "_http/failures.py",
    "_http/error_bodies.py",
    # What the wait for a resumed sampler ended with, when all requests were judged: the service has forgotten it.
    "_launch/supervisor.py",
}


def modules() -> list[Path]:
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in {"cli", "emulator"}
        and str(path.relative_to(PACKAGE)) not in JUDGED_ELSEWHERE
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_judges_a_failure(path: Path) -> None:
    """None asks for the class of an API error, or compares its status with a number."""
    leaves = {kind.__name__ for kind in APIError.__subclasses__()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "status":
            numbers = [each for each in node.comparators if isinstance(each, ast.Constant)]
            response = isinstance(node.left.value, ast.Name) and node.left.value.id == "response"
            assert response or not any(isinstance(each.value, int) for each in numbers), ast.unparse(node)
        tested: ast.expr | None = None
        if isinstance(node, ast.ExceptHandler):
            tested = node.type
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            tested = node.args[1]
        if tested is not None:
            named = {each.id for each in ast.walk(tested) if isinstance(each, ast.Name)}
            assert not named & leaves, ast.unparse(tested)
