"""`--spec FILE.toml`: a file with the samplers to launch.

```toml
[[sampler]]
base_model = "Qwen/Qwen3-8B"
count = 2
max_seq_length = 8192
```
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import fields

from loops_async import SamplerSpec

NAMES = tuple(each.name for each in fields(SamplerSpec))
MOST = 10_000
"""The most samplers of one launch: a larger count is a typing mistake."""


def read(path: Path) -> list[SamplerSpec]:
    """Read a spec file; return its specs, each as often as its `count` says.

    Raises:
        ValueError: The file cannot be read or is malformed; the message says where and why.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ValueError(f"{path}: {exc.strerror or exc}") from None
    except UnicodeError:
        raise ValueError(f"{path}: this is no text in UTF-8") from None
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: not TOML: {exc}") from None
    _check_names(str(path), document, ["sampler"])
    tables = document.get("sampler")
    if not isinstance(tables, list) or not tables or not all(isinstance(each, dict) for each in tables):
        raise ValueError(f"{path}: it needs a [[sampler]] with a base_model for each kind of sampler")
    specs = []
    for number, table in enumerate(tables, start=1):
        specs += _samplers(f"{path}: [[sampler]] {number}", table)
        if len(specs) > MOST:
            raise ValueError(f"{path}: more than {MOST:,} samplers")
    return specs


def _samplers(where: str, table: dict[str, Any]) -> list[SamplerSpec]:
    _check_names(where, table, [*NAMES, "count"])
    arguments = dict(table)
    count = arguments.pop("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise ValueError(f"{where}: count must be a whole number from 1 to {MOST:,}, not {count!r}")
    if "base_model" not in arguments:
        raise ValueError(f"{where}: base_model is missing")
    try:
        return [SamplerSpec(**arguments)] * count
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{where}: {exc}") from None


def _check_names(where: str, table: dict[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{where}: nothing is called {name!r}; {hint}")
