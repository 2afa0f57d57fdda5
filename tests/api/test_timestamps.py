"""Whatever names a moment is read as that moment, in UTC."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loops_async._api.timestamps import EARLIEST, LATEST, parse_timestamp

TEN = datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-03T10:00:00Z",
        "2026-11-03T10:00:00z",
        "2026-11-03t10:00:00z",
        "2026-11-03 10:00:00+00:00",
        "2026-11-03 10:00:00Z",
        "2026-11-03T10:00:00",
        "2026-11-03T10:00",
        "2026-11-03T10:00Z",
        "2026-11-03T10",
        "2026-11-03T10:00:00-00:00",
        "2026-11-03T10:00:00+0000",
        "2026-11-03T10:00:00 +0000",
        "2026-11-03T10:00:00+00",
        "2026-11-03T10:00:00.Z",
        "2026-11-03T15:30:00+0530",
        "2026-11-03T15:30:00+05:30",
        "2026-11-03t15:30:00 +05:30",
        "2026-11-03T05:00:00\u221205:00",
        "2026-11-04T10:00:00+24:00",
        "2026-11-03 10:00:00 UTC",
        "2026-11-03 10:00:00 utc",
        "2026-11-03T10:00:00 GMT",
        "2026-11-03 10:00:00 +0000 UTC",
        "2026-11-03 10:00:00 +0000 UTC m=+0.012345",
        "2026-11-03T10:00:00Z[UTC]",
        "2026-11-03T11:00:00+01:00[Europe/Berlin]",
        "20261103T100000Z",
        "20261103100000",
        "202611031000",
        " 2026-11-03T10:00:00Z\n",
        "+002026-11-03T10:00:00.000Z",
        "2026-11-03T10:00:00.000000000000000000000Z",
        "2026-W45-2T10:00:00Z",
        "Tue, 03 Nov 2026 10:00:00 GMT",
        "Tue, 03 Nov 2026 10:00:00 +0000",
        "Tue, 03 Nov 2026 05:00:00 EST",
        1793700000,
        1793700000.0,
        1793700000000,
        1793700000000000,
        1793700000000000000,
        "1793700000",
        "1793700000.000",
        "1793700000000",
    ],
)
def test_one_moment_in_many_spellings(written: str | float) -> None:
    read = parse_timestamp(written)
    assert read == TEN
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2017-01-01T00:59:60+01:00", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2026-11-03T24:00:00Z", datetime(2026, 11, 4, tzinfo=UTC)),
        ("2026-11-03T24:00", datetime(2026, 11, 4, tzinfo=UTC)),
        ("2026-11-03t24:00:00,0 +01:00", datetime(2026, 11, 3, 23, tzinfo=UTC)),
        ("2026-11-03T10:00:00.1Z", TEN.replace(microsecond=100_000)),
        ("2026-11-03T10:00:00,5Z", TEN.replace(microsecond=500_000)),
        ("2026-11-03t10:00:00,5z", TEN.replace(microsecond=500_000)),
        ("2026-11-03T10:00:00.123456789Z", TEN.replace(microsecond=123_456)),
        ("2026-11-03t10:00:00.123456789z", TEN.replace(microsecond=123_456)),
        ("2026-11-03T10:00:00.9999999", TEN.replace(microsecond=999_999)),
        ("2026-11-03", datetime(2026, 11, 3, tzinfo=UTC)),
        ("20261103", datetime(2026, 11, 3, tzinfo=UTC)),
        ("1712121600000", datetime(2024, 4, 3, 5, 20, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", EARLIEST),
        ("0001-01-01T00:00:00+05:00", EARLIEST),
        ("0001-01-01t00:00:00+05:00", EARLIEST),
        ("0000-00-00 00:00:00", EARLIEST),
        ("-000001-01-01T00:00:00Z", EARLIEST),
        ("9999-12-31T23:59:59.999999Z", LATEST),
        ("9999-12-31T23:59:59-05:00", LATEST),
        ("9999-12-31T23:59:60Z", LATEST),
        ("9999-12-31T24:00:00Z", LATEST),
        ("+275760-09-13T00:00:00Z", LATEST),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-62135596800, EARLIEST),
        (-(10**40), EARLIEST),
        (10**5000, LATEST),
        (1e300, LATEST),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_moments_at_the_edges(written: str | float, meant: datetime) -> None:
    read = parse_timestamp(written)
    assert read == meant
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "written",
    ["", " ", "yesterday", "2026", "0", "2026-13-01", "2026-02-30T10:00:00Z", "2026-11-03T25:00:00Z",
     "2026-11-03T24:00:01Z", "2026-11-03T10:60:00Z", "2026-11-03T10:00:61Z", "2026-11-03T10:00:00 Mars", "T10:00:00Z",
     "<html>", float("nan")],
)  # fmt: skip
def test_what_names_no_moment_is_a_value_error(written: str | float) -> None:
    with pytest.raises(ValueError, match=r"expected|month|day|NaN"):
        parse_timestamp(written)


@given(st.text(alphabet="0123456789TZtz:.,+- W[]mM", max_size=40) | st.text(max_size=30) | st.floats() | st.integers())
def test_nothing_but_a_moment_in_utc_or_a_value_error(written: str | float) -> None:
    with suppress(ValueError):
        assert parse_timestamp(written).utcoffset() == timedelta(0)


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS))  # noqa: DTZ001 -- as it wants them
def test_what_python_writes_is_read_as_it_was_meant_in_lower_case_too(moment: datetime) -> None:
    written = moment.isoformat()
    assert parse_timestamp(written) == parse_timestamp(written.lower()) == moment
