"""What the functions and methods of dates do with their arguments: they check the kinds, and hand over to `dates.py`.

The rows of the tables are in `functions.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..reports.errors import EvaluationError
from . import dates
from .operators import is_number, number, type_problem

if TYPE_CHECKING:
    from ..values import Json
    from .operators import Frame

Apply: TypeAlias = "Callable[..., Json]"


def make_date(frame: Frame, value: Json, *more: Json) -> Json:
    """`date(x)` of ISO text, of a datetime or of a date; `date(year, month, day)`."""
    _begin(frame)
    if more:
        return cast("Json", dates.make(date, *_integers("date(..)", [value, *more])))
    of: object = value
    if isinstance(of, datetime):
        return cast("Json", of.date())
    if isinstance(of, str):
        return cast("Json", dates.read_date(of))
    return cast("Json", _expected(of, date, "date(..)", "ISO text, or a year, a month and a day"))


def make_datetime(frame: Frame, value: Json, *more: Json) -> Json:
    """`datetime(x)` of ISO text or of a date; `datetime(x, zone)`, in a zone; `datetime(year, month, day, hour, ..)`."""
    _begin(frame)
    if len(more) > 1:
        return cast("Json", dates.make(datetime, *_integers("datetime(..)", [value, *more])))
    of: object = value
    if isinstance(of, str):
        of = dates.read_datetime(of)
    elif isinstance(of, date) and not isinstance(of, datetime):
        of = datetime(of.year, of.month, of.day)  # noqa: DTZ001  # its midnight, without an offset
    made = cast("datetime", _expected(of, datetime, "datetime(..)", "ISO text, or a year, a month and a day"))
    return cast("Json", dates.in_zone(made, _zone_of(more[0])) if more else made)


def make_timedelta(frame: Frame, *values: Json, **parts: Json) -> Json:
    """`timedelta(days=1, hours=2)`; `timedelta(1)`, of days; `timedelta("P1DT2H")`, of ISO text.

    Raises:
        EvaluationError: The arguments are of other kinds, or there is no such duration.
    """
    _begin(frame)
    for part in parts.values():
        if not is_number(part):
            raise type_problem("timedelta(..)", "numbers", part)
    numbers = cast("dict[str, float]", parts)
    if not values:
        return cast("Json", dates.make(timedelta, **numbers))
    (of,) = values
    if is_number(of) and "days" not in parts:
        return cast("Json", dates.make(timedelta, days=cast("float", of), **numbers))
    if parts:
        raise EvaluationError("bad-value", "timedelta(..) takes either names such as days= or one value")
    if isinstance(of, str):
        return cast("Json", dates.read_timedelta(of))
    return cast(
        "Json", _expected(of, timedelta, "timedelta(..)", "names such as days=, or ISO text such as 'P7D'")
    )


def _begin(frame: Frame) -> None:
    """Pay for a date, and note that there is one."""
    frame.pay(1)
    frame.has_dates = True


def _integers(what: str, values: list[Json]) -> list[int]:
    for value in values:
        if type(value) is not int:
            raise type_problem(what, "integers", value)
    if len(values) < 3:
        raise EvaluationError("bad-value", f"{what} takes a year, a month and a day")
    return cast("list[int]", values)


def _zone_of(value: Json) -> str:
    if type(value) is not str:
        raise type_problem("a time zone", "a name as text", value)
    return value


def _expected(value: object, kind: type[Any], what: str, wanted: str) -> object:
    if type(value) is not kind:
        raise type_problem(what, wanted, cast("Json", value))
    return value


def _method(name: str, kinds: tuple[type[object], ...], call: Callable[..., object]) -> Apply:
    """Return the implementation of a method of dates."""
    wanted = " or ".join(f"a {dates.KINDS[kind]}" for kind in kinds)

    def apply(frame: Frame, base: Json, *arguments: Json) -> Json:
        frame.pay(1)
        if type(base) not in kinds:
            raise type_problem(f".{name}(..)", wanted, base)
        for argument in arguments:
            if type(argument) is not str:
                raise type_problem(f".{name}(..)", "text", argument)
        return cast("Json", call(base, *arguments))

    return apply


def _timestamp(value: datetime) -> float:
    if value.tzinfo is None:
        message = ".timestamp() takes a time with an offset, found one without; datetime(x, 'Europe/Rome') reads it in a zone"
        raise EvaluationError("bad-value", message)
    return number(value.timestamp())


def _seconds(value: timedelta) -> float:
    return number(value.total_seconds())


_DAYS: tuple[type[object], ...] = (date, datetime)
isoformat = _method("isoformat", _DAYS, dates.iso_text)
strftime = _method("strftime", _DAYS, dates.formatted)
weekday = _method("weekday", _DAYS, date.weekday)
isoweekday = _method("isoweekday", _DAYS, date.isoweekday)
date_of = _method("date", (datetime,), datetime.date)
astimezone = _method("astimezone", (datetime,), dates.converted)
timestamp = _method("timestamp", (datetime,), _timestamp)
total_seconds = _method("total_seconds", (timedelta,), _seconds)
