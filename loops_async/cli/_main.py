"""The group of commands, and the exit code and error output of each way in which a command can end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from itertools import takewhile
from typing import Any, Final

import click

INTERRUPTED: Final = 130

COMMANDS: Final = {
    "launch": "Launch samplers and wait until they are ACTIVE.",
    "wait": "Wait until samplers are ACTIVE.",
    "watch": "Show the statuses of samplers until they are up, or down.",
    "list": "List samplers, newest first.",
    "get": "Show a sampler.",
    "deactivate": "Deactivate samplers: by id, of a journal, or all of yours.",
    "models": "List the base models that Loops knows.",
    "orphans": "Show the samplers of a journal that are still billed.",
    "timeline": "Draw the launches of a journal as a chart.",
    "demo": "Launch samplers without an account, and deactivate them.",
    "emulator": "Serve an emulated control plane of Loops on this machine.",
}
"""Names and summaries. The module of a command has its name. It is imported only for that command, since its imports
take several times as long as those of this module."""


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which users need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__package__}._{cmd_name}")
        # `list` would hide the type of that name in its module.
        command: click.Command = getattr(module, cmd_name, None) or vars(module)[f"{cmd_name}_"]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("loops-async")
    except PackageNotFoundError:
        installed = "(not installed)"
    click.echo(f"loops-async {installed}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Launch Baseten Loops samplers, await them, and leave no GPU behind.

    Without an account, begin with `loops-async demo`. With one, the key is taken from BASETEN_API_KEY or a file.
    Data go to stdout, everything else to stderr.
    """


def exit_code() -> int:
    """Run the command of the arguments, report its error, and return the exit code of the process."""
    try:
        # In its standalone mode click would end with exit code 1 after Ctrl-C.
        code: Any = cli.main(prog_name="loops-async", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        _write_json(getattr(error, "fields", None) or _fields(error))
        with suppress(OSError):
            error.show(sys.stderr)
        return error.exit_code
    except Exception as error:
        from loops_async import LoopsError

        from . import discard
        from ._exits import FAILED, code_of
        from ._json import error_fields
        from ._words import describe, errors

        if isinstance(error, OSError):
            # Commands report the errors of files that they are given, so this one is about stdout.
            errors([f"stdout cannot be written: {describe(error)}"])
            discard(sys.stdout)
            return FAILED
        if not isinstance(error, LoopsError):
            raise
        _write_json(error_fields(error))
        errors(error.exceptions if isinstance(error, ExceptionGroup) else (error,))
        return code_of(error)
    return code if isinstance(code, int) else 0


def _fields(error: click.ClickException) -> dict[str, Any]:
    kind = "UsageError" if isinstance(error, click.UsageError) else type(error).__name__
    return {"type": kind, "message": error.format_message(), "exit_code": error.exit_code}


def _write_json(fields: Mapping[str, Any]) -> None:
    """Write an error to stdout if the arguments contain `--json`, also if they cannot be parsed."""
    if "--json" not in takewhile(lambda argument: argument != "--", sys.argv[1:]):
        return
    with suppress(OSError):
        click.echo(json.dumps({"error": dict(fields)}), file=sys.stdout)
