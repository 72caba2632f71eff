"""Dates, times, durations and zones in expressions: values, types, faults, and that nothing depends on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
from firmplan.plans.expressions import dates
from firmplan.plans.expressions.evaluate import compile_node
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.infer import infer
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.reports.errors import EvaluationError
from firmplan.plans.types.show import type_text
from firmplan.plans.types.types import (
    INTEGER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Type,
    union,
    widened,
)
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

EVENT = {"start": "2026-03-28T23:00:00+01:00", "end": "2026-03-29T10:00:00+02:00"}
SCOPE: dict[str, Any] = {
    "day": "2026-01-31",
    "at": "2026-03-28T23:30:00Z",
    "n": 3,
    "evs": [EVENT, {"start": "2026-03-01T10:00:00Z", "end": "2026-03-01T10:30:00Z"}],
    "u": "2026-05-05",
    "nothing": None,
}
TYPES: dict[str, Type] = {
    "day": TEXT,
    "at": TEXT,
    "n": INTEGER,
    "x": NUMBER,
    "evs": ListType(ObjectType({"start": Property(TEXT), "end": Property(TEXT)})),
    "u": UNKNOWN,
    "nothing": union(TEXT, NULL),
    "inputs": ObjectType({}),
}


def value(text: str, scope: dict[str, Any] | None = None) -> Any:
    """Return what an expression hands out."""
    return compile_node(parse(text))(SCOPE if scope is None else scope)


VALUES: dict[str, Any] = {
    # reading and writing
    "date(day)": "2026-01-31",
    'date("2026-01-31T23:59:59-11:00")': "2026-01-31",
    "date(2024, 2, 29)": "2024-02-29",
    "date(datetime(at))": "2026-03-28",
    "date(date(day))": "2026-01-31",
    "datetime(day)": "2026-01-31T00:00:00",
    "datetime(date(day))": "2026-01-31T00:00:00",
    "datetime(at)": "2026-03-28T23:30:00+00:00",
    'datetime("2026-01-31 09:05")': "2026-01-31T09:05:00",
    'datetime("2026-01-31t09:05:06.5z")': "2026-01-31T09:05:06.500000+00:00",
    'datetime("2026-01-31T09:05:06,1234567+0530")': "2026-01-31T09:05:06.123456+05:30",
    'datetime("2026-01-31T09:05:06-08")': "2026-01-31T09:05:06-08:00",
    "datetime(2026, 1, 31, 9)": "2026-01-31T09:00:00",
    "datetime(2026, 1, 31, 9, 1, 2, 3)": "2026-01-31T09:01:02.000003",
    'timedelta("P1W")': "P7D",
    'timedelta("PT90M")': "PT1H30M",
    'timedelta("-P1DT2H3M4.5S")': "-P1DT2H3M4.5S",
    'timedelta("+PT0.000001S")': "PT0.000001S",
    "timedelta()": "PT0S",
    "timedelta(1)": "P1D",
    "timedelta(0.5, hours=1)": "PT13H",
    "timedelta(timedelta(hours=1))": "PT1H",
    "timedelta(weeks=1, days=1, hours=1, minutes=1, seconds=1, milliseconds=1, microseconds=1)": "P8DT1H1M1.001001S",
    # arithmetic
    "date(day) + timedelta(days=n)": "2026-02-03",
    "timedelta(days=1) + date(day)": "2026-02-01",
    "[date(day) - timedelta(hours=25), date(day) + timedelta(hours=-25)]": ["2026-01-30", "2026-01-29"],  # as Python: whole days
    "(date('2026-03-01') - date(day)).days": 29,
    "datetime(evs[0].end) - datetime(evs[0].start)": "PT10H",
    "(datetime(evs[0].end) - datetime(evs[0].start)).total_seconds() / 3600": 10.0,
    "datetime(at) + timedelta(minutes=45)": "2026-03-29T00:15:00+00:00",
    "timedelta(days=1) * 2 - timedelta(hours=1)": "P1DT23H",
    "0.5 * timedelta(days=1)": "PT12H",
    "timedelta(days=1) / 3": "PT8H",
    "timedelta(days=1) / timedelta(hours=1)": 24.0,
    "timedelta(days=1) // timedelta(hours=7)": 3,
    "timedelta(days=1) // 7": "PT3H25M42.857142S",
    "timedelta(days=1) % timedelta(hours=7)": "PT3H",
    "-timedelta(hours=1)": "-PT1H",
    "timedelta(days=2).days + timedelta(hours=1).seconds": 3602,
    # fields, methods, forms
    "[date(day).year, date(day).month, date(day).day]": [2026, 1, 31],
    "[datetime(at).hour, datetime(at).minute, datetime(at).second, datetime(at).microsecond]": [23, 30, 0, 0],
    "[date(day).weekday(), date(day).isoweekday(), datetime(at).weekday()]": [5, 6, 5],
    'date(day).strftime("%d.%m.%y %A %a %B %b %-d/%-m %j %u %w %G-W%V %% %e|%F")': "31.01.26 Saturday Sat January Jan 31/1 031 6 6 2026-W05 % 31|2026-01-31",
    'datetime("2026-01-02T13:04:05.6-03:30").strftime("%H:%M:%S.%f %I %p %T %R %z %:z %Z|%-I|%e")': "13:04:05.600000 01 PM 13:04:05 13:04 -0330 -03:30 UTC-03:30|1| 2",
    'datetime(day).strftime("%I %p [%z%Z]")': "12 AM []",
    'format(date(day), "%d.%m.%Y")': "31.01.2026",
    "datetime(at).date()": "2026-03-28",
    "datetime(at).timestamp()": 1774740600.0,
    "datetime(at).isoformat()": "2026-03-28T23:30:00+00:00",
    # zones
    'datetime(day, "Europe/Rome")': "2026-01-31T00:00:00+01:00",
    'datetime(at, "Europe/Rome")': "2026-03-29T00:30:00+01:00",
    'datetime(at).astimezone("Asia/Kolkata")': "2026-03-29T05:00:00+05:30",
    'datetime(at).astimezone("UTC")': "2026-03-28T23:30:00+00:00",
    'datetime(at).astimezone("-03:30")': "2026-03-28T20:00:00-03:30",
    'datetime(at).astimezone("Z")': "2026-03-28T23:30:00+00:00",
    'datetime("2026-03-29T02:30", "Europe/Rome")': "2026-03-29T03:30:00+02:00",  # skipped
    'datetime("2026-10-25T02:30", "Europe/Rome")': "2026-10-25T02:30:00+02:00",  # twice: the first
    'datetime("1850-01-01", "Europe/Rome")': "1850-01-01T00:00:00+00:49:56",
    'datetime("1850-01-01T00:00:00+00:49:56")': "1850-01-01T00:00:00+00:49:56",
    'datetime("2026-03-28T09:00", "Europe/Rome") + timedelta(days=1)': "2026-03-29T09:00:00+01:00",
    'datetime(datetime("2026-03-28T09:00") + timedelta(days=1), "Europe/Rome")': "2026-03-29T09:00:00+02:00",
    # as values of the rest of the language
    "date(day) == date('2026-01-31')": True,
    "date(day) in [date('2026-01-31')]": True,
    "date(day) == None": False,
    'datetime("2026-01-01T12:00+02:00") == datetime("2026-01-01T10:00Z")': True,
    'datetime("2026-01-01T12:00+02:00") == datetime("2026-01-01T10:00")': False,
    'datetime("2026-01-01T12:00+02:00") < datetime("2026-01-01T11:00Z")': True,
    "date(day) < date('2026-02-01') <= date('2026-02-01')": True,
    "sorted(evs, key=lambda e: datetime(e.start))[0].end": "2026-03-01T10:30:00Z",
    "sorted(evs, key=lambda e: (date(e.start).month, datetime(e.end)), reverse=True)[0].end": EVENT["end"],
    "max(datetime(e.end) for e in evs)": EVENT["end"],
    "min(date(day), date('2026-01-30'))": "2026-01-30",
    "[date(e.start) for e in evs if date(e.start) > date('2026-03-10')]": ["2026-03-28"],
    "{'a': date(day), 'b': [timedelta(1), {'c': datetime(day)}]}": {"a": "2026-01-31", "b": ["P1D", {"c": "2026-01-31T00:00:00"}]},
    "distinct([date(day), date('2026-01-31'), date('2026-02-01')])": ["2026-01-31", "2026-02-01"],
    "count_by(date(e.start) for e in evs)": {"2026-03-28": 1, "2026-03-01": 1},
    "keys(group_by(evs, key=lambda e: date(e.start)))": ["2026-03-01", "2026-03-28"],
    "unique_by(evs, key=lambda e: date(e.start).year)": [EVENT],
    "str(date(day)) + '!'": "2026-01-31!",
    "str([date(day), timedelta(hours=1)])": '["2026-01-31","PT1H"]',
    "timedelta(0) or 'no time'": "no time",
    "[bool(timedelta(0)), bool(timedelta(1)), bool(date(day))]": [False, True, True],
    "first(nothing, date(day))": "2026-01-31",
    "get({'a': [date(day)]}, 'a[0]')": "2026-01-31",
    "(date(day) if n > 1 else None)": "2026-01-31",
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_value(text: str) -> None:
    """An expression has its value, also spelled anew, with its constants evaluated beforehand, and within a text."""
    assert value(text) == VALUES[text]
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    again = parse_formula(formula.canonical)[0]
    assert (again.canonical, again.evaluate(SCOPE)) == (formula.canonical, VALUES[text])
    within = parse_formula(f"= ${{{text}}}")[0].evaluate(SCOPE)
    expected = (
        VALUES[text]
        if isinstance(VALUES[text], str)
        else json.dumps(VALUES[text], separators=(",", ":"), sort_keys=True)
    )
    assert within == f"= {expected}"


FAULTS = {
    'date("2026-02-30")': "bad-value",
    'date("2026-13-01")': "bad-value",
    'date("0000-01-01")': "bad-value",
    'date("20260131")': "bad-value",
    'date("2026-W05-6")': "bad-value",
    'date("2026-01-31 ")': "bad-value",
    'date("٢٠٢٦-01-31")': "bad-value",
    'date("")': "bad-value",
    'date("2026-01-31" * 1000000)': "bad-value",
    'datetime("2026-01-31T24:00")': "bad-value",
    'datetime("2026-01-31T23:59:60Z")': "bad-value",
    'datetime("2026-01-31T09:00+24:00")': "bad-value",
    'datetime("2026-01-31T09:00+01:60")': "bad-value",
    "date(2026, 2, 29)": "bad-value",
    "date(2026, 2)": "bad-value",
    "date(9223372036854775807, 1, 1)": "overflow",
    "date(n, 1, 10000000000)": "overflow",
    "date(2026, 1, 1.0)": "type-error",
    "date(n)": "type-error",
    "date(nothing)": "null-value",
    "date(timedelta(1))": "type-error",
    "datetime(2026, 1, 31, 25)": "bad-value",
    'datetime(2026, 1, "x")': "type-error",
    "datetime(at, n)": "type-error",
    'datetime(at, "Europe/Roma")': "bad-value",
    'datetime(at, "../../../etc/passwd")': "bad-value",
    'datetime(at, "/etc/localtime")': "bad-value",
    'datetime(at, "europe/rome")': "bad-value",
    'datetime(at, "")': "bad-value",
    'datetime(at, "zones")': "bad-value",
    'datetime(at, "a" * 10000000)': "bad-value",
    'datetime(at, "+99:00")': "bad-value",
    'datetime("0001-01-01", "Asia/Tokyo")': "overflow",
    'datetime("9999-12-31T23:00Z").astimezone("Asia/Tokyo")': "overflow",
    'datetime(day).astimezone("UTC")': "bad-value",
    "datetime(day).timestamp()": "bad-value",
    'timedelta("P1Y")': "bad-value",
    'timedelta("P")': "bad-value",
    'timedelta("P1DT")': "bad-value",
    'timedelta("P9999999999999D")': "bad-value",
    'timedelta("P999999999999D")': "overflow",
    "timedelta(days=1000000000)": "overflow",
    "timedelta(days=9223372036854775807, hours=1)": "overflow",
    "timedelta(days=1e308)": "overflow",
    'timedelta(days="1")': "type-error",
    "timedelta(days=True)": "type-error",
    "timedelta(days=nothing)": "null-value",
    'timedelta("P1D", hours=1)': "bad-value",
    "timedelta(1, days=1)": "bad-value",
    "timedelta([])": "type-error",
    "timedelta(days=999999999) * 1e300": "overflow",
    "timedelta(days=999999999) * 9223372036854775807": "overflow",
    "timedelta(days=999999999) // timedelta(microseconds=1)": "overflow",
    "timedelta(days=1) / 0": "division-by-zero",
    "timedelta(days=1) % timedelta(0)": "division-by-zero",
    "-timedelta(days=999999999, hours=23)": "overflow",
    "date(9999, 12, 31) + timedelta(days=1)": "overflow",
    "date(1, 1, 1) - timedelta(days=1)": "overflow",
    "date(day) + 1": "type-error",
    "date(day) + day": "type-error",
    "day + timedelta(days=1)": "type-error",
    "date(day) + date(day)": "type-error",
    "timedelta(1) - date(day)": "type-error",
    "timedelta(1) * timedelta(1)": "type-error",
    "timedelta(1) * True": "type-error",
    "timedelta(1) ** 2": "type-error",
    "date(day) + None": "null-value",
    "datetime(at) - datetime(day)": "type-error",
    "datetime(at) < datetime(day)": "type-error",
    "sorted([datetime(at), datetime(day)])": "type-error",
    "max([datetime(at), datetime(day)])": "type-error",
    "sorted([date(day), day])": "type-error",
    "sorted([date(day), datetime(day)])": "type-error",
    "sorted(evs, key=lambda e: [date(e.start) if e.end == evs[0].end else 1])": "type-error",
    "date(day) == day": "type-error",
    "day != date(day)": "type-error",
    "date(day) in [1]": "type-error",
    "date(day) == datetime(day)": "type-error",
    "date(day) < day": "type-error",
    "date(day).hour": "absent-field",
    "date(day)[0]": "type-error",
    "len(date(day))": "type-error",
    "join([date(day)])": "type-error",
    "{date(day): 1}": "type-error",
    'date(day).strftime("%Q")': "bad-value",
    'date(day).strftime("%")': "bad-value",
    'date(day).strftime("%Ey")': "bad-value",
    'date(day).strftime("%c")': "bad-value",
    'date(day).strftime("%Y" * 1000)': "bad-value",
    "date(day).strftime(n)": "type-error",
    "day.weekday()": "type-error",
    "timedelta(1).weekday()": "type-error",
    "date(day).date()": "type-error",
    "date(day).upper()": "type-error",
    "datetime(at).astimezone(nothing)": "null-value",
    "group_by([date(day), datetime(day)])": "type-error",
}  # fmt: skip


@pytest.mark.parametrize("text", FAULTS)
def test_fault(text: str) -> None:
    """Hostile text, huge numbers and values of other kinds are faults of the expression, and nothing else is raised."""
    with pytest.raises(EvaluationError) as caught:
        value(text)
    assert caught.value.code == FAULTS[text], str(caught.value)
    assert len(str(caught.value)) < 300


FOUND = {
    "date(day) + timedelta(days=n)": ("text", []),
    "(date(day) - date(day)).days": ("integer", []),
    "date(day) - date(day)": ("text", []),
    "timedelta(days=x) / timedelta(hours=1)": ("number", []),
    "timedelta(days=x) // timedelta(hours=1)": ("integer", []),
    "datetime(at).timestamp()": ("number", []),
    "{'a': date(day), 'b': [timedelta(1), n]}": ("{a, b}", []),
    "{'a': date(day), 'b': [timedelta(1), n]}.b": ("list of (text or integer)", []),
    "[[date(day), n]][0][0]": ("text", []),
    "group_by(evs, key=lambda e: date(e.start))": ("object", []),
    "sorted(evs, key=lambda e: (datetime(e.start), e.end))[0].end": ("text", []),
    "max(date(e.start) for e in evs)": ("text", []),
    "date(day) if n > 1 else None": ("text or null", []),
    "timedelta(0) or n": ("text or integer", []),
    "date(day) or n": ("text or integer", []),
    "date(u) - date(day)": ("text", ["unchecked-type"]),
    "date(day) - u": ("text", ["unchecked-type"]),
    "date(nothing)": ("text", ["maybe-missing"]),
    "date(day) == u": ("boolean", ["unchecked-type"]),
    "date(day) == None": ("boolean", []),
    "date(day) == date(u)": ("boolean", ["unchecked-type"]),
    "date(day) == day": ("no value", ["bad-expr"]),
    "date(day) in [day]": ("no value", ["bad-expr"]),
    "date(day) < datetime(at)": ("no value", ["bad-expr"]),
    "day + timedelta(days=1)": ("no value", ["bad-expr"]),
    "date(day) + n": ("no value", ["bad-expr"]),
    "date(day) + date(day)": ("no value", ["bad-expr"]),
    "date(n)": ("no value", ["bad-expr"]),
    "date(n, n)": ("no value", ["bad-expr"]),
    "date(n, n, x)": ("text", ["unchecked-type"]),
    "datetime(day, n)": ("no value", ["bad-expr"]),
    'datetime(day, "Europe/Roma")': ("no value", ["bad-expr"]),
    'datetime(day).astimezone("Europe/Roma")': ("no value", ["bad-expr"]),
    "timedelta(days=day)": ("no value", ["bad-expr"]),
    "timedelta(day=1)": ("no value", ["bad-expr"]),
    "timedelta(days=1, days=2)": ("no value", ["bad-expr"]),
    "date(day).hour": ("no value", ["unknown-field"]),
    "date(day).strftime": ("no value", ["unknown-field"]),
    "day.year": ("no value", ["unknown-field"]),
    "day.weekday()": ("no value", ["bad-expr"]),
    'date(day).strftime("%Q")': ("no value", ["bad-expr"]),
    "sorted([date(day), day])": ("no value", ["bad-expr"]),
    "-date(day)": ("no value", ["bad-expr"]),
    "sum([timedelta(1)])": ("no value", ["bad-expr"]),
    "datetime.now()": ("no value", ["bad-expr"]),
    "date.today()": ("no value", ["bad-expr"]),
    "date.fromisoformat(day)": ("no value", ["bad-expr"]),
}


@pytest.mark.parametrize("text", FOUND)
def test_type(text: str) -> None:
    """The check knows the type of what is handed out, in which dates are text, and what is wrong."""
    formula, faults = parse_formula(f"${{{text}}}")
    inferred = infer(formula, TYPES)
    found = type_text(widened(inferred.type)), [each.code for each in (*faults, *inferred.problems)]
    assert found == FOUND[text]


HINTS = {
    "day + timedelta(days=1)": "date(x), datetime(x) and timedelta(x) read ISO text",
    "date(day) == day": "date(x), datetime(x) and timedelta(x) read ISO text",
    "date(day) + n": "timedelta(days=n)",
    "day.year": "write: datetime(day).year",
    "day.weekday()": "date(x), datetime(x) and timedelta(x) read ISO text",
    "date(day).weekday": "call the method: date(day).weekday(..)",
    "date(day).yaer": "did you mean 'date(day).year'?",
    'datetime(day, "Europe/Roma")': "did you mean 'Europe/Rome'?",
    "timedelta(day=1)": "days=",
    "date.fromisoformat(day)": "write: date(x), or datetime(x)",
    "datetime.now()": "expressions have no clock",
    "date.today()": "expressions have no clock",
    "date(day).replace(day=1)": "date(x.year, x.month, 1)",
    "timedelta(months=1)": "days=",
    're.search("a", day)': "write: search(pattern, x)",
    'search("(a)", day).group(1)': "(?P<name>..)",
    '"{:.2f}".format(n)': 'write: format(x, ",.2f")',
    "max(count_by(evs, key=lambda e: e.end), key=lambda k: k)": "items(count_by(evs, key=lambda e: e.end)) are",
    'ZoneInfo("Europe/Rome")': 'datetime(x, "Europe/Rome")',
}


@pytest.mark.parametrize("text", HINTS)
def test_hint(text: str) -> None:
    """What people bring from Python leads to what this language has."""
    formula, faults = parse_formula(f"${{{text}}}")
    (problem,) = [*faults, *infer(formula, TYPES).problems]
    assert HINTS[text] in problem.hint


@cache
def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """Return a zone as Python finds it in the package `tzdata`: the files of this machine may be older."""
    paths = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    try:
        return zoneinfo.ZoneInfo.no_cache(name)
    finally:
        zoneinfo.reset_tzpath(paths)


MOMENTS = st.datetimes() | st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)


@examples(200)
@given(MOMENTS, st.timedeltas())
def test_text_is_read_as_it_was_written(moment: datetime, length: timedelta) -> None:
    """ISO text of a date, a datetime and a timedelta reads as the same value, in every expression that follows."""
    assert dates.read_datetime(dates.iso_text(moment)) == moment
    assert dates.read_datetime(dates.iso_text(moment)).utcoffset() == moment.utcoffset()
    assert dates.read_date(dates.iso_text(moment.date())) == moment.date()
    if abs(length) <= timedelta.max:
        assert dates.read_timedelta(dates.iso_text(length)) == length


@examples(200)
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  # local times
    st.sampled_from(["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "UTC", "Pacific/Apia"]),
)  # fmt: skip
def test_zones_are_those_of_the_database(local: datetime, zone: str) -> None:
    """A local time in a zone is the instant that the zone's rules say, and converting it back gives the local time unless the zone skips it."""
    text = value(f'datetime(x, "{zone}")', {"x": local.isoformat()})
    there = local.replace(tzinfo=zone_of(zone))
    assert datetime.fromisoformat(text) == there.astimezone(UTC)
    skipped = there.astimezone(UTC).astimezone(zone_of(zone)).replace(tzinfo=None) != local
    assert (datetime.fromisoformat(text).replace(tzinfo=None) == local) is not skipped


