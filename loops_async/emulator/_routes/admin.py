"""The emulator's own routes: `/_emulator`, to observe and change it, and its contract at `/v1/spec`.

Requests to them are not recorded, and meet no faults.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Final

from aiohttp import web
from attrs import frozen

from .. import _admin_shapes as shapes
from .._answers import answer, text_answer
from .._fault_text import fault_document, parse_faults
from .._faults import FaultPlan
from .._gate import emulated_routes
from .._received import Record, document
from .._refused import invalid, not_found
from .._requests import status_request, whole_number
from .._shapes import Empty
from .._site import Site

SPEC_FILE: Final = Path(__file__).parents[1] / "openapi.json"


@frozen(eq=False)
class Desk:
    """The parts of an emulator that these routes use beside the control plane."""

    faults: FaultPlan
    received: Record


def routes(site: Site, desk: Desk) -> list[web.RouteDef]:
    """Return the routes for counts, received requests, faults, statuses, and the contract."""

    async def counts(_request: web.Request) -> web.Response:
        views = site.plane.views(site.now())
        samplers = shapes.SamplerCounts(
            total=len(views),
            billed=sum(view.billed for view in views),
            by_status=dict(Counter(view.status for view in views)),
        )
        return answer(shapes.Counts(samplers=samplers, requests=len(desk.received), faults=len(desk.faults.planned)))

    async def requests(request: web.Request) -> web.Response:
        found = desk.received.select(request.query.get("method"), request.query.get("route"))
        limit = whole_number(request.query, "limit", default=None, minimum=0)
        kept = found if limit is None else found[max(0, len(found) - limit) :]
        return answer(shapes.ReceivedRequests(requests=[document(each) for each in kept]))

    async def forget_requests(_request: web.Request) -> web.Response:
        desk.received.clear()
        return answer(Empty())

    def planned() -> web.Response:
        # Only the settings that were given.
        faults = [
            {"id": each.id, "left": each.left, "script": [fault_document(fault) for fault in each.faults]}
            for each in desk.faults.planned
        ]
        return text_answer(json.dumps({"faults": faults}))

    async def list_faults(_request: web.Request) -> web.Response:
        return planned()

    async def add_faults(request: web.Request) -> web.Response:
        try:
            number = desk.faults.add(*parse_faults(await request.read(), emulated_routes(request.app)))
        except ValueError as error:
            raise invalid(str(error)) from error
        return answer(shapes.FaultAdded(id=number))

    async def clear_faults(_request: web.Request) -> web.Response:
        desk.faults.clear()
        return planned()

    async def remove_fault(request: web.Request) -> web.Response:
        number = request.match_info["fault_id"]
        if not (number.isascii() and number.isdigit() and len(number) < 10 and desk.faults.remove_by_id(int(number))):
            raise not_found("Fault", number)
        return planned()

    async def set_status(request: web.Request) -> web.Response:
        sampler_id, status = request.match_info["sampler_id"], status_request(await request.read())
        site.plane.force(sampler_id, status, site.now())
        return answer(shapes.StatusSet(id=sampler_id, status=status))

    async def spec(_request: web.Request) -> web.Response:
        return web.Response(body=SPEC_FILE.read_bytes(), content_type="application/json")

    return [
        web.get("/_emulator", counts, allow_head=False),
        web.get("/_emulator/requests", requests, allow_head=False),
        web.delete("/_emulator/requests", forget_requests),
        web.get("/_emulator/faults", list_faults, allow_head=False),
        web.post("/_emulator/faults", add_faults),
        web.delete("/_emulator/faults", clear_faults),
        web.delete("/_emulator/faults/{fault_id}", remove_fault),
        web.post("/_emulator/samplers/{sampler_id}/status", set_status),
        web.get("/v1/spec", spec, allow_head=False),
    ]
