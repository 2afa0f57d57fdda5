from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async import DecodeError, Sampler
from loops_async._api import codec
from loops_async._api.sampler_list import SamplerList, decode_samplers

from .test_codec import COMPLETE, ITEM, JSON, ODD_VALUES, SAMPLERS, body


async def scanned(document: object) -> SamplerList:
    return await SamplerList.scan(document if isinstance(document, bytes) else body(document), "GET /x")


def rows_of(listed: SamplerList) -> list[tuple[str, str] | None]:
    return [(row.id, row.status.name) if row else None for row in listed.rows]


async def test_a_scan_reads_ids_and_statuses_and_a_sampler_when_it_is_asked_for() -> None:
    newest = {**ITEM, "id": "smp2", "status": {"name": "ACTIVE", "since": "x"}}
    written = body({"samplers": [newest, ITEM], "more": 1})
    listed = await scanned(written)
    assert rows_of(listed) == [("smp2", "ACTIVE"), ("smp1", "BUILDING")]
    assert listed.sampler(1) == codec.decode_sampler(body({"sampler": ITEM}), "GET /x")
    assert listed.size == len(written)


async def test_a_malformed_item_is_known_by_its_id_alone() -> None:
    items = [{**ITEM, "status": None}, 5, {**ITEM, "id": "smp2"}, {"id": 7}, {**ITEM, "id": "smp3", "created_at": {}}]
    listed = await scanned({"samplers": items})
    assert rows_of(listed) == [("smp1", ""), None, ("smp2", "BUILDING"), None, ("smp3", "BUILDING")]
    for index, path in [(0, "$.samplers[0].status"), (4, "$.samplers[4].created_at")]:
        with pytest.raises(DecodeError) as caught:
            listed.sampler(index)
        assert caught.value.path == path
    readable = await decode_samplers(body({"samplers": items}), "GET /x", only_readable=True)
    assert [sampler.id for sampler in readable] == ["smp2"]


@pytest.mark.parametrize(
    "written",
    [b"", b"<html>", b"{}", b'{"samplers": 5}', b'{"samplers": {}}', b'{"samplers": "abc"}', b"[]", b'{"samplers": [',
     b'{"samplers": [NaN', b'{"samplers": [NaN 1]}', b'{"samplers": [NaN]} {}', b'{"samplers": NaN}', b'{"a": NaN}',
     b'{"samplers": [NaN],}', b"{NaN: []}", b'{"samplers" [NaN]}', b'{"a": NaN, "samplers": {}}'],
)  # fmt: skip
async def test_what_is_no_list_is_a_decode_error(written: bytes) -> None:
    for decode in (SamplerList.scan, decode_samplers, partial(decode_samplers, only_readable=True)):
        with pytest.raises(DecodeError):
            await decode(written, "GET /x")


@pytest.mark.parametrize(
    "written", [b'{"samplers": null}', b'{"samplers": null, "x": NaN}', b'{"samplers":[],"x":NaN}']
)
async def test_a_list_that_is_null_is_empty(written: bytes) -> None:
    assert rows_of(await scanned(written)) == []
    assert await decode_samplers(written, "GET /x") == ()
    assert await decode_samplers(written, "GET /x", only_readable=True) == ()


@pytest.mark.parametrize("name", ["base_url", "base_model", "created_at", "status"])
async def test_a_missing_field_is_named(name: str) -> None:
    item = {key: value for key, value in ITEM.items() if key != name}
    with pytest.raises(DecodeError, match="required field missing") as caught:
        await decode_samplers(body({"samplers": [ITEM, ITEM, item]}), "GET /x")
    assert caught.value.path == f"$.samplers[2].{name}"
    assert caught.value.sampler_id == "smp1"


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
@pytest.mark.parametrize("place", ["item", "document before", "document after"])
async def test_a_list_is_read_whatever_is_in_its_ignored_members(place: str, value: bytes) -> None:
    odd = {**ITEM, "id": "smp2", "note": "@@", "status": {"name": "ACTIVE"}}
    document: dict[str, Any] = {"samplers": [ITEM, odd, ITEM]}
    if place != "item":
        odd["note"] = "-"
        document = {"note": "@@", **document} if place == "document before" else {**document, "note": "@@"}
    written = body(document).replace(b'"@@"', value)
    listed = await scanned(written)
    assert rows_of(listed) == [("smp1", "BUILDING"), ("smp2", "ACTIVE"), ("smp1", "BUILDING")]
    assert listed.sampler(1).id == "smp2"
    samplers = await decode_samplers(written, "GET /x")
    assert [sampler.id for sampler in samplers] == ["smp1", "smp2", "smp1"]
    assert samplers[0] == codec.decode_sampler(body({"sampler": ITEM}), "GET /x")


@pytest.mark.parametrize("odd", [b"1", b"NaN"], ids=["in one item", "in the document"])
async def test_a_row_shows_the_status_that_the_sampler_has(odd: bytes) -> None:
    item = {**ITEM, "status": {"name": "cut \ud83d"}, "note": "@@"}
    listed = await scanned(body({"samplers": [item]}).replace(b'"@@"', odd))
    assert rows_of(listed) == [("smp1", "cut \ufffd")]
    assert listed.sampler(0).status == "cut \ufffd"


@pytest.mark.parametrize("odd", [b'"ok"', b"NaN"], ids=["plain", "lenient"])
async def test_a_list_of_ten_thousand_leaves_the_event_loop_its_turns(odd: bytes) -> None:
    items = [{**ITEM, "id": f"smp{number}", "note": "@@"} for number in range(10_000)]
    written = body({"samplers": items}).replace(b'"@@"', odd)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    samplers = await decode_samplers(written, "GET /x")
    counting.cancel()
    assert len(samplers) == 10_000
    # In slices of 2 ms; even a machine that reads a sampler in 2 µs has ten of them.
    assert turns >= 8


@given(st.lists(SAMPLERS | COMPLETE | JSON, max_size=4) | JSON)
def test_any_list_is_read_or_is_a_decode_error(document: object) -> None:
    """And the three ways to read a list agree."""

    async def check() -> None:
        written = json.dumps({"samplers": document}).encode()
        try:
            listed = await scanned(written)
        except DecodeError:
            assert not isinstance(document, list)
            assert document is not None
            return
        read: list[Sampler | None] = []
        for index, row in enumerate(listed.rows):
            try:
                sampler = listed.sampler(index)
            except DecodeError:
                read.append(None)
            else:
                read.append(sampler)
                assert row is not None
                assert (row.id, row.status.name) == (sampler.id, sampler.status)
        readable = tuple(sampler for sampler in read if sampler)
        assert await decode_samplers(written, "GET /x", only_readable=True) == readable
        try:
            assert await decode_samplers(written, "GET /x") == readable
        except DecodeError:
            assert None in read
        else:
            assert None not in read

    asyncio.run(check())
