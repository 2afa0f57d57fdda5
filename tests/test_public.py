"""What the package shows, and which way its imports point."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import loops_async

PACKAGE = Path(loops_async.__file__).parent

# What each module may import of ours; TYPE_CHECKING imports are free.
LAYERS = {
    "_checks": set[str](),
    "errors": set[str](),
    "_shield": set[str](),
    "_governor": set[str](),
    "models": {"_checks"},
    "_policy": {"_checks", "models"},
    "_protocol": {"_checks", "errors"},
    "_structure": {"models", "errors"},
    "_codec": {"_structure", "models", "errors"},
    "_retry": {"_checks", "errors"},
    "_transport": {"_governor", "_protocol", "_retry", "errors"},
    "_prices": set[str](),
    "_releases": {"_codec", "_governor", "_protocol", "_retry", "_transport", "errors", "models"},
    "_losses": {"errors", "models"},
    "_creates": {
        "_codec",
        "_governor",
        "_losses",
        "_protocol",
        "_releases",
        "_retry",
        "_shield",
        "_transport",
        "errors",
        "models",
    },
    "_journal": {"models"},
    "_journal_file": {"_journal", "_shield"},
    "_member": {"errors", "models"},
    "_remains": {"errors"},
    "_support": {"_losses", "_waiter", "errors", "models"},
    "_holdings": {"_journal", "_journal_file", "_support", "errors"},
    "_creation": {"_journal", "_journal_file", "_losses", "errors", "models"},
    "_launching": {
        "_creation",
        "_holdings",
        "_journal",
        "_journal_file",
        "_member",
        "_policy",
        "_shield",
        "_support",
        "_waiter",
        "errors",
        "models",
    },
    "_ending": {"_launching", "_member", "_remains", "_shield", "errors"},
    "_fleet": {"_checks", "_launching", "_member", "errors", "models"},
    "_launch": {
        "_checks",
        "_ending",
        "_fleet",
        "_journal_file",
        "_launching",
        "_member",
        "_policy",
        "_shield",
        "_support",
        "_waiter",
        "_watching",
        "errors",
        "models",
    },
    "journal": {
        "_checks",
        "_journal",
        "_journal_file",
        "_losses",
        "_remains",
        "_shield",
        "_support",
        "errors",
        "models",
    },
    "_alarm": set[str](),
    "_watching": {"_policy", "models"},
    "_schedule": {"_policy", "_watching"},
    "_poller": {"_alarm", "_prices", "_schedule", "_shield", "_watching", "errors", "models"},
    "_waiter": {"_checks", "_policy", "_poller", "_watching", "errors", "models"},
    "pytest_plugin": {"emulator._background"},
}


def imports_of(path: Path) -> set[str]:
    """Return the modules of ours that *path* imports at run time, as names below the package."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parent.parts[: len(path.parent.parts) - node.level + 1]
            inside = Path(*base).relative_to(PACKAGE.parent).parts[1:]
            if node.module:
                found.add(".".join((*inside, node.module)))
            else:
                found.update(".".join((*inside, alias.name)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "loops_async":
            found.add((node.module or "").partition(".")[2])
    return found


@pytest.mark.parametrize("module", LAYERS)
def test_imports_point_one_way(module: str) -> None:
    assert imports_of(PACKAGE / f"{module}.py") <= LAYERS[module]


def test_every_module_at_the_top_has_its_layer() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules - LAYERS.keys() == {"__init__", "_client"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "emulator").rglob("*.py")), ids=lambda path: path.stem)
def test_the_emulator_shares_nothing_with_the_client(path: Path) -> None:
    assert all(name.startswith("emulator") for name in imports_of(path))


def test_the_client_does_not_import_the_waiters() -> None:
    assert not imports_of(PACKAGE / "_client.py") & {"_poller", "_waiter", "_launching", "_launch"}
    for path in (PACKAGE / "_resources").glob("*.py"):
        assert not imports_of(path) & {"_poller", "_waiter", "_client", "_launching", "_launch"}


def test_all_is_sorted_and_complete() -> None:
    names = loops_async.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(loops_async, name).__module__.startswith("loops_async")
    public = {name for name, value in vars(loops_async).items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert public - {"__getattr__", "__dir__"} == set(names)


def printed(code: str) -> str:
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def test_the_package_loads_only_what_is_asked_for() -> None:
    code = "import sys, loops_async; print({'aiohttp', 'attrs', 'asyncio', 'msgspec'} & sys.modules.keys())"
    assert printed(code) == "set()\n"
    code = "import loops_async as l; print(l.errors.LoopsError is l.LoopsError, set(l.__all__) <= {*dir(l)})"
    assert printed(code) == "True True\n"


def test_names_are_the_same_for_type_checkers_and_at_run_time() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    assert {node.module: tuple(alias.name for alias in node.names) for node in imports} == loops_async._NAMES
    assert set(dir(loops_async)) >= set(loops_async.__all__)


def test_everything_public_has_a_docstring() -> None:
    for name in loops_async.__all__:
        thing = getattr(loops_async, name)
        assert thing.__doc__, name
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.isfunction(value):
                    assert value.__doc__, f"{name}.{member}"


def test_the_version_is_the_installed_one() -> None:
    assert loops_async.__version__
    with pytest.raises(AttributeError):
        importlib.import_module("loops_async").no_such_name  # noqa: B018
