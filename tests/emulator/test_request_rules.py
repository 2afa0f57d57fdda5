import json
from typing import Any

import pytest

from loops_async.emulator._refused import Refused
from loops_async.emulator._requests import checkpoint_key, sampler_request, whole_number

LEAST: dict[str, Any] = {"session_id": "s", "base_model": "m"}


def parse(document: object) -> Any:
    return sampler_request(json.dumps(document).encode())


def test_what_is_unset_or_null_is_none_and_what_is_unknown_is_ignored() -> None:
    request = parse(LEAST | {"run_id": None, "num_replicas": 2, "colour": "blue"})
    assert (request.session_id, request.base_model, request.run_id, request.num_replicas) == (
        "s",
        "m",
        None,
        2,
    )


def test_a_run_stands_in_for_the_base_model() -> None:
    assert parse({"session_id": "s", "run_id": "r"}).base_model is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        sampler_request(body)
    assert (caught.value.status, caught.value.code) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"base_model": "m"}, "session_id"),
        (LEAST | {"session_id": None}, "session_id"),
        (LEAST | {"session_id": ""}, "session_id"),
        (LEAST | {"session_id": 5}, "session_id"),
        ({"session_id": "s"}, "base_model"),
        (LEAST | {"base_model": ["m"]}, "base_model"),
        (LEAST | {"run_id": 1}, "run_id"),
        (LEAST | {"max_seq_length": 0}, "max_seq_length"),
        (LEAST | {"max_seq_length": True}, "max_seq_length"),
        (LEAST | {"max_seq_length": 1.5}, "max_seq_length"),
        (LEAST | {"num_replicas": -1}, "num_replicas"),
        (LEAST | {"num_replicas": "1"}, "num_replicas"),
        (LEAST | {"model_path": "bt://loops:r/weights/n"}, "model_path"),
        (LEAST | {"model_path": "s3://x"}, "s3://x"),
    ],
)
def test_the_answer_names_the_field_at_fault(document: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused, match=field) as caught:
        parse(document)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("bt://loops:r1/weights/n", ("r1", "trainer", "n")),
        ("bt://loops:r1/sampler_weights/step-100/", ("r1", "sampler", "step-100")),
    ],
)
def test_a_checkpoint_uri_has_three_parts(path: str, key: tuple[str, str, str]) -> None:
    assert checkpoint_key(path) == key


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("9" * 19, "at most 9{18}"),
        ("9" * 5000, "at most 9{18}"),
        ("-" + "9" * 5000, "at least 1"),
        ("0" * 30, "at least 1"),
        ("x", "at least 1"),
    ],
)
def test_a_number_that_is_too_large_is_told_so(text: str, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        whole_number({"n": text}, "n", default=None, minimum=1)
    assert whole_number({"n": "0" * 30 + "5"}, "n", default=None, minimum=1) == 5
    assert whole_number({"n": "9" * 18}, "n", default=None, minimum=1) == 10**18 - 1


@pytest.mark.parametrize("value", [10**18, 10**400, 1e300])
def test_so_is_one_in_a_body(value: float) -> None:
    for field in ("max_seq_length", "num_replicas"):
        with pytest.raises(Refused, match=f"{field}: .*at most 9{{18}}"):
            parse(LEAST | {field: value})


@pytest.mark.parametrize("text", ["", "0", "-3", "x", "1_0", " 5", "1.0", "9" * 5000])
def test_a_number_in_a_query_is_plain_digits(text: str) -> None:
    with pytest.raises(Refused):
        whole_number({"n": text}, "n", default=None, minimum=1)


def test_a_number_that_is_left_out_is_its_default() -> None:
    assert whole_number({}, "n", default=7, minimum=1) == 7
    assert whole_number({"n": "12"}, "n", default=7, minimum=1) == 12


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"base_model": "m"}, "session_id: field required."),
        (LEAST | {"session_id": ""}, "session_id: must have at least 1 characters."),
        (LEAST | {"num_replicas": 0}, "num_replicas: must be an integer of at least 1."),
        (LEAST | {"num_replicas": "1"}, "num_replicas: must be integer or null, not string."),
        (LEAST | {"run_id": "\ud800"}, "run_id: must be valid Unicode."),
    ],
)
def test_the_words_are_those_of_json(document: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(document)
    assert caught.value.message == words


def test_a_whole_number_may_be_written_with_a_point() -> None:
    body = b'{"session_id": "s", "base_model": "m", "num_replicas": 2.0, "max_seq_length": 1e3}'
    request = sampler_request(body)
    assert (request.num_replicas, request.max_seq_length) == (2, 1000)
    assert type(request.max_seq_length) is int
