"""Every error that this library raises by itself, as one tree.

```text
LoopsError
├── TransportError          no response: refused, cut or timed out
├── APIError                a response with a status other than 2xx
│   ├── BadRequestError         400, 422
│   ├── AuthenticationError     401
│   ├── PermissionDeniedError   403
│   ├── NotFoundError           404
│   ├── ConflictError           409
│   ├── RateLimitError          429
│   └── ServerError             5xx
├── DecodeError             a 2xx response that cannot be read
├── CreateOutcomeUnknown    a create that may or may not have made a sampler
├── SamplerFailed           a sampler that came to a failed status
├── WaitTimeout             a wait that reached its deadline (also a TimeoutError)
├── LaunchError             members that did not come up (also an ExceptionGroup)
└── TeardownError           samplers that are still billed, or may be (also an ExceptionGroup)
```

A mistake of the caller is a `ValueError` or `TypeError`, raised before any request is sent.

What all errors of the tree have in common:

- `str()` is one line that can be printed and encoded, with the reason that the service gave. Long lists are cut there;
  the attributes have all of it.
- `repr()` is short, and shows neither a body nor an e-mail address.
- They can be pickled and copied, with their notes and their `__cause__`. An exception of another library that cannot
  be pickled is replaced in the pickle by a `LoopsError` with the same words.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from ._text import IDS_SHOWN, and_more, one_line, some_ids

if TYPE_CHECKING:
    from .models import Sampler, SamplerSpec, StatusChange

ERRORS_SHOWN: Final = 3
"""Errors of a `LaunchError` that `str()` quotes at most; it counts the rest."""

_STR_LIMIT_CHARACTERS: Final = 2_000
_QUOTED_LIMIT_CHARACTERS: Final = 300
_REPR_TEXT_LIMIT_CHARACTERS: Final = 80

_EMAIL = re.compile(r"(?<![^\s@<>()\[\]{}'\",;:=])[^\s@<>()\[\]{}'\",;:=]+@[^\s@<>()\[\]{}'\",;:=]+")


class LoopsError(Exception):
    """The root of the tree: catch it to catch all of this library's errors."""

    def __str__(self) -> str:
        return one_line(self._sentence(), _STR_LIMIT_CHARACTERS)

    def _sentence(self) -> str:
        return super().__str__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._facts())})"

    def _facts(self) -> list[str]:
        """Return what `repr()` shows between the parentheses."""
        return [_shown(value) for value in self.args]

    def __reduce__(self) -> tuple[Any, ...]:
        portable = _Portable()
        return type(self), portable.convert(self.args), portable.convert(self._state())

    def __copy__(self) -> Self:
        other = type(self)(*self.args)
        for name, value in self._state().items():
            # A note that is added to the copy is none of the original's.
            setattr(other, name, list(value) if name == "__notes__" else value)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = type(self)(*_deep_copy(self.args, memo))
        memo[id(self)] = other
        for name, value in self._state().items():
            setattr(other, name, _deep_copy(value, memo))
        return other

    def _state(self) -> dict[str, Any]:
        # BaseException.__setstate__ sets each of these as an attribute.
        return {**vars(self), "__cause__": self.__cause__, "__suppress_context__": self.__suppress_context__}


class TransportError(LoopsError):
    """No response came: the connection was refused or cut, or the time was up.

    aiohttp's own exception is the `__cause__` wherever it holds no request headers.

    Attributes:
        message: What happened, in words.
        method: HTTP method of the request, in capitals; empty if no request was sent.
        path: Path of the request, quoted, without origin and query; empty if no request was sent.
        sent: False only if the request certainly never left, since no connection was made.
    """

    def __init__(self, message: str, method: str = "", path: str = "", sent: bool = True) -> None:
        super().__init__(message, method, path, sent)
        self.message = message
        self.method = method
        self.path = path
        self.sent = sent

    def _sentence(self) -> str:
        return f"{self.method} {self.path}: {self.message}".lstrip(" :")

    def _facts(self) -> list[str]:
        return [_shown(self.message), *_request(self.method, self.path), f"sent={self.sent}"]


class APIError(LoopsError):
    """The service responded with a status other than 2xx.

    Attributes:
        status: HTTP status of the response.
        method: HTTP method of the request, in capitals.
        path: Path of the request, quoted, without origin and query.
        code: The service's own error code, such as `VALIDATION_ERROR`; None if the body names none.
        message: The reason that the service gave, in its own words and as one line; the HTTP phrase if it gave none.
        request_id: `X-Request-Id` of the response, to be named to support; None without that header.
        retry_after: Seconds to wait, at most a day: the `Retry-After` header, else `retry_after` in the JSON body of
            a 429 or 503. None if the response has neither.
        body: The first part of the body as text.
    """

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
        self.method = method
        self.path = path
        self.code = code
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body

    def _sentence(self) -> str:
        code = f" ({self.code})" if self.code and self.code != str(self.status) else ""
        words = f": {self.message}" if self.message else ""
        request_id = f" [request id {self.request_id}]" if self.request_id else ""
        return f"{self.method} {self.path} was answered with {self.status}{code}{words}{request_id}"

    def _facts(self) -> list[str]:
        named = {name: getattr(self, name) for name in ("code", "message", "request_id", "retry_after")}
        facts = [f"{name}={_shown(value)}" for name, value in named.items() if value is not None and value != ""]
        return [str(self.status), *_request(self.method, self.path), *facts]


