"""The routes of runs, each with the sampler that is paired to it."""

from aiohttp import web

from .. import _documents as documents
from .. import _shapes as shapes
from .._answers import answer
from .._records import Run
from .._requests import run_request
from .._site import Site


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes that create, get, list and deactivate runs."""
    plane = site.plane

    def document(run: Run, moment: float, request: web.Request) -> shapes.Run:
        origin = site.reached(request)
        return documents.run(
            run,
            origin,
            site.settings.user_email,
            active=run.active(moment),
            paired=paired_document(site, run, moment, origin),
        )

    async def create(request: web.Request) -> web.Response:
        wanted, team_id = run_request(await request.read()), request.match_info.get("team_id")
        now = site.now()
        return answer(shapes.RunAnswer(run=document(plane.create_run(wanted, now, site.wall(), team_id), now, request)))

    async def get(request: web.Request) -> web.Response:
        return answer(shapes.RunAnswer(run=document(plane.run(request.match_info["run_id"]), site.now(), request)))

    async def list_(request: web.Request) -> web.Response:
        query, team_id = request.query, request.match_info.get("team_id")
        moment = site.now() - site.lag()
        found = plane.runs(
            moment,
            run_id=query.get("run_id"),
            base_model=query.get("base_model"),
            team_id=team_id,
            everyone=team_id is None and query.get("scope") == "org",
        )
        return answer(shapes.RunList(runs=[document(run, moment, request) for run in found]))

    async def deactivate(request: web.Request) -> web.Response:
        run = plane.run(request.match_info["run_id"])
        plane.deactivate_run(run, site.now())
        return answer(shapes.Gone(id=run.id, base_model=run.base_model, user=site.user))

    return [
        web.post("/v1/loops/runs", create),
        web.post("/v1/teams/{team_id}/loops/runs", create),
        web.get("/v1/loops/runs", list_, allow_head=False),
        web.get("/v1/teams/{team_id}/loops/runs", list_, allow_head=False),
        web.get("/v1/loops/runs/{run_id}", get, allow_head=False),
        web.post("/v1/loops/runs/{run_id}/deactivate", deactivate),
    ]


def paired_document(site: Site, run: Run, moment: float, origin: str) -> shapes.Sampler | None:
    """Write the sampler of a run; None if it has none."""
    paired = site.plane.paired_sampler(run, moment)
    return paired and documents.sampler(paired[0], origin, site.settings.user_email, paired[1])
