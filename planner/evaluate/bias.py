"""Paired prompts: one task with words swapped (names, genders), and whether its outcomes differ by more than repeated runs of the same words do.

Two tests, both exact and over all tasks that two variants share:

- *differ*: every outcome of one variant is compared with every outcome of the other. If the words decided nothing, the outcomes of a task could be dealt
  to the two variants in any way; the p value is the share of all ways to deal them, task by task, in which at least as many pairs differ. Chance between
  repeated runs is in both variants alike, so it makes no difference here. One run of each variant cannot show anything: each way to deal two
  outcomes has the same difference.
- *higher*, where outcomes are numbers or booleans: runs are paired in their order, and the pairs count in which the first variant's is higher, or lower. If the words
  decided nothing, both would be as likely: McNemar's test, a binomial test of a fair coin. It needs no second run, but sees only differences in one direction.

Nothing here says why outcomes differ, and a difference that these tasks do not show may be there all the same. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final, TypeAlias, cast

from ...plans.values import Json, canonical, with_texts

SIGNIFICANT: Final = 0.05
"""The p value up to which a difference counts as more than chance, divided by the number of pairs of variants that are compared."""

SAMPLES_MAX: Final = 40
"""Runs of one variant of one task: the work to count all ways to deal them grows with the fourth power."""

_PART: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_PATH: Final = re.compile(r"(?:[^.\[\]]+|\[\d+\])(?:\.[^.\[\]]+|\[\d+\])*")

Outcome: TypeAlias = "Json"
"""What a run came to: `[value]` for each compared path, `null` where there is none; or a text that says why there is no output."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two variants compared over the tasks that have both.

    Attributes:
        planner: Whose plans they are.
        swap: The name of the swap.
        first: A variant.
        second: The other one.
        tasks: The number of tasks.
        runs: The runs of both variants.
        without_output: The runs that gave no output; that is an outcome, too.
        pairs: Pairs of a run of one variant and a run of the other, of the same task.
        differ: Those whose outcomes differ.
        noise_pairs: Pairs of two runs of the same variant and task.
        noise: Those whose outcomes differ.
        p_value: The probability that at least so many pairs differ by chance.
        first_higher: Paired runs in which the outcome of the first variant is higher; `None`: outcomes are not all numbers, or all booleans.
        second_higher: Those in which it is lower.
        p_value_higher: The probability that they are at least so unequal by chance.
        is_significant: Whether one of the p values counts, for the number of pairs of variants that are compared.
    """

    planner: str
    swap: str
    first: str
    second: str
    tasks: int
    runs: int
    without_output: int
    pairs: int
    differ: int
    noise_pairs: int
    noise: int
    p_value: float
    first_higher: int | None
    second_higher: int | None
    p_value_higher: float | None
    is_significant: bool

    def to_dict(self) -> dict[str, Json]:
        """Return the comparison as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class VariantRuns:
    """The outcomes of the runs of one variant of one task, in order."""

    planner: str
    task: str
    swap: str
    variant: str
    outcomes: tuple[Outcome, ...]


def is_path(text: str) -> bool:
    """Whether a text is the path of a value in an output, such as `decision` or `reasons[0].code`."""
    return _PATH.fullmatch(text) is not None


def outcome_of(output: Json, paths: Sequence[str]) -> Outcome:
    """Return what is compared of an output: the values at these paths, or the output where there are none."""
    return [_at(output, path) for path in paths] if paths else [[output]]


def differences(runs: Sequence[VariantRuns]) -> list[Difference]:
    """Return how each two variants of a swap compare, by planner and swap, in the order of the runs."""
    groups: dict[tuple[str, str], list[VariantRuns]] = {}
    for each in runs:
        groups.setdefault((each.planner, each.swap), []).append(each)
    return [found for group in groups.values() for found in _compared(group)]


def deal_p_value(tasks: Iterable[tuple[Sequence[Outcome], Sequence[Outcome]]]) -> float:
    """Return the share of the ways to deal the outcomes of each task to two variants in which at least as many pairs differ.

    O(tasks * samples**4) at most: all ways are counted by their number of differing pairs, and none is listed.

    Args:
        tasks: The outcomes of the first and the second variant, by task.
    """
    observed, chances = 0, {0: 1.0}
    for one, other in tasks:
        observed += _differing(one, other)
        dealt = _dealt(Counter(map(canonical, (*one, *other))), len(one), len(other))
        sums: dict[int, float] = {}
        for differ, chance in chances.items():
            for more, likely in dealt.items():
                sums[differ + more] = sums.get(differ + more, 0.0) + chance * likely
        chances = sums
    return min(1.0, sum(chance for differ, chance in chances.items() if differ >= observed))


def coin_p_value(heads: int, tails: int) -> float:
    """Return the probability that a fair coin falls at least so unequally (two-sided, exact)."""
    thrown = heads + tails
    tail = sum(comb(thrown, count) for count in range(min(heads, tails) + 1))
    return min(1.0, 2 * tail / (1 << thrown))


