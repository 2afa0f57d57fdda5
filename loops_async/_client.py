"""`LoopsClient`: settings, resources, opening and closing."""

from __future__ import annotations

import os
import platform
import re
from enum import Enum
from types import TracebackType
from typing import Final, Self

import aiohttp

from . import _validate
from ._aio import spawn_shielded, wait_through_cancellation
from ._api.capabilities import Capabilities
from ._api.checkpoints import Checkpoints
from ._api.sampler_service import SamplerService
from ._api.samplers import Samplers
from ._api.sessions import Sessions
from ._api.status_reader import ApiStatusReader
from ._http.proxies import Proxies, environment_proxies
from ._http.requests import check_base_url
from ._http.retry import RetryPolicy
from ._http.transport import ApiKey, Transport
from ._launch.launch import LaunchRegistry
from ._wait.poller import StatusPoller
from .models import SupportedModel

DEFAULT_BASE_URL: Final = "https://api.baseten.co"

MAX_CONNECTIONS: Final = 100
"""Requests at the same time, as in httpx and aiohttp: enough for a burst of creates, bearable for the service."""


RATE_LIMIT: Final = 100.0
"""Requests of one endpoint per second that the service documents as the limit of a key.
https://docs.baseten.co/reference/management-api/rate-limits"""

_YES: Final = frozenset({"1", "true", "yes", "on"})
"""Values with which `LOOPS_ALLOW_HTTP` permits plain http."""

_QUOTES: Final = "\"'`\u2018\u2019\u201c\u201d"

_ASSIGNMENT: Final = re.compile(r"(export\s+)?\w*(key|token)\s*[=:]", re.IGNORECASE)
"""How a line of an `.env` file begins."""


class _State(Enum):
    OPEN = "open"
    CLOSED = "closed"


