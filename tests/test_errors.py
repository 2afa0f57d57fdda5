from __future__ import annotations

import copy
import inspect
import pickle
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from loops_async import errors
from loops_async.errors import (
    APIError,
    CreateOutcomeUnknown,
    DecodeError,
    LaunchError,
    LoopsError,
    SamplerFailed,
    TeardownError,
    TransportError,
    WaitTimeout,
)
from loops_async.models import DeploymentStatus, Sampler, SamplerSpec, StatusChange

SAMPLER = Sampler(
    id="smp1",
    base_url="https://model-1.api.baseten.co/deployment/d/sync",
    base_model="Qwen/Qwen3-8B",
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
    status=DeploymentStatus.BUILD_FAILED,
)
SPEC = SamplerSpec("m")
HISTORY = (StatusChange(SAMPLER, None, DeploymentStatus.BUILD_FAILED, 1.25),)
NOT_FOUND = (404, "GET", "/v1/loops/samplers/x", "NOT_FOUND", "no such sampler", "req-1", 2.5, "{}")


def every_class(root: type[LoopsError] = LoopsError) -> set[type[LoopsError]]:
    return {root}.union(*(every_class(kind) for kind in root.__subclasses__()))


EXAMPLES: dict[type[LoopsError], tuple[Any, ...]] = {
    LoopsError: ("something",),
    TransportError: ("no answer in time", "GET", "/v1/loops/samplers", False),
    DecodeError: ("required field missing", "$.samplers[3].status", "smp1", "GET /v1/loops/samplers"),
    CreateOutcomeUnknown: (SamplerSpec("m"), (SAMPLER,), TransportError("cut")),
    SamplerFailed: (SAMPLER, HISTORY, True),
    WaitTimeout: (SAMPLER, HISTORY, "smp1", 3600.0, TransportError("cut")),
    LaunchError: ("two did not come up", [ValueError("a"), TransportError("b")]),
    TeardownError: (
        "could not be deactivated",
        [TransportError("b"), CreateOutcomeUnknown(SPEC, (SAMPLER,))],
        ("smp1", "smp2"),
        ("smp3",),
    ),
}
for kind in sorted(every_class(APIError), key=lambda each: each.__name__):
    EXAMPLES[kind] = NOT_FOUND


def test_every_class_has_an_example() -> None:
    assert set(EXAMPLES) == every_class()


