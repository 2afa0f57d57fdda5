"""The session, the key, timeouts, and aiohttp's errors."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from loops_async import (
    APIError,
    AuthenticationError,
    LoopsClient,
    LoopsError,
    RetryPolicy,
    Sampler,
    TransportError,
    wait_until_active,
)
from loops_async._http.requests import Request
from loops_async._http.transport import NEVER_SENT, transport_error
from loops_async.emulator import Emulator, Fault

from ..support import KEY, QUICK_POLL, ClientMaker, serving

pytestmark = pytest.mark.quick_clock

REQUEST = Request("GET", "/v1/loops/samplers")
SECRET = "sk-very-secret-4711"


def every_class(root: type[BaseException]) -> set[type[BaseException]]:
    return {root}.union(*(every_class(kind) for kind in root.__subclasses__()))


OF_RESPONSES = {
    aiohttp.ClientResponseError,
    aiohttp.ContentTypeError,
    aiohttp.WSServerHandshakeError,
    aiohttp.ClientHttpProxyError,
    aiohttp.TooManyRedirects,
}
SENT_OR_MAYBE = {
    aiohttp.ClientError,
    aiohttp.ClientConnectionError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
    aiohttp.ServerConnectionError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ServerTimeoutError,
    aiohttp.SocketTimeoutError,
    aiohttp.ClientPayloadError,
    aiohttp.RedirectClientError,
    *OF_RESPONSES,
} - {aiohttp.ClientHttpProxyError}


def test_every_exception_of_aiohttp_is_known_as_sent_or_never_sent() -> None:
    """A new one must be thought about: a create is repeated after those that are never sent."""
    known = {kind for root in NEVER_SENT for kind in every_class(root)} | SENT_OR_MAYBE
    ours_to_ignore = {"UploadAbortedError", "WSMessageTypeError"}
    unknown = {
        kind.__name__
        for kind in every_class(aiohttp.ClientError) - known
        if kind.__module__ == client_exceptions.__name__
    }
    assert unknown <= ours_to_ignore


def test_errors_that_hold_request_headers_are_never_chained() -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {SECRET}"}))
    info = aiohttp.RequestInfo(URL("http://x"), "GET", headers, URL("http://x"))
    for kind in OF_RESPONSES:
        source = kind(info, (), message=f"bad {SECRET}")
        assert SECRET in repr(source)
        error = transport_error(REQUEST, source, lambda text: text.replace(SECRET, "***"))
        assert error.__cause__ is None
        assert SECRET not in str(error)


@pytest.fixture
async def samplers(client: LoopsClient, emulator: Emulator, session_id: str) -> list[Sampler]:
    made = [await client.samplers.create(session_id=session_id, base_model="m") for _ in range(2)]
    emulator.clear_received()
    return made


async def test_the_key_is_sent_as_bearer_and_to_the_data_plane_as_api_key(
    client: LoopsClient, emulator: Emulator, samplers: list[Sampler]
) -> None:
    await client.samplers.list()
    await client.samplers.wake(samplers[0])
    listed, woken = emulator.received
    assert (listed.scheme, listed.key) == ("Bearer", "right")
    assert (woken.scheme, woken.key) == ("Api-Key", "right")
    assert listed.headers["User-Agent"].startswith("loops-async/")


def holds(thing: object, secret: str, seen: set[int]) -> bool:
    """Tell whether *secret* can be reached from *thing* by `repr()` and `vars()`."""
    if id(thing) in seen:
        return False
    seen.add(id(thing))
    if secret in repr(thing):
        return True
    inner: list[object] = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    if isinstance(thing, dict):
        inner += [*thing.keys(), *thing.values()]
    elif isinstance(thing, (list, tuple, set, frozenset)):
        inner += list(thing)
    return any(holds(item, secret, seen) for item in inner)


async def test_the_key_is_in_no_repr_and_no_vars(make_client: ClientMaker) -> None:
    client = make_client(api_key=SECRET)
    with pytest.raises(AuthenticationError):
        await client.sessions.create()
    assert not holds(client, SECRET, set())
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


async def echo(request: web.Request) -> web.Response:
    words = f"who are you, {request.headers['Authorization']}?"
    return web.json_response({"code": words, "message": words}, status=400, headers={"X-Request-Id": words})


async def nonsense(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(f"HTTP/1.1 {request.headers['Authorization']}\r\n\r\n".encode())
    request.transport.close()
    return web.Response()


async def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_: web.Request) -> web.Response:
    await asyncio.sleep(0.3)
    return web.Response()


@pytest.mark.parametrize("handler", [echo, nonsense, cut, hang])
async def test_the_key_is_in_no_error_and_no_log(
    make_client: ClientMaker, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(web.route("*", "/{tail:.*}", handler)) as url:
        client = make_client(api_key=SECRET, base_url=url, request_timeout=0.1, retry=RetryPolicy(attempts=2))
        for call in (client.sessions.create(), client.samplers.create(session_id="s", base_model="m")):
            with pytest.raises(LoopsError) as caught:
                await call
            shown = "".join(traceback.format_exception(caught.value))
            chain: BaseException | None = caught.value
            while chain is not None:
                shown += repr(chain) + repr(vars(chain)) + repr(chain.args)
                chain = chain.__cause__ or chain.__context__
            assert SECRET not in shown
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(make_client: ClientMaker, emulator: Emulator, status: int) -> None:
    """The emulator stands for another origin: nothing may arrive there."""

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": emulator.url + request.path})

    async with serving(web.route("*", "/{tail:.*}", redirect)) as url:
        client = make_client(base_url=url)
        with pytest.raises(APIError, match="redirect") as caught:
            await client.samplers.list()
        assert caught.value.status == status
        with pytest.raises(LoopsError):
            await client.samplers.create(session_id="s", base_model="m")
        with pytest.raises(APIError):
            await client.samplers.deactivate("x")
    assert emulator.received == ()


async def test_a_wake_goes_to_no_foreign_host(client: LoopsClient, emulator: Emulator, samplers: list[Sampler]) -> None:
    import attrs

    async with serving() as elsewhere:
        for url in (elsewhere + "/x/sync", "https://evil.example/sync", "http://model-1.api.baseten.co/sync", ""):
            astray = attrs.evolve(samplers[0], base_url=url, model_id=None)
            with pytest.raises(ValueError, match="refusing to send the API key"):
                await client.samplers.wake(astray)
    with pytest.raises(TypeError, match="a Sampler is needed"):
        await client.samplers.wake(samplers[0].id)  # type: ignore[arg-type]
    assert emulator.received == ()


@pytest.mark.parametrize("id", ["a/b", "a?b=c", "a#b", "a%2Fb", "../sessions", "ä b", "a\\b", "*", "a;b", "%", "..%2f"])
async def test_an_id_never_changes_the_route(client: LoopsClient, emulator: Emulator, id: str) -> None:
    for call in (client.samplers.get(id), client.samplers.deactivate(id), client.sessions.get(id)):
        with pytest.raises(LoopsError):
            await call
    got, deactivated, *looks, session = emulator.received
    assert {request.route for request in looks} == {got.route}
    assert got.route == "/v1/loops/samplers/{sampler_id}"
    assert deactivated.route == "/v1/loops/samplers/{sampler_id}/deactivate"
    assert session.route == "/v1/loops/sessions/{session_id}"
    assert not got.query
    assert URL.build(path=got.path, encoded=True).parts[-1] == id


@pytest.mark.parametrize("id", ["", " ", ".", "..", "a\nb", "a\x00b"])
async def test_an_id_that_cannot_be_quoted_is_refused(client: LoopsClient, emulator: Emulator, id: str) -> None:
    for call in (client.samplers.get, client.samplers.deactivate, client.sessions.get):
        with pytest.raises(ValueError, match="id"):
            await call(id)
    with pytest.raises(ValueError, match="id"):
        await wait_until_active(client, id)
    assert emulator.received == ()


async def test_a_hung_server_is_a_transport_error_in_time(
    make_client: ClientMaker, emulator: Emulator, samplers: list[Sampler]
) -> None:
    emulator.add_fault(Fault(method="GET", delay=5, times=None))
    client = make_client(request_timeout=0.05, retry=None)
    async with asyncio.timeout(2):
        with pytest.raises(TransportError, match="no answer in time") as caught:
            await client.samplers.get(samplers[0].id)
    assert caught.value.sent
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_the_callers_own_timeout_stays_the_callers(
    client: LoopsClient, emulator: Emulator, samplers: list[Sampler]
) -> None:
    emulator.add_fault(Fault(method="GET", delay=5))
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            await client.samplers.get(samplers[0].id)
    assert not isinstance(caught.value, LoopsError)


async def test_a_callers_session_is_used_and_never_closed(
    make_client: ClientMaker, emulator: Emulator, samplers: list[Sampler]
) -> None:
    connector = aiohttp.TCPConnector(limit=2)
    async with aiohttp.ClientSession(connector=connector, headers={"X-Own": "1"}, raise_for_status=True) as session:
        client = make_client(session=session)
        emulator.add_fault(Fault(method="GET", delay=0.05, times=6))
        # Six at two connections: queueing is ours, and is no timeout of theirs.
        client._transport._read_timeout = aiohttp.ClientTimeout(total=0.12)
        await asyncio.gather(*(client.samplers.get(samplers[0].id) for _ in range(6)))
        assert all(request.headers["X-Own"] == "1" for request in emulator.received)
        assert len(emulator.received) == 6
        await client.aclose()
        assert not session.closed


async def test_the_number_of_requests_in_flight_is_bounded(make_client: ClientMaker) -> None:
    at_once = most = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return web.json_response({"samplers": []})

    async with serving(web.get("/v1/loops/samplers", handler)) as url:
        client = make_client(base_url=url, max_connections=3)
        await asyncio.gather(*(client.samplers.list() for _ in range(20)))
    assert most == 3


async def test_a_path_in_the_base_url_is_kept(make_client: ClientMaker) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"session": {"id": "s1"}})

    async with serving(web.post("/proxy/v1/loops/sessions", handler)) as url:
        client = make_client(base_url=url + "/proxy/")
        assert (await client.sessions.create()).id == "s1"


async def test_waits_keep_the_key_to_themselves_too(
    client: LoopsClient, emulator: Emulator, samplers: list[Sampler], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await wait_until_active(client, samplers[0], policy=QUICK_POLL)
    assert not holds(client, KEY, set())
    assert KEY not in caplog.text


async def escaped(request: web.Request) -> web.Response:
    words = request.headers["Authorization"].replace("/", "\\/").replace("&", "\\u0026")
    return web.Response(body=f'{{"message": "{words}", "code": "{words}"}}'.encode(), status=400)


async def test_a_key_that_is_repeated_with_escapes_is_in_no_error(make_client: ClientMaker) -> None:
    key = "sk/very&secret"
    async with serving(web.route("*", "/{tail:.*}", escaped)) as url:
        with pytest.raises(APIError) as caught:
            await make_client(api_key=key, base_url=url).samplers.list()
    error = caught.value
    for text in (str(error), error.message, error.code or "", error.body, error.body.replace("\\/", "/")):
        assert key not in text
    assert "very" not in error.body


@pytest.mark.parametrize("handler", [echo, nonsense, cut, hang])
async def test_the_key_is_not_among_the_locals_of_a_traceback(make_client: ClientMaker, handler: Any) -> None:
    async with serving(web.route("*", "/{tail:.*}", handler)) as url:
        client = make_client(api_key=SECRET, base_url=url, request_timeout=0.1, retry=None)
        with pytest.raises(LoopsError) as caught:
            await client.samplers.list()
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    ours = shown.split("test_the_key_is_not_among", 1)[1].split("_http/transport.py", 1)[1]
    assert SECRET not in ours


async def test_a_limit_per_host_of_the_callers_is_kept_too(
    make_client: ClientMaker, emulator: Emulator, samplers: list[Sampler]
) -> None:
    connector = aiohttp.TCPConnector(limit_per_host=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = make_client(session=session, request_timeout=0.2, retry=None)
        emulator.add_fault(Fault(method="GET", delay=0.06, times=5))
        await asyncio.gather(*(client.samplers.get(samplers[0].id) for _ in range(5)))
