"""What the commands show, as pure functions of what they know."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from loops_async import DeploymentStatus, Sampler, StatusChange
from loops_async.cli._live import Board, Row, table
from loops_async.cli._plain import status_line, url_lines

CREATED = datetime(2026, 11, 3, 12, tzinfo=UTC)
LONG_NAME = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"


def sampler(id: str = "s4mpl3r", base_model: str = "Qwen/Qwen3-8B") -> Sampler:
    url = f"https://model-{id}.api.baseten.co/deployment/{id}/sync"
    return Sampler(id, url, base_model, CREATED, DeploymentStatus.BUILDING)


def change(previous: str | None, status: str, elapsed: float, of: Sampler | None = None) -> StatusChange:
    return StatusChange(of or sampler(), previous, status, elapsed)


def drawn(*rows: Row, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(table(rows))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_table_counts_statuses_and_has_a_line_for_each_row() -> None:
    lines = drawn(
        Row("Qwen/Qwen3-8B", "aaa", ("BUILDING", "ACTIVE"), 12.34),
        Row("Qwen/Qwen3-8B", "bbb", ("BUILDING",), 3.0),
        Row("Qwen/Qwen3-0.6B", "ccc", ("BUILDING",), 3.0),
    )
    assert lines[0] == "1 ACTIVE, 2 BUILDING"
    assert [line.split() for line in lines[2:]] == [
        ["Qwen/Qwen3-8B", "aaa", "ACTIVE", "12.3", "■■"],
        ["Qwen/Qwen3-8B", "bbb", "BUILDING", "3.0", "■"],
        ["Qwen/Qwen3-0.6B", "ccc", "BUILDING", "3.0", "■"],
    ]


def test_table_takes_names_from_outside_literally() -> None:
    assert "[red]x[/]" in drawn(Row("[red]x[/]", "[b]", ("[i]NEW[/i]",), 0.0))[2]


def test_table_folds_a_long_name_and_keeps_the_status_whole_at_80_columns() -> None:
    lines = drawn(Row(LONG_NAME, "s4mpl3r", ("BUILDING", "SCALED_TO_ZERO"), 100.0))
    assert "SCALED_TO_ZERO" in lines[2]
    assert "".join(line[: lines[2].index("s4mpl3r")].strip() for line in lines[2:]) == LONG_NAME
    assert all(len(line) <= 80 for line in lines)


def test_board_runs_the_clock_of_a_sampler_until_it_settles() -> None:
    now = 100.0
    board = Board(lambda: now)
    board.changed(change(None, "BUILDING", 1.0))
    now = 105.0
    assert board.rows() == (Row("Qwen/Qwen3-8B", "s4mpl3r", ("BUILDING",), 6.0),)
    board.changed(change("BUILDING", "ACTIVE", 5.5))
    now = 200.0
    assert board.rows() == (Row("Qwen/Qwen3-8B", "s4mpl3r", ("BUILDING", "ACTIVE"), 5.5),)


def test_board_keeps_the_order_in_which_samplers_were_first_seen() -> None:
    board = Board(lambda: 0.0)
    for each in ("b", "a", "b"):
        board.changed(change(None, "BUILDING", 0.0, sampler(each)))
    assert [row.sampler_id for row in board.rows()] == ["b", "a"]


@pytest.mark.parametrize(
    ("previous", "line"),
    [
        (None, "   1.2 s  s4mpl3r  Qwen/Qwen3-8B  DEPLOYING"),
        ("BUILDING", "   1.2 s  s4mpl3r  Qwen/Qwen3-8B  BUILDING -> DEPLOYING"),
    ],
)
def test_status_line(previous: str | None, line: str) -> None:
    assert status_line(change(previous, "DEPLOYING", 1.23)) == line


def test_urls_stand_in_columns_where_they_fit() -> None:
    samplers = [sampler("aaa"), sampler("bbb", "Qwen/Qwen3-0.6B")]
    lines = [
        "Qwen/Qwen3-8B    aaa  https://model-aaa.api.baseten.co/deployment/aaa/sync",
        "Qwen/Qwen3-0.6B  bbb  https://model-bbb.api.baseten.co/deployment/bbb/sync",
    ]
    assert url_lines(samplers) == lines
    assert url_lines(samplers, len(lines[0])) == lines
    assert url_lines([]) == []


def test_urls_stand_on_lines_of_their_own_where_the_columns_do_not_fit() -> None:
    assert url_lines([sampler("aaa", LONG_NAME)], 80) == [
        f"{LONG_NAME}  aaa",
        "  https://model-aaa.api.baseten.co/deployment/aaa/sync",
    ]
