"""Making durable what the journals of one engine hold: in groups, on a thread of its own.

A commit costs a wait for a disk or a server, however much it holds. So what journals take in within a few milliseconds shares one, and what
comes during a commit is part of the next. What must not wait, or is waited for, is committed at once, with all the rest.

The event loop has no part in it, and is woken only where someone waits. A loop that wakes sleeps on in whole milliseconds: if it
woke for each commit, the calls that a run waits for would all be noticed later.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ..stores.store import Batch, Store

LATE_MAX_S: Final = 0.004  # how long an event waits for others to share its commit
IDLE_S: Final = 2.0  # how long the thread stays where nothing is to be done


class Source(Protocol):
    """Whose turn comes on the thread: a `journal.Journal`, or who looks for something there and has nothing to commit (`Watch`).

    Both are called on the thread.
    """

    def take(self) -> Batch | None:
        """Return what is to be committed now; `None`: nothing."""
        ...

    def settle(self, batch: Batch | None, fault: Exception | None, /) -> None:
        """Hear that what was taken is durable, or why it is not, or could not be taken. May not fail."""
        ...


class Commits:
    """The commits of one engine to its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition(threading.Lock())
        self._due: dict[Source, float] = {}  # until when, by the monotonic clock
        self._first = math.inf
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def expect(self, source: Source, within_s: float = LATE_MAX_S) -> None:
        """Have what a source holds by then committed within so many seconds; 0: now."""
        until = time.monotonic() + within_s
        with self._changed:
            self._due[source] = min(until, self._due.get(source, math.inf))
            is_earlier, self._first = until < self._first, min(until, self._first)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="firmplan-commits", daemon=True)
                self._thread.start()
            elif is_earlier:
                self._changed.notify()

    async def close(self) -> None:
        """Commit what is expected, and end the thread; `expect` starts another."""
        with self._changed:
            thread = self._thread
            self._is_closing = thread is not None
            self._changed.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    # --- on the thread

    def _work(self) -> None:
        while self._commit_next():  # what was committed is not kept meanwhile
            pass

    def _commit_next(self) -> bool:
        """Wait for what is to be committed next, and commit it; `False`: the thread is to end."""
        sources, is_last = self._next()
        if sources:
            self._commit(sources)
        with self._changed:
            goes_on = not is_last and bool(sources or self._due)
            if not goes_on:
                self._thread, self._is_closing = None, False
            return goes_on

    def _next(self) -> tuple[Sequence[Source], bool]:
        """Wait until something is due, and return whose it is, with what is due soon; and whether it is the last, all that there is."""
        with self._changed:
            while not self._is_closing and (left_s := self._first - time.monotonic()) > 0:
                if not self._changed.wait(min(left_s, IDLE_S)) and not self._due:
                    break
            soon = math.inf if self._is_closing else time.monotonic() + LATE_MAX_S
            sources = [source for source, until in self._due.items() if until <= soon]
            for source in sources:
                del self._due[source]
            self._first = min(self._due.values(), default=math.inf)
            return sources, self._is_closing

    def _commit(self, sources: Sequence[Source]) -> None:
        """Commit what some sources hold as a group, and tell each what came of it."""
        taken: list[tuple[Source, Batch]] = []
        for source in sources:
            try:
                batch = source.take()
            except Exception as bug:  # noqa: BLE001  # whoever waits must hear of it
                source.settle(None, bug)
            else:
                if batch is not None:
                    taken.append((source, batch))
        if taken:
            for (source, batch), fault in zip(taken, self._appended(taken), strict=True):
                source.settle(batch, fault)

    def _appended(self, taken: Sequence[tuple[Source, Batch]]) -> Sequence[Exception | None]:
        try:
            return self._store.append([batch for _, batch in taken])
        except Exception as fault:  # noqa: BLE001  # the same
            return [fault] * len(taken)