class Unpicklable(Exception):
    """An exception of another library, as they come: it holds a lock, and its arguments are not those that it took."""

    def __init__(self, code: int, *, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.lock = threading.Lock()


class Unreadable(Exception):
    """An exception that pickle writes and cannot read."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code}: {words}")


FOREIGN: list[Exception] = [Unpicklable(1, words="no room"), Unreadable(2, "no room")]


def chained(kind: type[LoopsError], *causes: BaseException) -> LoopsError:
    error = kind(*EXAMPLES[kind])
    error.add_note("after 5 attempts")
    above: BaseException = error
    for cause in causes:
        above.__cause__ = cause
        above = cause
    return error


def content(error: BaseException | None) -> object:
    """Return all that an error says, with its causes; errors compare by identity."""
    if error is None:
        return None
    values = {name: repr(value) for name, value in vars(error).items()}
    return type(error), str(error), repr(error), values, error.__suppress_context__, content(error.__cause__)


def pickled(error: LoopsError) -> LoopsError:
    return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]  # noqa: S301


def pickled_as_before(error: LoopsError) -> LoopsError:
    return pickle.loads(pickle.dumps(error, protocol=2))  # type: ignore[no-any-return]  # noqa: S301


ways = pytest.mark.parametrize("again", [pickled, pickled_as_before, copy.copy, copy.deepcopy])
kinds = pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)


@ways
@kinds
def test_a_copy_says_all_that_the_error_says(kind: type[LoopsError], again: Callable[[LoopsError], LoopsError]) -> None:
    error = chained(kind, TransportError("cut", "GET", "/x"), OSError(5, "input/output error"))
    error.reason_of_mine = ["added by the user"]  # type: ignore[attr-defined]
    other = again(error)
    assert content(other) == content(error)
    other.add_note("another")
    assert error.__notes__ == ["after 5 attempts"]
    assert again(other).__notes__ == ["after 5 attempts", "another"]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: type(each).__name__)
@kinds
def test_a_cause_that_cannot_be_pickled_leaves_its_words(kind: type[LoopsError], foreign: Exception) -> None:
    error = chained(kind, TransportError("cut"), foreign)
    other = pickled(error)
    assert str(other) == str(error)
    assert isinstance(other.__cause__, TransportError)
    assert type(other.__cause__.__cause__) is LoopsError
    assert str(other.__cause__.__cause__) == f"{type(foreign).__name__}: {foreign}"
    assert copy.copy(error).__cause__ is error.__cause__
    deep = copy.deepcopy(error)
    assert deep.__cause__ is not None
    assert deep.__cause__ is not error.__cause__
    assert deep.__cause__.__cause__ is foreign


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: type(each).__name__)
def test_a_part_that_cannot_be_pickled_leaves_its_words(foreign: Exception) -> None:
    words = f"{type(foreign).__name__}: {foreign}"
    group = pickled(LaunchError("two did not come up", [foreign, ValueError("a")]))
    assert isinstance(group, LaunchError)
    assert [type(each) for each in group.exceptions] == [LoopsError, ValueError]
    assert words in str(group)
    for error in (CreateOutcomeUnknown(SPEC, (), foreign), WaitTimeout(SAMPLER, (), None, 1.0, foreign)):
        assert words in str(pickled(error))
        assert str(pickled(pickled(error))) == str(error)
        assert str(copy.deepcopy(error)) == str(error)


def test_a_circle_of_causes_can_be_pickled_and_copied() -> None:
    error, other = LoopsError("a"), TransportError("b")
    error.__cause__, other.__cause__ = other, error
    for again in (pickled(error), copy.copy(error), copy.deepcopy(error)):
        assert again.__cause__ is not None
        assert str(again.__cause__) == "b"
    for again in (pickled(error), copy.deepcopy(error)):
        assert again.__cause__ is not None
        assert again.__cause__.__cause__ is again


def test_a_long_chain_of_causes_takes_no_time_that_doubles() -> None:
    error = LoopsError("0")
    for number in range(1, 60):
        above = LoopsError(str(number))
        above.__cause__ = error
        error = above
    assert str(pickled(error)) == "59"


def test_a_group_does_not_change_with_the_list_that_it_was_given() -> None:
    members: list[Exception] = [ValueError("a")]
    error = LaunchError("one", members)
    members.clear()
    assert str(pickled(error)) == str(error)


@kinds
def test_says_one_line(kind: type[LoopsError]) -> None:
    words = str(kind(*EXAMPLES[kind]))
    assert words
    assert not words.startswith("(")
    assert words.isprintable()


ODD = "a\nb\r\x1b[0m\u2028\udce9\x00 "
ODD_SAMPLER = attrs.evolve(SAMPLER, id=ODD, base_model=ODD, status=ODD)
ODD_ERRORS: list[LoopsError] = [
    LoopsError(ODD),
    TransportError(ODD, ODD, ODD),
    errors.NotFoundError(404, ODD, ODD, ODD, ODD, ODD, None, ODD),
    DecodeError(ODD, ODD, ODD, ODD),
    CreateOutcomeUnknown(SamplerSpec("m"), [ODD_SAMPLER]),
    CreateOutcomeUnknown(SamplerSpec("m"), [], ValueError(ODD)),
    SamplerFailed(ODD_SAMPLER, [StatusChange(ODD_SAMPLER, None, ODD, 1.0)]),
    SamplerFailed(ODD_SAMPLER),
    WaitTimeout(ODD_SAMPLER, [], None, 1.0, ValueError(ODD)),
    WaitTimeout(None, [], ODD),
    LaunchError(ODD, [ValueError(ODD)]),
    TeardownError(ODD, [ValueError(ODD)], [ODD], [ODD]),
    TeardownError(ODD, [CreateOutcomeUnknown(SamplerSpec("m"), [ODD_SAMPLER])]),
]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_text_from_outside_breaks_no_line_no_terminal_and_no_encoding(error: LoopsError) -> None:
    for words in (str(error), str(pickled(error)), repr(error)):
        assert words.isprintable()
        words.encode()
    assert "\ufffd" in str(error)


@kinds
def test_every_attribute_is_in_the_help(kind: type[LoopsError]) -> None:
    error = kind(*EXAMPLES[kind])
    documented = {
        name: words
        for each in kind.__mro__
        if issubclass(each, LoopsError)
        for name, words in re.findall(r"^    (\w+): (.*)$", inspect.getdoc(each) or "", re.MULTILINE)
    }
    assert set(vars(error)) <= set(documented)
    if isinstance(error, ExceptionGroup):
        assert {"message", "exceptions"} <= set(documented)
    # Each is a phrase of its own, and a subclass says where they stand.
    assert all(words[0].isupper() or words[0] == "`" for words in documented.values())
    if issubclass(kind, APIError) and kind is not APIError:
        assert "`APIError`" in (kind.__doc__ or "")


MANY = range(300)
MANY_IDS = [f"smp{number:03}" for number in MANY]
MANY_SAMPLERS = [attrs.evolve(SAMPLER, id=each, user_email="ada@example.com") for each in MANY_IDS]
LONG = "word " * 5_000
LARGE: list[LoopsError] = [
    LoopsError(LONG),
    TransportError(LONG, "GET", "/v1"),
    errors.BadRequestError(400, "GET", "/v1", LONG, f"{LONG} ada@example.com", LONG, 1.0, "ada@example.com" * 300),
    errors.BadRequestError(
        400, "GET", "/v1", "ada@example.com", f"{'x' * 70}(ada.b+c@example.com) no", "ada@example.com"
    ),
    TransportError("x" * 73 + " ada@example.com", "GET", "/v1"),
    DecodeError(LONG, LONG, LONG, LONG),
    CreateOutcomeUnknown(SamplerSpec("m"), MANY_SAMPLERS),
    CreateOutcomeUnknown(SamplerSpec("m"), MANY_SAMPLERS, TransportError("ada@example.com")),
    SamplerFailed(MANY_SAMPLERS[0], [StatusChange(each, None, "UNHEALTHY", 1.0) for each in MANY_SAMPLERS]),
    WaitTimeout(MANY_SAMPLERS[0], [StatusChange(each, None, "UNHEALTHY", 1.0) for each in MANY_SAMPLERS], None, 1.0),
    WaitTimeout(None, (), "smp1", 1.0, TransportError("ada@example.com")),
    LaunchError("300 did not", [SamplerFailed(each) for each in MANY_SAMPLERS]),
    LaunchError("did not", [ExceptionGroup("more", [SamplerFailed(each) for each in MANY_SAMPLERS])]),
    TeardownError("300 remain", [TransportError(LONG) for _ in MANY], MANY_IDS, MANY_IDS),
    TeardownError("300 remain", [CreateOutcomeUnknown(SamplerSpec("m"), MANY_SAMPLERS) for _ in MANY]),
]


@pytest.mark.parametrize("error", LARGE, ids=lambda error: type(error).__name__)
def test_a_repr_is_short_and_holds_no_email(error: LoopsError) -> None:
    for shown in (repr(error), repr(pickled(error)), repr(ExceptionGroup("group", [error]))):
        assert len(shown) < 500
        assert "ada" not in shown
        assert "example.com" not in shown
        assert type(error).__name__ in shown


def test_a_repr_has_the_key_facts() -> None:
    group = TeardownError("two remain", [TransportError("b"), TransportError("c")], ("smp1", "smp2"))
    assert repr(group) == "TeardownError('two remain', [2 TransportError], sampler_ids=[smp1, smp2])"
    assert repr(errors.NotFoundError(*NOT_FOUND)) == (
        "NotFoundError(404, 'GET /v1/loops/samplers/x', code='NOT_FOUND', message='no such sampler', "
        "request_id='req-1', retry_after=2.5)"
    )
    assert repr(SamplerFailed(SAMPLER, HISTORY, True)) == (
        "SamplerFailed('smp1', 'Qwen/Qwen3-8B', status=BUILD_FAILED, permanent=True)"
    )
    assert repr(WaitTimeout(None, (), "smp9", 5)) == "WaitTimeout('smp9', timeout=5)"
    assert repr(TransportError("cut", "GET", "/x")) == "TransportError('cut', 'GET /x', sent=True)"


@pytest.mark.parametrize("error", LARGE, ids=lambda error: type(error).__name__)
def test_a_message_is_short_and_counts_what_it_leaves_out(error: LoopsError) -> None:
    words = str(error)
    assert len(words) <= 2000
    assert sum(each in words for each in MANY_IDS) <= 10
    if isinstance(error, TeardownError) and error.sampler_ids:
        assert "smp009, and 290 more (all of them are in `sampler_ids`)" in words
    if isinstance(error, LaunchError) and len(error.exceptions) > 1:
        assert "and 297 more (all of them are in `exceptions`)" in words
    if isinstance(error, CreateOutcomeUnknown) and error.look_error is None:
        assert "smp009, and 290 more (all of them are in `candidates`)" in words
    if isinstance(error, (SamplerFailed, WaitTimeout)) and error.history:
        assert "UNHEALTHY at 1.0 s, (290 more), UNHEALTHY at 1.0 s" in words


def test_a_teardown_error_names_its_unknown_creates() -> None:
    unknown = CreateOutcomeUnknown(SPEC, (SAMPLER,))
    error = TeardownError("it", [TransportError("b"), unknown], ("smp2",), ("smp3",))
    assert error.unknown == (unknown,)
    assert str(error) == "it (still billed: smp2; candidates of unknown creates: smp1)"
    part = error.subgroup(TransportError)
    assert isinstance(part, TeardownError)
    assert (part.sampler_ids, part.deactivated, part.unknown) == (("smp2",), ("smp3",), (unknown,))
    for again in (pickled(error), copy.deepcopy(error)):
        assert isinstance(again, TeardownError)
        # What was one error is one error again.
        assert again.exceptions[1] is again.unknown[0]


def test_attributes_are_the_documented_ones() -> None:
    error = errors.NotFoundError(*NOT_FOUND)
    assert (error.status, error.method, error.path, error.code) == (404, "GET", "/v1/loops/samplers/x", "NOT_FOUND")
    assert (error.message, error.request_id, error.retry_after, error.body) == ("no such sampler", "req-1", 2.5, "{}")
    assert "req-1" in str(error)


def test_a_wait_timeout_is_a_timeout_error_and_knows_the_id_without_a_sampler() -> None:
    error = WaitTimeout(None, (), "smp9")
    assert isinstance(error, TimeoutError)
    assert error.sampler_id == "smp9"
    assert "smp9" in str(error)


@pytest.mark.parametrize(
    ("timeout", "words"),
    [(8, "8 s"), (7.98882, "7.99 s"), (0.0421, "0.0421 s"), (3599.99999, "3600 s")],
)
def test_a_wait_timeout_shows_no_digits_that_mean_nothing(timeout: float, words: str) -> None:
    assert str(WaitTimeout(None, (), "smp9", timeout)).startswith(f"the wait for sampler smp9 timed out after {words}:")


def test_a_wait_timeout_is_no_system_error() -> None:
    error = WaitTimeout(*EXAMPLES[WaitTimeout])
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert len(error.args) == 5


def test_a_sampler_failure_tells_the_course() -> None:
    assert "failed permanently: BUILD" in str(SamplerFailed(SAMPLER, HISTORY, True))
    assert "BUILD_FAILED at 1.2 s" in str(SamplerFailed(SAMPLER, HISTORY, True))
    assert "failed permanently (relaunched 2 times): BUILD" in str(SamplerFailed(SAMPLER, HISTORY, True, 2))


@pytest.mark.parametrize("kind", [LaunchError, TeardownError])
def test_groups_split_into_their_own_kind(kind: type[LaunchError | TeardownError]) -> None:
    group = kind(*EXAMPLES[kind])
    part = group.subgroup(TransportError)
    assert type(part) is kind
    if isinstance(group, TeardownError):
        assert isinstance(part, TeardownError)
        assert part.sampler_ids == group.sampler_ids
        assert "smp1, smp2" in str(group)
