"""Documents to models by cattrs: what is lenient where it may be, and says where it may not.

It is imported when it is first needed. Samplers and sessions just as the service documents them are read without it,
and its import takes a tenth of the package's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, cast

import cattrs
from attrs import frozen
from cattrs.errors import ClassValidationError, IterableValidationError

from ..errors import DecodeError
from ..models import Checkpoint, InstanceType, Sampler, Session, SupportedModel, status_of

T = TypeVar("T")


def structured(item: Any, shape: type[T], path: str, request: str) -> T:
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
    """Return the id in *item*, if there is one."""
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and found else None


def kind_of(value: object) -> str:
    """Say what *value* is in the words of JSON."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


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


@cache
def _converter() -> cattrs.Converter:
    # Not forbidding extra keys is the leniency; detailed validation is what gives the paths.
    converter = cattrs.Converter(detailed_validation=True)

    def strict(kind: type[T], name: str) -> Callable[[object, object], T]:
        def hook(value: object, _: object) -> T:
            if kind is int and isinstance(value, float) and value.is_integer():
                return kind(value)  # type: ignore[call-arg]  # JSON knows one kind of number: 1.0 is an integer
            if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
                return value
            raise ValueError(f"expected {name}, not {kind_of(value)}")

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
                raise ValueError(f"expected an object, not {kind_of(value)}")
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
        raise ValueError(f"expected a date and time, not {kind_of(value)}")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("expected a date and time in ISO 8601") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
