"""What a launch writes down so that it can be cleaned up after a crash: records, and what they add up to. No I/O.

One JSON object a line, told apart by its `event`:

- `launch`: a launch began, on a control plane and with a Loops session;
- `intent`: a create is about to be sent; it may be sent again under the same number, but never two at once;
- `refused`: it made nothing;
- `created`: it made this sampler;
- `released`: this sampler was deactivated;
- `handed_over`: this sampler was given to the caller, who releases it himself.

A create without an end is one that may have made a sampler. A sampler without an end is one that is still billed. A
line counts once it is whole, so a last line that was torn by a crash counts for nothing; what was to follow its being
written, such as the POST after an intent, has not happened either.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Self, TypeAlias

import msgspec
from attrs import Factory, asdict, define, fields, frozen

from ..models import SamplerSpec


class Launch(msgspec.Struct, tag_field="event", tag="launch", frozen=True):
    """A launch began."""

    launch: str
    """Its id, unique among all launches."""
    at: datetime
    home: str
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
        return cls(launch, create, at, asdict(spec, filter=lambda _, value: value is not None))


class Refused(msgspec.Struct, tag_field="event", tag="refused", frozen=True):
    """A create made nothing."""

    launch: str
    create: int
    at: datetime


class Created(msgspec.Struct, tag_field="event", tag="created", frozen=True):
    """A create made a sampler."""

    launch: str
    create: int
    at: datetime
    sampler_id: str


class Released(msgspec.Struct, tag_field="event", tag="released", frozen=True):
    """A sampler was deactivated."""

    sampler_id: str
    at: datetime


class HandedOver(msgspec.Struct, tag_field="event", tag="handed_over", frozen=True):
    """A sampler is the caller's from now on."""

    sampler_id: str
    at: datetime


Record: TypeAlias = Launch | Intent | Refused | Created | Released | HandedOver

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Record).decode


def line(record: Record) -> bytes:
    """Write *record* as a line, with its end."""
    return _encode(record) + b"\n"


@frozen
class UnresolvedCreate:
    """A create that may have made a sampler whose id was never learnt."""

    spec: SamplerSpec
    at: datetime
    """When it was about to be sent, by the clock of the machine that sent it."""
    home: str
    """`Launch.home`; empty if the journal does not say."""


@frozen
class LiveSampler:
    """A sampler that is still to be released."""

    at: datetime
    """When it was created, by the clock of the machine that had it created."""
    home: str
    """`Launch.home`; empty if the journal does not say."""


@define
class Replay:
    """What the records of a journal add up to."""

    open: dict[tuple[str, int], UnresolvedCreate] = Factory(dict)
    """Creates without an end, by launch and number."""
    held: dict[str, LiveSampler] = Factory(dict)
    """Samplers without an end, by their ids."""
    known: set[str] = Factory(set)
    """Ids of all samplers that the journal ever named."""
    homes: dict[str, str] = Factory(dict)
    """Home of each launch."""
    pid: int | None = None
    """Process of the last launch."""
    unreadable: list[int] = Factory(list)
    """Numbers of the lines, from 1 on, that are no records; a torn last line is not among them."""

    def take(self, record: Record) -> None:
        """Add *record*."""
        match record:
            case Launch():
                self.homes[record.launch] = record.home
                self.pid = record.pid
            case Intent():
                self.open[record.launch, record.create] = UnresolvedCreate(
                    _spec_of(record), _aware(record.at), self.homes.get(record.launch, "")
                )
            case Refused():
                self.open.pop((record.launch, record.create), None)
            case Created():
                self.open.pop((record.launch, record.create), None)
                self.held[record.sampler_id] = LiveSampler(_aware(record.at), self.homes.get(record.launch, ""))
                self.known.add(record.sampler_id)
            case Released() | HandedOver():
                self.held.pop(record.sampler_id, None)
                self.known.add(record.sampler_id)


def read(content: bytes) -> Replay:
    """Add up a journal.

    Raises:
        ValueError: This is no journal: there is something in it, and no line of it is a record.
    """
    account = Replay()
    *lines, torn = content.split(b"\n")
    records = 0
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            account.take(_decode(text))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError):
            account.unreadable.append(number)
        else:
            records += 1
    if not records and not all(map(_is_torn_beginning, filter(None, [*lines, torn]))):
        raise ValueError(NO_JOURNAL)
    return account


def check_beginning(content: bytes) -> None:
    """Check that *content*, the beginning of a file, can be that of a journal, even of one that was cut off there.

    Raises:
        ValueError: It cannot.
    """
    first = content.lstrip(b"\n").split(b"\n")[0]
    if not (first.startswith(_ANY) or _is_torn_beginning(first)):
        raise ValueError(NO_JOURNAL)


NO_JOURNAL: Final = "this is not a journal of a launch: no line of it is a record"


_ANY: Final = b'{"event":"'
_FIRST: Final = _ANY + b'launch"'
"""How every journal begins."""


def _is_torn_beginning(torn: bytes) -> bool:
    return torn.startswith(_FIRST) or _FIRST.startswith(torn)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _spec_of(intent: Intent) -> SamplerSpec:
    # A later version may write names that this one does not know.
    names = {each.name for each in fields(SamplerSpec)}
    try:
        return SamplerSpec(**{name: value for name, value in intent.spec.items() if name in names})
    except (TypeError, ValueError):
        # What matters most is what it may have made.
        return SamplerSpec(intent.spec["base_model"])
