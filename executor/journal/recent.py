"""`Recent`: what was just made of a plan, kept for the next time the same plan comes along; `Lately`: the same for a few objects.

A plan of a thousand steps costs more to read, check and compile than to replay. All three depend on nothing but what they are given, and
what they give is never changed; so what was made stands as long as it is among the last ones used. Bounded by weight (steps), least
recently used first. Safe to share between threads: the worst that can happen is that something is made twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, Generic, TypeVar

K = TypeVar("K")
H = TypeVar("H", bound=Hashable)
V = TypeVar("V")

STEPS_MAX: Final = 50_000  # some 2 KB a step of a compiled plan: 100 MB at the most
ENTRY_STEPS: Final = 50  # the least that anything weighs: many small plans are bounded too


class Lately(Generic[K, V]):
    """What was made of the last few objects, each known by its identity: for objects that nobody changes, and that are large.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._kept: deque[tuple[K, V]] = deque(maxlen=count)

    def get(self, of: K, make: Callable[[K], V]) -> V:
        """Return what was made of an object, made now if that was not lately. O(count)."""
        for known, value in tuple(self._kept):
            if known is of:
                return value
        value = make(of)
        self._kept.append((of, value))
        return value


class Recent(Generic[H, V]):
    """The values that were last made, by key.

    Args:
        steps_max: What all values together may weigh; a single value past it is not kept.
    """

    def __init__(self, steps_max: int = STEPS_MAX) -> None:
        self._steps_max = steps_max
        self._kept: OrderedDict[H, tuple[V, int]] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def get(self, key: H, make: Callable[[], V], steps: Callable[[V], int]) -> V:
        """Return the value of a key, made if it is not among the recent ones.

        Args:
            key: Everything that decides the value.
            make: Makes it; what it raises is raised.
            steps: How much it weighs.
        """
        if (found := self.find(key)) is not None:
            return found
        value = make()
        self.keep(key, value, steps(value))
        return value

    def find(self, key: H) -> V | None:
        """Return the value of a key, if it is among the recent ones."""
        with self._lock:
            if (found := self._kept.get(key)) is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def keep(self, key: H, value: V, steps: int) -> None:
        """Remember a value; the ones that were not used for longest make room for it."""
        weight = max(ENTRY_STEPS, steps)
        with self._lock:
            if weight > self._steps_max:
                return
            _, before = self._kept.pop(key, (value, 0))
            self._kept[key] = (value, weight)
            self._weight += weight - before
            while self._weight > self._steps_max:
                _, (_, gone) = self._kept.popitem(last=False)
                self._weight -= gone
