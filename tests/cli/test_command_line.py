"""What holds for every command: help, version, wrong use, the missing extra."""

from __future__ import annotations

import click
import pytest
from click.shell_completion import BashComplete

from loops_async.cli._main import COMMANDS, cli

from .command_process import MAIN, finished
from .on_plane import run


async def test_help_names_the_commands() -> None:
    ended = await run(None, "--help")
    output = ended.output
    assert (ended.code, ended.errors) == (0, "")
    assert output.startswith("Usage: loops-async [OPTIONS] COMMAND")
    for name in COMMANDS:
        assert f"  {name} " in output
    # click cuts a summary that is too long for the line.
    assert "..." not in output.replace("[ARGS]...", "")


def test_help_comes_without_what_the_commands_need() -> None:
    heavy = "{'aiohttp', 'asyncio', 'attrs', 'msgspec', 'rich'}"
    code = f"import sys, atexit; atexit.register(lambda: print({heavy} & set(sys.modules), file=sys.stderr)); {MAIN}"
    assert finished("--help", code=code)[2] == "set()\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_the_summary_of_the_list_and_tells_its_exit_codes(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.name, command.get_short_help_str(200)) == (name, COMMANDS[name])
    if name not in {"demo", "emulator"}:
        assert command.epilog is not None
        assert "Exit codes: 0 " in command.epilog
        assert " JSON: " in command.epilog
        assert {"--json", "--quiet"} <= {option for each in command.params for option in each.opts}


def test_shells_can_complete_commands_and_options() -> None:
    shell = BashComplete(cli, {}, "loops-async", "_LOOPS_ASYNC_COMPLETE")
    assert [each.value for each in shell.get_completions([], "la")] == ["launch"]
    assert [each.value for each in shell.get_completions(["launch"], "--form")] == ["--format"]
    assert [each.value for each in shell.get_completions(["launch", "--format"], "u")] == ["urls"]


def test_version() -> None:
    code, output, errors = finished("--version")
    assert (code, errors) == (0, "")
    assert output.startswith("loops-async ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--count", "0"),
        ("demo", "--speed", "0"),
        ("demo", "--speed", "nan"),
        ("demo", "--speed", "inf"),
        ("emulator", "--port", "65536"),
        ("emulator", "--api-key", "two words"),
        ("emulator", "--api-key", ""),
        ("no-such-command",),
    ],
)
async def test_wrong_use_ends_with_2_and_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    ended = await run(None, *arguments)
    assert (ended.code, ended.output) == (2, "")
    assert "Error: " in ended.errors


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_the_extra_says_how_to_install_it(package: str) -> None:
    code, output, errors = finished("demo", code=f"import sys; sys.modules[{package!r}] = None; {MAIN}")
    assert (code, output) == (1, "")
    assert errors == f'loops-async needs {package}: pip install "loops-async[cli]"\n'


def test_another_missing_module_is_not_taken_for_the_extra() -> None:
    code, _, errors = finished("demo", code=f"import sys; sys.modules['loops_async.emulator'] = None; {MAIN}")
    assert code == 1
    assert "pip install" not in errors
    assert "ModuleNotFoundError" in errors
