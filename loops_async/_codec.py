"""JSON to models and back: the only place where untyped data lives.

Lenient in: unknown fields are ignored, fields that older or newer services leave out have defaults, naive timestamps
are UTC. What is there and has the wrong type is a `DecodeError` that says where.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import cattrs
import msgspec
from attrs import asdict, frozen
from cattrs.errors import ClassValidationError, IterableValidationError

from .errors import DecodeError
from .models import Checkpoint, DeploymentStatus, InstanceType, Sampler, SamplerSpec, Session, SupportedModel

T = TypeVar("T")

# Nesting without end, and dates before the first year of UTC, are malformed, too.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)


def encode(document: Mapping[str, object]) -> bytes:
    """Write *document* as JSON."""
    return msgspec.json.encode(document)


def decode_session(body: bytes, request: str) -> Session:
    """Read `{session}`."""
    return _member(body, "session", Session, request)


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


def decode_samplers(body: bytes, request: str) -> tuple[Sampler, ...]:
    """Read `{samplers}`; one item that cannot be read fails the whole."""
    return _member(body, "samplers", tuple[Sampler, ...], request)


def decode_readable_samplers(body: bytes, request: str) -> tuple[Sampler, ...]:
    """Read `{samplers}`, leaving out the items that cannot be read."""
    readable = []
    for item in _member(body, "samplers", list[Any], request):
        try:
            readable.append(_converter.structure(item, Sampler))
        except Exception:  # noqa: S112, BLE001 -- cattrs raises whatever the item's values raise
            continue
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


_read_fast_sampler = msgspec.json.Decoder(_FastSampler).decode
_read_fast_answer = msgspec.json.Decoder(_FastAnswer).decode


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
        return _structured(item, Sampler, path, self._request)

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
        sampler_id = _id_of(msgspec.json.decode(raw))
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
    try:
        document = msgspec.json.decode(body.removeprefix(_BOM))
    except _UNREADABLE as exc:
        raise DecodeError(f"not JSON: {exc}", "$", _readable_id(body), request) from None
    if not isinstance(document, dict):
        raise DecodeError(f"expected an object, not {_kind(document)}", "$", None, request)
    if name not in document:
        raise DecodeError("required field missing", f"$.{name}", None, request)
    item = document[name]
    # cattrs would read a string or an object as an array of its characters or keys.
    if not isinstance(shape, type) and not isinstance(item, list):
        raise DecodeError(f"expected an array, not {_kind(item)}", f"$.{name}", None, request)
    return _structured(item, shape, f"$.{name}", request)


def _structured(item: Any, shape: type[T], path: str, request: str) -> T:
    try:
        return _converter.structure(item, shape)
    except Exception as exc:  # noqa: BLE001 -- cattrs raises whatever the values raise
        reason, path, indexes = _first_fault(exc, path, ())
        if indexes and isinstance(item, list):
            item = item[indexes[0]]
        raise DecodeError(reason, path, _id_of(item), request) from None


def _id_of(item: object) -> str | None:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and found else None


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
                return _id_of({"id": msgspec.json.decode(token)})
            except msgspec.DecodeError:
                return None
        else:
            pending = token
    return None


def _first_fault(exc: BaseException, path: str, indexes: tuple[int, ...]) -> tuple[str, str, tuple[int, ...]]:
    """Walk down cattrs's groups of errors to the first single one; collect the way there."""
    if isinstance(exc, IterableValidationError):
        for inner, item in exc.group_exceptions()[0]:
            return _first_fault(inner, f"{path}[{item.index}]", (*indexes, cast("int", item.index)))
    if isinstance(exc, ClassValidationError):
        for inner, attribute in exc.group_exceptions()[0]:
            if isinstance(inner, KeyError):
                return "required field missing", f"{path}.{attribute.name}", indexes
            return _first_fault(inner, f"{path}.{attribute.name}", indexes)
        for inner in exc.exceptions:
            return _first_fault(inner, path, indexes)
    return str(exc) or type(exc).__name__, path, indexes


