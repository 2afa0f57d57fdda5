"""Text from outside, made fit for messages: one line, of characters that can be printed and encoded."""

from __future__ import annotations

import unicodedata


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
