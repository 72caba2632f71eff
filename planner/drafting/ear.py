"""Listening to a model that writes a plan: each longer beginning that passes its check is handed on.

A beginning is the first steps of a plan, with its inputs and types as far as they are there, without its output. Where some steps of a
draft are asked for again, it is the draft with those that have come, up to the first that still has a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from ...plans.format.shape import draft_of
from ...plans.paths import parts_of
from ...plans.plan import Plan
from ...plans.problems import CheckReport
from ...plans.values import Json
from ..given import given_faults
from ..order import Order
from .beginning import CHANGES, Beginning
from .changes import Changes
from .draft import plan_in

EACH_STEP_UP_TO = 32
"""Steps up to which each longer beginning is checked; past that one of n steps is followed by one of about n + n / 32."""

Heard: TypeAlias = Callable[[Plan], None]
"""Is handed a beginning of a plan, which has passed its check: its first steps, without its output."""


class Ear:
    """Listens to the drafts of one request.

    Args:
        order: What is to be planned.
        heard: Is handed the beginnings.
        draft: The last draft, whose steps may be asked for again; `None`: there is none.
    """

    def __init__(self, order: Order, heard: Heard, draft: Json = None) -> None:
        self._order = order
        self._heard = heard
        self._draft = draft
        self._beginning = Beginning()
        self._last: Json = None
        self._checked = self._due = 0

    def begin(self) -> None:
        """A draft begins."""
        self._beginning, self._checked, self._due = Beginning(), 0, 0

    def hear(self, words: str) -> None:
        """More of it has come."""
        if not self._beginning.take(words):
            return
        draft = self._changed() if self._beginning.listed == CHANGES else self._written()
        if draft is None or draft == self._last:
            return
        self._last = draft
        plan = draft_of(draft).plan
        if plan is not None and not given_faults(plan, self._order.inputs, complete=self._order.complete):
            self._heard(plan)

    def _written(self) -> Json:
        """Return the beginning of a whole plan; `None` while it has a fault."""
        count = len(self._beginning.steps)
        if count == 0 or self._checked < count < self._due:
            return None
        self._checked, self._due = count, count + 1 + count // EACH_STEP_UP_TO
        draft = plan_in(self._beginning.draft(), self._order.task)
        return draft if self._order.check(draft).ok else None

    def _changed(self) -> Json:
        """Return the last draft with the changes so far, up to its first fault."""
        if not isinstance(self._draft, dict):
            return None
        changes = Changes.read({**self._beginning.head, CHANGES: list(self._beginning.steps)})
        if changes is None:
            return None
        whole = changes.applied_to(self._draft)
        draft: dict[str, Json] = {key: part for key, part in whole.items() if key != "output"}
        report = self._order.check(draft)
        if report.ok:
            return draft
        steps = cast("list[Json]", draft["steps"])[: _first_faulty(report)]
        draft = {**draft, "steps": steps}
        return draft if steps and self._order.check(draft).ok else None


def _first_faulty(report: CheckReport) -> int:
    """Return the number of the first step with a fault; 0 where a fault is in no step."""
    numbers = [_step_of(each.path) for each in report.errors]
    return min(numbers, default=0)


def _step_of(path: str) -> int:
    match parts_of(path):
        case ("steps", int(number), *_):
            return number
        case _:
            return 0
