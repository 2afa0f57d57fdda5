"""Serverless samplers: no deployment, one address for all, and samples that come in two steps."""

from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator, Fault

from .support import SAMPLERS, Client, until

QWEN = "Qwen/Qwen3-8B"
RUN = "k4q95w5"
STEP_100, STEP_200 = (f"bt://loops:{RUN}/sampler_weights/step-{step}" for step in (100, 200))
BODY = {"prompt": [1, 2, 3], "model": QWEN, "seed": 7, "max_tokens": 24, "ignore_eos": True}


class Gateway:
    """The address of all serverless samplers of an emulator."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.url = client.emulator.url + "/serverless"
        self.count = 0

    async def submit(self, expect: int = 202, body: dict[str, Any] | None = None, /, **headers: str) -> dict[str, Any]:
        """Submit a sample; names of headers are written with underscores."""
        self.count += 1
        sent = {"Idempotency-Key": f"key-{self.count}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.client.post(f"{self.url}/sample", expect, json=BODY | (body or {}), headers=sent)

    async def result(self, operation_id: str, expect: int = 200, /, **headers: str) -> dict[str, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(f"{self.url}/operations/{operation_id}", expect, headers=sent)

    async def text(self, body: dict[str, Any] | None = None, /, **headers: str) -> str:
        operation_id = (await self.submit(202, body, **headers))["operation_id"]
        result = await self.result(operation_id, **headers)
        assert result["status"] == "done"
        return str(result["result"]["choices"][0]["text"])


@pytest.fixture
def gateway(client: Client) -> Gateway:
    return Gateway(client)


async def serverless(client: Client, **body: Any) -> dict[str, Any]:
    return await client.create(availability_model="serverless", **body)


async def test_a_serverless_sampler_has_no_deployment_and_is_there_at_once(client: Client) -> None:
    sampler = await serverless(client)
    assert (sampler["model_id"], sampler["deployment_id"], sampler["instance_type"]) == (None, None, None)
    assert sampler["base_url"] == client.emulator.url + "/serverless"
    assert sampler["status"] == {"name": "ACTIVE"}
    path = f"{SAMPLERS}/{sampler['id']}"
    assert (await client.get(path))["sampler"] == (await client.get(SAMPLERS))["samplers"][0] == sampler
    # Like any other, it is there until somebody deactivates it.
    assert client.emulator.billed == {sampler["id"]}
    await client.post(f"{path}/deactivate")
    await until(lambda: client.emulator.samplers[0].status == "INACTIVE")


async def test_the_organisation_can_prefer_serverless_samplers() -> None:
    async with Emulator(serverless=True) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        asked: list[dict[str, Any]] = [{}, {"availability_model": "dedicated"}, {"availability_model": "serverless"}]
        for options in asked:
            assert (await client.create(**options))["model_id"] is None
        asked = [{"availability_model": "spot"}, {"num_replicas": 1}, {"run_id": RUN}]
        for options in asked:
            assert (await client.create(**options))["model_id"]


async def test_a_sample_is_accepted_and_asked_for(client: Client, gateway: Gateway) -> None:
    sampler = await serverless(client)
    accepted = await gateway.submit(X_Sampler_Id=sampler["id"])
    assert set(accepted) == {"operation_id", "schema_version"}
    assert accepted["schema_version"] == 1
    first, second = [await gateway.result(accepted["operation_id"], X_Sampler_Id=sampler["id"]) for _ in range(2)]
    assert first["result"]["choices"] == second["result"]["choices"]
    assert (first["status"], first["result"]["model"]) == ("done", QWEN)
    dedicated = await client.create()
    await until(lambda: client.emulator.samplers[1].status == "ACTIVE")
    answer = await client.post(dedicated["base_url"] + "/sample", json=BODY)
    assert answer["choices"] == first["result"]["choices"]


async def test_an_idempotency_key_names_one_operation(client: Client, gateway: Gateway) -> None:
    identity = {"X_Sampler_Id": (await serverless(client))["id"]}
    one = await gateway.submit(202, {"seed": None}, Idempotency_Key="k", **identity)
    assert await gateway.submit(202, {"seed": None}, Idempotency_Key="k", **identity) == one
    assert await gateway.submit(202, {"seed": None}, Idempotency_Key="other", **identity) != one
    # Another caller's key is another one.
    assert await gateway.submit(202, {"seed": None}, Idempotency_Key="k", Authorization="Api-Key o", **identity) != one
    problem = await gateway.submit(400, Idempotency_Key="", **identity)
    assert problem["error"]["param"] == "Idempotency-Key"


async def test_the_header_chooses_the_checkpoint(client: Client, gateway: Gateway) -> None:
    sampler = await serverless(client, base_model=QWEN, model_path=STEP_100)
    identity = {"X_Sampler_Id": sampler["id"]}
    base = await gateway.text(**identity)
    one, other = [await gateway.text(X_Checkpoint_Path=path) for path in (STEP_100, STEP_200)]
    assert len({base, one, other}) == 3
    assert await gateway.text(X_Sampler_Id=(await serverless(client))["id"]) == base
    assert await gateway.text({"lora": STEP_100}, X_Checkpoint_Path=STEP_100) == one
    problem = await gateway.submit(400, {"lora": STEP_200}, X_Checkpoint_Path=STEP_100)
    assert problem["error"]["param"] == "lora"


async def test_a_request_names_one_run_or_sampler_that_is_there(client: Client, gateway: Gateway) -> None:
    own, dedicated = await serverless(client), await client.create()
    body = {"session_id": await client.session_id(), "base_model": QWEN, "availability_model": "serverless"}
    run = (await client.post("/v1/loops/runs", json=body))["run"]
    assert (run["sampler"]["model_id"], run["sampler"]["status"]) == (None, {"name": "ACTIVE"})
    assert await gateway.text(X_Run_Id=run["id"]) == await gateway.text(X_Sampler_Id=own["id"])
    for status, code, headers in (
        (400, "run_or_sampler_required", {}),
        (400, "run_and_sampler_given", {"X_Run_Id": run["id"], "X_Sampler_Id": own["id"]}),
        (400, "run_mismatch", {"X_Run_Id": run["id"], "X_Checkpoint_Path": STEP_100}),
        (400, "not_serverless", {"X_Sampler_Id": dedicated["id"]}),
        (404, "not_found", {"X_Sampler_Id": "nobody"}),
        (404, "not_found", {"X_Run_Id": "nobody"}),
        (404, "not_found", {"X_Run_Id": RUN}),  # its sampler was never created
        (400, "validation_error", {"X_Checkpoint_Path": STEP_100 + "0"}),
    ):
        assert (await gateway.submit(status, **headers))["error"] == code
        assert (await gateway.result("op", status, **headers))["error"] == code
    _, response = await client.send(
        "POST", f"{gateway.url}/sample", 400, json=BODY, headers={"X-Baseten-Accept-Error": "1"}
    )
    marks = [response.headers[f"X-Baseten-Error-{each}"] for each in ("Source", "Code")]
    assert marks == ["06", "run_or_sampler_required"]
    await client.post(f"{SAMPLERS}/{own['id']}/deactivate")
    await gateway.submit(404, X_Sampler_Id=own["id"])


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("model", {"model": None}),
        ("model", {"model": "other"}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": [1] * 9}),
        ("temperature", {"temperature": -1}),
    ],
)
async def test_a_malformed_sample_is_refused(client: Client, gateway: Gateway, param: str, body: Any) -> None:
    sampler = await serverless(client, max_seq_length=8)
    problem = (await gateway.submit(400, body, X_Sampler_Id=sampler["id"]))["error"]
    assert (problem["type"], problem["param"]) == ("BadRequestError", param)


async def test_an_operation_can_be_cancelled_until_somebody_asks(client: Client, gateway: Gateway) -> None:
    identity = {"X_Sampler_Id": (await serverless(client))["id"]}
    headers = {"X-Sampler-Id": identity["X_Sampler_Id"]}
    one, other = [(await gateway.submit(**identity))["operation_id"] for _ in range(2)]
    for _ in range(2):
        await client.post(f"{gateway.url}/operations/{one}/cancel", headers=headers)
    assert (await gateway.result(one, **identity))["status"] == "error"
    assert (await gateway.result(other, **identity))["status"] == "done"
    await client.post(f"{gateway.url}/operations/{other}/cancel", 409, headers=headers)
    await client.post(f"{gateway.url}/operations/nobody/cancel", 404, headers=headers)
    await gateway.result("nobody", 404, **identity)


async def test_a_result_that_is_too_large_is_an_error_of_the_operation(client: Client, gateway: Gateway) -> None:
    identity = {"X_Sampler_Id": (await serverless(client))["id"]}
    body = {"prompt": [1] * 300, "prompt_logprobs": 20, "n": 1024, "max_tokens": 1}
    operation_id = (await gateway.submit(202, body, **identity))["operation_id"]
    result = await gateway.result(operation_id, **identity)
    assert (result["status"], result["error_class"]) == ("error", "BadRequestError")


async def test_faults_cover_the_gateway_and_a_key_for_inference_opens_it() -> None:
    keys = {"api_key": "main", "inference_api_key": "inference"}
    async with Emulator(**keys) as emulator, aiohttp.ClientSession() as http:  # type: ignore[arg-type]
        client = Client(emulator, http)
        http.headers["Authorization"] = "Bearer main"
        sampler = await serverless(client)
        http.headers["Authorization"] = "Bearer inference"
        gateway = Gateway(client)
        identity = {"X_Sampler_Id": sampler["id"]}
        operation_id = (await gateway.submit(**identity))["operation_id"]
        emulator.add_fault(Fault(route="/serverless/operations/{operation_id}", status=408))
        await gateway.result(operation_id, 408, **identity)
        assert (await gateway.result(operation_id, **identity))["status"] == "done"
        http.headers["Authorization"] = "Bearer other"
        await gateway.submit(401, **identity)


async def test_old_operations_are_forgotten(client: Client, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loops_async.emulator._operations._TOKENS_KEPT", 10)
    identity = {"X_Sampler_Id": (await serverless(client))["id"]}
    ids = [(await gateway.submit(**identity))["operation_id"] for _ in range(5)]
    statuses = [(await gateway.result(each, 200 if each in ids[2:] else 404, **identity)) for each in ids]
    assert [each.get("status") for each in statuses] == [None, None, "done", "done", "done"]
    # Nothing of the old ones is left.
    operations = client.emulator._site.operations
    assert len(operations._by_key) == len(operations._keys) == len(operations._by_id) == 3
