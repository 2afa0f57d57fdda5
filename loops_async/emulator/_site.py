"""The objects and settings that all handlers of an emulator share."""

import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from random import Random

from aiohttp import web
from attrs import Factory, define

from ._documents import base_url, sampler_text
from ._faults import Fault
from ._operations import Operations
from ._records import Sampler
from ._settings import Settings
from ._shapes import User
from ._state import ControlPlane

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

FAULT: ContextVar[Fault | None] = ContextVar("FAULT", default=None)
"""The fault that the present request met; older versions of aiohttp warn when it is stored in the request."""


@define(eq=False)
class Site:
    """A control plane, and where it is served; it stays the same when the emulator is closed and started again."""

    plane: ControlPlane
    settings: Settings
    random: Random
    """The source of chance for the answers of the data plane."""
    origin: str = ""
    """The origin that the server listens on; empty before the first start."""
    everywhere: bool = False
    """Whether the server listens on all addresses; a client can then reach only the address that it used."""
    closed: bool = False
    """Whether the server is closed; handlers then stop writing long answers."""
    operations: Operations = Factory(Operations)
    """The accepted requests for samples of serverless samplers."""
    answers: int = 0
    """The number of answers since the emulator was created."""

    def reached(self, request: web.Request) -> str:
        """Return the origin that a request came to."""
        host = request.headers.get("Host", "")
        return f"http://{host}" if self.everywhere and _HOST.fullmatch(host) else self.origin

    def now(self) -> float:
        """Return the time on the clock of the control plane."""
        return time.monotonic()

    def lag(self) -> float:
        """Return the seconds by which a list in answer to the present request lags behind."""
        fault = FAULT.get()
        return self.settings.list_lag if fault is None or fault.list_lag is None else fault.list_lag

    def skew(self) -> float:
        """Return the seconds by which the clock of the service runs ahead."""
        fault = FAULT.get()
        return self.settings.clock_skew if fault is None or fault.clock_skew is None else fault.clock_skew

    def wall(self) -> datetime:
        """Return the time on the clock that the service shows."""
        return datetime.now(UTC) + timedelta(seconds=self.skew())

    @property
    def user(self) -> User:
        """The owner of everything, as a document."""
        return User(email=self.settings.user_email)

    def text(self, sampler: Sampler, status: str | None = None) -> str:
        """Write a sampler as JSON, by default in its present status."""
        return sampler_text(sampler, self.origin, self.settings.user_email, status)

    def readdressed(self, text: str, request: web.Request) -> str:
        """Replace the origin in the addresses that `text()` has written by the one that a request came to."""
        reached = self.reached(request)
        return text if reached == self.origin else text.replace(base_url(self.origin), base_url(reached))
