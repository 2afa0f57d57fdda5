from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async import (
    DecodeError,
    DeploymentStatus,
    EnablementDetails,
    LoRAConfig,
    Sampler,
    SamplerSpec,
    SupportedModel,
    to_dict,
)
from loops_async._api import codec, lenient_json

FIXTURES = Path(__file__).parents[1] / "fixtures"
ITEM: dict[str, Any] = {
    "id": "smp1",
    "base_url": "https://model-1.api.baseten.co/deployment/d/sync",
    "base_model": "m",
    "created_at": "2026-11-01T12:00:00Z",
    "model_id": "m1",
    "deployment_id": "d1",
    "status": {"name": "BUILDING"},
}

ODD_VALUES = {
    "lone surrogate": rb'"cut \ud83d"',
    "lone surrogates in keys": rb'{"\ud83d": {"\udc00\ud800": 1}}',
    "lone surrogate in UTF-8": b'"\xed\xa0\xbd"',
    "no UTF-8": b'"\xff\xfe\x80"',
    "NaN": b"NaN",
    "Infinity": b"[Infinity, -Infinity]",
    "huge float": b"1e999",
    "huge integer": b"9" * 40,
    "integer of many digits": b"-" + b"9" * 5000,
    "float of many digits": b"0." + b"9" * 5000,
    "deep arrays": b"[" * 2000 + b"]" * 2000,
    "deep objects": b'{"a":' * 2000 + b"NaN" + b"}" * 2000,
    "deep, with brackets in strings": b'["]}", ' * 2000 + rb'"\\"' + b"]" * 2000,
    "control characters": b'"\x00\x01\n\t"',
    "duplicates": b'{"a": 1, "a": NaN}',
}
"""What encoders write into members that this client ignores; all of it is JSON to one parser or another."""


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def test_the_sampler_of_the_first_published_page_decodes() -> None:
    sampler = codec.decode_sampler((FIXTURES / "sampler_seed.json").read_bytes(), "GET /x")
    assert sampler.status is DeploymentStatus.BUILDING
    assert sampler.created_at == datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
    assert (sampler.user_email, sampler.instance_type, sampler.node_count) == (None, None, 1)


