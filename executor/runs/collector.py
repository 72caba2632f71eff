"""Python's garbage collector while runs are driven or replayed.

A plan of thousands of steps is a hundred thousand objects that live for long and hold no garbage, but each full collection looks at
all of them: half of what a step of a large run cost. So what is alive when a run begins to move is put aside (`gc.freeze`) until no
run moves any more. What comes up meanwhile is collected as always; of what was put aside, only cycles that become garbage wait.
A process that has put objects aside itself, as servers do before they fork, is left alone.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

from ...plans.collecting import PYTHONS_OWN_MAX, Aside


class _Aside:
    """How many runs move, over all event loops of the process; whether it was we who put objects aside."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._moving = 0
        self._is_ours = False

    def begin(self) -> None:
        with self._lock:
            self._moving += 1
            if self._moving == 1 and gc.get_freeze_count() <= PYTHONS_OWN_MAX:
                gc.freeze()
                self._is_ours = Aside.is_on = True

    def end(self) -> None:
        with self._lock:
            self._moving -= 1
            if self._moving == 0 and self._is_ours:
                gc.unfreeze()
                self._is_ours = Aside.is_on = False


_ASIDE = _Aside()


@contextmanager
def old_objects_aside() -> Generator[None]:
    """Keep the collector from looking at what is alive now, as long as any run is inside."""
    _ASIDE.begin()
    try:
        yield
    finally:
        _ASIDE.end()
