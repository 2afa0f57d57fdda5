from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async import DecodeError, DeploymentStatus, SamplerSpec
from loops_async._api import codec

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


def test_a_listing_reads_ids_and_statuses_and_a_sampler_on_request() -> None:
    newest = {**ITEM, "id": "smp2", "status": {"name": "ACTIVE", "since": "x"}}
    listing = codec.Listing(body({"samplers": [newest, ITEM], "more": 1}), "GET /x")
    assert [(row.id, row.status.name) for row in listing.rows if row] == [("smp2", "ACTIVE"), ("smp1", "BUILDING")]
    assert listing.sampler(1) == codec.decode_sampler(body({"sampler": ITEM}), "GET /x")


def test_a_malformed_item_of_a_listing_is_known_by_its_id_alone() -> None:
    items = [{**ITEM, "status": None}, 5, {**ITEM, "id": "smp2"}, {"id": 7}, {**ITEM, "id": "smp3", "created_at": 0}]
    listing = codec.Listing(body({"samplers": items}), "GET /x")
    rows = [(row.id, row.status.name) if row else None for row in listing.rows]
    assert rows == [("smp1", ""), None, ("smp2", "BUILDING"), None, ("smp3", "BUILDING")]
    for index, path in [(0, "$.samplers[0].status"), (4, "$.samplers[4].created_at")]:
        with pytest.raises(DecodeError) as caught:
            listing.sampler(index)
        assert caught.value.path == path


@pytest.mark.parametrize("written", [b"", b"<html>", b"{}", b'{"samplers": 5}', b'{"samplers": null}', b"[]"])
def test_a_listing_that_is_none_is_a_decode_error(written: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.Listing(written, "GET /x")


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
        ({"created_at": 5}, "$.sampler.created_at"),
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


@pytest.mark.parametrize("name", ["base_url", "base_model", "created_at", "status"])
def test_a_missing_field_is_named(name: str) -> None:
    item = {key: value for key, value in ITEM.items() if key != name}
    with pytest.raises(DecodeError, match="required field missing") as caught:
        codec.decode_samplers(body({"samplers": [ITEM, ITEM, item]}), "GET /x")
    assert caught.value.path == f"$.samplers[2].{name}"
    assert caught.value.sampler_id == "smp1"


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
        (b'{"sampler": {"id": ""}}', "$.sampler.base_url"),
        (b"[" * 100_000, "$"),
    ],
)
def test_what_is_no_answer_at_all_has_no_id(written: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode_sampler(written, "GET /x")
    assert caught.value.path == path
    assert caught.value.sampler_id is None


@pytest.mark.parametrize("written", [{"samplers": {}}, {"samplers": "abc"}, {"samplers": None}])
def test_only_an_array_is_an_array(written: object) -> None:
    with pytest.raises(DecodeError, match="expected an array"):
        codec.decode_samplers(body(written), "GET /x")


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


def test_items_that_cannot_be_read_are_left_out_on_request() -> None:
    listed = codec.decode_readable_samplers(body({"samplers": [5, {**ITEM, "status": 1}, ITEM, None]}), "GET /x")
    assert [sampler.id for sampler in listed] == ["smp1"]


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
