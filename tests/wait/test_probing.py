"""`probe=`: after ACTIVE, a wait asks the sampler itself whether it answers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loops_async import (
    DeploymentStatus,
    LoopsClient,
    PollPolicy,
    Sampler,
    SamplerFailed,
    WaitTimeout,
    wait_until_active,
    watch,
)

from ..fleet_server import FleetServer, document
from ..support import KEY, QUICK_RETRY

pytestmark = pytest.mark.quick_clock

S = DeploymentStatus
POLICY = PollPolicy(initial=0.01, factor=1.0, maximum=0.02, jitter=0, multiples={})


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FleetServer]:
    async with FleetServer() as running:
        yield running


@pytest.fixture
async def client(server: FleetServer) -> AsyncIterator[LoopsClient]:
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None) as opened:
        yield opened


class Probe:
    """Answers False until it is opened; counts its calls, and how many run at once."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.is_open = False
        self.calls: list[Sampler] = []
        self.running = self.most = self.cancelled = 0
        self._seconds = seconds

    async def __call__(self, sampler: Sampler) -> bool:
        self.calls.append(sampler)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return self.is_open

    async def until_called(self, more: int = 1) -> None:
        seen = len(self.calls)
        async with asyncio.timeout(5):
            while len(self.calls) < seen + more:
                await asyncio.sleep(0.001)


def start(client: LoopsClient, sampler_id: str, probe: object, **arguments: Any) -> asyncio.Task[Sampler]:
    settings: dict[str, Any] = {"policy": POLICY, "probe": probe, **arguments}
    return asyncio.create_task(wait_until_active(client, sampler_id, **settings))


async def until_polled(server: FleetServer, more: int = 2) -> None:
    seen = server.requests.total()
    async with asyncio.timeout(5):
        while server.requests.total() < seen + more:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("count", [1, 30])
async def test_a_wait_lasts_until_the_sampler_answers(client: LoopsClient, server: FleetServer, count: int) -> None:
    ids = server.add(count, "BUILDING", "own")
    probe = Probe()
    waits = [start(client, each, probe) for each in ids]
    await until_polled(server)
    assert not probe.calls
    server.set_all(ids, "ACTIVE")
    await probe.until_called(3 * count)
    assert not any(wait.done() for wait in waits)
    probe.is_open = True
    samplers = await asyncio.gather(*waits)
    assert [sampler.id for sampler in samplers] == ids
    assert {sampler.status for sampler in probe.calls} == {S.ACTIVE}
    calls = len(probe.calls)
    await asyncio.sleep(0.05)
    # What has answered once is not asked again.
    assert len(probe.calls) == calls


