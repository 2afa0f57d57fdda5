"""What the log says about polls: changes of status, and outages that last."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from loops_async import LoopsClient, PollPolicy, Sampler, TransportError, wait_until_active, wait_until_down
from loops_async._wait import outage
from loops_async._wait.outage import OUTAGE_WARNING_AFTER_S, Outage

from ..fleet_server import FleetServer
from ..support import KEY, QUICK_RETRY

pytestmark = pytest.mark.quick_clock

POLICY = PollPolicy(initial=0.02, factor=1.0, maximum=0.02, multiples={})
WHEN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "loops_async")
    return caplog


def start(client: LoopsClient, sampler_id: str, **arguments: Any) -> asyncio.Task[Sampler]:
    return asyncio.create_task(wait_until_active(client, sampler_id, **{"policy": POLICY, **arguments}))


def lines(log: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level]


async def until_polled(server: FleetServer, more: int = 2) -> None:
    seen = server.requests.total()
    async with asyncio.timeout(5):
        while server.requests.total() < seen + more:
            await asyncio.sleep(0.001)


def test_an_outage_is_reported_once_and_so_is_its_end(log: pytest.LogCaptureFixture) -> None:
    polls = Outage()
    for now in range(100, 110):
        polls.record_failure(TransportError("refused", "GET", "/x"), float(now))
        polls.report(float(now))
    assert polls.report_at == 100.0 + OUTAGE_WARNING_AFTER_S
    assert not log.records
    for now in range(110, 130):
        polls.report(float(now))
        polls.record_failure(TransportError("timed out", "GET", "/x"), float(now))
    (warning,) = lines(log, logging.WARNING)
    assert re.search(rf"since {WHEN} \(10 s\).*GET /x: refused", warning)
    polls.record_success(133.0)
    polls.record_success(134.0)
    assert lines(log) == ["polls work again, after 33 s of failures"]
    polls.report(1e9)
    assert len(log.records) == 2


def test_a_short_outage_is_not_worth_a_line(log: pytest.LogCaptureFixture) -> None:
    polls = Outage()
    for now in range(0, 100, 10):
        polls.record_failure(TransportError("refused"), float(now))
        polls.report(now + 9.9)
        polls.record_success(now + 9.9)
    assert not log.records


@pytest.mark.parametrize("count", [1, 30])
async def test_an_outage_of_all_polls_is_reported_while_it_lasts(
    client: LoopsClient,
    server: FleetServer,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    monkeypatch.setattr(outage, "OUTAGE_WARNING_AFTER_S", 0.15)
    ids = server.add(count, "BUILDING", "own")
    # The pause after a failure is longer than the time after which it is reported.
    policy = PollPolicy(initial=0.6, factor=1, maximum=0.6)
    waits = [start(client, each, policy=policy) for each in ids]
    server.get_status = 503
    server.list_answers = [web.Response(status=503), web.Response(status=503)]
    await until_polled(server, 1)
    await asyncio.sleep(0.4)
    (warning,) = lines(log, logging.WARNING)
    assert re.search(rf"all polls have failed since {WHEN} .*503", warning)
    server.get_status = 200
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)
    assert len(lines(log, logging.WARNING)) == 1
    assert [line for line in lines(log) if "again" in line] == ["polls work again, after 1 s of failures"]


async def test_one_sampler_that_cannot_be_polled_is_no_outage(
    client: LoopsClient, server: FleetServer, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "OUTAGE_WARNING_AFTER_S", 0.2)

    async def unavailable(_: web.Request) -> web.Response:
        return web.Response(status=503)

    server.add(2, "BUILDING", "own")
    server.get_answers["own0"] = unavailable
    waits = [start(client, "own0"), start(client, "own1")]
    await asyncio.sleep(0.6)
    assert not lines(log, logging.WARNING)
    for wait in waits:
        wait.cancel()


async def test_an_outage_ends_with_the_last_wait(
    client: LoopsClient, server: FleetServer, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "OUTAGE_WARNING_AFTER_S", 0.1)
    server.add(1, "ACTIVE", "own")
    server.get_status = 503
    waiting = start(client, "own0")
    await until_polled(server, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.2)
    server.get_status = 200
    await start(client, "own0")
    assert not lines(log, logging.WARNING)
    assert lines(log) == ["sampler own0 is ACTIVE"]


@pytest.mark.parametrize("count", [1, 30])
async def test_each_change_of_status_is_one_line_however_many_wait(
    client: LoopsClient, server: FleetServer, log: pytest.LogCaptureFixture, count: int
) -> None:
    ids = server.add(count, "BUILDING", "own")
    guard = asyncio.create_task(wait_until_down(client, ids[0], policy=POLICY))
    waits = [start(client, each) for each in ids for _ in range(3)]
    await until_polled(server)
    server.set_all(ids, "DEPLOYING")
    await until_polled(server, 3 if count == 1 else 2)
    server.set_all(ids, "ACTIVE")
    await asyncio.gather(*waits)
    guard.cancel()
    assert [line for line in lines(log) if "own0 " in line] == [
        "sampler own0 is BUILDING",
        "sampler own0 changed from BUILDING to DEPLOYING",
        "sampler own0 changed from DEPLOYING to ACTIVE",
    ]
    assert len(lines(log)) == 3 * count
    assert {record.name for record in log.records if record.levelno >= logging.INFO} == {"loops_async"}


async def test_nothing_is_written_above_info_when_all_is_well(
    client: LoopsClient, server: FleetServer, log: pytest.LogCaptureFixture
) -> None:
    log.set_level(logging.WARNING, "loops_async")
    server.add(1, "ACTIVE", "own")
    await start(client, "own0")
    assert not log.records
