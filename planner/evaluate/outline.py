"""What a plan does, whatever it calls its steps: its actions, and which feeds which. For comparing plans.

An action is a tool's name, `ask`, `agent` or `plan:name`. `set` steps are computing, not doing: they are looked through, so
that two plans that compute in one step or in three are alike. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ...plans.plan import AskStep, Plan, PlanStep, SetStep, Step, ToolStep

Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outline:
    """Actions and edges, sorted; an action that stands twice stands twice here."""

    actions: tuple[str, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, plan: Plan) -> Outline:
        """Return the outline of a plan; steps of inner plans are not looked into."""
        known = {step.id for step in plan.steps}
        needs = {step.id: _needs(step, known) for step in plan.steps}
        labels = {step.id: label for step in plan.steps if (label := _label(step)) is not None}
        fed: dict[str, frozenset[str]] = {}
        edges = [
            (labels[source], label)
            for id_, label in labels.items()
            for source in sorted(_sources(id_, needs, labels, fed, ()))
        ]
        return cls(tuple(sorted(labels.values())), tuple(sorted(edges)))

    @property
    def tools(self) -> frozenset[str]:
        """Names of the tools that are called."""
        return frozenset(each for each in self.actions if each not in ("ask", "agent"))


def f1(found: Iterable[object], wanted: Iterable[object]) -> float:
    """Return the harmonic mean of precision and recall of one bag against another; 1 where both are empty."""
    one, other = Counter(found), Counter(wanted)
    total = one.total() + other.total()
    return 1.0 if not total else 2 * (one & other).total() / total


def agreement(outlines: Sequence[Outline]) -> float | None:
    """Return how alike plans for one task are: the mean over pairs of their F1 of actions and edges; `None`: no pair."""
    pairs = list(combinations(outlines, 2))
    if not pairs:
        return None
    likeness = [(f1(one.actions, other.actions) + f1(one.edges, other.edges)) / 2 for one, other in pairs]
    return sum(likeness) / len(likeness)


def _label(step: Step) -> str | None:
    match step:
        case ToolStep():
            return step.tool
        case AskStep():
            return "ask"
        case PlanStep():
            return f"plan:{step.plan}"
        case SetStep():
            return None
        case _:
            return "agent"


def _needs(step: Step, known: set[str]) -> tuple[str, ...]:
    """Return the steps that a step waits for, in a fixed order."""
    named = {name for template in step.templates.values() for name in template.formula.names}
    return tuple(sorted(((named & known) | (set(step.after) & known)) - {step.id}))


def _sources(
    id_: str,
    needs: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, str],
    fed: dict[str, frozenset[str]],
    way: tuple[str, ...],
) -> frozenset[str]:
    """Return the acting steps that feed a step, straight or through computing ones."""
    if id_ in fed or id_ in way:
        return fed.get(id_, frozenset())
    found: set[str] = set()
    for each in needs[id_]:
        found |= {each} if each in labels else _sources(each, needs, labels, fed, (*way, id_))
    fed[id_] = frozenset(found)
    return fed[id_]
