"""Reading of request bodies and query values, by the rules of the OpenAPI document."""

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ._refused import invalid

_CHECKPOINT_PATH = re.compile(r"bt://loops:([^/\s]+)/(weights|sampler_weights)/([^/\s]+)/?")


@frozen
class SamplerRequest:
    """A create whose fields have the right types."""

    session_id: str
    base_model: str | None
    run_id: str | None
    model_path: str | None
    max_seq_length: int | None
    num_replicas: int | None
    availability_model: str | None
    reuse_from_session_id: str | None


def json_object(body: bytes) -> dict[str, Any]:
    """Read a body that has to be a JSON object.

    Raises:
        Refused: with 400 if it is anything else.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid("The request body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise invalid("The request body must be a JSON object.")
    return document


def sampler_request(body: bytes) -> SamplerRequest:
    """Read the body of a sampler create; keys that the schema does not have are ignored.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    document = json_object(body)
    session_id = _text(document, "session_id")
    if session_id is None:
        raise invalid("session_id: field required.")
    request = SamplerRequest(
        session_id=session_id,
        base_model=_text(document, "base_model"),
        run_id=_text(document, "run_id"),
        model_path=_text(document, "model_path"),
        max_seq_length=_positive(document, "max_seq_length"),
        num_replicas=_positive(document, "num_replicas"),
        availability_model=_text(document, "availability_model"),
        reuse_from_session_id=_text(document, "reuse_from_session_id"),
    )
    if request.base_model is None and request.run_id is None:
        raise invalid("base_model: field required unless run_id is given.")
    if request.model_path is not None and checkpoint_key(request.model_path)[1] != "sampler":
        raise invalid("model_path: must be a sampler_weights checkpoint.")
    return request


def checkpoint_query(body: bytes) -> tuple[str, str | None]:
    """Read the body of a checkpoint validation: its path and the run that would load it.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    document = json_object(body)
    path = _text(document, "checkpoint_path")
    if path is None:
        raise invalid("checkpoint_path: field required.")
    return path, _text(document, "run_id")


def checkpoint_key(path: str) -> tuple[str, str, str]:
    """Split a checkpoint URI into run id, target (`"sampler"` or `"trainer"`) and name.

    Raises:
        Refused: with 400 if it is not such a URI.
    """
    match = _CHECKPOINT_PATH.fullmatch(path)
    if match is None:
        raise invalid(f"{path!r} is not of the form bt://loops:<run_id>/(weights|sampler_weights)/<checkpoint_name>.")
    run_id, folder, name = match.groups()
    return run_id, "sampler" if folder == "sampler_weights" else "trainer", name


def whole_number(query: Mapping[str, str], name: str, *, default: int | None, minimum: int) -> int | None:
    """Read an integer query value.

    Raises:
        Refused: with 400 if it is no integer, or below *minimum*.
    """
    text = query.get(name)
    if text is None:
        return default
    # int() alone would take "1_0" and " 1 ", and gives up on thousands of digits.
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) < minimum:
        raise invalid(f"{name}: must be an integer of at least {minimum}.")
    return int(text)


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise invalid(f"{name}: must be a non-empty string.")
    return value


def _positive(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    # JSON's true is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"{name}: must be an integer of at least 1.")
    return value
