"""The garbage collector at rest while many values are made of which none is garbage.

Python looks through all that it holds whenever many new values have come up; a large plan makes some hundred thousand that
stay, and the looking would be three quarters of the time to check it. Reference counts still free what is done with.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

PYTHONS_OWN_MAX: Final = 1_000
"""Objects that Python puts aside by itself as it starts, with room: 3.12 does. A program that does so has many more."""


class Aside:
    """Whether objects were put aside (`gc.freeze`) by us: Python itself counts them one by one to say so."""

    is_on = False


@contextmanager
def collector_paused() -> Generator[None]:
    """Pause the collector, which whoever paused it first wakes again: so nesting, and other threads, do no harm.

    What was made meanwhile counts as old at once: else the collector would begin with looking through it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # Where somebody keeps objects frozen, they are not ours to thaw.
            if not Aside.is_on and gc.get_freeze_count() <= PYTHONS_OWN_MAX:
                gc.freeze()
                gc.unfreeze()
            gc.enable()
