"""Every error that this library raises of its own accord, as one tree.

```text
LoopsError
├── TransportError          no answer: refused, cut or timed out
├── APIError                an answer with another status than 2xx
│   ├── BadRequestError         400, 422
│   ├── AuthenticationError     401
│   ├── PermissionDeniedError   403
│   ├── NotFoundError           404
│   ├── ConflictError           409
│   ├── RateLimitError          429
│   └── ServerError             5xx
├── DecodeError             a 2xx answer that cannot be read
├── CreateOutcomeUnknown    a create that may or may not have made a sampler
├── SamplerFailed           a sampler that came to a failed status
├── WaitTimeout             a wait that reached its deadline (also a TimeoutError)
├── LaunchError             members that did not come up (also an ExceptionGroup)
└── TeardownError           samplers that could not be released (also an ExceptionGroup)
```

A mistake of the caller is a `ValueError` or `TypeError`, raised before any request is sent. All of these can be
pickled, so they survive a process pool: each one hands every argument on to `BaseException`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from .models import Sampler, SamplerSpec, StatusChange


class LoopsError(Exception):
    """The root of the tree: catch it to catch all of this library's errors."""


class TransportError(LoopsError):
    """No answer came: the connection was refused or cut, or the time was up.

    aiohttp's own exception is the `__cause__` wherever it holds no request headers.
    """

    def __init__(self, message: str, method: str = "", path: str = "", sent: bool = True) -> None:
        super().__init__(message, method, path, sent)
        self.message = message
        self.method = method
        """HTTP method of the request, in capitals."""
        self.path = path
        """Path of the request, quoted, without origin and query."""
        self.sent = sent
        """False only if the request certainly never left: no connection was made."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.message}".lstrip(" :")


class APIError(LoopsError):
    """The service answered with a status other than 2xx."""

    def __init__(
        self,
        status: int,
        method: str,
        path: str,
        code: str | None = None,
        message: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str = "",
    ) -> None:
        super().__init__(status, method, path, code, message, request_id, retry_after, body)
        self.status = status
        """HTTP status."""
        self.method = method
        """HTTP method of the request, in capitals."""
        self.path = path
        """Path of the request, quoted, without origin and query."""
        self.code = code
        """The service's own error code, such as `VALIDATION_ERROR`, if the body names one."""
        self.message = message
        """The service's own words, or the HTTP reason."""
        self.request_id = request_id
        """`X-Request-Id` of the answer: name it to support."""
        self.retry_after = retry_after
        """Seconds that `Retry-After` asks for, at most a day; None without the header."""
        self.body = body
        """The first part of the body as text."""

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        words = f": {self.message}" if self.message else ""
        request_id = f" [request id {self.request_id}]" if self.request_id else ""
        return f"{self.method} {self.path} was answered with {self.status}{code}{words}{request_id}"


class BadRequestError(APIError):
    """400 or 422: the service does not accept the arguments."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked."""


class PermissionDeniedError(APIError):
    """403: the key is known, and does not have the right."""


class NotFoundError(APIError):
    """404: there is no such thing, or not for this key."""


class ConflictError(APIError):
    """409: the state forbids it; a sampler that is paired to a run is deactivated with its run."""


class RateLimitError(APIError):
    """429: too many requests."""


class ServerError(APIError):
    """5xx: the service failed."""


class DecodeError(LoopsError):
    """A 2xx answer does not have the documented shape."""

    def __init__(self, reason: str, path: str = "$", sampler_id: str | None = None, request: str = "") -> None:
        super().__init__(reason, path, sampler_id, request)
        self.reason = reason
        """What is wrong there."""
        self.path = path
        """Where in the document, such as `$.samplers[3].status`; `$` is the document itself."""
        self.sampler_id = sampler_id
        """The id of the sampler that it concerns, wherever that can still be read. A create that raises this
        with an id *has* made that sampler."""
        self.request = request
        """Method and path of the request."""

    def __str__(self) -> str:
        request = f" to {self.request}" if self.request else ""
        sampler = f" (sampler {self.sampler_id})" if self.sampler_id else ""
        return f"cannot read the answer{request}: {self.reason} @ {self.path}{sampler}"


