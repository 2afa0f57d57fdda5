"""The steps that every request takes before and after its handler: recording it, its key, faults."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError

from . import _shapes as shapes
from ._answers import Problems, answer, changed, cut, cut_short
from ._faults import Fault, FaultPlan
from ._rate_limit import RateLimit
from ._received import Key, ReceivedRequest, Record, public_headers
from ._refused import BrokenSchema, Refused
from ._site import FAULT, Site
from ._trainers import trainer_message

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOG = logging.getLogger("loops_async.emulator")

ADMIN_PATH = "/_emulator"
SPEC_PATH = "/v1/spec"

# A key for inference only can sample and wake, but not read a status.
INFERENCE_ROUTES = ("/models/", "/serverless/")

MAX_BODY = 1024 * 1024
"""The most bytes of a body, far more than a create needs; prompts on the data plane may be longer."""

PRESIGNED_ROUTE = "/checkpoint-files/{checkpoint_id}/{name}"
"""The route of a file that can be read without a key, as with any presigned URL."""

_KEY_SCHEMES = frozenset({"bearer", "api-key"})

# The first word of a malformed header may be a part of a key, so only these schemes are recorded.
_SCHEMES = _KEY_SCHEMES | {"basic", "token"}

# The published limits are those of the management API.
_LIMITED_ROUTES = "/v1/"


def _is_own(path: str) -> bool:
    """Return True if a path is the emulator's own, not one of the emulated service."""
    return path in {ADMIN_PATH, SPEC_PATH} or path.startswith(f"{ADMIN_PATH}/")


def emulated_routes(app: web.Application) -> dict[str, frozenset[str]]:
    """Return the templates of all routes that can meet a fault, each with the methods that it takes."""
    methods: dict[str, set[str]] = {}
    # Each route is a resource of its own, so a template can come more than once.
    for resource in app.router.resources():
        if not _is_own(resource.canonical):
            methods.setdefault(resource.canonical, set()).update(route.method for route in resource)
    return {route: frozenset(each) for route, each in methods.items()}


