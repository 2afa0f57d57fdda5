"""The cache of how long samplers take."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops_async.cli._durations import KEPT, Durations, cache_file


def test_what_one_launch_learns_the_next_one_knows(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "durations.json"
    Durations("https://one", path).add([("a", 10.0), ("a", 30.0), ("a", 500.0), ("b", 1.0)])
    Durations("https://two", path).add([("a", 7.0)])
    known = Durations("https://one", path)
    assert (known.typical("a"), known.typical("b"), known.typical("c")) == (30.0, 1.0, None)
    assert Durations("https://two", path).typical("a") == 7.0
    assert list(path.parent.iterdir()) == [path]


def test_only_the_newest_count(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    durations = Durations("s", path)
    durations.add([("a", 900.0)] * KEPT)
    durations.add([("a", 10.0)] * KEPT)
    assert Durations("s", path).typical("a") == 10.0


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"seconds": 1}', b'{"seconds": {"s a": 1}}', b'{"seconds": {"s a": ["x", -1, null, NaN]}}'],
)
def test_what_cannot_be_read_is_done_without(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_bytes(content)
    durations = Durations("s", path)
    assert durations.typical("a") is None
    durations.add([("a", 2.0)])
    assert Durations("s", path).typical("a") == 2.0


def test_what_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    durations = Durations("s", tmp_path / "file" / "durations.json")
    durations.add([("a", 2.0)])
    assert durations.typical("a") == 2.0


def test_the_cache_is_where_users_have_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "loops-async" / "durations.json"
