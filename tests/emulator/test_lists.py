"""Lists of thousands: what did not change is not worked out again."""

from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator
from loops_async.emulator._lifecycle import Lifecycles
from loops_async.emulator._progress import Due, Progress
from loops_async.emulator._shapes import CreateSampler
from loops_async.emulator._site import Site
from loops_async.emulator._state import ControlPlane

from .support import SAMPLERS, Client

WALL = datetime(2026, 5, 1, 12, tzinfo=UTC)
COURSE = [("BUILDING", 2.0), ("DEPLOYING", 8.0), ("ACTIVE", None)]


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    """Every look for the next transition of a sampler."""
    looks: list[Progress] = []
    original = Progress._due

    def due(self: Progress) -> Due | None:
        looks.append(self)
        return original(self)

    monkeypatch.setattr(Progress, "_due", due)
    return looks


def plane_of(count: int) -> ControlPlane:
    plane = ControlPlane(Lifecycles.of({"*": COURSE}))
    session_id = plane.create_session()
    for _ in range(count):
        plane.create_sampler(CreateSampler(session_id, "m", None, None, None, None, None, None), 0.0, WALL)
    return plane


def statuses(plane: ControlPlane, now: float) -> set[str]:
    return {sampler.progress.status for sampler in plane.samplers(now)}


def test_transitions_are_worked_out_when_they_are_due_and_not_before(worked_out: list[Progress]) -> None:
    plane = plane_of(50)
    worked_out.clear()
    for now in (0.0, 1.0, 1.999):
        assert statuses(plane, now) == {"BUILDING"}
    assert worked_out == []
    assert statuses(plane, 2.0) == {"DEPLOYING"}
    assert len(worked_out) <= 3 * 50
    assert statuses(plane, 10.0) == {"ACTIVE"}
    worked_out.clear()
    for now in (11.0, 1e3, 1e6):
        assert statuses(plane, now) == {"ACTIVE"}
    assert [len(list(plane.samplers_at(5e5))), worked_out] == [50, []]


def test_an_act_is_seen_at_once() -> None:
    plane = plane_of(2)
    assert statuses(plane, 1.0) == {"BUILDING"}
    one, other = [sampler.id for sampler in plane.samplers(1.0)]
    plane.deactivate(one, 1.5)
    plane.force(other, "UNHEALTHY", 1.5)
    assert statuses(plane, 1.6) == {"DEACTIVATING", "UNHEALTHY"}
    assert statuses(plane, 3.5) == {"INACTIVE", "UNHEALTHY"}


async def test_a_list_shows_each_sampler_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(Site, "now", lambda _: clock[0])
    async with Emulator(lifecycles={"*": COURSE}) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)

        async def listed(now: float) -> list[Any]:
            clock[0] = now
            return [each["status"]["name"] for each in (await client.get(SAMPLERS))["samplers"]]

        await client.create()
        clock[0] = 1.0
        await client.create()
        assert [await listed(now) for now in (1.0, 2.0, 3.0)] == [
            ["BUILDING"] * 2,
            ["BUILDING", "DEPLOYING"],
            ["DEPLOYING"] * 2,
        ]
        # What is shown of the past stays in the past.
        emulator.list_lag = 2.0
        assert await listed(3.0) == ["BUILDING"] * 2
        emulator.list_lag = 0.0
        assert await listed(3.0) == ["DEPLOYING"] * 2
        assert await listed(20.0) == ["ACTIVE"] * 2
