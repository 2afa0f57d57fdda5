"""Faults as text: JSON for the administration, and one line for the command line."""

import json
import shlex
from collections.abc import Collection, Mapping
from typing import Any, get_type_hints

from attrs import fields

from ._faults import METHODS, Fault, no_route

_NUMBERS = frozenset({"rate", "delay", "delay_after", "list_lag", "clock_skew"})
_COUNTS = frozenset({"times", "partial", "status", "status_after"})
_TEXTS = frozenset({"method", "route", "cut", "retry_after", "body"})


def _fault(document: object, routes: Collection[str] = ()) -> Fault:
    """Turn a JSON object with the names of `Fault` into one; *body* is text there.

    Raises:
        ValueError: it is no such object, or names a route that is none of *routes*.
    """
    if not isinstance(document, dict):
        raise ValueError("a fault must be an object")
    settings = {str(name): _setting(str(name), value) for name, value in document.items()}
    if routes and settings.get("route") not in {None, *routes}:
        raise ValueError(no_route(settings["route"], routes))
    return Fault(**settings)


def parse_faults(text: bytes | str, routes: Collection[str] = ()) -> list[Fault]:
    """Read a fault, or a script of them as an array, from JSON.

    Raises:
        ValueError: it is neither.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("a fault must be valid JSON") from None
    return [_fault(each, routes) for each in (document if isinstance(document, list) else [document])]


def parse_fault(line: str, routes: Collection[str] = ()) -> Fault:
    """Read a fault such as `POST /v1/loops/samplers status=503 rate=0.1`, which is on for ever unless *times* says.

    Method and route may be left out, or `*`, for all.

    Raises:
        ValueError: it makes no sense.
    """
    document: dict[str, Any] = {"times": None}
    for word in shlex.split(line):
        name, is_setting, value = word.partition("=")
        if word.startswith("/"):
            document["route"] = word
        elif is_setting:
            document[name] = _parsed(name, value)
        elif word.upper() in METHODS or word == "*":
            if word != "*":
                document["method"] = word.upper()
        else:
            raise ValueError(f"{word!r} is neither a method, nor a route, nor a setting such as status=503")
    return _fault(document, routes)


def fault_document(fault: Fault) -> dict[str, Any]:
    """Write what a fault says beside the defaults, so that `parse_faults()` reads it again."""
    document: dict[str, Any] = {}
    for attribute in fields(Fault):
        value = getattr(fault, attribute.name)
        if attribute.name == "headers":
            if value:
                document["headers"] = dict(value)
        elif value != attribute.default:
            document[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return document


def _setting(name: str, value: Any) -> Any:
    if name in _TEXTS:
        wanted: tuple[type, ...] = (str,)
    elif name in _COUNTS:
        wanted = (int,)
    elif name in _NUMBERS:
        wanted = (int, float)
    elif name == "headers":
        return _headers(value)
    else:
        raise ValueError(f"{name!r} is no setting of a fault")
    if value is None and type(None) in getattr(get_type_hints(Fault)[name], "__args__", ()):
        return None
    if name in _COUNTS and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{name} cannot be {value!r}")
    return str(value).encode() if name == "body" else value


def _headers(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("headers must be an object of strings")
    return value


def _parsed(name: str, value: str) -> Any:
    try:
        if name in _COUNTS:
            return int(value)
        if name in _NUMBERS:
            return float(value)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {value!r}") from None
    return value
