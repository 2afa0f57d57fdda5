"""What can be chosen where the sources leave the service open: error shapes, keys, clocks, lag."""

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator, Fault

from .support import FAST, SAMPLERS, SESSIONS, Client

LIST = SAMPLERS


@pytest.mark.parametrize(
    ("shape", "keys"),
    [("code", {"code", "message"}), ("error", {"error", "message", "details"}), ("detail", {"detail"})],
)
async def test_every_error_has_the_chosen_shape(shape: Any, keys: set[str]) -> None:
    async with Emulator(error_shape=shape, api_key="key") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        assert set(await client.post(SESSIONS, 401)) == keys
        http.headers["Authorization"] = "Bearer key"
        assert set(await client.get(f"{SAMPLERS}/nobody", 404)) == keys
        assert set(await client.get("/v1/nothing", 404)) == keys
        assert set(await client.post(SAMPLERS, 400, data=b"{")) == keys
        emulator.add_fault(Fault(status=503))
        assert set(await client.post(SESSIONS, 503)) == keys


async def test_what_breaks_its_schema_can_be_422() -> None:
    async with Emulator(invalid_status=422) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        await client.post(SAMPLERS, 422, data=b"{")
        await client.get("/v1/loops/capabilities?max_seq_len=0", 422)
        await client.get(f"{SAMPLERS}/nobody", 404)


async def test_a_key_for_inference_wakes_and_reads_no_status() -> None:
    settings = {"api_key": "key", "inference_api_key": "other"}
    async with Emulator(**settings) as emulator, aiohttp.ClientSession() as http:  # type: ignore[arg-type]
        client = Client(emulator, http)
        main, other = ({"Authorization": f"Api-Key {key}"} for key in ("key", "other"))
        body = {"session_id": (await client.post(SESSIONS, headers=main))["session"]["id"], "base_model": "m"}
        sampler = (await client.post(SAMPLERS, headers=main, json=body))["sampler"]
        wake = f"/models/{sampler['model_id']}/deployment/{sampler['deployment_id']}/wake"
        await client.post(wake, 202, headers=other)
        for path in (SESSIONS, SAMPLERS, "/v1/nothing"):
            assert (await client.post(path, 403, headers=other))["code"] == "FORBIDDEN"
        await client.get(f"{SAMPLERS}/{sampler['id']}", 403, headers=other)
        await client.get("/_emulator", 403, headers=other)
        await client.post(wake, 401, headers={"Authorization": "Api-Key third"})
        assert len(emulator.samplers) == 1


