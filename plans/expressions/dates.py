"""Dates, times and durations as expressions compute with them, and their ISO text.

JSON has no dates: in every value of a run a date is ISO text (`2026-01-31`, `2026-01-31T09:00:00+01:00`), and a duration is ISO text (`P7D`). `date(..)`,
`datetime(..)` and `timedelta(..)` read the text and make Python's own values. These live inside one evaluation, which puts the text in their place
before it hands its result out (`plain`). So a date means the same wherever an expression is divided among steps.

For the same reason a datetime has an offset and never a zone: a zone is applied where a text is read or converted, since ISO text cannot keep it. With the
offset alone, `a - b` and `a < b` are about instants; Python compares two local times of one zone by their digits.

Everything is the same on every machine. Nothing here reads a clock or the machine's zone; zones come from the package `tzdata` and never from the
system's files; text is read and written by the rules below, because Python's own `fromisoformat` and `strftime` differ between versions and platforms.

The arguments that functions and methods check are in `functions.py`, the types in `function_types.py`.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from ...lazy_imports import late_pattern
from ..reports.errors import EvaluationError
from ..reports.nearest import did_you_mean

if TYPE_CHECKING:
    from ..values import Json

Moment: TypeAlias = date | datetime | timedelta
_Made = TypeVar("_Made", date, datetime, timedelta)

KINDS: Final[Mapping[type[object], str]] = MappingProxyType(
    {date: "date", datetime: "datetime", timedelta: "timedelta"}
)
"""The kinds of these values, as types name them. By exact class: every datetime is a date for Python."""

MAKERS: Final = frozenset(KINDS.values())
"""The functions that make them; all other values of an expression come from JSON."""

ISO_CHARACTERS_MAX: Final = 64
FORMAT_CHARACTERS_MAX: Final = 200
NUMBER_DIGITS_MAX: Final = 12
"""Digits of one number in the ISO text of a duration; the longest duration has 9 digits of days."""


def is_moment(value: object) -> bool:
    """Whether a value is a date, a datetime or a timedelta."""
    return type(value) in KINDS


# --- To and from text


_DATE = "([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME = "([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
_OFFSET = "[Zz]|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?"
_DATETIME = late_pattern(f"{_DATE}(?:[Tt ]{_TIME}({_OFFSET})?)?")
_OFFSET_ALONE = late_pattern(_OFFSET)
_COUNT = f"([0-9]{{1,{NUMBER_DIGITS_MAX}}})"
_DURATION = late_pattern(
    rf"([+-])?P(?:{_COUNT}W)?(?:{_COUNT}D)?(?:T(?:{_COUNT}H)?(?:{_COUNT}M)?(?:{_COUNT}(?:[.,]([0-9]{{1,9}}))?S)?)?"
)


def read_datetime(text: str) -> datetime:
    """Return the datetime of an ISO text; that of a date is its midnight, without an offset. Raises: EvaluationError."""
    # The length first, since an expression may hand in a text of any length.
    found = _DATETIME.fullmatch(text) if len(text) <= ISO_CHARACTERS_MAX else None
    try:
        if found is not None:
            year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
            micro, offset = _microseconds(found[7]), _offset(found[8])
            return datetime(year, month, day, hour, minute, second, micro, offset)
    except ValueError:  # a 13th month, a 25th hour
        pass
    raise EvaluationError(
        "bad-value",
        f"{quoted(text)} is no date or time; expected ISO text such as '2026-01-31' or '2026-01-31T09:00:00+01:00'",
    )


def _microseconds(fraction: str | None) -> int:
    # Further digits are cut and not rounded, so that no second is carried over.
    return int((fraction or "0").ljust(6, "0")[:6])


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "").ljust(6, "0")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    # `timedelta` would make an hour and more of 99 minutes.
    if int(digits[2:4]) > 59 or int(digits[4:]) > 59:
        raise ValueError(text)
    return timezone(-ahead if text[0] == "-" else ahead)


def read_date(text: str) -> date:
    """Return the date of an ISO text; of a time, the day as it is written. Raises: EvaluationError."""
    return read_datetime(text).date()


def read_timedelta(text: str) -> timedelta:
    """Return the timedelta of an ISO text such as `P1DT12H`. Raises: EvaluationError."""
    found = _DURATION.fullmatch(text) if len(text) <= 2 * ISO_CHARACTERS_MAX else None
    if found is None or text[-1] in "PT":
        raise EvaluationError(
            "bad-value", f"{quoted(text)} is no duration; expected ISO text such as 'P7D' or 'PT1H30M'"
        )
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:6])
    duration = make(
        timedelta,
        weeks=weeks,
        days=days,
        hours=hours,
        minutes=minutes,
        seconds=seconds,
        microseconds=_microseconds(found[7]),
    )
    return -duration if found[1] == "-" else duration


def make(kind: Callable[..., _Made], *numbers: float, **parts: float) -> _Made:
    """Return the date, datetime or timedelta of numbers, such as year, month and day, or `days=`. Raises: EvaluationError."""
    try:
        return kind(*numbers, **parts)
    except OverflowError:
        raise _too_far() from None
    except ValueError as error:
        # Python says `day is out of range for month`, and its words differ between versions.
        message = f"there is no {KINDS[cast('type[object]', kind)]} of {', '.join(map(str, numbers))}"
        raise EvaluationError("bad-value", message) from error


def _too_far() -> EvaluationError:
    return EvaluationError(
        "overflow", "a date outside of the years 1 to 9999, or a timedelta of more than 999999999 days"
    )


def iso_text(value: Moment) -> str:
    """Return the ISO text of a value."""
    if not isinstance(value, timedelta):
        return value.isoformat()
    # Python writes `7 days, 0:00:00`, and keeps a negative duration as negative days with positive seconds.
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    hours, seconds = divmod(value.seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    parts = [(hours, "H", ""), (minutes, "M", ""), (seconds, "S", fraction)]
    time = "".join([f"{count}{more}{unit}" for count, unit, more in parts if count or more])
    day = f"{value.days}D" if value.days else ""
    return f"{sign}P{day}T{time}" if time else f"{sign}P{day or 'T0S'}"


def plain(value: Json) -> Json:
    """Return a value with the ISO text in the place of every date in it; a value without dates is the same object."""
    # The same object comes back where nothing changes, so that callers see by identity whether there was a date.
    kind = type(value)
    if kind in KINDS:
        return iso_text(cast("Moment", value))
    if kind is list:
        items = cast("list[Json]", value)
        made = [plain(item) for item in items]
        return value if all(map(operator.is_, items, made)) else made
    if kind is dict:
        fields = cast("dict[str, Json]", value)
        parts = {name: plain(part) for name, part in fields.items()}
        return value if all(map(operator.is_, fields.values(), parts.values())) else parts
    return value


# --- Arithmetic


RESULTS: Final[Mapping[tuple[str, str, str], str]] = MappingProxyType(
    {
        ("+", "date", "timedelta"): "date",
        ("+", "timedelta", "date"): "date",
        ("+", "datetime", "timedelta"): "datetime",
        ("+", "timedelta", "datetime"): "datetime",
        ("+", "timedelta", "timedelta"): "timedelta",
        ("-", "date", "timedelta"): "date",
        ("-", "date", "date"): "timedelta",
        ("-", "datetime", "timedelta"): "datetime",
        ("-", "datetime", "datetime"): "timedelta",
        ("-", "timedelta", "timedelta"): "timedelta",
        ("*", "timedelta", "integer"): "timedelta",
        ("*", "timedelta", "number"): "timedelta",
        ("*", "integer", "timedelta"): "timedelta",
        ("*", "number", "timedelta"): "timedelta",
        ("/", "timedelta", "integer"): "timedelta",
        ("/", "timedelta", "number"): "timedelta",
        ("/", "timedelta", "timedelta"): "number",
        ("//", "timedelta", "integer"): "timedelta",
        ("//", "timedelta", "timedelta"): "integer",
        ("%", "timedelta", "timedelta"): "timedelta",
    }
)
"""The kinds that an operator takes, and the kind that it gives. The check and the run ask the same table."""

ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}
"""The arithmetic of Python, by its sign, for numbers and for dates."""
_NUMBERS: Final[Mapping[type[object], str]] = MappingProxyType({int: "integer", float: "number"})


def computed(sign: str, left: Json, right: Json) -> object:
    """Return `left sign right`, one of which is a date, datetime or timedelta; `None`: the operator takes no such values.

    Raises:
        EvaluationError: There is no such value.
    """
    # A boolean is no number here, as in all arithmetic of the language.
    kinds = [KINDS.get(type(each)) or _NUMBERS.get(type(each), "") for each in (left, right)]
    if (sign, *kinds) not in RESULTS:
        return None
    try:
        return ARITHMETIC[sign](left, right)
    except OverflowError:
        raise _too_far() from None
    except ZeroDivisionError:
        raise EvaluationError("division-by-zero", "division by zero") from None
    except TypeError:
        raise mixed_offsets() from None


def negated(value: timedelta) -> Json:
    """Return `-value`. Raises: EvaluationError."""
    try:
        return cast("Json", -value)
    except OverflowError:
        raise _too_far() from None


def is_before(left: object, right: object) -> bool:
    """Whether `left < right`, of two values of one kind. Raises: EvaluationError: one has an offset, and the other has none."""
    try:
        return bool(cast("timedelta", left) < cast("timedelta", right))
    except TypeError:
        raise mixed_offsets() from None


def mixed_offsets() -> EvaluationError:
    """Return the problem of a time with an offset beside one without."""
    return EvaluationError(
        "type-error",
        "one time has an offset and another has none; datetime(x, 'Europe/Rome') reads a time without offset in a zone",
    )


# --- Parts, and forms other than ISO


_OF_DATE: Final = ("year", "month", "day")
FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "date": _OF_DATE,
        "datetime": (*_OF_DATE, "hour", "minute", "second", "microsecond"),
        "timedelta": ("days", "seconds", "microseconds"),
    }
)
"""The fields of each kind; all are integers."""


def field(value: object, name: str) -> Json:
    """Return a field of a date, datetime or timedelta. Raises: EvaluationError."""
    kind = KINDS[type(value)]
    if name in FIELDS[kind]:
        return int(getattr(value, name))
    raise EvaluationError(
        "absent-field", f"a {kind} has no field {quoted(name)}; its fields are {', '.join(FIELDS[kind])}"
    )


_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DIRECTIVE: Final = late_pattern(r"%(-?)(:?.?)", re.DOTALL)
_DIRECTIVES: Final[Mapping[str, Callable[[datetime], str]]] = MappingProxyType(
    {
        "Y": lambda at: f"{at.year:04d}",
        "y": lambda at: f"{at.year % 100:02d}",
        "m": lambda at: f"{at.month:02d}",
        "d": lambda at: f"{at.day:02d}",
        "e": lambda at: f"{at.day:2d}",
        "H": lambda at: f"{at.hour:02d}",
        "I": lambda at: f"{(at.hour - 1) % 12 + 1:02d}",
        "M": lambda at: f"{at.minute:02d}",
        "S": lambda at: f"{at.second:02d}",
        "f": lambda at: f"{at.microsecond:06d}",
        "p": lambda at: "AM" if at.hour < 12 else "PM",
        "A": lambda at: _DAYS[at.weekday()],
        "a": lambda at: _DAYS[at.weekday()][:3],
        "B": lambda at: _MONTHS[at.month - 1],
        "b": lambda at: _MONTHS[at.month - 1][:3],
        "j": lambda at: f"{at.timetuple().tm_yday:03d}",
        "u": lambda at: str(at.isoweekday()),
        "w": lambda at: str(at.isoweekday() % 7),
        "G": lambda at: f"{at.isocalendar().year:04d}",
        "V": lambda at: f"{at.isocalendar().week:02d}",
        "F": lambda at: at.date().isoformat(),
        "T": lambda at: f"{at.hour:02d}:{at.minute:02d}:{at.second:02d}",
        "R": lambda at: f"{at.hour:02d}:{at.minute:02d}",
        "z": lambda at: "" if at.tzinfo is None else _offset_text(at, ""),
        ":z": lambda at: "" if at.tzinfo is None else _offset_text(at, ":"),
        "Z": lambda at: "" if at.tzinfo is None else str(at.tzname()),
        "%": lambda _at: "%",
    }
)


def _offset_text(at: datetime, between: str) -> str:
    seconds = int(cast("timedelta", at.utcoffset()).total_seconds())
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}{between}{minutes % 60:02d}"


def formatted(value: date | datetime, form: str) -> str:
    """Return a date or time in a form such as `%d.%m.%Y`, with English names. Raises: EvaluationError."""
    check_form(form)
    at = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001  # its midnight

    def part(found: re.Match[str]) -> str:
        made = _DIRECTIVES[found[2]](at)
        # `%-d` is the day without its zero, which the C libraries of some systems lack.
        return (made.lstrip("0 ") or "0") if found[1] else made

    return _DIRECTIVE.sub(part, form)


def check_form(form: str) -> None:
    """Refuse a form that has a directive which means nothing, or not the same everywhere. Raises: EvaluationError."""
    if len(form) > FORMAT_CHARACTERS_MAX:
        raise EvaluationError("bad-value", f"a form of a date has at most {FORMAT_CHARACTERS_MAX} characters")
    for found in _DIRECTIVE.finditer(form):
        if found[2] not in _DIRECTIVES:
            raise EvaluationError(
                "bad-value",
                f"a form of a date has no {quoted(found[0])}; expected %Y, %m, %d, %H, %M, %S, %A, %B or another of the page of expressions",
            )


# --- Zones


def in_zone(value: datetime, name: str) -> datetime:
    """Return a time in a zone: one with an offset is converted, one without is read as the time of the zone.

    Of a time that a zone has twice the first is meant. One that a zone skips is as far after the skip.

    Raises:
        EvaluationError: There is no such zone, or the time is not in the years 1 to 9999 there.
    """
    zone = zone_of(name)
    try:
        # There and back through UTC: that decides about times which a zone skips or has twice.
        local = (
            (value if value.tzinfo is not None else value.replace(tzinfo=zone))
            .astimezone(UTC)
            .astimezone(zone)
        )
        # With its offset and without its zone, as the ISO text will keep it.
        return local.replace(tzinfo=timezone(cast("timedelta", local.utcoffset())), fold=0)
    except OverflowError:
        raise _too_far() from None


def converted(value: datetime, name: str) -> datetime:
    """Return a time with an offset in a zone. Raises: EvaluationError."""
    if value.tzinfo is None:
        message = "astimezone(..) takes a time with an offset, found one without; datetime(x, 'Europe/Rome') reads it in a zone"
        raise EvaluationError("bad-value", message)
    return in_zone(value, name)


@functools.lru_cache(128)
def zone_of(name: str) -> tzinfo:
    """Return the time zone of a name or an offset. Raises: EvaluationError: there is none."""
    # Only names of the list reach the files, so that no text leads out of the package.
    if name in _zone_names():
        from importlib import resources  # noqa: PLC0415  # only where a zone is used
        from zoneinfo import ZoneInfo  # noqa: PLC0415  # the same

        with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            return ZoneInfo.from_file(file, name)
    if len(name) <= ISO_CHARACTERS_MAX and _OFFSET_ALONE.fullmatch(name):
        try:
            return cast("tzinfo", _offset(name))
        except ValueError:
            pass
    raise EvaluationError(
        "bad-value", f"there is no time zone {quoted(name)}; expected a name such as 'Europe/Rome', or 'UTC'"
    )


@functools.cache
def _zone_names() -> frozenset[str]:
    """Return the names of the zones that the package `tzdata` has."""
    from importlib import resources  # noqa: PLC0415  # only where a zone is used

    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def nearest_zone(name: str) -> str:
    """Return the question for the zone that a wrong name is nearest to; empty if none is near."""
    # For hints of a check only. The message of a run is journaled, and may not depend on the list of zones.
    return did_you_mean(name[:ISO_CHARACTERS_MAX], sorted(_zone_names()))


def quoted(text: str) -> str:
    """Return a text in quotes for a message, cut short."""
    return repr(text if len(text) <= 40 else text[:37] + "..")
