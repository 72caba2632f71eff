"""Checks of plans that do not keep an event loop from everything else.

A check is a computation: of a large plan, or of a small one with dear constants, it takes seconds. Here it runs in a thread, while the loop answers
others. Small plans are checked where they are, because a thread costs them more than it gives: first with little
work allowed, and in the thread only if that was not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar, cast

from pydantic import BaseModel

from ..plans.limits import LIMITS, Limits
from ..plans.plan import Plan
from ..plans.reports.problems import CheckReport
from ..plans.values import DEPTH_MAX
from ..tools.background import WorkThread

T = TypeVar("T")
CheckWith: TypeAlias = Callable[[Limits], CheckReport]
"""Checks a plan within limits."""

INLINE_PARTS: Final = 1_500
"""Parts of the largest plan that is checked on the loop, 16 characters of text counted as one: a plan of some eighty steps, some 5 ms."""

INLINE_STEPS: Final = 80
"""Steps of the largest plan that is checked, digested and compiled on the loop."""

INLINE_LIMITS: Final = replace(LIMITS, work_max=10_000)
"""The limits of a check on the loop: its constants take some 2 ms."""

_THREAD = WorkThread("firmplan-check")


async def checked(check: CheckWith, *, small: bool) -> CheckReport:
    """Return the report on a plan, from a thread unless the check is surely quick.

    Args:
        check: Checks the plan.
        small: Whether the plan is small (`is_small`).
    """
    if small:
        report = check(INLINE_LIMITS)
        if not any(fault.code == "limit-exceeded" for fault in report.problems):
            return report
    return await _THREAD.run(lambda: check(LIMITS))


async def beside(work: Callable[[], T], *, small: bool) -> T:
    """Return what some other work on a plan returns, from a thread unless the plan is small."""
    return work() if small else await _THREAD.run(work)


def is_small(plan: object) -> bool:
    """Whether a plan is so small that its check takes a few milliseconds. O(1): looking ends where the plan is too large."""
    whole = plan
    steps: object = ()
    if isinstance(plan, Plan):
        steps = plan.steps
    elif isinstance(plan, dict):
        steps = cast("Mapping[object, object]", plan).get("steps")
    if isinstance(steps, list | tuple) and len(cast("Sequence[object]", steps)) > INLINE_STEPS:
        return False
    return _room_after(whole, INLINE_PARTS) >= 0


def _room_after(part: object, room: int, depth: int = 0) -> int:
    """Return how much of `room` a part of a plan leaves; a negative number if it does not fit, or is too deep for a plan."""
    room -= 1
    if depth > DEPTH_MAX:  # the check says so; Python's own stack would end soon
        return -1
    match part:
        case str() | bytes():
            return room - len(part) // 16
        case dict() | list() | tuple():
            parts = cast("Collection[object]", part)
            if len(parts) > room:
                return -1
            for each in cast("Mapping[object, object]", part).items() if isinstance(part, dict) else parts:
                room = _room_after(each, room, depth + 1)
                if room < 0:
                    break
            return room
        case BaseModel():  # a plan or a part of one; what is derived from it is left out
            return _room_after([vars(part)[name] for name in part.model_fields_set], room, depth)
        case _:
            return room
