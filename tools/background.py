"""An event loop on a thread of its own, on which the `_sync` methods run.

The thread is a daemon: a program that forgets to close its engine still ends. Calls in progress are then cut off as by a
killed process, which the journal is made for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
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
