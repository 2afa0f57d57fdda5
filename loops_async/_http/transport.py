"""One request over aiohttp: sessions and who owns them, the key, timeouts, and aiohttp's errors turned into ours.

The key is sent with each request and stored in no session, so that no default header holds it. Redirects are not
followed: they do not lead to the control plane.

Creates have a session of their own whose connections carry one request each. A pooled connection may have been closed
by the server while it was idle, which a client learns only after it has sent the next request: a read is then simply
sent again, but a create might have been processed. A connection that was opened for the create either carries it, or
fails before the first byte.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import aiohttp
from yarl import URL

from .._aio import ResponsiveTimeout
from ..errors import APIError, DecodeError, LoopsError, TransportError
from .error_bodies import http_date, read_error
from .failures import READ, Action, action_for, names_pause
from .limiter import Priority, RequestLimiter, Slot
from .proxies import Proxies, ProxyConnector, TunnelError
from .requests import Request
from .retry import RetryPolicy, with_retries

T = TypeVar("T")

_NO_LIMIT: Final[AbstractAsyncContextManager[None]] = nullcontext()

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

READ_TIMEOUT: Final = 30.0
"""Seconds for one attempt of a request that only reads or may be repeated."""

CREATE_TIMEOUT: Final = 300.0
"""Seconds for one create: slow ones happen, and after giving one up it is unknown what it has made."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds at most to connect. It must end before the whole request does: only so does a timeout tell whether the
request was sent."""


LARGEST_BODY: Final = 64 * 1024 * 1024
"""Bytes of a successful response that are read at most: a list of 100,000 samplers has about as many."""

LARGEST_ERROR_BODY: Final = 64 * 1024
"""Bytes of any other response that are read at most: enough for the reason that the service gives."""

SHORT_KEY: Final = 16
"""Characters below which a key comes from a test, and may well be a part of other words."""


class ApiKey:
    """The key, where neither `vars()`, `repr()` nor pickling finds it."""

    __slots__ = ("_reveal", "_reveal_others")

    def __init__(self, key: str, others: frozenset[str] = frozenset()) -> None:
        self._reveal: Callable[[], str] = lambda: key
        self._reveal_others: Callable[[], frozenset[str]] = lambda: others

    def __repr__(self) -> str:
        return "ApiKey(***)"

    def __reduce__(self) -> str:
        raise TypeError("a LoopsClient cannot be pickled: its API key must not get into a pickle")

    def header(self, scheme: str) -> str:
        """Return the value of an `Authorization` header."""
        return f"{scheme} {self._reveal()}"

    def scrub(self, text: str) -> str:
        """Remove the key and the *others* from *text*: some services repeat in their errors what they received."""
        key = self._reveal()
        for other in self._reveal_others():
            text = text.replace(other, "***")
        if len(key) >= SHORT_KEY:
            return text.replace(key, "***")
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(key)}(?![A-Za-z0-9])", "***", text)


def _never(_: LoopsError) -> bool:
    return False


class Response(NamedTuple):
    """A 2xx response, read to its end or to where it was cut."""

    body: bytes
    cut_by: LoopsError | None = None
    """What ended the body early, if something did; only `Transport.send_create` returns such a response."""

    def whole_body(self) -> bytes:
        """Return the body.

        Raises:
            LoopsError: It was cut.
        """
        if self.cut_by is not None:
            raise self.cut_by
        return self.body


class Transport:
    """Send requests to one control plane with one key."""

    def __init__(
        self,
        *,
        key: ApiKey,
        base_url: str,
        session: aiohttp.ClientSession | None,
        request_timeout: float | None,
        max_connections: int,
        rate_limit: float | None,
        retry: RetryPolicy,
        user_agent: str,
        proxies: Proxies,
    ) -> None:
        self._key = key
        self._proxies = proxies
        self.base_url = base_url
        self.retry = retry
        self.limiter = RequestLimiter(max_connections, rate_limit)
        self._session = session
        self._owns_session = session is None
        self._create_session: aiohttp.ClientSession | None = None
        self._user_agent = user_agent
        self._read_seconds = request_timeout or READ_TIMEOUT
        self._read_timeout = _timeout(self._read_seconds)
        self._create_seconds = request_timeout or CREATE_TIMEOUT
        # What bounds a create are ResponsiveTimeouts, here and in the connector.
        self._create_timeout = aiohttp.ClientTimeout()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._closed = False
        self._date: tuple[str, float] | None = None

    def service_time(self, monotonic: float) -> datetime | None:
        """Return the time by the service's clock at *monotonic*, by the event loop's clock; None while it is unknown.

        It comes from the `Date` of the last response, and so may be up to a second early.
        """
        if self._date is None:
            return None
        date, received = self._date
        there = http_date(date)
        return there + timedelta(seconds=monotonic - received) if there is not None else None

    async def send_with_retries(self, request: Request, priority: Priority = Priority.READ) -> bytes:
        """Send a request that may be processed twice, and again as the policy says; return the body.

        Raises:
            TransportError: No response came.
            APIError: The response was none of the 2xx.
            DecodeError: The response is larger than any that the service sends.
        """

        async def attempt() -> bytes:
            return await self.send(request, priority)

        return await self.retried(attempt, request)

    async def retried(
        self,
        attempt: Callable[[], Awaitable[T]],
        request: Request,
        *,
        also_retry: Callable[[LoopsError], bool] = _never,
    ) -> T:
        """Await `attempt()`, which sends *request*, again as the policy and the failure table say.

        Failures for which *also_retry* is true are retried, too.
        """
        return await with_retries(
            attempt,
            self.retry,
            should_retry=lambda error: (
                action_for(error, READ) is Action.RETRY or (isinstance(error, LoopsError) and also_retry(error))
            ),
            pause_remaining=lambda: self.pause_remaining(request),
        )

    async def send(
        self,
        request: Request,
        priority: Priority,
        *,
        url: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> bytes:
        """Send a request once; return the body. Raises as `send_with_retries` does.

        For the data plane, *url* replaces the control plane's address, and *headers* are added.
        """
        slot = await self._acquire(priority, request.endpoint if url is None else "")
        try:
            response = await self._exchange(request, self._read_timeout, url=url, headers=headers)
        finally:
            slot.release()
        return response.whole_body()

    async def send_timed(
        self, request: Request, priority: Priority, *, limit: float | None = None
    ) -> tuple[bytes, float]:
        """Send a request as `send` does; return the body and the seconds that it took.

        Neither these seconds nor *limit*, the seconds that it may take, include the waiting for a slot.
        """
        slot = await self._acquire(priority, request.endpoint)
        loop = asyncio.get_running_loop()
        began = loop.time()
        timeout = self._read_timeout
        if limit is not None and limit < self._read_seconds:
            timeout = aiohttp.ClientTimeout(total=limit, connect=timeout.connect, sock_connect=timeout.sock_connect)
        try:
            response = await self._exchange(request, timeout)
        finally:
            slot.release()
        return response.whole_body(), loop.time() - began

    async def create_slot(self, request: Request) -> Slot:
        """Wait until the create *request* may be sent; the caller gives the slot back.

        Raises:
            RuntimeError: The client is closed, or belongs to another event loop.
        """
        return await self._acquire(Priority.CREATE, request.endpoint)

    async def send_create(self, request: Request) -> Response:
        """Send a create once, on a connection of its own; the caller must have a slot.

        A response that was cut short is returned, too, since it may name the sampler. Raises as `send` does.
        """
        return await self._exchange(request, self._create_timeout, create=True)

    def pause_remaining(self, request: Request) -> float:
        """Return the seconds for which *request* would be held back by pauses that the service named."""
        return self.limiter.pause_remaining(request.endpoint)

    async def _acquire(self, priority: Priority, endpoint: str) -> Slot:
        self._check_open(priority)
        slot = await self.limiter.acquire(priority, endpoint)
        if self._closing or (self._session is not None and self._session.closed):
            try:
                self._check_open(priority)
            except RuntimeError:
                slot.release()
                raise
        return slot

    def _check_open(self, priority: Priority) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this LoopsClient belongs to another event loop; make one client per loop")
        # Deactivations that are under way when the client closes are completed.
        if self._closed or (self._closing and priority in {Priority.CREATE, Priority.READ, Priority.DATA_PLANE}):
            raise RuntimeError("this LoopsClient is closed")
        if self._session is not None and self._session.closed:
            raise RuntimeError("the aiohttp session that LoopsClient was given is closed")

    async def _exchange(
        self,
        request: Request,
        timeout: aiohttp.ClientTimeout,
        *,
        url: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        create: bool = False,
    ) -> Response:
        """Send a request and read its response. Raises as `send` does, but returns a 2xx that was cut short."""
        session = self._open_create_session() if create else self._open_session()
        target = URL(url or self.base_url + request.target, encoded=True)
        limit = ResponsiveTimeout(self._create_seconds) if create else None
        failure: LoopsError
        try:
            # What is sent and received is kept out of this frame's locals, since some tools print those with a
            # traceback: the headers hold the key, and some services repeat it in theirs.
            async with limit.hold() if limit is not None else _NO_LIMIT:
                response = await session.request(
                    request.method,
                    target,
                    data=request.body,
                    **self._proxies.route(target, self._headers(request, url is None, headers)),
                    timeout=timeout,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=True,
                )
            async with response:
                if url is None:
                    self._note_date(response)
                if response.status < 300:
                    return Response(*await self._read_body(response, request, LARGEST_BODY, limit))
                failure = self._error(
                    request,
                    response,
                    (await self._read_body(response, request, LARGEST_ERROR_BODY, limit))[0],
                    url is None,
                )
            del response
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            failure = transport_error(request, exc, self._key.scrub)
        # Outside of the except block, so that the error's __context__ is no aiohttp error that holds our headers.
        raise failure

    def _headers(self, request: Request, is_for_control_plane: bool, further: Mapping[str, str]) -> dict[str, str]:
        headers = {
            **further,
            "Authorization": self._key.header("Bearer" if is_for_control_plane else "Api-Key"),
            "Accept": "application/json",
            "User-Agent": self._user_agent,
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _note_date(self, response: aiohttp.ClientResponse) -> None:
        # A gateway's error page has the gateway's clock; that is better than none.
        if response.status < 300 or self._date is None:
            date = response.headers.get("Date")
            if date is not None:
                self._date = date, asyncio.get_running_loop().time()

    async def _read_body(
        self, response: aiohttp.ClientResponse, request: Request, largest: int, limit: ResponsiveTimeout | None
    ) -> tuple[bytes, LoopsError | None]:
        """Read the body; where it is cut short, return what came, since it may name a sampler that was made."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with limit.hold() if limit is not None else _NO_LIMIT:
                while not response.content.at_eof():
                    chunk = await response.content.readany()
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > largest:
                        words = f"the response is larger than {largest // 1024} KiB"
                        return b"".join(chunks)[:largest], DecodeError(words, "$", None, str(request))
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return b"".join(chunks), transport_error(request, exc, self._key.scrub)
        return b"".join(chunks), None

    def _error(
        self, request: Request, response: aiohttp.ClientResponse, body: bytes, of_control_plane: bool
    ) -> APIError:
        text = body.decode("utf-8", "replace")
        error, pause = read_error(request, response.status, response.headers, text, self._key.scrub)
        # A pause that comes with a clear no, or from a sampler that is busy, must not hold up deactivations.
        if pause is not None and of_control_plane and names_pause(error):
            seconds = min(pause.seconds, self.retry.retry_after_maximum)
            self.limiter.pause(seconds, None if pause.whole_client else request.endpoint)
        return error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session(force_close=False)
        elif self._session.closed:
            raise RuntimeError("the aiohttp session that LoopsClient was given is closed")
        elif not self._owns_session and (connector := self._session.connector) is not None:
            # Queueing in the caller's pool would count against our timeouts.
            for limit in (connector.limit, getattr(connector, "limit_per_host", 0)):
                if limit:
                    self.limiter.lower_limit(limit)
        return self._session

    def _open_create_session(self) -> aiohttp.ClientSession:
        if not self._owns_session:
            return self._open_session()
        if self._create_session is None:
            connect_seconds = _connect_seconds(self._create_seconds)
            self._create_session = self._new_session(force_close=True, connect_seconds=connect_seconds)
        return self._create_session

    def _new_session(self, *, force_close: bool, connect_seconds: float | None = None) -> aiohttp.ClientSession:
        # The limiter bounds the requests; a final poll goes beyond its limit, and must not queue up here.
        if connect_seconds is None and not self._proxies:
            connector = aiohttp.TCPConnector(limit=0, force_close=force_close)
        else:
            connector = ProxyConnector(limit=0, force_close=force_close, connect_seconds=connect_seconds)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    def begin_close(self) -> None:
        """Refuse every new request except those that deactivate something."""
        self._closing = True
        if self._loop is not None:
            self.limiter.close()

    async def aclose(self) -> None:
        """Close the sessions, except one of the caller's."""
        self.begin_close()
        self._closed = True
        if self._create_session is not None:
            await self._create_session.close()
        if self._session is not None and self._owns_session:
            await self._session.close()


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    connect = _connect_seconds(seconds)
    return aiohttp.ClientTimeout(total=seconds, connect=connect, sock_connect=connect)


