"""Settings that the tests share."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from loops_async import LoopsClient, PollPolicy, RetryPolicy

KEY = "test-key-4711"

QUICK_RETRY = RetryPolicy(initial=0.01, maximum=0.05)
QUICK_POLL = PollPolicy(initial=0.01, factor=1.0, maximum=0.02, multiples={})

ClientMaker = Callable[..., LoopsClient]


class serving:  # noqa: N801 -- reads as a statement
    """Serve a few routes on loopback."""

    def __init__(self, *routes: web.RouteDef) -> None:
        app = web.Application()
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
