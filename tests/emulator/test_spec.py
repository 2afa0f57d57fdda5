"""The contract: what `/v1/spec` says is what the emulator does, and all that it does."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import loops_async.emulator
from loops_async.emulator import Emulator, Stage, _contract

from .support import Client

FILE = Path(loops_async.emulator.__file__).with_name("openapi.json")
METHODS = {"get", "post", "put", "patch", "delete"}

# Whatever is schema-valid is accepted, apart from rules that a schema cannot express, such as exactly one of three
# query parameters.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth,use_after_free"
)


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    paths = json.loads(FILE.read_text(encoding="utf-8"))["paths"]
    return {
        (method.upper(), path): operation
        for path, item in paths.items()
        for method, operation in item.items()
        if method in METHODS
    }


async def test_the_document_is_served_to_anybody_as_it_ships() -> None:
    async with Emulator(api_key="key") as emulator, aiohttp.ClientSession() as http:
        assert await Client(emulator, http).get("/v1/spec") == json.loads(FILE.read_text(encoding="utf-8"))


def test_the_document_is_in_step_with_the_types() -> None:
    assert FILE.read_text(encoding="utf-8") == _contract.text(), "run python -m loops_async.emulator._contract"


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    app, *_ = Emulator()._application()
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    assert operations().keys() == routes


def test_operations_have_names_of_their_own_and_links_lead_to_them() -> None:
    names = [operation["operationId"] for operation in operations().values()]
    assert len(set(names)) == len(names)
    links = [
        link["operationId"]
        for operation in operations().values()
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert links
    assert set(links) <= set(names)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))
    used: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            used.update([node["$ref"]] if "$ref" in node else ())
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    components = document["components"]
    named = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses", "headers") for name in components[kind]}
    assert used == named


# Some seconds where nothing else runs, most of them schemathesis' own; what is busy elsewhere must not fail it.
@pytest.mark.timeout(150)
# Faults and forced statuses make other requests fail, as they should: what switches them on is tried by itself.
@pytest.mark.parametrize(
    ("selection", "phases"),
    [("--exclude-tag=emulator", "coverage,fuzzing,stateful"), ("--include-tag=emulator", "coverage")],
    ids=["emulated", "own"],
)
async def test_answers_are_within_the_document_whatever_is_asked(selection: str, phases: str, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    lifecycles = {"*": [Stage("ACTIVE")]}
    async with Emulator(api_key="key", lifecycles=lifecycles) as emulator:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{emulator.url}/v1/spec", selection),
            *("--header", "Authorization: Api-Key key", "--checks", CHECKS),
            *("--phases", phases, "--max-examples", "2", "--generation-deterministic", "--no-color", "--workers", "1"),
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, output.decode()
        if selection.startswith("--exclude"):
            assert len({(each.method, each.route) for each in emulator.received}) > 20
            assert len(emulator.samplers) > 3