@examples(100)
@given(st.datetimes(datetime(1000, 1, 1)), st.sampled_from("YmdHIMSfpAaBbjuwGVy"))  # noqa: DTZ001  # without offset
def test_forms_are_those_of_python(moment: datetime, directive: str) -> None:
    """Each directive writes what `strftime` writes in the C locale."""
    assert dates.formatted(moment, f"<%{directive}>") == moment.strftime(f"<%{directive}>")


def test_a_date_is_the_same_in_one_expression_and_in_two() -> None:
    """An expression may be divided among steps: what is handed out reads as the value that it was."""
    for inner in ("datetime(at, 'Europe/Rome')", "date(day)", "timedelta(hours=1.5)"):
        read = inner.split("(", 1)[0]
        handed_out = value(inner)
        for outer in ("str({})", "{} == {}", "[{}]", "{} + timedelta(days=1)"):
            once = value(outer.replace("{}", f"({inner})"))
            assert once == value(outer.replace("{}", f"{read}(x)"), {"x": handed_out}), (inner, outer)


def test_nothing_depends_on_the_machine() -> None:
    """Zone, locale and zone files of the system change no value."""
    code = """
import json, sys
from firmplan.plans.expressions.evaluate import compile_node
from firmplan.plans.expressions.syntax import parse
print(json.dumps([compile_node(parse(text))(json.loads(sys.argv[1])) for text in json.loads(sys.argv[2])]))
"""
    texts = [text for text in VALUES if "datetime" in text or "strftime" in text]
    for environment in (
        {"TZ": "Asia/Tokyo", "PYTHONTZPATH": "/nowhere"},
        {"TZ": "America/New_York", "LC_ALL": "de_DE.UTF-8"},
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(SCOPE), json.dumps(texts)],
            env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == [VALUES[text] for text in texts]


