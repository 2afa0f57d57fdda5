"""Settings, resources, opening and closing."""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from typing import Any

import aiohttp
import pytest

from loops_async import (
    CheckpointPath,
    ConflictError,
    DeploymentStatus,
    LoopsClient,
    NotFoundError,
    RetryPolicy,
    TransportError,
    wait_until_active,
)
from loops_async.emulator import Emulator

from .support import KEY, ClientMaker


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"api_key": None}, ValueError, "BASETEN_API_KEY"),
        ({"api_key": ""}, ValueError, "empty"),
        ({"api_key": " \n"}, ValueError, "empty"),
        ({"api_key": "kéy-secret"}, ValueError, "copied whole"),
        ({"api_key": "key-secret\n"}, ValueError, "strip"),
        ({"api_key": "two words-secret"}, ValueError, "blanks"),
        ({"api_key": "Bearer key-secret"}, ValueError, "alone"),
        ({"api_key": b"key-secret"}, TypeError, "str"),
        ({"api_key": '"key-secret"'}, ValueError, "quotes.*docker"),
        ({"api_key": "'key-secret'"}, ValueError, "quotes"),
        ({"api_key": '"key-secret'}, ValueError, "quotes"),
        ({"api_key": "key-secret'"}, ValueError, "quotes"),
        ({"api_key": ' "key-secret"\n'}, ValueError, "quotes"),
        ({"api_key": '"two words-secret"'}, ValueError, "quotes"),
        ({"api_key": "\u201ckey-secret\u201d"}, ValueError, "quotes"),
        ({"api_key": "`key-secret`"}, ValueError, "quotes"),
        ({"api_key": "BASETEN_API_KEY=key-secret"}, ValueError, "name"),
        ({"api_key": "export BASETEN_API_KEY='key-secret'"}, ValueError, "quotes|name"),
        ({"api_key": "api_key: secret"}, ValueError, "name"),
        ({"api_key": "KEY=secret\n"}, ValueError, "name"),
        ({"api_key": "Authorization: Api-Key secret"}, ValueError, "alone"),
        ({"api_key": "${BASETEN_API_KEY}-secret"}, ValueError, "placeholder"),
        ({"api_key": "<secret>"}, ValueError, "placeholder"),
        ({"api_key": "\ufeffkey-secret"}, ValueError, "copied whole"),
        ({"api_key": "key-secret\r\n"}, ValueError, "strip"),
        ({"base_url": "http://api.baseten.co"}, ValueError, "https"),
        ({"base_url": 5}, TypeError, "base_url"),
        ({"base_url": ""}, ValueError, "base_url"),
        ({"team_id": ""}, ValueError, "team_id"),
        ({"team_id": ".."}, ValueError, "team_id"),
        ({"team_id": 5}, TypeError, "team_id"),
        ({"session": object()}, TypeError, "ClientSession"),
        ({"request_timeout": 0}, ValueError, "request_timeout"),
        ({"request_timeout": float("nan")}, ValueError, "request_timeout"),
        ({"request_timeout": float("inf")}, ValueError, "request_timeout"),
        ({"request_timeout": "5"}, TypeError, "request_timeout"),
        ({"max_connections": 0}, ValueError, "max_connections"),
        ({"max_connections": None}, TypeError, "max_connections"),
        ({"retry": 3}, TypeError, "RetryPolicy"),
        ({"rate_limit": 0}, ValueError, "rate_limit"),
        ({"rate_limit": -1.0}, ValueError, "rate_limit"),
        ({"rate_limit": float("nan")}, ValueError, "rate_limit"),
        ({"rate_limit": float("inf")}, ValueError, "rate_limit"),
        ({"rate_limit": True}, TypeError, "rate_limit"),
        ({"rate_limit": "100"}, TypeError, "rate_limit"),
        ({"trust_env": None}, TypeError, "trust_env"),
        ({"trust_env": "no"}, TypeError, "trust_env"),
        ({"allow_http": 1}, TypeError, "allow_http"),
    ],
)
def test_a_bad_setting_is_told_before_anything_happens(
    settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        LoopsClient(**{"api_key": "key", **settings})
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_key_of_the_environment_is_checked_and_called_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", '"key-secret"')
    with pytest.raises(ValueError, match="^BASETEN_API_KEY has quotes") as caught:
        LoopsClient()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["key", "a.B-c_d=", "abcdefgh.0123456789abcdefghijklmnopqrstuv", "tokenish+/=="])
def test_a_key_may_have_any_other_form(key: str) -> None:
    LoopsClient(key)


