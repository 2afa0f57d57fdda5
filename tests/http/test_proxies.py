"""Proxies by the environment: the rules, with httpx as the reference, and what real proxies receive."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product

import aiohttp
import httpx
import pytest
from attrs import define, field
from yarl import URL

from loops_async import APIError, CreateOutcomeUnknown, LoopsClient, LoopsError, RetryPolicy, TransportError
from loops_async._http.proxies import Proxies, Proxy, environment_proxies
from loops_async.emulator import Emulator

from ..support import KEY, QUICK_RETRY

pytestmark = pytest.mark.quick_clock

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing": {},
    "one scheme": {"HTTPS_PROXY": "http://proxy.example:3128"},
    "the other scheme": {"HTTP_PROXY": "http://proxy.example:3128"},
    "all": {"ALL_PROXY": "http://proxy.example:3128"},
    "a scheme and all": {"HTTPS_PROXY": "http://one.example:1", "ALL_PROXY": "http://two.example:2"},
    "lower case": {"https_proxy": "http://proxy.example:3128", "no_proxy": "baseten.co"},
    "lower case wins": {"https_proxy": "http://lower.example:1", "HTTPS_PROXY": "http://upper.example:2"},
    "empty lower case wins": {"https_proxy": "", "HTTPS_PROXY": "http://upper.example:2"},
    "no scheme": {"ALL_PROXY": "proxy.example:3128"},
    "no port": {"ALL_PROXY": "http://proxy.example"},
    "https proxy": {"ALL_PROXY": "https://proxy.example"},
    "IPv6 proxy": {"ALL_PROXY": "http://[::1]:3128"},
    "credentials": {"ALL_PROXY": "http://user:password@proxy.example:3128"},
    "credentials, encoded": {"ALL_PROXY": "http://us%40er:p%3Ass%2Fw%C3%B6rd%25@proxy.example:3128"},
    "user alone": {"ALL_PROXY": "http://user@proxy.example:3128"},
    "credentials without a scheme": {"ALL_PROXY": "user:password@proxy.example:3128"},
    "capitals": {"ALL_PROXY": "HTTP://Proxy.Example:3128"},
    "path": {"ALL_PROXY": "http://proxy.example:3128/"},
    "CGI": {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://evil.example:1", "HTTPS_PROXY": "http://proxy.example:2"},
    "CGI, lower case": {"REQUEST_METHOD": "GET", "http_proxy": "http://proxy.example:1"},
    "other names": {"TRAVIS_APT_PROXY": "http://apt.example:1", "FTP_PROXY": "http://ftp.example:2"},
    **{
        f"NO_PROXY={value}": {"ALL_PROXY": "http://proxy.example:3128", "NO_PROXY": value}
        for value in (
            "*",
            "example.org,*",
            "baseten.co",
            ".baseten.co",
            "*.baseten.co",
            "BASETEN.CO",
            "api.baseten.co",
            "aseten.co",
            "co",
            " example.org , baseten.co ",
            ",,",
            "api.baseten.co:8443",
            "api.baseten.co:443",
            "baseten.co:80",
            "baseten.co:",
            "localhost",
            "LOCALHOST",
            "localhost:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.0.0.1,localhost,::1",
            "127.0.0.0/8",
            "127.0.0.1/8",
            "10.0.0.0/8",
            "10.0.0.0",
            "::1",
            "https://",
            "http://",
            "all://",
            "https://baseten.co",
            "https://*.baseten.co",
            "http://localhost:8080",
            "http://*",
            "https://api.baseten.co:443",
            "baseten.co/path",
            "192.168.0.0/16,.internal,baseten.co:8443",
        )
    },
    "the longer host wins": {
        "HTTP_PROXY": "http://one.example:1",
        "HTTPS_PROXY": "http://two.example:2",
        "ALL_PROXY": "http://three.example:3",
        "NO_PROXY": "https://api.baseten.co,localhost:8080,.org",
    },
}

URLS = [
    f"{scheme}://{host}{port}/v1/x"
    for scheme, host, port in product(
        ("http", "https"),
        (
            "api.baseten.co",
            "API.Baseten.CO",
            "baseten.co",
            "model-1.api.baseten.co",
            "notbaseten.co",
            "example.org",
            "localhost",
            "sub.localhost",
            "127.0.0.1",
            "10.0.0.0",
            "10.1.2.3",
            "[::1]",
        ),
        ("", ":80", ":443", ":8080", ":8443"),
    )
]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_each_url_takes_the_proxy_that_httpx_takes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable, value in ENVIRONMENTS[name].items():
        monkeypatch.setenv(variable, value)
    reference, own = httpx.Client(verify=False), environment_proxies()  # noqa: S501 -- sends nothing
    with reference:
        for url in URLS:
            # The request's own URL is lower case by then, for both.
            assert _described(own.for_url(URL(url))) == _of_httpx(reference, url), url


def _described(proxy: Proxy | None) -> tuple[str, str, int | None, str] | None:
    if proxy is None:
        return None
    return proxy.url.scheme, proxy.url.raw_host or "", proxy.url.port, proxy.headers.get("Proxy-Authorization", "")


def _of_httpx(client: httpx.Client, url: str) -> tuple[str, str, int | None, str] | None:
    pool = getattr(client._transport_for_url(httpx.URL(url)), "_pool", None)
    proxy = getattr(pool, "_proxy_url", None)
    if proxy is None:
        return None
    headers = dict(getattr(pool, "_proxy_headers", ()))
    port = proxy.port or {b"http": 80, b"https": 443}[proxy.scheme]
    return (
        proxy.scheme.decode(),
        proxy.host.decode().strip("[]"),
        port,
        headers.get(b"Proxy-Authorization", b"").decode(),
    )


@pytest.mark.parametrize(
    ("entry", "url"), [("[::1]", "http://[::1]:8080"), ("[::1]:8080", "http://[::1]:8080"), ("::1/128", "http://[::1]")]
)
def test_addresses_that_httpx_cannot_read_are_exceptions_too(
    monkeypatch: pytest.MonkeyPatch, entry: str, url: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", f"{entry},host:port,http://[")
    assert environment_proxies().for_url(URL(url)) is None
    assert environment_proxies().for_url(URL("http://other.example")) is not None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ALL_PROXY": "socks5://user:secret@proxy.example:1080"}, "ALL_PROXY names a proxy of the socks5:// kind"),
        ({"all_proxy": "socks5h://secret.example:1080"}, "all_proxy .* of the socks5h:// kind"),
        ({"HTTPS_PROXY": "socks4://secret.example:1080"}, "HTTPS_PROXY .* pass trust_env=False"),
        ({"https_proxy": "secret://proxy.example"}, "https_proxy .* of the unknown kind"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY is not the URL of a proxy"),
        ({"HTTPS_PROXY": "http://:secret@"}, "HTTPS_PROXY is not the URL of a proxy"),
        ({"HTTPS_PROXY": "http://proxy.example:secret"}, "HTTPS_PROXY is not the URL of a proxy"),
        ({"HTTPS_PROXY": "http://user:pass/secret@proxy.example:80"}, "percent-encoded"),
        ({"HTTPS_PROXY": "http://user:1/secret@proxy.example:80"}, "percent-encoded"),
        ({"HTTPS_PROXY": "http://user:1#secret@proxy.example:80"}, "percent-encoded"),
        ({"HTTPS_PROXY": "http://[secret"}, "HTTPS_PROXY is not the URL of a proxy"),
        ({"ALL_PROXY": "socks5://secret", "NO_PROXY": "example.org"}, "NO_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_the_constructor(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=words) as caught:
        LoopsClient(KEY)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    LoopsClient(KEY, trust_env=False)


def test_a_proxy_that_only_wakes_and_probes_would_take_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    monkeypatch.setenv("NO_PROXY", "gateway.example")
    with pytest.raises(ValueError, match="socks5"):
        LoopsClient(KEY, base_url="https://gateway.example")


@pytest.mark.parametrize(
    "environment",
    [
        {"ALL_PROXY": "socks5://a:1", "NO_PROXY": "*"},
        {"ALL_PROXY": "socks5://a:1", "NO_PROXY": "baseten.co"},
        {"ALL_PROXY": "socks5://a:1", "HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://a:1"},
        {"HTTP_PROXY": "socks5://a:1"},
    ],
)
def test_a_proxy_that_no_request_would_take_may_be_of_any_kind(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    LoopsClient(KEY)


def test_the_key_goes_to_no_proxy_on_another_machine_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example:3128")
    with pytest.raises(ValueError, match=r"proxy\.example.*NO_PROXY.*trust_env=False.*LOOPS_ALLOW_HTTP=1") as caught:
        LoopsClient(KEY, base_url="http://127.0.0.1:9")
    assert "secret" not in str(caught.value)
    LoopsClient(KEY, base_url="http://127.0.0.1:9", allow_http=True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    LoopsClient(KEY, base_url="http://127.0.0.1:9")


def test_no_repr_shows_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://user:hunter2@proxy.example:3128")
    proxies = environment_proxies()
    proxy = proxies.for_url(URL("https://api.baseten.co"))
    for shown in (repr(proxy), str(proxy), repr(proxies), repr(LoopsClient(KEY))):
        assert "hunter2" not in shown
        assert base64.b64encode(b"user:hunter2").decode() not in shown


def test_without_an_environment_no_url_has_a_proxy() -> None:
    assert environment_proxies().for_url(URL("https://api.baseten.co")) is None
    assert Proxies().for_url(URL("http://localhost")) is None


@define
class Heard:
    """A request as a proxy received it."""

    line: str
    headers: dict[str, str]


@define
class ProxyServer:
    """A proxy on loopback that writes down what it receives and answers in one way."""

    heard: list[Heard] = field(factory=list)
    port: int = 0

    def url(self, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.port}"


@asynccontextmanager
async def proxy_that(answer: str | None) -> AsyncIterator[ProxyServer]:
    """Serve a proxy that answers each request with *answer*, or closes the connection for None.

    `{auth}` in the answer stands for the credentials that it received.
    """
    server = ProxyServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields if each)}
            server.heard.append(Heard(line, headers))
            if answer is not None:
                writer.write(answer.replace("{auth}", headers.get("proxy-authorization", "")).encode())
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def forwarding_proxy() -> AsyncIterator[ProxyServer]:
    """Serve a proxy that forwards plain http and opens tunnels."""
    server = ProxyServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields if each)}
        server.heard.append(Heard(line, headers))
        method, target, _ = line.split(" ")
        there = URL(f"http://{target}" if method == "CONNECT" else target)
        upstream_reader, upstream_writer = await asyncio.open_connection(there.host, there.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            # One request a connection keeps this small; the client must not mind.
            kept = [f for f in fields if f and not f.lower().startswith(("proxy-authorization", "connection"))]
            upstream_writer.write("\r\n".join([f"{method} {there.raw_path_qs} HTTP/1.1", *kept]).encode())
            upstream_writer.write(b"\r\nConnection: close\r\n\r\n")
        await asyncio.gather(_tunnel(reader, upstream_writer), _tunnel(upstream_reader, writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


async def test_plain_http_goes_to_the_proxy_with_its_credentials(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with forwarding_proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url("us%40er:p%C3%B6st@"))
        async with LoopsClient(KEY, base_url=emulator.url) as client:
            session = await client.sessions.create()
            await client.samplers.create(session_id=session.id, base_model="Qwen/Qwen3-8B")
            assert len(await client.samplers.list()) == 1
    assert [heard.line for heard in proxy.heard] == [
        f"POST {emulator.url}/v1/loops/sessions HTTP/1.1",
        f"POST {emulator.url}/v1/loops/samplers HTTP/1.1",
        f"GET {emulator.url}/v1/loops/samplers HTTP/1.1",
    ]
    expected = "Basic " + base64.b64encode("us@er:pöst".encode()).decode()
    assert {heard.headers["proxy-authorization"] for heard in proxy.heard} == {expected}
    assert {heard.headers["authorization"] for heard in proxy.heard} == {f"Bearer {KEY}"}
    assert not any("Proxy-Authorization" in request.headers for request in emulator.received)


async def test_https_goes_through_a_tunnel_that_alone_has_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy_that("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url("user:password@"))
        async with LoopsClient(KEY, retry=None) as client:
            with pytest.raises(TransportError) as caught:
                await client.samplers.list()
    (heard,) = proxy.heard
    assert heard.line == "CONNECT api.baseten.co:443 HTTP/1.1"
    assert heard.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:password").decode()
    # The key is for the service, inside of the tunnel.
    assert "authorization" not in heard.headers
    assert not caught.value.sent


async def test_no_proxy_goes_past_the_proxy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy_that(None) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with LoopsClient(KEY, base_url=emulator.url) as client:
            await client.samplers.list()
        monkeypatch.delenv("NO_PROXY")
        async with LoopsClient(KEY, base_url=emulator.url, trust_env=False) as client:
            await client.samplers.list()
    assert not proxy.heard
    assert len(emulator.received) == 2


async def test_the_environment_is_read_when_the_client_is_made(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LoopsClient(KEY, base_url=emulator.url) as client:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        await client.samplers.list()


async def test_a_session_of_the_callers_keeps_its_own_proxies(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_that(None) as environments, forwarding_proxy() as own:
        monkeypatch.setenv("ALL_PROXY", environments.url())
        for proxy, heard in ((None, 0), (own.url(), 1)):
            async with (
                aiohttp.ClientSession(proxy=proxy) as session,
                LoopsClient(KEY, base_url=emulator.url, session=session) as client,
            ):
                await client.samplers.list()
            assert len(own.heard) == heard
    assert not environments.heard


async def test_a_netrc_file_never_replaces_the_key(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\ndefault login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with forwarding_proxy() as proxy:
        for value in ("", proxy.url()):
            monkeypatch.setenv("http_proxy", value)
            async with LoopsClient(KEY, base_url=emulator.url) as client:
                await client.samplers.list()
        assert "proxy-authorization" not in proxy.heard[0].headers
    assert [(request.scheme, request.key) for request in emulator.received] == [("Bearer", "right")] * 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502 Bad Gateway"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (None, "the proxy opened no tunnel"),
        ("SSH-2.0-server\r\n\r\n", "the proxy opened no tunnel"),
        ("HTTP/1.1 2", "the proxy opened no tunnel"),
        ("HTTP/1.1 200 OK\r\n\r\n", "Cannot connect to host api.baseten.co"),
    ],
)
async def test_a_create_is_not_sent_where_the_proxy_opens_no_tunnel(
    monkeypatch: pytest.MonkeyPatch, answer: str | None, words: str
) -> None:
    async with proxy_that(answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        async with LoopsClient(KEY, retry=QUICK_RETRY) as client:
            with pytest.raises(TransportError) as caught:
                await client.samplers.create(session_id="s", base_model="m")
    assert not caught.value.sent
    assert words in str(caught.value)
    # It is provably not sent, so that it was tried again.
    assert len(proxy.heard) == QUICK_RETRY.attempts
    assert {heard.line for heard in proxy.heard} == {"CONNECT api.baseten.co:443 HTTP/1.1"}


async def test_a_create_is_not_sent_where_the_proxy_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy_that(None) as proxy:
        pass
    for variable, base_url in (("HTTPS_PROXY", None), ("HTTP_PROXY", "http://127.0.0.1:9")):
        monkeypatch.setenv(variable, proxy.url("user:hunter2@"))
        async with LoopsClient(KEY, base_url=base_url, retry=RetryPolicy(attempts=2, initial=0.01)) as client:
            with pytest.raises(TransportError, match=f"127.0.0.1:{proxy.port}") as caught:
                await client.samplers.create(session_id="s", base_model="m")
        assert not caught.value.sent
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("answer", ["HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", None])
async def test_a_plain_proxy_that_fails_proves_nothing_about_a_create(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """It may have forwarded the request before: without a tunnel, its 502 may be about the response."""
    async with proxy_that(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        async with LoopsClient(KEY, base_url=emulator.url, retry=QUICK_RETRY) as client:
            with pytest.raises(CreateOutcomeUnknown):
                await client.samplers.create(session_id="s", base_model="m")
    assert sum(heard.line.startswith("POST") for heard in proxy.heard) == 1


@pytest.mark.parametrize("status", ["407 {auth}", "502 {auth}", "200 {auth}"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_credentials_that_a_proxy_repeats_are_in_no_error_and_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scheme: str, status: str
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = base64.b64encode(b"user:hunter2").decode()
    body = f"you sent Basic {secret}"
    answer = f"HTTP/1.1 {status}\r\nX-Request-Id: {secret}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with proxy_that(answer) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url("user:hunter2@"))
        async with LoopsClient(KEY, base_url=f"{scheme}://127.0.0.1:9", retry=None) as client:
            with pytest.raises(LoopsError) as caught:
                await client.samplers.list()
    error: BaseException = caught.value
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + caplog.text
    if isinstance(error, APIError):
        told += f"{error.body}{error.message}{error.request_id}"
    assert secret not in told
    assert "hunter2" not in told
