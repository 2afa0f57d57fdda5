"""Samples that take long, or are drawn without a seed, next to everything else that the server does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator, Stage

from .support import SAMPLERS, Client

PROMPT = {"prompt": [1, 2, 3], "ignore_eos": True}
LONG = PROMPT | {"max_tokens": 100_000, "n": 64, "logprobs": 3, "top_p": 0.9}


@asynccontextmanager
async def sampling(**settings: Any) -> AsyncIterator[tuple[Client, str]]:
    lifecycles = {"*": [Stage("ACTIVE")]}
    async with Emulator(lifecycles=lifecycles, **settings) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        sampler = await client.create("some/model")
        yield client, f"{sampler['base_url']}/sample"


async def test_a_long_sample_leaves_the_others_their_turns_and_ends_with_the_server() -> None:
    async with sampling() as (client, url):
        for body in (LONG, {"prompt": [5] * 100_000, "prompt_logprobs": 3}):
            long = asyncio.create_task(client.post(url, json=body))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            for _ in range(5):
                await client.get(SAMPLERS)
            # The long one takes minutes; a machine may be busy with other things, too.
            assert time.monotonic() - began < 5
            assert not long.done()
            began = time.monotonic()
            await client.emulator.aclose()
            assert time.monotonic() - began < 5
            with pytest.raises(aiohttp.ClientError):
                await long
            await client.emulator.start()


async def test_a_long_sample_ends_with_its_client() -> None:
    async with sampling() as (client, url):
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            await client.post(url, json=LONG, timeout=aiohttp.ClientTimeout(0.05))
        async with asyncio.timeout(2):
            # The connection's own task ends with its handler.
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)


async def test_an_answer_that_no_machine_has_room_for_is_refused() -> None:
    async with sampling() as (client, url):
        body = {"prompt": [1] * 300, "prompt_logprobs": 20, "n": 1024, "max_tokens": 1}
        assert (await client.post(url, 400, json=body))["error"]["param"] == "prompt_logprobs"


async def test_samples_without_a_seed_follow_that_of_the_emulator() -> None:
    async def drawn(seed: int) -> list[tuple[str, str]]:
        async with sampling(seed=seed) as (client, url):
            answers = [await client.post(url, json=PROMPT) for _ in range(2)]
            return [(each["id"], each["choices"][0]["text"]) for each in answers]

    first, again, other = await drawn(1), await drawn(1), await drawn(2)
    assert first == again
    assert len({*first, *other}) == 4
    assert len({text for _, text in first + other}) == 4


async def test_an_outage_repeats_no_id_and_no_chance() -> None:
    async with sampling(seed=3) as (client, url):
        ids: list[str] = []
        for _ in range(2):
            for _ in range(2):
                answer, response = await client.send("POST", url, json=PROMPT)
                ids += answer["id"], answer["choices"][0]["text"], response.headers["X-Request-Id"]
            await client.emulator.aclose()
            await client.emulator.start()
        assert len(set(ids)) == len(ids) == 12


async def test_of_stop_strings_the_first_named_counts() -> None:
    async with sampling() as (client, url):
        body = PROMPT | {"max_tokens": 40, "seed": 1}
        text = (await client.post(url, json=body))["choices"][0]["text"]
        end, longer = text[19], text[10:20]
        at = text.index(end)
        short = text[: at + 1]
        for stop in ([end, short], [short, end]):
            (choice,) = (await client.post(url, json=body | {"stop": stop}))["choices"]
            assert (choice["stop_reason"], choice["finish_reason"]) == (stop[0], "stop")
            assert choice["text"] == text[: text.index(stop[0])]
        (choice,) = (await client.post(url, json=body | {"stop": [longer]}))["choices"]
        assert (choice["stop_reason"], choice["text"]) == (longer, text[: text.index(longer)])


async def test_a_base_model_that_is_no_text_is_refused(client: Client) -> None:
    body = f'{{"session_id": "{await client.session_id()}", "base_model": "\\ud800"}}'
    assert "base_model" in (await client.post(SAMPLERS, 400, data=body))["message"]
    assert client.emulator.samplers == ()
