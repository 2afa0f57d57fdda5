"""Launches under faults of every kind, ended at random: what was created is deactivated, or reported."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from loops_async import (
    CreateOutcomeUnknown,
    Fleet,
    LaunchError,
    LoopsClient,
    Member,
    RateLimitError,
    SamplerSpec,
    TeardownError,
    launch,
)
from loops_async._api import creating
from loops_async.emulator import Emulator, Fault
from loops_async.journal import orphans, reclaim

from ..launching import CREATE, DEACTIVATE, LIFECYCLES, ONE
from ..processes import forked
from ..support import KEY, QUICK_POLL, QUICK_RETRY

FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status_after": 503},
    {"status": 429},
    {"status": 429, "retry_after": "0.02"},
    {"cut": "before"},
    {"cut": "after"},
    {"partial": 30},
    {"delay_after": 0.03},
    {"body": b"<html>garbage</html>"},
)


class Mine(Exception):
    pass


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)


@pytest.fixture
async def emulator(nothing_left: None) -> AsyncIterator[Emulator]:
    async with Emulator(api_key=KEY, lifecycles=LIFECYCLES) as running:
        yield running


def switch_on(emulator: Emulator, share: float) -> None:
    """Let *share* of all requests meet a fault of some kind."""
    for method, route in (("POST", CREATE), ("GET", CREATE), ("GET", ONE), ("POST", DEACTIVATE)):
        for index, fault in enumerate(FAULTS):
            # Each is drawn among what the ones before it have left over.
            rate = share / len(FAULTS) / (1 - index * share / len(FAULTS))
            emulator.add_fault(Fault(method=method, route=route, times=None, rate=rate, **fault))


def within(error: BaseException | None) -> Iterator[BaseException]:
    """Walk through an error, its causes, and what is grouped in it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from within(part)
        error = error.__cause__


def reported(outcomes: list[BaseException | None], seen: list[Member]) -> tuple[set[str], set[str], int]:
    """Return what the errors say: which ids are billed, which may be, and how many could not be looked for."""
    certain: set[str] = set()
    possible: set[str] = set()
    blind: set[int] = set()
    for source in (*outcomes, *(member.error for member in seen)):
        for error in within(source):
            if isinstance(error, TeardownError):
                certain.update(error.sampler_ids)
            elif isinstance(error, CreateOutcomeUnknown):
                possible.update(sampler.id for sampler in error.candidates)
                if error.look_error is not None:
                    blind.add(id(error))
    return certain, possible, len(blind)


async def one_run(emulator: Emulator, client: LoopsClient, chance: random.Random) -> None:
    """Launch, end at a random moment in a random way, and compare what is billed with what is reported."""
    seen: list[Member] = []
    before = {sampler.id for sampler in emulator.samplers}
    specs = [chance.choice(("good", "good", "slow", "bad", "sick")) for _ in range(chance.randint(1, 12))]
    end = chance.choice(("cancel", "cancel", "raise", "leave", "active"))
    moment = chance.uniform(0, 0.08)
    fleets: list[Fleet] = []

    async def body() -> None:
        async with launch(
            client,
            specs,
            policy=QUICK_POLL,
            timeout=0.15,
            max_concurrent_creates=chance.choice((1, 3, 32)),
            relaunches=chance.choice((0, 0, 2)),
        ) as fleet:
            fleets.append(fleet)
            await asyncio.sleep(moment)
            if end == "raise":
                raise Mine
            if end == "active":
                await fleet.active()
            async for member in fleet:
                seen.append(member)
                if end == "leave":
                    break

    task = asyncio.create_task(body())
    if end == "cancel":
        await asyncio.sleep(moment)
        for _ in range(chance.randint(1, 3)):
            task.cancel()
            await asyncio.sleep(chance.uniform(0, 0.01))
    await asyncio.wait([task])
    outcome: BaseException | None
    if task.cancelled():
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        outcome = caught.value
    else:
        outcome = task.exception()
    assert outcome is None or isinstance(outcome, (Mine, LaunchError, TeardownError, asyncio.CancelledError)), outcome
    created = {sampler.id for sampler in emulator.samplers} - before
    alive = emulator.billed & created
    left = fleets[0].teardown_error if fleets else None
    certain, possible, blind = reported([outcome, left], seen)
    # What is reported as billed is billed, and what is billed is reported.
    assert certain <= alive
    assert len(alive - certain - possible) <= blind
    for sampler_id in alive:
        emulator.set_status(sampler_id, "INACTIVE")


