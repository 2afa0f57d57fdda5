"""Reads request bodies and query values by the rules of the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ._admin_shapes import SetStatus
from ._reading import Misfit, parsed, read
from ._refused import invalid, unacceptable
from ._shapes import LARGEST, CreateRun, CreateSampler, ValidateCheckpoint

_CHECKPOINT_PATH = re.compile(r"bt://loops:([^/\s]+)/(weights|sampler_weights)/([^/\s]+)/?")

_Body = TypeVar("_Body", bound=msgspec.Struct)


def json_object(body: bytes, *, integral: bool = True) -> dict[str, Any]:
    """Read a body that has to be a JSON object.

    Raises:
        Refused: with 400 if it is anything else.
    """
    try:
        document = parsed(body, integral=integral)
    except ValueError:
        raise invalid("The request body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise invalid("The request body must be a JSON object.")
    return document


def _body(body: bytes, kind: type[_Body]) -> _Body:
    """Read the body of a request.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    try:
        return read(json_object(body), kind)
    except Misfit as misfit:
        raise invalid(str(misfit)) from None


def sampler_request(body: bytes) -> CreateSampler:
    """Read the body of a sampler create.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    request = _body(body, CreateSampler)
    if request.base_model is None and request.run_id is None and request.model_path is None:
        raise invalid("base_model: field required unless run_id or model_path is given.")
    if request.model_path is not None and checkpoint_key(request.model_path)[1] != "sampler":
        raise unacceptable("model_path: must be a sampler_weights checkpoint.")
    return request


def run_request(body: bytes) -> CreateRun:
    """Read the body of a run create.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    request = _body(body, CreateRun)
    if request.path is not None and checkpoint_key(request.path)[1] != "trainer":
        raise unacceptable("path: must be a weights checkpoint, which a trainer can load.")
    return request


def checkpoint_query(body: bytes) -> ValidateCheckpoint:
    """Read the body of a checkpoint validation.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    return _body(body, ValidateCheckpoint)


def status_request(body: bytes) -> str:
    """Read the status that a sampler shall be held in.

    Raises:
        Refused: with 400 if there is none.
    """
    return _body(body, SetStatus).status


def checkpoint_key(path: str) -> tuple[str, str, str]:
    """Split a checkpoint URI into run id, target (`"sampler"` or `"trainer"`) and name.

    Raises:
        Refused: with 400 if it is not such a URI.
    """
    match = _CHECKPOINT_PATH.fullmatch(path)
    if match is None:
        raise unacceptable(
            f"{path!r} is not of the form bt://loops:<run_id>/(weights|sampler_weights)/<checkpoint_name>."
        )
    run_id, folder, name = match.groups()
    return run_id, "sampler" if folder == "sampler_weights" else "trainer", name


def whole_number(query: Mapping[str, str], name: str, *, default: int | None, minimum: int) -> int | None:
    """Read an integer query value.

    Raises:
        Refused: with 400 if it is no integer, below *minimum* or too large.
    """
    text = query.get(name)
    if text is None:
        return default
    # int() alone would accept "1_0" and " 1 ", and raises for thousands of digits.
    match = re.fullmatch(r"(-?)0*([0-9]+)", text)
    if match is not None and not match[1] and len(match[2]) > len(str(LARGEST)):
        raise invalid(f"{name}: must be an integer of at most {LARGEST}.")
    if match is None or match[1] or int(match[2]) < minimum:
        raise invalid(f"{name}: must be an integer of at least {minimum}.")
    return int(match[2])