def _kind(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


@frozen
class _Status:
    name: str


@frozen
class _User:
    email: str | None = None


@frozen
class _WireSampler:
    """A sampler as it goes over the wire; only what the first published page required is required here.

    What came later and tells of the machine and the owner is read where it can be: no launch fails for a detail.
    """

    id: str
    base_url: str | None
    base_model: str
    created_at: datetime
    status: _Status
    model_id: str | None = None
    deployment_id: str | None = None
    user: Any = None
    instance_type: Any = None
    node_count: Any = None


def _build_converter() -> cattrs.Converter:
    # Not forbidding extra keys is the leniency; detailed validation is what gives the paths.
    converter = cattrs.Converter(detailed_validation=True)

    def strict(kind: type[T], name: str) -> Callable[[object, object], T]:
        def hook(value: object, _: object) -> T:
            if kind is int and isinstance(value, float) and value.is_integer():
                return kind(value)  # type: ignore[call-arg]  # JSON knows one kind of number: 1.0 is an integer
            if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
                return value
            raise ValueError(f"expected {name}, not {_kind(value)}")

        return hook

    # cattrs converts by default: it would read the number 5 as the string "5".
    converter.register_structure_hook(str, strict(str, "a string"))
    converter.register_structure_hook(int, strict(int, "an integer"))
    converter.register_structure_hook(bool, strict(bool, "a boolean"))
    converter.register_structure_hook(datetime, _structure_datetime)

    strictly = converter.get_structure_hook

    def objects_only(shape: type[T]) -> None:
        inner = strictly(shape)

        def hook(value: object, kind: object) -> T:
            if not isinstance(value, dict):
                raise ValueError(f"expected an object, not {_kind(value)}")
            return cast("T", inner(value, kind))

        converter.register_structure_hook(shape, hook)

    for shape in (_Status, _User, InstanceType, _WireSampler, Checkpoint, SupportedModel, Session):
        objects_only(shape)

    from_wire = converter.get_structure_hook(_WireSampler)

    def readable(value: object, shape: type[T]) -> T | None:
        if value is None:
            return None
        try:
            return converter.structure(value, shape)
        except Exception:  # noqa: BLE001 -- cattrs raises whatever the values raise
            return None

    def structure_sampler(value: object, _: object) -> Sampler:
        wire: _WireSampler = from_wire(value, _WireSampler)
        if not wire.id:
            raise ValueError("expected an id, not an empty string")
        return Sampler(
            id=wire.id,
            base_url=wire.base_url or "",
            base_model=wire.base_model,
            created_at=wire.created_at,
            status=status_of(wire.status.name),
            model_id=wire.model_id,
            deployment_id=wire.deployment_id,
            user_email=user.email if (user := readable(wire.user, _User)) is not None else None,
            instance_type=readable(wire.instance_type, InstanceType),
            node_count=nodes if (nodes := readable(wire.node_count, int)) is not None else 1,
        )

    converter.register_structure_hook(Sampler, structure_sampler)

    from_json = converter.get_structure_hook(SupportedModel)

    def structure_model(value: object, _: object) -> SupportedModel:
        # Older services know the longest sequence as max_context_length only.
        if isinstance(value, dict) and "max_seq_len" not in value and "max_context_length" in value:
            value = {**value, "max_seq_len": value["max_context_length"]}
        return cast("SupportedModel", from_json(value, SupportedModel))

    converter.register_structure_hook(SupportedModel, structure_model)
    return converter


def _structure_datetime(value: object, _: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"expected a date and time, not {_kind(value)}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("expected a date and time in ISO 8601") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def status_of(name: str) -> DeploymentStatus | str:
    """Return the member of `DeploymentStatus` called *name*, or *name* itself if the API added it later."""
    return _STATUSES.get(name, name)


_STATUSES: Mapping[str, DeploymentStatus] = {status.value: status for status in DeploymentStatus}
_converter = _build_converter()


def spec_fields(spec: SamplerSpec) -> dict[str, object]:
    """Return what *spec* sets, by the API's names; what is None is left out."""
    return asdict(spec, filter=lambda _, value: value is not None)
