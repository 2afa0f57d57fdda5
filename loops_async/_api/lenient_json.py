"""Reads JSON as encoders really write it, with Python's own parser.

This parser accepts what strict ones refuse: `NaN` and `Infinity` (Python writes them), lone surrogates (a string that
was cut inside an emoji), integers of thousands of digits, control characters inside strings, bytes that are not UTF-8,
a byte order mark, and values nested so deeply that a parser runs out of stack. All of that may stand in a field that
this client ignores, and no call may fail because of such a field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

DEEPEST_LEVEL: Final = 64
"""Levels that are kept of a document which is nested too deeply to be parsed. The documents of the API have five."""


def parse(body: bytes) -> Any:
    """Return the document in *body*, with null in place of values that are nested too deeply.

    Raises:
        ValueError: It is not JSON.
    """
    text = text_of(body)
    try:
        return _DECODER.decode(text)
    except RecursionError:
        pass
    try:
        return _DECODER.decode(_without_depths(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def text_of(body: bytes) -> str:
    """Return *body* as text, with U+FFFD for what cannot be decoded."""
    return body.decode(json.detect_encoding(body), "replace")


def items(text: str, name: str) -> Iterator[Any]:
    """Parse the items of the array called *name* in the object that *text* is, one at a time.

    To parse ten thousand samplers at once would stop the event loop for some hundred milliseconds. An array that is
    null has no items.

    Raises:
        ValueError: There is no such array, or *text* is not JSON; it may be raised after some items.
        RecursionError: Something is nested too deeply.
    """
    cursor = _Cursor(text)
    found = False
    for _ in cursor.elements("{", "}"):
        key = cursor.value()
        cursor.take(":")
        if key == name and cursor.peek() == "[":
            found = True
            for _ in cursor.elements("[", "]"):
                yield cursor.value()
        elif cursor.value() is None and key == name:
            found = True
        elif key == name:
            raise ValueError(f"{name} is no array")
    if cursor.peek() or not found:
        raise ValueError(f"there is no array {name}, or there is more than one document")


def find_id(body: bytes) -> str | None:
    """Return `sampler.id` of a body that is not valid JSON, such as one that was cut; None if it does not show it.

    A sampler that was created must not be lost with the rest of its description.
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
        elif key == b'"id"' and keys == [b"", b'"sampler"']:
            try:
                return usable_id(parse(token))
            except ValueError:
                return None
        else:
            pending = token
    return None


def usable_id(value: object) -> str | None:
    """Return *value* if it can be an id that a request names, else None."""
    return value if isinstance(value, str) and value and value.isprintable() else None


# Possessive, so that no string is tried in more than one way; a quote alone opens a string that never ends.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]:,]', re.DOTALL)
_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        # Python refuses to convert thousands of digits to an integer.
        return float(digits)


_DECODER: Final = json.JSONDecoder(strict=False, parse_int=_integer)


def _without_depths(text: str) -> str:
    """Return *text* with null in place of values that are nested too deeply."""
    parts: list[str] = []
    level = kept_from = 0
    for match in _BRACKET.finditer(text):
        if match[0] == '"':
            break
        if match[0] in {"{", "["}:
            level += 1
            if level == DEEPEST_LEVEL + 1:
                parts += text[kept_from : match.start()], "null"
        elif match[0] in {"}", "]"}:
            level -= 1
            if level == DEEPEST_LEVEL:
                kept_from = match.end()
    return "".join((*parts, text[kept_from:] if level <= DEEPEST_LEVEL else ""))


class _Cursor:
    """A position in a text that is parsed piece by piece."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def peek(self) -> str:
        """Skip white space; return the next character, which is empty at the end of the text."""
        if match := _SPACE.match(self._text, self._at):
            self._at = match.end()
        return self._text[self._at : self._at + 1]

    def take(self, token: str) -> None:
        """Go past *token*, which must be the next character."""
        if self.peek() != token:
            raise ValueError(f"expected {token} at character {self._at}")
        self._at += 1

    def value(self) -> Any:
        """Go past the next value, and return it."""
        self.peek()
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return value

    def elements(self, start: str, end: str) -> Iterator[None]:
        """Go past an array or object; at each step the caller reads one element, without its comma."""
        self.take(start)
        if self.peek() != end:
            yield
            while self.peek() == ",":
                self.take(",")
                yield
        self.take(end)
