"""What all commands that talk to the service share: their options, the client, and how errors become words."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from attrs import field, frozen

from loops_async import LoopsClient, LoopsError, PollPolicy, RetryPolicy

from . import _json
from ._exits import REFUSED, USAGE, Failure, code_of
from ._run import Interrupts, run_interruptible
from ._words import say

KEY_HINT: Final = "set BASETEN_API_KEY, or give --api-key-file FILE"


@frozen
class Common:
    """The options that all these commands have."""

    api_key_file: Path | None = field()
    base_url: str | None = field()
    team: str | None = field()
    attempts: int = field()
    as_json: bool = field()
    quiet: bool = field()

    def words(self) -> list[str]:
        """Return what another call needs to speak to the same service with the same key."""
        given = {"--api-key-file": self.api_key_file, "--base-url": self.base_url, "--team": self.team}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]

    def say(self, text: str) -> None:
        """Say something that may be left unsaid."""
        if not self.quiet:
            say(text)

    def client(self) -> LoopsClient:
        """Make a client. Raises Failure if there is no key, or none that can be one."""
        key = os.environ.get("BASETEN_API_KEY") if self.api_key_file is None else _read_key(self.api_key_file)
        if not key:
            where = "" if self.api_key_file is None else f"{self.api_key_file} is empty; "
            raise Failure(f"no API key: {where}{KEY_HINT}", REFUSED)
        try:
            return LoopsClient(
                key, base_url=self.base_url, team_id=self.team, retry=RetryPolicy(attempts=self.attempts)
            )
        except ValueError as exc:
            raise Failure(str(exc), REFUSED if str(exc).startswith("api_key") else USAGE) from None

    def run(self, command: Callable[[LoopsClient, Interrupts], Coroutine[Any, Any, int]]) -> int:
        """Run *command* with a client of its own, and return its exit code."""
        client = self.client()

        async def with_client(interrupts: Interrupts) -> int:
            async with client:
                return await command(client, interrupts)

        try:
            return run_interruptible(with_client)
        except LoopsError as exc:
            if self.as_json:
                _json.write_error(exc)
            raise Failure(str(exc), code_of(exc)) from None


def common_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give *command* the shared options, as a `Common` before its own arguments."""

    @click.option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File that holds the API key; else it is taken from BASETEN_API_KEY.",
    )
    @click.option("--base-url", metavar="URL", help="Control plane; else LOOPS_BASE_URL, else Baseten's own.")
    @click.option("--team", metavar="ID", help="Team instead of your own account.")
    @click.option(
        "--attempts",
        type=click.IntRange(1),
        default=RetryPolicy().attempts,
        show_default=True,
        metavar="N",
        help="How often a request is sent at most if it fails; creates are never repeated on a guess.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout, and nothing else.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
    @functools.wraps(command)
    def packed(
        *,
        api_key_file: Path | None,
        base_url: str | None,
        team: str | None,
        attempts: int,
        as_json: bool,
        quiet: bool,
        **own: Any,
    ) -> int:
        return command(Common(api_key_file, base_url, team, attempts, as_json, quiet), **own)

    return packed


def _interval(_ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0.01 <= value < 1e9:
        raise click.BadParameter("it must be a number of seconds, at least 0.01.", param=param)
    return value


poll_option = click.option(
    "--poll",
    type=float,
    callback=_interval,
    metavar="SECONDS",
    help="Look at each sampler so often; else from every 2 to every 15 seconds, by its status.",
)


def timeout_option(default: float | None) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make the option `--timeout`; a *default* of None waits for ever."""
    return click.option(
        "--timeout",
        type=float,
        callback=_positive,
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help="Time in which samplers must come up" + ("." if default is not None else "; no end without it."),
    )


def _positive(_ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < 1e9:
        raise click.BadParameter("it must be a number of seconds above 0.", param=param)
    return value


def check_ids(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what can be no id of a sampler."""
    for value in values:
        if not value.strip() or not value.isprintable() or value in {".", ".."}:
            raise click.BadParameter(f"{value!r} can be no id.", param=param)
    return values


def policy_of(poll: float | None, *, wake: bool = True, missing_grace: float = 30.0) -> PollPolicy:
    """Return the policy for `--poll`."""
    if poll is None:
        return PollPolicy(wake=wake, missing_grace=missing_grace)
    return PollPolicy(initial=poll, factor=1.0, maximum=poll, multiples={}, wake=wake, missing_grace=missing_grace)


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Turn what is wrong with a journal into one line."""
    try:
        yield
    except OSError as exc:
        raise Failure(f"{path}: {exc.strerror or exc}", USAGE) from None
    except ValueError as exc:
        raise Failure(str(exc), USAGE) from None


def deliver(write: Callable[[], None]) -> None:
    """Write data to stdout, to its end: whoever reads it has it, or an OSError says otherwise."""
    write()
    sys.stdout.flush()


def forget_stdout() -> None:
    """Keep Python from complaining, at its end, of what it could not write to a reader that went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeError) as exc:
        raise Failure(f"no API key can be read from {path}: {exc}", REFUSED) from None