def test_the_newest_sampler_decodes() -> None:
    sampler = codec.decode_sampler((FIXTURES / "sampler_newest.json").read_bytes(), "GET /x")
    assert sampler.model_id is None
    assert sampler.deployment_id is None
    assert sampler.user_email == "dev@example.com"
    assert sampler.node_count == 2
    assert sampler.instance_type is not None
    assert sampler.instance_type.gpu_count == 8


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-01T12:00:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00.123456Z", datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-01T14:00:00+02:00", datetime(2026, 11, 1, 14, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_times_are_aware_utc(written: str, meant: datetime) -> None:
    sampler = codec.decode_sampler(body({"sampler": {**ITEM, "created_at": written}}), "GET /x")
    assert sampler.created_at == meant
    assert sampler.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
@pytest.mark.parametrize(
    "place", ["sampler", "status", "document", "user", "instance_type", "node_count", "whole user"]
)
def test_a_sampler_is_read_whatever_is_in_fields_that_nothing_depends_on(place: str, value: bytes) -> None:
    document: dict[str, Any] = {"sampler": {**ITEM, "status": {"name": "ACTIVE"}}}
    sampler = document["sampler"]
    if place == "node_count":
        sampler["node_count"] = "@@"
    elif place == "whole user":
        sampler["user"] = "@@"
    elif place in {"user", "instance_type"}:
        sampler[place] = {"email": "@@", "id": "@@", "gpu_count": "@@"}
    else:
        {"sampler": sampler, "status": sampler["status"], "document": document}[place]["note"] = "@@"
    written = body(document).replace(b'"@@"', value)
    read = codec.decode_sampler(written, "GET /x", "smp1")
    assert (read.id, read.status, read.base_model) == ("smp1", DeploymentStatus.ACTIVE, "m")
    # What was read can be printed, logged, and written again.
    assert str(to_dict(read)).encode()
    codec.check_deactivated(written.replace(b'{"sampler"', b'{"id": "smp1", "sampler"'), "POST /x", "smp1")


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
def test_the_other_documents_are_read_whatever_is_in_their_ignored_members(value: bytes) -> None:
    def written(document: dict[str, Any]) -> bytes:
        return body({"note": "@@", **document}).replace(b'"@@"', value)

    assert codec.decode_session(written({"session": {"id": "s", "note": "@@"}}), "GET /x").id == "s"
    (model,) = codec.decode_supported_models(
        written(
            {"supported_models": [{"model_name": "m", "max_seq_len": 1, "note": "@@", "enablement_details": "@@"}]}
        ),
        "GET /x",
    )
    assert (model.model_name, model.enablement_details) == ("m", None)
    checkpoint = {
        "id": "c",
        "checkpoint_id": "a",
        "run_id": "r",
        "target": "sampler",
        "created_at": "2026-11-01",
        **dict.fromkeys(("lora_adapter_config", "checkpoint_type", "sync_status", "size_bytes", "note"), "@@"),
        "lora_config": dict.fromkeys(("config_version", "targets", "expert_layout", "note"), "@@"),
    }
    (read,) = codec.decode_checkpoints(written({"checkpoints": [checkpoint]}), "GET /x")
    assert (str(read.path), read.lora_config is None) == ("bt://loops:r/sampler_weights/a", False)
    assert json.dumps(to_dict(read)).encode()


@pytest.mark.parametrize("name", ["supported_models", "checkpoints"])
def test_null_for_a_list_is_an_empty_one(name: str) -> None:
    decode: Any = {"supported_models": codec.decode_supported_models, "checkpoints": codec.decode_checkpoints}[name]
    assert decode(body({name: None}), "GET /x") == ()
    others: tuple[object, ...] = ("abc", {}, 0, False)
    for other in others:
        with pytest.raises(DecodeError, match="expected an array"):
            decode(body({name: other}), "GET /x")
    with pytest.raises(DecodeError, match="required field missing"):
        decode(body({}), "GET /x")


def test_null_counts_as_left_out_where_something_may_be_left_out() -> None:
    (model,) = codec.decode_supported_models(
        body(
            {
                "supported_models": [
                    {
                        "model_name": "m",
                        "max_seq_len": 1,
                        **dict.fromkeys(("max_enabled_seq_len", "supports_vision_language", "enabled", "serverless")),
                        "enablement_details": {"reason": "r", "reason_detail": None, "remediation": None},
                    }
                ]
            }
        ),
        "GET /x",
    )
    assert model == SupportedModel("m", 1, enablement_details=EnablementDetails("r"))
    checkpoint = {"id": "c", "checkpoint_id": "a", "run_id": "r", "target": "sampler", "created_at": "2026-11-01"}
    rest = {"size_bytes": None, "lora_config": {"config_version": None, "targets": None}}
    (read,) = codec.decode_checkpoints(body({"checkpoints": [{**checkpoint, **rest}]}), "GET /x")
    assert (read.size_bytes, read.lora_config) == (0, LoRAConfig())


@pytest.mark.parametrize("sampler_id", [None, "", 5, "a\nb", "cut \ud83d", ["smp1"]])
def test_what_cannot_be_asked_for_is_no_id(sampler_id: object) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_sampler(body({"sampler": {**ITEM, "id": sampler_id}}), "POST /x")
    assert caught.value.path == "$.sampler.id"
    assert caught.value.sampler_id is None


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (b"", "not JSON"),
        (b" \n", "not JSON"),
        (b"{}", "got None"),
        (b'{"id": null}', "got None"),
        (b'{"id": "smp1", "user": NaN}', None),
        (b'\xef\xbb\xbf{"id": "smp1"}', None),
        (b'{"id": "smp2"}', "got 'smp2'"),
        (b'{"id": ["smp1"]}', "got"),
        (b'{"id": 5}', "got 5"),
        (b"[]", "expected an object"),
        (b"<html>", "not JSON"),
    ],
)
def test_the_response_to_a_deactivation_is_about_that_sampler(written: bytes, error: str | None) -> None:
    if error is None:
        codec.check_deactivated(written, "POST /x", "smp1")
    else:
        with pytest.raises(DecodeError, match=error):
            codec.check_deactivated(written, "POST /x", "smp1")


def test_an_unknown_status_stays_its_name() -> None:
    sampler = codec.decode_sampler(body({"sampler": {**ITEM, "status": {"name": "PREEMPTED"}}}), "GET /x")
    assert sampler.status == "PREEMPTED"
    assert not isinstance(sampler.status, DeploymentStatus)


