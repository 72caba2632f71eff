"""When a `wait` step ends: durations and times as plans write them.

The check judges what stands literally in a plan, and the machine computes the time; both read text by the same functions. Nothing here reads a clock: the time
from which a duration counts is handed in.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final, cast

from .durations import parse_duration
from .expressions.dates import read_datetime, read_timedelta
from .reports.errors import EvaluationError
from .types.types import INTEGER, NUMBER, TEXT, Type, union

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .values import Json

WAIT_MAX_S: Final = 10 * 366 * 86_400  # ten years: a longer wait is most likely milliseconds given as seconds
DURATION_TYPE: Final[Type] = union(TEXT, INTEGER, NUMBER)
TIME_TYPE: Final[Type] = TEXT
_DURATION_HINT: Final = 'write seconds, or text such as "90s", "2h", "1h30m", "7d" or "PT2H"'


def duration_s(given: Json) -> float:
    """Return a duration in seconds: a number of seconds, text such as `2h`, or the ISO text of a `timedelta`. Raises: EvaluationError."""
    try:
        is_iso = isinstance(given, str) and given.lstrip("+-")[:1] == "P"
        seconds = read_timedelta(cast("str", given)).total_seconds() if is_iso else parse_duration(given)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        raise EvaluationError(
            "bad-value", f"expected a duration of at least 0, found {given!r}; {_DURATION_HINT}"
        )
    if seconds > WAIT_MAX_S:
        raise EvaluationError(
            "limit-exceeded", f"a wait of {given!r} is longer than ten years; {_DURATION_HINT}"
        )
    return seconds


def time_of(given: Json) -> float:
    """Return the Unix seconds of a time as ISO text; a date is its midnight, and a time without an offset is in UTC. Raises: EvaluationError."""
    if not isinstance(given, str):
        raise EvaluationError("bad-value", f"expected a date or a time as ISO text, found {given!r}")
    found = read_datetime(given)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def find_fault(given: Mapping[str, Json]) -> EvaluationError | None:
    """Return what is wrong with a wait that stands literally in a plan, whenever it begins; `None`: nothing."""
    try:
        if "for" in given:
            duration_s(given["for"])
        else:
            time_of(given["until"])
    except EvaluationError as fault:
        return fault if fault.code == "limit-exceeded" else EvaluationError("bad-literal", str(fault))
    return None


def due_of(given: Json, now: float) -> float:
    """Return when a wait ends, in Unix seconds.

    Args:
        given: `{"for": duration}` or `{"until": time}`.
        now: When the wait begins, in Unix seconds.

    Raises:
        EvaluationError: It is no duration or no time, or too far away.
    """
    fields = cast("dict[str, Json]", given)
    if "for" in fields:
        return now + duration_s(fields["for"])
    until = time_of(fields["until"])
    if until > now + WAIT_MAX_S:
        raise EvaluationError("limit-exceeded", f"a wait until {fields['until']} is longer than ten years")
    return until
