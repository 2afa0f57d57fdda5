"""Run the snippets of a page of Markdown, in the order of the page.

What a fenced block is follows from its language and its first line:

- A block whose first line is a comment with the name of a file, such as `# evaluate.py`, is written to that file.
- Other `python` is run. A complete program, which calls `asyncio.run()` or `loops_async.run()`, gets a process of its
  own. Everything else shares the names and the event loop of its page, and may use `await` at its top level.
- `sh` is run by bash.
- `text` is what the block before it printed, with `...` for whatever differs from run to run.

All of it happens in an empty directory, and `LOOPS_BASE_URL` leads to an emulator that belongs to the page.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import FunctionType

from attrs import define, field, frozen

from ..processes import forked

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_FILE_NAME = re.compile(r"# ([\w.-]+\.\w+)")
_RUNS_A_LOOP = re.compile(r"^(asyncio|loops_async)\.run\(", re.MULTILINE)

PROCESS_TIMEOUT_S = 90

LIFECYCLES = {"*": [("LOADING_MODEL", 1.0), ("ACTIVE", None)]}
"""For the emulator of a page: with the default policy, such a sampler is found to be ACTIVE after a quarter second."""

QUICK_PYTEST = "--assert=plain -p no:schemathesis -p no:hypothesispytest -p no:xdist -p no:cacheprovider"
"""Arguments without what is of no use on a page, which takes seconds to load."""


@frozen
class Snippet:
    """One fenced block of a page."""

    language: str
    source: str
    line: int
    """Number of its first line within the page."""

    @property
    def file_name(self) -> str | None:
        """Name of the file that it is; None for a block that is to be run."""
        match = _FILE_NAME.fullmatch(self.source.partition("\n")[0])
        return match[1] if match is not None else None

    @property
    def is_program(self) -> bool:
        """Whether it is a complete program, and not a part of the page's."""
        return self.language == "python" and _RUNS_A_LOOP.search(self.source) is not None


def snippets(text: str) -> list[Snippet]:
    """Return the fenced blocks of a page that have a language."""
    found = []
    for match in _BLOCK.finditer(text):
        lines = (line.removeprefix(match["indent"]) for line in match["body"].splitlines(keepends=True))
        found.append(Snippet(match["language"], "".join(lines), text[: match.start()].count("\n") + 2))
    return found


@define
class PageRun:
    """A page that is being run."""

    path: Path
    """The page, which tracebacks name."""
    directory: Path
    """Where its files are written and its programs run."""
    names: dict[str, object] = field(factory=lambda: {"__name__": "page"})
    printed: str = ""
    """What the last block that was run has printed."""

    async def run(self, snippet: Snippet) -> None:
        """Run one block.

        Raises:
            AssertionError: A process failed, or the output is not what the page says.
            Exception: Whatever the block raised.
        """
        if snippet.language == "text":
            self._compare(snippet)
        elif snippet.file_name is not None:
            (self.directory / snippet.file_name).write_text(snippet.source, encoding="utf-8")
        elif snippet.language == "sh":
            await self._process(snippet, "bash", "-euo", "pipefail", "-c", snippet.source)
        elif snippet.is_program:
            await self._program(snippet)
        elif snippet.language == "python":
            await self._python(snippet)
        else:
            raise AssertionError(f"{self.path.name}:{snippet.line}: who runs {snippet.language}?")

    async def _python(self, snippet: Snippet) -> None:
        tree = ast.parse(snippet.source, str(self.path))
        ast.increment_lineno(tree, snippet.line - 1)
        code = compile(tree, str(self.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with redirect_stdout(io.StringIO()) as stdout:
            result = FunctionType(code, self.names)()
            if inspect.iscoroutine(result):
                await result
        self.printed = stdout.getvalue()

    async def _program(self, snippet: Snippet) -> None:
        async with asyncio.timeout(PROCESS_TIMEOUT_S), forked(snippet.source, directory=self.directory) as process:
            self._end(snippet, *await process.communicate(), process.returncode)

    async def _process(self, snippet: Snippet, *command: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.directory,
            env={**os.environ, "PATH": path, "COLUMNS": "120", "PYTEST_ADDOPTS": QUICK_PYTEST},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PROCESS_TIMEOUT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._end(snippet, out, err, process.returncode)

    def _end(self, snippet: Snippet, out: bytes, err: bytes, code: int | None) -> None:
        self.printed = out.decode()
        assert code == 0, f"{self.path.name}:{snippet.line} exited with {code}\n{self.printed}\n{err.decode()}"

    def _compare(self, snippet: Snippet) -> None:
        expected = snippet.source.replace("\n...\n", "\n...")
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        same = doctest.OutputChecker().check_output(expected, self.printed, flags)
        assert same, (
            f"{self.path.name}:{snippet.line}: the page shows\n{expected}\nand what was printed is\n{self.printed}"
        )
