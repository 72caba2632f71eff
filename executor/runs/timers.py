"""When runs that nobody drives go on by themselves: the waits of `wait` steps, the expiry of questions and approvals, deadlines.

A run that waits for a time has no driver, no task and no lease here: it is an entry of one heap, which one task watches. The time is in the journal and in the
store as well (`Store.list_due`), so that an engine that recovers runs finds it after a restart.

A sleep is cut into pieces: the clock of a machine is set and machines are suspended, and a sleep counts neither.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Final

from ..calls.facilities import Clock, SystemClock

LOOK_S: Final = (
    60.0  # the longest sleep by the machine's clock, and so how late a wake may be after a suspend
)


class Timers:
    """Wakes runs.

    Args:
        clock: The time.
        wake: Has a run go on whose time has come.

    Attributes:
        due: Run -> the time at which it is woken, in Unix seconds.
        awaited: Runs that somebody waits for, each with a future that ends after its next wake.
    """

    def __init__(self, clock: Clock, wake: Callable[[str], Awaitable[object]]) -> None:
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[float, str]] = []
        self.due: dict[str, float] = {}
        self.awaited: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._waking: dict[asyncio.Task[None], str] = {}
        self._is_closed = False

    def set(self, run_id: str, at: float | None) -> None:
        """Wake a run at a time, in the place of the time that was set before; `None`: at no time."""
        if self._is_closed or self.due.get(run_id) == at:
            return
        if at is None:
            del self.due[run_id]
            self._end_wait(run_id)
            return
        self.due[run_id] = at
        heapq.heappush(self._heap, (at, run_id))
        if self._heap[0] == (at, run_id):  # the task sleeps for a later time, or there is none
            if self._task is not None:
                self._task.cancel()
            self._task = asyncio.get_running_loop().create_task(self._work(), name="firmplan timers")

    def is_set(self, run_id: str) -> bool:
        """Whether a run is woken at some time, or is being woken."""
        return run_id in self.due or run_id in self._waking.values()

    async def wait(self, run_id: str, most_s: float) -> None:
        """Wait until a run has been woken or goes on before its time, at most for some seconds."""
        if not self.is_set(run_id):
            return
        woken = self.awaited.get(run_id)
        if woken is None:
            woken = self.awaited[run_id] = asyncio.get_running_loop().create_future()
        await asyncio.wait([woken], timeout=most_s)

    def stir(self, run_id: str) -> None:
        """Have those who wait for a run look again: it goes on before its time."""
        if run_id in self.awaited:
            self._end_wait(run_id)

    async def end(self) -> None:
        """Wake nothing more."""
        self._is_closed = True
        tasks = [*self._waking, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run_id in list(self.due):
            del self.due[run_id]
            self._end_wait(run_id)

    def _end_wait(self, run_id: str) -> None:
        woken = self.awaited.pop(run_id, None)
        if woken is not None and not woken.done():
            woken.set_result(None)

    async def _work(self) -> None:
        is_of_machine = isinstance(self._clock, SystemClock)
        while self._heap:
            at, run_id = self._heap[0]
            if self.due.get(run_id) != at:  # it was set anew since
                heapq.heappop(self._heap)
                continue
            left_s = at - self._clock.now()
            if left_s > 0:
                await self._clock.sleep(min(left_s, LOOK_S) if is_of_machine else left_s)
                continue
            heapq.heappop(self._heap)
            del self.due[run_id]
            task = asyncio.get_running_loop().create_task(self._woken_up(run_id), name="firmplan wake")
            self._waking[task] = run_id
            task.add_done_callback(self._has_woken)

    async def _woken_up(self, run_id: str) -> None:
        await self._wake(run_id)

    def _has_woken(self, task: asyncio.Task[None]) -> None:
        self._end_wait(self._waking.pop(task))
