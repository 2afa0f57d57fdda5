"""The shapes of the emulator's own routes: faults, lifecycles, statuses, counts and received requests."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from ._shapes import Answer, Count, Number, Request, Text

# `Fault` checks the limits, and names both in its message.
_Status: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 200, "maximum": 599})]
# Printable ASCII characters.
_Header: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": "^[ -~]*$"})]


class SetStatus(Request, frozen=True):
    """Any name is allowed. Unknown keys are ignored."""

    status: Text


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to misbehave, and the requests that meet it; every key is a setting of loops_async.emulator.Fault."""

    method: (
        Annotated[
            str, Meta(description="In upper or lower case; with a route, one that it takes.", examples=["GET", "POST"])
        ]
        | None
    ) = None
    route: (
        Annotated[
            str,
            Meta(description="The template of a route in this document, except those of the emulator itself."),
        ]
        | None
    ) = None
    times: Annotated[Count, Meta(description="How many requests meet it; null: all.")] | None = 1
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    delay: Annotated[float, Meta(ge=0)] = 0.0
    delay_after: Annotated[float, Meta(ge=0)] = 0.0
    cut: Literal["before", "after"] | None = None
    partial: Number | None = None
    status: _Status | None = None
    status_after: _Status | None = None
    retry_after: _Header | None = None
    body: str | None = None
    list_lag: Annotated[float, Meta(ge=0)] | None = None
    clock_skew: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    headers: Annotated[
        dict[str, _Header],
        Meta(
            extra_json_schema={
                "propertyNames": {
                    "pattern": "^[A-Za-z0-9-]+$",
                    "not": {"enum": ["Content-Length", "content-length", "Transfer-Encoding", "transfer-encoding"]},
                }
            }
        ),
    ] = {}


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage of a lifecycle; every key is a setting of loops_async.emulator.Stage."""

    status: str
    seconds: float | None = None
    then: str | None = None
    idle: float | None = None
    failure: float = 0.0
    fails_as: str | None = None
    preemption: float | None = None
    preempted: str = "DEPLOYING"


class FaultAdded(Answer, frozen=True):
    id: Count


class PlannedFaults(Answer, frozen=True):
    """left counts the requests that still meet the first of the script; null: all."""

    id: Count
    left: Count | None
    script: list[Fault]


class FaultList(Answer, frozen=True):
    faults: list[PlannedFaults]


class SamplerCounts(Answer, frozen=True):
    """How many samplers there are."""

    total: Number
    billed: Number
    by_status: dict[str, Count]


class Counts(Answer, frozen=True):
    """How many samplers, received requests and planned faults there are."""

    samplers: SamplerCounts
    requests: Number
    faults: Number


class ReceivedRequest(Answer, frozen=True):
    """A request without the headers that hold secrets, which are never kept.

    The body may be cut short. route is null if no route matched; at is a time of the server's monotonic clock, in
    seconds; scheme is that of the Authorization header; key says which key came with it.
    """

    method: str
    path: str
    route: str | None
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    at: float
    scheme: str | None
    key: Literal["right", "inference", "wrong"] | None


class ReceivedRequests(Answer, frozen=True):
    requests: list[ReceivedRequest]


class StatusSet(Answer, frozen=True):
    id: str
    status: str
