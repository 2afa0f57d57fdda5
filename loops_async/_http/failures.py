"""What a failure means: one function that classifies it, one table that says what each caller does about it.

No other module asks for the status of an error or for the type of an exception in order to decide what to do next.

| class           | what                                                 | create  | read  | deactivate     | poll     |
|-----------------|------------------------------------------------------|---------|-------|----------------|----------|
| NOT_SENT        | no connection (DNS, TLS, refused, proxy)             | retry   | retry | retry          | go on    |
| THROTTLED       | 429                                                  | retry   | retry | retry          | go on    |
| REDIRECTED      | 3xx (a sign-in page)                                 | raise   | raise | look, or retry | patience |
| REJECTED        | 4xx, except those below                              | raise   | raise | look, or raise | patience |
| UNAUTHENTICATED | 401                                                  | raise   | raise | raise          | end all  |
| MISSING         | 404                                                  | raise   | raise | look, or raise | patience |
| TRANSIENT       | 408, 499, 5xx, cut, timeout; on a create 302 and 303 | unknown | retry | retry          | go on    |
| UNREADABLE      | 2xx that is no such document (a proxy's page)        | unknown | raise | look, or retry | go on    |
| MALFORMED       | 2xx with an item that cannot be read                 | unknown | raise | look, or retry | end wait |

A create whose response names a sampler has made it, whatever else is wrong with the response: that is decided before
this table is read. A sampler that this client has just made may be unknown to other parts of the service for a while:
for those, callers treat MISSING as RETRY.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from ..errors import APIError, DecodeError, LoopsError, TransportError


class Failure(Enum):
    """The classes of failures; the table above says what each one means."""

    NOT_SENT = "not sent"
    """The request certainly never left: nothing was processed."""
    THROTTLED = "throttled"
    """The service refused the request because there were too many: nothing was processed."""
    REDIRECTED = "redirected"
    """Something in between, such as a captive portal, answered in place of the service: nothing was processed."""
    REJECTED = "rejected"
    """The service answered with a clear no."""
    UNAUTHENTICATED = "unauthenticated"
    """The service does not accept the key."""
    MISSING = "missing"
    """The service does not know what was asked for."""
    TRANSIENT = "transient"
    """The request may or may not have been processed, and the next one may well succeed."""
    UNREADABLE = "unreadable"
    """A success whose body is no such document at all, as from a proxy or a captive portal."""
    MALFORMED = "malformed"
    """A success whose document has the right shape, and something in it that cannot be read."""


class Action(Enum):
    """What a caller does about a failure."""

    RETRY = "retry"
    """Send the request again, after a pause."""
    RAISE = "raise"
    """Give the error to the caller at once."""
    UNKNOWN = "unknown"
    """Never send the create again: look for what it may have made, and report that."""
    LOOK_OR_RAISE = "look, or raise"
    """Look at the sampler: if it is gone, the deactivation is done; otherwise raise."""
    LOOK_OR_RETRY = "look, or retry"
    """Look at the sampler: if it is gone, the deactivation is done; otherwise send it again."""
    GO_ON = "go on"
    """Keep waiting; the next poll asks again."""
    PATIENCE = "patience"
    """Keep waiting for the policy's `missing_grace`, then end this wait with the error."""
    END_WAIT = "end wait"
    """End this wait with the error; others are not affected."""
    END_ALL_WAITS = "end all"
    """End all waits of the client with the error: no further poll can succeed."""


CREATE: Final[Mapping[Failure, Action]] = MappingProxyType(
    {
        Failure.NOT_SENT: Action.RETRY,
        Failure.THROTTLED: Action.RETRY,
        Failure.REDIRECTED: Action.RAISE,
        Failure.REJECTED: Action.RAISE,
        Failure.UNAUTHENTICATED: Action.RAISE,
        Failure.MISSING: Action.RAISE,
        Failure.TRANSIENT: Action.UNKNOWN,
        Failure.UNREADABLE: Action.UNKNOWN,
        Failure.MALFORMED: Action.UNKNOWN,
    }
)
"""What a create does about each class of failure."""

READ: Final[Mapping[Failure, Action]] = MappingProxyType(
    {
        Failure.NOT_SENT: Action.RETRY,
        Failure.THROTTLED: Action.RETRY,
        Failure.REDIRECTED: Action.RAISE,
        Failure.REJECTED: Action.RAISE,
        Failure.UNAUTHENTICATED: Action.RAISE,
        Failure.MISSING: Action.RAISE,
        Failure.TRANSIENT: Action.RETRY,
        Failure.UNREADABLE: Action.RAISE,
        Failure.MALFORMED: Action.RAISE,
    }
)
"""What reads, and all other requests that may be sent twice, do about each class of failure."""

