"""The administration below `/_emulator`, over real sockets."""

import io
import json
from typing import Any

import aiohttp
import pytest

from loops_async.emulator import Emulator, Fault, parse_fault, parse_faults

from .support import FAST, ONE, SAMPLERS, SESSIONS, Client

ADMIN = "/_emulator"


async def remove(client: Client, path: str, expect: int = 200) -> dict[str, Any]:
    return (await client.send("DELETE", path, expect))[0]


async def test_counts_are_of_the_moment(client: Client) -> None:
    assert await client.get(ADMIN) == {
        "samplers": {"total": 0, "billed": 0, "by_status": {}},
        "requests": 0,
        "faults": 0,
    }
    first, second = [(await client.create())["id"] for _ in range(2)]
    client.emulator.set_status(first, "FAILED")
    client.emulator.set_status(second, "ACTIVE")
    client.emulator.add_fault(Fault(status=500))
    assert await client.get(ADMIN) == {
        "samplers": {"total": 2, "billed": 1, "by_status": {"FAILED": 1, "ACTIVE": 1}},
        "requests": 4,
        "faults": 1,
    }


async def test_secrets_are_never_kept() -> None:
    async with Emulator(api_key="hush", inference_api_key="mum") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        secrets = {"Cookie": "hush=1", "X-Api-Key": "hush", "api-key": "hush", "Proxy-Authorization": "Basic hush"}
        for authorization in ("Bearer hush", "api-key mum", "Bearer other", "Basic hush", "hush", "hush hush", None):
            headers = secrets | {"X-Own": "yes"} | ({"Authorization": authorization} if authorization else {})
            async with http.post(f"{emulator.url}{SESSIONS}?a=1", json={"k": 1}, headers=headers):
                pass
        await client.get(f"{SAMPLERS}/nobody", 404, headers={"Authorization": "Bearer hush"})
        kept = [(each.scheme, each.key) for each in emulator.received]
        assert kept == [
            ("Bearer", "right"),
            ("api-key", "inference"),
            ("Bearer", "wrong"),
            ("Basic", "wrong"),
            (None, "wrong"),
            (None, "wrong"),
            (None, None),
            ("Bearer", "right"),
        ]
        for each in emulator.received[:-1]:
            assert (each.headers["x-own"], each.query, each.json) == ("yes", {"a": "1"}, {"k": 1})
            assert not {"authorization", "cookie", "x-api-key", "api-key", "proxy-authorization"} & {
                name.lower() for name in each.headers
            }
        headers = {"Authorization": "Bearer hush"}
        told = (await client.get(f"{ADMIN}/requests", headers=headers))["requests"]
        assert [(each["scheme"], each["key"]) for each in told] == kept
        first, second = told[0], told[-1]
        assert (first["method"], first["path"], first["route"]) == ("POST", SESSIONS, SESSIONS)
        assert (first["query"], first["body"], first["headers"]["x-own"]) == ({"a": "1"}, '{"k": 1}', "yes")
        assert "hush" not in json.dumps(told)
        assert (second["route"], second["body"]) == (ONE, "")
        assert first["at"] <= second["at"]
        assert (await client.get(f"{ADMIN}/requests?method=GET&route={ONE}", headers=headers))["requests"] == [second]
        assert (await client.send("DELETE", f"{ADMIN}/requests", headers=headers))[0] == {}
        assert emulator.received == ()


async def test_the_administration_is_neither_recorded_nor_disturbed(client: Client) -> None:
    client.emulator.add_fault(Fault(status=500, times=None))
    await client.get(ADMIN)
    await client.get(f"{ADMIN}/nothing", 404)
    await client.post(ADMIN, 405)
    await client.get("/v1/spec")
    large = await client.post(f"{ADMIN}/faults", 413, data=io.BytesIO(b" " * (2 * 1024 * 1024)))
    assert "route" not in large["message"]
    for path in (SESSIONS, "/v1/special", "/_emulators"):
        await client.post(path, 500)
    assert [each.path for each in client.emulator.received] == [SESSIONS, "/v1/special", "/_emulators"]


async def test_the_administration_needs_the_key() -> None:
    async with Emulator(api_key="key") as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        await client.get(ADMIN, 401)
        await client.post(f"{ADMIN}/faults", 401, json={"status": 500})
        await client.get("/v1/spec")
        await client.get(ADMIN, headers={"Authorization": "Api-Key key"})
        assert (await client.get(ADMIN, headers={"Authorization": "Api-Key key"}))["faults"] == 0


