"""Faults that the emulator shows on request, and which one a request meets."""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from random import Random
from types import MappingProxyType
from typing import Literal

from attrs import define, field, frozen

from ._numbers import finite
from ._settings import check_lag, check_skew

_HEADER = re.compile(r"[A-Za-z0-9-]+")

# With a wrong length, a client would wait for ever or take the next answer for a part of this one. To cut an answer
# short there is `partial`.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
"""The methods that a fault can be for."""


def _sendable(value: str) -> bool:
    return value.isprintable() and value.isascii()


def _upper(method: str | None) -> str | None:
    return method.upper() if isinstance(method, str) else method


def _read_only(headers: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(headers))


@frozen(eq=False, kw_only=True)
class Fault:
    """One way to misbehave, and the requests that meet it.

    Two faults with the same settings are still two: each has its own count.

    Attributes:
        method: Only requests with this method, in upper or lower case; None for all.
        route: Only requests of this route, such as `/v1/loops/samplers/{sampler_id}`; None for all.
        times: How many requests meet the fault; None for all.
        rate: Probability that a matching request meets it, from 0 to 1.
        delay: Real seconds before the request is processed.
        delay_after: Real seconds between the processing and the answer.
        cut: Drop the connection instead of answering, `before` or `after` the processing; None does not.
        partial: Process, answer 200 with the full Content-Length, and drop the connection after so many bytes.
        status: Answer with this status instead of processing.
        status_after: Process, then answer with this status.
        retry_after: `Retry-After` header of the answer.
        body: Body of the answer, as `application/json`. Without a status: process, then answer 200 with it.
        list_lag: Seconds by which a list lags behind: it shows what there was then, and nothing younger.
        clock_skew: Seconds by which the clock of the service runs ahead, in `created_at` and `Date`.
        headers: More headers of the answer, in place of the usual ones. Those that say where the body ends cannot be
            set.

    Raises:
        ValueError: a number is out of range, or more than one of *cut*, *partial*, *status* and *status_after*
            is given.
    """

    method: str | None = field(default=None, converter=_upper)
    route: str | None = None
    times: int | None = 1
    rate: float = 1.0
    delay: float = 0.0
    delay_after: float = 0.0
    cut: Literal["before", "after"] | None = None
    partial: int | None = None
    status: int | None = None
    status_after: int | None = None
    retry_after: str | None = None
    body: bytes | None = None
    list_lag: float | None = None
    clock_skew: float | None = None
    headers: Mapping[str, str] = field(factory=dict, converter=_read_only)

    def __attrs_post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise ValueError(f"{self.method!r} is none of the methods {', '.join(sorted(METHODS))}")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or None")
        if not 0 <= self.rate <= 1:
            raise ValueError("rate must be between 0 and 1")
        if not all(finite(seconds) and seconds >= 0 for seconds in (self.delay, self.delay_after)):
            raise ValueError("a delay must be finite and not negative")
        if self.list_lag is not None:
            check_lag(self.list_lag)
        if self.clock_skew is not None:
            check_skew(self.clock_skew)
        self._check_headers()
        if self.cut not in {None, "before", "after"}:
            raise ValueError('cut must be "before", "after" or None')
        if self.partial is not None and self.partial < 0:
            raise ValueError("partial must not be negative")
        if not all(code is None or 200 <= code <= 599 for code in (self.status, self.status_after)):
            raise ValueError("a status must be between 200 and 599")
        if sum(each is not None for each in (self.cut, self.partial, self.status, self.status_after)) > 1:
            raise ValueError("cut, partial, status and status_after exclude each other")

    def _check_headers(self) -> None:
        if not all(_HEADER.fullmatch(name) and _sendable(value) for name, value in self.headers.items()):
            raise ValueError(
                "a header has a name of letters, digits and hyphens and a value without control characters"
            )
        if any(name.lower() in _FRAMING for name in self.headers):
            raise ValueError("Content-Length and Transfer-Encoding cannot be set; partial cuts an answer short")
        if self.retry_after is not None and not _sendable(self.retry_after):
            raise ValueError("retry_after has no control characters")

    def matches(self, method: str, route: str | None) -> bool:
        """Return True if the fault is for requests with this method and route."""
        return self.method in {None, method} and self.route in {None, route}


def _check_route(fault: Fault, routes: Mapping[str, Collection[str]]) -> None:
    if fault.route is None:
        return
    if fault.route not in routes:
        raise ValueError(no_route(fault.route, routes))
    if fault.method not in {None, *routes[fault.route]}:
        raise ValueError(f"{fault.route} takes {', '.join(sorted(routes[fault.route]))}, not {fault.method}")


def no_route(route: object, routes: Collection[str]) -> str:
    """Return the message that a route does not exist."""
    return f"{route} is no route; the routes are {', '.join(sorted(routes))}"


@define(eq=False)
class Planned:
    """Faults that requests meet one after another: the next is on once the first is used up."""

    id: int
    faults: deque[Fault]
    left: int | None
    """How many more requests meet the first fault; `None`: all."""


class FaultPlan:
    """The faults that are switched on, in the order in which they were added."""

    def __init__(self, seed: int = 0, routes: Callable[[], Mapping[str, Collection[str]]] | None = None) -> None:
        self._routes = routes
        self._random = Random(seed)  # noqa: S311 -- repeatable chance, no secrets
        self._planned: list[Planned] = []
        self._count = 0

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The faults that are on, each with those that follow it."""
        return tuple(self._planned)

    def add(self, *faults: Fault) -> int:
        """Switch a fault on, after those that are on; several faults are a script.

        Returns:
            The number with which `remove_by_id()` removes them all.

        Raises:
            ValueError: there is no fault, one with `times=None` is not the last, or one is for a route
                or a method that does not exist.
        """
        if not faults:
            raise ValueError("a script needs at least one fault")
        if self._routes is not None:
            for fault in faults:
                _check_route(fault, self._routes())
        if any(fault.times is None for fault in faults[:-1]):
            raise ValueError("only the last fault of a script may have times=None")
        self._count += 1
        self._planned.append(Planned(self._count, deque(faults), faults[0].times))
        return self._count

    def remove(self, fault: Fault) -> None:
        """Switch a fault off; does nothing for one that is off or used up."""
        for planned in self.planned:
            # It may be in a script more than once.
            while fault in planned.faults:
                if fault is planned.faults[0]:
                    self._over(planned)
                else:
                    planned.faults.remove(fault)

    def remove_by_id(self, number: int) -> bool:
        """Switch off what one `add()` switched on; return False if nothing of it was on any more."""
        before = len(self._planned)
        self._planned = [planned for planned in self._planned if planned.id != number]
        return len(self._planned) < before

    def clear(self) -> None:
        """Switch all faults off."""
        self._planned.clear()

    def draw(self, method: str, route: str | None) -> Fault | None:
        """Pick the fault that a request meets, and count it.

        A request meets at most one fault: the first that matches and that its *rate* selects.
        """
        for planned in self._planned:
            fault = planned.faults[0]
            if not fault.matches(method, route) or (fault.rate < 1 and self._random.random() >= fault.rate):
                continue
            if planned.left is not None:
                planned.left -= 1
                if planned.left == 0:
                    self._over(planned)
            return fault
        return None

    def _over(self, planned: Planned) -> None:
        planned.faults.popleft()
        if planned.faults:
            planned.left = planned.faults[0].times
        else:
            self._planned.remove(planned)
