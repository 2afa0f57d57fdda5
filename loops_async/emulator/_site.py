"""What the handlers of one running server share."""

import time
from datetime import UTC, datetime, timedelta

from attrs import define

from ._documents import sampler_text
from ._state import ControlPlane, Sampler


@define(eq=False)
class Site:
    """A control plane, which outlives the server, and where and how it is shown."""

    plane: ControlPlane
    user_email: str | None
    clock_skew: float
    """Seconds by which the clock of the service runs ahead."""
    origin: str = ""
    """Where the server listens, known once it does."""

    def now(self) -> float:
        """Read the clock that the control plane goes by."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Read the clock that the service shows."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_skew)

    def text(self, sampler: Sampler) -> str:
        """Write a sampler as JSON."""
        return sampler_text(sampler, self.origin, self.user_email)
