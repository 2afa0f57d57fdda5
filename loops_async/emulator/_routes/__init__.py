"""The handlers, one module for each resource; every module's `routes(site)` returns its routes.

A route with a team in its path has the same handler as the route without one, and the
parameter `team_id`.
"""

from aiohttp import web

from .._site import Site
from . import admin, capabilities, checkpoints, inference, management, runs, samplers, sessions, trainers

_RESOURCES = (sessions, samplers, capabilities, checkpoints, runs, trainers, management, inference)


def all_routes(site: Site, desk: admin.Desk) -> list[web.RouteDef]:
    """Return the routes of all resources, and those of the emulator itself."""
    return [*(route for resource in _RESOURCES for route in resource.routes(site)), *admin.routes(site, desk)]
