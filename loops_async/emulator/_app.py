"""The control plane as an aiohttp application: routes, key check, faults, records."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from aiohttp import web

from . import _documents as documents
from ._catalog import MODELS
from ._data_plane import DataPlane
from ._faults import Fault, FaultPlan
from ._received import ReceivedRequest
from ._refused import Refused
from ._requests import checkpoint_query, sampler_request, whole_number
from ._state import ControlPlane, Sampler

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Far above any create.
_MAX_BODY = 1024 * 1024


class Api:
    """Answer the requests of one running server out of a control plane that outlives it."""

    def __init__(
        self,
        plane: ControlPlane,
        faults: FaultPlan,
        received: list[ReceivedRequest],
        *,
        api_key: str | None,
        user_email: str | None,
        clock_skew: float,
    ) -> None:
        self.origin = ""
        """Where the server listens, known once it does."""
        self._closing = asyncio.Event()
        self._plane = plane
        self._faults = faults
        self._received = received
        self._credentials = None if api_key is None else api_key.encode()
        self._email = user_email
        self._skew = timedelta(seconds=clock_skew)
        self._answers = 0

    def application(self) -> web.Application:
        """Build the aiohttp application."""
        app = web.Application(middlewares=[self._gate], client_max_size=_MAX_BODY)
        control, data = "/v1/loops", "/models/{model_id}/deployment/{deployment_id}"
        for prefix in (control, "/v1/teams/{team_id}/loops"):
            app.router.add_post(f"{prefix}/sessions", self.create_session)
            app.router.add_post(f"{prefix}/samplers", self.create_sampler)
            app.router.add_get(f"{prefix}/samplers", self.list_samplers, allow_head=False)
        app.router.add_post(f"{control}/samplers/{{sampler_id}}/deactivate", self.deactivate_sampler)
        app.router.add_post(f"{control}/checkpoints/validate", self.validate_checkpoint)
        for path, handler in (
            ("/sessions/{session_id}", self.get_session),
            ("/samplers/{sampler_id}", self.get_sampler),
            ("/capabilities", self.get_capabilities),
            ("/checkpoints", self.list_checkpoints),
            ("/checkpoints/{checkpoint_id}/files", self.get_checkpoint_files),
            ("/checkpoints/{checkpoint_id}/source", self.get_checkpoint_source),
        ):
            app.router.add_get(control + path, handler, allow_head=False)
        app.router.add_post(f"{data}/wake", self.wake)
        app.add_routes(DataPlane(self._plane).routes(f"{data}/sync"))
        return app

    def close(self) -> None:
        """End all delays now, without an answer."""
        self._closing.set()

    async def create_session(self, request: web.Request) -> web.Response:
        session_id = self._plane.create_session(request.match_info.get("team_id"))
        return _answer({"session": {"id": session_id}})

    async def get_session(self, request: web.Request) -> web.Response:
        return _answer({"session": {"id": self._plane.session(request.match_info["session_id"])}})

    async def create_sampler(self, request: web.Request) -> web.Response:
        sampler = self._plane.create_sampler(
            sampler_request(await request.read()),
            time.monotonic(),
            datetime.now(UTC) + self._skew,
            request.match_info.get("team_id"),
        )
        return self._sampler_answer(sampler)

    async def get_sampler(self, request: web.Request) -> web.Response:
        return self._sampler_answer(self._plane.sampler(request.match_info["sampler_id"], time.monotonic()))

    async def list_samplers(self, request: web.Request) -> web.Response:
        team_id = request.match_info.get("team_id")
        everyone = team_id is None and request.query.get("scope") == "org"
        samplers = self._plane.samplers(time.monotonic(), team_id=team_id, everyone=everyone)
        return _text_answer(f'{{"samplers": [{", ".join(map(self._text, samplers))}]}}')

    async def deactivate_sampler(self, request: web.Request) -> web.Response:
        sampler = self._plane.deactivate(request.match_info["sampler_id"], time.monotonic())
        return _answer({"id": sampler.id, "base_model": sampler.base_model, "user": documents.user(self._email)})

    async def get_capabilities(self, request: web.Request) -> web.Response:
        wanted = request.query.get("model")
        max_seq_len = whole_number(request.query, "max_seq_len", default=None, minimum=1)
        models = [model for model in MODELS if wanted in {None, model.name}]
        return _answer({"supported_models": [documents.supported_model(model, max_seq_len) for model in models]})

    async def list_checkpoints(self, request: web.Request) -> web.Response:
        query = request.query
        found = self._plane.checkpoints(
            run_id=query.get("run_id"),
            base_model=query.get("base_model"),
            checkpoint_path=query.get("checkpoint_path"),
        )
        return _answer({"checkpoints": [documents.checkpoint(each) for each in found]})

    async def validate_checkpoint(self, request: web.Request) -> web.Response:
        self._plane.validate_checkpoint(*checkpoint_query(await request.read()))
        return _answer({})

    async def get_checkpoint_files(self, request: web.Request) -> web.Response:
        checkpoint = self._plane.checkpoint(request.match_info["checkpoint_id"])
        limit = whole_number(request.query, "page_size", default=1000, minimum=1)
        offset = whole_number(request.query, "page_token", default=0, minimum=0)
        return _answer(documents.checkpoint_files(checkpoint, self.origin, offset=offset or 0, limit=limit or 1000))

    async def get_checkpoint_source(self, request: web.Request) -> web.Response:
        self._plane.checkpoint(request.match_info["checkpoint_id"])
        return _answer({"source": {"kind": "s3"}})

    async def wake(self, request: web.Request) -> web.Response:
        self._plane.wake(request.match_info["model_id"], request.match_info["deployment_id"], time.monotonic())
        return _answer({}, status=202)

    def _text(self, sampler: Sampler) -> str:
        return documents.sampler_text(sampler, self.origin, self._email)

    def _sampler_answer(self, sampler: Sampler) -> web.Response:
        return _text_answer(f'{{"sampler": {self._text(sampler)}}}')

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Write the request down, check its key, let it meet a fault, and number the answer."""
        resource = request.match_info.route.resource
        route = None if resource is None else resource.canonical
        refusal = await self._record(request, route)
        if request.transport is None:
            return web.Response()
        if refusal is None and not self._authorised(request):
            refusal = _problem(401, "UNAUTHORIZED", "The API key is missing or wrong.")
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
                refusal = _problem(413, "CONTENT_TOO_LARGE", error.text or "The body is too large.")
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
            return _cut(request)
        if fault.status is not None:
            response = _problem_of(fault.status)
        else:
            response = await _processed(request, handler)
        if not await self._pause(fault.delay_after) or fault.cut == "after":
            return _cut(request)
        response = self._numbered(_changed(response, fault))
        if fault.partial is not None:
            return await _cut_short(request, response, fault.partial)
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
        return _problem(refused.status, refused.code, refused.message)
    except web.HTTPException as error:
        # aiohttp's own, for a path or method that has no route.
        answer = _problem_of(error.status, f"{request.method} {request.path} is not a route.")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    assert isinstance(response, web.Response)  # noqa: S101 -- all handlers are ours
    return response


def _answer(document: dict[str, Any], *, status: int = 200) -> web.Response:
    return _text_answer(json.dumps(document), status=status)


def _text_answer(text: str, *, status: int = 200) -> web.Response:
    return web.Response(body=text.encode(), status=status, content_type="application/json")


def _problem(status: int, code: str, message: str) -> web.Response:
    return _answer({"code": code, "message": message}, status=status)


def _problem_of(status: int, message: str | None = None) -> web.Response:
    try:
        known = HTTPStatus(status)
    except ValueError:
        return _problem(status, "UNKNOWN", message or "An emulated fault.")
    return _problem(status, known.name, message or f"{known.phrase} (an emulated fault).")


def _changed(response: web.Response, fault: Fault) -> web.Response:
    """Put the status, body and headers that a fault asks for in the place of the usual ones."""
    if fault.status_after is not None:
        response = _problem_of(fault.status_after)
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


def _cut(request: web.Request) -> web.Response:
    """Drop the connection; aiohttp wants a response all the same, and finds nobody to send it to."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut_short(request: web.Request, response: web.Response, length: int) -> web.StreamResponse:
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