async def many_runs(seed: int, count: int) -> int:
    """Make *count* runs on a control plane of their own; return how many samplers they made."""
    chance = random.Random(seed)
    async with Emulator(api_key=KEY, lifecycles=LIFECYCLES, seed=seed) as emulator:
        switch_on(emulator, 0.15)
        async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client:
            for _ in range(count):
                await one_run(emulator, client, chance)
        return len(emulator.samplers)


async def test_what_was_created_is_deactivated_or_reported(nothing_left: None) -> None:
    """Sixteen accounts at once, twenty launches each, most of the time of which is waiting."""
    made = await asyncio.gather(*(many_runs(seed, 20) for seed in range(16)))
    assert sum(made) > 500


async def test_four_hundred_members_under_faults(emulator: Emulator) -> None:
    switch_on(emulator, 0.15)
    count = 400
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client:
        async with launch(client, ["good"] * count, policy=QUICK_POLL) as fleet:
            members = [member async for member in fleet]
            for member in members:
                if isinstance(member.error, CreateOutcomeUnknown):
                    fleet.acknowledge(member)
            errors = [member.error for member in members if member.error is not None]
        up = {member.sampler.id for member in members if member.sampler is not None}
        assert len(up) + len(errors) == count
        assert {type(error) for error in errors} <= {CreateOutcomeUnknown, RateLimitError}
        assert len(emulator.samplers) <= count
        unknown = [error for error in errors if isinstance(error, CreateOutcomeUnknown)]
        candidates = {sampler.id for error in unknown for sampler in error.candidates}
        assert emulator.billed == candidates
        assert up.isdisjoint(candidates)
        assert len(unknown) > 10
        assert len(candidates) > 10
        for sampler_id in candidates:
            emulator.set_status(sampler_id, "INACTIVE")


async def test_no_create_is_sent_again_except_after_429(emulator: Emulator) -> None:
    switch_on(emulator, 0.3)
    async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client:
        specs = [SamplerSpec("good", max_seq_length=index + 1) for index in range(100)]
        async with launch(client, specs, policy=QUICK_POLL) as fleet:
            errors = {type(member.error) async for member in fleet}
            for member in fleet.members:
                if isinstance(member.error, CreateOutcomeUnknown):
                    fleet.acknowledge(member)
        sent = Counter(request.json["max_seq_length"] for request in emulator.requests("POST", CREATE))
    # No member makes a second sampler, whatever became of its first create.
    assert len(emulator.samplers) <= len(specs)
    assert errors <= {type(None), CreateOutcomeUnknown, RateLimitError}
    assert max(sent.values()) <= QUICK_RETRY.attempts
    for sampler_id in emulator.billed:
        emulator.set_status(sampler_id, "INACTIVE")


async def one_kill(seed: int, path: Path) -> int:
    """Kill a process in the middle of a launch, and clean up after it; return how many samplers it left alive."""
    chance = random.Random(seed)
    async with Emulator(api_key=KEY, lifecycles=LIFECYCLES, seed=seed) as emulator:
        switch_on(emulator, 0.15)
        program = f"""
import asyncio
from loops_async import LoopsClient, RetryPolicy, PollPolicy, launch

async def main():
    retry = RetryPolicy(initial=0.01, maximum=0.05)
    async with LoopsClient({KEY!r}, base_url={emulator.url!r}, retry=retry, rate_limit=None) as client:
        while True:
            try:
                async with launch(client, ["good"] * 25, session_id="SESSION", journal={str(path)!r},
                                  policy=PollPolicy(initial=0.01), max_concurrent_creates=4, relaunches=1) as fleet:
                    print("launched", flush=True)
                    await fleet.active(at_least=20)
            except Exception as error:
                print(error)

asyncio.run(main())
"""
        async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client:
            session = await client.sessions.create()
            async with forked(program.replace("SESSION", session.id)) as process:
                assert process.stdout is not None
                await process.stdout.readline()
                await asyncio.sleep(chance.uniform(0, 0.5))
            # What is in flight may still be processed.
            await asyncio.sleep(0.2)
            emulator.clear_faults()
            alive = emulator.billed
            found = await orphans(client, path)
            assert {sampler.id for sampler in found.samplers} <= alive <= {sampler.id for sampler in found}
            done = await reclaim(client, path)
            assert {sampler.id for sampler in done.candidates} == emulator.billed
            return len(alive)


async def test_what_a_killed_process_left_alive_is_reclaimed_or_reported(nothing_left: None, tmp_path: Path) -> None:
    left = await asyncio.gather(*(one_kill(seed, tmp_path / f"{seed}.jsonl") for seed in range(8)))
    assert sum(left) > 20
