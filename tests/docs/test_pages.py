"""Each page of the guide runs by itself, in the order of the page, and leaves nothing billed."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import attrs
import pytest

import loops_async
from loops_async import emulator
from loops_async.emulator import COURSES, BackgroundEmulator, Emulator, Fault, Stage, parse_faults
from loops_async.errors import LoopsError
from loops_async.models import TEARDOWN_DONE, TEARDOWN_IN_PROGRESS, DeploymentStatus

from ..cli.on_plane import first_line, starting
from .pages import LIFECYCLES, PageRun, snippets

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))

REQUIRED = {
    "how-to/fastapi.md": "fastapi",
    "how-to/open-telemetry.md": "opentelemetry.instrumentation.aiohttp_client",
    "how-to/ray.md": "ray",
    "how-to/sampling-client.md": "baseten.loops",
}
"""Packages that a page needs beyond the tests' own; `.ci/run` runs these pages in environments of their own."""


def is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty directory to run in, whose files can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    # Files of different pages may have the same name.
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.timeout(240)  # processes of their own, on a machine that may be busy
@pytest.mark.parametrize("page", PAGES)
async def test_each_snippet_runs(page: str, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    required = REQUIRED.get(page)
    if required is not None and not is_installed(required):
        pytest.skip(f"{required} is not installed; .ci/run runs this page in an environment that has it")
    monkeypatch.setenv("BASETEN_API_KEY", "key")
    source = str(DOCS.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])))
    with BackgroundEmulator(speed=1000, lifecycles=LIFECYCLES, api_key="key") as emulator:
        monkeypatch.setenv("LOOPS_BASE_URL", emulator.url)
        run = PageRun(DOCS / page, directory)
        for snippet in snippets((DOCS / page).read_text(encoding="utf-8")):
            await run.run(snippet)
        assert not emulator.billed


def test_each_page_that_needs_more_exists() -> None:
    assert set(REQUIRED) <= set(PAGES)


async def test_the_container_of_the_emulator_serves() -> None:
    page = (DOCS / "how-to/compose.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"&& (loops-async emulator .*)\"$", page, re.MULTILINE)
    # Port 8000 may be taken here.
    async with starting(None, *shlex.split(command.replace("--port 8000", "--port 0"))[1:]) as process:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", await first_line(process))


def test_the_json_of_the_emulators_page_is_read() -> None:
    page = (DOCS / "reference/emulator.md").read_text(encoding="utf-8")
    (fault,) = re.findall(r"an array: `(\{.*?\})`", page)
    assert parse_faults(fault)[0].times is None


def test_the_tables_of_the_emulators_page_are_complete() -> None:
    page = (DOCS / "reference/emulator.md").read_text(encoding="utf-8")
    names = [*COURSES, *(each.name for kind in (Stage, Fault) for each in attrs.fields(kind))]
    assert [name for name in names if not re.search(rf"^\|.*`{name}[`=].*\|.*\|$", page, re.MULTILINE)] == []


async def test_the_checkpoints_of_the_emulators_page_are_all_that_there_are() -> None:
    page = (DOCS / "reference/emulator.md").read_text(encoding="utf-8")
    async with Emulator() as emulator, loops_async.LoopsClient("any-key", base_url=emulator.url) as client:
        saved = await client.checkpoints.list(run_id="k4q95w5")
    assert {str(each.path) for each in saved} == set(re.findall(r"^\| `(bt://.+?)`", page, re.MULTILINE))


def test_the_pages_agree_on_what_is_billed() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    not_billed = {str(status) for status in TEARDOWN_DONE | TEARDOWN_IN_PROGRESS}
    sets = [set(ast.literal_eval(each)) for each in re.findall(r"^NOT_BILLED = (.+)$", text, re.MULTILINE)]
    assert sets
    assert [each for each in sets if each != not_billed] == []
    costs = (DOCS / "explanation/costs.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z_, ]+) \| (yes|no):? ", costs, re.MULTILINE))
    billed = {status: answer == "yes" for statuses, answer in rows.items() for status in statuses.split(", ")}
    assert billed == {str(status): str(status) not in not_billed for status in DeploymentStatus}


def test_the_error_tree_is_the_one_in_the_code() -> None:
    def names(kind: type[LoopsError]) -> set[str]:
        return {kind.__name__}.union(*(names(each) for each in kind.__subclasses__()))

    tree = (DOCS / "reference/python.md").read_text(encoding="utf-8").split("## Errors", 1)[1].split("```", 2)[1]
    assert set(re.findall(r"(?:^|── )([A-Z]\w+)", tree, re.MULTILINE)) == names(LoopsError)


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    assert [name for name in loops_async.__all__ if not re.search(rf"\b{name}\b", page)] == []


def test_every_test_that_a_page_names_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert named
    assert [name for name in named if not (DOCS.parent / name).exists()] == []


@pytest.mark.parametrize(
    "name",
    [*loops_async.__all__, "journal.Orphans", "journal.Reclaimed", *(f"emulator.{each}" for each in emulator.__all__)],
)
def test_help_tells_the_fields_of_what_is_public(name: str) -> None:
    public = attrgetter(name)(loops_async)
    if not (isinstance(public, type) and attrs.has(public)):
        return
    documented = inspect.getdoc(public) or ""
    names = [each.name for each in attrs.fields(public) if not each.name.startswith("_")]
    assert [each for each in names if f"\n    {each}: " not in documented] == []
