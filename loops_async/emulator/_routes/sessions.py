"""The routes of sessions."""

from aiohttp import web

from .._answers import answer
from .._shapes import Session, SessionAnswer
from .._site import Site


def _answer(session_id: str) -> web.Response:
    return answer(SessionAnswer(session=Session(id=session_id)))


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes that create and get sessions."""

    async def create(request: web.Request) -> web.Response:
        return _answer(site.plane.create_session(request.match_info.get("team_id")))

    async def get(request: web.Request) -> web.Response:
        return _answer(site.plane.session(request.match_info["session_id"]))

    return [
        web.post("/v1/loops/sessions", create),
        web.post("/v1/teams/{team_id}/loops/sessions", create),
        web.get("/v1/loops/sessions/{session_id}", get, allow_head=False),
    ]
