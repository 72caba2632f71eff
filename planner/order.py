"""What is to be planned: the task, the tools, the inputs that are given, and by which check a plan is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import InputRejected
from ..plans import SavedPlans, check
from ..plans.plan import Plan
from ..plans.problems import CheckReport
from ..plans.values import Json, NotJson, normal
from ..tools.toolset import Toolset
from .saved import SavedPlan

TASK_CHARACTERS_MAX = 100_000
"""A longer task is a document: it belongs into an input, or behind a tool."""

Judge: TypeAlias = Callable[[CheckReport], CheckReport]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be planned.

    Attributes:
        saved: The saved plans that may answer the task.
        plans: Finds the saved plans that a `plan` step names.
        judge: Has the last word on what a check found; `None`: the check has.
        complete: Whether the plan is to run with just these inputs: each other needs a default.
    """

    task: str
    tools: Toolset
    inputs: Mapping[str, Json]
    saved: tuple[SavedPlan, ...] = ()
    plans: SavedPlans | None = None
    judge: Judge | None = None
    complete: bool = False

    def check(self, plan: Plan | Json) -> CheckReport:
        """Return what is wrong with a plan, saved or drafted."""
        report = check(plan, self.tools, plans=self.plans or self._find)
        return report if self.judge is None else self.judge(report)

    def _find(self, name: str) -> Plan | None:
        return next((each.plan for each in self.saved if name in (each.name, each.plan.digest)), None)


def task_of(given: object) -> str:
    """Return a task, without space around it. Raises: InputRejected: it is none."""
    if not isinstance(given, str) or not given.strip():
        raise InputRejected(f"expected a task in words, found {given!r}")
    if len(given) > TASK_CHARACTERS_MAX:
        raise InputRejected(
            f"expected a task of at most {TASK_CHARACTERS_MAX} characters, found {len(given)}"
        )
    return given.strip()


def inputs_of(given: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return given inputs as canonical JSON of the caller's own. Raises: InputRejected: they are no JSON."""
    try:
        values = normal(dict(given or {}))
    except NotJson as fault:
        raise InputRejected(f"the inputs of a task must be JSON: {fault}") from fault
    assert isinstance(values, dict)
    return values
