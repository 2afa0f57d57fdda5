"""Which proxy a request goes through, by the environment: the rules of httpx, for aiohttp.

Baseten's own clients use httpx, so that a machine which is set up for them must work for this client, too. aiohttp's
`trust_env` follows other rules: it does not know `ALL_PROXY`, reads `NO_PROXY` in another way, and takes credentials
from a netrc file, which would replace the API key. It is therefore not used.

The environment is read once, when a client is made. It becomes a list of rules, the most specific one first; the first
rule that matches a URL decides. For example, `HTTPS_PROXY=http://proxy:3128` with `NO_PROXY=.internal` gives:

    hosts below internal, any scheme    no proxy
    any host, https                     http://proxy:3128

Credentials in the URL of a proxy are sent to that proxy as `Proxy-Authorization` and kept out of everything else.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

import aiohttp
from aiohttp.connector import Connection
from attrs import field, frozen
from yarl import URL

from .._aio import ResponsiveTimeout
from .requests import is_loopback

_ANY_SCHEME: Final = "all"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_SUPPORTED_SCHEMES: Final = frozenset({"http", "https"})

_DATA_PLANE_EXAMPLE: Final = URL("https://model-0.api.baseten.co")
"""A URL such as those of dedicated samplers, to which wakes and probes go."""


@frozen
class Proxy:
    """A proxy that aiohttp can use."""

    url: URL
    """Address of the proxy, without credentials."""
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """`Proxy-Authorization`, if the proxy has credentials."""


@frozen
class _Unusable:
    """A proxy that the environment names and that cannot be used."""

    reason: str
    """A message for the user, without any part of the proxy's URL that may be secret."""


class RoutedRequest(TypedDict, total=False):
    """The arguments of `aiohttp.ClientSession.request()` that depend on the proxy."""

    headers: Mapping[str, str]
    proxy: URL
    proxy_headers: Mapping[str, str]


@frozen
class _Rule:
    """Which URLs a setting is about, and the proxy for them."""

    scheme: str
    """Scheme of the URLs, or empty for any."""
    host: str
    """Host as it was written: `example.org`, `*example.org` with the hosts below it, or `*.example.org` with those
    alone. Empty for any host."""
    port: int | None
    """Port that the URL must name; a URL with the default port of its scheme names none."""
    proxy: Proxy | _Unusable | None
    """The proxy to use, or None to connect directly."""

    @property
    def precedence(self) -> tuple[bool, int, int]:
        """Sort key: rules with a port come first, then those with longer hosts, then those with longer schemes."""
        return self.port is None, -len(self.host), -len(self.scheme)

    def matches(self, scheme: str, host: str, port: int | None) -> bool:
        """Return True if the rule is about a URL with these parts."""
        if self.scheme not in {"", scheme} or self.port not in {None, port}:
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        if self.host.startswith("*"):
            return host == self.host[1:] or host.endswith(f".{self.host[1:]}")
        return self.host in {"", host}


class Proxies:
    """The proxies of a client.

    Args:
        rules: What applies to which URLs, in any order; without any, each connection is direct.
    """

    def __init__(self, rules: Iterable[_Rule] = ()) -> None:
        self._rules = tuple(sorted(rules, key=lambda rule: rule.precedence))

    def for_url(self, url: URL) -> Proxy | None:
        """Return the proxy for *url*, or None to connect directly.

        Raises:
            ValueError: The environment names a proxy that cannot be used. `check()` finds that out beforehand for the
                URLs that a client uses.
        """
        rule = self._rule_for(url)
        proxy = None if rule is None else rule.proxy
        if isinstance(proxy, _Unusable):
            raise ValueError(proxy.reason)
        return proxy

    def route(self, url: URL, headers: Mapping[str, str]) -> RoutedRequest:
        """Return the arguments with which aiohttp sends a request with *headers* for *url*."""
        proxy = self.for_url(url) if self._rules else None
        if proxy is None:
            return {"headers": headers}
        if url.scheme == "https":
            # aiohttp sends these with its CONNECT, and only there.
            return {"headers": headers, "proxy": proxy.url, "proxy_headers": proxy.headers}
        # Without a tunnel the proxy reads the request itself, and aiohttp does not add *proxy_headers* to that.
        return {"headers": {**headers, **proxy.headers}, "proxy": proxy.url}

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def secrets(self) -> frozenset[str]:
        """What must not appear in a message, although a proxy may repeat it: the values of `Proxy-Authorization`."""
        usable = (rule.proxy for rule in self._rules if isinstance(rule.proxy, Proxy))
        return frozenset(value.partition(" ")[2] for proxy in usable for value in proxy.headers.values())

    def check(self, base_url: str, *, allow_http: bool) -> None:
        """Refuse proxies that a client of *base_url* would need and cannot use.

        Raises:
            ValueError: Such a proxy is malformed or of an unsupported scheme, or it would receive the API key over
                plain http on another machine, and *allow_http* does not permit that.
        """
        url = URL(base_url)
        proxy = self.for_url(url)
        if url.scheme == "https":
            self.for_url(_DATA_PLANE_EXAMPLE)
        elif proxy is not None and not is_loopback(proxy.url.host or "") and not allow_http:
            raise ValueError(
                f"the environment sends requests for {base_url} through the proxy on {proxy.url.host}, and over plain "
                f"http the API key could be read on the way: add {url.host} to NO_PROXY, or pass trust_env=False, or "
                "permit plain http with allow_http=True or LOOPS_ALLOW_HTTP=1"
            )

    def _rule_for(self, url: URL) -> _Rule | None:
        scheme, host = url.scheme, url.raw_host or ""
        port = None if url.port == _DEFAULT_PORTS.get(scheme) else url.port
        return next((rule for rule in self._rules if rule.matches(scheme, host, port)), None)