class BadRequestError(APIError):
    """400 or 422: the service does not accept the arguments. It has the attributes of `APIError`."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked. It ends all waits of a client. It has the attributes of `APIError`."""


class PermissionDeniedError(APIError):
    """403: the key is known, and does not have the right. It has the attributes of `APIError`."""


class NotFoundError(APIError):
    """404: there is no such thing, or not for this key. It has the attributes of `APIError`."""


class ConflictError(APIError):
    """409: the state forbids it, since a sampler that is paired to a run is deactivated with its run.

    It has the attributes of `APIError`.
    """


class RateLimitError(APIError):
    """429: too many requests; `retry_after` says for how long. It has the attributes of `APIError`."""


class ServerError(APIError):
    """5xx: the service failed. It has the attributes of `APIError`."""


class DecodeError(LoopsError):
    """A 2xx response does not have the documented shape.

    Attributes:
        reason: What is wrong at that place of the document.
        path: Place in the document, such as `$.samplers[3].status`; `$` is the document itself.
        sampler_id: Id of the sampler that the document is about, if it can be read. A create that raises this error
            with an id *has* made that sampler.
        request: Method and path of the request.
    """

    def __init__(self, reason: str, path: str = "$", sampler_id: str | None = None, request: str = "") -> None:
        super().__init__(reason, path, sampler_id, request)
        self.reason = reason
        self.path = path
        self.sampler_id = sampler_id
        self.request = request

    def _sentence(self) -> str:
        request = f" to {self.request}" if self.request else ""
        sampler = f" (sampler {self.sampler_id})" if self.sampler_id else ""
        return f"cannot read the response{request}: {self.reason} @ {self.path}{sampler}"

    def _facts(self) -> list[str]:
        facts = [_shown(self.reason), f"path={_shown(self.path)}"]
        if self.sampler_id is not None:
            facts.append(f"sampler_id={_shown(self.sampler_id)}")
        return facts + ([f"request={_shown(self.request)}"] if self.request else [])


class CreateOutcomeUnknown(LoopsError):
    """A create was sent and no usable response came back, so a sampler may or may not have been made.

    The API has no idempotency key: to create again could mean two bills. The failure of the request is the
    `__cause__`.

    Attributes:
        spec: The sampler that was asked for.
        candidates: The caller's samplers that this create may have made, newest first. They have the same base model
            and owner, are alive, were created at the time of this create, were made by no other create of this client
            and were not known to it before. The times are compared by the service's own clock, as its `Date` header
            shows it, and may differ by two minutes; by five minutes if the service sends no date. A candidate can still
            belong to another user, and an empty tuple does not prove that no sampler was made.
        look_error: The failure of the search for candidates; None if the search succeeded.
    """

    def __init__(
        self,
        spec: SamplerSpec,
        candidates: Sequence[Sampler] = (),
        look_error: Exception | None = None,
    ) -> None:
        super().__init__(spec, tuple(candidates), look_error)
        self.spec = spec
        self.candidates = tuple(candidates)
        self.look_error = look_error

    def _sentence(self) -> str:
        head = f"it is unknown whether a sampler of {self.spec.base_model} was created"
        if self.look_error is not None:
            return f"{head}, and the search for it failed: {_quoted(self.look_error)}"
        if not self.candidates:
            return f"{head}; no candidate for it is listed so far"
        return f"{head}; it could be: {some_ids(self._candidate_ids, 'candidates')}"

    @property
    def _candidate_ids(self) -> list[str]:
        return [sampler.id for sampler in self.candidates]

    def _facts(self) -> list[str]:
        facts = [_shown(self.spec.base_model), f"candidates=[{some_ids(self._candidate_ids, 'candidates')}]"]
        return facts + ([f"look_error={type(self.look_error).__name__}"] if self.look_error is not None else [])


