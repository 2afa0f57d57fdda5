"""A list of all samplers, of which only the necessary parts are read, without blocking the event loop.

An account can have ten thousand samplers, of which a few change between two polls. To make models of all of them would
take some hundred milliseconds each time; a scan for ids and statuses takes a few. Longer work is done in slices, and
the event loop gets a turn after each.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any, Final

import msgspec

from ..errors import DecodeError
from ..models import Sampler
from . import codec, lenient_json

SLICE_S: Final = 0.002
"""Seconds of work on a list after which the event loop gets its turn."""


async def decode_samplers(body: bytes, request: str, *, only_readable: bool = False) -> tuple[Sampler, ...]:
    """Read `{samplers}`; with *only_readable*, leave out the items that cannot be read.

    Raises:
        DecodeError: The document is no such list, or one of its items cannot be read.
    """
    listed = await SamplerList.scan(body, request)
    slices = _Slices()
    samplers = []
    for index in range(len(listed.rows)):
        await slices.next()
        with suppress(DecodeError) if only_readable else nullcontext():
            samplers.append(listed.sampler(index))
    return tuple(samplers)


class RowStatus(msgspec.Struct, gc=False):
    """The member `status` of a row."""

    name: str


class Row(msgspec.Struct, gc=False):
    """The id and the status of a sampler. A status that cannot be read has an empty name."""

    id: str
    status: RowStatus


class SamplerList:
    """`{samplers}`, scanned for ids and statuses; `sampler()` reads the rest of one. Made by `scan()`."""

    __slots__ = ("_body", "_items", "_request", "rows")

    def __init__(
        self, body: bytes, request: str, rows: Sequence[Row | None], items: Sequence[msgspec.Raw | object] | None
    ) -> None:
        self._body = body
        self._request = request
        self._items = items
        self.rows = rows
        """One row for each item, in order; None for an item whose id cannot be read."""

    @classmethod
    async def scan(cls, body: bytes, request: str) -> SamplerList:
        """Scan *body*, the response to *request*.

        Raises:
            DecodeError: The document is no such list. Only `sampler()` raises the error of a single item.
        """
        body = body.removeprefix(b"\xef\xbb\xbf")
        with suppress(*codec.NOT_PLAIN):
            return cls(body, request, _scan_rows(body).samplers or (), None)
        items: Sequence[msgspec.Raw | object]
        try:
            items = _scan_items(body).samplers or ()
        except codec.NOT_PLAIN:
            items = await _parsed_items(body, request)
        slices = _Slices()
        rows = []
        for item in items:
            await slices.next()
            rows.append(_lenient_row(item))
        return cls(body, request, rows, items)

    def sampler(self, index: int) -> Sampler:
        """Read the item at *index*.

        Raises:
            DecodeError: It cannot be read.
        """
        return codec.decode_listed_sampler(self._item(index), index, self._request)

    def item(self, index: int) -> object:
        """Return the item at *index* for `read_item()`, without a reference to the rest of the list."""
        item = self._item(index)
        return bytes(item) if isinstance(item, msgspec.Raw) else item

    def _item(self, index: int) -> msgspec.Raw | object:
        if self._items is None:
            self._items = _scan_items(self._body).samplers or ()
        return self._items[index]

    @property
    def size(self) -> int:
        """Bytes of the document."""
        return len(self._body)


def read_item(item: object, request: str) -> Sampler:
    """Read what `SamplerList.item()` returned.

    Raises:
        DecodeError: It cannot be read; the error does not know its place in the list.
    """
    return codec.decode_listed_sampler(msgspec.Raw(item) if isinstance(item, bytes) else item, 0, request)


class _Rows(msgspec.Struct):
    samplers: list[Row] | None


class _Items(msgspec.Struct):
    samplers: list[msgspec.Raw] | None


_scan_rows = msgspec.json.Decoder(_Rows).decode
_scan_items = msgspec.json.Decoder(_Items).decode
_scan_row = msgspec.json.Decoder(Row).decode


async def _parsed_items(body: bytes, request: str) -> list[Any]:
    """Return the documents of the items of a list that msgspec cannot read."""
    slices = _Slices()
    items = []
    try:
        for item in lenient_json.items(lenient_json.text_of(body), "samplers"):
            await slices.next()
            items.append(item)
    except (ValueError, RecursionError):
        # This raises the reason if it is no such list. A list that is only nested too deeply can be read this way.
        return codec.decode_array(body, "samplers", request)
    return items


def _lenient_row(item: msgspec.Raw | object) -> Row | None:
    if isinstance(item, msgspec.Raw):
        with suppress(*codec.NOT_PLAIN):
            return _scan_row(item)
        try:
            item = lenient_json.parse(bytes(item))
        except ValueError:
            return None
    sampler_id = codec.id_of(item)
    if sampler_id is None or not isinstance(item, dict):
        return None
    status = item.get("status")
    name = status.get("name") if isinstance(status, dict) else None
    return Row(sampler_id, RowStatus(codec.printable(name) if isinstance(name, str) else ""))


class _Slices:
    """Work in slices of `SLICE_S`: `next()` gives the event loop a turn at the end of each.

    The first call gives it one too, since the body was scanned just before.
    """

    __slots__ = ("_end", "_time")

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._end = -math.inf

    async def next(self) -> None:
        if self._time() > self._end:
            await asyncio.sleep(0)
            self._end = self._time() + SLICE_S
