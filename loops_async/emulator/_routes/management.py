"""The routes of the management API, outside Loops, that other clients use."""

import os

from aiohttp import web

from .. import _documents as documents
from .._answers import answer
from .._shapes import TeamList
from .._site import Site


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of teams and of the deployment of a model."""
    plane = site.plane

    async def teams(request: web.Request) -> web.Response:
        # Read at each request, since a test may set the variable after the emulator has started.
        if own := os.environ.get("LOOPS_TEAM"):
            plane.add_team(own)
        wanted = request.query.get("name")
        found = [documents.team(team_id, name) for team_id, name in plane.teams.items() if wanted in {None, name}]
        return answer(TeamList(teams=found))

    async def deployment(request: web.Request) -> web.Response:
        sampler = plane.deployed(request.match_info["model_id"], request.match_info["deployment_id"], site.now())
        return answer(documents.model_deployment(sampler))

    return [
        web.get("/v1/teams", teams, allow_head=False),
        web.get("/v1/models/{model_id}/deployments/{deployment_id}", deployment, allow_head=False),
    ]
