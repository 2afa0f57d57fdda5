"""The times that samplers of a base model took to come up, stored in the user's cache directory."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

KEPT: Final = 20
"""Number of durations that are kept for each base model: the newest ones, since the service may have become faster."""


def cache_file() -> Path:
    """Return the path of the file with the durations."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        folder = Path(base)
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path.home() / ".cache"
    return folder / "loops-async" / "durations.json"


class Durations:
    """Seconds from create to ACTIVE, by control plane and base model. A file that cannot be used is ignored.

    Args:
        service: URL of the control plane. Its port is ignored: an emulator has another one at each start, and the file
            would grow. Without a URL, no file is read or written.
        path: The file; by default that of the user.
    """

    def __init__(self, service: str | None = None, path: Path | None = None) -> None:
        self._service = urlsplit(service).hostname if service is not None else None
        self._path = path
        if service is not None:
            with suppress(RuntimeError):
                self._path = path or cache_file()
        self._known = _read(self._path)

    def typical(self, base_model: str) -> float | None:
        """Return the median of a base model, or None if there are no durations."""
        seconds = self._known.get(self._key(base_model))
        return median(seconds) if seconds else None

    def add(self, new: Iterable[tuple[str, float]]) -> None:
        """Add pairs of base model and seconds, and write the file."""
        new = list(new)
        if not new or self._path is None:
            return
        # Another launch may have written in the meantime.
        self._known = _read(self._path)
        for base_model, seconds in new:
            key = self._key(base_model)
            self._known[key] = [*self._known.get(key, []), round(seconds, 1)][-KEPT:]
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False, encoding="utf-8") as file:
                json.dump({"seconds": self._known}, file)
            os.replace(file.name, self._path)

    def _key(self, base_model: str) -> str:
        return f"{self._service} {base_model}"


def _read(path: Path | None) -> dict[str, list[float]]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    seconds = document.get("seconds") if isinstance(document, dict) else None
    if not isinstance(seconds, dict):
        return {}
    return {
        key: [float(each) for each in values if _is_duration(each)][-KEPT:]
        for key, values in seconds.items()
        if isinstance(values, list)
    }


LONGEST: Final = 1e9
"""Seconds beyond which a value is not a duration: the file is damaged."""


def _is_duration(value: object) -> bool:
    # A whole number may be too large to be a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LONGEST
