"""Whether saved plans answer the tasks that they seem to: each time one is thought to, that is a use, with what became of it.

| outcome | what happened | a hit |
| --- | --- | --- |
| `answered` | its plan is the task's | yes, unless the run of it fails or is cancelled |
| `check` | its pattern is the task's, and its plan does not pass its check, or its inputs do not take the words | no |
| `model` | it shares words with the task, and a model that looked says that it does not fit, or filled it in wrongly | no |

A model that could not be asked says nothing, and leaves no use. Whoever keeps uses knows the runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...plans.format.saved import template_digest
from ..saved import SavedPlan

Answered: TypeAlias = Literal["answered", "check", "model"]


@dataclass(frozen=True, slots=True)
class Use:
    """One time that a saved plan was thought to answer a task.

    Attributes:
        digest: Of the plan and its pattern (`template_digest`).
    """

    name: str
    digest: str
    outcome: Answered

    @classmethod
    def of(cls, saved: SavedPlan, outcome: Answered) -> Use:
        """Return a use of a saved plan."""
        return cls(saved.name, template_digest(saved.plan), outcome)


Used: TypeAlias = Callable[[Use], None]
"""Is told of each use."""
