"""The handlers, one module for each resource; every module's `routes(site)` gives its routes.

Routes that name a team have the handler of the route without one, and `team_id` in
their path.
"""

from aiohttp import web

from .._site import Site
from . import capabilities, checkpoints, inference, samplers, sessions

_RESOURCES = (sessions, samplers, capabilities, checkpoints, inference)


def all_routes(site: Site) -> list[web.RouteDef]:
    """Give the routes of all resources."""
    return [route for resource in _RESOURCES for route in resource.routes(site)]
