"""Two plans for one task, compared by a model: asked twice with the order swapped, since judges favour a place.

Only a verdict that holds in both orders counts; else the two are even, and the swap is counted. How far a judge may be
believed is measured by pairs that people have compared (`labels` of a task set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, cast

from ...plans.plan import Plan
from ...plans.values import Json, canonical
from ...tools.models.completion import Message, Usage
from ...tools.models.models import ModelRequest, Models
from ...tools.models.prompts import DATA_NOTE, tagged
from ..drafting.prompt import text_of
from .measuring import Measured
from .task_set import LabelledPair

Verdict: TypeAlias = Literal["first", "second", "even"]

VERDICT: dict[str, Json] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "description": "One sentence: what decides."},
        "better": {"enum": ["A", "B", "even"]},
    },
    "required": ["reason", "better"],
}


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What a judge says of two plans.

    Attributes:
        verdict: Which is better, if both orders say so.
        swapped: Whether the orders say otherwise: the judge went by the place.
    """

    verdict: Verdict
    swapped: bool
    usage: Usage


@dataclass(frozen=True, slots=True)
class Duel:
    """Two planners over the tasks that both planned."""

    first: str
    second: str
    wins: int
    losses: int
    even: int
    swapped: int

    def to_dict(self) -> dict[str, Json]:
        """Return the duel as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class LabelVerdict:
    """What a judge says of a pair that people have compared.

    Attributes:
        about: What decided, for people.
        verdict: `"first"` is what people found better; `"even"`, also where it went by the place.
        agrees: Whether people said so.
        swapped: Whether it went by the place.
    """

    id: str
    about: str
    verdict: Verdict
    agrees: bool
    swapped: bool

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What a judge found, and what it said of the pairs that people have compared."""

    duels: tuple[Duel, ...]
    labelled: tuple[LabelVerdict, ...]
    usage: Usage

    @property
    def labels(self) -> int:
        """How many pairs it was measured by."""
        return len(self.labelled)

    @property
    def agreement(self) -> float | None:
        """How far it agrees with people, whatever the order: `None` without labels."""
        return sum(each.agrees for each in self.labelled) / self.labels if self.labelled else None

    @property
    def swapped(self) -> int:
        """Of how many of these pairs it said another thing when their order was swapped."""
        return sum(each.swapped for each in self.labelled)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "duels": [each.to_dict() for each in self.duels],
            "agreement": self.agreement,
            "labels": self.labels,
            "labels_swapped": self.swapped,
            "labelled": [each.to_dict() for each in self.labelled],
            "usage": self.usage.to_dict(),
        }


async def judge_pairs(models: Models, measured: Measured, labels: Sequence[LabelledPair] = ()) -> JudgeReport:
    """Return how planners compare, each by its first plan for a task, and how the judge (`default`) agrees with labels.

    Raises:
        ModelError: The judge cannot be asked.
    """
    usage = Usage()
    labelled: list[LabelVerdict] = []
    for label in labels:
        found = await compare(models, label.task, label.better, label.worse)
        usage += found.usage
        agrees = not found.swapped and found.verdict == ("even" if label.even else "first")
        labelled.append(LabelVerdict(label.id, label.about, found.verdict, agrees, found.swapped))
    plans = {each.planner: dict[str, Plan]() for each in measured.summaries}
    for result in measured.results:
        if result.scores and (plan := result.scores[0].plan) is not None:
            plans[result.planner][result.task] = plan
    duels: list[Duel] = []
    for one, other in combinations(plans, 2):
        both = [task for task in plans[one] if task in plans[other]]
        found_all = [
            await compare(models, plans[one][task].task or task, plans[one][task], plans[other][task])
            for task in both
        ]
        usage = sum((each.usage for each in found_all), usage)
        verdicts = [each.verdict for each in found_all]
        swapped = sum(each.swapped for each in found_all)
        counted = (verdicts.count("first"), verdicts.count("second"), verdicts.count("even"))
        duels.append(Duel(one, other, *counted, swapped))
    return JudgeReport(tuple(duels), tuple(labelled), usage)


async def compare(models: Models, task: str, first: Plan, second: Plan) -> PairVerdict:
    """Return which of two plans is better for a task; plans that do the same are even without a question."""
    if first.digest == second.digest:
        return PairVerdict("even", swapped=False, usage=Usage())
    forth, there = await _ask(models, task, first, second)
    back, again = await _ask(models, task, second, first)
    meant: Mapping[str, Verdict] = {"A": "second", "B": "first", "even": "even"}
    straight: Mapping[str, Verdict] = {"A": "first", "B": "second", "even": "even"}
    agreed = straight[forth] == meant[back]
    return PairVerdict(straight[forth] if agreed else "even", swapped=not agreed, usage=there + again)


async def _ask(models: Models, task: str, one: Plan, other: Plan) -> tuple[str, Usage]:
    parts = [tagged("task", task), tagged("plan_a", _told(one)), tagged("plan_b", _told(other))]
    messages = (Message("system", f"{text_of('pair')}\n{DATA_NOTE}"), Message("user", "\n\n".join(parts)))
    reply = await models.ask(ModelRequest("default", messages, VERDICT))
    return str(cast("Mapping[str, Json]", reply.value)["better"]), reply.usage


def _told(plan: Plan) -> str:
    return canonical({key: part for key, part in plan.to_dict().items() if key != "task"}).decode()