class TunnelError(aiohttp.ClientConnectionError):
    """A proxy broke off, or answered with nonsense, before it had opened a tunnel: the request was not sent."""


class ProxyConnector(aiohttp.TCPConnector):
    """A connector that raises other errors than aiohttp where a connection fails before a request can be sent.

    aiohttp has one error for a proxy that closes the connection instead of opening a tunnel, and for a server that
    closes it after it has received a request. Only the first one proves that a create made nothing.

    Args:
        connect_seconds: Seconds for a connection beside an event loop that may be blocked; None for aiohttp's timeout.
        settings: Those of `aiohttp.TCPConnector`.
    """

    def __init__(self, *, connect_seconds: float | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._connect_seconds = connect_seconds

    async def connect(self, req: Any, *args: Any, **kwargs: Any) -> Connection:
        """Connect as `aiohttp.TCPConnector` does, with `TunnelError` for what has no error of its own there."""
        try:
            if self._connect_seconds is None:
                return await super().connect(req, *args, **kwargs)
            async with ResponsiveTimeout(self._connect_seconds).hold():
                return await super().connect(req, *args, **kwargs)
        except TimeoutError as exc:
            if self._connect_seconds is None or isinstance(exc, aiohttp.ClientError):
                raise
            raise aiohttp.ConnectionTimeoutError(f"no connection in {self._connect_seconds:g} s") from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            raise
        except aiohttp.ClientError as exc:
            if req.proxy is None:
                raise
            name, reason = type(exc).__name__, getattr(exc, "message", None)
        # Outside of the except block: the frames of the original error hold the credentials for the proxy.
        raise TunnelError(f"the proxy opened no tunnel: {name}" + (f": {reason}" if isinstance(reason, str) else ""))


def environment_proxies() -> Proxies:
    """Read the proxies of the environment, as httpx does: lower-case names win over upper-case ones.

    As with httpx, what `urllib.request.getproxies()` knows counts: the system's settings where no variable is set, on
    Windows and macOS, and not `HTTP_PROXY` in a CGI process, where that is a header of the client.
    """
    settings = getproxies()
    exceptions = [entry for part in settings.get("no", "").split(",") if (entry := part.strip())]
    if "*" in exceptions:
        return Proxies()
    rules = {
        f"{scheme}://": _Rule("" if scheme == _ANY_SCHEME else scheme, "", None, _parsed_proxy(scheme, value))
        for scheme in ("http", "https", _ANY_SCHEME)
        if (value := settings.get(scheme))
    }
    for entry in exceptions:
        pattern = _pattern(entry)
        if (rule := _exception_rule(pattern)) is not None:
            # Under the same key: an entry such as `https://` takes the place of the proxy.
            rules[pattern] = rule
    return Proxies(rules.values())


def _pattern(entry: str) -> str:
    """Write an entry of `NO_PROXY` as a URL whose host may begin with `*`."""
    if "://" in entry:
        return entry
    if entry.startswith("[") and "]" in entry:
        return f"{_ANY_SCHEME}://{entry}"
    # Of a network only its first address counts, as with httpx.
    address = entry.split("/", maxsplit=1)[0]
    try:
        is_v6 = ipaddress.ip_address(address).version == 6
    except ValueError:
        return f"{_ANY_SCHEME}://{'' if entry.lower() == 'localhost' else '*'}{entry}"
    return f"{_ANY_SCHEME}://{f'[{address}]' if is_v6 else address}"


def _exception_rule(pattern: str) -> _Rule | None:
    """Read an entry of `NO_PROXY`; one that cannot be read is about no host, and gives None."""
    try:
        parts = urlsplit(pattern)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:
        return None
    if port is not None and port == _DEFAULT_PORTS.get(parts.scheme):
        port = None
    return _Rule("" if parts.scheme == _ANY_SCHEME else parts.scheme, "" if host == "*" else host, port, None)


def _parsed_proxy(setting: str, value: str) -> Proxy | _Unusable:
    """Read the URL of a proxy. No message may hold a part of it that can belong to a password."""
    source = _source(setting)
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError:
        return _malformed(source)
    if parts.scheme not in _SUPPORTED_SCHEMES:
        return _unsupported(source, parts.scheme)
    # An "@" behind the authority is part of a password that holds a slash: what looks like the host is none.
    if not parts.hostname or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return _malformed(source)
    try:
        url = URL.build(scheme=parts.scheme, host=parts.hostname, port=port)
    except ValueError:
        return _malformed(source)
    return Proxy(url, _authorization(parts))


def _malformed(source: str) -> _Unusable:
    return _Unusable(
        f"{source} is not the URL of a proxy: write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with special "
        "characters of the password percent-encoded"
    )


def _unsupported(source: str, scheme: str) -> _Unusable:
    kind = f"{scheme}://" if scheme.startswith("socks") else "unknown"
    return _Unusable(
        f"{source} names a proxy of the {kind} kind, which this client does not support: set it to an http:// or "
        "https:// proxy, add hosts that need no proxy to NO_PROXY, pass trust_env=False to use no proxy, or pass a "
        "session whose connector supports this kind"
    )


def _source(setting: str) -> str:
    """Return the name of the variable that *setting* was read from."""
    lower = f"{setting}_proxy"
    if os.environ.get(lower):
        return lower
    return lower.upper() if os.environ.get(lower.upper()) else "the proxy in the system's settings"


def _authorization(parts: SplitResult) -> dict[str, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user and not password:
        return {}
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Proxy-Authorization": f"Basic {credentials}"}
