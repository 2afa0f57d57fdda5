"""`loops-async emulator`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal

import click

from loops_async.emulator import Emulator

from ._options import speed_option
from ._run import run


def _key(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not value.isascii() or not value.isprintable() or " " in value or not value):
        raise click.BadParameter("a key is not empty, and has no blanks and no letters beyond ASCII.")
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--api-key", callback=_key, metavar="KEY", help="The one key that is let in; any is, without this.")
@speed_option
def emulator(host: str, port: int, api_key: str | None, speed: float) -> int:
    """Serve an emulated control plane of Loops on this machine.

    The first line on stdout is its URL; how to point a client at it follows on stderr. It runs until SIGTERM, which
    ends it with exit code 0, or Ctrl-C, which ends it with 130.
    """
    return run(_serve, Emulator(host, port, api_key=api_key, speed=speed), host, port, api_key)


async def _serve(server: Emulator, host: str, port: int, api_key: str | None) -> int:
    stop = asyncio.Event()
    # Event loops on Windows have no signal handlers; there, SIGTERM ends a process without asking it.
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        await server.start()
    except (OSError, UnicodeError) as error:
        raise click.ClickException(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    try:
        click.echo(server.url)
        click.echo(f"export LOOPS_BASE_URL={shlex.quote(server.url)}", err=True)
        remark = "" if api_key else "  # or any other key"
        click.echo(f"export BASETEN_API_KEY={shlex.quote(api_key or 'any-key-will-do')}{remark}", err=True)
        await stop.wait()
    finally:
        await server.aclose()
    return 0


def _reason(error: Exception) -> str:
    # The loop's own text repeats the address; the numbers of a failed look-up of a name are not the system's.
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
