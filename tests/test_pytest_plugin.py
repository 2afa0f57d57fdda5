"""The fixture as a user's project gets it, in every kind of test.

Each of these tests runs pytest on a project of its own. Starting it takes seconds, so most do it in the process that
they run in themselves; those about workers, about what is imported and about what comes after the tests do not.
"""

from __future__ import annotations

import re

import pytest

pytest_plugins = ["pytester"]

# Some of these tests start a process, on a machine that may be busy with all the others.
SECONDS = 80
pytestmark = pytest.mark.timeout(SECONDS + 10)

TRAINING = """
import asyncio
from loops_async import LoopsClient, PollPolicy, wait_until_active

QUICK = PollPolicy(initial=0.01, maximum=0.02)

async def use(loops):
    session = await loops.sessions.create()
    sampler = await loops.samplers.create(session_id=session.id, base_model="m")
    try:
        return await wait_until_active(loops, sampler, policy=QUICK)
    finally:
        await loops.samplers.deactivate(sampler.id)

async def train():
    async with LoopsClient() as loops:
        return await use(loops)
"""

CONFTEST = """
import pytest

@pytest.fixture
def loops_emulator_options():
    return {"speed": 5000}

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

# In the tests below, %s stands for the mark of the mode, or for nothing.
ASYNC_TESTS = """
import asyncio
import pytest
from loops_async import AuthenticationError, LoopsClient, RetryPolicy
from loops_async.emulator import Fault
from training import train, use

%s
async def test_code_that_makes_its_own_client(loops_emulator):
    assert (await train()).base_url.startswith(loops_emulator.url)
    assert len(loops_emulator.samplers) == 1
    assert not loops_emulator.billed

%s
@pytest.mark.parametrize("turn", range(3))
async def test_a_client_of_ones_own(turn, loops_emulator):
    loops_emulator.add_fault(Fault(method="GET", status=503, times=2))
    async with LoopsClient(retry=RetryPolicy(initial=0.01, maximum=0.05)) as loops:
        assert (await use(loops)).status == "ACTIVE"
    assert not loops_emulator.billed

%s
async def test_a_wrong_key_is_refused(loops_emulator):
    async with LoopsClient("other") as loops:
        with pytest.raises(AuthenticationError):
            await loops.samplers.list()

%s
async def test_an_outage(loops_emulator):
    async with LoopsClient(retry=RetryPolicy(initial=0.01, maximum=0.05)) as loops:
        await loops_emulator.aclose()
        listing = asyncio.create_task(loops.samplers.list())
        await asyncio.sleep(0.01)
        await loops_emulator.start()
        assert await listing == ()
"""

SYNC_TESTS = """
import asyncio
import os
import threading
from training import train

def test_code_that_makes_its_own_client(loops_emulator):
    for _ in range(2):
        assert asyncio.run(train()).base_url.startswith(loops_emulator.url)
    assert len(loops_emulator.samplers) == 2
    assert not loops_emulator.billed

def test_the_environment_is_as_it_was():
    assert (os.environ.get("LOOPS_BASE_URL"), os.environ["BASETEN_API_KEY"]) == (None, "real")
    assert not [thread for thread in threading.enumerate() if thread.name == "loops-emulator"]

def test_the_environment_can_be_changed_on_top(loops_emulator, monkeypatch):
    assert os.environ["LOOPS_BASE_URL"] == loops_emulator.url
    monkeypatch.setenv("LOOPS_BASE_URL", "https://example.com")

def test_and_is_as_it_was_after_that():
    test_the_environment_is_as_it_was()
"""

OPTIONS_TESTS = """
import asyncio
import os
import pytest
from loops_async import SamplerFailed
from training import train

@pytest.fixture
def loops_emulator_options():
    return {"lifecycles": {"*": [("BUILD_FAILED", None)]}}

def test_for_a_file(loops_emulator):
    with pytest.raises(SamplerFailed):
        asyncio.run(train())
    assert os.environ["BASETEN_API_KEY"] == "key-of-the-emulator"

