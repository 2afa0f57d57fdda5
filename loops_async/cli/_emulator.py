"""`loops-async emulator`."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from loops_async.emulator import COURSES, Emulator, Stage, parse_fault, parse_faults, parse_lifecycles

from ._exits import DONE, run_to_end
from ._options import speed_option

_T = TypeVar("_T")

# A request takes a kilobyte or so, and the server may run for days.
_KEPT = 20_000
_KEPT_OF_A_BODY = 64 * 1024

# The names for all addresses of this machine.
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- names, not a socket


def _key(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not value.isascii() or not value.isprintable() or " " in value or not value):
        raise click.BadParameter("a key is not empty, and has no blanks and no letters beyond ASCII.")
    return value


def _lifecycles(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, tuple[Stage, ...]] | None:
    if value is None:
        return None
    if value in COURSES:
        return {"*": COURSES[value]}
    return _parsed(parse_lifecycles, _text(value))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--api-key", callback=_key, metavar="KEY", help="The one key that is accepted; the default accepts any.")
@click.option(
    "--inference-api-key", callback=_key, metavar="KEY", help="A key for the data plane alone; the rest answers 403."
)
@speed_option
@click.option(
    "--rate-limit",
    type=click.FloatRange(min=1),
    metavar="N",
    help="Requests of one route and key in a second, above which the answer is 429; the service has 100.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the ids and of what happens by chance.")
@click.option(
    "--lifecycle",
    "lifecycles",
    callback=_lifecycles,
    metavar="FILE",
    help=f"Lifecycle of the samplers: a JSON file, or one of {', '.join(COURSES)}.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    help="Switch a fault on, such as 'POST /v1/loops/samplers status=503 rate=0.1'; may be repeated.",
)
@click.option("--fault-script", metavar="FILE", help="Faults that are met one after another: a JSON array.")
@click.option("--serverless", is_flag=True, help="Make samplers serverless that do not ask for something else.")
@click.option("--list-lag", type=float, default=0.0, metavar="SECONDS", help="How far lists lag behind.")
@click.option("--clock-skew", type=float, default=0.0, metavar="SECONDS", help="How far the service's clock is ahead.")
@click.option(
    "--error-shape", type=click.Choice(["code", "error", "detail"]), default="code", help="How errors are written."
)
@click.option(
    "--invalid-status", type=click.Choice(["400", "422"]), default="400", help="Answer to an invalid request."
)
def emulator(
    host: str,
    port: int,
    api_key: str | None,
    faults: tuple[str, ...],
    fault_script: str | None,
    invalid_status: str,
    **settings: Any,
) -> int:
    """Serve an emulated control plane of Loops on this machine.

    The first line on stdout is its URL; how to point a client at it follows on stderr. It runs until SIGTERM, which
    ends it with exit code 0, or Ctrl-C, which ends it with 130.

    Requests below /_emulator read and change the emulator itself: counts, received requests, faults, statuses. Its
    contract is at /v1/spec.
    """
    server = _parsed(
        lambda _: Emulator(
            host,
            port,
            api_key=api_key,
            invalid_status=int(invalid_status),
            keep_received=_KEPT,
            keep_body=_KEPT_OF_A_BODY,
            **settings,
        ),
        "",
    )
    routes = server.routes
    for line in faults:
        _parsed(lambda line: server.add_fault(parse_fault(line, routes)), line)
    if fault_script is not None:
        _parsed(lambda text: server.add_script(parse_faults(text, routes)), _text(fault_script))
    code = run_to_end(_serve(server, host, port, api_key))
    # SIGTERM is the usual way to stop a server.
    return DONE if code == 128 + signal.SIGTERM else code


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {_reason(error)}") from error
    except UnicodeError as error:
        raise click.UsageError(f"cannot read {path}: it is not UTF-8") from error


def _parsed(parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def _serve(server: Emulator, host: str, port: int, api_key: str | None) -> int:
    try:
        await server.start()
    except (OSError, UnicodeError) as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    try:
        click.echo(server.url)
        click.echo(f"export LOOPS_BASE_URL={shlex.quote(server.url)}", err=True)
        remark = "" if api_key else "  # or any other key"
        click.echo(f"export BASETEN_API_KEY={shlex.quote(api_key or 'any-key-will-do')}{remark}", err=True)
        if host in _EVERYWHERE:
            address = f"http://NAME-OF-THIS-MACHINE:{urlsplit(server.url).port}"
            click.echo(f"# from other containers: export LOOPS_ALLOW_HTTP=1 LOOPS_BASE_URL={address}", err=True)
        await asyncio.Event().wait()
    finally:
        await server.aclose()
    return DONE


def _reason(error: Exception) -> str:
    # The text of the event loop repeats the address. A failed DNS request has an errno that is not the system's.
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