async def test_faults_can_be_added_listed_and_taken_back(client: Client) -> None:
    one = await client.post(f"{ADMIN}/faults", json={"route": SESSIONS, "status": 503, "times": 2, "retry_after": "1"})
    _, response = await client.send("POST", SESSIONS, 503)
    assert response.headers["Retry-After"] == "1"
    (listed,) = (await client.get(f"{ADMIN}/faults"))["faults"]
    assert listed == {
        "id": one["id"],
        "left": 1,
        "script": [{"route": SESSIONS, "status": 503, "times": 2, "retry_after": "1"}],
    }
    script = [{"status": 500}, {"body": "<html>", "headers": {"X-More": "m"}, "times": None}]
    two = await client.post(f"{ADMIN}/faults", json=script)
    (left,) = (await remove(client, f"{ADMIN}/faults/{one['id']}"))["faults"]
    assert (left["id"], left["script"]) == (two["id"], script)
    await client.post(SESSIONS, 500)
    async with client.http.post(client.emulator.url + SESSIONS) as garbage:
        assert (await garbage.read(), garbage.headers["X-More"]) == (b"<html>", "m")
    await remove(client, f"{ADMIN}/faults/{one['id']}", 404)
    await remove(client, f"{ADMIN}/faults/x", 404)
    assert await remove(client, f"{ADMIN}/faults") == {"faults": []}
    await client.post(SESSIONS)


@pytest.mark.parametrize(
    "fault",
    [
        *(b"", b"{", b"7", b"[]", b"[7]", b'{"colour": 1}', b'{"status": "503"}', b'{"status": true}', b'{"rate": 2}'),
        *(
            b'{"rate": null}',
            b'{"route": "/v1/loops/sampler"}',
            b'{"route": "/_emulator"}',
            b'{"headers": {"a b": "c"}}',
            b'{"headers": []}',
        ),
        *(b'{"headers": {"a": "\\n"}}', b'{"retry_after": "\\u0000"}', b'{"clock_skew": 1e300}', b'{"list_lag": -1}'),
        *(b'[{"times": null}, {}]', b"[" * 100_000),
    ],
)
async def test_what_is_no_fault_is_refused(client: Client, fault: bytes) -> None:
    await client.post(f"{ADMIN}/faults", 400, data=fault)
    assert await client.get(f"{ADMIN}/faults") == {"faults": []}


async def test_a_status_can_be_set(client: Client) -> None:
    sampler = await client.create()
    path = f"{ADMIN}/samplers/{sampler['id']}/status"
    assert await client.post(path, json={"status": "BRAND_NEW"}) == {"id": sampler["id"], "status": "BRAND_NEW"}
    assert client.emulator.samplers[0].status == "BRAND_NEW"
    await client.post(path, 400, json={"status": ""})
    await client.post(f"{ADMIN}/samplers/nobody/status", 404, json={"status": "ACTIVE"})


async def test_routes_are_those_that_faults_can_name() -> None:
    async with Emulator(speed=FAST) as emulator:
        assert {SESSIONS, SAMPLERS, ONE} <= emulator.routes
        assert not {ADMIN, "/v1/spec"} & emulator.routes


def settings_of(fault: Fault) -> dict[str, Any]:
    names = ("method", "route", "times", "status", "rate", "cut", "delay", "body", "retry_after", "list_lag")
    default = Fault()
    return {name: getattr(fault, name) for name in names if getattr(fault, name) != getattr(default, name)}


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("status=503", {"times": None, "status": 503}),
        (f"POST {SAMPLERS} status=503 rate=0.1", {"method": "POST", "route": SAMPLERS, "status": 503, "rate": 0.1}),
        (f"get {ONE} cut=after times=2", {"method": "GET", "route": ONE, "cut": "after", "times": 2}),
        ("* delay=2 body='<html> no'", {"delay": 2.0, "body": b"<html> no"}),
        ("* status=429 retry_after=7 list_lag=1", {"status": 429, "retry_after": "7", "list_lag": 1.0}),
    ],
)
def test_a_fault_can_be_one_line(line: str, settings: dict[str, Any]) -> None:
    assert settings_of(parse_fault(line, {SAMPLERS, ONE})) == {"times": None} | settings


@pytest.mark.parametrize(
    "line", ["PUSH status=1", "status", "status=x", "status=99", "/v1/x status=500", "body='", "rate=", "headers=x"]
)
def test_a_line_that_is_no_fault_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_fault(line, {SAMPLERS})


def test_one_object_is_a_script_of_one() -> None:
    assert [settings_of(fault) for fault in parse_faults('{"status": 500.0, "times": null}')] == [
        {"status": 500, "times": None}
    ]
