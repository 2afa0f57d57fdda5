"""`loops-async emulator`."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from loops_async import AuthenticationError, LoopsClient, RateLimitError, RetryPolicy, ServerError
from loops_async.cli._main import cli
from loops_async.emulator import Emulator, parse_fault

from .command_process import SECONDS
from .on_plane import end_of, first_line, run, starting


async def models_at(url: str, key: str) -> int:
    """Ask a control plane for its base models and return how many there are."""
    async with LoopsClient(key, base_url=url) as client:
        return len(await client.capabilities())


async def test_first_line_is_the_url_and_sigterm_ends_it_well() -> None:
    async with starting(None, "emulator") as process:
        url = await first_line(process)
        assert await models_at(url, "any-key-at-all") > 0
        process.send_signal(signal.SIGTERM)
        ended = await end_of(process)
    assert (ended.code, ended.output) == (0, "")
    assert ended.errors == f"export LOOPS_BASE_URL={url}\nexport BASETEN_API_KEY=any-key-will-do  # or any other key\n"


async def test_it_can_be_reached_from_elsewhere_and_says_how() -> None:
    async with starting(None, "emulator", "--host", "0.0.0.0") as process:  # noqa: S104 -- this is what is tried
        url = await first_line(process)
        port = url.rpartition(":")[2]
        assert url == f"http://127.0.0.1:{port}"
        assert await models_at(url, "any-key") > 0
        process.send_signal(signal.SIGTERM)
        ended = await end_of(process)
    hint = f"export LOOPS_ALLOW_HTTP=1 LOOPS_BASE_URL=http://NAME-OF-THIS-MACHINE:{port}"
    assert ended.errors.splitlines()[-1] == f"# from other containers: {hint}"
    assert ended.errors.startswith(f"export LOOPS_BASE_URL={url}\n")


async def test_lets_in_the_given_key_alone() -> None:
    async with starting(None, "emulator", "--api-key", "it's-mine") as process:
        url = await first_line(process)
        assert await models_at(url, "it's-mine") > 0
        with pytest.raises(AuthenticationError):
            await models_at(url, "not-mine")
        process.send_signal(signal.SIGTERM)
        ended = await end_of(process)
    assert ended.errors.splitlines()[1] == "export BASETEN_API_KEY='it'\"'\"'s-mine'"


async def test_ctrl_c_ends_it_with_130() -> None:
    async with starting(None, "emulator") as process:
        await first_line(process)
        process.send_signal(signal.SIGINT)
        ended = await end_of(process)
    assert ended.code == 130


async def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run(None, "emulator", "--port", str(port))
    assert (ended.code, ended.output) == (1, "")
    assert ended.errors == f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


async def test_an_address_of_another_machine_is_one_line() -> None:
    ended = await run(None, "emulator", "--host", "192.0.2.1")
    assert (ended.code, ended.output) == (1, "")
    assert ended.errors.startswith("Error: cannot listen on 192.0.2.1 port 0: ")
    assert ended.errors.count("\n") == 1


def told(url: str, key: str) -> dict[str, Any]:
    """Ask an emulator about itself."""
    request = Request(f"{url}/_emulator", headers={"Authorization": f"Api-Key {key}"})  # noqa: S310 -- loopback
    with urlopen(request, timeout=SECONDS) as response:  # noqa: S310
        document: dict[str, Any] = json.load(response)
        return document


async def test_it_keeps_the_beginning_of_a_large_body_and_ends_in_the_middle_of_a_long_sample(tmp_path: Path) -> None:
    def ask(url: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(url, data), timeout=SECONDS) as response:  # noqa: S310 -- loopback
            return json.load(response)

    (tmp_path / "course.json").write_text('[["ACTIVE", null]]')
    async with starting(None, "emulator", "--lifecycle", str(tmp_path / "course.json")) as process:
        url = await first_line(process)
        session_id = ask(f"{url}/v1/loops/sessions", "x" * 100_000)["session"]["id"]
        (kept,) = ask(f"{url}/_emulator/requests")["requests"]
        assert len(kept["body"]) == 64 * 1024
        sampler = ask(f"{url}/v1/loops/samplers", {"session_id": session_id, "base_model": "m"})["sampler"]
        body = {"prompt": [1], "n": 64, "max_tokens": 100_000, "ignore_eos": True}
        host, _, path = sampler["base_url"].removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=SECONDS)
        connection.request("POST", f"/{path}/sample", json.dumps(body))
        assert len(ask(f"{url}/v1/loops/samplers")["samplers"]) == 1
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await end_of(process)
        assert time.monotonic() - began < 5
        connection.close()
    assert process.returncode == 0


async def test_lifecycles_faults_and_lag_come_from_the_command_line(tmp_path: Path) -> None:
    course, script = tmp_path / "course.json", tmp_path / "script.json"
    course.write_text('{"broken": [{"status": "BUILDING", "seconds": 1, "failure": 1}], "*": [["ACTIVE", null]]}')
    script.write_text('[{"method": "GET", "status": 429}, {"method": "GET"}, {"method": "GET", "status": 500}]')
    options = ["--api-key", "k", "--speed", "1000", "--seed", "5", "--list-lag", "3600", "--lifecycle", str(course)]
    options += ["--fault", "POST /v1/loops/sessions status=503", "--fault-script", str(script)]

    async def use(url: str) -> None:
        async with LoopsClient("k", base_url=url, retry=RetryPolicy(attempts=1)) as client:
            with pytest.raises(ServerError):
                await client.sessions.create()
            with pytest.raises(RateLimitError):
                await client.samplers.list()
            # The run that exists from the start has a session.
            ids = [
                (await client.samplers.create(session_id="s7d4k9x", base_model=model)).id for model in ("broken", "m")
            ]
            assert await client.samplers.list() == ()
            with pytest.raises(ServerError):
                await client.samplers.get(ids[0])
            while (await client.samplers.get(ids[0])).status == "BUILDING":
                pass
            assert [(await client.samplers.get(each)).status for each in ids] == ["BUILD_FAILED", "ACTIVE"]

    async with starting(None, "emulator", *options) as process:
        url = await first_line(process)
        await use(url)
        counts = told(url, "k")
    assert counts["samplers"] == {"total": 2, "billed": 1, "by_status": {"BUILD_FAILED": 1, "ACTIVE": 1}}


async def test_samplers_are_serverless_if_that_is_asked_for() -> None:
    def post(url: str, body: object) -> Any:
        with urlopen(Request(url, json.dumps(body).encode()), timeout=SECONDS) as response:  # noqa: S310 -- loopback
            return json.load(response)

    async with starting(None, "emulator", "--serverless") as process:
        url = await first_line(process)
        session_id = post(f"{url}/v1/loops/sessions", {})["session"]["id"]
        sampler = post(f"{url}/v1/loops/samplers", {"session_id": session_id, "base_model": "m"})["sampler"]
    assert (sampler["model_id"], sampler["deployment_id"]) == (None, None)


async def test_a_rate_limit_comes_from_the_command_line() -> None:
    def status(url: str) -> int:
        try:
            with urlopen(f"{url}/v1/loops/samplers", timeout=SECONDS) as response:  # noqa: S310 -- loopback
                return int(response.status)
        except HTTPError as error:
            with error:
                return error.code

    async with starting(None, "emulator", "--rate-limit", "1") as process:
        url = await first_line(process)
        # Were a window to end between them, the next one begins; two in one window are found soon.
        assert 429 in {status(url) for _ in range(20)}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fault", "POST /v1/loops/sampler status=503"], "/v1/loops/sampler is no route"),
        (["--fault", "status=99"], "between 200 and 599"),
        (["--lifecycle", "{missing}"], "cannot read {missing}: No such file or directory"),
        (["--lifecycle", "{wrong}"], "'colour' is no setting of a stage"),
        (["--fault-script", "{wrong}"], "a fault must be an object"),
        (["--list-lag", "-1"], "list_lag must be finite and not negative"),
        (["--clock-skew", "nan"], "clock_skew must be finite"),
        (["--rate-limit", "nan"], "rate_limit must be at least 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_wrong_use(options: list[str], complaint: str, tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("missing", "wrong")}
    (tmp_path / "wrong").write_text('[[{"colour": 1}], 7]' if "script" in options[0] else '[{"colour": 1}]')
    result = CliRunner().invoke(cli, ["emulator", *(option.format(**names) for option in options)])
    assert result.exit_code == 2
    assert complaint.format(**names) in result.output


def test_the_fault_that_the_help_shows_is_one() -> None:
    help_text = CliRunner().invoke(cli, ["emulator", "--help"]).output
    shown = " ".join(help_text.split()).split("such as '")[1].split("'")[0]
    assert parse_fault(shown, Emulator().routes).rate == 0.1