class SamplerFailed(LoopsError):
    """A sampler came to a status that the wait's policy counts as failed.

    Attributes:
        sampler: The sampler as it was last seen.
        history: Every status that the wait saw, oldest first.
        permanent: True for BUILD_FAILED, DEPLOY_FAILED and BUILD_STOPPED, from which no sampler comes up again.
        relaunches: How many samplers of the same member of a launch had failed before, and were replaced.
    """

    def __init__(
        self, sampler: Sampler, history: Sequence[StatusChange] = (), permanent: bool = False, relaunches: int = 0
    ) -> None:
        super().__init__(sampler, tuple(history), permanent, relaunches)
        self.sampler = sampler
        self.history = tuple(history)
        self.permanent = permanent
        self.relaunches = relaunches

    def _sentence(self) -> str:
        kind = "failed permanently" if self.permanent else "failed"
        if self.relaunches:
            kind += f" (relaunched {'once' if self.relaunches == 1 else f'{self.relaunches:,} times'})"
        return f"sampler {self.sampler.id} of {self.sampler.base_model} {kind}: {_course(self.history, self.sampler)}"

    def _facts(self) -> list[str]:
        sampler = self.sampler
        facts = [_shown(sampler.id), _shown(sampler.base_model), f"status={_status(sampler)}"]
        return [*facts, f"permanent={self.permanent}"]


class WaitTimeout(LoopsError, TimeoutError):
    """A wait reached its own deadline, after one final poll. The sampler goes on, and is billed, all the same.

    Attributes:
        sampler: The sampler as it was last seen; None if the wait was given an id and never got a response.
        history: Every status that the wait saw, oldest first.
        sampler_id: Id of the sampler; None for a member of a launch that no sampler was created for in time.
        timeout: Seconds that the wait was given, or the launch for a member of one; None if that is not known.
        last_error: The failure of the last poll; None if it succeeded. For a member that no sampler was created for in
            time, what the last attempt came to; for one that was to be replaced, the `SamplerFailed`.
    """

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
        self.history = tuple(history)
        self.sampler_id = sampler.id if sampler is not None else sampler_id
        self.timeout = timeout
        self.last_error = last_error

    def _sentence(self) -> str:
        after = f" after {_seconds(self.timeout)} s" if self.timeout is not None else ""
        trouble = f" (last error: {_quoted(self.last_error)})" if self.last_error is not None else ""
        if isinstance(self.last_error, SamplerFailed):
            return f"no replacement was created{after}: {_quoted(self.last_error)}"
        if self.sampler_id is None:
            return f"no sampler was created{after}{trouble}"
        course = _course(self.history, self.sampler)
        return f"the wait for sampler {self.sampler_id} timed out{after}: {course}{trouble}"

    def _facts(self) -> list[str]:
        facts = [_shown(self.sampler_id)]
        if self.sampler is not None:
            facts += [_shown(self.sampler.base_model), f"status={_status(self.sampler)}"]
        if self.timeout is not None:
            facts.append(f"timeout={_seconds(self.timeout)}")
        return facts + ([f"last_error={type(self.last_error).__name__}"] if self.last_error is not None else [])


class LaunchError(LoopsError, ExceptionGroup[Exception]):
    """Members of a launch did not come up. It holds one error for each of them.

    Attributes:
        message: How many members did not come up.
        exceptions: The errors of these members; `str()` quotes the first ones.
    """

    def __init__(self, message: str, exceptions: Sequence[Exception], /) -> None:
        # The group's own tuple: the caller may change the list that it gave.
        Exception.__init__(self, message, self.exceptions)

    def _sentence(self) -> str:
        quoted = "; ".join(map(_quoted, self.exceptions[:ERRORS_SHOWN]))
        return f"{self.message}: {quoted}{and_more(len(self.exceptions) - ERRORS_SHOWN, 'exceptions')}"

    def _facts(self) -> list[str]:
        return [_shown(self.message), _kinds(self.exceptions)]

    def derive(self, excs: Sequence[Exception], /) -> LaunchError:  # type: ignore[override]  # typeshed makes it generic
        """Return a part of this group, for `split()` and `except*`."""
        return LaunchError(self.message, excs)


