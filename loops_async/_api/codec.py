"""JSON to models and back; the only module with untyped data.

A body becomes a model in one of two ways:

- The plain way is msgspec's. It reads samplers just as the service documents them, and nothing else; waits read
  thousands of them.
- The lenient way reads everything: `lenient_json` parses what strict parsers refuse, and cattrs makes the model.
  Unknown members are ignored, whatever their values are. An optional field counts as left out if it is null, and a
  detail also if it cannot be read. A required field that is missing or has the wrong type is a `DecodeError`, which
  names its place.

Both are derived from the fields in `models.py`, and give the same model where both give one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, cast, get_origin

import attrs
import cattrs
import msgspec
from cattrs.errors import ClassValidationError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from ..errors import DecodeError
from ..models import (
    API_PATH,
    DETAIL,
    NULL,
    Checkpoint,
    EnablementDetails,
    InstanceType,
    LoRAConfig,
    Sampler,
    SamplerSpec,
    Session,
    StatusName,
    SupportedModel,
    status_of,
    to_dict,
)
from . import lenient_json
from .timestamps import parse_timestamp

T = TypeVar("T")

NOT_PLAIN: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""Exceptions of the plain way after which the lenient way is tried."""


# The calls


def encode(document: Mapping[str, object]) -> bytes:
    """Write *document* as JSON."""
    return msgspec.json.encode(document)


def spec_fields(spec: SamplerSpec) -> dict[str, object]:
    """Return the fields of *spec* that are not None, by the API's names."""
    return to_dict(spec)


def decode_session(body: bytes, request: str) -> Session:
    """Read `{session}`."""
    return decode_member(body, "session", Session, request)


def decode_sampler(body: bytes, request: str, sampler_id: str | None = None) -> Sampler:
    """Read `{sampler}`. If that fails, the error has the sampler's id, if the body shows it.

    With a *sampler_id*, a document that describes another sampler is an error.
    """
    try:
        sampler = _plain_model(_read_plain_answer(body).sampler)
    except NOT_PLAIN:
        sampler = decode_member(body, "sampler", Sampler, request)
    if sampler_id is not None and sampler.id != sampler_id:
        raise DecodeError(f"asked for sampler {sampler_id}, got {sampler.id}", "$.sampler", sampler_id, request)
    return sampler


def decode_listed_sampler(item: msgspec.Raw | object, index: int, request: str) -> Sampler:
    """Read the item at *index* of `{samplers}`: its bytes, or the document that was parsed from them."""
    if isinstance(item, msgspec.Raw):
        try:
            return _plain_model(_read_plain_sampler(item))
        except NOT_PLAIN:
            pass
        try:
            item = lenient_json.parse(bytes(item))
        except ValueError as exc:
            raise DecodeError(f"not JSON: {exc}", f"$.samplers[{index}]", None, request) from None
    return structure(item, Sampler, f"$.samplers[{index}]", request)


def decode_supported_models(body: bytes, request: str) -> tuple[SupportedModel, ...]:
    """Read `{supported_models}`."""
    models = decode_array(body, "supported_models", request)
    return structure(models, tuple[SupportedModel, ...], "$.supported_models", request)


def decode_checkpoints(body: bytes, request: str) -> tuple[Checkpoint, ...]:
    """Read `{checkpoints}`."""
    checkpoints = decode_array(body, "checkpoints", request)
    return structure(checkpoints, tuple[Checkpoint, ...], "$.checkpoints", request)


def is_object(body: bytes) -> bool:
    """Return True if *body* is a JSON object."""
    try:
        return isinstance(lenient_json.parse(body), dict)
    except ValueError:
        return False


def check_deactivated(body: bytes, request: str, sampler_id: str) -> None:
    """Check that the response to a deactivation names the sampler; the rest of it is ignored.

    Raises:
        DecodeError: It is no JSON object, names another sampler, or none.
    """
    try:
        document = lenient_json.parse(body)
    except ValueError as exc:
        raise DecodeError(f"not JSON: {exc}", "$", sampler_id, request) from None
    if not isinstance(document, dict):
        raise DecodeError(f"expected an object, not {_kind_of(document)}", "$", sampler_id, request)
    if (named := document.get("id")) != sampler_id:
        raise DecodeError(f"asked to deactivate {sampler_id}, got {named!r}", "$.id", sampler_id, request)


# The lenient way


def decode_member(body: bytes, name: str, shape: type[T], request: str) -> T:
    """Return the model that the member *name* of the object in *body* describes.

    Raises:
        DecodeError: There is none.
    """
    return structure(_member(body, name, request), shape, f"$.{name}", request)


