"""The times of schedules: intervals and cron expressions, across changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from firmplan.errors import InputRejected
from firmplan.schedules.times import Cron, Every, times_of
from hypothesis import given
from hypothesis import strategies as st

BERLIN = "Europe/Berlin"


def unix(text):
    return datetime.fromisoformat(text).timestamp()


def told(cron, zone, after, count):
    """Return the next times as ISO 8601 in UTC."""
    times, at, found = times_of(every=None, cron=cron, zone=zone, start=0.0), unix(after), []
    for _ in range(count):
        at = times.after(at)
        found.append(datetime.fromtimestamp(at, UTC).strftime("%m-%dT%H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # 2026-03-29 in Berlin: 02:00 +01 becomes 03:00 +02. 2026-10-25: 03:00 +02 becomes 02:00 +01.
        ("0 8 * * *", "2026-03-28T00:00Z", ["03-28T07:00", "03-29T06:00", "03-30T06:00"]),
        ("30 2 * * *", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:30"]),  # skipped: right after the gap
        ("0,30 2 * * *", "2026-03-28T12:00Z", ["03-29T01:00", "03-30T00:00"]),  # both skipped: one run
        ("30 2 * * *", "2026-10-24T12:00Z", ["10-25T00:30", "10-26T01:30"]),  # repeated: once
        (
            "*/30 * * * *",
            "2026-10-24T23:59Z",
            ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"],
        ),
        ("0 * * * *", "2026-03-29T00:30Z", ["03-29T01:00", "03-29T02:00"]),
        ("0 * * * *", "2026-10-24T23:30Z", ["10-25T00:00", "10-25T01:00", "10-25T02:00"]),
        ("0 8 * * 1-5", "2026-12-04T12:00Z", ["12-07T07:00", "12-08T07:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00Z", ["02-28T23:00"]),
        ("0 0 L * *", "2026-02-01T00:00Z", ["02-27T23:00", "03-30T22:00"]),
    ],
)
def test_cron_keeps_the_clock_of_its_zone(cron, after, expected):
    """A fixed hour stays that hour in summer and winter; a time that is skipped or repeated comes once; steps of minutes go by elapsed time."""
    assert told(cron, BERLIN, after, len(expected)) == expected


def test_in_the_repeated_hour_no_time_comes_that_has_passed():
    """Looked at from inside the second of two equal hours, the next time is tomorrow's, not the first hour's."""
    times = times_of(every=None, cron="45 2 * * *", zone=BERLIN, start=0.0)
    inside = unix("2026-10-25T02:30:00+01:00")
    assert times.after(inside) == unix("2026-10-26T02:45:00+01:00")
    assert times.between(inside, inside + 3 * 3600, 5) == ([], 0)


def test_an_interval_goes_by_elapsed_time():
    """An hour is an hour, also when the clock changes."""
    times = times_of(every="1h", cron=None, zone="UTC", start=1000.0)
    assert [times.after(at) for at in (0, 999.5, 1000, 1000.5, 4599, 4600)] == [
        1000,
        1000,
        4600,
        4600,
        4600,
        8200,
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"every": "soon"}, "every: expected a duration"),
        ({"every": 0}, "every: expected a whole number of seconds"),
        ({"every": 0.5}, "every: expected a whole number of seconds"),
        ({"every": "20y"}, "every"),
        ({"every": True}, "every"),
        ({"every": float("nan")}, "every"),
        ({"cron": "* * * * * *"}, "cron: expected 5 fields"),
        ({"cron": "@daily"}, "cron: expected 5 fields"),
        ({"cron": 5}, "cron: expected 5 fields"),
        ({"cron": "61 * * * *"}, "cron: bad minute in '61"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "1 " * 300}, "cron: expected 5 fields"),
        ({"cron": "0 0 * * *", "zone": "Mars/Base"}, "tz: there is no time zone 'Mars/Base'"),
        ({"cron": "0 0 * * *", "zone": "../../etc/passwd"}, "tz: there is no time zone"),
        ({"cron": "0 0 * * *", "zone": None}, "tz: expected the name"),
        ({}, "found neither"),
        ({"every": 1, "cron": "0 0 * * *"}, "found both"),
    ],
)
def test_what_is_no_schedule_is_refused(given, words):
    with pytest.raises(InputRejected) as fault:
        times_of(**{"every": None, "cron": None, "zone": "UTC", "start": 0.0, **given})
    assert words in str(fault.value)


TIMES = st.one_of(
    st.builds(Every, st.integers(1, 10_000).map(float), st.integers(0, 2_000_000_000).map(float)),
    st.builds(
        Cron,
        st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0,45 1-3 * * *", "15 * 25 10 *", "0 0 1 1 *", "5 4 * * 0"]),
        st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        st.integers(0, 1_900_000_000).map(float),
    ),
)  # fmt: skip


@given(TIMES, st.floats(1_700_000_000, 1_900_000_000), st.floats(0, 400_000), st.integers(1, 20))
def test_the_newest_times_are_the_last_of_those_that_come_one_by_one(times, after, length, most):
    """`between` says what a walk with `after` says, however far back its search has to go."""
    until = after + length
    walked, at = [], after
    while (at := times.after(at)) is not None and at <= until and len(walked) < 20_000:
        walked.append(at)
    found, left_out = times.between(after, until, most)
    if len(walked) < 20_000:
        assert found == walked[-most:]
        assert 0 <= left_out <= len(walked) - len(found)
        assert (left_out > 0) == (len(walked) > most)
    assert found == sorted(set(found))
    assert all(after < each <= until and each >= times.start and each == int(each) for each in found)
