"""How commands report what is wrong: in words on stderr, and with `--json` as one kind of object on stdout."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest

from loops_async import LoopsClient, launch
from loops_async.emulator import Fault

from ..launching import DEACTIVATE
from ..support import KEY, QUICK_POLL
from .on_plane import GOOD, QUICK, SLOW, end_of, plane, run, starting, until

QUOTED = f'"{KEY}"'


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (2, "UsageError", ("list", "--status", "BANANA")),
        (2, "UsageError", ("list", "--no-such-option")),
        (2, "UsageError", ("get",)),
        (2, "UsageError", ("get", "..")),
        (2, "UsageError", ("wait", "x", "--timeout", "nan")),
        (2, "UsageError", ("deactivate",)),
        (2, "UsageError", ("deactivate", "--all-mine")),
        (2, "UsageError", ("launch",)),
        (2, "UsageError", ("launch", "qwen/qwen3-8b")),
        (2, "UsageError", ("launch", "--spec", "no-such-file.toml")),
        (2, "UsageError", ("list", "--base-url", "http://emulator.example")),
        (2, "UsageError", ("list", "--team", "..")),
        (2, "FileNotFoundError", ("orphans", "no-such-file.jsonl")),
        (2, "ValueError", ("orphans", __file__)),
        (2, "FileNotFoundError", ("deactivate", "--journal", "no-such-file.jsonl")),
        (2, "FileNotFoundError", ("timeline", "no-such-file.jsonl")),
        (4, "NotFoundError", ("get", "no-such")),
        (4, "Refused", ("launch", "zai-org/GLM-5.2-FP8")),
    ],
)
async def test_with_json_each_error_is_an_object_on_stdout(code: int, kind: str, words: tuple[str, ...]) -> None:
    async with plane() as emulator:
        await made(emulator.url)
        as_json, as_text = await asyncio.gather(run(emulator, *words, "--json"), run(emulator, *words))
    error = as_json.json["error"]
    assert as_json.json.keys() == {"error"}
    assert (as_json.code, as_text.code) == (code, code)
    assert (error["exit_code"], error["type"]) == (code, kind)
    assert error["message"]
    assert as_json.output.count("\n") == 1
    assert as_text.output == ""
    for ended in (as_json, as_text):
        assert "Error: " in ended.errors
        assert "[Errno" not in ended.errors + ended.output


async def made(url: str) -> None:
    async with LoopsClient(KEY, base_url=url) as client:
        await client.samplers.create(session_id=(await client.sessions.create()).id, base_model=SLOW)


@pytest.mark.parametrize(
    ("code", "kind", "key"), [(4, "Refused", None), (4, "Refused", QUOTED), (4, "AuthenticationError", "other-key")]
)
async def test_what_is_wrong_with_a_key_is_an_object_too(code: int, kind: str, key: str | None) -> None:
    async with plane() as emulator:
        for command in ("list", "launch"):
            words = [command, GOOD] if command == "launch" else [command]
            ended = await run(emulator, *words, "--json", key=key)
            assert (ended.code, ended.json["error"]["type"]) == (code, kind)


async def test_no_answer_and_a_journal_in_use_are_objects_too(tmp_path: Path) -> None:
    journal = tmp_path / "launch.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    silent = await run(nobody, "list", "--json", "--attempts", "1")
    assert (silent.code, silent.json["error"]["type"]) == (5, "TransportError")
    async with (
        plane() as emulator,
        LoopsClient(KEY, base_url=emulator.url) as client,
        launch(client, [GOOD], policy=QUICK_POLL, journal=journal) as fleet,
    ):
        await fleet.active()
        busy, launched = await asyncio.gather(
            run(emulator, "orphans", str(journal), "--json"),
            run(emulator, "launch", GOOD, "--journal", str(journal), "--json", *QUICK),
        )
    assert launched.json["exit_code"] == 2
    for ended in (busy, launched):
        assert ended.json["error"]["exit_code"] == ended.code
        assert (ended.code, ended.json["error"]["type"]) == (2, "BlockingIOError")
        assert "is still running" in ended.json["error"]["message"]
        assert "[Errno" not in ended.errors + ended.output


async def test_an_interrupt_is_an_object_too() -> None:
    async with plane() as emulator:
        await made(emulator.url)
        (sampler_id,) = emulator.billed
        for words in (("wait", sampler_id), ("watch", sampler_id)):
            emulator.clear_received()
            async with starting(emulator, *words, "--json", *QUICK) as process:
                await until(lambda: len(emulator.received) > 2)
                process.send_signal(signal.SIGINT)
                ended = await end_of(process)
            assert ended.code == 130
            error = json.loads(ended.output.splitlines()[-1])["error"]
            assert (error["type"], error["exit_code"]) == ("Interrupted", 130)
        assert emulator.billed == {sampler_id}


async def test_json_after_two_dashes_is_an_argument() -> None:
    async with plane() as emulator:
        ended = await run(emulator, "get", "--", "--json")
    assert (ended.code, ended.output) == (4, "")


async def test_a_deactivation_that_is_refused_is_reported_with_its_id() -> None:
    async with plane() as emulator:
        await made(emulator.url)
        (sampler_id,) = emulator.billed
        emulator.add_fault(Fault(method="POST", route=DEACTIVATE, status=403, times=None))
        as_json, as_text = await asyncio.gather(
            run(emulator, "deactivate", sampler_id, "--json"), run(emulator, "deactivate", sampler_id)
        )
    assert (as_json.code, as_text.code) == (4, 4)
    assert as_json.json["deactivated"] == []
    assert [each["id"] for each in as_json.json["failed"]] == [sampler_id]
    assert f"Error: {sampler_id} was not deactivated and may still be billed: " in as_text.errors
    assert as_text.errors.startswith("Deactivated 0 samplers.\n")


async def test_a_status_that_does_not_exist_is_wrong_use() -> None:
    async with plane() as emulator:
        ended, near = await asyncio.gather(
            run(emulator, "list", "--status", "BANANA"), run(emulator, "list", "--status", "activ")
        )
        assert not emulator.received
        good = await run(emulator, "list", "--status", "active", "--status", "Building")
    assert (ended.code, near.code, good.code) == (2, 2, 0)
    assert "did you mean ACTIVE?" in near.errors
    assert "'BANANA' is not a status; known are BUILDING, " in ended.errors


async def test_an_active_sampler_without_an_address_is_an_error_and_no_empty_line() -> None:
    without = """
