"""The data plane: what a deployment itself answers."""

from aiohttp import web

from .._answers import answer
from .._lifecycle import ACTIVE
from .._refused import Refused
from .._site import Site

DEPLOYMENT = "/models/{model_id}/deployment/{deployment_id}"


def routes(site: Site) -> list[web.RouteDef]:
    """Wake, and the models that are served."""
    plane = site.plane

    async def wake(request: web.Request) -> web.Response:
        plane.wake(request.match_info["model_id"], request.match_info["deployment_id"], site.now())
        return answer({}, status=202)

    async def served_models(request: web.Request) -> web.Response:
        sampler = plane.deployment(request.match_info["model_id"], request.match_info["deployment_id"], site.now())
        status = sampler.progress.status
        # Any request wakes a sampler up, not only a wake.
        plane.use(sampler, site.now())
        if status != ACTIVE:
            raise Refused(503, "NOT_READY", f"The deployment is {status}.")
        model = {
            "id": sampler.base_model,
            "object": "model",
            "created": int(sampler.created_at.timestamp()),
            "owned_by": "baseten",
            "parent": None,
        }
        return answer({"object": "list", "data": [model]})

    return [
        web.post(f"{DEPLOYMENT}/wake", wake),
        web.get(f"{DEPLOYMENT}/sync/v1/models", served_models, allow_head=False),
    ]
