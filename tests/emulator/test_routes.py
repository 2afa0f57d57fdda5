"""The emulator over real sockets, driven by aiohttp alone."""

import asyncio
import io
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from yarl import URL

from loops_async.emulator import CatalogModel, Emulator, Fault, Stage

from .support import FAST, ONE, SAMPLERS, SESSIONS, Client, until


async def test_a_session_can_be_read_back(client: Client) -> None:
    session_id = await client.session_id()
    assert await client.get(f"{SESSIONS}/{session_id}") == {"session": {"id": session_id}}
    assert (await client.get(f"{SESSIONS}/other", 404))["code"] == "NOT_FOUND"


async def test_a_session_create_takes_any_body(client: Client) -> None:
    await client.post(SESSIONS, json={"training_project_id": "p"})
    await client.post("/v1/teams/t1/loops/sessions")


async def test_a_new_sampler_is_complete(client: Client) -> None:
    before = datetime.now(UTC)
    sampler = await client.create(max_seq_length=4096, num_replicas=1, availability_model="spot")
    assert set(sampler) == {
        *("id", "base_url", "base_model", "created_at", "model_id", "deployment_id"),
        *("status", "user", "instance_type", "node_count"),
    }
    assert sampler["base_url"] == (
        f"{client.emulator.url}/models/{sampler['model_id']}/deployment/{sampler['deployment_id']}/sync"
    )
    assert sampler["user"] == {"email": "developer@example.com"}
    assert sampler["created_at"].endswith("Z")
    assert before <= datetime.fromisoformat(sampler["created_at"]) <= datetime.now(UTC)
    assert client.emulator.billed == {sampler["id"]}


async def test_a_sampler_reaches_active_and_shuts_down(client: Client) -> None:
    sampler = await client.create()
    path = f"{SAMPLERS}/{sampler['id']}"
    await until(lambda: client.emulator.samplers[0].status == "ACTIVE")
    assert (await client.get(path))["sampler"]["status"] == {"name": "ACTIVE"}
    answer = await client.post(f"{path}/deactivate")
    assert answer == {
        "id": sampler["id"],
        "base_model": "Qwen/Qwen3-8B",
        "user": {"email": "developer@example.com"},
    }
    assert client.emulator.billed == frozenset()
    await until(lambda: client.emulator.samplers[0].status == "INACTIVE")
    assert await client.post(f"{path}/deactivate") == answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"base_model": "m"}', 400),
        (b'{"session_id": "nobody", "base_model": "m"}', 404),
    ],
)
async def test_a_bad_create_makes_nothing(client: Client, body: bytes, status: int) -> None:
    assert set(await client.post(SAMPLERS, status, data=body)) == {"code", "message"}
    assert client.emulator.samplers == ()


async def test_a_paired_sampler_cannot_be_deactivated(client: Client) -> None:
    sampler = await client.create(run_id="k4q95w5")
    answer = await client.post(f"{SAMPLERS}/{sampler['id']}/deactivate", 409)
    assert "k4q95w5" in answer["message"]


async def test_lists_are_newest_first_by_scope_and_team(client: Client) -> None:
    own = [(await client.create())["id"] for _ in range(3)]
    body = {"session_id": await client.session_id(), "base_model": "m"}
    of_team = (await client.post("/v1/teams/t1/loops/samplers", json=body))["sampler"]["id"]

    async def ids(path: str) -> list[str]:
        return [sampler["id"] for sampler in (await client.get(path))["samplers"]]

    assert await ids(SAMPLERS) == own[::-1]
    assert await ids(f"{SAMPLERS}?scope=org") == [of_team, *own[::-1]]
    assert await ids("/v1/teams/t1/loops/samplers") == [of_team]
    assert await ids("/v1/teams/t2/loops/samplers") == []
    assert [view.id for view in client.emulator.samplers] == [*own, of_team]


