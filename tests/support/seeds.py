"""Which cases a law is tried with: a sample in `make test`, all of them in `make sweep`, one by its number.

`FIRMPLAN_SWEEP=1` tries all; `FIRMPLAN_SEED=N` tries case N alone, with whatever it had when it failed. Every case is made from its
number and nothing else.
"""

from __future__ import annotations

import os
from random import Random

SWEEP = "FIRMPLAN_SWEEP"
SEED = "FIRMPLAN_SEED"


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
