"""Lifecycles as JSON."""

import msgspec

from . import _admin_shapes as shapes
from ._lifecycle import ANY_MODEL, Stage, lifecycle
from ._reading import Misfit, parsed, read

_PAIR = 2


def parse_lifecycles(text: str | bytes) -> dict[str, tuple[Stage, ...]]:
    """Read lifecycles from JSON: an array of stages for all models, or an object of such arrays by base model.

    A stage is an object with the settings of `Stage`, or a pair of status and seconds. An array
    can be replaced by a name out of `COURSES`.

    Raises:
        ValueError: it is none of these, or a lifecycle is not valid.
    """
    try:
        document = parsed(text)
    except ValueError:
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
    try:
        return Stage(**msgspec.structs.asdict(read(document, shapes.Stage)))
    except Misfit as misfit:
        raise ValueError(misfit.of("a stage")) from None
