"""The routes of trainer deployments; each run has one, which is deactivated with it."""

from aiohttp import web

from .. import _documents as documents
from .. import _shapes as shapes
from .._answers import answer
from .._records import Run
from .._site import Site
from .runs import paired_document


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes that get, list and deactivate trainer deployments."""
    plane = site.plane

    def document(run: Run, moment: float, request: web.Request) -> shapes.TrainerDeployment:
        origin = site.reached(request)
        progress, active = run.trainer.at(moment), run.active(moment)
        return documents.trainer_deployment(
            run,
            origin,
            site.settings.user_email,
            status=progress.status if progress is not None and active else "STOPPED",
            active=active,
            paired=paired_document(site, run, moment, origin),
        )

    async def get(request: web.Request) -> web.Response:
        run = plane.run_of_deployment(request.match_info["deployment_id"])
        return answer(shapes.TrainerDeploymentAnswer(deployment=document(run, site.now(), request)))

    async def list_(request: web.Request) -> web.Response:
        moment = site.now() - site.lag()
        found = plane.runs(moment, everyone=request.query.get("scope") == "org")
        return answer(
            shapes.TrainerDeploymentList(
                deployments=[document(run, moment, request) for run in found if run.active(moment)]
            )
        )

    async def deactivate(request: web.Request) -> web.Response:
        run = plane.run_of_deployment(request.match_info["deployment_id"])
        plane.deactivate_run(run, site.now())
        return answer(shapes.Gone(id=run.deployment_id, base_model=run.base_model, user=site.user))

    return [
        web.get("/v1/loops/deployments", list_, allow_head=False),
        web.get("/v1/loops/deployments/{deployment_id}", get, allow_head=False),
        web.post("/v1/loops/deployments/{deployment_id}/deactivate", deactivate),
    ]
