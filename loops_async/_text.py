"""Text for messages: one line, of characters that can be printed and encoded."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

IDS_SHOWN: Final = 10
"""The most ids that a message names; it counts the rest."""

_ID_LIMIT_CHARACTERS: Final = 100


def one_line(text: str, limit: int | None = None) -> str:
    """Return *text* as one line of printable characters, at most *limit* of them.

    Line breaks and control characters become spaces, of which no two follow each other. Invisible characters, such as
    a byte order mark or a change of the writing direction, are left out. What cannot be encoded becomes U+FFFD.
    """
    if limit is not None:
        # Enough for the limit, whatever falls away; more would only take time.
        is_cut = len(text) > 8 * limit
        text = text[: 8 * limit]
    else:
        is_cut = False
    if not text.isprintable():
        text = "".join(map(_printable, without_surrogates(text)))
    text = " ".join(text.split())
    if limit is not None and (is_cut or len(text) > limit):
        return text[: limit - 3].rstrip() + "..."
    return text


def some_ids(ids: Sequence[str], attribute: str = "") -> str:
    """Return the first of *ids*, and how many more there are; *attribute* is where they can be found."""
    named = ", ".join(one_line(each, _ID_LIMIT_CHARACTERS) for each in ids[:IDS_SHOWN])
    return named + and_more(len(ids) - IDS_SHOWN, attribute)


def and_more(number: int, attribute: str = "") -> str:
    """Return the end of a list that leaves out *number* items of *attribute*; empty if it leaves out none."""
    if number <= 0:
        return ""
    return f", and {number:,} more" + (f" (all of them are in `{attribute}`)" if attribute else "")


def without_surrogates(text: str) -> str:
    """Return *text* with its lone surrogates replaced by U+FFFD, so that it can be encoded.

    Header bytes that are not UTF-8 come as lone surrogates, and JSON can hold them as escapes.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return " " if category[0] == "Z" or category == "Cc" else "\ufffd"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
