"""What a new sampler is made from: a base model, a run or a checkpoint, and what fits what; over real sockets."""

from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator, Stage

from .support import SAMPLERS, Client

QWEN = "Qwen/Qwen3-8B"
RUN = "k4q95w5"
STEP_100, STEP_200 = (f"bt://loops:{RUN}/sampler_weights/step-{step}" for step in (100, 200))
VALIDATE = "/v1/loops/checkpoints/validate"


async def refused(client: Client, status: int, **body: Any) -> str:
    """Send a create that must be refused and make nothing, and return what the answer says."""
    before = [each.id for each in client.emulator.samplers]
    answer = await client.post(SAMPLERS, status, json={"session_id": await client.session_id()} | body)
    assert [each.id for each in client.emulator.samplers] == before
    return str(answer["message"])


async def create(client: Client, **body: Any) -> dict[str, Any]:
    answer = await client.post(SAMPLERS, json={"session_id": await client.session_id()} | body)
    sampler: dict[str, Any] = answer["sampler"]
    return sampler


async def sample(sampler: dict[str, Any], client: Client, expect: int = 200, **options: Any) -> dict[str, Any]:
    body = {"prompt": [1, 2, 3], "seed": 7, "max_tokens": 24, "ignore_eos": True} | options.pop("body", {})
    async with client.http.post(f"{sampler['base_url']}/sample", json=body, **options) as answer:
        document: dict[str, Any] = await answer.json()
        assert answer.status == expect, document
        return document


async def test_a_run_that_does_not_exist_takes_no_sampler(client: Client) -> None:
    for body in ({}, {"base_model": QWEN}):
        assert "'nobody' does not exist" in await refused(client, 404, run_id="nobody", **body)


async def test_a_run_gives_its_base_model_and_takes_no_other(client: Client) -> None:
    assert (await create(client, run_id=RUN))["base_model"] == QWEN
    assert (await create(client, run_id=RUN, base_model=QWEN))["base_model"] == QWEN
    assert QWEN in await refused(client, 400, run_id=RUN, base_model="moonshotai/Kimi-K2.6")
    run_id = client.emulator.add_run("some/model")
    sampler = await create(client, run_id=run_id)
    assert sampler["base_model"] == "some/model"
    await client.post(f"{SAMPLERS}/{sampler['id']}/deactivate", 409)
    await client.post(f"/v1/loops/runs/{run_id}/deactivate")
    assert sampler["id"] not in client.emulator.billed
    await refused(client, 409, run_id=run_id)


async def test_a_run_is_not_added_without_a_model_or_twice(client: Client) -> None:
    for options in ({"base_model": ""}, {"base_model": "m", "run_id": ""}, {"base_model": "m", "run_id": RUN}):
        with pytest.raises(ValueError, match=r"\w"):
            client.emulator.add_run(**options)


async def test_weights_must_exist_and_fit(client: Client) -> None:
    missing = f"bt://loops:{RUN}/sampler_weights/step-999"
    assert missing in await refused(client, 400, base_model=QWEN, model_path=missing)
    await refused(client, 400, base_model=QWEN, model_path=STEP_100.replace("sampler_weights", "weights"))
    assert QWEN in await refused(client, 400, base_model="moonshotai/Kimi-K2.6", model_path=STEP_100)
    assert QWEN in await refused(client, 400, run_id=client.emulator.add_run("some/model"), model_path=STEP_100)
    assert (await create(client, model_path=STEP_100))["base_model"] == QWEN
    assert (await create(client, model_path=STEP_100 + "/", base_model=QWEN))["base_model"] == QWEN


async def test_a_request_chooses_the_checkpoint_and_gets_the_base_model_without_it() -> None:
    async with Emulator(lifecycles={"*": [Stage("ACTIVE")]}) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)

        async def text(sampler: dict[str, Any], path: str | None = None) -> str:
            headers = {} if path is None else {"X-Checkpoint-Path": path}
            answer = await sample(sampler, client, headers=headers)
            return str(answer["choices"][0]["text"])

        plain, tuned = await create(client, base_model=QWEN), await create(client, model_path=STEP_100 + "/")
        # Code that forgets the header is wrong, and gets the base model as it would from the service.
        assert await text(tuned) == await text(plain)
        one, other = await text(tuned, STEP_100), await text(tuned, STEP_200)
        assert len({await text(plain), one, other}) == 3
        assert await text(tuned, STEP_100 + "/") == one
        # A checkpoint of another base model fits no sampler of this one.
        kimi = await create(client, base_model="moonshotai/Kimi-K2.6")
        problem = await sample(kimi, client, 400, headers={"X-Checkpoint-Path": STEP_100})
        assert problem["error"]["param"] == "X-Checkpoint-Path"
        assert QWEN in problem["error"]["message"]


async def test_a_sampler_takes_no_longer_prompt_than_it_was_made_for() -> None:
    async with Emulator(lifecycles={"*": [Stage("ACTIVE")]}) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        sampler = await create(client, base_model=QWEN, max_seq_length=4)
        await sample(sampler, client, body={"prompt": [1] * 4})
        problem = (await sample(sampler, client, 400, body={"prompt": [1] * 5}))["error"]
        assert (problem["param"], problem["type"]) == ("prompt", "BadRequestError")
        for base_model, longest in ((QWEN, 40_960), ("some/model", 131_072)):
            await create(client, base_model=base_model, max_seq_length=longest)
            assert str(longest) in await refused(client, 400, base_model=base_model, max_seq_length=longest + 1)
        run = {"session_id": await client.session_id(), "base_model": QWEN, "max_seq_len": 40_961}
        runs = (await client.get("/v1/loops/runs"))["runs"]
        await client.post("/v1/loops/runs", 400, json=run)
        assert (await client.get("/v1/loops/runs"))["runs"] == runs


async def test_only_a_broken_schema_is_422() -> None:
    async with Emulator(invalid_status=422) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        await refused(client, 422)
        await refused(client, 422, base_model=7)
        await refused(client, 400, run_id=RUN, availability_model="spot")
        await refused(client, 400, base_model=QWEN, model_path="s3://x")
        await client.post(VALIDATE, 422, json={})
        for path in (f"bt://loops:{RUN}/sampler_weights/step-999", "s3://x"):
            await client.post(VALIDATE, 400, json={"checkpoint_path": path})
        await client.get("/v1/loops/checkpoints", 400)
        await client.get(f"/v1/loops/checkpoints?run_id={RUN}&base_model=m", 400)


async def test_deployments_are_listed_while_they_are_active(client: Client) -> None:
    path = "/v1/loops/deployments"
    (given,) = (await client.get(path))["deployments"]
    client.emulator.add_run("m")
    added, _ = (await client.get(path))["deployments"]
    await client.post(f"{path}/{added['id']}/deactivate")
    assert [each["id"] for each in (await client.get(path))["deployments"]] == [given["id"]]
    assert (await client.get(f"{path}/{added['id']}"))["deployment"]["status"] == {"name": "STOPPED"}