class TeardownError(LoopsError, ExceptionGroup[Exception]):
    """Samplers could not be deactivated and are still billed, or creates whose outcome is unknown may have made some.

    Attributes:
        message: How many samplers and unknown creates there are.
        exceptions: One error for each of these samplers, and the unknown creates.
        sampler_ids: Ids of all samplers that are still billed, as far as is known; `str()` names the first ones.
        deactivated: Ids of the samplers that were deactivated all the same.
        unknown: The unknown creates; by default those in *exceptions*.
    """

    def __new__(
        cls,
        message: str,
        exceptions: Sequence[Exception],
        sampler_ids: Sequence[str] = (),
        deactivated: Sequence[str] = (),
        unknown: Sequence[CreateOutcomeUnknown] | None = None,
    ) -> Self:
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        sampler_ids: Sequence[str] = (),
        deactivated: Sequence[str] = (),
        unknown: Sequence[CreateOutcomeUnknown] | None = None,
    ) -> None:
        self.sampler_ids = tuple(sampler_ids)
        self.deactivated = tuple(deactivated)
        if unknown is None:
            unknown = [each for each in self.exceptions if isinstance(each, CreateOutcomeUnknown)]
        self.unknown = tuple(unknown)
        Exception.__init__(self, message, self.exceptions, self.sampler_ids, self.deactivated, self.unknown)

    def _sentence(self) -> str:
        parts = []
        if self.sampler_ids:
            parts.append(f"still billed: {some_ids(self.sampler_ids, 'sampler_ids')}")
        if candidates := list(dict.fromkeys(each for error in self.unknown for each in error._candidate_ids)):
            parts.append(f"candidates of unknown creates: {some_ids(candidates, 'unknown')}")
        return f"{self.message} ({'; '.join(parts)})" if parts else self.message

    def _facts(self) -> list[str]:
        facts = [_shown(self.message), _kinds(self.exceptions)]
        if self.sampler_ids:
            facts.append(f"sampler_ids=[{some_ids(self.sampler_ids, 'sampler_ids')}]")
        return facts

    def derive(self, excs: Sequence[Exception], /) -> TeardownError:  # type: ignore[override]  # as above
        """Return a part of this group, for `split()` and `except*`; ids and unknown creates stay complete."""
        return TeardownError(self.message, excs, self.sampler_ids, self.deactivated, self.unknown)


class _Portable:
    """Make the arguments and attributes of one error fit for a pickle.

    Other libraries raise exceptions that pickle refuses, or that it writes and cannot read again. They are replaced,
    each by the same error wherever it stands.
    """

    def __init__(self) -> None:
        self._replaced: dict[int, Exception] = {}

    def convert(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            return self._replacement(value)
        if isinstance(value, (list, tuple)) and type(value) in {list, tuple}:
            return type(value)(map(self.convert, value))
        if type(value) is dict:
            return {name: self.convert(each) for name, each in value.items()}
        return value

    def _replacement(self, error: BaseException) -> BaseException:
        # Errors of this tree are asked for their own parts as they are pickled: to try them here would try each one
        # as often as it has causes above it.
        if isinstance(error, LoopsError):
            return error
        if id(error) not in self._replaced:
            try:
                pickle.loads(pickle.dumps(error))  # noqa: S301 -- written just now
            except Exception:  # noqa: BLE001 -- an exception of another library may refuse, in any way
                self._replaced[id(error)] = LoopsError(_quoted(error))
            else:
                return error
        return self._replaced[id(error)]


def _deep_copy(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy of *value*, in which exceptions that cannot be copied are the same ones."""
    if type(value) in {list, tuple}:
        return type(value)(_deep_copy(each, memo) for each in value)
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        if isinstance(value, BaseException):
            return value
        raise


def _quoted(error: BaseException) -> str:
    """Return the words of *error*, with its class where they may mean little without it."""
    words = one_line(str(error), _QUOTED_LIMIT_CHARACTERS)
    if isinstance(error, LoopsError) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _course(history: Sequence[StatusChange], sampler: Sampler | None) -> str:
    steps = [f"{change.status} at {change.elapsed:.1f} s" for change in history]
    if len(steps) > IDS_SHOWN:
        steps = [steps[0], f"({len(steps) - IDS_SHOWN:,} more)", *steps[-IDS_SHOWN + 1 :]]
    if steps:
        return ", ".join(steps)
    return f"last seen {sampler.status}" if sampler is not None else "no status was ever read"


def _seconds(seconds: float) -> str:
    """Return *seconds* without the digits that a difference of two times has."""
    return f"{seconds if seconds < 1 else round(seconds, 2):g}"


def _request(method: str, path: str) -> list[str]:
    return [_shown(f"{method} {path}")] if method else []


def _status(sampler: Sampler) -> str:
    return _without_email(sampler.status)


def _kinds(errors: Sequence[BaseException]) -> str:
    """Return how many errors of which class a group has, such as `3 NotFoundError, 1 SamplerFailed`."""
    counted = Counter(type(error).__name__ for error in errors)
    return f"[{', '.join(f'{number} {name}' for name, number in counted.items())}]"


def _shown(value: object) -> str:
    """Return *value* as `repr()` of an error shows it."""
    if isinstance(value, str):
        return repr(_without_email(value))
    return repr(value) if value is None or isinstance(value, (int, float)) else f"<{type(value).__name__}>"


def _without_email(text: str) -> str:
    """Return *text* as a short line, with every e-mail address replaced by `***`."""
    return one_line(_EMAIL.sub("***", one_line(text, _STR_LIMIT_CHARACTERS)), _REPR_TEXT_LIMIT_CHARACTERS)