class CreateOutcomeUnknown(LoopsError):
    """A create was sent and no usable answer came back, so a sampler may or may not have been made.

    The API has no idempotency key: to create again could mean two bills. What the failed request came to is the
    `__cause__`.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        candidates: Sequence[Sampler] = (),
        look_error: Exception | None = None,
    ) -> None:
        super().__init__(spec, tuple(candidates), look_error)
        self.spec = spec
        """What was asked for."""
        self.candidates = tuple(candidates)
        """The caller's samplers that this create may have made, newest first: same base model and owner, created at
        about that time (give or take five minutes, since clocks differ), alive, made by no other create of this client
        and not known to it before. They can still be somebody else's. Empty does not prove that there is none."""
        self.look_error = look_error
        """Why the candidates could not be looked for; None if they were."""

    def __str__(self) -> str:
        head = f"it is unknown whether a sampler of {self.spec.base_model} was created"
        if self.look_error is not None:
            return f"{head}, and nobody could look for it: {self.look_error}"
        if not self.candidates:
            return f"{head}; no sampler that could be it is listed so far"
        ids = ", ".join(sampler.id for sampler in self.candidates)
        return f"{head}; it could be: {ids}"


class SamplerFailed(LoopsError):
    """A sampler came to a status that the wait's policy counts as failed."""

    def __init__(self, sampler: Sampler, history: Sequence[StatusChange] = (), permanent: bool = False) -> None:
        super().__init__(sampler, tuple(history), permanent)
        self.sampler = sampler
        """The sampler as it was last seen."""
        self.history = tuple(history)
        """Every status that the wait saw, oldest first."""
        self.permanent = permanent
        """True for BUILD_FAILED, DEPLOY_FAILED and BUILD_STOPPED, out of which no sampler comes up again."""

    def __str__(self) -> str:
        kind = "failed for good" if self.permanent else "failed"
        return f"sampler {self.sampler.id} of {self.sampler.base_model} {kind}: {_course(self.history, self.sampler)}"


class WaitTimeout(LoopsError, TimeoutError):
    """A wait reached its own deadline, after one last look. The sampler goes on, and is billed, all the same."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(
        self,
        sampler: Sampler | None,
        history: Sequence[StatusChange] = (),
        sampler_id: str | None = None,
        timeout: float | None = None,
        last_error: Exception | None = None,
    ) -> None:
        # Not by super(): OSError, which TimeoutError is, would take them for errno, strerror and filename.
        self.args = (sampler, tuple(history), sampler_id, timeout, last_error)
        self.sampler = sampler
        """The sampler as it was last seen; None if the wait was given an id and never got an answer."""
        self.history = tuple(history)
        """Every status that the wait saw, oldest first."""
        self.sampler_id = sampler.id if sampler is not None else sampler_id
        """The sampler's id; None for a member of a launch that no sampler was created for in time."""
        self.timeout = timeout
        """Seconds that the wait was given."""
        self.last_error = last_error
        """What the last poll came to, if it failed."""

    def __str__(self) -> str:
        after = f" after {self.timeout:g} s" if self.timeout is not None else ""
        trouble = f" (last poll: {self.last_error})" if self.last_error is not None else ""
        if self.sampler_id is None:
            return f"no sampler was created{after}{trouble}"
        return f"sampler {self.sampler_id} was not ready{after}: {_course(self.history, self.sampler)}{trouble}"


class LaunchError(LoopsError, ExceptionGroup[Exception]):
    """Members of a launch did not come up; one error for each of them."""

    def __str__(self) -> str:
        more = len(self.exceptions) - 1
        return f"{self.message}: {self.exceptions[0]}{f', and {more} more' if more else ''}"

    def derive(self, excs: Sequence[Exception], /) -> LaunchError:  # type: ignore[override]  # typeshed makes it generic
        """Return a part of this group, for `split()` and `except*`."""
        return LaunchError(self.message, excs)


class TeardownError(LoopsError, ExceptionGroup[Exception]):
    """Samplers could not be released and are still billed; `sampler_ids` names every one of them."""

    def __new__(
        cls,
        message: str,
        exceptions: Sequence[Exception],
        sampler_ids: Sequence[str] = (),
        released: Sequence[str] = (),
    ) -> Self:
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        sampler_ids: Sequence[str] = (),
        released: Sequence[str] = (),
    ) -> None:
        Exception.__init__(self, message, exceptions, tuple(sampler_ids), tuple(released))
        self.sampler_ids = tuple(sampler_ids)
        """Ids of the samplers that are still billed, as far as is known."""
        self.released = tuple(released)
        """Ids of the samplers that `reclaim()` has released all the same."""

    def __str__(self) -> str:
        ids = f": {', '.join(self.sampler_ids)}" if self.sampler_ids else ""
        return f"{self.message}{ids}"

    def derive(self, excs: Sequence[Exception], /) -> TeardownError:  # type: ignore[override]  # as above
        """Return a part of this group, for `split()` and `except*`; all ids stay named."""
        return TeardownError(self.message, excs, self.sampler_ids, self.released)


def _course(history: Sequence[StatusChange], sampler: Sampler | None) -> str:
    if history:
        return ", ".join(f"{change.status} at {change.elapsed:.1f} s" for change in history)
    return f"last seen {sampler.status}" if sampler is not None else "no status was ever read"
