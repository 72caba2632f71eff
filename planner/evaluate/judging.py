"""Two plans for one task, compared by a model (the judge), which is asked twice with the plans in both orders.

Judges prefer a place, so only a verdict that holds in both orders counts. Otherwise the plans are even, and the swap is counted. How far a
judge can be believed is measured by pairs that people have compared (`labels` of a task set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, cast

from ...plans.plan import Plan
from ...plans.values import Json, canonical
from ...tools.models.completion import Message, Usage
from ...tools.models.marks import DATA_NOTE, Data, mark
from ...tools.models.models import ModelRequest, Models
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
    """A judge's verdict on two plans.

    Attributes:
        verdict: Which plan is better, if both orders say so.
        swapped: Whether the verdicts of the two orders differ, so that the judge went by the place.
    """

    verdict: Verdict
    swapped: bool
    usage: Usage


@dataclass(frozen=True, slots=True)
class Duel:
    """Two planners, compared over the tasks that both have planned."""

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
    """A judge's verdict on a pair that people have compared.

    Attributes:
        about: The reason of the people.
        verdict: `"first"` is the plan that people found better; `"even"` also if the judge went by the place.
        agrees: Whether people say the same.
        swapped: Whether the judge went by the place.
    """

    id: str
    about: str
    verdict: Verdict
    agrees: bool
    swapped: bool

    def to_dict(self) -> dict[str, Json]:
        """Return the verdict as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """The verdicts of a judge on planners, and on the pairs that people have compared."""

    duels: tuple[Duel, ...]
    labelled: tuple[LabelVerdict, ...]
    usage: Usage

    @property
    def labels(self) -> int:
        """The number of pairs that people have compared."""
        return len(self.labelled)

    @property
    def agreement(self) -> float | None:
        """The share of these pairs on which the judge agrees with people; `None`: there are no pairs."""
        return sum(each.agrees for each in self.labelled) / self.labels if self.labelled else None

    @property
    def swapped(self) -> int:
        """The number of these pairs on which the judge went by the place."""
        return sum(each.swapped for each in self.labelled)

    def to_dict(self) -> dict[str, Json]:
        """Return the verdict as JSON."""
        return {
            "duels": [each.to_dict() for each in self.duels],
            "agreement": self.agreement,
            "labels": self.labels,
            "labels_swapped": self.swapped,
            "labelled": [each.to_dict() for each in self.labelled],
            "usage": self.usage.to_dict(),
        }


async def judge_pairs(models: Models, measured: Measured, labels: Sequence[LabelledPair] = ()) -> JudgeReport:
    """Return how planners compare, each by its first plan for a task, and how far the judge agrees with people.

    Args:
        models: The models; the judge is `default`.
        measured: The plans.
        labels: Pairs that people have compared.

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
        # The first plan of each task stands for the planner: comparing all samples would cost their square in
        # requests.
        if result.scores and (plan := result.scores[0].plan) is not None:
            plans[result.planner][f"{result.task} {result.variant}".strip()] = plan
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
    """Return which of two plans is better for a task; plans of the same digest are even without a question.

    Args:
        models: The models; the judge is `default`.
        task: The task in words.
        first: A plan.
        second: Another plan.
    """
    if first.digest == second.digest:
        return PairVerdict("even", swapped=False, usage=Usage())
    answer, usage = await _ask(models, task, first, second)
    # Judges prefer the first plan or the second one, whichever it is. A verdict that changes with the order is no
    # verdict.
    answer_swapped, usage_swapped = await _ask(models, task, second, first)
    verdict: Mapping[str, Verdict] = {"A": "first", "B": "second", "even": "even"}
    verdict_swapped: Mapping[str, Verdict] = {"A": "second", "B": "first", "even": "even"}
    agreed = verdict[answer] == verdict_swapped[answer_swapped]
    return PairVerdict(verdict[answer] if agreed else "even", swapped=not agreed, usage=usage + usage_swapped)


async def _ask(models: Models, task: str, one: Plan, other: Plan) -> tuple[str, Usage]:
    plans = Data("plan_a", _document(one)), Data("plan_b", _document(other))
    asked = mark([Data("task", task), "\n\n", plans[0], "\n\n", plans[1]])
    messages = (Message("system", f"{text_of('pair')}\n{DATA_NOTE}"), Message("user", asked))
    reply = await models.ask(ModelRequest("default", messages, VERDICT))
    return str(cast("Mapping[str, Json]", reply.value)["better"]), reply.usage


def _document(plan: Plan) -> str:
    return canonical({key: part for key, part in plan.to_dict().items() if key != "task"}).decode()
