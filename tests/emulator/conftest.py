from collections.abc import AsyncIterator

import aiohttp
import pytest

from loops_async.emulator import Emulator

from .support import FAST, Client


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(speed=FAST) as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http:
        yield Client(emulator, http)
