"""The group of commands, and what becomes of the ways in which one can end."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import click

import loops_async
from loops_async import LoopsError

from ._demo import demo
from ._emulator import emulator
from ._run import INTERRUPTED


def _version() -> str:
    try:
        return loops_async.__version__
    except PackageNotFoundError:
        return "(not installed)"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), message="%(prog)s %(version)s")
def cli() -> None:
    """Launch Baseten Loops samplers, await them, and leave no GPU behind.

    Without an account, begin with `loops-async demo`.
    """


cli.add_command(demo)
cli.add_command(emulator)


def exit_code() -> int:
    """Run the command that the arguments ask for and say what the process is to exit with."""
    try:
        # In its standalone mode click would end a Ctrl-C with the exit code of any failure.
        code = cli.main(prog_name="loops-async", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LoopsError as error:
        for each in error.exceptions if isinstance(error, ExceptionGroup) else (error,):
            click.echo(f"Error: {each}", err=True)
        return 1
    return code if isinstance(code, int) else 0
