"""The documents of `--json`: they have stable keys, and are written to stdout in ASCII."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import asdict

from loops_async import CreateOutcomeUnknown, Sampler, StatusChange, SupportedModel

from ._exits import code_of
from ._words import describe, write_out


def fields_of(model: Sampler | SupportedModel) -> dict[str, Any]:
    """Describe a sampler or a base model; the keys are the attributes of its class."""
    return asdict(model)


def change_fields(change: StatusChange) -> dict[str, Any]:
    """Describe a status change."""
    sampler = change.sampler
    return {
        "id": sampler.id,
        "base_model": sampler.base_model,
        "previous": change.previous,
        "status": change.status,
        "seconds": round(change.elapsed, 3),
        "base_url": sampler.base_url,
    }


def error_fields(error: BaseException) -> dict[str, Any]:
    """Describe an error: its class, its message, and its exit code."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": describe(error), "exit_code": code_of(error)}
    for name in ("status", "code", "request_id"):
        if isinstance(value := getattr(error, name, None), (str, int)):
            fields[name] = value
    return fields


def unknown_fields(unknown: Sequence[CreateOutcomeUnknown]) -> list[dict[str, Any]]:
    """Describe unknown creates."""
    return [
        {
            "base_model": each.spec.base_model,
            "candidates": [fields_of(sampler) for sampler in each.candidates],
            "look_error": None if each.look_error is None else error_fields(each.look_error),
        }
        for each in unknown
    ]


def elsewhere_fields(elsewhere: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe samplers of other control planes and teams, given with their addresses by id."""
    return [{"id": each, "address": address} for each, address in elsewhere.items()]


def write(document: dict[str, Any]) -> None:
    """Write a document."""
    write_out(f"{json.dumps(document, indent=2, default=_plain)}\n")


def write_line(document: dict[str, Any]) -> None:
    """Write one of many documents, as a line."""
    write_out(f"{json.dumps(document, default=_plain)}\n")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