def test_every_zone_is_read_and_no_other_file() -> None:
    """Each name of the list is a zone; names are compared with the list before they become a path."""
    names = sorted(dates._zone_names())  # the list itself
    assert {"Europe/Rome", "UTC", "America/Argentina/Buenos_Aires"} <= set(names)
    assert len(names) > 400
    for name in names:
        dates.zone_of(name)
    for name in (
        "zones",
        "__init__.py",
        "Europe",
        "Europe/Rome/",
        "./UTC",
        "Europe\\Rome",
        "UTC\0",
        "Europe/../UTC",
    ):
        with pytest.raises(EvaluationError, match="there is no time zone"):
            dates.zone_of(name)


def test_dates_do_not_leave_an_expression() -> None:
    """Whatever is handed out is JSON: a plan keeps no date among its constants, and a large value around one is not copied in vain."""
    rows = [{"n": n} for n in range(5)]
    assert value("[r for r in rows if date('2026-01-01') < date('2026-01-02')]", {"rows": rows})[0] is rows[0]
    folded = parse_formula("${[date('2026-01-01'), [timedelta(days=1)] * 3]}")[0]
    assert folded.evaluate({}) == ["2026-01-01", ["P1D"] * 3]
    assert isinstance(value("date(day)"), str)
    assert type(dates.plain([date(2026, 1, 1), {"a": 1}])) is list  # type: ignore[list-item]