@pytest.mark.parametrize(
    "change",
    [
        {"node_count": True, "user": "me", "instance_type": {"gpu_count": "many"}},
        {"node_count": None, "user": {"email": 5}, "instance_type": []},
        {"node_count": "2", "user": None, "instance_type": None},
    ],
)
def test_no_launch_fails_for_a_detail_of_owner_or_machine(change: dict[str, Any]) -> None:
    sampler = codec.decode_sampler(body({"sampler": {**ITEM, **change}}), "GET /x")
    assert (sampler.user_email, sampler.instance_type, sampler.node_count) == (None, None, 1)


def test_an_integer_may_be_written_as_a_float_and_a_document_may_have_a_mark() -> None:
    written = body({"sampler": {**ITEM, "node_count": 2.0, "instance_type": {"id": "x", "gpu_count": 8.0}}})
    sampler = codec.decode_sampler(b"\xef\xbb\xbf" + written, "GET /x")
    assert sampler.node_count == 2
    assert sampler.instance_type is not None
    assert sampler.instance_type.gpu_count == 8
    assert isinstance(sampler.instance_type.gpu_count, int)


def test_an_answer_about_another_sampler_is_none() -> None:
    with pytest.raises(DecodeError, match="asked for sampler other"):
        codec.decode_sampler(body({"sampler": ITEM}), "GET /x", "other")


@pytest.mark.parametrize("piece", [b'"\\"', b"[", b'{"a":', b'"a",'])
def test_the_search_for_an_id_takes_no_longer_than_the_body_is_long(piece: bytes) -> None:
    written = b'{"sampler": ' + piece * 100_000
    began = time.process_time()
    with pytest.raises(DecodeError):
        codec.decode_sampler(written, "GET /x")
    assert time.process_time() - began < 2


