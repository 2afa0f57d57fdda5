"""Every Python snippet of the README runs, in the order of the page."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from loops_async import LoopsClient
from loops_async.emulator import Emulator, parse_faults, parse_lifecycles

from ..cli.command_process import first_line, started

pytest_plugins = ["pytester"]

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
SNIPPETS = [
    pytest.param(match[1], TEXT[: match.start()].count("\n") + 2, id=f"line {TEXT[: match.start()].count(chr(10)) + 2}")
    for match in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
]
TEST_FILES = [
    snippet for snippet in SNIPPETS if re.search(r"^(?:async )?def test_", str(snippet.values[0]), re.MULTILINE)
]
"""Snippets that are there for pytest to run."""


async def run(code: CodeType, names: dict[str, object]) -> None:
    result = FunctionType(code, names)()
    if inspect.iscoroutine(result):
        await result


async def test_a_complete_program_comes_early_and_runs_by_itself() -> None:
    source, line = SNIPPETS[0].values
    assert isinstance(source, str)
    assert "asyncio.run(main())" in source
    assert isinstance(line, int)
    assert line + source.count("\n") <= 35
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", source, stdout=asyncio.subprocess.PIPE, cwd=README.parent
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert re.fullmatch(r"(ACTIVE http://127\.0\.0\.1:\d+/\S+\n){2}", out.decode())


async def test_each_snippet_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=100) as emulator, LoopsClient("any-key", base_url=emulator.url) as loops:
        session = await loops.sessions.create()
        sampler = await loops.samplers.create(session_id=session.id, base_model="Qwen/Qwen3-8B")
        for snippet in SNIPPETS[1:]:
            if snippet in TEST_FILES:
                continue
            # Each stands for itself, but for the client and what was made with it.
            names: dict[str, object] = {"loops": loops, "session": session, "sampler": sampler, "__name__": "readme"}
            source, line = snippet.values
            assert isinstance(source, str)
            tree = ast.parse(source, str(README))
            ast.increment_lineno(tree, int(str(line)) - 1)
            await run(compile(tree, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    shown = capsys.readouterr().out
    assert "ACTIVE after" in shown
    assert "None ->" in shown
    assert shown.count("/sync\n") == 6
    assert "released: ('" in shown


@pytest.mark.timeout(90)  # a pytest of its own, on a machine that may be busy
def test_the_test_file_passes_in_a_project_of_its_own(tmp_path: Path) -> None:
    (snippet,) = TEST_FILES
    (tmp_path / "test_readme_snippet.py").write_text(str(snippet.values[0]), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "pytest", "--asyncio-mode=strict", "-p", "no:cacheprovider"]
    # What is of no use here takes seconds to load.
    command += ["-p", "no:schemathesis", "-p", "no:hypothesispytest"]
    command += ["-W", "error", "-W", "ignore:The configuration option", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=80)  # noqa: S603
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^=+ 3 passed in", run.stdout, re.MULTILINE)


@pytest.mark.timeout(90)
def test_an_emulator_for_a_session_takes_the_place_of_the_fixture(pytester: pytest.Pytester) -> None:
    (source,) = [str(snippet.values[0]) for snippet in SNIPPETS if 'scope="session"' in str(snippet.values[0])]
    pytester.makeconftest(source)
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from loops_async import LoopsClient

        async def create():
            async with LoopsClient() as loops:
                await loops.sessions.create()

        @pytest.mark.parametrize("turn", range(2))
        def test_it(turn, loops_emulator):
            asyncio.run(create())
            assert len(loops_emulator.received) == turn + 1
        """
    )
    pytester.runpytest_subprocess("-p", "no:schemathesis", "-p", "no:cacheprovider", timeout=80).assert_outcomes(
        passed=2
    )


def test_the_quick_start_is_two_commands() -> None:
    section = TEXT.split("## Quick start", 1)[1]
    block = re.search(r"^```\w*\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert block is not None
    demo, tests = block[1].splitlines()
    for command in (demo, tests):
        assert command.startswith("python3 -m venv ")
    assert demo.endswith("loops-async demo")
    assert "pytest" in tests


def test_the_error_tree_is_the_one_in_the_code() -> None:
    from loops_async.errors import LoopsError

    def names(kind: type[LoopsError]) -> set[str]:
        return {kind.__name__}.union(*(names(each) for each in kind.__subclasses__()))

    tree = TEXT.split("## Errors", 1)[1].split("```", 2)[1]
    assert set(re.findall(r"(?:^|── )([A-Z]\w+)", tree, re.MULTILINE)) == names(LoopsError)


def test_the_command_of_the_emulator_serves(tmp_path: Path) -> None:
    section = TEXT.split("## The emulator", 1)[1]
    block = re.search(r"^```sh\n(loops-async emulator .*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert block is not None
    (tmp_path / "faults.json").write_text('[{"status": 503}]')
    words = [
        word.replace("faults.json", str(tmp_path / "faults.json"))
        for word in shlex.split(block[1].replace("\\\n", " "))
    ]
    with started(*words[1:]) as process:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", first_line(process))


def test_the_json_of_the_page_is_read() -> None:
    section = TEXT.split("## The emulator", 1)[1]
    lifecycles, fault = re.search(r"`(\{\"\*\": .*?\]\})`", section), re.search(r"`(\{\"method\": .*?\})`", section)
    assert lifecycles is not None
    assert fault is not None
    assert [stage.status for stage in parse_lifecycles(lifecycles[1])["*"]] == ["BUILDING", "ACTIVE", "SCALED_TO_ZERO"]
    assert parse_faults(fault[1])[0].times is None
