"""Unknown creates of a launch: raised at its end, unless they reached the caller in another way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from loops_async import CreateOutcomeUnknown, Fleet, Member, TeardownError
from loops_async._api import creating
from loops_async.emulator import Fault

from ..launching import CREATE, Setting, until


@pytest.fixture(autouse=True)
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "RELIST_DELAY_S", 0.01)


@asynccontextmanager
async def unknown_create(stage: Setting, count: int = 1) -> AsyncIterator[tuple[Fleet, list[CreateOutcomeUnknown]]]:
    """Launch members whose creates are unknown; their errors are there when the block begins."""
    emulator, _, launch = stage
    emulator.add_fault(Fault(method="POST", route=CREATE, cut="before", times=None))
    async with launch(["good"] * count) as fleet:
        await until(lambda: all(member.done for member in fleet.members))
        yield fleet, [member.error for member in fleet.members if isinstance(member.error, CreateOutcomeUnknown)]


READERS: dict[str, Callable[[Member], object]] = {
    name: lambda member, name=name: getattr(member, name)  # type: ignore[misc]
    for name in ("error", "state", "done", "sampler", "sampler_id", "status", "failures")
}


@pytest.mark.parametrize(
    "read", [*READERS.values(), repr, lambda member: str(member.error)], ids=[*READERS, "repr", "str"]
)
async def test_reading_an_attribute_acknowledges_nothing(stage: Setting, read: Callable[[Member], object]) -> None:
    with pytest.raises(TeardownError) as caught:
        async with unknown_create(stage) as (fleet, errors):
            async for member in fleet:
                read(member)
    assert caught.value.unknown == tuple(errors)
    assert caught.value.sampler_ids == ()
    assert fleet.teardown_error is caught.value


async def test_an_acknowledged_unknown_create_is_not_raised(stage: Setting) -> None:
    async with unknown_create(stage) as (fleet, _):
        fleet.acknowledge(fleet.members[0])
        fleet.acknowledge(fleet.members[0])
    assert fleet.teardown_error is None


async def test_acknowledging_one_unknown_create_acknowledges_no_other(stage: Setting) -> None:
    with pytest.raises(TeardownError) as caught:
        async with unknown_create(stage, count=3) as (fleet, errors):
            fleet.acknowledge(fleet.members[1])
    assert caught.value.unknown == (errors[0], errors[2])


async def test_only_an_unknown_create_can_be_acknowledged(stage: Setting) -> None:
    _, _, launch = stage
    async with launch(["slow", "bad"]) as fleet, launch(["slow"]) as other:
        for member in fleet.members:
            with pytest.raises(ValueError, match="no unknown create"):
                fleet.acknowledge(member)
        with pytest.raises(ValueError, match="another fleet"):
            fleet.acknowledge(other.members[0])
        with pytest.raises(TypeError):
            fleet.acknowledge(fleet.members[0].spec)  # type: ignore[arg-type]


def itself(error: CreateOutcomeUnknown) -> None:
    raise error


def in_a_group(error: CreateOutcomeUnknown) -> None:
    raise ExceptionGroup("mine", [ValueError(), ExceptionGroup("inner", [error])])


def as_a_cause(error: CreateOutcomeUnknown) -> None:
    raise KeyError("mine") from error


def as_a_context(error: CreateOutcomeUnknown) -> None:
    try:
        raise error
    except CreateOutcomeUnknown:
        raise KeyError("mine")  # noqa: B904 -- the implicit context is what is tested


def below_a_cause_in_a_group(error: CreateOutcomeUnknown) -> None:
    inner = KeyError("inner")
    inner.__cause__ = error
    raise ExceptionGroup("mine", [inner]) from ValueError("outer")


@pytest.mark.parametrize("how", [itself, in_a_group, as_a_cause, as_a_context, below_a_cause_in_a_group])
async def test_an_unknown_create_that_the_blocks_own_exception_holds_is_not_added(
    stage: Setting, how: Callable[[CreateOutcomeUnknown], None]
) -> None:
    with pytest.raises((KeyError, ExceptionGroup, CreateOutcomeUnknown)) as caught:
        async with unknown_create(stage) as (fleet, errors):
            how(errors[0])
    assert fleet.teardown_error is None
    assert not any("TeardownError" in note for note in getattr(caught.value, "__notes__", ()))


async def test_an_unknown_create_that_another_exception_does_not_hold_is_added_as_a_note(stage: Setting) -> None:
    with pytest.raises(KeyError) as caught:
        async with unknown_create(stage) as (fleet, errors):
            raise KeyError("mine")
    assert fleet.teardown_error is not None
    assert fleet.teardown_error.unknown == tuple(errors)
    assert "TeardownError: the outcome of 1 create is unknown" in caught.value.__notes__[0]


async def test_an_exception_whose_causes_form_a_circle_ends_the_block(stage: Setting) -> None:
    with pytest.raises(KeyError):
        async with unknown_create(stage) as (fleet, _):
            error, other = KeyError("mine"), ValueError("other")
            error.__cause__, other.__cause__ = other, error
            raise error
    assert fleet.teardown_error is not None


async def test_a_cancellation_does_not_hide_an_unknown_create(stage: Setting) -> None:
    entered = asyncio.Event()
    fleets: list[Fleet] = []

    async def body() -> None:
        async with unknown_create(stage) as (fleet, _):
            fleets.append(fleet)
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "the outcome of 1 create is unknown" in caught.value.__notes__[0]
    assert fleets[0].teardown_error is not None