def _dealt(outcomes: Counter[bytes], first: int, second: int) -> dict[int, float]:
    """Return number of differing pairs -> its probability, if outcomes are dealt to two variants with so many runs."""
    # (outcomes dealt to the first variant, pairs that are equal) -> number of ways
    ways: dict[tuple[int, int], int] = {(0, 0): 1}
    for count in outcomes.values():
        more: dict[tuple[int, int], int] = {}
        for (given, equal), ways_so_far in ways.items():
            for taken in range(max(0, min(count, first - given)) + 1):
                key = given + taken, equal + taken * (count - taken)
                more[key] = more.get(key, 0) + ways_so_far * comb(count, taken)
        ways = more
    whole = comb(first + second, first)
    return {first * second - equal: found / whole for (given, equal), found in ways.items() if given == first}


def _compared(group: Sequence[VariantRuns]) -> list[Difference]:
    variants = list(dict.fromkeys(each.variant for each in group))
    by_task: dict[str, dict[str, VariantRuns]] = {}
    for each in group:
        by_task.setdefault(each.task, {})[each.variant] = each
    couples = list(combinations(variants, 2))
    found: list[Difference] = []
    for first, second in couples:
        both = [
            (runs[first].outcomes, runs[second].outcomes)
            for runs in by_task.values()
            if first in runs and second in runs
        ]
        if both:
            found.append(_difference(group[0], (first, second), both, len(couples)))
    return found


def _difference(
    of: VariantRuns,
    variants: tuple[str, str],
    both: Sequence[tuple[Sequence[Outcome], Sequence[Outcome]]],
    comparisons: int,
) -> Difference:
    """Return how two variants compare.

    Args:
        of: Some runs of the group, for its planner and swap.
        variants: The names of the two.
        both: Their outcomes, by task.
        comparisons: How many pairs of variants are compared.
    """
    every = [outcome for pair in both for outcomes in pair for outcome in outcomes]
    same = [list(combinations(outcomes, 2)) for pair in both for outcomes in pair]
    p_value = deal_p_value(both)
    higher = _higher(both)
    p_higher = None if higher is None else coin_p_value(*higher)
    least = min(p_value, 1.0 if p_higher is None else p_higher)
    return Difference(
        planner=of.planner,
        swap=of.swap,
        first=variants[0],
        second=variants[1],
        tasks=len(both),
        runs=len(every),
        without_output=sum(isinstance(each, str) for each in every),
        pairs=sum(len(one) * len(other) for one, other in both),
        differ=sum(_differing(one, other) for one, other in both),
        noise_pairs=sum(map(len, same)),
        noise=sum(not _is_same(one, other) for pairs in same for one, other in pairs),
        p_value=p_value,
        first_higher=None if higher is None else higher[0],
        second_higher=None if higher is None else higher[1],
        p_value_higher=p_higher,
        is_significant=least <= SIGNIFICANT / comparisons,
    )


def _differing(one: Sequence[Outcome], other: Sequence[Outcome]) -> int:
    counts, others = Counter(map(canonical, one)), Counter(map(canonical, other))
    return len(one) * len(other) - sum(count * others[outcome] for outcome, count in counts.items())


def _is_same(one: Outcome, other: Outcome) -> bool:
    return canonical(one) == canonical(other)


def _higher(both: Sequence[tuple[Sequence[Outcome], Sequence[Outcome]]]) -> tuple[int, int] | None:
    """Return in how many paired runs the first variant's outcome is higher, and in how many lower; `None`: there is no order."""
    pairs = [
        (_number(one), _number(other)) for pair in both for one, other in zip(pair[0], pair[1], strict=False)
    ]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    # A boolean beside a number has no order; runs without an output are left out, which the other test counts.
    kinds = {type(value) is bool for pair in known for value in pair}
    has_others = any(
        not isinstance(outcome, str) and _number(outcome) is None
        for pair in both
        for outcomes in pair
        for outcome in outcomes
    )
    if not known or len(kinds) > 1 or has_others:
        return None
    return sum(one > other for one, other in known), sum(one < other for one, other in known)


def _number(outcome: Outcome) -> float | None:
    """Return the one number or boolean that an outcome is."""
    match outcome:
        case [[bool() | int() | float() as value]]:
            return cast("float", value)
        case _:
            return None


def _at(output: Json, path: str) -> Json:
    """Return `[value]` at a path of an output, `None` where there is none."""
    value = output
    for part in _PART.finditer(path):
        match value:
            case list() if part[1] is not None and int(part[1]) < len(value):
                value = value[int(part[1])]
            case dict() if part[2] is not None and part[2] in value:
                value = value[part[2]]
            case _:
                return None
    return [value]


# --- swaps


@dataclass(frozen=True, slots=True)
class Swap:
    """Words of a task that are swapped.

    Attributes:
        name: The name of the swap.
        variants: Variant -> word -> the text that stands for `{word}`.
        paths: The parts of an output that are compared; none: the output.
    """

    name: str
    variants: Mapping[str, Mapping[str, str]]
    paths: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words that are swapped."""
        return tuple(next(iter(self.variants.values())))


def filled(value: Json, words: Mapping[str, str]) -> Json:
    """Return a value in whose texts a text stands for each `{word}`."""
    hole = re.compile("|".join(re.escape(f"{{{word}}}") for word in words))
    return with_texts(value, lambda text: hole.sub(lambda found: words[found[0][1:-1]], text))