def _connect_seconds(seconds: float) -> float:
    return min(CONNECT_TIMEOUT, seconds / 2)


NEVER_SENT: Final[tuple[type[BaseException], ...]] = (
    aiohttp.ClientConnectorError,  # refused, unreachable, unknown host, TLS: all before the first byte
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # the proxy did not open the tunnel
    TunnelError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
"""aiohttp's errors that prove that no byte of the request has left."""


def transport_error(request: Request, exc: BaseException, scrub: Callable[[str], str]) -> TransportError:
    """Turn what aiohttp raised into a `TransportError`; *scrub* takes secrets out of what it says."""
    sent = not isinstance(exc, NEVER_SENT)
    if isinstance(exc, aiohttp.ClientResponseError):
        # Its repr holds the request's headers, and with them the key: it is named, but never chained.
        words = f"{type(exc).__name__}: {scrub(exc.message)}"
        if isinstance(exc, aiohttp.ClientHttpProxyError):
            words = f"the proxy opened no tunnel: {exc.status} {scrub(exc.message)}"
        return TransportError(words, request.method, request.path, sent)
    if isinstance(exc, TimeoutError):
        words = "no answer in time" if sent else "no connection in time"
    else:
        # aiohttp says so for plain http, too.
        words = str(exc).replace(" ssl:default", "") or type(exc).__name__
    error = TransportError(words, request.method, request.path, sent)
    # The frames of aiohttp have our headers among their locals.
    error.__cause__ = exc.with_traceback(None)
    return error
