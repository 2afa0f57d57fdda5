"""aiohttp: the session and who owns it, credentials, timeouts, and aiohttp's errors turned into ours.

The key is sent with each request and stored in no session, so that it is in nobody's default headers. Redirects are
not followed: what they lead to is not the control plane.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
from attrs import frozen
from yarl import URL

from ..errors import APIError, LoopsError, TransportError
from .error_bodies import api_error, http_date
from .limiter import Priority, RequestLimiter
from .proxies import Proxies, ProxyConnector, TunnelError
from .requests import Request
from .retry import REPEATABLE_STATUSES, RetryPolicy, may_be_repeated, with_retries

READ_TIMEOUT: Final = 30.0
"""Seconds for one attempt of a request that only reads or may be repeated."""

CREATE_TIMEOUT: Final = 300.0
"""Seconds for one create: slow ones happen, and giving one up means not knowing what it made."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds at most to connect. It must end before the whole request does: only so does a timeout tell whether the
request was sent."""


SHORT_KEY: Final = 16
"""Characters below which a key is one of somebody's tests, and may well be a part of other words."""


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


@frozen
class Response:
    """A 2xx answer, read to its end or to where it was cut."""

    body: bytes
    cut: TransportError | None = None
    """What ended the body early, if something did; only `Transport.exchange` returns such an answer."""


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
        retry: RetryPolicy,
        user_agent: str,
        proxies: Proxies,
    ) -> None:
        self._key = key
        self._proxies = proxies
        self.base_url = base_url
        self.retry = retry
        self.limiter = RequestLimiter(max_connections)
        self._session = session
        self._owns_session = session is None
        self._user_agent = user_agent
        self._read_timeout = _timeout(request_timeout or READ_TIMEOUT)
        self._create_timeout = _timeout(request_timeout or CREATE_TIMEOUT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._dated: tuple[str, float] | None = None
        self.on_open: Callable[[], None] | None = None
        """Called in the event loop, when a session was opened that has to be closed in it."""

    def skew(self) -> timedelta | None:
        """Return how far the service's clock runs ahead of ours by its last `Date`, to a second; None if unknown."""
        if self._dated is None:
            return None
        there, here = http_date(self._dated[0]), datetime.fromtimestamp(self._dated[1], UTC)
        return there - here if there is not None else None

    async def read(self, request: Request, priority: Priority = Priority.READ) -> bytes:
        """Send a request that is safe to repeat, and repeat it as the policy says; return the body.

        Raises:
            TransportError: No answer came.
            APIError: The answer was none of the 2xx.
        """

        async def attempt() -> bytes:
            return await self.once(request, priority)

        return await with_retries(attempt, self.retry, may_be_repeated, self.limiter.held)

    async def once(self, request: Request, priority: Priority, *, url: str | None = None) -> bytes:
        """Send a request a single time; return the body. Raises as `read` does.

        *url* stands in for the control plane's address, for the data plane.
        """
        return (await self.timed(request, priority, url=url))[0]

    async def timed(
        self, request: Request, priority: Priority, *, url: str | None = None, limit: float | None = None
    ) -> tuple[bytes, float]:
        """Send a request as `once` does; return the body and the seconds that it took.

        Neither these seconds nor the *limit* for them include the waiting for a place or for the end of a pause.
        """
        await self.admit(priority)
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                answer = await self.exchange(request, self._read_timeout, url=url)
        except TimeoutError:
            raise TransportError(f"no answer in {limit:.1f} s", request.method, request.path) from None
        finally:
            self.limiter.release(priority)
        if answer.cut is not None:
            raise answer.cut
        return answer.body, time.monotonic() - began

    async def create(self, request: Request) -> Response:
        """Send a create a single time; the caller must have been let in with `admit()`. Raises as `read` does."""
        return await self.exchange(request, self._create_timeout)

    async def admit(self, priority: Priority) -> None:
        """Take a place among the requests in flight; `limiter.release()` gives it back.

        Raises:
            RuntimeError: The client is closed, or belongs to another event loop.
        """
        self._check_open(priority)
        await self.limiter.acquire(priority)
        try:
            self._check_open(priority)
        except RuntimeError:
            self.limiter.release(priority)
            raise

    def _check_open(self, priority: Priority) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this LoopsClient belongs to another event loop; make one client per loop")
        # What is under way when the client closes may still release what it made.
        if self._closing and priority not in {Priority.TEARDOWN, Priority.FINAL}:
            raise RuntimeError("this LoopsClient is closed")
        if self._session is not None and self._session.closed:
            raise RuntimeError("the aiohttp session that LoopsClient was given is closed")

    async def exchange(self, request: Request, timeout: aiohttp.ClientTimeout, *, url: str | None = None) -> Response:
        """Send a request and read its answer. Raises as `read` does, but hands on a 2xx that was cut short."""
        session = self._open_session()
        target = URL(url or self.base_url + request.target, encoded=True)
        failure: LoopsError
        try:
            # What is sent and received is kept out of this frame's locals, since some tools print those with a
            # traceback: the headers hold the key, and some services repeat it in theirs.
            async with session.request(
                request.method,
                target,
                data=request.body,
                **self._proxies.route(target, self._headers(request, "Bearer" if url is None else "Api-Key")),
                timeout=timeout,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=True,
            ) as response:
                if (date := response.headers.get("Date")) is not None:
                    self._dated = date, time.time()
                if response.status < 300:
                    return Response(*await self._body_of(response, request))
                failure = self._error(request, response, (await self._body_of(response, request))[0], url is None)
            del response
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            failure = transport_error(request, exc, self._key.scrub)
        # Outside of the except block, lest the error's __context__ is an aiohttp error that holds our headers.
        raise failure

    def _headers(self, request: Request, scheme: str) -> dict[str, str]:
        headers = {
            "Authorization": self._key.header(scheme),
            "Accept": "application/json",
            "User-Agent": self._user_agent,
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    async def _body_of(self, response: aiohttp.ClientResponse, request: Request) -> tuple[bytes, TransportError | None]:
        """Read the body; where it is cut short, return what came, since it may name a sampler that was made."""
        chunks: list[bytes] = []
        try:
            while chunk := await response.content.readany():
                chunks.append(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return b"".join(chunks), transport_error(request, exc, self._key.scrub)
        return b"".join(chunks), None

    def _error(
        self, request: Request, response: aiohttp.ClientResponse, body: bytes, of_control_plane: bool
    ) -> APIError:
        text = body.decode("utf-8", "replace")
        error = api_error(request, response.status, response.headers, text, self._key.scrub)
        # A refusal that is none of haste, and a sampler that is busy, must not keep others from being released.
        if error.retry_after is not None and of_control_plane and error.status in REPEATABLE_STATUSES:
            self.limiter.hold(min(error.retry_after, self.retry.retry_after_maximum))
        return error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The governor sets the limit; a last look goes beyond it, and must not queue up here.
                connector=ProxyConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            if self.on_open is not None:
                self.on_open()
        elif self._session.closed:
            raise RuntimeError("the aiohttp session that LoopsClient was given is closed")
        elif not self._owns_session and (connector := self._session.connector) is not None:
            # Queueing in the caller's pool would count against our timeouts.
            for limit in (connector.limit, getattr(connector, "limit_per_host", 0)):
                if limit:
                    self.limiter.lower_limit(limit)
        return self._session

    def begin_close(self) -> None:
        """Refuse every new request but those that release something."""
        self._closing = True
        if self._loop is not None:
            self.limiter.close()

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's."""
        self.begin_close()
        if self._session is not None and self._owns_session:
            await self._session.close()


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    connect = min(CONNECT_TIMEOUT, seconds / 2)
    return aiohttp.ClientTimeout(total=seconds, connect=connect, sock_connect=connect)


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
        words = str(exc) or type(exc).__name__
    error = TransportError(words, request.method, request.path, sent)
    # The frames of aiohttp have our headers among their locals.
    error.__cause__ = exc.with_traceback(None)
    return error
