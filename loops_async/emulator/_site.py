"""What the handlers of one running server share."""

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
"""The fault that the request in hand met; requests as mappings need a newer aiohttp to do without warnings."""


@define(eq=False)
class Site:
    """A control plane, which outlives the server, and where and how it is shown."""

    plane: ControlPlane
    settings: Settings
    random: Random
    """What is drawn for the answers of the data plane."""
    origin: str = ""
    """Where the server listens, known once it does."""
    everywhere: bool = False
    """It listens on all addresses of the machine, so that what a client can reach is where its request came to."""
    closed: bool = False
    """No long answer is worked on any further."""
    operations: Operations = Factory(Operations)
    """What was accepted for serverless samplers."""
    answers: int = 0
    """How many there were so far, whichever server gave them."""

    def reached(self, request: web.Request) -> str:
        """Return the origin that a request came to."""
        host = request.headers.get("Host", "")
        return f"http://{host}" if self.everywhere and _HOST.fullmatch(host) else self.origin

    def now(self) -> float:
        """Read the clock that the control plane goes by."""
        return time.monotonic()

    def lag(self) -> float:
        """Give the seconds by which the list that is asked for lags behind."""
        fault = FAULT.get()
        return self.settings.list_lag if fault is None or fault.list_lag is None else fault.list_lag

    def skew(self) -> float:
        """Give the seconds by which the clock of the service runs ahead."""
        fault = FAULT.get()
        return self.settings.clock_skew if fault is None or fault.clock_skew is None else fault.clock_skew

    def wall(self) -> datetime:
        """Read the clock that the service shows."""
        return datetime.now(UTC) + timedelta(seconds=self.skew())

    @property
    def user(self) -> User:
        """Write the owner of everything."""
        return User(email=self.settings.user_email)

    def text(self, sampler: Sampler, status: str | None = None) -> str:
        """Write a sampler as JSON, by default as it is."""
        return sampler_text(sampler, self.origin, self.settings.user_email, status)

    def readdressed(self, text: str, request: web.Request) -> str:
        """Let the addresses in what `text()` has written lead to where a request came to."""
        reached = self.reached(request)
        return text if reached == self.origin else text.replace(base_url(self.origin), base_url(reached))
