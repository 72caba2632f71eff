"""A plan under a name: what a library holds."""

from __future__ import annotations

from dataclasses import dataclass

from ..plans.plan import Plan


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan under a name. `plan.task`, with `{input}` holes, is the pattern of the tasks that it answers."""

    name: str
    plan: Plan