async def test_true_takes_the_clients_own_probe(
    client: LoopsClient, server: FleetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Probe()
    monkeypatch.setattr(client.samplers, "answers", probe)
    server.add(1, "ACTIVE", "own")
    waiting = start(client, "own0", True)
    await probe.until_called(2)
    assert not waiting.done()
    probe.is_open = True
    assert (await waiting).id == "own0"
    for none in (False, None):
        calls = len(probe.calls)
        await start(client, "own0", none)
        assert len(probe.calls) == calls


async def test_watch_ends_with_the_probe(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe()
    seen = []
    async for change in watch(client, "own0", policy=POLICY, probe=probe):
        seen.append(change.status)
        await probe.until_called(3)
        probe.is_open = True
    assert seen == [S.ACTIVE]


async def test_a_serverless_sampler_is_probed_like_any(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "DEPLOYING", "own")
    server.odd["own0"] = {**document("own0", "DEPLOYING"), "model_id": None, "deployment_id": None}
    probe = Probe()
    waiting = start(client, "own0", probe)
    await probe.until_called(2)
    probe.is_open = True
    await waiting


async def test_probes_come_at_the_policys_backoff(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe()
    policy = PollPolicy(initial=0.05, factor=2, maximum=0.2, jitter=0)
    waiting = start(client, "own0", probe, policy=policy)
    await asyncio.sleep(0.5)
    # At 0, 0.05, 0.15, 0.35 s.
    assert 3 <= len(probe.calls) <= 4
    waiting.cancel()


@pytest.mark.parametrize("error", [ValueError("mine"), ConnectionError("refused"), ExceptionGroup("two", [OSError()])])
async def test_what_a_probe_raises_ends_its_own_wait(
    client: LoopsClient, server: FleetServer, error: Exception
) -> None:
    ids = server.add(2, "ACTIVE", "own")
    fine = Probe()

    async def refuse(_: Sampler) -> bool:
        raise error

    other = start(client, ids[1], fine)
    with pytest.raises(type(error)) as caught:
        await start(client, ids[0], refuse)
    assert caught.value is error
    assert not other.done()
    fine.is_open = True
    await other


@pytest.mark.parametrize("result", [None, 1, "yes", True])
async def test_a_probe_that_is_no_async_function_is_a_type_error(
    client: LoopsClient, server: FleetServer, result: object
) -> None:
    server.add(1, "ACTIVE", "own")
    with pytest.raises(TypeError, match="probe must be an async function"):
        await start(client, "own0", lambda _: result)


@pytest.mark.parametrize("result", [None, 1, 0, "yes", []])
async def test_a_probe_that_returns_no_bool_is_a_type_error(
    client: LoopsClient, server: FleetServer, result: object
) -> None:
    async def probe(_: Sampler) -> object:
        return result

    server.add(1, "ACTIVE", "own")
    with pytest.raises(TypeError, match="probe must return True or False"):
        await start(client, "own0", probe)


@pytest.mark.parametrize("probe", [1, "yes", object()])
async def test_a_probe_that_cannot_be_called_sends_nothing(
    client: LoopsClient, server: FleetServer, probe: object
) -> None:
    with pytest.raises(TypeError, match="probe must be"):
        await start(client, "own0", probe)
    with pytest.raises(TypeError, match="probe must be"):
        watch(client, "own0", probe=probe)  # type: ignore[arg-type]
    assert not server.requests


async def test_a_sampler_that_leaves_active_is_waited_for_again(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe(seconds=30)
    waiting = start(client, "own0", probe)
    await probe.until_called()
    server.statuses["own0"] = "UPDATING"
    await until_polled(server, 3)
    assert (probe.running, probe.cancelled) == (0, 1)
    assert not waiting.done()
    server.statuses["own0"] = "ACTIVE"
    await probe.until_called()
    server.statuses["own0"] = "FAILED"
    with pytest.raises(SamplerFailed) as caught:
        await waiting
    assert [change.status for change in caught.value.history] == [S.ACTIVE, S.UPDATING, S.ACTIVE, S.FAILED]
    assert (probe.running, probe.cancelled) == (0, 2)


async def test_unhealthy_within_its_grace_is_not_probed(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe(seconds=30)
    policy = PollPolicy(initial=0.01, factor=1, maximum=0.01, unhealthy_grace=60)
    waiting = start(client, "own0", probe, policy=policy)
    await probe.until_called()
    server.statuses["own0"] = "UNHEALTHY"
    await until_polled(server, 3)
    assert probe.running == 0
    probe.is_open, probe._seconds = True, 0
    server.statuses["own0"] = "ACTIVE"
    await waiting


@pytest.mark.parametrize("moment", ["probe", "pause", "slot"])
async def test_a_cancelled_wait_cancels_its_probe_and_awaits_it(server: FleetServer, moment: str) -> None:
    ended = asyncio.Event()
    asked = asyncio.Event()

    async def probe(_: Sampler) -> bool:
        asked.set()
        try:
            await asyncio.sleep(60 if moment != "pause" else 0)
        finally:
            if moment != "pause":
                # What cleaning up takes is waited for.
                await asyncio.sleep(0.05)
            ended.set()
        return False

    server.add(2, "ACTIVE", "own")
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, max_connections=4) as client:
        waiting = start(client, "own0", probe, policy=PollPolicy(initial=60, maximum=60))
        await asked.wait()
        queued = start(client, "own1", probe) if moment == "slot" else None
        await until_polled(server, 1 if queued else 0)
        await asyncio.sleep(0.02)
        for task in (queued, waiting):
            if task is not None:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert ended.is_set()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("loops-async")]


async def test_at_most_a_quarter_of_the_connections_run_probes(server: FleetServer) -> None:
    ids = server.add(40, "ACTIVE", "own")
    probe = Probe(seconds=0.01)
    probe.is_open = True
    async with LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, max_connections=12) as client:
        await asyncio.gather(*(start(client, each, probe) for each in ids))
    assert probe.most == 3
    assert len(probe.calls) == 40


async def test_a_probe_that_says_no_to_the_deadline_is_a_timeout(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe()
    with pytest.raises(WaitTimeout) as caught:
        await start(client, "own0", probe, timeout=0.2)
    assert caught.value.sampler is not None
    assert caught.value.sampler.status is S.ACTIVE
    assert len(probe.calls) > 3
    assert caught.value.last_error is None


async def test_a_wait_without_time_probes_once(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe()
    with pytest.raises(WaitTimeout):
        await start(client, "own0", probe, timeout=0)
    assert len(probe.calls) == 1
    probe.is_open = True
    await start(client, "own0", probe, timeout=0)


async def test_the_final_poll_is_followed_by_a_final_probe(client: LoopsClient, server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe()
    waiting = start(client, "own0", probe, timeout=3, policy=PollPolicy(initial=60, maximum=60))
    await probe.until_called()
    probe.is_open = True
    assert (await waiting).status is S.ACTIVE
    assert len(probe.calls) == 2


async def test_a_probe_that_hangs_is_cut_short_at_the_deadline(
    client: LoopsClient, server: FleetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loops_async._wait.waiter.FINAL_POLL_GRACE_S", (0.1, 0.1))
    server.add(1, "ACTIVE", "own")
    probe = Probe(seconds=60)
    async with asyncio.timeout(5):
        with pytest.raises(WaitTimeout):
            await start(client, "own0", probe, timeout=0.1)
    assert probe.cancelled == 1


async def test_closing_the_client_ends_a_wait_that_probes(server: FleetServer) -> None:
    server.add(1, "ACTIVE", "own")
    probe = Probe(seconds=60)
    client = LoopsClient(KEY, base_url=server.url, retry=QUICK_RETRY, rate_limit=None)
    waiting = start(client, "own0", probe)
    await probe.until_called()
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed while"):
        await waiting
    assert (probe.running, probe.cancelled) == (0, 1)


async def test_a_probe_runs_in_the_context_of_its_wait(client: LoopsClient, server: FleetServer) -> None:
    ids = server.add(2, "ACTIVE", "own")
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    seen: dict[str, str] = {}

    async def probe(sampler: Sampler) -> bool:
        seen[sampler.id] = name.get()
        return True

    async def one(sampler_id: str) -> None:
        name.set(f"of {sampler_id}")
        await wait_until_active(client, sampler_id, policy=POLICY, probe=probe)

    await asyncio.gather(*(asyncio.create_task(one(each)) for each in ids))
    assert seen == {each: f"of {each}" for each in ids}


async def test_a_probe_that_refuses_to_be_cancelled_does_not_end_a_later_visit(
    client: LoopsClient, server: FleetServer
) -> None:
    release = asyncio.Event()
    calls = 0

    async def stubborn(_: Sampler) -> bool:
        nonlocal calls
        calls += 1
        if calls > 1:
            return False
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await release.wait()
        return True

    server.add(1, "ACTIVE", "own")
    waiting = start(client, "own0", stubborn)
    while not calls:
        await asyncio.sleep(0.001)
    server.statuses["own0"] = "UPDATING"
    await until_polled(server, 3)
    release.set()
    await asyncio.sleep(0.02)
    assert not waiting.done()
    waiting.cancel()
