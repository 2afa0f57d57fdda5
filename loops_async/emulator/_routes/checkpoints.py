"""The routes of checkpoints."""

from aiohttp import web

from .. import _documents as documents
from .. import _shapes as shapes
from .._answers import answer
from .._gate import PRESIGNED_ROUTE
from .._requests import checkpoint_query, whole_number
from .._site import Site


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes that list and validate checkpoints, and list and serve the files of one."""
    plane = site.plane

    async def list_(request: web.Request) -> web.Response:
        query = request.query
        found = plane.checkpoints(
            run_id=query.get("run_id"),
            base_model=query.get("base_model"),
            checkpoint_path=query.get("checkpoint_path"),
        )
        return answer(shapes.CheckpointList(checkpoints=[documents.checkpoint(each) for each in found]))

    async def validate(request: web.Request) -> web.Response:
        wanted = checkpoint_query(await request.read())
        plane.validate_checkpoint(wanted.checkpoint_path, wanted.run_id)
        return answer(shapes.Empty())

    async def files(request: web.Request) -> web.Response:
        checkpoint = plane.checkpoint(request.match_info["checkpoint_id"])
        limit = whole_number(request.query, "page_size", default=1000, minimum=1)
        offset = whole_number(request.query, "page_token", default=0, minimum=0)
        return answer(
            documents.checkpoint_files(checkpoint, site.reached(request), offset=offset or 0, limit=limit or 1000)
        )

    async def download(request: web.Request) -> web.Response:
        content = plane.checkpoint_file(request.match_info["checkpoint_id"], request.match_info["name"])
        return web.Response(body=content, content_type="application/octet-stream")

    async def source(request: web.Request) -> web.Response:
        plane.checkpoint(request.match_info["checkpoint_id"])
        return answer(shapes.CheckpointSource(source=shapes.Source(kind="s3")))

    return [
        web.get("/v1/loops/checkpoints", list_, allow_head=False),
        web.post("/v1/loops/checkpoints/validate", validate),
        web.get("/v1/loops/checkpoints/{checkpoint_id}/files", files, allow_head=False),
        web.get(PRESIGNED_ROUTE, download, allow_head=False),
        web.get("/v1/loops/checkpoints/{checkpoint_id}/source", source, allow_head=False),
    ]
