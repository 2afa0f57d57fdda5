"""Fixtures for those who test code that uses Loops; pytest finds them by itself.

`loops_emulator` is a running `Emulator`, and while a test has it, `LOOPS_BASE_URL` and `BASETEN_API_KEY` lead to it.
`loops_client` is a `LoopsClient` on it. Both are plain fixtures, so that they work in tests of any kind: without an
event loop, under pytest-asyncio in either mode, under anyio, and in the workers of pytest-xdist.

The settings are two fixtures that return those which are to be different. To change them for all tests of a file or a
folder, define them there or in its `conftest.py`; for one test, parametrize them:

    @pytest.fixture
    def loops_emulator_options():
        return {"lifecycles": {"*": [("BUILDING", 2), ("DEPLOY_FAILED", None)]}}

    @pytest.mark.parametrize("loops_emulator_options", [{"speed": 1}])
    def test_something(loops_emulator): ...
"""

# Nothing but pytest is imported before a fixture is used: every start of pytest loads this module.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._client import LoopsClient
    from .emulator import Emulator

SPEED = 200
"""What takes half a minute in `DEFAULT_LIFECYCLE` takes 150 ms."""

API_KEY = "key-of-the-emulator"
"""Only this key is let in, so that code which sends none, or another, is caught."""


@pytest.fixture
def loops_emulator_options() -> Mapping[str, Any]:
    """Return arguments of `Emulator` that replace or extend those of `loops_emulator`; override this fixture."""
    return {}


@pytest.fixture
def loops_client_options() -> Mapping[str, Any]:
    """Return arguments of `LoopsClient` that replace or extend those of `loops_client`; override this fixture."""
    return {}


@pytest.fixture
def loops_emulator(loops_emulator_options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run an emulator, 200 times faster than it would be, that lets in the key in `BASETEN_API_KEY` only.

    It runs in a thread of its own, so that `asyncio.run()` in the code under test reaches it as well. Its methods may
    be called from any thread. `LOOPS_BASE_URL` and `BASETEN_API_KEY` are set for the test, and `NO_PROXY` names the
    emulator's host in addition, since a proxy cannot reach it.
    """
    import os
    from urllib.parse import urlsplit

    from .emulator._background import BackgroundEmulator

    options = {"speed": SPEED, "api_key": API_KEY, **loops_emulator_options}
    with BackgroundEmulator(**options) as emulator:
        monkeypatch.setenv("LOOPS_BASE_URL", emulator.url)
        monkeypatch.setenv("BASETEN_API_KEY", options["api_key"] or "any-key")
        exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, f"{exceptions},{urlsplit(emulator.url).hostname}".lstrip(","))
        yield emulator


@pytest.fixture
def loops_client(loops_emulator: Emulator, loops_client_options: Mapping[str, Any]) -> Iterator[LoopsClient]:
    """Make a client of `loops_emulator` that repeats quickly what failed, and close it after the test.

    It belongs to the event loop in which the test first uses it, and is closed with that loop, if that ends earlier.
    """
    from ._client import LoopsClient
    from ._http.retry import RetryPolicy
    from ._loop_end import LoopEnd

    options = {
        "retry": RetryPolicy(initial=0.01, maximum=0.05),
        "request_timeout": 10.0,
        "trust_env": False,
        **loops_client_options,
    }
    client = LoopsClient(**options)
    end = LoopEnd(client)
    yield client
    end.close()