@pytest.mark.parametrize("loops_emulator_options", [{"api_key": None}, {"api_key": "k"}])
def test_for_one_test(loops_emulator, loops_emulator_options):
    assert asyncio.run(train()).status == "ACTIVE"
    assert os.environ["BASETEN_API_KEY"] == (loops_emulator_options["api_key"] or "any-key")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose tests may not warn of anything."""
    monkeypatch.setenv("BASETEN_API_KEY", "real")
    pytester.makepyfile(training=TRAINING)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        # What is of no use here takes each pytest seconds to load.
        "[pytest]\naddopts = --strict-markers -p no:hypothesispytest -p no:schemathesis -p no:cacheprovider\n"
        # The second is about pytest-asyncio's own setting, which not every mode here can have.
        "filterwarnings =\n    error\n    ignore:The configuration option\n"
    )
    return pytester


def passed(project: pytest.Pytester, count: int, *arguments: str, in_process: bool = True) -> None:
    result = project.runpytest(*arguments) if in_process else in_its_own_process(project, *arguments)
    result.assert_outcomes(passed=count)
    assert result.ret == 0
    # What comes too late to fail a test.
    assert not re.search("unclosed|never retrieved|never awaited|was destroyed", result.stderr.str(), re.IGNORECASE)


def in_its_own_process(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # Assertions need no words, and rewriting those of the plugins takes each process a second.
    return project.runpytest_subprocess("--assert=plain", *arguments, timeout=SECONDS)


def test_without_a_loop_and_with_other_settings(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=SYNC_TESTS, test_b=OPTIONS_TESTS)
    passed(project, 7, "-p", "no:asyncio", "-p", "no:anyio")


def test_under_pytest_asyncio_in_strict_mode_with_anyio_beside_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_a=ASYNC_TESTS.replace("%s", "@pytest.mark.asyncio"),
        test_b=ASYNC_TESTS.replace("%s", "@pytest.mark.asyncio(loop_scope='module')"),
        test_c=ASYNC_TESTS.replace("%s", "@pytest.mark.anyio"),
    )
    passed(project, 18, "--asyncio-mode=strict")


def test_under_pytest_asyncio_in_auto_mode(project: pytest.Pytester) -> None:
    project.makepyfile(ASYNC_TESTS.replace("%s", ""))
    passed(project, 6, "--asyncio-mode=auto", "-p", "no:anyio")


def test_under_anyio_alone(project: pytest.Pytester) -> None:
    project.makepyfile(ASYNC_TESTS.replace("%s", "@pytest.mark.anyio"))
    passed(project, 6, "-p", "no:asyncio")


def test_in_workers_beside_each_other(project: pytest.Pytester) -> None:
    project.makepyfile(test_a=SYNC_TESTS, test_b=ASYNC_TESTS.replace("%s", ""))
    passed(project, 10, "-n", "2", "--dist", "loadfile", "--asyncio-mode=auto", in_process=False)


BILLED_TESTS = """
import asyncio
import pytest
from loops_async import LoopsClient
from training import train

async def forget():
    async with LoopsClient() as loops:
        session = await loops.sessions.create()
        await loops.samplers.create(session_id=session.id, base_model="forgotten/model")

def test_that_forgets(loops_emulator):
    asyncio.run(forget())

def test_that_does_not(loops_emulator):
    asyncio.run(train())

@pytest.fixture
def tidy(loops_emulator):
    yield
    for sampler in loops_emulator.samplers:
        loops_emulator.set_status(sampler.id, "INACTIVE")

def test_whose_fixture_does_not(loops_emulator, tidy):
    asyncio.run(forget())

@pytest.mark.parametrize("loops_fail_billed", [False])
def test_that_may_forget(loops_emulator, loops_fail_billed):
    asyncio.run(forget())