async def test_get_and_list_show_the_same_document(client: Client) -> None:
    sampler = await client.create()
    client.emulator.set_status(sampler["id"], "BRAND_NEW")
    one = (await client.get(f"{SAMPLERS}/{sampler['id']}"))["sampler"]
    assert one["status"] == {"name": "BRAND_NEW"}
    assert (await client.get(SAMPLERS))["samplers"] == [one]
    assert client.emulator.sampler_document(sampler["id"]) == one


@pytest.mark.parametrize("sampler_id", ["nobody", "a%2Fb", "..%2Fcapabilities", "%F0%9F%92%A5", "a%3Fb"])
async def test_an_unknown_id_stays_one_segment_and_is_not_found(client: Client, sampler_id: str) -> None:
    await client.get(f"{SAMPLERS}/{sampler_id}", 404)
    await client.post(f"{SAMPLERS}/{sampler_id}/deactivate", 404)
    assert [(each.route, each.path) for each in client.emulator.received] == [
        (ONE, f"{SAMPLERS}/{sampler_id}"),
        (f"{ONE}/deactivate", f"{SAMPLERS}/{sampler_id}/deactivate"),
    ]


async def test_capabilities_say_what_can_run(client: Client) -> None:
    async def models(query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get("/v1/loops/capabilities" + query))["supported_models"]
        return found

    everything = await models()
    assert {model["model_name"] for model in everything if not model["enabled"]} == {"zai-org/GLM-5.2-FP8"}
    (one,) = await models("?model=Qwen/Qwen3-0.6B&use_case=sft&max_seq_len=8192")
    assert (one["enabled"], one["enablement_details"]) == (True, None)
    (one,) = await models("?model=Qwen/Qwen3-0.6B&max_seq_len=8193")
    assert (one["enabled"], one["enablement_details"]["reason"]) == (False, "sequence_length_unsupported")
    assert await models("?model=nobody/nothing") == []
    await client.get("/v1/loops/capabilities?max_seq_len=0", 400)


async def test_a_model_that_cannot_run_is_refused(client: Client) -> None:
    for model in (await client.get("/v1/loops/capabilities"))["supported_models"]:
        body = {"session_id": await client.session_id(), "base_model": model["model_name"]}
        if model["enabled"]:
            assert model["max_seq_len"] == model["max_enabled_seq_len"] == model["max_context_length"]
            await client.post(SAMPLERS, json=body)
        else:
            assert model["max_enabled_seq_len"] == 0
            for path in (SAMPLERS, "/v1/loops/runs"):
                assert "is not enabled" in (await client.post(path, 400, json=body))["message"]
    assert len(client.emulator.samplers) == 19


async def test_the_catalogue_can_be_set() -> None:
    models: list[CatalogModel | str] = [
        "my/model",
        CatalogModel("short/model", max_seq_len=10, end_id=7),
        CatalogModel("no/model", enabled=False),
    ]
    lifecycles = {"*": [Stage("ACTIVE")]}
    async with Emulator(models=models, lifecycles=lifecycles) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        told = (await client.get("/v1/loops/capabilities"))["supported_models"]
        assert {each["model_name"]: each["max_enabled_seq_len"] for each in told} == {
            "my/model": 131_072,
            "short/model": 10,
            "no/model": 0,
        }
        await client.create("my/model")
        session_id = await client.session_id()
        for body, complaint in (
            ({"base_model": "no/model"}, "not enabled"),
            ({"base_model": "other/model"}, "not a supported model"),
            ({"base_model": "short/model", "max_seq_length": 11}, "at most 10"),
            ({"model_path": "bt://loops:k4q95w5/sampler_weights/step-100"}, "not a supported model"),
        ):
            answer = await client.post(SAMPLERS, 400, json={"session_id": session_id} | body)
            assert complaint in answer["message"]
        assert len(emulator.samplers) == 1
        # A run that is there shows that its model runs.
        await client.create("run/model", run_id=emulator.add_run("run/model"))
        sample = (await client.create("short/model"))["base_url"] + "/sample"
        choice = await client.post(sample, json={"prompt": [1], "max_tokens": 9, "stop_token_ids": [7], "seed": 3})
        assert choice["usage"]["total_tokens"] <= 10
        await client.post(sample, 400, json={"prompt": [1], "max_tokens": 10})


