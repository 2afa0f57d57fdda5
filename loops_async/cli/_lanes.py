"""Turns the records of a launch into lanes: the statuses of each sampler, with their times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from loops_async import StatusChange

CREATING: Final = "CREATING"
"""The time between a create and its response."""
UNANSWERED: Final = "UNANSWERED"
"""A create whose response is not in the journal."""
CREATED: Final = "CREATED"
"""A sampler that exists; a journal does not have its status."""

ENDS: Final = frozenset({"deactivated", "detached", "kept"})
"""Events that are the last ones of a sampler in a journal."""

NOTE: Final = "A journal has no statuses: this shows when samplers were requested, created and deactivated."


@frozen
class Span:
    """A status and how long it lasted, in seconds since the beginning of the chart."""

    status: str
    begin: float
    end: float


@frozen
class Lane:
    """The statuses of one sampler, with their times."""

    base_model: str
    sampler_id: str
    """Id of the sampler, or empty for a create without one."""
    spans: tuple[Span, ...]
    """Statuses in order, without gaps; never empty."""
    outcome: str = ""
    """Label of the lane; if empty, the label is the last status."""


@frozen
class Chart:
    """The lanes of a picture, and the time that it covers."""

    lanes: tuple[Lane, ...]
    seconds: float
    """Seconds that the chart covers."""
    note: str = ""

    def document(self) -> dict[str, Any]:
        """Return the document for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "note": self.note,
            "lanes": [
                {
                    "base_model": lane.base_model,
                    "id": lane.sampler_id or None,
                    "outcome": lane.outcome or lane.spans[-1].status,
                    "spans": [
                        {"status": span.status, "begin": round(span.begin, 3), "end": round(span.end, 3)}
                        for span in lane.spans
                    ],
                }
                for lane in self.lanes
            ],
        }


def of_changes(
    changes: Iterable[tuple[float, StatusChange]],
    seconds: float,
    deactivated: Mapping[str, float] = MappingProxyType({}),
) -> Chart:
    """Make a chart of status changes, each with the time at which it was seen, in seconds.

    The lane of a sampler ends at its time in *deactivated* (seconds by id), or else at *seconds*.
    """
    courses: dict[str, list[tuple[str, float]]] = {}
    models: dict[str, str] = {}
    for at, change in changes:
        course = courses.setdefault(change.sampler.id, [])
        models[change.sampler.id] = change.sampler.base_model
        # The first status began before it was seen; its lane begins with the wait.
        course.append((change.status, at if course else max(0.0, at - change.elapsed)))
    lanes = []
    for sampler_id, course in courses.items():
        end = deactivated.get(sampler_id, seconds)
        ends = [*(begin for _, begin in course[1:]), max(end, course[-1][1])]
        spans = tuple(Span(status, begin, end) for (status, begin), end in zip(course, ends, strict=True))
        lanes.append(Lane(models[sampler_id], sampler_id, spans))
    return Chart(_sorted(lanes), max([seconds, *(lane.spans[-1].end for lane in lanes)]))


def of_journal(path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Chart:
    """Make a chart of a journal, whose lines are described in `loops_async.journal`. Other lines are ignored.

    It covers the time from the first record to the last one, or to *now* if a sampler is still billed or a create has
    no response.

    Raises:
        OSError: It cannot be read.
        ValueError: No line of it is a record with a time.
    """
    records = [found for line in path.read_bytes().splitlines() if (found := _record(line)) is not None]
    if not records:
        raise ValueError(f"{path}: this is not a journal of a launch: no line of it is a record")
    first, last = min(at for at, _ in records), max(at for at, _ in records)
    creates: dict[tuple[str, int], dict[str, Any]] = {}
    ends: dict[str, tuple[str, float]] = {}
    for at, record in records:
        seconds = (at - first).total_seconds()
        event, create = record["event"], creates.get((str(record.get("launch")), _number(record.get("create"))))
        if event == "intent":
            spec = record.get("spec")
            model = str(spec.get("base_model", "")) if isinstance(spec, dict) else ""
            key = str(record.get("launch")), _number(record.get("create"))
            # A create that was rejected may be sent again under the same number.
            creates.setdefault(key, {"model": model, "begin": seconds}).pop("rejected", None)
        elif event == "rejected" and create is not None:
            create["rejected"] = seconds
        elif event == "created" and create is not None:
            create |= {"id": str(record.get("sampler_id")), "made": seconds}
        elif event == "acknowledged" and create is not None:
            create["acknowledged"] = seconds
        elif event == "resumed":
            # A later launch has resumed a sampler that an earlier one kept.
            ends.pop(str(record.get("sampler_id")), None)
        elif event in ENDS:
            sampler_id = str(record.get("sampler_id"))
            # A kept sampler may have been deactivated later.
            if event == "deactivated" or sampler_id not in ends:
                ends[sampler_id] = event, seconds
    if not all("rejected" in each or "acknowledged" in each or each.get("id") in ends for each in creates.values()):
        last = max(last, now())
    length = (last - first).total_seconds()
    return Chart(_sorted(_journal_lane(each, ends, length) for each in creates.values()), length, NOTE)


def _journal_lane(create: dict[str, Any], ends: dict[str, tuple[str, float]], length: float) -> Lane:
    begin = create["begin"]
    if "made" in create:
        outcome, end = ends.get(create["id"], ("billed", length))
        made = create["made"]
        spans = Span(CREATING, begin, made), Span(CREATED, made, max(made, end))
        return Lane(create["model"], create["id"], spans, outcome)
    if "rejected" in create:
        return Lane(create["model"], "", (Span(CREATING, begin, create["rejected"]),), "rejected")
    if "acknowledged" in create:
        return Lane(create["model"], "", (Span(UNANSWERED, begin, create["acknowledged"]),), "acknowledged")
    return Lane(create["model"], "", (Span(UNANSWERED, begin, length),))


def _record(line: bytes) -> tuple[datetime, dict[str, Any]] | None:
    try:
        record = json.loads(line)
        at = datetime.fromisoformat(record["at"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC), record


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _sorted(lanes: Iterable[Lane]) -> tuple[Lane, ...]:
    """Sort lanes by base model, and those of one model by the begin of the last status."""
    return tuple(sorted(lanes, key=lambda lane: (lane.base_model, lane.spans[-1].begin, lane.sampler_id)))
