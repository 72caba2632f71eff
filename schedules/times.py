"""The times of a schedule: every so many seconds, or by a cron expression in a time zone.

Everything is a function of its arguments: nothing here reads a clock, and zones come from the package `tzdata`, so that every machine computes
the same times. Times are Unix seconds, and whole numbers.

Cron expressions have five fields and mean what Debian's cron means by them; `cronsim` evaluates them. So do its rules for changes of the
clock: a fixed time that a zone skips comes right after the gap, a fixed time that it repeats comes once, and an expression whose minute or
hour begins with `*` goes by elapsed time. Rejected: own rules, which nobody could look up, and `croniter`, which moves skipped times by an hour.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import InputRejected
from ..plans.durations import parse_duration
from ..plans.expressions.dates import zone_of
from ..plans.reports.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY_S_MIN: Final = 1.0  # schedules are looked at once a second
EVERY_S_MAX: Final = 10 * 366 * 86_400.0  # a longer interval is a mistake in its unit
CRON_FIELDS: Final = 5  # cronsim takes a sixth, for seconds; each look at the schedules may be a second late
CRON_LENGTH_MAX: Final = 200  # characters; an expression that names every minute of an hour fits
FIRST_WINDOW_S: Final = 3_600.0  # how far back the search for the newest times begins


@dataclass(frozen=True, slots=True)
class Every:
    """A time every `seconds`, counted from `start`, which is one of them."""

    seconds: float
    start: float

    def after(self, at: float) -> float | None:
        """Return the first time later than `at`."""
        turns = max(0, int((at - self.start) // self.seconds) + 1)
        return self.start + turns * self.seconds

    def between(self, after: float, until: float, most: int) -> tuple[list[float], int]:
        """Return the newest `most` times later than `after`, up to and with `until`, oldest first, and how many earlier ones there are."""
        first = self.after(after)
        if first is None or first > until:
            return [], 0
        count = int((until - first) // self.seconds) + 1
        left_out = max(0, count - most)
        return [first + turn * self.seconds for turn in range(left_out, count)], left_out


@dataclass(frozen=True, slots=True)
class Cron:
    """The times of a cron expression in a time zone, from `start` on."""

    expression: str
    zone: str
    start: float

    def after(self, at: float) -> float | None:
        """Return the first time later than `at`; `None`: there is none."""
        return next(self._times(max(at, self.start - 1)), None)

    def between(self, after: float, until: float, most: int) -> tuple[list[float], int]:
        """Return as `Every.between` does; of the earlier ones at least one is counted, if there are any.

        To count a minute's times over years of downtime would take minutes.
        """
        after = max(after, self.start - 1)
        window = FIRST_WINDOW_S
        while True:
            begin = max(after, until - window)
            found = deque[float](maxlen=most + 1)
            for at in self._times(begin):
                if at > until:
                    break
                found.append(at)
            if len(found) > most or begin == after:
                times = list(found)
                left_out = max(0, len(times) - most)
                return times[left_out:], left_out
            window *= 2

    def _times(self, after: float) -> Iterator[float]:
        from cronsim import CronSim  # noqa: PLC0415  # only where a schedule is used

        zone = UTC if self.zone == "UTC" else zone_of(self.zone)
        # In the hour that a zone repeats, the library may begin with a time that has passed.
        for found in CronSim(self.expression, datetime.fromtimestamp(after, zone)):
            if (at := found.timestamp()) > after:
                yield at


Times: TypeAlias = "Every | Cron"


def times_of(*, every: object, cron: object, zone: object, start: float) -> Times:
    """Return the times that a caller describes.

    Args:
        every: A duration, as text or seconds; `None`: `cron` is given.
        cron: A cron expression; `None`: `every` is given.
        zone: A time zone, for `cron`.
        start: Unix seconds; no time is earlier.

    Raises:
        InputRejected: Not exactly one of the two, or it is none.
    """
    if (every is None) == (cron is None):
        found = "neither" if every is None else "both"
        raise InputRejected(
            f"a schedule: expected every= such as '1h', or cron= such as '0 8 * * 1-5', found {found}"
        )
    if every is not None:
        return Every(_interval(every), start)
    if not isinstance(cron, str) or len(cron) > CRON_LENGTH_MAX or len(cron.split()) != CRON_FIELDS:
        raise InputRejected(
            f"cron: expected {CRON_FIELDS} fields, minute, hour, day of month, month and day of week, such as '0 8 * * 1-5', found {cron!r:.80}"
        )
    return _checked(Cron(" ".join(cron.split()), _zone_name(zone), start))


def _interval(every: object) -> float:
    try:
        seconds = parse_duration(every)
    except ValueError as fault:
        raise InputRejected(f"every: {fault}") from fault
    if not (EVERY_S_MIN <= seconds <= EVERY_S_MAX and seconds.is_integer()):
        raise InputRejected(
            f"every: expected a whole number of seconds, from {EVERY_S_MIN:g} on and less than ten years, found {every!r:.80}"
        )
    return seconds


def _zone_name(zone: object) -> str:
    if not isinstance(zone, str):
        raise InputRejected(
            f"tz: expected the name of a time zone, such as 'Europe/Rome', found {zone!r:.80}"
        )
    try:
        zone_of(zone)
    except EvaluationError as fault:
        raise InputRejected(f"tz: {fault}") from fault
    return zone


def _checked(cron: Cron) -> Cron:
    from cronsim import CronSimError  # noqa: PLC0415  # only where a schedule is used

    try:
        first = cron.after(cron.start)
    except CronSimError as fault:
        raise InputRejected(f"cron: {str(fault).lower()} in {cron.expression!r}") from fault
    if first is None:
        raise InputRejected(f"cron: {cron.expression!r} never comes, such as the 30th of February")
    return cron