def decode_array(body: bytes, name: str, request: str) -> list[Any]:
    """Return the items, not yet models, of the array that is the member *name* of the object in *body*.

    Raises:
        DecodeError: There is none.
    """
    items = _member(body, name, request)
    if items is None:
        return []
    if not isinstance(items, list):
        raise DecodeError(f"expected an array, not {_kind_of(items)}", f"$.{name}", None, request)
    return items


def _member(body: bytes, name: str, request: str) -> Any:
    try:
        document = lenient_json.parse(body)
    except ValueError as exc:
        raise DecodeError(f"not JSON: {exc}", "$", lenient_json.find_id(body), request) from None
    if not isinstance(document, dict):
        raise DecodeError(f"expected an object, not {_kind_of(document)}", "$", None, request)
    if name not in document:
        raise DecodeError("required field missing", f"$.{name}", None, request)
    return document[name]


def structure(item: object, shape: type[T], path: str, request: str) -> T:
    """Return the model of *shape* that *item* describes.

    Raises:
        DecodeError: It describes none; the error's path goes on from *path*.
    """
    try:
        return _converter().structure(item, shape)
    except Exception as exc:  # noqa: BLE001 -- cattrs raises whatever the values raise
        reason, path, indexes = _first_fault(exc, path, ())
        if indexes and isinstance(item, list):
            item = item[indexes[0]]
        raise DecodeError(reason, path, id_of(item), request) from None


def id_of(item: object) -> str | None:
    """Return the id in *item*, None if it has none."""
    return lenient_json.usable_id(item.get("id")) if isinstance(item, dict) else None


class _Fault(ValueError):
    """A value that cannot be read; *place* is its path below the field."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


def _first_fault(exc: BaseException, path: str, indexes: tuple[int, ...]) -> tuple[str, str, tuple[int, ...]]:
    """Return the reason, the path and the list indexes of the first single error in cattrs's groups."""
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
    if isinstance(exc, _Fault):
        path += exc.place
    return str(exc) or type(exc).__name__, path, indexes


def _kind_of(value: object) -> str:
    """Return the JSON type of *value* with its article."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


@cache
def _converter() -> cattrs.Converter:
    # Only detailed validation gives the paths. The type is Any, since mypy does not understand cattrs's factories.
    converter: Any = cattrs.Converter(detailed_validation=True)
    # cattrs converts by default: it would read the number 5 as the string "5".
    converter.register_structure_hook(str, _string)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(datetime, _timestamp)
    converter.register_structure_hook(StatusName, lambda value, kind: status_of(_string(value, kind)))
    # cattrs would read a string or an object as an array of its characters or keys.
    converter.register_structure_hook_factory(_is_tuple, _array_hook)
    # A model comes after the models that it contains.
    for model in (Session, InstanceType, Sampler, EnablementDetails, SupportedModel, LoRAConfig, Checkpoint):
        converter.register_structure_hook(model, _model_hook(model, converter))
    return cast("cattrs.Converter", converter)


def _model_hook(model: type[Any], converter: cattrs.Converter) -> Callable[[object, object], Any]:
    overrides: dict[str, Any] = {
        attribute.name: override(rename=_path_of(attribute)[0], struct_hook=_field_hook(attribute, model, converter))
        for attribute in _fields(model)
    }
    from_object = make_dict_structure_fn(model, converter, **overrides)

    def hook(value: object, kind: object) -> Any:
        if not isinstance(value, dict):
            raise _Fault(f"expected an object, not {_kind_of(value)}")
        # Older services send the longest sequence only as max_context_length.
        if model is SupportedModel and "max_seq_len" not in value and "max_context_length" in value:
            value = {**value, "max_seq_len": value["max_context_length"]}
        return from_object(value, kind)

    return hook


def _fields(model: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    attrs.resolve_types(model)
    return cast("tuple[attrs.Attribute[Any], ...]", attrs.fields(model))


def _path_of(attribute: attrs.Attribute[Any]) -> tuple[str, ...]:
    return cast("tuple[str, ...]", attribute.metadata.get(API_PATH, (attribute.name,)))


def _field_hook(
    attribute: attrs.Attribute[Any], model: type[Any], converter: cattrs.Converter
) -> Callable[[object, object], Any]:
    read = converter.get_structure_hook(attribute.type)
    inner_names = _path_of(attribute)[1:]
    left_out = attribute.metadata.get(NULL, attribute.default)

    def hook(value: Any, _: object) -> Any:
        if value is None and left_out is not attrs.NOTHING:
            return left_out
        for name in inner_names:
            if not isinstance(value, dict):
                raise _Fault(f"expected an object, not {_kind_of(value)}")
            if name not in value:
                raise _Fault("required field missing", f".{name}")
            value = value[name]
        try:
            return read(value, attribute.type)
        except _Fault as exc:
            raise _Fault(str(exc), "".join(f".{name}" for name in inner_names) + exc.place) from None

    def lenient_hook(value: Any, kind: object) -> Any:
        try:
            return hook(value, kind)
        except Exception:  # noqa: BLE001 -- cattrs raises whatever the values raise
            return left_out

    def id_hook(value: Any, _: object) -> str:
        text = _string(value, str)
        if lenient_json.usable_id(value) is None:
            raise _Fault(f"expected an id, not {text!r}")
        return text

    if attribute.name == "id" and model in {Session, Sampler}:
        return id_hook
    return lenient_hook if attribute.metadata.get(DETAIL) else hook


def _is_tuple(shape: Any) -> bool:
    return get_origin(shape) is tuple


def _array_hook(shape: Any, converter: cattrs.Converter) -> Callable[[object, object], Any]:
    list_shape = list[shape.__args__[0]]
    read = converter.get_structure_hook(list_shape)

    def hook(value: object, _: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Fault(f"expected an array, not {_kind_of(value)}")
        return tuple(read(value, list_shape))

    return hook


def _string(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _Fault(f"expected a string, not {_kind_of(value)}")
    return printable(value)


def printable(text: str) -> str:
    """Return *text* with U+FFFD for lone surrogates, which cannot be printed, logged or sent."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _integer(value: object, _: object) -> int:
    # JSON knows one kind of number: 1.0 is an integer.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Fault(f"expected an integer, not {_kind_of(value)}")
    return value


