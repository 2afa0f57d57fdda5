"""The handlers, one module for each resource; every module's `routes(site)` gives its routes.

Routes that name a team have the handler of the route without one, and `team_id` in
their path.
"""

from aiohttp import web

from .._site import Site
from . import admin, capabilities, checkpoints, inference, management, runs, samplers, sessions, trainers

_RESOURCES = (sessions, samplers, capabilities, checkpoints, runs, trainers, management, inference)


def all_routes(site: Site, desk: admin.Desk) -> list[web.RouteDef]:
    """Give the routes of all resources, and those of the emulator itself."""
    return [*(route for resource in _RESOURCES for route in resource.routes(site)), *admin.routes(site, desk)]
