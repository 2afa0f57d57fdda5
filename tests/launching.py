"""What the tests of launches share: base models by what becomes of their samplers, and a look behind the scenes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from loops_async import Fleet, LoopsClient, launch
from loops_async.emulator import Emulator, Stage

from .support import KEY, QUICK_POLL, QUICK_RETRY

LIFECYCLES = {
    "good": (Stage("BUILDING", 0.02), Stage("ACTIVE")),
    "slow": (Stage("BUILDING", 600.0), Stage("ACTIVE")),
    "bad": (Stage("BUILDING", 0.02), Stage("BUILD_FAILED")),
    "sick": (Stage("BUILDING", 0.02), Stage("UNHEALTHY")),
}

CREATE = "/v1/loops/samplers"
ONE = "/v1/loops/samplers/{sampler_id}"
DEACTIVATE = "/v1/loops/samplers/{sampler_id}/deactivate"

Launch = Callable[..., AbstractAsyncContextManager[Fleet]]

Setting = tuple[Emulator, LoopsClient, Launch]
"""An emulator, a client of it, and `launch()` with both and quick polls."""


@asynccontextmanager
async def set_up() -> AsyncIterator[Setting]:
    """Set the stage for a launch."""
    async with (
        Emulator(api_key=KEY, lifecycles=LIFECYCLES) as emulator,
        LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY, rate_limit=None) as client,
    ):
        yield emulator, client, partial(launch, client, policy=QUICK_POLL)


def creates(emulator: Emulator) -> int:
    """Count the creates that arrived."""
    return len(emulator.requests("POST", CREATE))


def deactivated(emulator: Emulator) -> list[str]:
    """Give the ids of the deactivations that arrived, in order."""
    return [request.path.split("/")[-2] for request in emulator.requests("POST", DEACTIVATE)]


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* is true."""
    while not condition():
        await asyncio.sleep(0.002)
