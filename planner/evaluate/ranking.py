"""How well words find what a task needs: MRR and NDCG@5 of the rankings of tools and of saved plans.

The rankings are those that planners use (`tool_choice.py`, `library.py`), so that the numbers say what a planner is shown first. A document that shares no word
with the task is not found. Pure: no model is asked.

- The *reciprocal rank* of a task is 1 / the rank of the first relevant document, and 0 if none is found; MRR is its mean over the tasks
  (Voorhees, TREC-8, 1999).
- *NDCG@k* is the discounted cumulative gain of the first k documents, `sum of gain / log2(rank + 1)`, divided by that of the best order
  (Jaervelin and Kekaelaeinen, TOIS 20, 2002). A document is relevant or not, so that its gain is 1 or 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final, Literal, TypeAlias

from ...plans.values import Json
from ..drafting.tool_choice import nearest_tools
from ..library.library import SavedPlan, ranked_plans
from .task_set import EvalTask

DEPTH: Final = 5
"""The k of NDCG@k: about as many tools as are always shown for the task's words, and more saved plans than are ever shown."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well words find the expected tools, or the expected saved plan, of tasks.

    Attributes:
        what: What is found.
        tasks: The tasks that name what is expected.
        documents: The most documents that one of them is found among.
        mrr: The mean reciprocal rank.
        ndcg: The mean NDCG@5.
    """

    what: Literal["tools", "saved plans"]
    tasks: int
    documents: int
    mrr: float
    ndcg: float

    def to_dict(self) -> dict[str, Json]:
        """Return the measures as JSON."""
        return {
            "what": self.what,
            "tasks": self.tasks,
            "documents": self.documents,
            "mrr": self.mrr,
            f"ndcg@{DEPTH}": self.ndcg,
        }


def reciprocal_rank(ranked: Sequence[str], relevant: Iterable[str]) -> float:
    """Return 1 / the rank of the first relevant document; 0: none is found."""
    wanted = frozenset(relevant)
    return next((1 / rank for rank, name in enumerate(ranked, 1) if name in wanted), 0.0)


def ndcg(ranked: Sequence[str], relevant: Iterable[str]) -> float:
    """Return the normalized discounted cumulative gain of the first documents; 0: nothing is relevant, or nothing of it is among them.

    Args:
        ranked: The names that were found, the best first.
        relevant: The names that should be found.
    """
    wanted = frozenset(relevant)
    gain = sum(1 / log2(rank + 1) for rank, name in enumerate(ranked[:DEPTH], 1) if name in wanted)
    best = sum(1 / log2(rank + 1) for rank in range(1, min(DEPTH, len(wanted)) + 1))
    return gain / best if best else 0.0


def retrieval_of(tasks: Sequence[EvalTask], library: Sequence[SavedPlan]) -> tuple[Retrieval, ...]:
    """Return how well the words of tasks find their tools, and their saved plans; nothing for what no task expects.

    Args:
        tasks: The tasks.
        library: The saved plans of the set.
    """
    tools = [
        (
            [tool.name for tool in nearest_tools(task.task, task.tools, found_only=True)],
            task.expected.tools,
            len(task.tools),
        )
        for task in tasks
        if task.expected.tools
    ]
    plans = [
        (
            [each.name for each in ranked_plans(task.task, library, task.inputs)],
            (task.expected.plan,),
            len(library),
        )
        for task in tasks
        if task.expected.plan is not None
    ]
    return (*_measured("tools", tools), *_measured("saved plans", plans))


_Ranked: TypeAlias = "tuple[list[str], tuple[str, ...], int]"
"""One task: the names that were found, those that should be, and among how many documents."""


def _measured(what: Literal["tools", "saved plans"], found: Sequence[_Ranked]) -> list[Retrieval]:
    if not found:
        return []
    ranks = [reciprocal_rank(ranked, relevant) for ranked, relevant, _ in found]
    gains = [ndcg(ranked, relevant) for ranked, relevant, _ in found]
    documents = max(count for *_, count in found)
    return [Retrieval(what, len(found), documents, sum(ranks) / len(found), sum(gains) / len(found))]
