"""Dates and times as services write them, read into aware datetimes in UTC.

The API documents RFC 3339. A sampler must not be lost because of the spelling of its date, so other forms are read too:
ISO 8601, leap seconds, 24:00, missing zones (which mean UTC), the forms of databases and of Go's `String()`, RFC 2822,
and seconds, milliseconds, microseconds or nanoseconds since 1970. A moment beyond the range of Python's datetimes
becomes the earliest or the latest of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)

_ISO: Final = re.compile(
    r"""
    (?P<year>[+-][0-9]{4,6}|[0-9]{4}) -? (?P<month>[0-9]{2}) -? (?P<day>[0-9]{2})
    (?:
        [T\s]* (?P<hour>[0-9]{2}) (?: :? (?P<minute>[0-9]{2}) (?: :? (?P<second>[0-9]{2}) )? )?
        (?: [.,] (?P<fraction>[0-9]*) )?
    )?
    \s* (?: (?P<sign>[+\-\u2212]) (?P<hours>[0-9]{2}) :? (?P<minutes>[0-9]{2})? :? (?P<seconds>[0-9]{2})? )?
    \s* (?: Z | UTC? | GMT )?
    (?: \[ [^\]]* \] | \s+m=\S* )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""A date, a time, an offset, a name of UTC, and the additions of Java and Go."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_NUMBER: Final = re.compile(r"-?([0-9]{9,19})(?:\.[0-9]*)?")

_DIGITS_OF_A_DATE: Final = (12, 14)
"""Lengths of numbers that are dates: YYYYMMDDhhmm, and that with seconds. Other numbers count from 1970."""


def parse_timestamp(written: str | float) -> datetime:
    """Return the moment that *written* names, in UTC; fractions are cut after the microseconds.

    Raises:
        ValueError: It names none.
    """
    if not isinstance(written, str):
        return _since_epoch(written)
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return _parse_other(written)
    if moment.tzinfo is UTC:
        return moment
    # Python reads some numbers that count from 1970 as dates.
    return _parse_other(written) if written.isdigit() else _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return EARLIEST if moment.year == 1 else LATEST


def _parse_other(written: str) -> datetime:
    written = written.strip()
    number = _NUMBER.fullmatch(written)
    if number is not None and len(number[1]) not in _DIGITS_OF_A_DATE:
        return _since_epoch(float(written))
    match = _ISO.fullmatch(written)
    if match is not None:
        return _moment(match)
    try:
        return _in_utc(parsedate_to_datetime(written))
    except Exception:  # noqa: BLE001 -- what it raises for what is no date is not documented
        raise ValueError(f"expected a date and time, not {written[:40]!r}") from None


def _moment(match: re.Match[str]) -> datetime:
    def number(name: str) -> int:
        return int(match[name] or 0)

    year = number("year")
    if not 1 <= year <= 9999:
        return EARLIEST if year < 1 else LATEST
    hour, minute, second = number("hour"), number("minute"), number("second")
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        raise ValueError(f"expected a time of day, not {hour:02}:{minute:02}:{second:02}")
    offset = timedelta(hours=number("hours"), minutes=number("minutes"), seconds=number("seconds"))
    if match["sign"] in {"-", "\u2212"}:
        offset = -offset
    microsecond = int((match["fraction"] or "")[:6].ljust(6, "0"))
    day = datetime(year, number("month"), number("day"), tzinfo=UTC)
    try:
        # A leap second becomes the second after it, and 24:00 becomes 00:00 of the next day.
        return day + timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond) - offset
    except OverflowError:
        return EARLIEST if year < 5000 else LATEST


def _since_epoch(number: float) -> datetime:
    try:
        seconds = float(number)
        # Present times have 10 digits in seconds, 13 in milliseconds, 16 in microseconds, 19 in nanoseconds.
        for _ in range(3):
            if abs(seconds) > 1e11:
                seconds /= 1000
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return EARLIEST if number < 0 else LATEST
