"""A cache that drops the entries that were not used for the longest time, bounded by the weight of its entries.

A plan of a thousand steps costs more to read, check and compile than to replay. Reading, checking and compiling are functions of their
arguments, and nobody changes their results, so that a cached result is as good as a new one.

`functools.lru_cache` is the right tool where all arguments are hashable and all results are of about one size. Here neither holds: plans
arrive as JSON objects, and a bound on the number of entries would keep a thousand plans of a thousand steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, Generic, TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
V = TypeVar("V")

STEPS_MAX: Final = 50_000  # some 2 KB a step of a compiled plan: 100 MB, or a few larger plans
LARGE_PLANS: Final = 2
"""Plans that are kept however large they are: one that runs again and again stays when a new one comes in between. To read it anew from the store
costs as much as to run it once more."""
ENTRY_STEPS: Final = 50  # the smallest weight of a plan, so that many small plans are bounded too


class LruCache(Generic[H, V]):
    """The most recently used values by key. Safe to share between threads; two threads may compute the same value.

    Args:
        weight_max: The largest weight of all values together; a single value beyond it is kept alone, until the next one comes.
        weight_min: The smallest weight that an entry counts with.
        count_min: How many values are kept whatever they weigh.
    """

    def __init__(
        self, weight_max: int = STEPS_MAX, weight_min: int = ENTRY_STEPS, count_min: int = 1
    ) -> None:
        self._weight_max = weight_max
        self._weight_min = weight_min
        self._count_min = count_min
        self._kept: OrderedDict[H, tuple[V, int]] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def get(self, key: H, make: Callable[[], V], weigh: Callable[[V], int]) -> V:
        """Return the value of a key, computing it on a miss.

        Args:
            key: Everything that decides the value.
            make: Computes the value; its exceptions propagate, and nothing is kept then.
            weigh: Returns the weight of a value.
        """
        # The lock is not held while `make` runs: one large plan would block all others, and `make` may use this cache itself.
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found[0]
        value = make()
        self.keep(key, value, weigh(value))
        return value

    def find(self, key: H) -> V | None:
        """Return the cached value of a key, or `None`."""
        with self._lock:
            if (found := self._kept.get(key)) is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def keep(self, key: H, value: V, weight: int = 1) -> None:
        """Cache a value, dropping the least recently used values to make room.

        Args:
            key: Everything that decides the value.
            value: The value, which nobody changes any more.
            weight: Its weight.
        """
        weight = max(self._weight_min, weight)
        with self._lock:
            _, before = self._kept.pop(key, (value, 0))
            self._kept[key] = (value, weight)
            self._weight += weight - before
            while self._weight > self._weight_max and len(self._kept) > self._count_min:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._weight -= dropped

    def drop(self, key: H) -> None:
        """Forget the value of a key, if there is one."""
        with self._lock:
            _, weight = self._kept.pop(key, (None, 0))
            self._weight -= weight


class IdentityCache(Generic[T, V]):
    """Values computed from the last few objects, for large objects that nobody changes. The cache key is identity.

    Args:
        count: How many objects.
    """

    def __init__(self, count: int) -> None:
        # An entry holds the object itself: its identity cannot be given to another object while the entry is there.
        self._kept: OrderedDict[int, tuple[T, V]] = OrderedDict()
        self._count = count
        self._lock = Lock()

    def get(self, of: T, make: Callable[[T], V]) -> V:
        """Return the cached value for an object, computing it on a miss."""
        # Not an `LruCache` of weight 1: a small run asks nine times, and each question would cost four Python calls.
        with self._lock:
            if (found := self._kept.get(id(of))) is not None:
                self._kept.move_to_end(id(of))
                return found[1]
        value = make(of)
        self.keep(of, value)
        return value

    def keep(self, of: T, value: V) -> None:
        """Cache the value of an object that was computed elsewhere."""
        with self._lock:
            self._kept[id(of)] = (of, value)
            if len(self._kept) > self._count:
                self._kept.popitem(last=False)
