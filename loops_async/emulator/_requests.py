"""Reading of request bodies and query values, by the rules of the OpenAPI document."""

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ._refused import invalid, unacceptable

_CHECKPOINT_PATH = re.compile(r"bt://loops:([^/\s]+)/(weights|sampler_weights)/([^/\s]+)/?")
LARGEST = 10**18 - 1
"""What an integer of a request may be at most: more than all that is counted, and less than 64 bits."""

_SURROGATE = re.compile("[\ud800-\udfff]")


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


@frozen
class RunRequest:
    """A create of a run whose fields have the right types and ranges."""

    session_id: str
    base_model: str
    name: str | None
    availability_model: str
    sampler_num_replicas: int | None
    max_seq_len: int | None


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
    request = SamplerRequest(
        session_id=_required(document, "session_id"),
        base_model=_text(document, "base_model"),
        run_id=_text(document, "run_id"),
        model_path=_text(document, "model_path"),
        max_seq_length=_positive(document, "max_seq_length"),
        num_replicas=_positive(document, "num_replicas"),
        availability_model=_text(document, "availability_model"),
        reuse_from_session_id=_text(document, "reuse_from_session_id"),
    )
    if request.base_model is None and request.run_id is None and request.model_path is None:
        raise invalid("base_model: field required unless run_id or model_path is given.")
    if request.model_path is not None and checkpoint_key(request.model_path)[1] != "sampler":
        raise unacceptable("model_path: must be a sampler_weights checkpoint.")
    return request


def run_request(body: bytes) -> RunRequest:
    """Read the body of a run create; keys that the schema does not have are ignored.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    document = json_object(body)
    session_id, base_model = _required(document, "session_id"), _required(document, "base_model")
    name, path = _text(document, "name"), _text(document, "path")
    if name is not None and len(name) > 255:
        raise invalid("name: must have at most 255 characters.")
    if path is not None and checkpoint_key(path)[1] != "trainer":
        raise unacceptable("path: must be a weights checkpoint, which a trainer can load.")
    for field in ("lora_rank", "replicas"):
        _defaulted(document, field)
    _defaulted(document, "scale_down_delay_seconds", maximum=3600)
    _text(document, "reuse_from_run_id")
    _text(document, "reuse_from_session_id")
    if document.get("seed") is not None and _integer(document["seed"]) is None:
        raise invalid("seed: must be an integer.")
    if "availability_model" in document and document["availability_model"] is None:
        raise invalid("availability_model: must be a non-empty string.")
    return RunRequest(
        session_id=session_id,
        base_model=base_model,
        name=name,
        availability_model=_text(document, "availability_model") or "dedicated",
        sampler_num_replicas=_positive(document, "sampler_num_replicas"),
        max_seq_len=_positive(document, "max_seq_len"),
    )


def checkpoint_query(body: bytes) -> tuple[str, str | None]:
    """Read the body of a checkpoint validation: its path and the run that would load it.

    Raises:
        Refused: with 400, naming the field at fault.
    """
    document = json_object(body)
    return _required(document, "checkpoint_path"), _text(document, "run_id")


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
        Refused: with 400 if it is no integer, or below *minimum*.
    """
    text = query.get(name)
    if text is None:
        return default
    # int() alone would take "1_0" and " 1 ", and gives up on thousands of digits.
    match = re.fullmatch(r"(-?)0*([0-9]+)", text)
    if match is not None and not match[1] and len(match[2]) > len(str(LARGEST)):
        raise invalid(f"{name}: must be an integer of at most {LARGEST}.")
    if match is None or match[1] or int(match[2]) < minimum:
        raise invalid(f"{name}: must be an integer of at least {minimum}.")
    return int(match[2])


def status_request(body: bytes) -> str:
    """Read the status that a sampler is to be put into.

    Raises:
        Refused: with 400 unless there is one.
    """
    return _required(json_object(body), "status")


def _required(document: dict[str, Any], name: str) -> str:
    value = _text(document, name)
    if value is None:
        raise invalid(f"{name}: field required.")
    return value


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise invalid(f"{name}: must be a non-empty string.")
    # JSON can write half a character, which nothing that is sent or hashed can hold.
    if _SURROGATE.search(value):
        raise invalid(f"{name}: must be valid Unicode.")
    return value


def _positive(document: dict[str, Any], name: str) -> int | None:
    if document.get(name) is None:
        return None
    number = _integer(document[name])
    if number is None or number < 1:
        raise invalid(f"{name}: must be an integer of at least 1.")
    if number > LARGEST:
        raise invalid(f"{name}: must be an integer of at most {LARGEST}.")
    return number


def _defaulted(document: dict[str, Any], name: str, maximum: int | None = None) -> None:
    """Check an integer that may be left out, but is not nullable."""
    number = _integer(document.get(name, 1))
    if number is None or number < 1 or (maximum is not None and number > maximum):
        raise invalid(
            f"{name}: must be an integer of at least 1{'' if maximum is None else f' and at most {maximum}'}."
        )


def _integer(value: object) -> int | None:
    """Read an integer as JSON Schema has it: `1.0` is one, and `true`, which is an int to Python, is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