import attrs
from loops_async import LoopsClient
from loops_async._api.samplers import Samplers

get = Samplers.get

async def get_without_address(self, sampler_id):
    return attrs.evolve(await get(self, sampler_id), base_url="")

Samplers.get = get_without_address
"""
    async with plane() as emulator:
        await made(emulator.url)
        (sampler_id,) = emulator.billed
        emulator.set_status(sampler_id, "ACTIVE")
        urls, env, table = await asyncio.gather(
            run(emulator, "get", sampler_id, "--format", "urls", before=without),
            run(emulator, "get", sampler_id, "--format", "env", before=without),
            run(emulator, "get", sampler_id, before=without),
        )
    assert (urls.code, env.code, table.code) == (1, 1, 0)
    assert urls.output == ""
    assert "_URL" not in env.output
    assert urls.errors == f"Error: ACTIVE, but without an address so far: {sampler_id}\n"


@pytest.mark.parametrize("text", [QUOTED, f"'{KEY}'", f"BASETEN_API_KEY={KEY}", f"{KEY} {KEY}"])
async def test_a_key_of_another_form_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{text}\n")
    async with plane() as emulator:
        of_file, of_environment = await asyncio.gather(
            run(emulator, "list", "--api-key-file", str(file), key=None), run(emulator, "list", key=text)
        )
        assert not emulator.received
    assert of_file.errors.startswith(f"Error: the key in {file} ")
    assert of_environment.errors.startswith("Error: BASETEN_API_KEY ")
    for ended in (of_file, of_environment):
        assert ended.code == 4
        assert KEY not in ended.errors


async def test_plain_http_to_another_machine_needs_the_option_or_the_variable() -> None:
    # 0.0.0.0 is no loopback address, and leads to this machine all the same.
    async with plane() as emulator:
        url = emulator.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104
        refused, option, variable, launched = await asyncio.gather(
            run(url, "list"),
            run(url, "list", "--allow-http"),
            run(url, "list", variables={"LOOPS_ALLOW_HTTP": "1"}),
            run(url, "launch", GOOD, "--allow-http", *QUICK),
        )
    assert (refused.code, option.code, variable.code, launched.code) == (2, 0, 0, 0)
    assert "give --allow-http or set LOOPS_ALLOW_HTTP=1" in refused.errors
    assert "  loops-async deactivate --allow-http " in launched.errors


async def test_commands_use_the_proxies_of_the_environment() -> None:
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"CONNECT api.baseten.co:443 "):
            heard.set()
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        proxy = f"http://user:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ended = await run(None, "list", "--attempts", "1", variables={"HTTPS_PROXY": proxy})
    assert heard.is_set()
    assert ended.code == 5
    assert "407 Proxy Authentication Required" in ended.errors
    assert "hunter2" not in ended.errors
    socks = await run(None, "list", variables={"ALL_PROXY": "socks5://user:hunter2@127.0.0.1:9"})
    assert socks.code == 2
    assert "ALL_PROXY names a proxy of the socks5:// kind" in socks.errors
    assert "set NO_PROXY=* to use no proxy" in socks.errors
    assert "hunter2" not in socks.errors


async def test_the_demo_goes_through_no_proxy() -> None:
    variables = {"ALL_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    ended = await run(None, "demo", "--count", "1", "--speed", "50", variables=variables)
    assert (ended.code, ended.errors) == (0, "")
