"""Runs, their samplers and deployments, over real sockets."""

from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator

from .support import FAST, SAMPLERS, SESSIONS, Client, until

RUNS = "/v1/loops/runs"
DEPLOYMENTS = "/v1/loops/deployments"
GIVEN = "k4q95w5"
"""The run that is there from the start."""


async def create_run(client: Client, team: str = "", **options: Any) -> dict[str, Any]:
    path = f"/v1/teams/{team}/loops/runs" if team else RUNS
    body = {"session_id": await client.session_id(), "base_model": "Qwen/Qwen3-8B"} | options
    document: dict[str, Any] = (await client.post(path, json=body))["run"]
    return document


async def ids(client: Client, query: str = "", path: str = RUNS) -> list[str]:
    return [run["id"] for run in (await client.get(path + query))["runs"]]


async def test_a_new_run_is_complete_and_has_a_sampler(client: Client) -> None:
    run = await create_run(client, name="mine")
    assert set(run) == {
        *("id", "session_id", "deployment_id", "name", "base_model", "lora_config_version", "base_url"),
        *("created_at", "status", "user", "sampler"),
    }
    assert (run["name"], run["status"]) == ("mine", {"name": "ACTIVE"})
    assert client.emulator.billed == {run["sampler"]["id"]}
    await until(lambda: client.emulator.samplers[0].status == "ACTIVE")
    read = (await client.get(f"{RUNS}/{run['id']}"))["run"]
    assert read["sampler"] == (await client.get(f"{SAMPLERS}/{run['sampler']['id']}"))["sampler"]
    assert read | {"sampler": None} == run | {"sampler": None}


async def test_a_run_and_its_sampler_go_together(client: Client) -> None:
    run = await create_run(client)
    refused = await client.post(f"{SAMPLERS}/{run['sampler']['id']}/deactivate", 409)
    assert run["id"] in refused["message"]
    assert client.emulator.billed
    for _ in range(2):
        answer = await client.post(f"{RUNS}/{run['id']}/deactivate")
        assert answer == {"id": run["id"], "base_model": run["base_model"], "user": run["user"]}
    assert client.emulator.billed == frozenset()
    assert (await client.get(f"{RUNS}/{run['id']}"))["run"]["status"] == {"name": "INACTIVE"}
    await until(lambda: client.emulator.samplers[0].status == "INACTIVE")
    body = {"session_id": run["session_id"], "run_id": run["id"]}
    assert run["id"] in (await client.post(SAMPLERS, 409, json=body))["message"]


async def test_a_create_for_a_run_gives_the_sampler_that_it_has(client: Client) -> None:
    run = await create_run(client)
    body = {"session_id": run["session_id"], "run_id": run["id"]}
    assert (await client.post(SAMPLERS, json=body))["sampler"]["id"] == run["sampler"]["id"]
    client.emulator.set_status(run["sampler"]["id"], "FAILED")
    await client.post(SAMPLERS, 400, json=body | {"availability_model": "spot"})
    assert len(client.emulator.samplers) == 1
    second = (await client.post(SAMPLERS, json=body))["sampler"]
    assert second["id"] != run["sampler"]["id"]
    assert (await client.get(f"{RUNS}/{run['id']}"))["run"]["sampler"]["id"] == second["id"]


