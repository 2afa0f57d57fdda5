"""What the README says runs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loops_async.emulator import BackgroundEmulator

from .pages import LIFECYCLES, QUICK_PYTEST, PageRun, snippets

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
QUICK_START, *SNIPPETS = snippets(TEXT)
TEST_FILES = [snippet for snippet in SNIPPETS if "\nasync def test_" in snippet.source]
"""Snippets that are there for pytest to run."""


def test_the_quick_start_is_two_commands() -> None:
    assert TEXT[: TEXT.index("```")].rstrip().endswith("## Quick start")
    install, tests = QUICK_START.source.splitlines()
    assert install.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert tests.startswith(".venv/bin/pytest ")


def test_the_page_is_short() -> None:
    assert len(TEXT.encode()) <= 11_000


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", TEXT)
    local = [target for target in targets if not target.startswith("https://")]
    assert local
    assert [target for target in local if not (README.parent / target).exists()] == []


async def test_a_complete_program_comes_early_and_runs_by_itself() -> None:
    program = SNIPPETS[0]
    assert program.is_program
    assert program.line + program.source.count("\n") <= 35
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program.source, stdout=asyncio.subprocess.PIPE, cwd=README.parent
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert re.fullmatch(r"(ACTIVE http://127\.0\.0\.1:\d+/\S+\n){2}", out.decode())


@pytest.mark.timeout(120)  # processes of their own, on a machine that may be busy
async def test_each_snippet_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BASETEN_API_KEY", "key")
    monkeypatch.setenv("PYTHONPATH", str(README.parent))
    printed = []
    with BackgroundEmulator(speed=1000, lifecycles=LIFECYCLES, api_key="key") as emulator:
        monkeypatch.setenv("LOOPS_BASE_URL", emulator.url)
        for snippet in SNIPPETS[1:]:
            if snippet not in TEST_FILES:
                # Each stands for itself.
                run = PageRun(README, tmp_path)
                await run.run(snippet)
                printed.append(run.printed)
        assert not emulator.billed
    launching, waiting, command_line = printed
    assert re.fullmatch(r"(Qwen/Qwen3-(8|0\.6)B \d+\.0 None\n){2}", launching)
    assert re.search(r"^ACTIVE\nserves at http://", waiting, re.MULTILINE)
    assert command_line.count("http://") >= 4


@pytest.mark.timeout(90)  # a pytest of its own, on a machine that may be busy
def test_the_test_file_passes_in_a_project_of_its_own(tmp_path: Path) -> None:
    (snippet,) = TEST_FILES
    (tmp_path / "test_readme_snippet.py").write_text(snippet.source, encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "pytest", "--asyncio-mode=strict", *QUICK_PYTEST.split()]
    command += ["-W", "error", "-W", "ignore:The configuration option", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    run = subprocess.run(  # noqa: S603 -- a command of this file
        command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=80
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^=+ 2 passed in", run.stdout, re.MULTILINE)
