"""Fixtures for tests of code that uses Loops; pytest finds them by itself.

`loops_emulator` is a running `Emulator`. In a test that uses it, `LOOPS_BASE_URL` and `BASETEN_API_KEY` point to it, so
that `LoopsClient()` needs no arguments. It is a plain fixture, which works in tests of any kind: without an event loop,
under pytest-asyncio in either mode, under anyio, and in the workers of pytest-xdist.

The fixture `loops_emulator_options` returns the settings that differ from the defaults. To change them for all tests of
a file or a folder, define that fixture there or in its `conftest.py`; for one test, parametrize it:

    @pytest.fixture
    def loops_emulator_options():
        return {"lifecycles": {"*": [("BUILDING", 2), ("DEPLOY_FAILED", None)]}}

    @pytest.mark.parametrize("loops_emulator_options", [{"speed": 1}])
    def test_something(loops_emulator): ...

With `--loops-fail-billed`, or `loops_fail_billed = true` in the configuration of pytest, a test that leaves a sampler
billed fails. The fixture `loops_fail_billed` returns that setting, and can be overridden in the same ways.
"""

# Every start of pytest loads this module, so other modules are imported only when a fixture is used.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .emulator import Emulator

SPEED = 200
"""Speed of the emulator: the half minute of `DEFAULT_LIFECYCLE` takes 150 ms."""

API_KEY = "key-of-the-emulator"
"""The only key that the emulator accepts, so that a test finds code which sends no key, or another."""

_FAIL_BILLED = "loops_fail_billed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the command line and that of the configuration."""
    what = "fail a test that leaves a sampler of loops_emulator billed"
    parser.getgroup("loops_async").addoption("--loops-fail-billed", action="store_true", help=what)
    parser.addini(_FAIL_BILLED, what, type="bool", default=False)


@pytest.fixture
def loops_emulator_options() -> Mapping[str, Any]:
    """Return arguments of `Emulator` that replace or extend those of `loops_emulator`; override this fixture."""
    return {}


@pytest.fixture
def loops_fail_billed(pytestconfig: pytest.Config) -> bool:
    """Return True if a test that leaves a sampler billed fails; by default, the options of pytest decide."""
    return bool(pytestconfig.getoption("--loops-fail-billed") or pytestconfig.getini(_FAIL_BILLED))


@pytest.fixture
def loops_emulator(
    loops_emulator_options: Mapping[str, Any], loops_fail_billed: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """Run an emulator at speed 200 that accepts only the key in `BASETEN_API_KEY`.

    It runs in a thread of its own, so that code under test which calls `asyncio.run()` can reach it. Its methods may
    be called from any thread. `LOOPS_BASE_URL` and `BASETEN_API_KEY` are set for the test, and the emulator's host is
    added to `NO_PROXY`, since a proxy cannot reach it.
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
        # The fixtures that use the emulator have ended by now; one of them may have deactivated the samplers.
        billed = [sampler for sampler in emulator.samplers if sampler.billed] if loops_fail_billed else []
    if billed:
        names = ", ".join(f"{each.id} ({each.base_model}, {each.status})" for each in billed)
        pytest.fail(f"The test left {len(billed)} of {len(emulator.samplers)} samplers billed: {names}", pytrace=False)