class Gate:
    """Records each request, checks its key, lets it meet a fault, and numbers the answer."""

    def __init__(self, faults: FaultPlan, received: Record, site: Site) -> None:
        self._faults = faults
        self._received = received
        self._site = site
        self._settings = site.settings
        self._problems = Problems(site.settings.error_shape)
        self._rate_limit = RateLimit(site.settings.rate_limit)
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all delays now, without an answer."""
        self._closing.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request, by its handler or instead of it."""
        try:
            return await self._answer(request, handler)
        except Exception:  # noqa: BLE001 -- answered in the shape of all errors, and logged
            _LOG.exception("The emulator failed on %s %s", request.method, request.path)
            return self._numbered(self._problems.of_status(500, "The emulator failed; its log says why."))

    async def expect(self, request: web.Request) -> web.Response | None:
        """Answer an `Expect` header: let the client send its body, or refuse anything but `100-continue`."""
        expectation = request.headers.get("Expect", "")
        if request.version != HttpVersion11:
            return None
        if expectation.lower() != "100-continue":
            return self._numbered(self._problems.of_status(417, f"{expectation!r} cannot be expected."))
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # aiohttp does the same: these bytes are no part of the answer itself.
        request.writer.output_size = 0
        return None

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_own(request.path):
            refusal = None if request.path == SPEC_PATH else self._refusal(request, None)
            if refusal is None:
                _, refusal = await self._read(request)
            if request.transport is None:
                return web.Response()
            return self._numbered(refusal or await self._processed(request, handler))
        resource = request.match_info.route.resource
        route = None if resource is None else resource.canonical
        refusal = await self._record(request, route)
        if request.transport is None:
            return web.Response()
        refusal = refusal or self._refusal(request, route) or self._throttled(request, route)
        if refusal is not None:
            return self._numbered(refusal)
        fault = self._faults.draw(request.method, route)
        if fault is None:
            return self._numbered(await self._processed(request, handler))
        return await self._misbehave(fault, request, handler)

    async def _record(self, request: web.Request, route: str | None) -> web.Response | None:
        """Record the request; return an answer if its body cannot be read."""
        at = time.monotonic()
        body, refusal = await self._read(request)
        scheme, key = _credentials(request)
        self._received.append(
            ReceivedRequest(
                method=request.method,
                path=request.raw_path.partition("?")[0],
                route=route,
                query=dict(request.query) if request.query_string else {},
                headers=public_headers(request.headers),
                body=body[: self._settings.keep_body],
                at=at,
                scheme=scheme if scheme.lower() in _SCHEMES else None,
                key=self._key(scheme, key),
            )
        )
        return refusal

    async def _read(self, request: web.Request) -> tuple[bytes, web.Response | None]:
        """Read the body; return an answer with it if it cannot be read."""
        if not request.can_read_body:
            return b"", None
        try:
            body = await request.read()
            if len(body) > MAX_BODY and not request.path.startswith(INFERENCE_ROUTES):
                raise web.HTTPRequestEntityTooLarge(MAX_BODY, len(body))
            return body, None
        except web.HTTPRequestEntityTooLarge as error:
            return b"", self._problems.answer(413, "CONTENT_TOO_LARGE", error.text or "The body is too large.")
        except (ConnectionError, web.RequestPayloadError) as error:
            if isinstance(error.__cause__, ContentEncodingError) and request.transport is not None:
                refusal = self._problems.of_status(400, "The body cannot be decoded as its Content-Encoding says.")
                refusal.force_close()
                return b"", refusal
            # The client disconnected in the middle; its request is still recorded as received.
            request.protocol.force_close()
            return b"", None

    def _refusal(self, request: web.Request, route: str | None) -> web.Response | None:
        """Answer a request whose key is missing, wrong, or not valid for the route."""
        if self._settings.api_key is None or route == PRESIGNED_ROUTE:
            return None
        match self._key(*_credentials(request)):
            case "right":
                return None
            case "inference":
                if route is not None and route.startswith(INFERENCE_ROUTES):
                    return None
                return self._problems.answer(403, "FORBIDDEN", "The API key is for inference only.")
        return self._problems.answer(401, "UNAUTHORIZED", "The API key is missing or wrong.")

    def _throttled(self, request: web.Request, route: str | None) -> web.Response | None:
        """Answer a request beyond the rate limit, as documented: the time to wait is in the body, not in a header."""
        if route is None or not route.startswith(_LIMITED_ROUTES):
            return None
        _, key = _credentials(request)
        seconds = self._rate_limit.retry_after(key, request.method, route, self._site.now())
        if seconds is None:
            return None
        message = "Rate limit exceeded. Please try again later."
        return answer(shapes.RateLimitExceeded(error=message, retry_after=seconds), status=429)

    def _key(self, scheme: str, key: str) -> Key | None:
        """Return which key a request came with."""
        if not key:
            return None
        settings = self._settings
        if scheme.lower() in _KEY_SCHEMES:
            if settings.api_key is None or _same(key, settings.api_key):
                return "right"
            if settings.inference_api_key is not None and _same(key, settings.inference_api_key):
                return "inference"
        return "wrong"

    async def _misbehave(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not await self._pause(fault.delay) or fault.cut == "before":
            return cut(request)
        if fault.status is not None:
            response = self._problems.of_status(fault.status)
        else:
            token = FAULT.set(fault)
            try:
                response = await self._processed(request, handler)
            finally:
                FAULT.reset(token)
        if not await self._pause(fault.delay_after) or fault.cut == "after":
            return cut(request)
        response = self._numbered(changed(response, fault, self._problems), fault.clock_skew)
        if fault.partial is not None:
            return await cut_short(request, response, fault.partial)
        return response

    async def _pause(self, seconds: float) -> bool:
        """Sleep for *seconds*; return False as soon as the server closes."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass
        return not self._closing.is_set()

    def _numbered(self, response: web.Response, clock_skew: float | None = None) -> web.Response:
        self._site.answers += 1
        response.headers.setdefault("X-Request-Id", f"emulated-{self._site.answers:08d}")
        skew = self._settings.clock_skew if clock_skew is None else clock_skew
        if skew:
            response.headers.setdefault("Date", formatdate(time.time() + skew, usegmt=True))
        return response

    async def _processed(self, request: web.Request, handler: Handler) -> web.Response:
        try:
            response = await handler(request)
        except Refused as refused:
            status = self._settings.invalid_status if isinstance(refused, BrokenSchema) else refused.status
            trainer = self._trainer(request) if status == 404 else None
            return self._problems.answer(status, refused.code, trainer or refused.message)
        except web.HTTPException as error:
            # aiohttp's own, for a path or method that has no route, and for a body that is too large.
            missing = self._trainer(request) or f"{request.method} {request.path} is not a route."
            answer = self._problems.of_status(error.status, missing if error.status in {404, 405} else error.text)
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        assert isinstance(response, web.Response)  # noqa: S101 -- all handlers are ours
        return response

    def _trainer(self, request: web.Request) -> str | None:
        return trainer_message(request.method, request.path, self._site.plane)


def _credentials(request: web.Request) -> tuple[str, str]:
    """Split the `Authorization` header into its scheme and the key; a single word is a key without a scheme."""
    header = request.headers.get("Authorization", "").strip()
    scheme, blank, key = header.partition(" ")
    return (scheme, key.strip()) if blank else ("", header)


def _same(key: str, expected: str) -> bool:
    # The header may hold any byte, which compare_digest refuses in a str.
    return hmac.compare_digest(key.encode(errors="surrogateescape"), expected.encode())
