"""One evaluation: what it may see, its loop names, and how much work it has left.

Whatever costs more than a constant is paid for before it is done: `pay` counts the values and characters that an
operation visits or makes. So an expression ends within a bounded time and in bounded memory, whatever the data.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..values import Json
from .faults import EvalFault, Skipped

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
