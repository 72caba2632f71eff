"""The saved plans that are most like a task, by BM25 over their words: as worked examples for a model, or to be adapted.

Only plans that pass their check with the tools at hand are taken: an example that does not run teaches faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from ..library.library import fits
from ..library.pattern import TASK_CHARACTERS_MAX, own_words
from ..order import Order
from ..saved import SavedPlan
from .choice import scores, words_of

EXAMPLES_MAX = 2
EXAMPLE_CHARACTERS_MAX = 6_000
"""Of one plan, as JSON: a longer one costs more tokens than it saves."""

CANDIDATES_MAX = 8
"""Plans that are checked, the nearest first, until enough may be shown."""

SHARED_MIN = 2
SHARED_PART = 0.5
"""Words of a saved task's own that a task needs to share with it, at least and of them all: each near task costs a request."""


def nearest_plans(order: Order) -> list[SavedPlan]:
    """Return up to `EXAMPLES_MAX` saved plans that share words with the task, the nearest first."""
    wanted = words_of(order.task)
    known = frozenset(wanted)
    worded = [(each, words_of(_text(each))) for each in order.saved]
    likely = [(each, words) for each, words in worded if not known.isdisjoint(words)]
    if not likely:
        return []
    ranked = _ranked(wanted, likely)
    good = (
        each
        for each in ranked[:CANDIDATES_MAX]
        if len(each.plan.to_json()) <= EXAMPLE_CHARACTERS_MAX and order.check(each.plan).ok
    )
    return list(islice(good, EXAMPLES_MAX))


def near_template(order: Order) -> SavedPlan | None:
    """Return the saved plan that may be adapted to a task: a plan whose pattern matches in doubt, else the nearest plan.

    The nearest plan counts only if most of its own words stand in the task.

    A task that is too long for a pattern is no form filled in, and has words enough to share some with any.
    """
    if len(order.task) > TASK_CHARACTERS_MAX:
        return None
    doubted = (fit.saved for fit in fits(order.task, order.saved, order.inputs) if fit.doubt is not None)
    for saved in islice(doubted, CANDIDATES_MAX):
        if _takes_given(saved, order) and order.check(saved.plan).ok:
            return saved
    wanted = words_of(order.task)
    known = frozenset(wanted)
    worded: list[tuple[SavedPlan, list[str]]] = []
    for each in order.saved:
        own = words_of(own_words(each.plan))
        shared, distinct = len(known.intersection(own)), len(frozenset(own))
        if _takes_given(each, order) and shared >= SHARED_MIN and shared >= SHARED_PART * distinct:
            worded.append((each, own))
    ranked = _ranked(wanted, worded) if worded else []
    return next((each for each in ranked[:CANDIDATES_MAX] if order.check(each.plan).ok), None)


def _takes_given(saved: SavedPlan, order: Order) -> bool:
    return all(name in saved.plan.inputs for name in order.inputs)


def _ranked(wanted: list[str], likely: Sequence[tuple[SavedPlan, list[str]]]) -> list[SavedPlan]:
    found = scores(wanted, [words for _, words in likely]) if len(likely) > 1 else [0.0]
    order = sorted(range(len(likely)), key=lambda index: (-found[index], likely[index][0].name))
    return [likely[index][0] for index in order]


def _text(saved: SavedPlan) -> str:
    """Return what is searched: the task it answers, its name, what it says of itself."""
    return f"{saved.plan.task or ''} {saved.name} {saved.plan.description or ''}"
