"""The write-ahead log of a launch: its records, and their replay. No I/O.

One JSON object a line; its `event` is one of these:

- `launch`: a launch began, on a control plane and with a Loops session;
- `intent`: a create is about to be sent; it may be sent again under the same number, but never twice at the same time;
- `rejected`: the create made no sampler;
- `created`: the create made this sampler;
- `acknowledged`: the caller handles the create, whose outcome is unknown;
- `resumed`: a later launch owns this sampler now;
- `deactivated`: this sampler was deactivated;
- `detached`: this sampler belongs to the caller, who deactivates it;
- `kept`: the block ended well and keeps this sampler on purpose.

A create without `rejected` or `created` may have made a sampler. A sampler without `deactivated` or `detached` is still
billed. A line counts once it is complete. If a crash has cut off the last line, it is ignored; the step that waits for
that line, such as the POST after an intent, has not happened then.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Self, TypeAlias

import msgspec
from attrs import Factory, asdict, define, evolve, fields, frozen

from ..models import SamplerSpec


class Launch(msgspec.Struct, tag_field="event", tag="launch", frozen=True):
    """A launch began."""

    launch: str
    """Its id, unique among all launches."""
    at: datetime
    scope_url: str
    """Address of the control plane, down to the account or team that the samplers are created for."""
    session_id: str
    pid: int


class Intent(msgspec.Struct, tag_field="event", tag="intent", frozen=True):
    """A create is about to be sent."""

    launch: str
    create: int
    """Its number within the launch."""
    at: datetime
    spec: dict[str, Any]
    """The arguments of the create that are set, by their names."""

    @classmethod
    def of(cls, launch: str, create: int, at: datetime, spec: SamplerSpec) -> Self:
        """Make the record of a create of *spec*."""
        return cls(launch, create, at, _spec_fields(spec))


class Rejected(msgspec.Struct, tag_field="event", tag="rejected", frozen=True):
    """A create made no sampler."""

    launch: str
    create: int
    at: datetime


class Created(msgspec.Struct, tag_field="event", tag="created", frozen=True):
    """A create made a sampler."""

    launch: str
    create: int
    at: datetime
    sampler_id: str


class Acknowledged(msgspec.Struct, tag_field="event", tag="acknowledged", frozen=True):
    """The caller looks after what an unknown create may have made."""

    launch: str
    create: int
    at: datetime


class Resumed(msgspec.Struct, tag_field="event", tag="resumed", frozen=True):
    """A later launch owns a sampler from now on."""

    launch: str
    """Id of that launch."""
    at: datetime
    sampler_id: str


class Deactivated(msgspec.Struct, tag_field="event", tag="deactivated", frozen=True):
    """A sampler was deactivated."""

    sampler_id: str
    at: datetime


class Detached(msgspec.Struct, tag_field="event", tag="detached", frozen=True):
    """A sampler belongs to the caller from now on."""

    sampler_id: str
    at: datetime


class Kept(msgspec.Struct, tag_field="event", tag="kept", frozen=True):
    """A block that ended well keeps a sampler on purpose."""

    sampler_id: str
    at: datetime


Record: TypeAlias = Launch | Intent | Rejected | Created | Acknowledged | Resumed | Deactivated | Detached | Kept


def _encode_subclass(value: object) -> object:
    """Convert an instance of a subclass, such as a date of a library that freezes the clock in tests."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, int)):
        return str(value) if isinstance(value, str) else int(value)
    raise NotImplementedError(f"a journal cannot hold a {type(value).__name__}")


_encode: Final = msgspec.json.Encoder(enc_hook=_encode_subclass).encode
_decode: Final = msgspec.json.Decoder(Record).decode


def encode_record(record: Record) -> bytes:
    """Return *record* as a line, with its line feed."""
    return _encode(record) + b"\n"


@frozen
class UnresolvedCreate:
    """A create that may have made a sampler whose id is not known."""

    spec: SamplerSpec
    at: datetime
    """Time at which it was about to be sent, by the clock of the machine that sent it."""
    scope_url: str
    """`Launch.scope_url`; empty if the journal does not say."""
    is_complete: bool = True
    """Whether *spec* has all arguments of the intent; False if a later version of this package wrote more."""


