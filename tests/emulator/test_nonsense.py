"""Nonsense in settings, faults and requests is refused where it comes in, and never answered with a plain-text 500."""

from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from loops_async.cli._main import cli
from loops_async.emulator import COURSES, Emulator, Fault, Stage, parse_fault

from .support import FAST, ONE, SAMPLERS, SESSIONS, Client

ADMIN = "/_emulator"
HUGE = 10**400


@pytest.mark.parametrize(
    "settings",
    [
        *({name: HUGE} for name in ("speed", "clock_skew", "list_lag")),
        *({"lifecycles": {"*": [stage]}} for stage in ([("ACTIVE", HUGE)], [("ACTIVE", -1)], [()])),
        *({name: ""} for name in ("host", "api_key", "inference_api_key")),
        *({"teams": teams} for teams in ({"": "name"}, {"id": ""}, {"id": None}, [("id", "name")], "teams", {1: "n"})),
        *({"seed": seed} for seed in ("7", 1.5, None, True)),
        *({"lifecycles": value} for value in ("plain", [("ACTIVE", None)], {"*": "no-course"}, {"*": 7}, {"*": ["A"]})),
        *({"lifecycles": {"*": [stage]}} for stage in (("ACTIVE", "2"), (7, None), ("A", 1, None), {"status": "A"}, 7)),
        *({"api_key": 7}, {"lifecycles": {7: "plain"}}, {"lifecycles": {"*": []}}, {"keep_body": -1}),
        *({"keep_received": value} for value in (-1, 1.5, True)),
    ],
)
def test_a_setting_that_is_none_is_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"must|cannot|none of|positive|needs|names statuses|by base"):
        Emulator(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        *({name: HUGE} for name in ("delay", "delay_after", "list_lag", "clock_skew")),
        *({"headers": {name: "1"}} for name in ("Content-Length", "transfer-encoding")),
        *({"method": method} for method in ("PUSH", "*", "")),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_everywhere(client: Client, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Fault(**settings)
    await client.post(f"{ADMIN}/faults", 400, json=settings)
    assert await client.get(f"{ADMIN}/faults") == {"faults": []}


@pytest.mark.parametrize("stage", [{name: HUGE} for name in ("seconds", "idle", "preemption")])
def test_no_stage_lasts_longer_than_a_float(stage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Stage("ACTIVE", **stage)


async def test_a_fault_that_nothing_can_meet_is_refused(client: Client) -> None:
    emulator = client.emulator
    for fault in (Fault(route="/v1/loops/sampler"), Fault(route=ADMIN)):
        for add in (emulator.add_fault, lambda fault: emulator.add_script([Fault(), fault])):
            with pytest.raises(ValueError, match=SAMPLERS):
                add(fault)
    with pytest.raises(ValueError, match="takes GET, not POST"):
        emulator.add_fault(Fault(method="post", route=ONE))
    answer = await client.post(f"{ADMIN}/faults", 400, json={"route": "/v1/loops/sampler"})
    assert SAMPLERS in answer["message"]
    await client.post(f"{ADMIN}/faults", 400, json=[{}, {"route": ONE, "method": "DELETE"}])
    assert await client.get(f"{ADMIN}/faults") == {"faults": []}


async def test_methods_of_faults_have_no_case(client: Client) -> None:
    client.emulator.add_fault(Fault(method="post", route=SESSIONS, status=503))
    await client.post(SESSIONS, 503)
    await client.post(f"{ADMIN}/faults", json={"method": "Post", "status": 502})
    await client.post(SESSIONS, 502)
    assert parse_fault("pOST status=500").method == "POST"


async def test_a_fault_is_removed_from_a_script_as_often_as_it_is_in_it(client: Client) -> None:
    fault, other = Fault(status=503, times=2), Fault(status=500)
    client.emulator.add_script([fault, fault, other, fault])
    client.emulator.add_fault(fault)
    client.emulator.remove_fault(fault)
    await client.post(SESSIONS, 500)
    await client.post(SESSIONS)
    assert await client.get(f"{ADMIN}/faults") == {"faults": []}


async def test_a_course_can_be_given_by_its_name() -> None:
    course = COURSES["zero-first"]
    async with Emulator(speed=FAST, lifecycles={"*": "zero-first"}) as emulator, aiohttp.ClientSession() as http:
        sampler = await Client(emulator, http).create()
        seen = {emulator.samplers[0].status}
        while seen < {course[2].status}:
            seen.add(emulator.sampler_document(sampler["id"])["status"]["name"])
        assert seen <= {stage.status for stage in course[:3]}


async def test_what_fails_inside_is_json_with_an_id_and_is_logged(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("out of order")

    monkeypatch.setattr(client.emulator._plane, "create_session", broken)
    assert set(await client.post(SESSIONS, 500)) == {"code", "message"}
    assert "out of order" in caplog.text
    assert "POST /v1/loops/sessions" in caplog.text


@pytest.mark.parametrize("path", [SAMPLERS, f"{ADMIN}/faults"])
async def test_a_body_that_is_not_compressed_as_it_says_is_refused(client: Client, path: str) -> None:
    await client.post(path, 400, data=b"garbage!", headers={"Content-Encoding": "gzip"}, compress=False)
    await client.post(SESSIONS)


async def test_what_nobody_can_expect_is_refused(client: Client) -> None:
    await client.post(SESSIONS, 417, headers={"Expect": "miracles"})
    body = {"session_id": await client.session_id(), "base_model": "m"}
    await client.post(SAMPLERS, json=body, expect100=True)
    assert [each.route for each in client.emulator.received] == [SESSIONS, SAMPLERS]


async def test_as_much_is_kept_and_told_as_was_asked_for() -> None:
    async with Emulator(keep_body=4) as emulator, aiohttp.ClientSession() as http:
        client = Client(emulator, http)
        for number in range(3):
            await client.post(f"{SESSIONS}?number={number}", data=b"123456")
        assert [each.body for each in emulator.received] == [b"1234"] * 3
        last = (await client.get(f"{ADMIN}/requests?limit=2"))["requests"]
        assert [each["query"]["number"] for each in last] == ["1", "2"]
        assert (await client.get(f"{ADMIN}/requests?limit=0"))["requests"] == []
        assert len((await client.get(f"{ADMIN}/requests?limit=9"))["requests"]) == 3
        await client.get(f"{ADMIN}/requests?limit=-1", 400)


@pytest.mark.parametrize(
    "options",
    [
        *(["--host", ""], ["--speed", "9" * 400], ["--list-lag", "9" * 400], ["--clock-skew", "9" * 400]),
        *(["--fault", f"delay={'9' * 400}"], ["--fault", f"GET {SESSIONS} status=500"], ["--seed", "x"]),
    ],
)
def test_the_command_refuses_nonsense(options: list[str]) -> None:
    result = CliRunner().invoke(cli, ["emulator", *options])
    assert result.exit_code == 2, result.output


async def test_huge_numbers_in_a_script_file_are_refused(client: Client) -> None:
    for name in ("delay", "list_lag", "clock_skew", "partial", "times"):
        text = f'{{"{name}": {"9" * 400}}}'
        expect = 200 if name in {"partial", "times"} else 400
        await client.post(f"{ADMIN}/faults", expect, data=text)
        await client.send("DELETE", f"{ADMIN}/faults")