@pytest.mark.parametrize(
    "models",
    [
        *("m", 7, [7], [""], ["m", "m"], {"m": 1, 7: 1}),
        *([("m", 8192)], [None]),
    ],
)
def test_a_catalogue_that_makes_no_sense_is_refused(models: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="model"):
        Emulator(models=models)


@pytest.mark.parametrize(
    "settings",
    [{"max_seq_len": 0}, {"max_seq_len": 1.5}, {"end_id": -1}, {"end_id": 10**6}, {"enabled": None}, {"vision": 1}],
)
def test_a_model_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(settings))):
        CatalogModel("m", **settings)


async def test_checkpoints_can_be_listed_validated_and_fetched(client: Client) -> None:
    base = "/v1/loops/checkpoints"
    path = "bt://loops:k4q95w5/sampler_weights/step-100"
    (found,) = (await client.get(f"{base}?checkpoint_path={path}"))["checkpoints"]
    assert (found["checkpoint_id"], found["run_id"], found["target"]) == ("step-100", "k4q95w5", "sampler")
    assert len((await client.get(f"{base}?run_id=k4q95w5"))["checkpoints"]) == 3
    assert (await client.get(f"{base}?checkpoint_path={path}0"))["checkpoints"] == []
    await client.get(base, 400)
    await client.get(f"{base}?run_id=k4q95w5&base_model=m", 400)
    assert await client.post(f"{base}/validate", json={"checkpoint_path": path, "run_id": "k4q95w5"}) == {}
    await client.post(f"{base}/validate", 400, json={"checkpoint_path": path + "0"})
    await client.post(f"{base}/validate", 400, json={})
    assert await client.get(f"{base}/{found['id']}/source") == {"source": {"kind": "s3"}}
    await client.get(f"{base}/nobody/files", 404)
    await client.get(f"{base}/nobody/source", 404)


async def test_checkpoint_files_come_in_pages(client: Client) -> None:
    base = "/v1/loops/checkpoints"
    (found,) = (await client.get(f"{base}?checkpoint_path=bt://loops:k4q95w5/weights/step-100"))["checkpoints"]
    path, names, token = f"{base}/{found['id']}/files", [], 0
    while token is not None:
        page = await client.get(f"{path}?page_size=2&page_token={token}")
        names += [file["relative_file_name"] for file in page["presigned_urls"]]
        token = page["next_page_token"]
    assert len(names) == page["total_count"] == 3 == len(set(names))
    assert (await client.get(path))["next_page_token"] is None
    await client.get(f"{path}?page_size=0", 400)
    await client.get(f"{path}?page_token=-1", 400)


async def test_a_wake_moves_a_sampler_on_and_the_data_plane_follows_its_status() -> None:
    lifecycles = {"m": [Stage("SCALED_TO_ZERO"), Stage("WAKING_UP", 1.0), Stage("ACTIVE")]}
    async with Emulator(speed=FAST, lifecycles=lifecycles) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        sampler = await client.create("m")
        models, wake = sampler["base_url"] + "/v1/models", sampler["base_url"].removesuffix("/sync") + "/wake"
        assert "SCALED_TO_ZERO" in (await client.get(models, 503))["message"]
        assert await client.post(wake, 202) == {}
        await until(lambda: emulator.samplers[0].status == "ACTIVE")
        assert [model["id"] for model in (await client.get(models))["data"]] == ["m"]
        await client.post(f"{SAMPLERS}/{sampler['id']}/deactivate")
        await until(lambda: emulator.samplers[0].status == "INACTIVE")
        await client.get(models, 404)
        await client.post(wake, 404)


