"""The group of commands, and what becomes of the ways in which one can end."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

INTERRUPTED: Final = 130

COMMANDS: Final = {
    "launch": "Launch samplers and wait until they are ACTIVE.",
    "wait": "Wait until samplers are ACTIVE.",
    "watch": "Show what samplers go through, until they are up.",
    "list": "List samplers, newest first.",
    "get": "Show a sampler.",
    "deactivate": "Release samplers: by id, of a journal, or all of yours.",
    "models": "List the base models that Loops knows.",
    "orphans": "Show what a journal says is still alive.",
    "timeline": "Draw what a journal tells as a chart.",
    "demo": "Launch samplers without an account, and release them.",
    "emulator": "Serve an emulated control plane of Loops on this machine.",
}
"""Names and summaries. A command's module has its name; it is imported only when the command is asked for, since what
they need takes several times as long to import as all of this."""


class Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which one needs them."""
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
    """Run the command that the arguments ask for and say what the process is to exit with."""
    try:
        # In its standalone mode click would end a Ctrl-C with the exit code of any failure.
        code: Any = cli.main(prog_name="loops-async", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        from loops_async import LoopsError

        from ._exits import code_of
        from ._words import errors

        if isinstance(error, OSError):
            from ._common import forget_stdout

            errors([error])
            forget_stdout()
            return 1
        if not isinstance(error, LoopsError):
            raise
        errors(error.exceptions if isinstance(error, ExceptionGroup) else (error,))
        return code_of(error)
    return code if isinstance(code, int) else 0
