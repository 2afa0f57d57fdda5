"""The routes of samplers."""

from aiohttp import web

from .._answers import answer, text_answer
from .._records import Sampler
from .._requests import sampler_request
from .._shapes import Gone
from .._site import Site


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes that create, get, list and deactivate samplers."""
    plane = site.plane

    def shown(sampler: Sampler, request: web.Request) -> web.Response:
        return text_answer(site.readdressed(f'{{"sampler": {site.text(sampler)}}}', request))

    async def create(request: web.Request) -> web.Response:
        wanted, team_id = sampler_request(await request.read()), request.match_info.get("team_id")
        return shown(plane.create_sampler(wanted, site.now(), site.wall(), team_id), request)

    async def get(request: web.Request) -> web.Response:
        return shown(plane.sampler(request.match_info["sampler_id"], site.now()), request)

    async def list_(request: web.Request) -> web.Response:
        team_id = request.match_info.get("team_id")
        everyone = team_id is None and request.query.get("scope") == "org"
        now, lag = site.now(), site.lag()
        if lag:
            past = plane.samplers_at(now - lag, team_id=team_id, everyone=everyone)
            texts = [site.text(sampler, status) for sampler, status in past]
        else:
            texts = [site.text(sampler) for sampler in plane.samplers(now, team_id=team_id, everyone=everyone)]
        return text_answer(site.readdressed(f'{{"samplers": [{", ".join(texts)}]}}', request))

    async def deactivate(request: web.Request) -> web.Response:
        sampler = plane.deactivate(request.match_info["sampler_id"], site.now())
        return answer(Gone(id=sampler.id, base_model=sampler.base_model, user=site.user))

    return [
        web.post("/v1/loops/samplers", create),
        web.post("/v1/teams/{team_id}/loops/samplers", create),
        web.get("/v1/loops/samplers", list_, allow_head=False),
        web.get("/v1/teams/{team_id}/loops/samplers", list_, allow_head=False),
        web.get("/v1/loops/samplers/{sampler_id}", get, allow_head=False),
        web.post("/v1/loops/samplers/{sampler_id}/deactivate", deactivate),
    ]
