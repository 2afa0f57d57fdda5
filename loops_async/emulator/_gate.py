"""What every request goes through before and after its handler: records, the key, faults."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from ._answers import changed, cut, cut_short, problem, problem_of
from ._faults import Fault, FaultPlan
from ._received import ReceivedRequest
from ._refused import Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """Write a request down, check its key, let it meet a fault, and number the answer."""

    def __init__(self, faults: FaultPlan, received: list[ReceivedRequest], *, api_key: str | None) -> None:
        self._faults = faults
        self._received = received
        self._credentials = None if api_key is None else api_key.encode()
        self._closing = asyncio.Event()
        self._answers = 0

    def close(self) -> None:
        """End all delays now, without an answer."""
        self._closing.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, by its handler or instead of it."""
        resource = request.match_info.route.resource
        route = None if resource is None else resource.canonical
        refusal = await self._record(request, route)
        if request.transport is None:
            return web.Response()
        if refusal is None and not self._authorised(request):
            refusal = problem(401, "UNAUTHORIZED", "The API key is missing or wrong.")
        if refusal is not None:
            return self._numbered(refusal)
        fault = self._faults.draw(request.method, route)
        if fault is None:
            return self._numbered(await _processed(request, handler))
        return await self._misbehave(fault, request, handler)

    async def _record(self, request: web.Request, route: str | None) -> web.Response | None:
        """Write the request down, and answer it if its body cannot be had."""
        at = time.monotonic()
        body, refusal = b"", None
        if request.can_read_body:
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                refusal = problem(413, "CONTENT_TOO_LARGE", error.text or "The body is too large.")
            except (ConnectionError, web.RequestPayloadError):
                # The client went away in the middle; what it sent is still a request that arrived.
                request.protocol.force_close()
        self._received.append(
            ReceivedRequest(
                method=request.method,
                path=request.raw_path.partition("?")[0],
                route=route,
                query=dict(request.query) if request.query_string else {},
                headers=request.headers,
                body=body,
                at=at,
            )
        )
        return refusal

    def _authorised(self, request: web.Request) -> bool:
        if self._credentials is None:
            return True
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        # The header may hold any byte, which compare_digest refuses in a str.
        sent = key.strip().encode(errors="surrogateescape")
        return scheme.lower() in {"bearer", "api-key"} and hmac.compare_digest(sent, self._credentials)

    async def _misbehave(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not await self._pause(fault.delay) or fault.cut == "before":
            return cut(request)
        if fault.status is not None:
            response = problem_of(fault.status)
        else:
            response = await _processed(request, handler)
        if not await self._pause(fault.delay_after) or fault.cut == "after":
            return cut(request)
        response = self._numbered(changed(response, fault))
        if fault.partial is not None:
            return await cut_short(request, response, fault.partial)
        return response

    async def _pause(self, seconds: float) -> bool:
        """Sleep, and tell whether the server is still there afterwards."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass
        return not self._closing.is_set()

    def _numbered(self, response: web.Response) -> web.Response:
        self._answers += 1
        response.headers.setdefault("X-Request-Id", f"emulated-{self._answers:08d}")
        return response


async def _processed(request: web.Request, handler: Handler) -> web.Response:
    try:
        response = await handler(request)
    except Refused as refused:
        return problem(refused.status, refused.code, refused.message)
    except web.HTTPException as error:
        # aiohttp's own, for a path or method that has no route.
        answer = problem_of(error.status, f"{request.method} {request.path} is not a route.")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    assert isinstance(response, web.Response)  # noqa: S101 -- all handlers are ours
    return response
