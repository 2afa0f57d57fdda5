"""The cache of how long samplers take."""

from __future__ import annotations

import json
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
    durations = Durations("https://s", path)
    durations.add([("a", 900.0)] * KEPT)
    durations.add([("a", 10.0)] * KEPT)
    assert Durations("https://s", path).typical("a") == 10.0


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"seconds": 1}', b'{"seconds": {"s a": 1}}', b'{"seconds": {"s a": ["x", -1, null, NaN]}}'],
)
def test_what_cannot_be_read_is_done_without(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_bytes(content)
    durations = Durations("https://s", path)
    assert durations.typical("a") is None
    durations.add([("a", 2.0)])
    assert Durations("https://s", path).typical("a") == 2.0


def test_what_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    durations = Durations("https://s", tmp_path / "file" / "durations.json")
    durations.add([("a", 2.0)])
    assert durations.typical("a") == 2.0


def test_the_cache_is_where_users_have_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "loops-async" / "durations.json"


def test_an_emulator_with_another_port_each_time_does_not_make_the_file_grow(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    for port in range(4000, 4010):
        Durations(f"http://127.0.0.1:{port}", path).add([("a", 1.0)])
    assert list(json.loads(path.read_text())["seconds"]) == ["127.0.0.1 a"]


def test_without_a_service_nothing_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    durations = Durations()
    durations.add([("a", 2.0)])
    assert durations.typical("a") is None
    assert not list(tmp_path.iterdir())