async def test_lists_are_newest_first_and_filtered(client: Client) -> None:
    first, second = await create_run(client), await create_run(client, base_model="other/model")
    of_team = await create_run(client, team="t1")
    assert await ids(client) == [second["id"], first["id"], GIVEN]
    assert await ids(client, "?scope=org") == [of_team["id"], second["id"], first["id"], GIVEN]
    assert await ids(client, "?base_model=other/model") == [second["id"]]
    assert await ids(client, f"?run_id={first['id']}") == [first["id"]]
    assert await ids(client, f"?run_id={of_team['id']}") == []
    assert await ids(client, path="/v1/teams/t1/loops/runs") == [of_team["id"]]
    listed = (await client.get("/v1/teams/t1/loops/samplers"))["samplers"]
    assert [sampler["id"] for sampler in listed] == [of_team["sampler"]["id"]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *(({name: None}, name) for name in ("session_id", "base_model", "lora_rank", "replicas", "availability_model")),
        *(({"scale_down_delay_seconds": value}, "scale_down_delay_seconds") for value in (0, 3601, None, 1.5, True)),
        *(({"name": value}, "name") for value in ("", "n" * 256, 7)),
        *(({"sampler_num_replicas": value}, "sampler_num_replicas") for value in (0, "1")),
        ({"lora_rank": 0}, "lora_rank"),
        ({"seed": "x"}, "seed"),
        ({"path": "bt://loops:k4q95w5/sampler_weights/step-100"}, "path"),
        ({"reuse_from_run_id": 5}, "reuse_from_run_id"),
    ],
)
async def test_a_bad_create_makes_nothing(client: Client, change: dict[str, Any], field: str) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"} | change
    answer = await client.post(RUNS, 400, json=body)
    assert answer["code"] == "VALIDATION_ERROR"
    assert field in answer["message"]
    assert client.emulator.samplers == ()
    assert await ids(client) == [GIVEN]


async def test_the_limits_of_a_create_are_within(client: Client) -> None:
    await create_run(
        client,
        name="n" * 255,
        scale_down_delay_seconds=3600.0,
        lora_rank=1,
        replicas=2,
        sampler_num_replicas=2,
        seed=-1,
        path="bt://loops:k4q95w5/weights/step-100",
        max_seq_len=None,
    )


async def test_what_does_not_exist_is_not_found(client: Client) -> None:
    await client.post(RUNS, 404, json={"session_id": "nobody", "base_model": "m"})
    for path in (f"{RUNS}/nobody", f"{DEPLOYMENTS}/nobody"):
        await client.get(path, 404)
        await client.post(f"{path}/deactivate", 404)
    await client.get("/v1/models/nobody/deployments/nothing", 404)


async def test_the_deployment_of_a_trainer_lives_and_dies_with_its_run(client: Client) -> None:
    run = await create_run(client, availability_model="spot")
    path = f"{DEPLOYMENTS}/{run['deployment_id']}"

    async def status() -> str:
        return str((await client.get(path))["deployment"]["status"]["name"])

    seen = [await status()]
    while seen[-1] != "RUNNING":
        seen.append(await status())
    assert {"RUNNING"} <= set(seen) <= {"CREATED", "DEPLOYING", "RUNNING"}
    shown = (await client.get(path))["deployment"]
    assert (shown["active_run_id"], shown["availability_model"]) == (run["id"], "spot")
    assert shown["sampler"]["id"] == run["sampler"]["id"]
    listed = (await client.get(DEPLOYMENTS))["deployments"]
    assert [each["latest_run_id"] for each in listed] == [run["id"], GIVEN]
    await client.post(f"{path}/deactivate")
    stopped = (await client.get(path))["deployment"]
    assert (stopped["status"]["name"], stopped["active_run_id"]) == ("STOPPED", None)
    assert (await client.get(f"{RUNS}/{run['id']}"))["run"]["status"] == {"name": "INACTIVE"}
    assert client.emulator.billed == frozenset()


async def test_the_deployment_of_a_model_has_a_plain_status_and_outlives_its_sampler(client: Client) -> None:
    sampler = await client.create(num_replicas=3)
    path = f"/v1/models/{sampler['model_id']}/deployments/{sampler['deployment_id']}"
    await until(lambda: client.emulator.samplers[0].status == "ACTIVE")
    shown = await client.get(path)
    assert (shown["status"], shown["active_replica_count"]) == ("ACTIVE", 3)
    await client.post(f"{SAMPLERS}/{sampler['id']}/deactivate")
    await until(lambda: client.emulator.samplers[0].status == "INACTIVE")
    gone = await client.get(path)
    assert (gone["status"], gone["active_replica_count"]) == ("INACTIVE", 0)


