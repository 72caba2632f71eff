"""The saved plans that are most like a task, as worked examples for a model: by BM25 over their words.

Only plans that pass their check with the tools at hand are shown: an example that does not run teaches faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from .choice import scores, words_of
from .order import Order
from .saved import SavedPlan

EXAMPLES_MAX = 2
EXAMPLE_CHARACTERS_MAX = 6_000
"""Of one plan, as JSON: a longer one costs more tokens than it saves."""

CANDIDATES_MAX = 8
"""Plans that are checked, the nearest first, until enough may be shown."""


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


def _ranked(wanted: list[str], likely: Sequence[tuple[SavedPlan, list[str]]]) -> list[SavedPlan]:
    found = scores(wanted, [words for _, words in likely]) if len(likely) > 1 else [0.0]
    order = sorted(range(len(likely)), key=lambda index: (-found[index], likely[index][0].name))
    return [likely[index][0] for index in order]


def _text(saved: SavedPlan) -> str:
    """Return what is searched: the task it answers, its name, what it says of itself."""
    return f"{saved.plan.task or ''} {saved.name} {saved.plan.description or ''}"
