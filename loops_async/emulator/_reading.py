"""Reads JSON into the types of the shapes, and describes what does not fit."""

import json
import re
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_PLACE = re.compile(r"(?P<problem>.*) - at `\$\.?(?P<field>[^`.\[]*)[^`]*`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_LIMIT = re.compile(r"Expected `(?P<kind>int|float)` (?P<sign>>=|<=|>|<) (?P<limit>\S+)")
_LENGTH = re.compile(r"Expected `(?P<kind>str|array)` of length (?P<sign>>=|<=) (?P<limit>\S+)")
_KIND = re.compile(r"Expected `(?P<kinds>[^`]*)`, got `(?P<kind>[^`]*)`")

_NAMES = {"int": "integer", "str": "string", "float": "number", "bool": "boolean"}
_SIGNS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Misfit(Exception):
    """A document that does not have its shape; *field* is the field at fault."""

    def __init__(self, field: str, problem: str, *, unknown: bool = False) -> None:
        super().__init__(field, problem, unknown)
        self.field = field
        self.problem = problem
        self.unknown = unknown

    def of(self, what: str) -> str:
        """Describe the problem as one with a setting of *what*."""
        if self.unknown:
            return f"{self.field!r} is no setting of {what}"
        return f"{self.field or 'it'} of {what}: {self.problem}"

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem


def _number(text: str) -> float | int:
    """Read a number that has a point or an exponent; in JSON Schema, `1.0` is an integer."""
    value = float(text)
    return int(value) if value.is_integer() else value


def parsed(text: bytes | str, *, integral: bool = True) -> Any:
    """Parse JSON; with *integral*, `1.0` becomes an integer.

    Raises:
        ValueError: it is not valid JSON.
    """
    try:
        return json.loads(text, parse_float=_number if integral else None)
    except RecursionError:
        raise ValueError("the document is too deep") from None


def read(document: object, kind: type[T], *, strict: bool = True) -> T:
    """Convert a parsed document to a type; without *strict*, text may stand for numbers.

    Raises:
        Misfit: the document does not fit the type.
    """
    try:
        found = msgspec.convert(document, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    for name in _texts(kind):
        value = getattr(found, name)
        # JSON can hold a lone surrogate, which cannot be encoded to be sent or hashed.
        if isinstance(value, str) and _SURROGATE.search(value):
            raise Misfit(name, "must be valid Unicode.")
    return found


@lru_cache
def _texts(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(kind.__struct_fields__)


def _misfit(words: str) -> Misfit:
    place = _PLACE.fullmatch(words)
    field, problem = ("", words) if place is None else (place["field"], place["problem"])
    if (missing := _MISSING.fullmatch(problem)) is not None:
        return Misfit(field or missing["field"], "field required.")
    if (unknown := _UNKNOWN.fullmatch(problem)) is not None:
        return Misfit(unknown["field"], "is not known.", unknown=True)
    return Misfit(field, _plain(problem))


def _plain(problem: str) -> str:
    """Rewrite a message of msgspec with the names of JSON types in place of Python's."""
    if (limit := _LIMIT.fullmatch(problem)) is not None:
        number = "an integer" if limit["kind"] == "int" else "a number"
        return f"must be {number} of {_SIGNS[limit['sign']]} {limit['limit']}."
    if (length := _LENGTH.fullmatch(problem)) is not None:
        things = "characters" if length["kind"] == "str" else "items"
        return f"must have {_SIGNS[length['sign']]} {length['limit']} {things}."
    if (kind := _KIND.fullmatch(problem)) is not None:
        wanted = " or ".join(_NAMES.get(each, each) for each in kind["kinds"].split(" | "))
        return f"must be {wanted}, not {_NAMES.get(kind['kind'], kind['kind'])}."
    return f"{problem[:1].lower()}{problem[1:]}."
