"""How a model is asked to put a draft right, and when to ask in another way.

| approach | asked for | in the schema |
| --- | --- | --- |
| `steps` | the faulty steps only | of changes |
| `whole` | the whole plan; after the same fault twice: anew, in another way | typed |
| `simple` | the whole plan anew | the simplest |

A plan most of whose steps are at fault, or whose steps cannot be told apart, is asked for whole at once. A fault that comes
back moves on to the next approach; after the last one there is no other. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...plans.paths import parts_of
from ...plans.problems import Problem
from ...plans.values import Json
from .changes import can_change

Approach: TypeAlias = Literal["steps", "whole", "simple"]

STEPS_MIN = 3
"""A smaller plan is asked for whole: its steps are hardly more to write than the changes."""


@dataclass(frozen=True, slots=True)
class Course:
    """What has been tried: the approach that is due, and the last faults.

    Attributes:
        stage: How often a fault has come back: 0 mends steps where that can be done, 1 asks anew, 2 more simply, 3 gives up.
        faults: What stopped the last draft, each by its code and words.
    """

    stage: int = 0
    faults: frozenset[tuple[str, str]] = frozenset()

    def after(self, faults: Iterable[tuple[str, str]]) -> Course:
        """Return the course after a draft with these faults."""
        found = frozenset(faults)
        return Course(min(3, self.stage + bool(found & self.faults)), found)

    @property
    def is_spent(self) -> bool:
        """Whether a fault came back in answer to the last approach, too."""
        return self.stage > 2

    def approach(self, draft: Json, faults: Sequence[Problem]) -> Approach:
        """Return how to ask for a draft's faults to be put right."""
        if self.stage:
            return "whole" if self.stage == 1 else "simple"
        return "steps" if _is_mendable(draft, faults) else "whole"


def _is_mendable(draft: Json, faults: Sequence[Problem]) -> bool:
    """Whether fewer than all steps are at fault, each by its place."""
    if not isinstance(draft, dict) or not can_change(draft) or not faults:
        return False
    steps = draft["steps"]
    assert isinstance(steps, list)
    if len(steps) < STEPS_MIN:
        return False
    faulty: list[int] = []
    for fault in faults:
        match parts_of(fault.path):
            case ("steps", int(index), *_) if index < len(steps):
                faulty.append(index)
            case ("inputs" | "types" | "output", *_):
                pass
            case _:
                return False
    return 2 * len(dict.fromkeys(faulty)) <= len(steps)