async def test_teams_are_those_that_were_named_or_given() -> None:
    async with Emulator(speed=FAST) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        assert await client.get("/v1/teams") == {"teams": []}
        await client.post("/v1/teams/t1/loops/sessions")
        assert [team["id"] for team in (await client.get("/v1/teams"))["teams"]] == ["t1"]
    async with Emulator(teams={"t1": "One", "t2": "Two"}) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        assert [team["name"] for team in (await client.get("/v1/teams"))["teams"]] == ["One", "Two"]
        assert [team["id"] for team in (await client.get("/v1/teams?name=Two"))["teams"]] == ["t2"]
        await client.post("/v1/teams/t1/loops/sessions")
        await client.post("/v1/teams/t3/loops/sessions", 404)
        body = {"session_id": await client.session_id(), "base_model": "m"}
        for resource in ("samplers", "runs"):
            await client.post(f"/v1/teams/t3/loops/{resource}", 404, json=body)
            await client.get(f"/v1/teams/t3/loops/{resource}", 404)
        assert emulator.samplers == ()


async def test_the_team_of_the_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Emulator() as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        monkeypatch.setenv("LOOPS_TEAM", "Research & more")
        for _ in range(2):
            (team,) = (await client.get("/v1/teams"))["teams"]
            assert team["name"] == "Research & more"
        assert team["id"].isalnum()
        session_id = (await client.post(f"/v1/teams/{team['id']}/loops/sessions"))["session"]["id"]
        assert (await client.get(f"{SESSIONS}/{session_id}"))["session"]["id"] == session_id
        assert (await client.get("/v1/teams?name=Research%20%26%20more"))["teams"] == [team]
    async with Emulator(teams={"t1": "One"}) as emulator, aiohttp.ClientSession() as http:
        assert [each["id"] for each in (await Client(emulator, http).get("/v1/teams"))["teams"]] == ["t1"]


async def test_a_session_of_another_team_is_refused(client: Client) -> None:
    async def session_of(team: str) -> str:
        return str((await client.post(f"/v1/teams/{team}/loops/sessions"))["session"]["id"])

    mine, other = await session_of("t1"), await session_of("t2")
    for resource in ("samplers", "runs"):
        body = {"base_model": "m", "session_id": mine}
        for path in (f"/v1/teams/t2/loops/{resource}", f"/v1/loops/{resource}"):
            assert (await client.post(path, 403, json=body))["code"] == "FORBIDDEN"
        await client.post(f"/v1/teams/t1/loops/{resource}", 403, json=body | {"session_id": other})
        await client.post(f"/v1/teams/t1/loops/{resource}", json=body)
        # A session that belongs to no team is the caller's own.
        await client.post(f"/v1/teams/t1/loops/{resource}", json=body | {"session_id": await client.session_id()})
    assert len(client.emulator.samplers) == 4


async def test_what_belongs_to_trainers_says_that_it_is_not_emulated(client: Client) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    run = (await client.post("/v1/loops/runs", json=body))["run"]
    deployment = f"/v1/loops/deployments/{run['deployment_id']}"
    for method, path in (
        ("POST", "/v1/loops/trainers"),
        ("POST", "/v1/teams/t1/loops/trainers"),
        ("POST", "/v1/loops/debug/trainers"),
        ("GET", f"/v1/loops/trainers/{run['id']}"),
        ("POST", f"{deployment}/metrics"),
        ("GET", f"{deployment}/logs"),
        ("GET", f"{deployment}/debug_archive/files"),
        ("POST", "/v1/loops/checkpoints/deploy"),
        ("GET", f"{run['base_url']}/health"),
        ("POST", f"{run['base_url']}/forward_backward"),
        ("POST", f"{run['base_url']}/sample"),
        ("GET", f"{run['base_url']}/v1/models"),
        ("POST", f"{run['base_url'].removesuffix('/sync')}/wake"),
    ):
        answer, _ = await client.send(method, path, 404)
        assert answer["code"] == "NOT_FOUND"
        assert answer["message"].startswith(f"Trainers are not emulated, so there is no {method} /")
    for path in ("/v1/loops/trainer", "/models/a/deployment/b/sync/v1/models", "/v1/loops/deployments/nobody"):
        assert "Trainers" not in (await client.get(path, 404))["message"]
