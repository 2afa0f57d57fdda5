"""Lifecycles as text."""

import json
from typing import Any

from attrs import fields_dict

from ._lifecycle import ANY_MODEL, Stage, lifecycle

_PAIR = 2


def parse_lifecycles(text: str | bytes) -> dict[str, tuple[Stage, ...]]:
    """Read lifecycles from JSON: an array of stages for all models, or an object of such arrays by base model.

    A stage is an object with the names of `Stage`, or a pair of status and seconds. In the
    place of an array may stand a name out of `COURSES`.

    Raises:
        ValueError: it is nothing like that, or a lifecycle makes no sense.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("lifecycles must be valid JSON") from None
    by_model = document if isinstance(document, dict) else {ANY_MODEL: document}
    return {model: _stages(stages) for model, stages in by_model.items()}


def _stages(document: object) -> tuple[Stage, ...]:
    if isinstance(document, str):
        return lifecycle(document)
    if not isinstance(document, list):
        raise ValueError("a lifecycle must be an array of stages, or a name")
    return lifecycle(_stage(each) for each in document)


def _stage(document: object) -> Stage:
    if isinstance(document, list) and len(document) == _PAIR:
        document = {"status": document[0], "seconds": document[1]}
    if not isinstance(document, dict):
        raise ValueError("a stage must be an object, or a pair of status and seconds")
    settings: dict[str, Any] = document
    known = fields_dict(Stage)
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{name!r} is no setting of a stage")
        wanted = str if name in {"status", "then", "fails_as", "preempted"} else (int, float)
        nullable = known[name].default is None
        if not (value is None and nullable) and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(f"{name} of a stage cannot be {value!r}")
    if "status" not in settings:
        raise ValueError("a stage needs the name of a status")
    return Stage(**settings)
