"""The routes of the data plane: those of a deployment, and those of the gateway of serverless samplers."""

from aiohttp import web

from .._answers import answer
from .._data_plane import DataPlane
from .._serverless import Serverless
from .._shapes import Empty
from .._site import Site

DEPLOYMENT = "/models/{model_id}/deployment/{deployment_id}"


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes for wakes, the served models, and samples."""
    plane = site.plane

    async def wake(request: web.Request) -> web.Response:
        plane.wake(request.match_info["model_id"], request.match_info["deployment_id"], site.now())
        return answer(Empty(), status=202)

    return [
        web.post(f"{DEPLOYMENT}/wake", wake),
        *DataPlane(site).routes(f"{DEPLOYMENT}/sync"),
        *Serverless(site).routes(),
    ]
