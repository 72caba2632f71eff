"""Conditions that are ranges (`minimum`, `maxLength`, `minItems` ..): which imply others, and which exclude one another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import cast

from .kinds import Conditions

_End = tuple[float, bool]  # how far in a range begins from one side, and whether beyond that number only

_ENDS: Mapping[str, tuple[str, int, bool]] = MappingProxyType(
    {
        "minimum": ("number", 1, False),
        "exclusiveMinimum": ("number", 1, True),
        "maximum": ("number", -1, False),
        "exclusiveMaximum": ("number", -1, True),
        **{f"min{what}": (what, 1, False) for what in ("Length", "Items", "Properties")},
        **{f"max{what}": (what, -1, False) for what in ("Length", "Items", "Properties")},
    }
)
"""For each keyword: what it measures, from below (1) or from above (-1), and whether the number itself is left out."""


def implies(every: Conditions, one: str) -> bool:
    """Whether conditions on values leave no value that does not meet one more."""
    wanted = _ends((one,))
    given = _ends(every)
    return bool(wanted) and all(side in given and given[side] >= end for side, end in wanted.items())


def are_apart(left: Conditions, right: Conditions) -> bool:
    """Whether no value meets the conditions of both sides."""
    if not left or not right:
        return False
    mine, theirs = _ends(left), _ends(right)
    return _is_past(mine, theirs) or _is_past(theirs, mine)


def _is_past(low: Mapping[tuple[str, int], _End], high: Mapping[tuple[str, int], _End]) -> bool:
    """Whether a range begins where another has ended."""
    for (what, sign), (begin, begin_strict) in low.items():
        end = high.get((what, -1)) if sign == 1 else None
        if end is not None and (begin > -end[0] or (begin == -end[0] and (begin_strict or end[1]))):
            return True
    return False


@lru_cache(maxsize=1024)
def _ends(every: Conditions) -> dict[tuple[str, int], _End]:
    """Return where ranges begin, from each side, as numbers that grow inwards."""
    found: dict[tuple[str, int], _End] = {}
    for one in every:
        known = cast("dict[str, float]", json.loads(one))
        key = next(iter(known))
        if key in _ENDS and len(known) == 1:
            what, sign, is_strict = _ENDS[key]
            end = (sign * known[key], is_strict)
            found[what, sign] = max(found.get((what, sign), end), end)
    return found
