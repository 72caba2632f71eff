"""Durations, rates and counts as people write them in settings: `"1h"`, `"90s"`, `10`, `"10/s"`, `"100/min"`.

Durations are returned in seconds, rates in calls per second. Every function raises `ValueError` with the accepted spellings; the
caller adds the name of the tool and of the setting.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from ..lazy_imports import late_pattern

UNITS_S = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "w": 604800.0,
}
_PART = late_pattern(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_RATE = late_pattern(r"(\d+(?:\.\d+)?)\s*/\s*(\d*)\s*([a-z]+)")

DURATION_HINT = 'write seconds as a number, or text such as "30s", "5m", "1h", "1h30m" or "7d"'
RATE_HINT = 'write calls a second as a number, or text such as "10/s", "100/min" or "1000/h"'


def parse_duration(value: object) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: Not a finite duration of at least zero.
    """
    match value:
        case bool():
            pass
        case int() | float() if math.isfinite(value) and value >= 0:
            return float(value)
        case timedelta() if value >= timedelta():
            return value.total_seconds()
        case str():
            return _parse_text(value)
        case _:
            pass
    raise ValueError(f"expected a duration, found {value!r}; {DURATION_HINT}")


def duration_text(seconds: float) -> str:
    """Return a duration as `parse_duration` reads it, in the largest unit that divides it: `24h`, `90s`, `0.5s`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.6g}s"


def time_text(seconds: float) -> str:
    """Return Unix seconds as ISO text in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_rate(value: object) -> float:
    """Return a rate in calls per second.

    Raises:
        ValueError: Not a finite rate above zero.
    """
    match value:
        case bool():
            pass
        case int() | float() if math.isfinite(value) and value > 0:
            return float(value)
        case str() if (found := _RATE.fullmatch(value.strip().lower())) and found[3] in UNITS_S:
            calls, period_s = float(found[1]), float(found[2] or 1) * UNITS_S[found[3]]
            if calls > 0 and period_s > 0:
                return calls / period_s
        case _:
            pass
    raise ValueError(f"expected a rate, found {value!r}; {RATE_HINT}")


def parse_count(value: object, least: int, most: int | None = None) -> int:
    """Return an integer within bounds.

    Args:
        value: The value of a setting.
        least: The lower bound.
        most: The upper bound; `None`: there is none.

    Raises:
        ValueError: The value is not such an integer; `True` is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= (most or value):
        return value
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"expected an integer {bounds}, found {value!r}")


def _parse_text(text: str) -> float:
    """Return the sum of the parts of a text such as `1h30m`."""
    rest, seconds = text.strip().lower(), 0.0
    while found := _PART.match(rest):
        if found[2] not in UNITS_S:
            break
        seconds += float(found[1]) * UNITS_S[found[2]]
        rest = rest[found.end() :]
    if rest or not text.strip():
        raise ValueError(f"expected a duration, found {text!r}; {DURATION_HINT}")
    return seconds
