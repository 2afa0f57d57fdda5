"""JSON to models and back: the only place where untyped data lives.

Lenient in: unknown fields are ignored, fields that older or newer services leave out have defaults, naive timestamps
are UTC. What is there and has the wrong type is a `DecodeError` that says where.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from attrs import asdict

from ..errors import DecodeError
from ..models import Checkpoint, InstanceType, Sampler, SamplerSpec, Session, SupportedModel, status_of

T = TypeVar("T")

# Nesting without end, and dates before the first year of UTC, are malformed, too.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)


def encode(document: Mapping[str, object]) -> bytes:
    """Write *document* as JSON."""
    return msgspec.json.encode(document)


def decode_session(body: bytes, request: str) -> Session:
    """Read `{session}`."""
    try:
        session = Session(_read_fast_session(body).session.id)
    except _UNREADABLE:
        session = _member(body, "session", Session, request)
    if not session.id:
        raise DecodeError("expected an id, not an empty string", "$.session.id", None, request)
    return session


def decode_sampler(body: bytes, request: str, sampler_id: str | None = None) -> Sampler:
    """Read `{sampler}`; where that fails, the error has the sampler's id if the body still shows it.

    With a *sampler_id*, an answer that describes another sampler is none.
    """
    try:
        sampler = _read_fast_answer(body).sampler.model()
    except _UNREADABLE:
        sampler = _member(body, "sampler", Sampler, request)
    else:
        if not sampler.id:
            raise DecodeError("expected an id, not an empty string", "$.sampler", None, request)
    if sampler_id is not None and sampler.id != sampler_id:
        raise DecodeError(f"asked for sampler {sampler_id}, got {sampler.id}", "$.sampler", sampler_id, request)
    return sampler


def check_deactivated(body: bytes, request: str, sampler_id: str) -> None:
    """Check that a response to a deactivation names the sampler; the rest of it is of no use.

    Raises:
        DecodeError: It is no JSON object, names another sampler, or none.
    """
    try:
        named = msgspec.json.decode(body.removeprefix(_BOM), type=_Named).id
    except _UNREADABLE as exc:
        raise DecodeError(f"not readable: {exc}", "$", sampler_id, request) from None
    if named != sampler_id:
        raise DecodeError(f"asked to deactivate {sampler_id}, got {named}", "$.id", sampler_id, request)


def decode_samplers(body: bytes, request: str) -> tuple[Sampler, ...]:
    """Read `{samplers}`; one item that cannot be read fails the whole."""
    return _member(body, "samplers", tuple[Sampler, ...], request)


def decode_readable_samplers(body: bytes, request: str) -> tuple[Sampler, ...]:
    """Read `{samplers}`, leaving out the items that cannot be read."""
    listing = Listing(body, request)
    readable = []
    for index in range(len(listing.rows)):
        with suppress(DecodeError):
            readable.append(listing.sampler(index))
    return tuple(readable)


class RowStatus(msgspec.Struct, gc=False):
    """`status` of a row."""

    name: str


class Row(msgspec.Struct, gc=False):
    """What a scan reads of a sampler. A status that cannot be read has an empty name."""

    id: str
    status: RowStatus


class _FastUser(msgspec.Struct, gc=False):
    email: str | None = None


class _FastInstanceType(msgspec.Struct, gc=False):
    id: str
    name: str
    memory_limit_mib: int | None = None
    millicpu_limit: int | None = None
    gpu_count: int | None = None
    gpu_type: str | None = None
    gpu_memory_limit_mib: int | None = None


class _FastSampler(msgspec.Struct, gc=False):
    """A sampler just as the service documents it: for waits, which read thousands of them.

    What does not fit is left to the converter, which is lenient where it may be and says where it may not.
    """

    id: str
    base_url: str
    base_model: str
    created_at: datetime
    status: RowStatus
    model_id: str | None = None
    deployment_id: str | None = None
    user: _FastUser | None = None
    instance_type: _FastInstanceType | None = None
    node_count: int = 1

    def model(self) -> Sampler:
        created_at, machine = self.created_at, self.instance_type
        return Sampler(
            self.id,
            self.base_url,
            self.base_model,
            created_at.replace(tzinfo=UTC) if created_at.tzinfo is None else created_at.astimezone(UTC),
            status_of(self.status.name),
            self.model_id,
            self.deployment_id,
            self.user.email if self.user is not None else None,
            InstanceType(*msgspec.structs.astuple(machine)) if machine is not None else None,
            self.node_count,
        )


class _FastAnswer(msgspec.Struct, gc=False):
    sampler: _FastSampler


class _FastSessionId(msgspec.Struct, gc=False):
    id: str


class _FastSession(msgspec.Struct, gc=False):
    session: _FastSessionId


_read_fast_sampler = msgspec.json.Decoder(_FastSampler).decode
_read_fast_session = msgspec.json.Decoder(_FastSession).decode
_read_fast_answer = msgspec.json.Decoder(_FastAnswer).decode


class _Named(msgspec.Struct):
    id: str


class _Rows(msgspec.Struct):
    samplers: list[Row]


class _RawRows(msgspec.Struct):
    samplers: list[msgspec.Raw]


_scan_rows = msgspec.json.Decoder(_Rows).decode
_scan_raw_rows = msgspec.json.Decoder(_RawRows).decode
_scan_row = msgspec.json.Decoder(Row).decode


class Listing:
    """`{samplers}`, scanned for ids and statuses; a whole sampler is read only when it is asked for.

    Of ten thousand samplers a few change between two polls: to build models of all of them would take the event loop
    some hundred milliseconds each time, the scan takes a few.

    Raises:
        DecodeError: The document is no such list. What is wrong with a single item is told by `sampler()`.
    """

    __slots__ = ("_body", "_raw", "_request", "rows")

    def __init__(self, body: bytes, request: str) -> None:
        body = body.removeprefix(_BOM)
        self._body = body
        self._request = request
        self._raw: list[msgspec.Raw] | None = None
        self.rows: Sequence[Row | None]
        """One for each item, in order; None for an item whose id cannot be read."""
        try:
            self.rows = _scan_rows(body).samplers
        except _UNREADABLE:
            self.rows = [_lenient_row(raw) for raw in self._raw_rows()]

    def sampler(self, index: int) -> Sampler:
        """Read the item at *index*.

        Raises:
            DecodeError: It cannot be read.
        """
        raw = self._raw_rows()[index]
        try:
            return _read_fast_sampler(raw).model()
        except _UNREADABLE:
            pass
        path = f"$.samplers[{index}]"
        try:
            item = msgspec.json.decode(raw)
        except _UNREADABLE as exc:
            row = self.rows[index]
            raise DecodeError(f"not JSON: {exc}", path, row.id if row else None, self._request) from None
        from .structuring import structured

        return structured(item, Sampler, path, self._request)

    @property
    def size(self) -> int:
        """Bytes of the document."""
        return len(self._body)

    def _raw_rows(self) -> list[msgspec.Raw]:
        if self._raw is None:
            try:
                self._raw = _scan_raw_rows(self._body).samplers
            except _UNREADABLE:
                _member(self._body, "samplers", tuple[Sampler, ...], self._request)
                raise DecodeError("not readable", "$.samplers", None, self._request) from None
        return self._raw


def _lenient_row(raw: msgspec.Raw) -> Row | None:
    try:
        return _scan_row(raw)
    except _UNREADABLE:
        pass
    try:
        from .structuring import id_of

        sampler_id = id_of(msgspec.json.decode(raw))
    except _UNREADABLE:
        return None
    return Row(sampler_id, RowStatus("")) if sampler_id is not None else None


def decode_supported_models(body: bytes, request: str) -> tuple[SupportedModel, ...]:
    """Read `{supported_models}`."""
    return _member(body, "supported_models", tuple[SupportedModel, ...], request)


def decode_checkpoints(body: bytes, request: str) -> tuple[Checkpoint, ...]:
    """Read `{checkpoints}`."""
    return _member(body, "checkpoints", tuple[Checkpoint, ...], request)


_BOM = b"\xef\xbb\xbf"


def _member(body: bytes, name: str, shape: type[T], request: str) -> T:
    # Lazily, as that module says.
    from .structuring import kind_of, structured

    try:
        document = msgspec.json.decode(body.removeprefix(_BOM))
    except _UNREADABLE as exc:
        raise DecodeError(f"not JSON: {exc}", "$", _readable_id(body), request) from None
    if not isinstance(document, dict):
        raise DecodeError(f"expected an object, not {kind_of(document)}", "$", None, request)
    if name not in document:
        raise DecodeError("required field missing", f"$.{name}", None, request)
    item = document[name]
    # cattrs would read a string or an object as an array of its characters or keys.
    if not isinstance(shape, type) and not isinstance(item, list):
        raise DecodeError(f"expected an array, not {kind_of(item)}", f"$.{name}", None, request)
    return structured(item, shape, f"$.{name}", request)


# Possessive, so that no string is tried in more than one way; a quote alone opens a string that never ends.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]:,]', re.DOTALL)


def _readable_id(body: bytes) -> str | None:
    """Find `sampler.id` in a body that is not valid JSON, such as one that was cut short.

    A sampler that was made must not be lost with the rest of its description.
    """
    keys: list[bytes] = []
    pending = key = b""
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token == b'"':
            break
        if token in {b"{", b"["}:
            keys.append(key)
            key = pending = b""
        elif token in {b"}", b"]"}:
            if keys:
                keys.pop()
            key = pending = b""
        elif token == b":":
            key, pending = pending, b""
        elif token == b",":
            key = pending = b""
        elif key == b'"id"' and len(keys) == 2 and keys == [b"", b'"sampler"']:
            try:
                return msgspec.json.decode(token, type=str) or None
            except msgspec.DecodeError:
                return None
        else:
            pending = token
    return None


def spec_fields(spec: SamplerSpec) -> dict[str, object]:
    """Return what *spec* sets, by the API's names; what is None is left out."""
    return asdict(spec, filter=lambda _, value: value is not None)
