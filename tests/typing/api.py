"""A user's script over the whole contract; it is type-checked and never run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import assert_type

import aiohttp

from loops_async import (
    APIError,
    Checkpoint,
    CheckpointPath,
    CreateOutcomeUnknown,
    DecodeError,
    DeploymentStatus,
    Fleet,
    LaunchError,
    LoopsClient,
    LoopsError,
    Member,
    Outcome,
    PollPolicy,
    RetryPolicy,
    Sampler,
    SamplerFailed,
    SamplerSpec,
    Session,
    StatusChange,
    SupportedModel,
    TeardownError,
    TransportError,
    WaitTimeout,
    launch,
    wait_until_active,
    wait_until_down,
    watch,
)
from loops_async.emulator import COURSES, Emulator, Fault, Stage, parse_fault, parse_faults, parse_lifecycles
from loops_async.journal import Orphans, Reclaimed, orphans, reclaim


def on_status(change: StatusChange) -> None:
    assert_type(change.sampler, Sampler)
    assert_type(change.previous, DeploymentStatus | str | None)
    assert_type(change.status, DeploymentStatus | str)
    assert_type(change.elapsed, float)


async def answers(sampler: Sampler) -> bool:
    return bool(sampler.base_url)


async def main(own: aiohttp.ClientSession) -> None:
    async with LoopsClient(
        "key",
        base_url="https://api.baseten.co",
        team_id="t1",
        session=own,
        request_timeout=30.0,
        max_connections=50,
        retry=RetryPolicy(attempts=3),
    ) as client:
        session = await client.sessions.create()
        assert_type(session, Session)
        assert_type(await client.sessions.get(session.id), Session)
        sampler = await client.samplers.create(
            session_id=session.id,
            base_model="m",
            max_seq_length=None,
            model_path=CheckpointPath.parse("bt://loops:r/sampler_weights/a"),
            reuse_from_session_id=None,
            run_id=None,
            num_replicas=1,
            availability_model="dedicated",
        )
        assert_type(sampler, Sampler)
        assert_type(sampler.created_at, datetime)
        assert_type(sampler.model_id, str | None)
        assert_type(await client.samplers.get(sampler.id), Sampler)
        assert_type(await client.samplers.list(scope="org"), tuple[Sampler, ...])
        await client.samplers.wake(sampler)
        await client.samplers.deactivate(sampler.id)
        assert_type(await client.capabilities(model="m", use_case="rl", max_seq_len=1), tuple[SupportedModel, ...])
        checkpoints = await client.checkpoints.list(run_id="r")
        assert_type(checkpoints, tuple[Checkpoint, ...])
        await client.checkpoints.validate(checkpoints[0].path, run_id="r")

        policy = PollPolicy(
            initial=1.0,
            factor=1.5,
            maximum=10.0,
            jitter=0.1,
            multiples={DeploymentStatus.BUILDING: 2.0},
            ready={DeploymentStatus.ACTIVE, "SERVING"},
            failed={DeploymentStatus.FAILED},
            wake=True,
            unhealthy_grace=0.0,
            missing_grace=30.0,
        )
        ready = await wait_until_active(client, sampler, timeout=3600.0, policy=policy, on_status=on_status)
        assert_type(ready, Sampler)
        async for change in watch(client, sampler.id, timeout=None, policy=policy, probe=answers):
            assert_type(change, StatusChange)
        await wait_until_active(client, sampler, probe=True)
        assert_type(await wait_until_down(client, sampler, timeout=None, policy=policy), StatusChange)
        first, second = await asyncio.gather(wait_until_active(client, "a"), wait_until_active(client, "b"))
        assert_type((first, second), tuple[Sampler, Sampler])


async def launching(client: LoopsClient) -> None:
    specs = (SamplerSpec("m", max_seq_length=1), "other")
    async with launch(
        client,
        specs,
        session_id=None,
        timeout=3600.0,
        policy=PollPolicy(),
        probe=answers,
        max_concurrent_creates=32,
        relaunches=0,
        teardown="always",
        teardown_timeout=60.0,
        journal=Path("journal"),
        resume=True,
        on_status=on_status,
    ) as fleet:
        assert_type(fleet, Fleet)
        async for member in fleet:
            assert_type(member, Member)
            assert_type(member.sampler, Sampler | None)
            assert_type(member.error, Exception | None)
            assert_type(member.failures, tuple[SamplerFailed, ...])
            fleet.detach(member)
        assert_type(await fleet.active(), tuple[Sampler, ...])
        assert_type(await fleet.active(at_least=1), tuple[Sampler, ...])
        assert_type(fleet.members, tuple[Member, ...])
        assert_type(fleet.unresolved, tuple[CreateOutcomeUnknown, ...])
        assert_type(fleet.teardown_error, TeardownError | None)
        async for outcome in fleet.each(answers, concurrency=2):
            assert_type(outcome, Outcome[bool])
            assert_type(outcome.value, bool | None)
            assert_type(outcome.error, Exception | None)
        async with aclosing(fleet.each(answers)) as outcomes:
            assert_type(await anext(outcomes), Outcome[bool])
    try:
        async with launch(client, ["m"], teardown="on_error", journal="journal") as fleet:
            await fleet.active()
    except LaunchError as error:
        assert_type(error.exceptions[0], Exception | ExceptionGroup[Exception])
    found = await orphans(client, "journal")
    assert_type(found, Orphans)
    assert_type([sampler.id for sampler in found], list[str])
    done = await reclaim(client, Path("journal"), timeout=10.0)
    assert_type(done, Reclaimed)
    assert_type(done.deactivated, tuple[str, ...])
    assert_type(done.unknown, tuple[CreateOutcomeUnknown, ...])


async def errors(client: LoopsClient) -> None:
    try:
        await client.samplers.list()
    except APIError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.code, str | None)
        assert_type(error.request_id, str | None)
        assert_type((error.status, error.method, error.path, error.message, error.body), tuple[int, str, str, str, str])
    except TransportError as error:
        assert_type(error.sent, bool)
    except CreateOutcomeUnknown as error:
        assert_type(error.candidates, tuple[Sampler, ...])
        assert_type(error.look_error, Exception | None)
        assert_type(error.spec, SamplerSpec)
    except DecodeError as error:
        assert_type(error.sampler_id, str | None)
    except SamplerFailed as error:
        assert_type(error.history, tuple[StatusChange, ...])
        assert_type(error.permanent, bool)
    except WaitTimeout as error:
        assert_type(error.sampler, Sampler | None)
        assert_type(error.sampler_id, str | None)
        assert_type(error.timeout, float | None)
        assert_type(error.last_error, Exception | None)
    except TeardownError as error:
        assert_type(error.sampler_ids, tuple[str, ...])
        assert_type(error.deactivated, tuple[str, ...])
        assert_type(error.unknown, tuple[CreateOutcomeUnknown, ...])
    except LoopsError:
        raise


async def emulate() -> None:
    async with Emulator(
        api_key="k", speed=2.0, lifecycles={"*": [Stage("BUILDING", 1.0), ("ACTIVE", None)]}
    ) as emulator:
        emulator.add_fault(Fault(method="GET", status=500))
        emulator.add_script([Fault(cut="after"), *parse_faults("[]"), parse_fault("status=500", emulator.routes)])
        emulator.list_lag = 2.0
        assert_type(emulator.url, str)
        assert_type(emulator.billed, frozenset[str])
        assert_type(emulator.list_lag, float)
        assert_type(parse_lifecycles("{}"), dict[str, tuple[Stage, ...]])
        assert_type(COURSES["idle"], tuple[Stage, ...])
