"""The output of commands: messages for people on stderr, data on stdout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from loops_async import CreateOutcomeUnknown

MOST_ERRORS: Final = 5
"""The most errors that are written one by one; the others are counted."""


def clean(text: str) -> str:
    """Replace control characters, which a terminal would execute; names come from outside."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def escaped(text: str, encoding: str) -> str:
    """Replace the characters of *text* that *encoding* lacks by escapes, as the standard streams do."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write_out(text: str) -> None:
    """Write data to stdout.

    Raises:
        OSError: The pipe is closed, or the disk is full.
    """
    # If click chose the stream, it would write UTF-8 even where the encoding is ASCII.
    click.echo(text, file=sys.stdout, nl=False)


def say(text: str) -> None:
    """Write a line to stderr. A terminal that was closed must not prevent the deactivation of samplers."""
    with suppress(OSError):
        click.echo("\n".join(map(clean, text.split("\n"))), file=sys.stderr)


def describe(exc: BaseException | str) -> str:
    """Return the message of an error, without the number that Python puts before a system error."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror if exc.filename is None else f"{exc.filename}: {exc.strerror}"
    return str(exc)


def error(text: str) -> None:
    """Write an error to stderr, in one line."""
    say(f"Error: {' '.join(text.split())}")


def errors(found: Iterable[BaseException | str]) -> None:
    """Write errors to stderr, in a few lines."""
    texts = [describe(each) for each in found]
    for text in texts[:MOST_ERRORS]:
        error(text)
    if len(texts) > MOST_ERRORS:
        say(f"Error: and {len(texts) - MOST_ERRORS} more")


def counted(number: int, noun: str = "sampler") -> str:
    """Return a number with its noun, with an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def command_line(*words: str) -> str:
    """Return a call of this program as a user would type it."""
    return shlex.join(["loops-async", *words])


def ids(samplers: Sequence[str], most: int = 20) -> str:
    """Return the ids as a list, or the first *most* of them and the number of the others."""
    more = f" and {len(samplers) - most:,} more" if len(samplers) > most else ""
    return ", ".join(samplers[:most]) + more


def report_unknown(
    unknown: Iterable[CreateOutcomeUnknown],
    missing: Sequence[str] = (),
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the unknown creates with their candidates, and the samplers of a journal that could not be found.

    These are the ids that the service does not know, and the samplers of another control plane or team, by id, with its
    address.
    """
    for each in unknown:
        found = ids([sampler.id for sampler in each.candidates]) or "none so far"
        if each.look_error is not None:
            found = f"not known, since {describe(each.look_error)}"
        error(f"the response to a create of {each.spec.base_model} was lost; samplers it may have made: {found}")
    if missing:
        error(
            f"not found, or not readable: {ids(missing)}; they may be billed. If another account made them, ask with "
            "its key"
        )
    for address in dict.fromkeys(elsewhere.values()):
        here = [each for each, other in elsewhere.items() if other == address]
        error(f"{ids(here)} {'belongs' if len(here) == 1 else 'belong'} to {address}; not asked")


def how_to_acknowledge(words: Sequence[str], journal: Path) -> str:
    """Say how the unknown creates of a journal end; *words* are the options that lead to the same service."""
    command = command_line("deactivate", *words, "--journal", str(journal), "--acknowledge-unknown")
    return (
        "Once you have deactivated what these creates made, and five minutes after them, have them reported no more:\n"
        f"  {command}"
    )
