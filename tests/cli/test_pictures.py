"""What the commands show, as pure functions of what they know."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import starmap
from typing import Any

import pytest
from attrs import evolve

from loops_async import DeploymentStatus, InstanceType, Sampler, StatusChange
from loops_async.cli._formats import url_lines
from loops_async.cli._live import Board, Row, Stage, gpus_of
from loops_async.cli._picture import duration, picture, shortened

CREATED = datetime(2026, 11, 3, 12, tzinfo=UTC)
LONG_NAME = "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"


def sampler(id: str = "s4mpl3r", base_model: str = "Qwen/Qwen3-8B") -> Sampler:
    url = f"https://model-{id}.api.baseten.co/deployment/{id}/sync"
    return Sampler(id, url, base_model, CREATED, DeploymentStatus.BUILDING)


def change(previous: str | None, status: str, elapsed: float, of: Sampler | None = None) -> StatusChange:
    return StatusChange(of or sampler(), previous, status, elapsed)


def row(base_model: str, sampler_id: str, *stages: tuple[str, float], remaining: float | None = None) -> Row:
    return Row(base_model, sampler_id, tuple(starmap(Stage, stages)), sum(each[1] for each in stages), remaining)


def drawn(*rows: Row, **settings: Any) -> list[str]:
    return [line.plain for line in picture(rows, **settings)]


def fleet_of(size: int) -> list[Row]:
    status = ["ACTIVE", "BUILDING", "BUILD_FAILED"]
    return [row(LONG_NAME, f"s{index:06}", (status[index % 3 if index % 50 else 2], 1.0)) for index in range(size)]


def test_picture_counts_statuses_and_has_a_line_for_each_row() -> None:
    lines = drawn(
        row("Qwen/Qwen3-8B", "aaa", ("BUILDING", 4.0), ("ACTIVE", 0.0)),
        row("Qwen/Qwen3-8B", "bbb", ("BUILDING", 3.0), remaining=125.0),
        row("Qwen/Qwen3-0.6B", "ccc", ("BUILDING", 3.0), remaining=0.0),
        expected=5,
        totals=("7.0s",),
    )
    assert lines[0] == "1 ACTIVE, 2 BUILDING, 2 to be created · 7.0s"
    assert lines[1].split() == ["base", "model", "sampler", "status", "elapsed", "to", "go", "stages"]
    # The longest of them fills the bar, and no stage is too short to be seen.
    assert [line.split() for line in lines[2:]] == [
        ["Qwen/Qwen3-8B", "aaa", "ACTIVE", "4.0s", "■" * 19],
        ["Qwen/Qwen3-8B", "bbb", "BUILDING", "3.0s", "~2m05s", "■" * 14],
        ["Qwen/Qwen3-0.6B", "ccc", "BUILDING", "3.0s", "any", "time", "■" * 14],
    ]


def test_without_colours_stages_are_told_by_their_letters() -> None:
    lines = drawn(row("m", "aaa", ("BUILDING", 1.0), ("DEPLOYING", 3.0), ("ACTIVE", 0.0)), mark=None)
    assert re.fullmatch(r"B+D+A", lines[2].split()[-1])


def test_names_from_outside_are_neither_markup_nor_commands() -> None:
    lines = drawn(row("[red]x[/]", "[b]", ("[i]NEW\x1b[2J", 0.0)))
    assert "[red]x[/]" in lines[2]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", [1, 5, 12, 20, 30, 40, 50, 60, 79, 80, 120, 160, 300])
@pytest.mark.parametrize("size", [0, 1, 7])
def test_picture_is_never_wider_than_the_terminal(width: int, size: int) -> None:
    rows = [
        row(LONG_NAME, f"s{index}", ("BUILDING", 300.0), ("SCALED_TO_ZERO", 3900.0), remaining=99.0)
        for index in range(size)
    ]
    lines = drawn(*rows, width=width, totals=("a" * 60,))
    assert len(lines) == size + 2
    assert all(len(line) <= width for line in lines)
    if width >= 30:
        assert all("SCALED_TO_ZERO" in line for line in lines[2:])


@pytest.mark.parametrize("height", [1, 3, 4, 10, 24])
def test_of_more_rows_than_lines_those_that_failed_are_shown(height: int) -> None:
    lines = drawn(*fleet_of(500), height=height)
    assert len(lines) <= max(4, height)
    shown = lines[2:-1]
    assert all("BUILD_FAILED" in line for line in shown)
    assert re.fullmatch(r"… and \d+ more: .*", lines[-1])
    assert len(drawn(*fleet_of(500))) == 502


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.0s"), (99.94, "99.9s"), (99.96, "1m40s"), (3599.4, "59m59s"), (3599.6, "1h00m"), (7320.0, "2h02m")],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_name_that_is_too_long_loses_its_middle() -> None:
    assert shortened(LONG_NAME, 20) == "nvidia/NV…-A12B-BF16"
    assert [len(shortened(LONG_NAME, width)) for width in (1, 3, 4, 5, 40)] == [1, 3, 4, 5, 40]


def test_board_runs_the_clock_of_a_sampler_until_it_settles_and_that_of_its_cost_on() -> None:
    now = 100.0
    board = Board(lambda: now, typical=lambda model: 60.0 if model == "Qwen/Qwen3-8B" else None)
    board.changed(change(None, "BUILDING", 1.0))
    now = 105.0
    assert board.rows() == (row("Qwen/Qwen3-8B", "s4mpl3r", ("BUILDING", 6.0), remaining=54.0),)
    assert board.gpu_minutes == 0
    board.changed(change("BUILDING", "LOADING_MODEL", 6.0))
    now = 106.0
    board.changed(change("LOADING_MODEL", "ACTIVE", 7.0))
    now = 165.0
    stages = (("BUILDING", 6.0), ("LOADING_MODEL", 1.0), ("ACTIVE", 0.0))
    assert board.rows() == (row("Qwen/Qwen3-8B", "s4mpl3r", *stages),)
    assert board.gpu_minutes == pytest.approx(1.0)
    assert board.seconds == 65.0


def test_a_sampler_costs_as_many_gpus_as_it_has() -> None:
    assert gpus_of(sampler()) == 1
    assert gpus_of(evolve(sampler(), node_count=2, instance_type=InstanceType(gpu_count=8))) == 16
    assert gpus_of(evolve(sampler(), instance_type=InstanceType(gpu_count=0))) == 1


def test_board_keeps_the_order_in_which_samplers_were_first_seen() -> None:
    board = Board(lambda: 0.0)
    for each in ("b", "a", "b"):
        board.changed(change(None, "BUILDING", 0.0, sampler(each)))
    assert [row.sampler_id for row in board.rows()] == ["b", "a"]


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
