"""The emulator: the application of the control plane on a socket of this machine."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from . import _documents as documents
from ._app import application
from ._faults import Fault, FaultPlan
from ._gate import Gate, emulated_routes
from ._lifecycle import Lifecycles, Stage
from ._models import Catalog, CatalogModel
from ._received import ReceivedRequest, Record
from ._records import SamplerView
from ._refused import Refused
from ._routes.admin import Desk
from ._settings import ErrorShape, Settings, check_count, check_lag, check_seed, check_teams
from ._site import Site
from ._state import ControlPlane

# Handlers in a delay stop at once; this time is for a handler that is reading a slow body.
_SHUTDOWN_SECONDS = 0.25

# Tests open thousands of connections at once; a full backlog would cost the client a second.
_BACKLOG = 4096


# A client cannot connect to "all addresses", and it accepts plain http on loopback.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- the names of the addresses, not a socket


class Emulator:
    """A control plane of Loops on loopback, for tests and for trying things without an account.

    `async with Emulator() as emulator:` listens at `emulator.url` until the block ends.
    Its samplers, faults and records stay readable afterwards. `start()` listens again on
    the same port, and time has gone on meanwhile: `aclose()` and `start()` make an outage.

    Args:
        host: The address to listen on; `0.0.0.0` or `::` for all addresses of this machine, so that other containers
            can reach it. Then `url` has the loopback address, and a sampler's `base_url` has the address that the
            request came to.
        port: The port; 0 takes a free one.
        api_key: The key that is accepted, as `Bearer` or `Api-Key`; `None` accepts any request.
        inference_api_key: A second key, which only the data plane accepts; the control plane answers it with 403.
        speed: The number that the durations of all lifecycles are divided by.
        rate_limit: How many requests of one route (`/v1/...`) and key may pass in a window of one second, at any
            speed; those beyond get the documented 429. The service publishes 100. `None` limits nothing.
        lifecycles: The stages of a sampler, or a name out of `COURSES`, by base model; `"*"` for all models that are
            not named.
        models: The base models that can run, each a `CatalogModel` or a name; a create of any other, or of one that
            is not enabled, is refused. `None`: those that Baseten publishes, and any other name.
        serverless: Whether the organisation prefers shared capacity. If so, a create that does not ask for `"spot"`,
            replicas or a run returns a serverless sampler.
        user_email: The owner of every sampler.
        teams: The names of the teams by id; any other id is answered with 404. `None` accepts any id, and adds a team
            with the name in `LOOPS_TEAM`.
        seed: The seed of the ids, of samples that name no seed, and of what happens by chance in lifecycles and
            faults.
        clock_skew: Seconds by which `created_at` and `Date` run ahead of the true time.
        list_lag: Seconds, at any speed, by which lists lag behind; also an attribute that can be set at any time.
        error_shape: The shape of errors: `"code"` for `{code, message}`, `"error"` for
            `{error, message, details}`, `"detail"` for `{detail}`.
        invalid_status: The status of the answer to a request that breaks its schema: 400 or 422.
        keep_received: How many of the latest requests are kept; `None` keeps all. In any case at most 256 MiB of
            all bodies together are kept.
        keep_body: How many of the first bytes of each body are kept; `None` keeps all.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: a lifecycle or another setting is not valid.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        api_key: str | None = None,
        inference_api_key: str | None = None,
        speed: float = 1.0,
        rate_limit: float | None = None,
        lifecycles: Mapping[str, str | Sequence[Stage | tuple[str, float | None]]] | None = None,
        models: Iterable[CatalogModel | str] | None = None,
        serverless: bool = False,
        user_email: str | None = "developer@example.com",
        teams: Mapping[str, str] | None = None,
        seed: int = 0,
        clock_skew: float = 0.0,
        list_lag: float = 0.0,
        error_shape: ErrorShape = "code",
        invalid_status: int = 400,
        keep_received: int | None = 10_000,
        keep_body: int | None = None,
    ) -> None:
        if not host:
            raise ValueError("host must not be empty; 0.0.0.0 stands for all addresses")
        check_seed(seed)
        check_teams(teams)
        check_count("keep_received", keep_received)
        self._host = host
        self._port = port
        self._settings = Settings(
            api_key=api_key,
            inference_api_key=inference_api_key,
            user_email=user_email,
            clock_skew=clock_skew,
            list_lag=list_lag,
            error_shape=error_shape,
            invalid_status=invalid_status,
            rate_limit=rate_limit,
            keep_body=keep_body,
        )
        self._plane = ControlPlane(
            Lifecycles.of(lifecycles, speed=speed),
            seed=seed,
            teams=teams,
            catalog=Catalog(models),
            serverless=serverless,
        )
        self._site = Site(self._plane, self._settings, Random(seed))  # noqa: S311 -- repeatable chance, no secrets
        self._faults = FaultPlan(seed, self._route_methods)
        self._methods: dict[str, frozenset[str]] | None = None
        self._received = Record(keep_received)
        self._url: str | None = None
        self._running: tuple[web.AppRunner, Gate] | None = None

    def __repr__(self) -> str:
        return f"<Emulator {self._url or 'not started'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _application(self) -> tuple[web.Application, Gate]:
        gate = Gate(self._faults, self._received, self._site)
        return application(self._site, gate, Desk(self._faults, self._received)), gate

    async def start(self) -> None:
        """Start to listen.

        Raises:
            RuntimeError: the emulator is running.
            OSError: the address is in use, or is no address of this machine.
        """
        if self._running is not None:
            raise RuntimeError("the emulator is running already")
        app, gate = self._application()
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._running = runner, gate
        self._site.closed = False
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port, backlog=_BACKLOG).start()
        except BaseException:
            self._running = None
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        host = _LOOPBACK.get(self._host, self._host)
        host = f"[{host}]" if ":" in host else host
        self._url = self._site.origin = f"http://{host}:{self._port}"
        self._site.everywhere = self._host in _LOOPBACK

    async def aclose(self) -> None:
        """Stop listening, and drop all connections, including idle ones and those in a delay.

        Does nothing if the emulator is not running.
        """
        if self._running is None:
            return
        (runner, gate), self._running = self._running, None
        gate.close()
        self._site.closed = True
        await runner.cleanup()

    @property
    def url(self) -> str:
        """The origin that the emulator listens on, or last did: `http://127.0.0.1:<port>`, also on all addresses.

        Raises:
            RuntimeError: the emulator was never started.
        """
        if self._url is None:
            raise RuntimeError("the emulator has no address before it is started")
        return self._url

    @property
    def routes(self) -> frozenset[str]:
        """The templates of all routes that a `Fault` can be for."""
        return frozenset(self._route_methods())

    def _route_methods(self) -> dict[str, frozenset[str]]:
        if self._methods is None:
            self._methods = emulated_routes(self._application()[0])
        return self._methods

    @property
    def received(self) -> tuple[ReceivedRequest, ...]:
        """The last *keep_received* requests since `clear_received()` was called, oldest first.

        Requests that were refused or met a fault are among them.
        """
        return tuple(self._received)

    def requests(self, method: str | None = None, route: str | None = None) -> list[ReceivedRequest]:
        """Return the received requests of a method and a route template, such as `/v1/loops/samplers/{sampler_id}`."""
        return self._received.select(method, route)

    def clear_received(self) -> None:
        """Forget the requests that arrived so far."""
        self._received.clear()

    def add_fault(self, fault: Fault) -> Fault:
        """Switch a fault on, and return it; a request meets the first fault that matches.

        Raises:
            ValueError: it is for a route that does not exist, or for a method that its route does not take.
        """
        self._faults.add(fault)
        return fault

    def add_script(self, faults: Iterable[Fault]) -> None:
        """Switch faults on one after another, each once *times* requests have met the one before it.

        A `Fault()` without settings changes nothing, so it lets one request of the script pass.

        Raises:
            ValueError: there is no fault, one with `times=None` is not the last, or `add_fault()` would refuse one.
        """
        self._faults.add(*faults)

    def remove_fault(self, fault: Fault) -> None:
        """Switch a fault off; does nothing for one that is off or used up."""
        self._faults.remove(fault)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._faults.clear()

    @property
    def list_lag(self) -> float:
        """Seconds by which lists lag behind."""
        return self._settings.list_lag

    @list_lag.setter
    def list_lag(self, seconds: float) -> None:
        check_lag(seconds)
        self._settings.list_lag = seconds

    @property
    def samplers(self) -> tuple[SamplerView, ...]:
        """All samplers as they are now, in the order of creation."""
        return self._plane.views(time.monotonic())

    @property
    def billed(self) -> frozenset[str]:
        """The ids of the samplers that cost money: neither deactivated nor permanently failed."""
        return frozenset(sampler.id for sampler in self.samplers if sampler.billed)

    def add_run(self, base_model: str, *, run_id: str | None = None) -> str:
        """Add a run of a base model, whose trainer is running, so that samplers can be paired to it.

        Unlike a run that a client creates, it has no sampler until one is created with its id.

        Returns:
            The id of the run.

        Raises:
            ValueError: *base_model* or *run_id* is empty, or the id exists.
        """
        if not base_model or run_id == "":
            raise ValueError("a run needs a base model, and an id that is not empty")
        return self._plane.add_run(base_model, datetime.now(UTC), run_id)

    def set_status(self, sampler_id: str, status: str) -> None:
        """Put a sampler into a status and hold it there.

        Any name is allowed. Only a deactivation or another `set_status()` ends it, not a
        wake; in DEACTIVATING or INACTIVE, a deactivation changes nothing.

        Raises:
            KeyError: there is no such sampler.
            ValueError: *status* is empty.
        """
        if not status:
            raise ValueError("status must not be empty")
        try:
            self._plane.force(sampler_id, status, time.monotonic())
        except Refused as refused:
            raise KeyError(sampler_id) from refused

    def sampler_document(self, sampler_id: str) -> dict[str, Any]:
        """Return what the API would answer for a sampler now, as a new dictionary.

        Raises:
            KeyError: there is no such sampler.
            RuntimeError: the emulator was never started.
        """
        try:
            sampler = self._plane.sampler(sampler_id, time.monotonic())
        except Refused as refused:
            raise KeyError(sampler_id) from refused
        document = documents.sampler(sampler, self.url, self._settings.user_email)
        return dict(msgspec.to_builtins(document))
