"""Python's garbage collector, where firmplan makes many objects of which hardly any is garbage.

Python looks through all that it holds whenever many new values have come up; a large plan makes some hundred thousand that
stay, and the looking would be three quarters of the time to check it. Reference counts still free what is done with.

So the collector pauses while a plan is checked or compiled (`collector_paused`), and has less to look through, and looks more rarely, while
runs are driven (`heap_frozen` of the executor). Both put objects aside, and with each time Python counts anew until its next collection. What it would have
counted is counted here: else a program that makes one short run after the other would never be rid of its own garbage.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

PYTHONS_OWN_MAX: Final = 1_000
"""Objects that Python puts aside by itself as it starts, with room: 3.12 does. A program that does so has many more."""
UNCOLLECTED_MIN: Final = 500_000
"""New objects after which all is looked through, if half of what is held is not more: Python's own rule would look five times as often."""


class Aside:
    """What is known of objects that were put aside (`gc.freeze`): by us now, or by the program at any time."""

    is_on = False
    _is_of_program = False

    @classmethod
    def is_of_program(cls) -> bool:
        """Whether the program puts objects aside, as servers do before they fork: `gc.unfreeze` would undo that, too.

        To be asked while `is_on` is false. Python counts the objects one by one, some ten milliseconds for a large program, so one yes
        stands for the life of the process.
        """
        if not cls._is_of_program:
            cls._is_of_program = gc.get_freeze_count() > PYTHONS_OWN_MAX
        return cls._is_of_program


class Uncollected:
    """How many objects have come up since everything was last looked through, as far as Python does not know it any more."""

    def __init__(self) -> None:
        self._count = 0
        self._most = UNCOLLECTED_MIN

    def add(self, count: int) -> None:
        """Add what Python is about to forget."""
        self._count += count

    def collect_if_due(self) -> None:
        """Look through everything, if so much has come up. Not where the program has switched the collector off."""
        if self._count <= self._most or not gc.isenabled() or Aside.is_on or Aside.is_of_program():
            return
        gc.collect()
        self._count = 0
        # All is in Python's oldest generation now. It is counted here, and not each time, since Python goes from one object to the next.
        gc.freeze()
        self._most = max(UNCOLLECTED_MIN, gc.get_freeze_count() // 2)
        gc.unfreeze()


def new_objects() -> int:
    """Return how many objects have come up since Python's last full collection, or since objects were last put aside."""
    young, middle, old = gc.get_count()
    young_max, middle_max, _ = gc.get_threshold()
    return young + young_max * (middle + middle_max * old)


uncollected: Final = Uncollected()


@contextmanager
def collector_paused() -> Generator[None]:
    """Pause the collector, which whoever paused it first wakes again: so nesting, and other threads, do no harm.

    What was made meanwhile counts as old at once: else the collector would begin with looking through it.
    """
    was_on = gc.isenabled()
    before = new_objects() if was_on else 0  # what comes up meanwhile is no garbage
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # Where somebody keeps objects frozen, they are not ours to thaw.
            if not Aside.is_on and not Aside.is_of_program():
                uncollected.add(before)
                gc.freeze()
                gc.unfreeze()
            gc.enable()
