"""`LoopsClient`: settings, resources, opening and closing."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Final, Self, cast

import aiohttp

from . import _validate
from ._aio import spawn_shielded, wait_through_cancellation
from ._api.capabilities import Capabilities
from ._api.checkpoints import Checkpoints
from ._api.sampler_service import SamplerService
from ._api.samplers import Samplers
from ._api.sessions import Sessions
from ._api.status_reader import ApiStatusReader
from ._http.requests import check_base_url
from ._http.retry import RetryPolicy
from ._http.transport import ApiKey, Transport
from ._launch.launch import LaunchRegistry
from ._wait.interfaces import C, Companion
from .models import SupportedModel

DEFAULT_BASE_URL: Final = "https://api.baseten.co"

RATE_LIMIT: Final = 100.0
"""Requests of one endpoint in a second: what the service publishes as the limit of a key."""

MAX_CONNECTIONS: Final = 100
"""Connections at once, as httpx and aiohttp have it: enough for a burst of creates, bearable for the service."""


class _State(Enum):
    OPEN = "open"
    CLOSED = "closed"


class LoopsClient:
    """An asyncio client of the Loops control plane.

    Use it with `async with`, or call `aclose()`. It can be made outside of an event loop, and belongs to the loop in
    which it first sends something.

    `sessions` has `create()` and `get(id)`; `samplers` has `create(...)`, `get(id)`, `list()`, `deactivate(id)` and
    `wake(sampler)`; `checkpoints` has `list(...)` and `validate(path)`; `help()` on them tells more.

    Args:
        api_key: Baseten API key; None takes `BASETEN_API_KEY` from the environment.
        base_url: Control plane; None takes `LOOPS_BASE_URL`, then `https://api.baseten.co`. Must be https, or http on
            this machine.
        team_id: Team for which sessions and samplers are made and listed; None for the caller's own.
        session: An aiohttp session of the caller's, for its proxies, certificates or traces; never closed here.
        request_timeout: Seconds for one attempt of any request; None allows 300 for creating a sampler and 30 for
            everything else.
        max_connections: Requests at once, at least 1.
        rate_limit: Requests of one endpoint (method and route) that start within any second, above 0;
            None for no limit.
        retry: How failed requests are repeated; None for never.

    Raises:
        TypeError, ValueError: A setting is missing or malformed; the message says which, and how to mend it.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        team_id: str | None = None,
        session: aiohttp.ClientSession | None = None,
        request_timeout: float | None = None,
        max_connections: int = MAX_CONNECTIONS,
        rate_limit: float | None = RATE_LIMIT,
        retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008 -- frozen
    ) -> None:
        key = _check_key(api_key)
        if base_url is None:
            base_url = os.environ.get("LOOPS_BASE_URL") or DEFAULT_BASE_URL
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise TypeError(f"session must be an aiohttp.ClientSession, not {type(session).__name__}")
        if request_timeout is not None:
            _validate.require_number("request_timeout", request_timeout, exclusive=True)
        if _validate.optional_positive_int("max_connections", max_connections) is None:
            raise TypeError("max_connections must be an int, not None")
        if rate_limit is not None:
            rate_limit = _validate.require_number("rate_limit", rate_limit, exclusive=True)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy or None, not {type(retry).__name__}")
        scope: tuple[str, ...] = ("v1", "loops")
        if team_id is not None:
            scope = ("v1", "teams", _validate.require_path_segment("team_id", team_id), "loops")
        self._state = _State.OPEN
        self._companions: dict[type, Companion] = {}
        self._transport = Transport(
            key=key,
            base_url=check_base_url(base_url),
            session=session,
            request_timeout=request_timeout,
            max_connections=max_connections,
            rate_limit=rate_limit,
            retry=retry if retry is not None else RetryPolicy(attempts=1),
            user_agent=_user_agent(),
        )
        self.sessions = Sessions(self._transport, scope)
        """`sessions.create()`, `sessions.get(id)`."""
        self._service = SamplerService(self._transport, scope, self.sessions)
        self._launches = LaunchRegistry()
        self.samplers = Samplers(self._transport, self._service)
        """`samplers.create(...)`, `.get(id)`, `.list()`, `.deactivate(id)`, `.wake(sampler)`."""
        self.checkpoints = Checkpoints(self._transport)
        """`checkpoints.list(...)`, `.validate(path)`."""
        self._capabilities = Capabilities(self._transport)
        self._statuses = ApiStatusReader(self._transport, self.samplers, self._service.list_request)

    def __repr__(self) -> str:
        return f"<LoopsClient {self._transport.base_url} ({self._state.value})>"

    @property
    def base_url(self) -> str:
        """The control plane's address, without a trailing slash."""
        return self._transport.base_url

    async def capabilities(
        self, *, model: str | None = None, use_case: str | None = None, max_seq_len: int | None = None
    ) -> tuple[SupportedModel, ...]:
        """List the base models that Loops knows, in the service's order.

        Args:
            model: Only this one.
            use_case: `rl` (what the service takes without it) or `sft`.
            max_seq_len: Sequence length that is needed, in tokens, at least 1.

        Raises:
            TypeError, ValueError: An argument is malformed; nothing was sent.
            LoopsError: As every call.

        Source: `GET /v1/loops/capabilities`.
        """
        return await self._capabilities.list(model=model, use_case=use_case, max_seq_len=max_seq_len)

    async def __aenter__(self) -> Self:
        if self._state is _State.CLOSED:
            raise RuntimeError("this LoopsClient is closed; make a new one")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: end its launches and waits, and close its own sessions.

        Creates in flight are waited for, so that it is known what they made, and so are deactivations. That takes no
        longer than these requests and their retries. A cancellation does not cut it short. Closing twice does nothing.
        Samplers of `samplers.create()` are not touched.
        """
        closing = spawn_shielded(self._close())
        cancelled = await wait_through_cancellation(closing)
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def _close(self) -> None:
        self._state = _State.CLOSED
        self._transport.begin_close()
        try:
            # Launches first, since their teardowns still need everything else; then the waits, which are of no use
            # any more; then what goes on until it is known what it has made.
            await self._launches.aclose()
            companions, self._companions = self._companions, {}
            for companion in companions.values():
                await companion.aclose()
            await self._service.wait_idle()
        finally:
            await self._transport.aclose()

    def _check_open(self) -> None:
        if self._state is _State.CLOSED:
            raise RuntimeError("this LoopsClient is closed; make a new one")

    def _companion(self, kind: type[C], make: Callable[[ApiStatusReader], C]) -> C:
        """Return the client's one *kind*, made on first use and closed with the client."""
        self._check_open()
        if kind not in self._companions:
            self._companions[kind] = make(self._statuses)
        return cast("C", self._companions[kind])


def _check_key(api_key: object) -> ApiKey:
    if api_key is None:
        api_key = os.environ.get("BASETEN_API_KEY") or None
        if api_key is None:
            raise ValueError("no API key: pass api_key, or set BASETEN_API_KEY in the environment")
    # None of these messages may hold the value.
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be a str, not {type(api_key).__name__}")
    if not api_key.strip():
        raise ValueError("api_key is empty: pass the key, or None to take BASETEN_API_KEY from the environment")
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        if api_key.partition(" ")[0].lower() in {"bearer", "api-key"}:
            raise ValueError("api_key begins like an Authorization header: give the key alone")
        raise ValueError(
            "api_key holds blanks, line breaks or other characters that no key has: "
            "strip() what was read from a file, and check that it was copied whole"
        )
    return ApiKey(api_key)


def _user_agent() -> str:
    # Here, since it takes a noticeable part of the time of the package's import.
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("loops-async")
    except PackageNotFoundError:
        own = "0"
    return f"loops-async/{own} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