@pytest.mark.parametrize(
    "settings",
    [
        *({"list_lag": value} for value in (-1.0, float("nan"))),
        *({"clock_skew": value} for value in (float("inf"), 1e12)),
        *({"error_shape": "xml"}, {"invalid_status": 418}),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Emulator(**settings)


async def test_lists_lag_behind_and_gets_do_not() -> None:
    async with Emulator(speed=FAST, list_lag=3600) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        sampler = await client.create()
        assert (await client.get(f"{SAMPLERS}/{sampler['id']}"))["sampler"]["id"] == sampler["id"]
        assert await client.get(SAMPLERS) == {"samplers": []}
        emulator.list_lag = 0.15
        began = time.monotonic()
        emulator.set_status(sampler["id"], "UNHEALTHY")
        seen = []
        while "UNHEALTHY" not in seen:
            seen += [each["status"]["name"] for each in (await client.get(SAMPLERS))["samplers"]]
            assert (await client.get(f"{SAMPLERS}/{sampler['id']}"))["sampler"]["status"]["name"] == "UNHEALTHY"
            await asyncio.sleep(0.005)
        assert time.monotonic() - began >= 0.15
        emulator.list_lag = 0
        assert len((await client.get(SAMPLERS))["samplers"]) == 1
        with pytest.raises(ValueError, match="list_lag"):
            emulator.list_lag = -1


@pytest.mark.parametrize("resource", ["samplers", "runs", "deployments"])
async def test_a_lag_can_be_a_fault(client: Client, resource: str) -> None:
    body = {"session_id": await client.session_id(), "base_model": "m"}
    await client.post("/v1/loops/runs", json=body)
    path = f"/v1/loops/{resource}"
    client.emulator.add_fault(Fault(route=path, list_lag=3600))
    lagging, current = [(await client.get(path))[resource] for _ in range(2)]
    assert len(current) == len(lagging) + 1


async def test_a_skewed_clock_shows_in_the_date_too() -> None:
    async with Emulator(clock_skew=-3600) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        _, response = await client.send("POST", SESSIONS)
        behind = datetime.now(UTC) - parsedate_to_datetime(response.headers["Date"])
        assert timedelta(minutes=59) < behind < timedelta(minutes=61)


async def test_a_skew_can_be_a_fault(client: Client) -> None:
    client.emulator.add_fault(Fault(method="POST", route=SAMPLERS, clock_skew=7200))
    ahead, right = [datetime.fromisoformat((await client.create())["created_at"]) for _ in range(2)]
    assert timedelta(minutes=119) < ahead - right < timedelta(minutes=121)


async def test_a_script_is_met_step_by_step(client: Client) -> None:
    client.emulator.add_script(
        [
            Fault(method="POST", status=503, times=2),
            Fault(method="POST"),
            Fault(method="GET", status=429),
            Fault(status=500),
        ]
    )
    await client.get(SAMPLERS)
    for status in (503, 503, 200, 200):
        await client.post(SESSIONS, status)
    await client.get(SAMPLERS, 429)
    await client.post(SESSIONS, 500)
    await client.post(SESSIONS)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 -- this is what is tried
async def test_addresses_lead_to_where_the_request_came_to(host: str) -> None:
    """In another container, 127.0.0.1 is that container."""
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip("the machine has no such addresses")
    async with Emulator(host=host) as emulator, aiohttp.ClientSession() as http:
        port = emulator.url.rpartition(":")[2]
        assert emulator.url == f"http://{'[::1]' if ':' in host else '127.0.0.1'}:{port}"
        client = Client(emulator, http)
        sampler = await client.create()
        run = await client.post("/v1/loops/runs", json={"session_id": await client.session_id(), "base_model": "m"})
        (checkpoint, *_) = (await client.get("/v1/loops/checkpoints?run_id=k4q95w5"))["checkpoints"]
        assert sampler["base_url"].startswith(f"{emulator.url}/models/")
        for name in (f"emulator.test:{port}", "emulator", "[fe80::1]:80", 'bad"host', ""):
            reached = f"http://{name}" if name not in {'bad"host', ""} else emulator.url
            headers = {"Host": name}
            one = (await client.get(f"{SAMPLERS}/{sampler['id']}", headers=headers))["sampler"]
            assert one["base_url"] == sampler["base_url"].replace(emulator.url, reached)
            listed = (await client.get(f"{SAMPLERS}", headers=headers))["samplers"]
            assert one in listed
            assert all(each["base_url"].startswith(reached) for each in listed)
            shown = (await client.get(f"/v1/loops/runs/{run['run']['id']}", headers=headers))["run"]
            assert shown["base_url"].startswith(reached)
            assert shown["sampler"]["base_url"].startswith(reached)
            (deployed, *_) = (await client.get("/v1/loops/deployments", headers=headers))["deployments"]
            assert deployed["base_url"].startswith(reached)
            files = await client.get(f"/v1/loops/checkpoints/{checkpoint['id']}/files", headers=headers)
            assert files["presigned_urls"][0]["url"].startswith(f"{reached}/checkpoint-files/")


async def test_on_one_address_nothing_but_that_is_told(client: Client) -> None:
    sampler = await client.create()
    told = await client.get(f"{SAMPLERS}/{sampler['id']}", headers={"Host": "elsewhere.test"})
    assert told["sampler"]["base_url"] == sampler["base_url"]