def test_a_base_url_that_is_not_assigned_yet_is_empty() -> None:
    assert codec.decode_sampler(body({"sampler": {**ITEM, "base_url": None}}), "GET /x").base_url == ""


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"status": None}, "$.sampler.status"),
        ({"status": {}}, "$.sampler.status.name"),
        ({"status": {"name": 5}}, "$.sampler.status.name"),
        ({"status": "ACTIVE"}, "$.sampler.status"),
        ({"created_at": "yesterday"}, "$.sampler.created_at"),
        ({"created_at": None}, "$.sampler.created_at"),
        ({"created_at": True}, "$.sampler.created_at"),
        ({"created_at": {}}, "$.sampler.created_at"),
        ({"base_model": 5}, "$.sampler.base_model"),
        ({"model_id": 7}, "$.sampler.model_id"),
    ],
)
def test_a_wrong_field_is_named_and_the_id_kept(change: dict[str, Any], path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_sampler(body({"sampler": {**ITEM, **change}}), "GET /x")
    assert caught.value.path == path
    assert caught.value.sampler_id == "smp1"
    assert "GET /x" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (b"", "$"),
        (b"<html>", "$"),
        (b"\xff\xfe", "$"),
        (b"[]", "$"),
        (b"null", "$"),
        (b"{}", "$.sampler"),
        (b'{"sampler": null}', "$.sampler"),
        (b'{"sampler": []}', "$.sampler"),
        (b'{"sampler": {"id": ""}}', "$.sampler.id"),
        (b"[" * 100_000, "$"),
    ],
)
def test_what_is_no_answer_at_all_has_no_id(written: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_sampler(written, "GET /x")
    assert caught.value.path == path
    assert caught.value.sampler_id is None


def test_the_id_is_read_from_a_body_that_was_cut() -> None:
    whole = body({"sampler": {"instance_type": {"id": "h100"}, "tags": [{"id": "t"}], **ITEM}})
    told = whole.index(b'"smp1"') + len(b'"smp1"')
    for cut in range(len(whole)):
        with pytest.raises(DecodeError) as caught:
            codec.decode_sampler(whole[:cut], "POST /x")
        assert caught.value.sampler_id == ("smp1" if cut >= told else None)


@given(st.binary(), st.binary())
def test_no_body_breaks_the_search_for_an_id(before: bytes, after: bytes) -> None:
    for written in (before, before + b'{"sampler": {"id": "x", ' + after):
        try:
            codec.decode_sampler(written, "GET /x")
        except DecodeError:
            continue


def test_a_spec_gives_only_what_it_sets() -> None:
    assert codec.spec_fields(SamplerSpec("m", num_replicas=2)) == {"base_model": "m", "num_replicas": 2}
    assert msgspec.json.decode(codec.encode({"a": "ü"})) == {"a": "ü"}


def test_models_of_older_and_newer_services() -> None:
    older, newer = codec.decode_supported_models((FIXTURES / "capabilities.json").read_bytes(), "GET /x")
    assert (older.max_seq_len, older.max_enabled_seq_len, older.enabled) == (8192, 0, True)
    assert newer.enablement_details is not None
    assert newer.enablement_details.reason == "needs_approval"


def test_checkpoints() -> None:
    saved, strange = codec.decode_checkpoints((FIXTURES / "checkpoints.json").read_bytes(), "GET /x")
    assert str(saved.path) == "bt://loops:k4q95w5/sampler_weights/step-100"
    assert saved.lora_config is not None
    assert saved.lora_config.targets == ("q_proj", "v_proj")
    assert strange.lora_config is None
    assert strange.path.target == "weights"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["cut \ud83d", "a\nb", "é"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def likely(**usual: object) -> st.SearchStrategy[dict[str, Any]]:
    """Documents whose members are as they should be, odd or missing."""
    members = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in usual.items()}
    return st.fixed_dictionaries({}, optional={name: value | JSON for name, value in members.items()})


SAMPLERS = likely(
    id="smp1",
    base_url="https://model-1.api.baseten.co/deployment/d/sync",
    base_model="m",
    created_at=st.sampled_from(
        ["2026-11-01T12:00:00.5Z", "2026-11-01T12:00:00.123456789+02:00", "2026-11-01t24:00:00"]
    ),
    status=likely(name=st.sampled_from(["ACTIVE", "PREEMPTED"])),
    model_id="m1",
    deployment_id="d1",
    user=likely(email="dev@example.com"),
    instance_type=likely(id="h100", name="H100", gpu_count=st.just(8) | st.floats() | st.integers()),
    node_count=st.just(2) | st.floats() | st.integers(),
)


COMPLETE = SAMPLERS.map(lambda odd: {**ITEM, **odd})
"""Samplers of which nothing is missing that is needed."""


@given(JSON | likely(sampler=SAMPLERS))
def test_any_document_is_a_model_or_a_decode_error(document: object) -> None:
    written = body(document)
    for decode in (
        codec.decode_sampler,
        codec.decode_session,
        codec.decode_supported_models,
        codec.decode_checkpoints,
        lambda written, request: codec.check_deactivated(written, request, "smp1"),
    ):
        with suppress(DecodeError):
            decode(written, "GET /x")


@given(
    likely(
        session=likely(id="s"),
        supported_models=st.lists(
            likely(model_name="m", max_seq_len=1, enabled=True, enablement_details=likely(reason="r", remediation="x"))
        ),
        checkpoints=st.lists(
            likely(
                id="c",
                checkpoint_id="a",
                run_id="r",
                target="sampler",
                created_at="2026-11-01",
                lora_config=likely(config_version="1", targets=["q"]),
            )
        ),
    )
)
def test_any_other_document_is_a_model_or_a_decode_error(document: object) -> None:
    test_any_document_is_a_model_or_a_decode_error.hypothesis.inner_test(document)  # type: ignore[attr-defined]


@given(SAMPLERS | COMPLETE)
def test_the_plain_and_the_lenient_way_agree(item: dict[str, Any]) -> None:
    raw = body(item)
    try:
        plain = codec._plain_model(codec._read_plain_sampler(raw))
    except codec.NOT_PLAIN:
        plain = None
    try:
        lenient = codec.structure(lenient_json.parse(raw), Sampler, "$", "GET /x")
    except DecodeError:
        assert plain is None
    else:
        assert plain in {None, lenient}
        assert codec.decode_sampler(body({"sampler": item}), "GET /x") == lenient
        assert codec.decode_sampler(body({"sampler": to_dict(lenient)}), "GET /x") == lenient


def test_the_plain_way_is_taken_for_what_the_service_documents() -> None:
    for name in ("sampler_seed.json", "sampler_newest.json"):
        written = (FIXTURES / name).read_bytes()
        sampler = codec._plain_model(codec._read_plain_answer(written).sampler)
        assert sampler == codec.structure(lenient_json.parse(written)["sampler"], Sampler, "$", "GET /x")
    assert codec._plain_model(codec._read_plain_sampler(body({**ITEM, "base_url": None, "user": None}))).base_url == ""