@frozen
class LiveSampler:
    """A sampler that was neither deactivated nor detached."""

    at: datetime
    """Time at which it was created, by the clock of the machine that sent the create."""
    scope_url: str
    """`Launch.scope_url`; empty if the journal does not say."""
    spec: SamplerSpec | None = None
    """Spec of its create; None if the journal does not have it, or has more than this version can read."""
    is_kept: bool = False
    """Whether a block that ended well keeps it on purpose."""


@define
class Replay:
    """The state that the records of a journal lead to."""

    unresolved: dict[tuple[str, int], UnresolvedCreate] = Factory(dict)
    """Creates without an outcome, by launch and number."""
    live: dict[str, LiveSampler] = Factory(dict)
    """Samplers that were neither deactivated nor detached, by their ids; kept ones are among them."""
    known: set[str] = Factory(set)
    """Ids of all samplers that the journal names."""
    detached: set[str] = Factory(set)
    """Ids of the samplers that were detached. They stay detached if another create for the same run returns them."""
    scope_urls: dict[str, str] = Factory(dict)
    """`Launch.scope_url` of each launch."""
    pid: int | None = None
    """Process id of the last launch."""
    unreadable: list[int] = Factory(list)
    """Numbers of the lines, from 1, that are no records; a torn last line is not among them."""

    def apply(self, record: Record) -> None:
        """Apply *record*."""
        match record:
            case Launch():
                self.scope_urls[record.launch] = record.scope_url
                self.pid = record.pid
            case Intent():
                spec = _spec_of(record)
                self.unresolved[record.launch, record.create] = UnresolvedCreate(
                    spec,
                    _aware(record.at),
                    self.scope_urls.get(record.launch, ""),
                    _spec_fields(spec) == record.spec,
                )
            case Rejected() | Acknowledged():
                self.unresolved.pop((record.launch, record.create), None)
            case Created():
                create = self.unresolved.pop((record.launch, record.create), None)
                self.known.add(record.sampler_id)
                if record.sampler_id not in self.detached:
                    exact = create.spec if create is not None and create.is_complete else None
                    scope_url = self.scope_urls.get(record.launch, "")
                    self.live[record.sampler_id] = LiveSampler(_aware(record.at), scope_url, exact)
            case Kept() | Resumed():
                if record.sampler_id in self.live:
                    is_kept = isinstance(record, Kept)
                    self.live[record.sampler_id] = evolve(self.live[record.sampler_id], is_kept=is_kept)
            case Deactivated() | Detached():
                self.live.pop(record.sampler_id, None)
                self.known.add(record.sampler_id)
                if isinstance(record, Detached):
                    self.detached.add(record.sampler_id)


def replay(content: bytes) -> Replay:
    """Replay a journal.

    Raises:
        ValueError: The content is no journal: it is not empty, and no line of it is a record.
    """
    replayed = Replay()
    *lines, torn = content.split(b"\n")
    records = 0
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            replayed.apply(_decode(text))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError):
            replayed.unreadable.append(number)
        else:
            records += 1
    if not records and not all(map(_is_torn_beginning, filter(None, [*lines, torn]))):
        raise ValueError(NO_JOURNAL)
    return replayed


def check_beginning(content: bytes) -> None:
    """Check that *content*, the first bytes of a file, can be the beginning of a journal.

    Raises:
        ValueError: It cannot.
    """
    first = content.lstrip(b"\n").split(b"\n")[0]
    if not (first.startswith(_ANY) or _is_torn_beginning(first)):
        raise ValueError(NO_JOURNAL)


NO_JOURNAL: Final = "this is not a journal of a launch: no line of it is a record"


_ANY: Final = b'{"event":"'
_FIRST: Final = _ANY + b'launch"'
"""The beginning of every journal."""


def _is_torn_beginning(torn: bytes) -> bool:
    return torn.startswith(_FIRST) or _FIRST.startswith(torn)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _spec_fields(spec: SamplerSpec) -> dict[str, Any]:
    """Return the arguments of a create that are set."""
    return asdict(spec, filter=lambda _, value: value is not None)


def _spec_of(intent: Intent) -> SamplerSpec:
    # A later version may write names that this one does not know.
    names = {each.name for each in fields(SamplerSpec)}
    try:
        return SamplerSpec(**{name: value for name, value in intent.spec.items() if name in names})
    except (TypeError, ValueError):
        # The base model is enough to search for candidates.
        return SamplerSpec(intent.spec["base_model"])
