"""The parts of all commands that talk to the service: their options, the client, and the report of errors."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from attrs import define, field

from loops_async import LoopsClient, LoopsError, PollPolicy, RetryPolicy

from . import _json, discard
from ._exits import REFUSED, USAGE, Failure, code_of, run_to_end
from ._log import LEVELS, log_lines
from ._words import describe, error, say

KEY_HINT: Final = "set BASETEN_API_KEY, or give --api-key-file FILE"

_OPTIONS: Final = {
    "pass allow_http=True": "give --allow-http",
    "permit plain http with allow_http=True": "permit plain http with --allow-http",
    "pass trust_env=False": "set NO_PROXY=*",
}
"""Arguments in the messages of `LoopsClient`, each with the option of the command line for it."""


@define
class Common:
    """The options that these commands share."""

    api_key_file: Path | None
    base_url: str | None
    team: str | None
    attempts: int
    allow_http: bool
    log_level: int
    as_json: bool
    quiet: bool
    has_written: bool = field(default=False, init=False)
    """Whether a document of `--json` was written."""

    def words(self) -> list[str]:
        """Return the options for another call of this program to the same service with the same key."""
        given = {"--api-key-file": self.api_key_file, "--base-url": self.base_url, "--team": self.team}
        words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        return [*words, "--allow-http"] if self.allow_http else words

    def say(self, text: str) -> None:
        """Write a line to stderr, unless the user wants only errors there."""
        if not self.quiet:
            say(text)

    def write(self, document: dict[str, Any]) -> None:
        """Write the document of `--json`."""
        _json.write(document)
        self.has_written = True

    def client(self) -> LoopsClient:
        """Make a client.

        Raises:
            Failure: There is no key, or a setting is malformed.
        """
        key = None if self.api_key_file is None else _read_key(self.api_key_file)
        if not (os.environ.get("BASETEN_API_KEY") if self.api_key_file is None else key):
            where = "" if self.api_key_file is None else f"{self.api_key_file} is empty; "
            raise Failure(f"no API key: {where}{KEY_HINT}", REFUSED)
        try:
            return LoopsClient(
                key,
                base_url=self.base_url,
                team_id=self.team,
                retry=RetryPolicy(attempts=self.attempts),
                allow_http=self.allow_http,
            )
        except ValueError as exc:
            message = str(exc)
        is_about_key = message.startswith(("api_key", "BASETEN_API_KEY"))
        if self.api_key_file is not None:
            message = message.replace("api_key", f"the key in {self.api_key_file}", 1)
        for words, option in _OPTIONS.items():
            message = message.replace(words, option)
        raise Failure(message, REFUSED if is_about_key else USAGE)

    def run(
        self,
        command: Callable[[LoopsClient], Coroutine[Any, Any, int]],
        interrupted: Callable[[int], dict[str, Any]] | None = None,
    ) -> int:
        """Run *command* with a client of its own, and return its exit code.

        *interrupted* returns, for an exit code, the document that `--json` writes after a signal, unless one was
        written before.
        """
        client = self.client()
        decided: list[int] = []

        async def with_client() -> int:
            async with client:
                decided.append(await command(client))
            return decided[0]

        try:
            with log_lines(logging.ERROR if self.quiet else self.log_level):
                code = run_to_end(with_client())
        except LoopsError as exc:
            raise failure_of(exc) from None
        if decided:
            # A signal that came while the client was closing does not change the result of the command.
            return decided[0]
        if self.as_json and not self.has_written:
            fields = {"type": "Interrupted", "message": "interrupted", "exit_code": code}
            if interrupted is not None:
                deliver_or_report(lambda: _json.write(interrupted(code)))
            else:
                deliver_or_report(lambda: _json.write_line({"error": fields}))
        return code


def failure_of(exc: LoopsError, remark: str = "") -> Failure:
    """Return the failure of a command for an error of the library; its message ends with *remark*."""
    return Failure(f"{exc}{remark}", code_of(exc), _json.error_fields(exc))


def common_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the shared options to *command*, which gets them as a `Common` before its own arguments."""

    @click.option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the API key; the default is the key in BASETEN_API_KEY.",
    )
    @click.option(
        "--base-url", metavar="URL", help="Control plane; the default is LOOPS_BASE_URL, or else Baseten's own."
    )
    @click.option("--team", metavar="ID", help="Team instead of your own account.")
    @click.option(
        "--attempts",
        type=click.IntRange(1),
        default=RetryPolicy().attempts,
        show_default=True,
        metavar="N",
        help="How often a failed request is sent at most; a create that may have arrived is never sent again.",
    )
    @click.option(
        "--allow-http",
        is_flag=True,
        help="Permit plain http to another machine, such as an emulator's; so does LOOPS_ALLOW_HTTP=1.",
    )
    @click.option(
        "--log-level",
        type=click.Choice([*LEVELS]),
        default="warning",
        show_default=True,
        help="Least level of the library's log that goes to stderr; info has each create, status and deactivation.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout, and nothing else; errors, too.")
    @click.option("-q", "--quiet", is_flag=True, help="Write nothing but errors to stderr.")
    @functools.wraps(command)
    def packed(
        *,
        api_key_file: Path | None,
        base_url: str | None,
        team: str | None,
        attempts: int,
        allow_http: bool,
        log_level: str,
        as_json: bool,
        quiet: bool,
        **own: Any,
    ) -> int:
        return command(
            Common(api_key_file, base_url, team, attempts, allow_http, LEVELS[log_level], as_json, quiet), **own
        )

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
    help="Poll each sampler so often; the default is every 2 to 15 seconds, by its status.",
)


def timeout_option(default: float | None) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make the option `--timeout`; a *default* of None waits without an end."""
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
    """Refuse arguments that cannot be ids of samplers."""
    for value in values:
        if not value.strip() or not value.isprintable() or value in {".", ".."}:
            raise click.BadParameter(f"{value!r} cannot be an id.", param=param)
    return values


def policy_of(poll: float | None, *, wake: bool = True, missing_grace: float = 30.0) -> PollPolicy:
    """Return the policy for `--poll`."""
    if poll is None:
        return PollPolicy(wake=wake, missing_grace=missing_grace)
    return PollPolicy(initial=poll, factor=1.0, maximum=poll, multiples={}, wake=wake, missing_grace=missing_grace)


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Report an error of a journal in one line."""
    try:
        yield
    except OSError as exc:
        raise Failure(
            f"{path}: {exc.strerror or exc}", USAGE, {**_json.error_fields(exc), "exit_code": USAGE}
        ) from None
    except ValueError as exc:
        raise Failure(str(exc), USAGE, {**_json.error_fields(exc), "exit_code": USAGE}) from None


def deliver(write: Callable[[], None]) -> None:
    """Write data to stdout and flush it. Without an OSError, all of the data can be read."""
    write()
    sys.stdout.flush()


def deliver_or_report(write: Callable[[], None]) -> None:
    """Write data to stdout as `deliver()` does; report an OSError on stderr instead of raising it."""
    try:
        deliver(write)
    except OSError as exc:
        error(f"stdout cannot be written: {describe(exc)}")
        forget_stdout()


def forget_stdout() -> None:
    """Discard stdout, so that Python does not report a second time that data could not be written."""
    discard(sys.stdout)


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeError) as exc:
        reason = describe(exc) if isinstance(exc, OSError) else f"{path}: this is not text in UTF-8"
        raise Failure(f"no API key can be read from {reason}", REFUSED) from None
