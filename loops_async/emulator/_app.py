"""The control plane as an aiohttp application."""

from aiohttp import web
from attrs import evolve

from ._gate import Gate
from ._routes import all_routes
from ._routes.admin import Desk
from ._site import Site

# Far above any create.
_MAX_BODY = 1024 * 1024


def application(site: Site, gate: Gate, desk: Desk) -> web.Application:
    """Build the application: all routes, each behind the gate."""
    app = web.Application(middlewares=[gate.middleware], client_max_size=_MAX_BODY)
    for route in all_routes(site, desk):
        app.add_routes([evolve(route, kwargs={**route.kwargs, "expect_handler": gate.expect})])
    return app
