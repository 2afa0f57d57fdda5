"""What commands write: messages for people on stderr, data on stdout."""

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
"""Errors that are written one by one; the rest is counted."""


def clean(text: str) -> str:
    """Replace the characters that a terminal would obey instead of showing them: names come from outside."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def escaped(text: str, encoding: str) -> str:
    """Write the characters of *text* that *encoding* does not have as escapes, as the standard streams do."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def write_out(text: str) -> None:
    """Write data to stdout, to the end.

    Raises:
        OSError: The reader has gone away, or the disk is full.
    """
    # Without a file, click writes UTF-8 to a stream whose encoding is ASCII.
    click.echo(text, file=sys.stdout, nl=False)


def say(text: str) -> None:
    """Write a line to stderr. A terminal that is gone must not keep anybody from deactivating a sampler."""
    with suppress(OSError):
        click.echo("\n".join(map(clean, text.split("\n"))), file=sys.stderr)


def describe(exc: BaseException | str) -> str:
    """Return what an error says, without the number that Python puts in front of an error of the system."""
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
    """Return a number with its noun, which takes an s in the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def command_line(*words: str) -> str:
    """Return a call of this program as a user would type it."""
    return shlex.join(["loops-async", *words])


def ids(samplers: Sequence[str], most: int = 20) -> str:
    """List ids, or the first of many; each id that matters is also in a command or on stdout."""
    more = f" and {len(samplers) - most:,} more" if len(samplers) > most else ""
    return ", ".join(samplers[:most]) + more


def tell_of_unknown(
    unknown: Sequence[CreateOutcomeUnknown],
    missing: Sequence[str] = (),
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write what may be billed although that is not certain.

    These are creates with an unknown outcome, ids of a journal that the service does not know, and its samplers of
    another control plane or team, with its address.
    """
    for each in unknown:
        found = ids([sampler.id for sampler in each.candidates]) or "none so far"
        if each.look_error is not None:
            found = f"not known, since {describe(each.look_error)}"
        error(f"the response to a create of {each.spec.base_model} was lost; samplers it may have made: {found}")
    if missing:
        error(f"the service does not know {ids(missing)}; if another account made them, ask with its key")
    for address in dict.fromkeys(elsewhere.values()):
        here = [each for each, other in elsewhere.items() if other == address]
        error(f"{ids(here)} {'belongs' if len(here) == 1 else 'belong'} to {address}; not asked")


def how_to_acknowledge(words: Sequence[str], journal: Path) -> str:
    """Say how the unknown creates of a journal end; *words* are the options that lead to the same service."""
    command = command_line("deactivate", *words, "--journal", str(journal), "--acknowledge-unknown")
    return f"Once you have deactivated what these creates made, do not have them reported again:\n  {command}"