async def test_any_request_to_the_data_plane_wakes_a_sampler() -> None:
    lifecycles = {"m": [Stage("SCALED_TO_ZERO"), Stage("WAKING_UP", 1.0), Stage("ACTIVE")]}
    async with Emulator(speed=FAST, lifecycles=lifecycles) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        models = (await client.create("m"))["base_url"] + "/v1/models"
        assert "SCALED_TO_ZERO" in (await client.get(models, 503))["message"]
        await until(lambda: emulator.samplers[0].status == "ACTIVE")
        await client.get(models)


async def test_what_is_no_route_is_refused_as_json(client: Client) -> None:
    assert (await client.get("/v1/nothing", 404))["code"] == "NOT_FOUND"
    document, response = await client.send("DELETE", SAMPLERS, 405)
    assert document["code"] == "METHOD_NOT_ALLOWED"
    assert response.headers["Allow"] == "GET,POST"
    assert [each.route for each in client.emulator.received] == [None, None]


async def test_a_body_that_is_too_large_is_refused_as_json(client: Client) -> None:
    assert "code" in await client.post(SAMPLERS, 413, data=io.BytesIO(b"x" * (2 * 1024 * 1024)))
    assert len(client.emulator.received) == 1


async def test_checkpoint_files_can_be_downloaded_without_a_key() -> None:
    async with Emulator(api_key="key") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        headers = {"Authorization": "Bearer key"}
        base, contents = "/v1/loops/checkpoints", {}
        for found in (await client.get(f"{base}?run_id=k4q95w5", headers=headers))["checkpoints"]:
            files = (await client.get(f"{base}/{found['id']}/files", headers=headers))["presigned_urls"]
            for file in files:
                async with http.get(file["url"]) as response:
                    assert response.status == 200
                    content = contents[file["relative_file_name"]] = await response.read()
                assert len(content) == file["size_bytes"]
            assert sum(file["size_bytes"] for file in files) == found["size_bytes"] < 10_000
        assert json.loads(contents["adapter_config.json"])["r"] == 64
        tensors = contents["adapter_model.safetensors"]
        length = int.from_bytes(tensors[:8], "little")
        (tensor,) = json.loads(tensors[8 : 8 + length]).values()
        assert tensor["data_offsets"] == [0, len(tensors) - 8 - length]
        await client.get("/checkpoint-files/nobody/adapter_config.json", 404)
        await client.get(f"/checkpoint-files/{found['id']}/nothing", 404)


@pytest.mark.parametrize("header", ["Bearer key", "Api-Key key", "bearer key", "api-key  key"])
async def test_both_schemes_let_the_key_in(header: str) -> None:
    async with Emulator(api_key="key") as emulator, aiohttp.ClientSession() as http:
        await Client(emulator, http).post(SESSIONS, headers={"Authorization": header})


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer other", "Basic key", "key", "Bearer kéy"])
async def test_all_else_is_refused_before_anything_happens(header: str | None) -> None:
    async with Emulator(api_key="key") as emulator, aiohttp.ClientSession() as http:
        emulator.add_fault(Fault(status=500))
        headers = None if header is None else {"Authorization": header}
        for path in (SESSIONS, "/v1/nothing", "/models/a/deployment/b/wake"):
            answer = await Client(emulator, http).post(path, 401, headers=headers)
            assert answer["code"] == "UNAUTHORIZED"
        assert [each.path for each in emulator.received] == [SESSIONS, "/v1/nothing", "/models/a/deployment/b/wake"]
        assert "key" not in repr(emulator.received)


async def test_requests_are_kept_as_they_were_sent(client: Client) -> None:
    before = time.monotonic()
    await client.post(f"{SESSIONS}?a=1&b=x%20y", json={"k": 1}, headers={"X-Own": "yes"})
    await client.get(SAMPLERS)
    first, second = client.emulator.received
    assert (first.method, first.path, first.route) == ("POST", SESSIONS, SESSIONS)
    assert (first.query, first.json, first.headers["x-own"]) == ({"a": "1", "b": "x y"}, {"k": 1}, "yes")
    assert before <= first.at <= second.at <= time.monotonic()
    assert client.emulator.requests("GET") == client.emulator.requests(route=SAMPLERS) == [second]
    client.emulator.clear_received()
    assert client.emulator.received == ()


