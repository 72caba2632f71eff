"""Threads for synchronous tools: kept for the next call, and let go when a call overruns.

Python cannot stop a thread. One that overruns its timeout is abandoned: it is counted, its late result is dropped, and
another takes its place. They are daemons, so that a tool that hangs cannot keep the process from ending, which is why
`concurrent.futures` does not serve here: it joins its threads at exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ...tools.failures import described

_Job: TypeAlias = tuple[
    Callable[[], object], contextvars.Context, asyncio.AbstractEventLoop, "asyncio.Future[object]"
]


class Threads:
    """A pool without an upper limit of its own: the engine's limits on calls bound it.

    Attributes:
        abandoned: Threads that were still in a call when nobody waited for it any more.
        is_closing: Whether that is what all that are in a call now are left to: who closes knows it.
    """

    def __init__(self, idle: Iterable[Worker] = ()) -> None:
        self._idle = list(idle)
        self.abandoned = 0
        self.is_closing = False

    async def call(self, work: Callable[[], object]) -> object:
        """Return what `work` returns, or raise what it raises, on another thread.

        A cancel, and so a timeout, abandons the thread.
        """
        worker = self._idle.pop() if self._idle else Worker.started()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        worker.jobs.put((work, contextvars.copy_context(), loop, done))
        try:
            result = await done
        except asyncio.CancelledError:
            if done.cancelled():
                self.abandoned += 1
                worker.jobs.put(None)
            raise
        except BaseException:
            self._idle.append(worker)
            raise
        finally:
            del done  # it holds the exception, whose traceback holds this frame: a cycle
        self._idle.append(worker)
        return result

    def close(self) -> None:
        """End the idle threads."""
        for worker in self._idle:
            worker.jobs.put(None)
        self._idle.clear()


class Worker:
    """One thread that takes jobs: a new one, or the one that calls `work`."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    @classmethod
    def started(cls) -> Worker:
        """Return a worker on a thread of its own."""
        worker = cls()
        threading.Thread(target=worker.work, name="firmplan-tool", daemon=True).start()
        return worker

    def work(self) -> None:
        """Do one job after the other, until there is `None`."""
        while (job := self.jobs.get()) is not None:
            work, context, loop, done = job
            forks = Forks.count
            try:
                result: Any = context.run(work)
            except BaseException as error:  # noqa: BLE001  # a tool may raise SystemExit; it is the call's failure
                leave_if_forked(forks)
                _deliver(loop, done, None, error)
            else:
                leave_if_forked(forks)
                _deliver(loop, done, result, None)
            del job, work, context, done


class Forks:
    """How many forks lie between this process and the one that loaded the module: cheaper to look at than a process id."""

    count = 0

    @classmethod
    def note(cls) -> None:
        """Note that this process is a fork of the one before."""
        cls.count += 1


os.register_at_fork(after_in_child=Forks.note)


def leave_if_forked(forks: int) -> None:
    """End here if this is not the process that had counted so many, but a fork that a tool forgot: only the first one goes on."""
    if Forks.count != forks:
        os._exit(0)


def _deliver(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[object], result: object, error: BaseException | None
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        elif isinstance(error, StopIteration | GeneratorExit):  # asyncio does not carry them to who awaits
            done.set_exception(RuntimeError(described(error)))
        else:
            done.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop has ended: nobody waits
