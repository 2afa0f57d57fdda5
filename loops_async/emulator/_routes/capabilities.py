"""The route of the base models that the service can run."""

from aiohttp import web

from .. import _documents as documents
from .._answers import answer
from .._requests import whole_number
from .._shapes import Capabilities
from .._site import Site


def routes(site: Site) -> list[web.RouteDef]:
    """Return the route that lists the base models."""

    async def get(request: web.Request) -> web.Response:
        wanted = request.query.get("model")
        max_seq_len = whole_number(request.query, "max_seq_len", default=None, minimum=1)
        models = [model for model in site.plane.catalog.models if wanted in {None, model.name}]
        return answer(
            Capabilities(supported_models=[documents.supported_model(model, max_seq_len) for model in models])
        )

    return [web.get("/v1/loops/capabilities", get, allow_head=False)]
