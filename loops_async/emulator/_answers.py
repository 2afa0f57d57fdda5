"""The aiohttp responses of the emulator: JSON, errors, and the broken ones that a fault asks for."""

from http import HTTPStatus

import msgspec
from aiohttp import web
from attrs import frozen

from . import _shapes as shapes
from ._documents import json_text
from ._faults import Fault
from ._settings import ErrorShape


def answer(document: msgspec.Struct, *, status: int = 200) -> web.Response:
    """Answer with a document."""
    return text_answer(json_text(document), status=status)


def text_answer(text: str, *, status: int = 200) -> web.Response:
    """Answer with *text*, which is JSON."""
    return web.Response(body=text.encode(), status=status, content_type="application/json")


@frozen
class Problems:
    """Writes the errors of one emulator, in the shape that it was given."""

    shape: ErrorShape

    def answer(self, status: int, code: str, message: str) -> web.Response:
        """Answer with an error."""
        if self.shape == "detail":
            return answer(shapes.DetailError(detail=message), status=status)
        if self.shape == "error":
            details = {"reason": code.lower()}
            return answer(shapes.ReasonError(error=code, message=message, details=details), status=status)
        return answer(shapes.CodeError(code=code, message=message), status=status)

    def of_status(self, status: int, message: str | None = None) -> web.Response:
        """Answer with the error of a status, also for a status that HTTP does not define."""
        try:
            known = HTTPStatus(status)
        except ValueError:
            return self.answer(status, "UNKNOWN", message or "An emulated fault.")
        return self.answer(status, known.name, message or f"{known.phrase} (an emulated fault).")


def changed(response: web.Response, fault: Fault, problems: Problems) -> web.Response:
    """Replace the status, body and headers of *response* by those that the fault asks for."""
    if fault.status_after is not None:
        response = problems.of_status(fault.status_after)
    if fault.body is not None:
        status = fault.status or fault.status_after or 200
        response = web.Response(body=fault.body, status=status, content_type="application/json")
    if fault.partial is not None:
        response.set_status(200)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    for name, value in fault.headers.items():
        response.headers[name] = value
    return response


def cut(request: web.Request) -> web.Response:
    """Drop the connection, and return the response that aiohttp requires; it is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request, response: web.Response, length: int) -> web.StreamResponse:
    """Send the head and the first bytes of an answer, then drop the connection."""
    body = response.body
    assert isinstance(body, bytes)  # noqa: S101 -- our answers are never streams
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(body)
    stream.force_close()
    try:
        await stream.prepare(request)
        await stream.write(body[:length])
    except ConnectionError:
        return stream
    if request.transport is not None:
        # Not abort(), which would throw away what the socket has not taken yet.
        request.transport.close()
    return stream
