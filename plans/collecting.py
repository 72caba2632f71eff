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
            if not Aside.is_on and not Aside.is_of_program():
                gc.freeze()
                gc.unfreeze()
            gc.enable()
