"""The emulator in a thread of its own, called from others."""

import asyncio
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from loops_async.emulator import BackgroundEmulator, Emulator, Fault, Stage
from loops_async.emulator._background import _forwarded

ACTIVE = {"*": [Stage("ACTIVE")]}


def threads() -> int:
    return sum(thread.name == "loops-emulator" for thread in threading.enumerate())


def post(url: str, body: object = None) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        document: dict[str, dict[str, str]] = json.load(answer)
    return document


def test_it_serves_whoever_has_no_loop() -> None:
    with BackgroundEmulator(lifecycles=ACTIVE) as emulator:
        assert isinstance(emulator, Emulator)
        assert threads() == 1
        session_id = post(f"{emulator.url}/v1/loops/sessions")["session"]["id"]
        body = {"session_id": session_id, "base_model": "m"}
        sampler = post(f"{emulator.url}/v1/loops/samplers", body)["sampler"]
        assert emulator.billed == {sampler["id"]}
        emulator.set_status(sampler["id"], "FAILED")
        assert emulator.sampler_document(sampler["id"])["status"] == {"name": "FAILED"}
        with pytest.raises(KeyError):
            emulator.set_status("other", "FAILED")
    assert threads() == 0
    assert [each.status for each in emulator.samplers] == ["FAILED"]
    assert len(emulator.requests("POST")) == 2
    with pytest.raises(urllib.error.URLError):
        post(f"{emulator.url}/v1/loops/sessions")


def test_it_can_be_entered_again_but_not_twice() -> None:
    emulator = BackgroundEmulator()
    for _ in range(2):
        with emulator, pytest.raises(RuntimeError, match="running already"):
            emulator.__enter__()
    with pytest.raises(RuntimeError, match="thread is not running"):
        asyncio.run(emulator.start())


def test_an_address_that_is_taken_is_told_to_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        emulator = BackgroundEmulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), emulator:
            raise AssertionError
    assert threads() == 0


def test_every_public_member_is_run_by_its_own_thread() -> None:
    for name, member in vars(Emulator).items():
        if not name.startswith("_"):
            assert vars(BackgroundEmulator)[name] is not member
            assert vars(BackgroundEmulator)[name].__doc__ == member.__doc__

    seen: list[tuple[str, object]] = []

    def note(what: object) -> None:
        seen.append((threading.current_thread().name, what))

    async def noted(_: object, what: object) -> None:
        note(what)

    class Watched(BackgroundEmulator):
        member = _forwarded(property(lambda _: note("get"), lambda _, value: note(value)))
        method = _forwarded(lambda _, what: note(what))
        coroutine = _forwarded(noted)

    with Watched() as emulator:
        emulator.member  # noqa: B018
        emulator.member = "set"
        emulator.method("called")
        asyncio.run(emulator.coroutine("awaited"))
    assert seen == [("loops-emulator", what) for what in ("get", "set", "called", "awaited")]
    emulator.member = "set"
    assert seen[-1] == (threading.current_thread().name, "set")


def test_an_outage_without_a_loop() -> None:
    with BackgroundEmulator() as emulator:
        url = emulator.url
        asyncio.run(emulator.aclose())
        with pytest.raises(urllib.error.URLError):
            post(f"{url}/v1/loops/sessions")
        asyncio.run(emulator.start())
        assert emulator.url == url
        post(f"{url}/v1/loops/sessions")


async def test_an_outage_within_a_loop() -> None:
    with BackgroundEmulator() as emulator:
        await emulator.aclose()
        await emulator.start()
        await asyncio.to_thread(post, f"{emulator.url}/v1/loops/sessions")
        await emulator.aclose()


def test_calls_meet_no_half_changed_state() -> None:
    with BackgroundEmulator(lifecycles={"*": [Stage("BUILDING", 1e-9)] * 30 + [Stage("ACTIVE")]}) as emulator:
        session_id = post(f"{emulator.url}/v1/loops/sessions")["session"]["id"]
        body = json.dumps({"session_id": session_id, "base_model": "m"})
        failures: list[BaseException] = []
        done = threading.Event()

        def create() -> None:
            connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=10)
            try:
                for _ in range(200):
                    connection.request("POST", "/v1/loops/samplers", body)
                    answer = connection.getresponse()
                    assert answer.status == 200, answer.read()
                    sampler_id = json.load(answer)["sampler"]["id"]
                    emulator.set_status(sampler_id, "HELD")
                    connection.request("GET", "/v1/loops/samplers?scope=org")
                    connection.getresponse().read(100)
                    connection.close()
                    assert emulator.sampler_document(sampler_id)["status"]["name"] == "HELD"
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
            finally:
                connection.close()
                done.set()

        creating = threading.Thread(target=create)
        creating.start()
        while not done.is_set():
            fault = emulator.add_fault(Fault(route="/v1/teams"))
            assert all(each.status in {"HELD", "ACTIVE", "BUILDING"} for each in emulator.samplers)
            emulator.remove_fault(fault)
        creating.join()
        assert not failures
        assert len(emulator.samplers) == 200
