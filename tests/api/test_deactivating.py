"""One careful deactivation, for `samplers.deactivate()` and for what cancelled creates have made."""

from __future__ import annotations

import asyncio
import logging

import pytest

from loops_async import (
    ConflictError,
    DecodeError,
    LoopsClient,
    LoopsError,
    NotFoundError,
    RetryPolicy,
    Sampler,
    ServerError,
)
from loops_async.emulator import Emulator, Fault

from ..support import QUICK_RETRY, ClientMaker

pytestmark = pytest.mark.quick_clock

CREATE = "/v1/loops/samplers"
ONE = "/v1/loops/samplers/{sampler_id}"
DEACTIVATE = "/v1/loops/samplers/{sampler_id}/deactivate"


@pytest.fixture
async def sampler(client: LoopsClient, session_id: str) -> Sampler:
    return await client.samplers.create(session_id=session_id, base_model="m")


def posts(emulator: Emulator) -> int:
    return len(emulator.requests("POST", DEACTIVATE))


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b"{}", b"[]", b'{"id": "another"}', b'{"id": null}'])
async def test_a_success_that_does_not_name_the_sampler_is_none(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, body: bytes
) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=200, body=body, times=None))
    with pytest.raises(DecodeError):
        await client.samplers.deactivate(sampler.id)
    assert posts(emulator) == QUICK_RETRY.attempts
    assert emulator.billed == {sampler.id}


async def test_one_page_of_a_proxy_is_passed_over(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=200, body=b"<html>", times=2))
    await client.samplers.deactivate(sampler.id)
    assert posts(emulator) == 3
    assert not emulator.billed


@pytest.mark.parametrize("status", [302, 400, 403, 409, 500])
async def test_a_sampler_that_is_gone_needs_no_success(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "loops_async")
    emulator.set_status(sampler.id, "INACTIVE")
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=status, times=1))
    await client.samplers.deactivate(sampler.id)
    assert caplog.messages.count(f"sampler {sampler.id} is deactivated") == 1


@pytest.mark.parametrize("status", [400, 403, 409])
async def test_a_rejection_is_raised_at_once(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, status: int
) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=status, times=None))
    with pytest.raises(LoopsError):
        await client.samplers.deactivate(sampler.id)
    assert posts(emulator) == 1


@pytest.mark.parametrize("status", [302, 408, 429, 499, 500, 503, 520, 522, 599])
async def test_what_passes_is_retried(client: LoopsClient, emulator: Emulator, sampler: Sampler, status: int) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=status, times=2))
    await client.samplers.deactivate(sampler.id)
    assert posts(emulator) == 3
    assert not emulator.billed


async def test_404_for_a_fresh_sampler_is_retried(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=404, times=3))
    emulator.add_fault(Fault(method="GET", route=ONE, status=404, times=3))
    await client.samplers.deactivate(sampler.id)
    assert posts(emulator) == 4
    assert not emulator.billed


async def test_404_for_any_other_is_raised_at_once(client: LoopsClient, emulator: Emulator) -> None:
    with pytest.raises(NotFoundError):
        await client.samplers.deactivate("unknown")
    assert posts(emulator) == 1


async def test_404_is_no_end_for_a_fresh_sampler_that_was_seen(
    client: LoopsClient, emulator: Emulator, sampler: Sampler
) -> None:
    await client.samplers.get(sampler.id)
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=404, times=2))
    emulator.add_fault(Fault(method="GET", route=ONE, status=404, times=2))
    await client.samplers.deactivate(sampler.id)
    assert not emulator.billed


async def test_one_that_fails_does_not_cut_off_the_others(
    make_client: ClientMaker, emulator: Emulator, session_id: str
) -> None:
    emulator.add_run("m", run_id="run1")
    async with make_client() as client:
        paired = await client.samplers.create(session_id=session_id, base_model="m", run_id="run1")
        own = [await client.samplers.create(session_id=session_id, base_model="m") for _ in range(4)]
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=4))
        others = [asyncio.create_task(client.samplers.deactivate(each.id)) for each in own]
        while posts(emulator) < 4:
            await asyncio.sleep(0.001)
        with pytest.raises(ConflictError):
            await asyncio.gather(*others, client.samplers.deactivate(paired.id))
    assert emulator.billed == {paired.id}
    await asyncio.gather(*others)


async def test_a_cancellation_does_not_cut_it_off(client: LoopsClient, emulator: Emulator, sampler: Sampler) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, delay=0.1, times=1))
    task = asyncio.create_task(client.samplers.deactivate(sampler.id))
    while not posts(emulator):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not emulator.billed


async def test_what_a_cancellation_hides_is_logged(
    client: LoopsClient, emulator: Emulator, sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=500, delay=0.05, times=None))
    task = asyncio.create_task(client.samplers.deactivate(sampler.id))
    while not posts(emulator):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ServerError)
    assert [record.levelname for record in caplog.records if sampler.id in record.getMessage()] == ["ERROR"]


@pytest.mark.parametrize("retry", [None, RetryPolicy(attempts=1)])
async def test_a_cancelled_create_does_not_give_up_after_one_failure(
    make_client: ClientMaker, emulator: Emulator, session_id: str, retry: RetryPolicy | None
) -> None:
    client = make_client(retry=retry)
    emulator.add_fault(Fault(method="POST", route=CREATE, delay_after=0.1, times=1))
    emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=503, times=1))
    task = asyncio.create_task(client.samplers.create(session_id=session_id, base_model="m"))
    while not emulator.samplers:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not emulator.billed


async def test_a_closed_client_deactivates_nothing(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client()
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.samplers.deactivate("x")
    assert not emulator.received