async def test_a_key_of_another_type_of_string_is_taken_by_its_value(make_client: ClientMaker) -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

        def __format__(self, spec: str) -> str:
            return "something else"

    await make_client(api_key=Odd(KEY)).samplers.list()


@pytest.mark.parametrize("url", ["http://emulator:8080", "http://10.0.0.5:8080/", "http://host.docker.internal"])
def test_plain_http_to_another_machine_is_permitted_on_request(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def refused() -> None:
        with pytest.raises(ValueError, match=r"allow_http=True or set LOOPS_ALLOW_HTTP=1"):
            LoopsClient("key", base_url=url)

    refused()
    assert LoopsClient("key", base_url=url, allow_http=True).base_url == url.rstrip("/")
    for value in ("0", "", "false", "no"):
        monkeypatch.setenv("LOOPS_ALLOW_HTTP", value)
        refused()
    for value in ("1", "true", "YES", " 1 "):
        monkeypatch.setenv("LOOPS_ALLOW_HTTP", value)
        assert LoopsClient("key", base_url=url).base_url == url.rstrip("/")
    for other in ("ftp://emulator", "http://user:pass@emulator", "emulator:8080"):
        with pytest.raises(ValueError, match="base_url"):
            LoopsClient("key", base_url=other, allow_http=True)


def test_the_url_of_the_environment_counts_without_trust_in_its_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_BASE_URL", "http://localhost:1234")
    assert LoopsClient("key", trust_env=False).base_url == "http://localhost:1234"


def test_help_shows_the_signature_and_says_what_each_argument_is() -> None:
    signature = inspect.signature(LoopsClient)
    assert len(str(signature)) < 500
    document = inspect.getdoc(LoopsClient) or ""
    described = re.findall(r"^    (\w+): .*?(?=^    \w+: |^\w)", document.partition("Args:")[2], re.M | re.S)
    assert described == list(signature.parameters)
    arguments = re.split(r"^    \w+: ", document.partition("Args:")[2].partition("Raises:")[0], flags=re.M)[1:]
    assert all("Default: " in argument for argument in arguments)


def test_a_retry_policy_shows_what_is_not_the_default() -> None:
    assert repr(RetryPolicy()) == "RetryPolicy()"
    assert repr(RetryPolicy(attempts=2, total=5.0)) == "RetryPolicy(attempts=2, total=5.0)"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASETEN_API_KEY", "key")
    assert LoopsClient().base_url == "https://api.baseten.co"
    monkeypatch.setenv("LOOPS_BASE_URL", "http://localhost:1234/")
    assert LoopsClient().base_url == "http://localhost:1234"
    assert LoopsClient(base_url="https://other.example").base_url == "https://other.example"
    monkeypatch.setenv("BASETEN_API_KEY", "")
    with pytest.raises(ValueError, match="no API key"):
        LoopsClient()


async def test_the_life_of_a_sampler(client: LoopsClient, emulator: Emulator) -> None:
    session = await client.sessions.create()
    assert await client.sessions.get(session.id) == session
    assert emulator.received[0].body == b""
    sampler = await client.samplers.create(session_id=session.id, base_model="Qwen/Qwen3-8B")
    assert (await client.samplers.get(sampler.id)).id == sampler.id
    younger = await client.samplers.create(session_id=session.id, base_model="Qwen/Qwen3-8B")
    assert [each.id for each in await client.samplers.list()] == [younger.id, sampler.id]
    await client.samplers.deactivate(sampler.id)
    await client.samplers.deactivate(sampler.id)
    assert (await client.samplers.get(sampler.id)).status in {DeploymentStatus.DEACTIVATING, DeploymentStatus.INACTIVE}
    assert emulator.billed == {younger.id}


async def test_a_paired_sampler_is_a_conflict_and_a_missing_one_not_found(client: LoopsClient, session_id: str) -> None:
    paired = await client.samplers.create(session_id=session_id, base_model="Qwen/Qwen3-8B", run_id="k4q95w5")
    with pytest.raises(ConflictError, match="k4q95w5"):
        await client.samplers.deactivate(paired.id)
    with pytest.raises(NotFoundError):
        await client.samplers.deactivate("nobody")
    with pytest.raises(NotFoundError):
        await client.samplers.get("nobody")


async def test_scope_is_sent_only_if_given(client: LoopsClient, emulator: Emulator) -> None:
    await client.samplers.list()
    await client.samplers.list(scope="org")
    assert [request.query for request in emulator.received] == [{}, {"scope": "org"}]
    with pytest.raises(ValueError, match="scope"):
        await client.samplers.list(scope="")


async def test_team_routes(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client(team_id="team/1")
    session = await client.sessions.create()
    sampler = await client.samplers.create(session_id=session.id, base_model="m")
    assert [each.id for each in await client.samplers.list()] == [sampler.id]
    await client.samplers.get(sampler.id)
    await client.samplers.deactivate(sampler.id)
    assert [request.path for request in emulator.received] == [
        "/v1/teams/team%2F1/loops/sessions",
        "/v1/teams/team%2F1/loops/samplers",
        "/v1/teams/team%2F1/loops/samplers",
        f"/v1/loops/samplers/{sampler.id}",
        f"/v1/loops/samplers/{sampler.id}/deactivate",
    ]


async def test_capabilities(client: LoopsClient, emulator: Emulator) -> None:
    models = await client.capabilities()
    assert "Qwen/Qwen3-8B" in {model.model_name for model in models}
    (model,) = await client.capabilities(model="Qwen/Qwen3-8B", use_case="sft", max_seq_len=1024)
    assert model.max_enabled_seq_len >= 1024
    assert [request.query for request in emulator.received] == [
        {},
        {"model": "Qwen/Qwen3-8B", "use_case": "sft", "max_seq_len": "1024"},
    ]
    with pytest.raises(ValueError, match="max_seq_len"):
        await client.capabilities(max_seq_len=0)


async def test_checkpoints(client: LoopsClient, emulator: Emulator) -> None:
    path = "bt://loops:k4q95w5/sampler_weights/step-100"
    (found,) = await client.checkpoints.list(checkpoint_path=path)
    assert found.path == CheckpointPath.parse(path)
    assert found in await client.checkpoints.list(run_id="k4q95w5")
    await client.checkpoints.validate(found.path)
    await client.checkpoints.validate(path + "/", run_id="k4q95w5")
    first, second = emulator.requests("POST", "/v1/loops/checkpoints/validate")
    assert first.json == {"checkpoint_path": path}
    assert second.json == {"checkpoint_path": path, "run_id": "k4q95w5"}
    count = len(emulator.received)
    for filters in ({}, {"run_id": "a", "base_model": "b"}, {"run_id": ""}, {"checkpoint_path": "step-100"}):
        with pytest.raises(ValueError, match=r"exactly one|empty|bt://"):
            await client.checkpoints.list(**filters)
    with pytest.raises(ValueError, match="bt://"):
        await client.checkpoints.validate("step-100")
    assert len(emulator.received) == count


async def test_wake(client: LoopsClient, emulator: Emulator, session_id: str) -> None:
    sampler = await client.samplers.create(session_id=session_id, base_model="m")
    emulator.set_status(sampler.id, "SCALED_TO_ZERO")
    await client.samplers.wake(sampler)
    woken = emulator.received[-1]
    assert woken.path == f"/models/{sampler.model_id}/deployment/{sampler.deployment_id}/wake"
    assert woken.method == "POST"


async def test_a_closed_client_refuses_every_call(make_client: ClientMaker, emulator: Emulator) -> None:
    async with make_client() as client:
        await client.sessions.create()
    await client.aclose()
    emulator.clear_received()
    for call in (client.sessions.create(), client.samplers.list(), client.samplers.deactivate("x")):
        with pytest.raises(RuntimeError, match="closed"):
            await call
    with pytest.raises(RuntimeError, match="closed"):
        await wait_until_active(client, "x")
    with pytest.raises(RuntimeError, match="closed"):
        async with client:
            pass
    assert emulator.received == ()
    assert "closed" in repr(client)


async def test_a_client_that_was_never_used_closes() -> None:
    async with LoopsClient("key"):
        pass


def test_a_client_belongs_to_one_loop() -> None:
    client = LoopsClient("key", base_url="http://127.0.0.1:9", retry=None)

    async def use() -> None:
        with pytest.raises(TransportError, match="127.0.0.1"):
            await client.samplers.list()
        session = client._transport._session
        assert session is not None
        await session.close()

    asyncio.run(use())

    async def use_again() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await client.samplers.list()

    asyncio.run(use_again())


async def test_a_cancelled_close_still_closes(make_client: ClientMaker, emulator: Emulator) -> None:
    client = make_client()
    await client.sessions.create()
    session = client._transport._session
    assert isinstance(session, aiohttp.ClientSession)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert session.closed


async def test_two_clients_share_nothing(make_client: ClientMaker) -> None:
    one, other = make_client(), make_client(api_key=KEY)
    await one.sessions.create()
    await one.aclose()
    await other.sessions.create()
