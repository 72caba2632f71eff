"""One run's journal being written: chained, and durable as a prefix.

`add` is immediate and in memory; a flush follows within a few milliseconds, after what must survive a power loss at once, and takes
everything that was added before it began, so ready siblings share one. One flush is under way at a time. `flush` waits until
everything added so far is durable. After a failed flush nothing more is taken: the run stops where its durable prefix ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ...errors import EngineBug, StoreError
from ..events import JournalEvent
from ..states import RunStatus
from ..stores.store import Batch, RunRow
from .records import chain, write_line

if TYPE_CHECKING:
    from ..stores.store import Store


LATE_MAX_S: Final = 0.004  # how long an event waits for others to share its flush
# Events in memory alone: a store that is slow slows the run down, instead of filling the memory.
BEHIND_MAX: Final = 5_000


class Journal:
    """The writing end of a run's journal.

    Args:
        store: Where it goes.
        row: The run's row as it was claimed; its epoch fences every append.
        standing: Tells the run's status and digest at the time of a flush.
    """

    def __init__(self, store: Store, row: RunRow, standing: Callable[[], tuple[RunStatus, str]]) -> None:
        self._store = store
        self._row = row
        self._standing = standing
        self._head = row.head
        self._last = row.last_seq
        self.durable = row.last_seq
        self._fresh: list[tuple[int, float, JournalEvent]] = []  # written down when they are flushed
        self._values: dict[str, bytes] = {}
        self._opened: dict[str, str] = {}
        self._closed: list[str] = []
        self._decided: list[int] = []
        self._is_synced = False
        self._updated = row.updated
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wanted = 0  # the newest entry that someone waits for
        self._fault: StoreError | EngineBug | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.is_closed = False

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to become durable that nothing more should begin."""
        return self._last - self.durable > BEHIND_MAX

    @property
    def updated(self) -> float:
        """When the newest entry was made, in Unix seconds."""
        return self._updated

    @property
    def last(self) -> int:
        """Number of the newest entry, durable or not."""
        return self._last

    def add(
        self,
        event: JournalEvent,
        at: float,
        *,
        opens: str | None = None,
        closes: bool = False,
        decision: int | None = None,
        is_synced: bool = False,
    ) -> None:
        """Append an event; a flush is on its way.

        Args:
            event: What happened.
            at: Unix seconds.
            opens: The resource that the write of this step is about to change.
            closes: Whether the outcome of this step's write is known now.
            decision: Number of the decision in the store that this event is.
            is_synced: Whether it must survive a power loss for another reason.

        Raises:
            StoreError: An earlier flush failed.
        """
        if self._fault is not None:
            raise self._fault
        self._last += 1
        self._fresh.append((self._last, at, event))
        if opens is not None or closes:
            self._note_write(getattr(event, "step", ""), opens)
        if decision is not None:
            self._decided.append(decision)
        if decision is not None or is_synced:
            self._is_synced = True
        self._updated = at
        if self._is_synced:  # what matters most is not kept waiting
            self._wanted = self._last
            self._begin()
        elif self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(LATE_MAX_S, self._begin)

    def _note_write(self, step: str, opens: str | None) -> None:
        """Note that a write is about to start, or that its outcome is known (`None`): both must survive a power loss."""
        self._is_synced = True
        if opens is not None:
            self._opened[step] = opens
            return
        self._opened.pop(step, None)
        self._closed.append(step)

    def keep(self, values: Mapping[str, bytes]) -> None:
        """Make values durable together with the next event."""
        self._values.update(values)

    async def flush(self) -> None:
        """Wait until everything added so far is durable. Raises: StoreError: it cannot be made so."""
        if self._fault is None and self.durable < self._last:
            self._wanted = self._last
            self._begin()
        await self.wait_past(self._last - 1)

    def flush_here(self) -> None:
        """Make everything added so far durable before returning: the event loop waits. At least one event is not durable.

        Raises:
            StoreError: It cannot be made so.
        """
        batch = self._take()
        try:
            self._store.append_here(batch)
        except StoreError as fault:
            self._fault = self._fault or fault
            self._wake()
            raise
        self._note_durable(batch)

    def _note_durable(self, batch: Batch) -> None:
        self.durable = max(self.durable, batch.first_seq - 1 + len(batch.lines))
        self._wake()

    async def wait_past(self, seq: int) -> None:
        """Wait until an entry past `seq` is durable, or the journal is closed. Raises: StoreError."""
        if self._fault is not None:
            raise self._fault
        if self.durable > seq or self.is_closed:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((seq, waiter))
        await waiter

    def close(self) -> None:
        """Wake all who wait: nothing more comes from this process."""
        self.is_closed = True
        self._end_timer()
        self._wake()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        """Flush now, if no flush is under way."""
        self._end_timer()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._flush_all())

    async def _flush_all(self) -> None:
        """Flush, and go on as long as someone waits for what came meanwhile."""
        try:
            await self._flush_wanted()
        finally:
            self._task = None
        self._wake()
        if self._fresh and self._fault is None and not self.is_closed:
            self._timer = asyncio.get_running_loop().call_later(LATE_MAX_S, self._begin)

    async def _flush_wanted(self) -> None:
        while self._fresh:
            try:
                batch = self._take()
                await self._store.append(batch)
            except StoreError as fault:
                self._fault = fault
                break
            except Exception as bug:  # noqa: BLE001  # whoever waits must hear of it
                self._fault = EngineBug(f"the journal of run {self._row.id} stopped: {bug!r}")
                break
            self._note_durable(batch)
            if self._wanted <= self.durable:
                break

    def _take(self) -> Batch:
        """Return what the next flush makes durable."""
        lines: list[bytes] = []
        for seq, at, event in self._fresh:
            line, large = write_line(seq, at, event)
            lines.append(line)
            for value in large:
                self._values[value.digest] = value.data
        self._head = chain(self._head, lines)
        status, digest = self._standing()
        batch = Batch(
            run_id=self._row.id,
            epoch=self._row.epoch,
            first_seq=self._last - len(lines) + 1,
            lines=lines,
            head=self._head,
            values=self._values,
            status=status.value,
            digest=digest,
            updated=self._updated,
            opened=self._opened,
            closed=self._closed,
            decided=self._decided,
            is_synced=self._is_synced or status.value not in ("queued", "running"),
        )
        self._fresh, self._values, self._is_synced = [], {}, False
        self._opened, self._closed, self._decided = {}, [], []
        return batch

    def _wake(self) -> None:
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for seq, waiter in self._waiters:
            if waiter.done():
                continue
            if self._fault is not None:
                waiter.set_exception(self._fault)
            elif self.durable > seq or self.is_closed:
                waiter.set_result(None)
            else:
                waiting.append((seq, waiter))
        self._waiters = waiting
