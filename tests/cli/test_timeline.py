"""Timelines: from what was recorded to lanes, and from lanes to pictures."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from loops_async import Sampler, StatusChange
from loops_async.cli._drawing import WIDTH, _fitted, _pixels, colour, page, svg, ticks
from loops_async.cli._lanes import Chart, Lane, Span, of_changes, of_journal

from .on_plane import BAD, GOOD, QUICK, SLOW, end_of, plane, run, starting, until

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&\x00\x1b[2J\ud800'


def change(sampler_id: str, model: str, status: str, elapsed: float) -> StatusChange:
    sampler = Sampler(sampler_id, "", model, datetime(2026, 11, 3, tzinfo=UTC), status)
    return StatusChange(sampler, None, status, elapsed)


def texts(picture: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314 -- our own


def bars(picture: str) -> list[ET.Element]:
    root = ET.fromstring(picture)  # noqa: S314 -- our own
    return [each for each in root.iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]


def journal(folder: Path, *records: Mapping[str, object]) -> Path:
    path = folder / "launch.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def at(seconds: int) -> str:
    return f"2026-11-03T12:00:{seconds:02}Z"


def test_each_sampler_gets_a_lane_with_a_span_for_each_status() -> None:
    chart = of_changes(
        [
            (1.5, change("b", "slow", "BUILDING", 0.5)),
            (1.5, change("a", "quick", "BUILDING", 0.5)),
            (4.0, change("a", "quick", "ACTIVE", 3.0)),
        ],
        9.0,
    )
    assert chart.lanes == (
        Lane("quick", "a", (Span("BUILDING", 1.0, 4.0), Span("ACTIVE", 4.0, 9.0))),
        Lane("slow", "b", (Span("BUILDING", 1.0, 9.0),)),
    )


def test_of_a_journal_lanes_show_what_it_knows_and_no_more(tmp_path: Path) -> None:
    def intent(number: int, seconds: int) -> dict[str, object]:
        spec = {"base_model": f"model-{number}"}
        return {"event": "intent", "launch": "l", "create": number, "at": at(seconds), "spec": spec}

    path = journal(
        tmp_path,
        {"event": "launch", "launch": "l", "at": at(0), "home": "h", "session_id": "s", "pid": 1},
        *(intent(number, 1) for number in range(4)),
        {"event": "created", "launch": "l", "create": 0, "at": at(2), "sampler_id": "a"},
        {"event": "created", "launch": "l", "create": 1, "at": at(3), "sampler_id": "b"},
        {"event": "rejected", "launch": "l", "create": 2, "at": at(4)},
        {"event": "deactivated", "sampler_id": "a", "at": at(6)},
        {"event": "detached", "sampler_id": "z", "at": at(8)},
    )
    # What a crash, or another program, may have written.
    path.write_bytes(path.read_bytes() + b'[1]\n{"at": "never", "event": "created"}\n\xff\n{"event":"rele')
    chart = of_journal(path, lambda: datetime(2026, 11, 3, 12, 0, 10, tzinfo=UTC))
    # Two of them have no end, so it is drawn up to now.
    assert chart.seconds == 10.0
    assert chart.lanes == (
        Lane("model-0", "a", (Span("CREATING", 1.0, 2.0), Span("CREATED", 2.0, 6.0)), "deactivated"),
        Lane("model-1", "b", (Span("CREATING", 1.0, 3.0), Span("CREATED", 3.0, 10.0)), "billed"),
        Lane("model-2", "", (Span("CREATING", 1.0, 4.0),), "rejected"),
        Lane("model-3", "", (Span("UNANSWERED", 1.0, 10.0),)),
    )
    assert "A journal has no statuses" in chart.note


def test_a_journal_in_which_everything_has_an_end_is_drawn_up_to_its_last_record(tmp_path: Path) -> None:
    spec = {"base_model": "m"}
    events = ["kept", "detached", "deactivated"]
    path = journal(
        tmp_path,
        *({"event": "intent", "launch": "l", "create": n, "at": at(0), "spec": spec} for n in range(4)),
        *({"event": "created", "launch": "l", "create": n, "at": at(1), "sampler_id": f"s{n}"} for n in range(4)),
        *({"event": event, "sampler_id": f"s{n}", "at": at(5)} for n, event in enumerate(events)),
        {"event": "kept", "sampler_id": "s3", "at": at(5)},
        {"event": "resumed", "launch": "k", "sampler_id": "s3", "at": at(6)},
        {"event": "kept", "sampler_id": "s3", "at": at(7)},
        {"event": "intent", "launch": "l", "create": 4, "at": at(0), "spec": spec},
        {"event": "acknowledged", "launch": "l", "create": 4, "at": at(8)},
        {"event": "deactivated", "sampler_id": "s3", "at": at(9)},
    )
    chart = of_journal(path)
    assert chart.seconds == 9.0
    found = {lane.sampler_id: (lane.outcome, lane.spans[-1].end) for lane in chart.lanes}
    assert found == {
        "s0": ("kept", 5.0),
        "s1": ("detached", 5.0),
        "s2": ("deactivated", 5.0),
        "s3": ("deactivated", 9.0),
        "": ("acknowledged", 8.0),
    }


def test_a_bar_ends_when_its_sampler_was_deactivated() -> None:
    changes = [
        (1.0, change("a", "m", "BUILDING", 1.0)),
        (3.0, change("a", "m", "FAILED", 3.0)),
        (5.0, change("b", "m", "ACTIVE", 1.0)),
    ]
    chart = of_changes(changes, 9.0, {"a": 4.0})
    ends = {lane.sampler_id: lane.spans[-1] for lane in chart.lanes}
    assert ends == {"a": Span("FAILED", 3.0, 4.0), "b": Span("ACTIVE", 4.0, 9.0)}


@pytest.mark.parametrize(
    "name", ["W" * 80, "模" * 80, "org/" + "m" * 80, "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", "i"]
)
def test_labels_are_shortened_until_they_are_inside_of_the_picture(name: str) -> None:
    assert _pixels(_fitted(name, 120.0)) <= 120.0
    picture = svg(Chart((Lane(name, name, (Span(name, 0.0, 9999.0),), name),), 9999.0, name))
    for text in ET.fromstring(picture).iter(f"{SVG}text"):  # noqa: S314 -- our own
        x, width = float(text.get("x", "")), _pixels(text.text or "")
        left = {"end": x - width, "middle": x - width / 2}.get(text.get("text-anchor", ""), x)
        assert left >= 0
        assert left + width <= WIDTH


async def test_the_bar_of_a_sampler_that_is_replaced_or_that_failed_ends(tmp_path: Path) -> None:
    document = tmp_path / "launch.json"
    async with plane() as emulator:
        words = ("launch", BAD, SLOW, "--relaunches", "1", "--at-least", "2", "--timeout", "20")
        ended = await run(emulator, *words, "--timeline", str(document), *QUICK)
    assert ended.code == 1
    first, second = (each for each in json.loads(document.read_text())["lanes"] if each["base_model"] == BAD)
    end = json.loads(document.read_text())["seconds"]
    assert first["spans"][-1]["end"] <= second["spans"][0]["begin"] < second["spans"][-1]["end"] <= end
    assert f"  (replaces {first['id']}, relaunch 1 of 1)\n" in ended.errors
    assert ended.errors.count("replaces") == 1


@pytest.mark.parametrize("content", ["", "no journal\n", '{"event": "intent"}\n', "[]\n", "1\n"])
def test_what_is_no_journal_is_said_to_be_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match="this is not a journal"):
        of_journal(tmp_path / "file")


@pytest.mark.parametrize("size", [0, 1, 61, 500])
def test_a_picture_has_a_bar_for_each_span_inside_its_frame(size: int) -> None:
    spans = (Span("BUILDING", 0.0, 10.0), Span("ACTIVE", 10.0, 100.0))
    picture = svg(Chart(tuple(Lane("m", f"s{index}", spans) for index in range(size)), 100.0))
    found = bars(picture)
    assert len(found) == 2 * size
    root = ET.fromstring(picture)  # noqa: S314 -- our own
    for bar in found:
        assert float(bar.get("x", "")) + float(bar.get("width", "")) <= float(root.get("width", ""))
        assert float(bar.get("y", "")) + float(bar.get("height", "")) <= float(root.get("height", ""))


def test_names_from_outside_are_text_and_nothing_else() -> None:
    chart = Chart((Lane(HOSTILE, HOSTILE, (Span(HOSTILE, 0.0, 1.0),), HOSTILE),), 1.0, HOSTILE)
    for picture in (svg(chart), page(chart, HOSTILE)):
        assert "<script" not in picture
        assert "\x1b" not in picture
        picture.encode()
    assert len(bars(svg(chart))) == 1
    assert any("<script>" in text for text in texts(svg(chart)))


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.5, 1.0, 59.0, 600.0, 3600.0, 1e6, 1e9])
def test_there_are_a_few_round_ticks(seconds: float) -> None:
    found = ticks(seconds)
    assert 1 <= len(found) <= 10
    assert found[0] == 0
    assert found[-1] <= seconds


def test_what_ends_badly_is_red() -> None:
    assert colour("BUILD_FAILED") == colour("DEPLOY_FAILED") == colour("FAILED") == colour("UNANSWERED")
    assert colour("A_NEW_ONE") != colour("FAILED")


async def test_a_launch_draws_what_it_saw_however_it_ends(tmp_path: Path) -> None:
    picture, document, html, path = (tmp_path / name for name in ("a.svg", "b.json", "c.html", "launch.jsonl"))
    async with plane() as emulator:
        up, failed = await asyncio.gather(
            run(emulator, "launch", GOOD, "--timeline", str(picture), "--journal", str(path), *QUICK),
            run(emulator, "launch", BAD, "--timeline", str(document), *QUICK),
        )
        emulator.clear_received()
        async with starting(emulator, "launch", SLOW, "--timeline", str(html), *QUICK) as process:
            await until(lambda: len(emulator.requests("GET", "/v1/loops/samplers/{sampler_id}")) > 2)
            process.send_signal(signal.SIGINT)
            interrupted = await end_of(process)
    assert (up.code, failed.code, interrupted.code) == (0, 1, 130)
    assert up.errors.endswith(f"Timeline: {picture}\n")
    assert any(text.startswith("ACTIVE") for text in texts(picture.read_text()))
    (lane,) = json.loads(document.read_text())["lanes"]
    assert (lane["base_model"], lane["outcome"]) == (BAD, "BUILD_FAILED")
    assert lane["spans"][-1].keys() == {"status", "begin", "end"}
    assert f"<td>{SLOW}</td>" in html.read_text()
    of_it, as_json, drawn = await asyncio.gather(
        run(None, "timeline", str(path), key=None),
        run(None, "timeline", str(path), "--json", key=None),
        run(None, "timeline", str(path), "-o", str(tmp_path / "d.html"), key=None),
    )
    assert any(text.startswith("kept") for text in texts(of_it.output))
    assert as_json.json.keys() == {"seconds", "note", "lanes"}
    assert (drawn.code, drawn.output, drawn.errors) == (0, "", f"1 lane in {tmp_path / 'd.html'}\n")


async def test_a_timeline_that_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    kind, folder, missing = await asyncio.gather(
        run(None, "launch", GOOD, "--timeline", "picture.png"),
        run(None, "launch", GOOD, "--timeline", str(tmp_path / "none" / "a.svg")),
        run(None, "timeline", str(tmp_path / "none")),
    )
    assert [each.code for each in (kind, folder, missing)] == [2, 2, 2]
    assert "must end in .svg, .html or .json" in kind.errors
    assert "there is no folder" in folder.errors
    assert missing.errors == f"Error: {tmp_path / 'none'}: No such file or directory\n"
