"""What commands say to people, on stderr: data alone goes to stdout."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import click

from loops_async import CreateOutcomeUnknown

MANY: Final = 5
"""Troubles that are told one by one; the rest is counted."""


def clean(text: str) -> str:
    """Replace what a terminal would obey rather than show: names come from outside."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def say(text: str) -> None:
    """Write a line to stderr. A terminal that is gone must not keep anybody from releasing a sampler."""
    with suppress(OSError):
        click.echo("\n".join(map(clean, text.split("\n"))), err=True)


def error(text: str) -> None:
    """Say what went wrong, in one line."""
    say(f"Error: {' '.join(text.split())}")


def errors(troubles: Iterable[BaseException | str]) -> None:
    """Say what went wrong, in a few lines."""
    texts = [str(each) for each in troubles]
    for text in texts[:MANY]:
        error(text)
    if len(texts) > MANY:
        say(f"Error: and {len(texts) - MANY} more")


def counted(number: int, noun: str = "sampler") -> str:
    """Count a noun that takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def command_line(*words: str) -> str:
    """Return a call of this program as one would type it."""
    return shlex.join(["loops-async", *words])


def ids(samplers: Sequence[str], most: int = 20) -> str:
    """Name samplers, or the first of many; every id that matters stands in a command or on stdout as well."""
    more = f" and {len(samplers) - most:,} more" if len(samplers) > most else ""
    return ", ".join(samplers[:most]) + more


def tell_of_unknown(unknown: Iterable[CreateOutcomeUnknown], missing: Sequence[str] = ()) -> None:
    """Say which creates were never answered, and which samplers nobody knows."""
    for each in unknown:
        found = ids([sampler.id for sampler in each.candidates]) or "none seen so far"
        say(f"Error: a create of {each.spec.base_model} was never answered; what it may have made: {found}")
    if missing:
        say(f"Error: this client cannot tell of {ids(missing)}: unknown here, or of another service or team")
