"""Threads beside the caller's: one with an event loop, on which the `_sync` methods run, and threads for work that takes long.

The thread of the loop is a daemon: a program that forgets to close its engine still ends. Calls in progress are then cut off as by a
killed process, which the journal is made for.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..errors import ConfigError

T = TypeVar("T")


class Background:
    """A running event loop that other threads hand coroutines to."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="firmplan-loop", daemon=True)
        is_running = threading.Event()
        self.loop.call_soon(is_running.set)
        self._thread.start()
        is_running.wait()

    def close(self) -> None:
        """Stop the loop; its coroutines have ended before."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def call(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on that loop, and return its result; an interrupt here cancels it there. Raises: ConfigError: the loop does not run."""
    if not loop.is_running():  # nobody would ever answer
        work.close()
        raise ConfigError(
            "the event loop to which this engine belongs has ended: make another engine for its store, and close an engine "
            "before its loop ends"
        )
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(loop: asyncio.AbstractEventLoop, items: AsyncIterator[T]) -> Iterator[T]:
    """Yield the items of an asynchronous iterator that runs on that loop."""
    end = object()

    async def following() -> T | object:
        return await anext(items, end)

    while (item := call(loop, following())) is not end:
        yield item  # type: ignore[misc]  # not the end, so an item


class WorkThread:
    """One thread for computations that would keep an event loop from everything else; they take turns in the order in which they come.

    One thread, because computations in several would take turns with the loop for Python's lock: with six of them the loop would have a
    seventh of the time. A process that is forked gets a thread of its own.

    Args:
        name: Of the thread, for whoever looks at a process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._made: tuple[int, ThreadPoolExecutor] | None = None
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises. A caller that is cancelled does not stop the work."""
        return await asyncio.get_running_loop().run_in_executor(self._executor(), work)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                self._made = os.getpid(), ThreadPoolExecutor(1, thread_name_prefix=self._name)
            return self._made[1]
