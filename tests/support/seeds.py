"""Which cases a law is tried with: a sample in `make test`, all of them in `make sweep`, one by its number.

`FIRMPLAN_SWEEP=1` tries all; `FIRMPLAN_SEED=N` tries case N alone, with whatever it had when it failed. A case of `seeds` is made from
its number and nothing else. The cases of `examples` are chosen by
Hypothesis, which prints how to repeat one that fails: the same ones each time in `make test`, others each time in a sweep.
"""

from __future__ import annotations

import os
from random import Random

from hypothesis import settings

SWEEP = "FIRMPLAN_SWEEP"
SEED = "FIRMPLAN_SEED"
SAMPLE_PART = 10  # `make test` tries a tenth of the examples of a law, which are the same ones each time
SAMPLE_MIN = 20  # but no fewer than this many: a law with few examples has them all


def seeds(every: int, *, sampled: int) -> list[int]:
    """Return the numbers of the cases to try, of `every` many.

    Args:
        every: How many there are.
        sampled: How many of them the tests try: the same ones each time.
    """
    if one := os.environ.get(SEED):
        return [int(one)]
    if os.environ.get(SWEEP):
        return list(range(every))
    return sorted(Random(every).sample(range(every), sampled))


def examples(every: int) -> settings:
    """Return a decorator for a law of Hypothesis: `every` many examples in a sweep, a part of them in the tests."""
    return settings(max_examples=every if os.environ.get(SWEEP) else sample_of(every))


def sample_of(every: int) -> int:
    """Return how many of so many examples the tests try."""
    return min(every, max(SAMPLE_MIN, every // SAMPLE_PART))
