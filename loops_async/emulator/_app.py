"""The control plane as an aiohttp application."""

from aiohttp import web
from attrs import evolve

from ._gate import MAX_BODY, Gate
from ._models import DEFAULT_MAX_SEQ_LEN
from ._routes import all_routes
from ._routes.admin import Desk
from ._site import Site

# Twice the digits of a token id, a comma and a space: enough for the longest prompt and the other fields.
_BYTES_OF_PROMPT_TOKEN = 16


def application(site: Site, gate: Gate, desk: Desk) -> web.Application:
    """Build the application: all routes, each behind the gate."""
    longest = max((model.max_seq_len for model in site.plane.catalog.models), default=0)
    max_prompt = _BYTES_OF_PROMPT_TOKEN * max(longest, DEFAULT_MAX_SEQ_LEN)
    app = web.Application(middlewares=[gate.middleware], client_max_size=MAX_BODY + max_prompt)
    for route in all_routes(site, desk):
        app.add_routes([evolve(route, kwargs={**route.kwargs, "expect_handler": gate.expect})])
    return app
