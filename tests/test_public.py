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

LEAVES = {"errors", "models", "_validate", "_aio", "_text", "_run"}

# What each room of the house may import of the others, besides itself; imports for type checkers alone are free.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(LEAVES, LEAVES),
    "_http": LEAVES,
    "_api": LEAVES | {"_http"},
    "_wait": LEAVES | {"_http"},
    "_launch": LEAVES | {"_wait"},
    "journal": LEAVES | {"_wait", "_launch"},
    "_client": LEAVES | {"_http", "_api", "_wait", "_launch"},
    "emulator": {"models"},
    "pytest_plugin": {"emulator"},
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


def rooms(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in {"cli", "__init__"}:
        return
    assert rooms(imports_of(path)) <= MAY_IMPORT[room] | {room}


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