async def test_requests_are_not_kept_for_ever_by_default(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    record = client.emulator._received
    assert record.limit == 10_000
    monkeypatch.setattr("loops_async.emulator._received._BYTES_KEPT", 1000)
    for number in range(5):
        await client.post(f"{SESSIONS}?number={number}", data=b"x" * 400)
    assert [each.query["number"] for each in client.emulator.received] == ["3", "4"]
    # One that is too large alone is kept all the same.
    await client.post(SESSIONS, data=b"x" * 2000)
    assert [len(each.body) for each in client.emulator.received] == [2000]
    await client.post(SESSIONS)
    client.emulator.clear_received()
    assert (client.emulator.received, record._bytes) == ((), 0)


async def test_only_so_many_requests_are_kept_as_was_asked_for() -> None:
    async with Emulator(keep_received=2) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        for number in range(4):
            await client.get(f"{SAMPLERS}/{number}", 404)
        assert [each.path[-1] for each in emulator.received] == ["2", "3"]


@pytest.mark.parametrize(("cut", "made"), [("before", 0), ("after", 1)])
async def test_a_cut_connection_gives_no_answer(
    client: Client, cut: Any, made: int, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    client.emulator.add_fault(Fault(method="POST", route=SAMPLERS, cut=cut))
    with caplog.at_level(logging.DEBUG), pytest.raises(aiohttp.ServerDisconnectedError):
        await client.post(SAMPLERS, json=body)
    assert [each.json for each in client.emulator.requests(route=SAMPLERS)] == [body]
    assert len(client.emulator.samplers) == made
    await client.post(SAMPLERS, json=body)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


@pytest.mark.parametrize("length", [0, 1, 20])
async def test_a_partial_answer_breaks_off(client: Client, length: int, caplog: pytest.LogCaptureFixture) -> None:
    client.emulator.add_fault(Fault(partial=length))
    with caplog.at_level(logging.DEBUG):
        async with client.http.post(client.emulator.url + SESSIONS) as response:
            assert response.status == 200
            assert response.content_length == len('{"session": {"id": "1234567"}}')
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await client.session_id()
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_a_status_is_answered_instead_of_processing(client: Client) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    client.emulator.add_fault(Fault(status=429, retry_after="7", headers={"X-More": "m"}))
    document, response = await client.send("POST", SAMPLERS, 429, json=body)
    assert set(document) == {"code", "message"}
    assert (response.headers["Retry-After"], response.headers["X-More"]) == ("7", "m")
    assert client.emulator.samplers == ()


async def test_a_status_can_follow_the_processing(client: Client) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    client.emulator.add_fault(Fault(status_after=500))
    await client.post(SAMPLERS, 500, json=body)
    assert len(client.emulator.samplers) == 1


async def test_a_status_without_a_name_is_answered_too(client: Client) -> None:
    client.emulator.add_fault(Fault(status=599))
    await client.post(SESSIONS, 599)


@pytest.mark.parametrize(
    ("fault", "status", "made"),
    [
        (Fault(body=b"<html>"), 200, 1),
        (Fault(body=b"<html>", status=502), 502, 0),
        (Fault(body=b"<html>", status_after=504), 504, 1),
    ],
)
async def test_garbage_comes_in_the_place_of_the_answer(client: Client, fault: Fault, status: int, made: int) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    client.emulator.add_fault(fault)
    async with client.http.post(client.emulator.url + SAMPLERS, json=body) as response:
        assert (response.status, response.content_type) == (status, "application/json")
        assert await response.read() == b"<html>"
    assert len(client.emulator.samplers) == made


async def test_delays_lie_before_and_after_the_processing(client: Client) -> None:
    client.emulator.add_fault(Fault(delay=0.03))
    client.emulator.add_fault(Fault(delay_after=0.03))
    body = {"session_id": "later", "base_model": "m"}
    for _ in range(2):
        started = time.monotonic()
        await client.post(SAMPLERS, 404, json=body)
        assert time.monotonic() - started >= 0.03


async def test_a_client_that_gives_up_does_not_stop_the_processing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    client.emulator.add_fault(Fault(delay=0.25))
    with pytest.raises(TimeoutError):
        await client.post(SAMPLERS, json=body, timeout=aiohttp.ClientTimeout(total=0.01))
    assert client.emulator.samplers == ()
    await until(lambda: client.emulator.samplers)
    assert caplog.records == []


async def test_a_client_that_leaves_within_its_body_is_recorded(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    port = URL(emulator.url).port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/loops/samplers HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    await until(lambda: emulator.received)
    assert (emulator.received[0].route, emulator.received[0].body) == (SAMPLERS, b"")
    assert emulator.samplers == ()
    assert caplog.records == []


async def test_faults_can_be_taken_back(client: Client) -> None:
    fault = client.emulator.add_fault(Fault(status=500, times=None))
    await client.post(SESSIONS, 500)
    client.emulator.remove_fault(fault)
    await client.post(SESSIONS)
    client.emulator.add_fault(Fault(status=500, times=None))
    client.emulator.clear_faults()
    await client.post(SESSIONS)


async def test_a_skewed_clock_shows_in_the_creation_time() -> None:
    async with Emulator(clock_skew=-3600) as emulator, aiohttp.ClientSession() as http:
        created_at = datetime.fromisoformat((await Client(emulator, http).create())["created_at"])
        assert abs(datetime.now(UTC) - timedelta(hours=1) - created_at) < timedelta(minutes=1)
        assert emulator.samplers[0].created_at == created_at


async def test_an_owner_may_have_no_address() -> None:
    async with Emulator(user_email=None) as emulator, aiohttp.ClientSession() as http:
        assert (await Client(emulator, http).create())["user"] == {"email": None}


async def test_unknown_samplers_are_key_errors_of_the_test(emulator: Emulator) -> None:
    with pytest.raises(KeyError):
        emulator.set_status("nobody", "ACTIVE")
    with pytest.raises(KeyError):
        emulator.sampler_document("nobody")
    with pytest.raises(ValueError, match="empty"):
        emulator.set_status("nobody", "")


def test_there_is_no_address_before_the_start() -> None:
    emulator = Emulator()
    assert repr(emulator) == "<Emulator not started>"
    with pytest.raises(RuntimeError):
        _ = emulator.url


async def test_the_key_is_not_in_the_repr() -> None:
    async with Emulator(api_key="hush") as emulator:
        assert repr(emulator) == f"<Emulator {emulator.url}>"


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(emulator: Emulator) -> None:
    other = Emulator(port=URL(emulator.url).port or 0)
    with pytest.raises(OSError, match="address"):
        await other.start()
    await other.aclose()


async def test_a_running_emulator_is_not_started_twice(emulator: Emulator) -> None:
    with pytest.raises(RuntimeError):
        await emulator.start()


async def test_closing_is_quick_whatever_is_in_flight() -> None:
    emulator = Emulator()
    await emulator.start()
    async with aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        await client.session_id()
        emulator.add_fault(Fault(delay=3600))
        emulator.add_fault(Fault(delay_after=3600))
        stuck = [asyncio.create_task(client.post(SESSIONS)) for _ in range(2)]
        await until(lambda: len(emulator.received) == 3)
        started = time.monotonic()
        await emulator.aclose()
        assert time.monotonic() - started < 2
        outcomes = await asyncio.gather(*stuck, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [aiohttp.ServerDisconnectedError] * 2
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(SESSIONS)
    await emulator.aclose()


async def test_an_outage_keeps_the_address_and_the_samplers() -> None:
    async with Emulator(speed=FAST) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        sampler, url = await client.create(), emulator.url
        await emulator.aclose()
        assert [view.id for view in emulator.samplers] == [sampler["id"]]
        await emulator.start()
        assert emulator.url == url
        assert (await client.get(f"{SAMPLERS}/{sampler['id']}"))["sampler"]["id"] == sampler["id"]