class LoopsClient:
    """An asyncio client of the Loops control plane.

    Use it with `async with`, or call `aclose()` when you are done. It can be made outside of an event loop, and belongs
    to the loop in which it sends its first request.

    `sessions` has `create()` and `get(id)`; `samplers` has `create(...)`, `get(id)`, `list()`, `deactivate(id)` and
    `wake(sampler)`; `checkpoints` has `list(...)` and `validate(path)`; `capabilities()` lists the base models.

    Args:
        api_key: Baseten API key. Default: the environment variable `BASETEN_API_KEY`.
        base_url: URL of the control plane. It must be https, or http on this machine; see *allow_http*. Default: the
            environment variable `LOOPS_BASE_URL`, also with `trust_env=False`; without that,
            `https://api.baseten.co`.
        team_id: Id of the team whose sessions and samplers are created and listed. Default: your own account.
        session: An `aiohttp.ClientSession` of yours to send requests with. It is never closed here, and its own
            settings for proxies apply instead of *trust_env*. Default: the client opens and closes one itself.
        request_timeout: Seconds for one attempt of any request, above 0. Default: 300 for the create of a sampler and
            30 for every other request.
        max_connections: Number of requests that are sent at the same time, at least 1. Default: 100.
        rate_limit: Number of requests of one endpoint (method and route) that start within any second, above 0; None
            for no limit. Default: 100.0, the published limit of a key.
        retry: How often and how soon a failed request is sent again; None for never. Default: `RetryPolicy()`, which
            sends a request up to 5 times within two minutes. A create is never sent again if it may have arrived.
        trust_env: Whether requests go through the proxies that the environment variables `HTTP_PROXY`, `HTTPS_PROXY`,
            `ALL_PROXY` and `NO_PROXY`, in upper or lower case, name. They are read once, here, and mean what they mean
            to httpx. A netrc file is never read. Default: True.
        allow_http: Whether *base_url* may be plain http on another machine, where others may be able to read the API
            key on its way: for an emulator in another container. Default: False, unless the environment variable
            `LOOPS_ALLOW_HTTP` is 1.

    Raises:
        TypeError, ValueError: A setting is missing or malformed; the message says which one, and what to do. Nothing
            was sent.
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
        trust_env: bool = True,
        allow_http: bool = False,
    ) -> None:
        key = _check_key(api_key)
        for name, value in (("trust_env", trust_env), ("allow_http", allow_http)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
        if base_url is None:
            base_url = os.environ.get("LOOPS_BASE_URL") or DEFAULT_BASE_URL
        allow_http = allow_http or os.environ.get("LOOPS_ALLOW_HTTP", "").strip().lower() in _YES
        base_url = check_base_url(base_url, allow_http=allow_http)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise TypeError(f"session must be an aiohttp.ClientSession, not {type(session).__name__}")
        if request_timeout is not None:
            _validate.require_number("request_timeout", request_timeout, exclusive=True)
        max_connections = _validate.require_positive_int("max_connections", max_connections)
        if rate_limit is not None:
            rate_limit = _validate.require_number("rate_limit", rate_limit, exclusive=True)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy or None, not {type(retry).__name__}")
        self._team_id = team_id
        scope: tuple[str, ...] = ("v1", "loops")
        if team_id is not None:
            scope = ("v1", "teams", _validate.require_path_segment("team_id", team_id), "loops")
        # As with httpx: who brings a transport of their own has chosen its proxies with it.
        proxies = environment_proxies() if trust_env and session is None else Proxies()
        proxies.check(base_url, allow_http=allow_http)
        self._state = _State.OPEN
        self._poller_or_none: StatusPoller | None = None
        self._transport = Transport(
            key=ApiKey(key, proxies.secrets),
            base_url=base_url,
            session=session,
            request_timeout=request_timeout,
            max_connections=max_connections,
            rate_limit=rate_limit,
            retry=retry if retry is not None else RetryPolicy(attempts=1),
            user_agent=_user_agent(),
            proxies=proxies,
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

    @property
    def _command_options(self) -> tuple[str, ...]:
        """Options with which the command line talks to the same service."""
        is_default = self.base_url == (os.environ.get("LOOPS_BASE_URL") or DEFAULT_BASE_URL).rstrip("/")
        base_url = () if is_default else ("--base-url", self.base_url)
        return base_url if self._team_id is None else (*base_url, "--team", self._team_id)

    async def capabilities(
        self, *, model: str | None = None, use_case: str | None = None, max_seq_len: int | None = None
    ) -> tuple[SupportedModel, ...]:
        """List the base models that Loops knows, in the service's order.

        Args:
            model: Name of the only base model to list.
            use_case: `rl` (the service's default) or `sft`.
            max_seq_len: Sequence length that you need, in tokens, at least 1.

        Raises:
            TypeError, ValueError: An argument is malformed; nothing was sent.
            LoopsError: The request failed.

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
            if self._poller_or_none is not None:
                await self._poller_or_none.aclose()
            await self._service.wait_idle()
        finally:
            await self._transport.aclose()

    def _check_open(self) -> None:
        if self._state is _State.CLOSED:
            raise RuntimeError("this LoopsClient is closed; make a new one")

    @property
    def _poller(self) -> StatusPoller:
        """The one poller of all waits, made when the first wait begins."""
        self._check_open()
        if self._poller_or_none is None:
            self._poller_or_none = StatusPoller(self._statuses)
        return self._poller_or_none


def _check_key(api_key: object) -> str:
    """Return the key to use, given or from the environment. No message of an error may hold a part of its value."""
    source = "api_key"
    if api_key is None:
        source, api_key = "BASETEN_API_KEY", os.environ.get("BASETEN_API_KEY") or None
        if api_key is None:
            raise ValueError("no API key: pass api_key, or set BASETEN_API_KEY in the environment")
    if not isinstance(api_key, str):
        raise TypeError(f"{source} must be a str, not {type(api_key).__name__}")
    # A subclass may have a __str__ of its own; what counts is the text that it holds.
    key = str.__str__(api_key)
    if not key.strip():
        raise ValueError(f"{source} is empty: pass the key, or None to use BASETEN_API_KEY of the environment")
    if key.strip()[0] in _QUOTES or key.strip()[-1] in _QUOTES:
        raise ValueError(
            f"{source} has quotes around it or at one end, and no key has: remove them (docker --env-file, for one, "
            "takes the quotes of its file as a part of the value)"
        )
    if _ASSIGNMENT.match(key.strip()):
        raise ValueError(
            f"{source} begins with a name, as a line of an .env file does: give only what follows the name"
        )
    if key.startswith(("$", "<", "{")):
        raise ValueError(f"{source} is a placeholder: nothing has put the key in its place")
    if not key.isascii() or not key.isprintable() or " " in key:
        if key.partition(" ")[0].lower() in {"bearer", "api-key", "authorization:"}:
            raise ValueError(f"{source} begins like an Authorization header: give the key alone")
        raise ValueError(
            f"{source} holds blanks, line breaks or other characters that no key has: use strip() on what was read "
            "from a file, and check that it was copied whole"
        )
    return key


def _user_agent() -> str:
    # Here, since it takes a noticeable part of the time of the package's import.
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("loops-async")
    except PackageNotFoundError:
        own = "0"
    return f"loops-async/{own} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
