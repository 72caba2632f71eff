"""Python's garbage collector, where firmplan makes many objects of which hardly any is garbage.

The collector scans the objects of a generation when many new ones were made. A large plan makes some hundred thousand objects that stay, and the
scans would take three quarters of the time of its check. Reference counts still free what nobody uses any more.

So the collector pauses while a plan is checked or compiled (`collector_paused`). While runs are driven it scans fewer objects, and more rarely
(`heap_frozen` of the executor). Both freeze and thaw objects, and each time Python begins to count new objects from zero. `Uncollected` counts on in
Python's place: otherwise the garbage of a program that makes one short run after another would never be collected.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

PYTHONS_OWN_MAX: Final = 1_000
"""More objects than Python 3.12 freezes by itself as it starts; a program that freezes its own has many more."""
UNCOLLECTED_MIN: Final = 500_000
"""New objects after which all objects are scanned, or half of the objects that there are, if that is more. Python's own rule would scan five times as often."""


class Aside:
    """What is known of frozen objects (`gc.freeze`): whether firmplan freezes some now, and whether the program ever froze some."""

    is_on = False
    _is_of_program = False

    @classmethod
    def is_of_program(cls) -> bool:
        """Whether the program freezes objects, as servers do before they fork: `gc.unfreeze` would thaw these, too.

        To be asked while `is_on` is false. Python counts the objects one by one, some ten milliseconds for a large program, so one yes
        stands for the life of the process.
        """
        if not cls._is_of_program:
            cls._is_of_program = gc.get_freeze_count() > PYTHONS_OWN_MAX
        return cls._is_of_program


class Uncollected:
    """How many objects were made since the last scan of all objects, without those that Python still counts itself."""

    def __init__(self) -> None:
        self._count = 0
        self._most = UNCOLLECTED_MIN

    def add(self, count: int) -> None:
        """Add a count that Python is about to reset."""
        self._count += count

    def collect_if_due(self) -> None:
        """Scan all objects, if enough new ones were made. Not where the program has switched the collector off."""
        if self._count <= self._most or not gc.isenabled() or Aside.is_on or Aside.is_of_program():
            return
        gc.collect()
        self._count = 0
        # All objects are in the oldest generation now. They are counted here, and not each time, since Python counts one by one.
        gc.freeze()
        self._most = max(UNCOLLECTED_MIN, gc.get_freeze_count() // 2)
        gc.unfreeze()


def new_objects() -> int:
    """Return how many objects were made since Python's last full collection, or since objects were last frozen."""
    young, middle, old = gc.get_count()
    young_max, middle_max, _ = gc.get_threshold()
    return young + young_max * (middle + middle_max * old)


uncollected: Final = Uncollected()


@contextmanager
def collector_paused() -> Generator[None]:
    """Pause the collector, which whoever paused it first wakes again: so nesting, and other threads, do no harm.

    New objects are promoted to the oldest generation, so that the next collection does not scan them.
    """
    was_on = gc.isenabled()
    before = new_objects() if was_on else 0  # what is made during the pause is no garbage
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