def _boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise _Fault(f"expected a boolean, not {_kind_of(value)}")
    return value


def _timestamp(value: object, _: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _Fault(f"expected a date and time, not {_kind_of(value)}")
    try:
        return parse_timestamp(value)
    except ValueError as exc:
        raise _Fault(str(exc)) from None


# The plain way


_Conversion: TypeAlias = Callable[[Any], Any]


def _plain_struct() -> tuple[type[msgspec.Struct], tuple[tuple[int, _Conversion], ...]]:
    """Return the type that msgspec reads a sampler into, and the conversions of its values by position."""
    read_as: dict[Any, tuple[Any, _Conversion | None]] = {
        datetime: (str, parse_timestamp),
        StatusName: (str, status_of),
        InstanceType | None: (msgspec.Raw, _plain_instance_type),
    }
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    conversions: list[tuple[int, _Conversion]] = []
    for position, attribute in enumerate(_fields(Sampler)):
        name, *inner = _path_of(attribute)
        default = () if attribute.default is attrs.NOTHING else (attribute.default,)
        kind, convert = read_as.get(attribute.type, (attribute.type, None))
        if inner:
            kind = msgspec.defstruct(name.title(), [(inner[0], kind, *default)], gc=False)
            convert = _then(attrgetter(inner[0]), convert)
        if NULL in attribute.metadata or (inner and default):
            kind |= None
            convert = _unless_null(attribute.metadata.get(NULL, attribute.default), convert)
        members.append((name, kind, *default))
        if convert is not None:
            conversions.append((position, convert))
    return msgspec.defstruct("PlainSampler", members, gc=False), tuple(conversions)


_read_instance_type: Callable[[bytes], InstanceType | None] = msgspec.json.Decoder(InstanceType | None).decode


@lru_cache(maxsize=256)
def _instance_type(document: bytes) -> InstanceType | None:
    return _read_instance_type(document)


def _plain_instance_type(document: msgspec.Raw | None) -> InstanceType | None:
    # Thousands of samplers run on a few types of machines.
    return None if document is None else _instance_type(bytes(document))


def _then(first: _Conversion, second: _Conversion | None) -> _Conversion:
    return first if second is None else lambda value: second(first(value))


def _unless_null(left_out: object, convert: _Conversion | None) -> _Conversion:
    if convert is None:
        return lambda value: left_out if value is None else value
    return lambda value: left_out if value is None else convert(value)


_PlainSampler, _CONVERSIONS = _plain_struct()
_values_of = msgspec.structs.astuple
_read_plain_sampler = msgspec.json.Decoder(_PlainSampler).decode
_read_plain_answer: Callable[[bytes], Any] = msgspec.json.Decoder(
    msgspec.defstruct("PlainAnswer", [("sampler", _PlainSampler)], gc=False)
).decode


def _plain_model(struct: Any) -> Sampler:
    values = [*_values_of(struct)]
    for position, convert in _CONVERSIONS:
        values[position] = convert(values[position])
    sampler = Sampler(*values)
    if not sampler.id or not sampler.id.isprintable():
        raise ValueError("no id")
    return sampler