DEACTIVATE: Final[Mapping[Failure, Action]] = MappingProxyType(
    {
        Failure.NOT_SENT: Action.RETRY,
        Failure.THROTTLED: Action.RETRY,
        Failure.REDIRECTED: Action.LOOK_OR_RETRY,
        Failure.REJECTED: Action.LOOK_OR_RAISE,
        Failure.UNAUTHENTICATED: Action.RAISE,
        Failure.MISSING: Action.LOOK_OR_RAISE,
        Failure.TRANSIENT: Action.RETRY,
        Failure.UNREADABLE: Action.LOOK_OR_RETRY,
        Failure.MALFORMED: Action.LOOK_OR_RETRY,
    }
)
"""What a deactivation does about each class of failure."""

POLL: Final[Mapping[Failure, Action]] = MappingProxyType(
    {
        Failure.NOT_SENT: Action.GO_ON,
        Failure.THROTTLED: Action.GO_ON,
        Failure.REDIRECTED: Action.PATIENCE,
        Failure.REJECTED: Action.PATIENCE,
        Failure.UNAUTHENTICATED: Action.END_ALL_WAITS,
        Failure.MISSING: Action.PATIENCE,
        Failure.TRANSIENT: Action.GO_ON,
        Failure.UNREADABLE: Action.GO_ON,
        Failure.MALFORMED: Action.END_WAIT,
    }
)
"""What a wait does about each class of failure of its polls."""

_UNDECIDED_CREATE: Final = frozenset({302, 303})
"""Redirects that point to the result of what was done: after them, a create may have made a sampler."""

_GATEWAY_GAVE_UP: Final = frozenset({408, 499})
"""Statuses of gateways that lost patience while the service may go on."""

_WHOLE_DOCUMENT: Final = frozenset({"$", "$.sampler", "$.samplers", "$.session"})
"""Paths of a `DecodeError` which say that the body is no such document, rather than that an item in it is wrong."""


def classify(error: BaseException, *, create: bool = False) -> Failure | None:
    """Return the class of *error*; None for what is no failure of a request, such as a defect or a cancellation.

    Args:
        error: What a single request came to.
        create: Whether that request was a create: a redirect can mean that it was processed.
    """
    if isinstance(error, APIError):
        return _classify_status(error.status, create)
    if isinstance(error, TransportError):
        return Failure.TRANSIENT if error.sent else Failure.NOT_SENT
    if isinstance(error, DecodeError):
        return Failure.UNREADABLE if error.path in _WHOLE_DOCUMENT else Failure.MALFORMED
    return None


def _classify_status(status: int, create: bool) -> Failure:
    if status == 429:
        return Failure.THROTTLED
    if status == 401:
        return Failure.UNAUTHENTICATED
    if status == 404:
        return Failure.MISSING
    if status in _GATEWAY_GAVE_UP or (create and status in _UNDECIDED_CREATE):
        return Failure.TRANSIENT
    if 300 <= status < 400:
        return Failure.REDIRECTED
    return Failure.REJECTED if 400 <= status < 500 else Failure.TRANSIENT


def action_for(error: BaseException, table: Mapping[Failure, Action]) -> Action:
    """Return what *table*, one of those above, says about *error*; RAISE for what is no failure of a request."""
    failure = classify(error, create=table is CREATE)
    return Action.RAISE if failure is None else table[failure]


MODEL_REFUSED: Final = "BadRequestError"
"""Code of the inference server's 400 that will not change: it refuses the request itself, such as its model."""

_NOT_READY: Final = frozenset({400, 404, 408, 409, 425, 429, 499})
"""Statuses below 500 with which the data plane answers while a sampler is not ready yet."""


def says_not_ready(error: LoopsError) -> bool:
    """Return True if *error*, of a request to a sampler's own address, means that it does not answer yet.

    The data plane answers with 400 or 404 while it is coming up, which from the control plane would be final, and a
    gateway may redirect. A refusal of the key (401, 403), or of the model, is no such thing.
    """
    if isinstance(error, APIError):
        if error.status == 400 and error.code == MODEL_REFUSED:
            return False
        return error.status >= 500 or error.status in _NOT_READY or 300 <= error.status < 400
    return isinstance(error, (TransportError, DecodeError))


def names_pause(error: LoopsError) -> bool:
    """Return True if *error* tells how long to wait: waiting for that takes time, but is no attempt of the client's."""
    return (
        isinstance(error, APIError)
        and bool(error.retry_after)
        and classify(error) in {Failure.THROTTLED, Failure.TRANSIENT}
    )
