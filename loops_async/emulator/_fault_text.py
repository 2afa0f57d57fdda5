"""Faults as text: JSON for `/_emulator/faults`, and one line for the command line."""

import shlex
from collections.abc import Collection
from typing import Any

import msgspec
from attrs import fields

from . import _admin_shapes as shapes
from ._faults import METHODS, Fault, no_route
from ._reading import Misfit, parsed, read


def _fault(document: object, routes: Collection[str] = (), *, strict: bool = True) -> Fault:
    """Turn a JSON object with the settings of `Fault` into a `Fault`; its *body* is text there.

    Without *strict*, numbers may be text too.

    Raises:
        ValueError: it is no such object, or names a route that is none of *routes*.
    """
    if not isinstance(document, dict):
        raise ValueError("a fault must be an object")
    try:
        fault = read(document, shapes.Fault, strict=strict)
    except Misfit as misfit:
        raise ValueError(misfit.of("a fault")) from None
    if routes and fault.route not in {None, *routes}:
        raise ValueError(no_route(fault.route, routes))
    settings = msgspec.structs.asdict(fault)
    return Fault(**settings | {"body": None if fault.body is None else fault.body.encode()})


def parse_faults(text: bytes | str, routes: Collection[str] = ()) -> list[Fault]:
    """Read a fault from JSON, or an array of faults: a script.

    Raises:
        ValueError: it is neither.
    """
    try:
        document = parsed(text)
    except ValueError:
        raise ValueError("a fault must be valid JSON") from None
    return [_fault(each, routes) for each in (document if isinstance(document, list) else [document])]


def parse_fault(line: str, routes: Collection[str] = ()) -> Fault:
    """Read a fault such as `POST /v1/loops/samplers status=503 rate=0.1`; without *times*, it stays on.

    Without a method, or with `*`, it is for all methods; without a route, for all routes.

    Raises:
        ValueError: the line cannot be read, or its settings are not valid.
    """
    document: dict[str, Any] = {"times": None}
    for word in shlex.split(line):
        name, is_setting, value = word.partition("=")
        if word.startswith("/"):
            document["route"] = word
        elif is_setting:
            document[name] = value
        elif word.upper() in METHODS or word == "*":
            if word != "*":
                document["method"] = word.upper()
        else:
            raise ValueError(f"{word!r} is neither a method, nor a route, nor a setting such as status=503")
    return _fault(document, routes, strict=False)


def fault_document(fault: Fault) -> dict[str, Any]:
    """Write the settings of a fault that are not the defaults, in a form that `parse_faults()` reads."""
    document: dict[str, Any] = {}
    for attribute in fields(Fault):
        value = getattr(fault, attribute.name)
        if attribute.name == "headers":
            if value:
                document["headers"] = dict(value)
        elif value != attribute.default:
            document[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return document
