"""One evaluation: what it may see, its loop names, and how much work it has left.

Whatever costs more than a constant is paid for before it is done: `pay` counts the values and characters that an
operation visits or makes. So an expression ends within a bounded time and in bounded memory, whatever the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from ..faults import EvalFault, Skipped
from ..values import Json

WORK_MAX = 5_000_000  # values visited or made by one evaluation: about a second
ITEMS_MAX = 1_000_000  # items of one list that an expression makes
CHARACTERS_MAX = 16 * 1024 * 1024  # of one text that an expression makes
CHARACTERS_A_UNIT = 16  # characters that count as one value: Python handles text in bulk


class Frame:
    """The state of one evaluation."""

    __slots__ = ("locals", "scope", "work")

    def __init__(self, scope: Mapping[str, Json | Skipped], slots: int) -> None:
        self.scope = scope
        self.locals: list[Json] = [None] * slots
        self.work = WORK_MAX

    def pay(self, units: int) -> None:
        """Count work about to be done.

        Raises:
            EvalFault: `limit-exceeded`.
        """
        self.work -= units
        if self.work < 0:
            raise EvalFault(
                "limit-exceeded",
                f"the expression takes more than {WORK_MAX} operations; divide it among steps",
            )

    def pay_items(self, count: int) -> None:
        """Count the items of a list about to be made."""
        if count > ITEMS_MAX:
            raise EvalFault(
                "limit-exceeded", f"a list of {count} items; an expression makes at most {ITEMS_MAX}"
            )
        self.pay(count)

    def pay_text(self, length: int) -> None:
        """Count the characters of a text about to be made."""
        if length > CHARACTERS_MAX:
            raise EvalFault(
                "limit-exceeded",
                f"a text of {length} characters; an expression makes at most {CHARACTERS_MAX}",
            )
        self.pay(length // CHARACTERS_A_UNIT)


def weigh(value: Json, room: int) -> int:
    """Return the work that a value stands for, counting shared parts as often as they stand in it.

    Stops soon after `room` is exceeded, so that a value that unfolds without end costs no more than that.
    """
    kind = type(value)
    if kind is str:
        return 1 + len(cast("str", value)) // CHARACTERS_A_UNIT
    if kind is list:
        parts: Iterable[Json] = cast("list[Json]", value)
    elif kind is dict:
        parts = cast("dict[str, Json]", value).values()
    else:
        return 1
    total = 1
    for part in parts:
        total += weigh(part, room - total)
        if total > room:
            break
    return total


def checked(value: Json) -> Json:
    """Return an evaluation's result, if it is no larger than what one evaluation may visit.

    Raises:
        EvalFault: `limit-exceeded`: parts that are shared in memory would unfold to more.
    """
    kind = type(value)
    if (kind is list or kind is dict) and weigh(value, WORK_MAX) > WORK_MAX:
        raise EvalFault("limit-exceeded", f"a value of more than {WORK_MAX} parts; divide it among steps")
    return value