"""


@pytest.mark.parametrize("by", ["option", "configuration", "fixture"])
def test_a_test_that_leaves_a_sampler_billed_fails_where_that_is_asked_for(project: pytest.Pytester, by: str) -> None:
    project.makepyfile(test_billed=BILLED_TESTS)
    arguments = []
    if by == "option":
        arguments = ["--loops-fail-billed"]
    elif by == "configuration":
        arguments = ["-o", "loops_fail_billed=true"]
    else:
        project.makeconftest(CONFTEST + "\n@pytest.fixture\ndef loops_fail_billed():\n    return True\n")
    result = project.runpytest(*arguments)
    # The check comes after the fixtures that use the emulator, and so as an error of the test's teardown.
    result.assert_outcomes(passed=4, errors=1)
    assert result.ret == 1
    output = result.stdout.str()
    assert re.search(r"ERROR at teardown of test_that_forgets\b", output)
    assert re.search(r"The test left 1 of 1 samplers billed: \w{7} \(forgotten/model, \w+\)", output)


def test_it_does_not_where_nobody_asks_for_it(project: pytest.Pytester) -> None:
    project.makepyfile(test_billed=BILLED_TESTS)
    passed(project, 4)


CHECKPOINT_TESTS = """
import json
import os
import urllib.request
import pytest
from loops_async.emulator import Stage

PATH = "bt://loops:k4q95w5/sampler_weights/step-100"

@pytest.fixture
def loops_emulator_options():
    return {"lifecycles": {"*": [Stage("ACTIVE")]}}

def post(url, document, **headers):
    headers["Authorization"] = f"Api-Key {os.environ['BASETEN_API_KEY']}"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(document).encode(), names)) as answer:
        return json.load(answer)

def sample(emulator, headers, **spec):
    session = post(f"{emulator.url}/v1/loops/sessions", {})["session"]["id"]
    sampler = post(f"{emulator.url}/v1/loops/samplers", {"session_id": session, **spec})["sampler"]
    body = {"prompt": [1], "seed": 1, "max_tokens": 30, "ignore_eos": True}
    return post(f"{sampler['base_url']}/sample", body, **headers)["choices"][0]["text"]

def check(emulator, headers):
    base = sample(emulator, {}, base_model="Qwen/Qwen3-8B")
    assert sample(emulator, headers, model_path=PATH) != base

def test_that_names_the_checkpoint(loops_emulator):
    check(loops_emulator, {"X_Checkpoint_Path": PATH})

def test_that_forgets_the_header(loops_emulator):
    check(loops_emulator, {})
"""


def test_code_that_forgets_the_header_of_its_checkpoint_fails(project: pytest.Pytester) -> None:
    project.makepyfile(test_checkpoint=CHECKPOINT_TESTS)
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_checkpoint.py::test_that_forgets_the_header*"])


def test_no_proxy_of_the_environment_comes_between(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 discards what comes, where anything listens on it at all.
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    project.makepyfile(
        """
        import asyncio
        import os
        from training import train

        def test_a_client_of_the_code(loops_emulator):
            asyncio.run(train())
            assert os.environ["NO_PROXY"].startswith("intranet.example,")

        def test_the_environment_is_as_it_was():
            assert os.environ["NO_PROXY"] == "intranet.example"
            assert "no_proxy" not in os.environ
        """
    )
    passed(project, 2)


def test_a_client_that_nobody_closes_is_not_silenced(project: pytest.Pytester) -> None:
    """Clients are the matter of the code under test."""
    project.makepyfile(
        """
        import asyncio, gc
        from loops_async import LoopsClient

        def test_it(loops_emulator):
            asyncio.run(LoopsClient().samplers.list())
            gc.collect()
        """
    )
    result = in_its_own_process(project, "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist")
    assert result.ret != 0
    assert "Unclosed client session" in result.stdout.str() + result.stderr.str()


def test_nothing_is_loaded_before_a_fixture_is_used(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other people's plugins load whatever they like.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.makepyfile(
        """
        import sys

        def test_it():
            assert "loops_async.pytest_plugin" in sys.modules
            assert not {"aiohttp", "attrs", "msgspec", "loops_async.emulator", "asyncio"} & sys.modules.keys()
        """
    )
    passed(project, 1, "-p", "loops_async.pytest_plugin", in_process=False)
