from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

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
    TeardownError: ("could not release", [TransportError("b")], ("smp1", "smp2")),
}
for kind in sorted(every_class(APIError), key=lambda each: each.__name__):
    EXAMPLES[kind] = NOT_FOUND


def test_every_class_has_an_example() -> None:
    assert set(EXAMPLES) == every_class()


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_pickles_with_everything_that_it_says(kind: type[LoopsError]) -> None:
    error = kind(*EXAMPLES[kind])
    error.add_note("after 5 attempts")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__notes__ == ["after 5 attempts"]
    assert {name: repr(value) for name, value in vars(again).items()} == {
        name: repr(value) for name, value in vars(error).items()
    }


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_says_one_line(kind: type[LoopsError]) -> None:
    words = str(kind(*EXAMPLES[kind]))
    assert words
    assert not words.startswith("(")
    assert "\n" not in words


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


def test_a_wait_timeout_is_no_system_error() -> None:
    error = WaitTimeout(*EXAMPLES[WaitTimeout])
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert len(error.args) == 5


def test_a_sampler_failure_tells_the_course() -> None:
    assert "BUILD_FAILED at 1.2 s" in str(SamplerFailed(SAMPLER, HISTORY, True))


@pytest.mark.parametrize("kind", [LaunchError, TeardownError])
def test_groups_split_into_their_own_kind(kind: type[LaunchError | TeardownError]) -> None:
    group = kind(*EXAMPLES[kind])
    part = group.subgroup(TransportError)
    assert type(part) is kind
    if isinstance(group, TeardownError):
        assert isinstance(part, TeardownError)
        assert part.sampler_ids == group.sampler_ids
        assert "smp1, smp2" in str(group)
