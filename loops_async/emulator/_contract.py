"""The contract: `openapi.json`, whose paths are written by hand and whose schemas are generated from the types.

`python -m loops_async.emulator._contract` brings the file up to date; a test fails when it is not.
"""

import inspect
import json
from typing import Any, Final

import msgspec

from . import _admin_shapes, _sample_shapes, _shapes
from ._routes.admin import SPEC_FILE

_REF: Final = "#/components/schemas/{name}"
_SCHEMAS: Final = '    "schemas": {\n'
_BASES: Final = frozenset({"Request", "Answer", "Stage"})


def _given(name: str) -> dict[str, Any]:
    return {"properties": {name: {"type": "string"}}, "required": [name]}


def _any_of(*kinds: type[msgspec.Struct], description: str, key: str = "anyOf") -> dict[str, Any]:
    return {"description": description, key: [{"$ref": _REF.format(name=kind.__name__)} for kind in kinds]}


_ADDITIONS: Final[dict[str, dict[str, Any]]] = {
    # No type can say that at least one of three fields is there.
    "CreateSampler": {"anyOf": [_given("base_model"), _given("run_id"), _given("model_path")]},
    "Error": _any_of(
        *(_shapes.CodeError, _shapes.ReasonError, _shapes.DetailError),
        description="An error, in the shape that the emulator was started with.",
        key="oneOf",
    ),
    "OperationResult": _any_of(
        _sample_shapes.OperationDone,
        _sample_shapes.OperationFailed,
        description="What became of an operation.",
        key="oneOf",
    ),
    "FaultOrScript": {
        "description": "One fault, or a script: faults that are met one after another.",
        "anyOf": [
            {"$ref": _REF.format(name="Fault")},
            {"type": "array", "items": {"$ref": _REF.format(name="Fault")}, "minItems": 1},
        ],
    },
}


def schemas() -> dict[str, dict[str, Any]]:
    """Generate the schemas of all documents, by name."""
    kinds = [
        kind
        for module in (_shapes, _sample_shapes, _admin_shapes)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
        if kind.__name__ not in _BASES
    ]
    _, generated = msgspec.json.schema_components(kinds, ref_template=_REF)
    for name, addition in _ADDITIONS.items():
        generated[name] = generated.get(name, {}) | addition
    for schema in generated.values():
        schema.pop("title", None)
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return generated


def text() -> str:
    """Return the text that the file should have: its paths as they are, and the generated schemas, one a line."""
    by_hand, _, _ = SPEC_FILE.read_text(encoding="utf-8").partition(_SCHEMAS)
    lines = [f"      {json.dumps(name)}: {json.dumps(schema)}" for name, schema in sorted(schemas().items())]
    return by_hand + _SCHEMAS + ",\n".join(lines) + "\n    }\n  }\n}\n"


if __name__ == "__main__":
    SPEC_FILE.write_text(text(), encoding="utf-8")
