"""Writing a run's journal: a chain of records whose durable part is always a prefix, and the group commit of all journals of an engine.

`add` takes an event into memory at once. A commit follows within a few milliseconds (immediately for an event that must survive a power
loss), and holds everything that was added before it began. `flush` waits until everything added so far is durable. After a failed commit the
journal takes nothing more: the run stops where its durable prefix ends, so that no later record can follow a gap.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from ...errors import EngineBug, StoreError
from ..events import ApprovalAsked, BudgetReached, JournalEvent, StepIndeterminate
from ..states import FINAL, RunStatus
from ..stores.store import NO_OBJECTS, Batch, CallRecord, Reusable, ReuseEntries, RunRow
from .records import chain, write_line

if TYPE_CHECKING:
    from ..stores.store import Store


# Events that are only in memory. Past this the run waits for the store: a slow store must slow the run down, instead of filling the memory.
BEHIND_MAX: Final = 5_000
# How long reuse entries wait for more of them. Their keys are random, so each commit touches many pages of an index; losing some in a crash costs
# only calls that are made again.
LEFT_MAX_S: Final = 0.25
# The more a run has left, the more pages of the index its next entries touch, and the longer they wait for more: after each of so many calls
# as long again, up to so many times as long.
LEFT_MORE: Final = 8_192
LEFT_TIMES_MAX: Final = 4


ASKING: Final = (
    ApprovalAsked,
    BudgetReached,
    StepIndeterminate,
)  # a run that waits may begin to wait for something else, too
TOLD: Final = frozenset(
    status.value
    for status in (
        *FINAL,
        RunStatus.WAITING,
        RunStatus.INDETERMINATE,
        RunStatus.OVER_BUDGET,
        RunStatus.PARKED,
    )
)
"""Statuses of which webhooks are told."""


def notice_of(status: str) -> str:
    """Return what webhooks are told of a run that has this status now; empty: nothing."""
    return f"run.{status}" if status in TOLD else ""


class Journal:
    """The writing end of a run's journal.

    Args:
        commits: Make it durable, on their thread.
        row: The run's row as it was claimed; its epoch fences every append.
        standing: Tells the run's status and digest after all that was added.
        usd: Tells what the run has cost so far.
        due: Tells when the run goes on by itself, in Unix seconds; `None`: never.
        needs_nobody: Tells whether a run that waits waits for a time alone: webhooks are not told of that.
        tells: Whether webhooks are to be told of the run.

    Attributes:
        piece: Held by whoever moves the run and adds what it did, so that no commit comes between.
        last: Number of the newest entry.
        durable: Number of the newest entry that is durable.
        updated: When the newest entry was made, in Unix seconds.
        is_released: Whether the run has ended, and the store has released it from its owner with the last entry.
        keeps_failed: Whether a run that fails stays with its owner, who has something to do yet.
    """

    def __init__(
        self,
        commits: Commits,
        row: RunRow,
        standing: Callable[[], tuple[RunStatus, str]],
        usd: Callable[[], float] = lambda: 0.0,
        due: Callable[[], float | None] = lambda: None,
        needs_nobody: Callable[[], bool] = lambda: False,
        *,
        tells: bool = False,
    ) -> None:
        # Two threads meet here: the event loop adds events, the thread of commits takes them. A run moves and is recorded under this lock, so that a
        # commit never sees the machine ahead of its journal.
        self.piece = threading.RLock()
        self._commits = commits
        self._row = row
        self._standing = standing
        self._usd = usd
        self._due = due
        self._stored_due = due()
        self._needs_nobody = needs_nobody
        self._tells = tells
        self._told = row.status
        self._head = row.head
        self.last = row.last_seq
        self.durable = row.last_seq
        # Events are serialized when a commit takes them, on its thread: the event loop has other work.
        self._fresh: list[tuple[int, float, JournalEvent]] = []
        self._values: dict[str, bytes] = {}
        self._opened: dict[str, str] = {}
        self._closed: list[str] = []
        self._decided: list[int] = []
        self._is_synced = False
        self._is_expected = False
        self._is_due = False  # whether a commit is asked for now, and has not taken anything yet
        self._patience = (
            math.inf
        )  # the least time within which a commit is asked for that may come later than usual
        self._left: ReuseEntries | None = None
        self._left_until = 0.0
        self._left_count = 0  # calls that have left something so far
        self._unstored = 0  # calls whose results for reuse are not durable
        self.updated = row.updated
        self._fault: StoreError | EngineBug | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._settled = threading.Condition(self.piece)
        self.is_closed = False
        self.is_released = False
        self.keeps_failed = False

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to become durable that nothing more should begin."""
        return self.last - self.durable > BEHIND_MAX

    # --- on the event loop

    def add(
        self,
        event: JournalEvent,
        at: float,
        *,
        opens: str | None = None,
        closes: bool = False,
        decision: int | None = None,
        is_synced: bool = False,
        within_s: float | None = None,
    ) -> None:
        """Append an event; a commit is on its way.

        Args:
            event: What happened.
            at: Unix seconds.
            opens: The resource that the write of this step is about to change.
            closes: Whether the outcome of this step's write is known now.
            decision: Number of the decision in the store that this event is.
            is_synced: Whether it must survive a power loss for another reason.
            within_s: How long its commit may wait for what follows, in seconds; `None`: not at all if it must survive a power loss, else
                as long as usual; `inf`: until `expect` is called, or more is added.

        Raises:
            StoreError: An earlier commit failed.
        """
        with self.piece:
            if self._fault is not None:
                raise self._fault
            self.last += 1
            self._fresh.append((self.last, at, event))
            if opens is not None or closes:
                self._note_write(getattr(event, "step", ""), opens)
            if decision is not None:
                self._decided.append(decision)
            if decision is not None or is_synced:
                self._is_synced = True
            self.updated = at
            if within_s is None:
                # A write waits for its intent before it is called, so such an event is committed without the usual delay.
                if self._is_synced:
                    self._hasten()
                elif not (self._is_expected or self._is_due):
                    self.expect()
            elif within_s < self._patience and not (self._is_expected or self._is_due):
                self._patience = within_s
                self._commits.expect(self, within_s)

    def expect(self) -> None:
        """Have what was added committed as soon as usual, unless a commit is on its way."""
        if not (self._is_expected or self._is_due) and self.durable < self.last:
            self._is_expected = True
            self._commits.expect(self)

    def _hasten(self) -> None:
        """Have what was added committed now."""
        if not self._is_due:
            self._is_due = True
            self._commits.expect(self, 0)

    def _note_write(self, step: str, opens: str | None) -> None:
        """Note that a write is about to start, or that its outcome is known (`None`): both must survive a power loss."""
        self._is_synced = True
        if opens is not None:
            self._opened[step] = opens
            return
        # A write that begins and ends within one commit is never open as far as the store knows.
        self._opened.pop(step, None)
        self._closed.append(step)

    def keep(self, values: Mapping[str, bytes]) -> None:
        """Make values durable together with the next event."""
        with self.piece:
            self._values.update(values)

    def leave(
        self,
        call: CallRecord,
        result: Reusable | None = None,
        code: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Keep the reuse entry of a call for one of the next commits, with the parts of a fingerprint that no earlier call has named.

        Args:
            call: What the call was made from.
            result: Its result, if later calls may reuse it.
            code: The parts of a fingerprint that no earlier call has named: its digest -> the parts.
        """
        with self.piece:
            if self._left is None:
                wait_s = LEFT_MAX_S * min(LEFT_TIMES_MAX, 1 + self._left_count // LEFT_MORE)
                self._left = ReuseEntries([], [], {}, NO_OBJECTS)
                self._left_until = time.monotonic() + wait_s
                self._commits.expect(self, wait_s)
            left = self._left
            left.calls.append(call)
            if result is not None:
                left.results.append(result)
            if code:
                left.codes.update(code)
            self._left_count += 1
            self._unstored += 1

    async def flush(self) -> None:
        """Wait until everything added so far is durable. Raises: StoreError: it cannot be made so."""
        # No lock: both numbers only grow, a commit that was asked for in vain costs nothing, and one that has not taken anything yet takes all.
        if self.durable < self.last:
            self._hasten()
        await self.wait_past(self.last - 1)

    async def rest(self) -> None:
        """Wait until everything is durable, reuse entries included. Raises: StoreError: a commit failed."""
        with self.piece:
            self._left_until = 0.0
            if self.durable < self.last or self._unstored:
                self._commits.expect(self, 0)
        await self._until(lambda: self.durable >= self.last and not self._unstored)

    def flush_here(self) -> None:
        """As `flush`, done when it returns: the event loop waits for it. Raises: StoreError."""
        with self.piece:
            self._commits.expect(self, 0)
            self._settled.wait_for(lambda: self.durable >= self.last or self._fault is not None)
            if self._fault is not None:
                raise self._fault

    async def wait_past(self, seq: int) -> None:
        """Wait until an entry past `seq` is durable, or the journal is closed. Raises: StoreError."""
        await self._until(lambda: self.durable > seq)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        with self.piece:
            if self._fault is not None:
                raise self._fault
            if is_so() or self.is_closed:
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((is_so, waiter))
        await waiter

    def close(self) -> None:
        """Wake all who wait: nothing more comes from this process."""
        with self.piece:
            self.is_closed = True
            if self._waiters:
                self._wake()

    # --- on the thread of commits

    def take(self) -> Batch | None:
        """Return what the next commit makes durable; `None`: there is nothing."""
        with self.piece:
            self._is_expected = self._is_due = False
            self._patience = math.inf
            left = self._take_left()
            if self._fault is not None or not (self._fresh or left):
                return None
            fresh, first_seq, values = self._fresh, self.last - len(self._fresh) + 1, self._values
            opened, closed = self._opened, self._closed
            decided, is_synced, updated = self._decided, self._is_synced, self.updated
            status, digest = self._standing()
            usd, due = self._usd(), self._due()
            is_told = self._tells and not (status is RunStatus.WAITING and self._needs_nobody())
            # Taken under the lock, serialized outside it: events that arrive meanwhile belong to the next commit.
            self._fresh, self._values, self._is_synced = [], {}, False
            self._opened, self._closed, self._decided = {}, [], []
        is_new_due = due != self._stored_due
        self._stored_due = due
        lines: list[bytes] = []
        for seq, at, event in fresh:
            line, large = write_line(seq, at, event)
            lines.append(line)
            for value in large:
                values[value.digest] = value.data
        self._head = chain(self._head, lines) if lines else self._head
        return Batch(
            run_id=self._row.id,
            epoch=self._row.epoch,
            first_seq=first_seq,
            lines=lines,
            head=self._head,
            values=values,
            status=status.value,
            digest=digest,
            updated=updated,
            opened=opened,
            closed=closed,
            decided=decided,
            is_synced=is_synced or status.value not in ("queued", "running"),
            reuse=left,
            usd=usd,
            releases=self._row.owner if lines and status in FINAL and not self._is_kept(status) else None,
            notice=self._notice(status.value, fresh) if is_told and lines else "",
            due=(due or 0.0) if is_new_due else None,
        )

    def _is_kept(self, status: RunStatus) -> bool:
        return self.keeps_failed and status is RunStatus.FAILED

    def _notice(self, status: str, fresh: Sequence[tuple[int, float, JournalEvent]]) -> str:
        """Return what webhooks are to be told: a new status, or that something else waits now."""
        is_new = status != self._told or any(isinstance(event, ASKING) for _, _, event in fresh)
        self._told = status
        return notice_of(status) if is_new else ""

    def _take_left(self) -> ReuseEntries | None:
        """Return what calls have left, where that has waited long enough."""
        left, wait_s = self._left, self._left_until - time.monotonic()
        if left is not None and wait_s > 0:
            self._commits.expect(self, wait_s)
            return None
        self._left = None
        return left

    def settle(self, batch: Batch | None, fault: Exception | None, /) -> None:
        """Hear what came of a commit: whoever waits is told."""
        with self.piece:
            if isinstance(fault, StoreError):
                self._fault = fault
            elif fault is not None:
                self._fault = EngineBug(f"the journal of run {self._row.id} stopped: {fault!r}")
            elif batch is not None:
                self.durable = batch.first_seq - 1 + len(batch.lines)
                self.is_released = self.is_released or batch.releases is not None
                self._unstored -= len(batch.reuse.calls) if batch.reuse is not None else 0
            self._settled.notify_all()
            self._wake()

    def _wake(self) -> None:
        waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        for is_so, waiter in self._waiters:
            if self._fault is not None or self.is_closed or is_so():
                # Futures belong to their event loop, and this is another thread. A loop that has ended raises, and nobody waits there any more.
                with suppress(RuntimeError):
                    waiter.get_loop().call_soon_threadsafe(_end, waiter, self._fault)
            else:
                waiting.append((is_so, waiter))
        self._waiters = waiting


def _end(waiter: asyncio.Future[None], fault: Exception | None) -> None:
    if waiter.done():
        return
    if fault is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(fault)


# --- group commit
#
# A commit waits for a disk or a server, however much it holds. So events of all journals of an engine that arrive within a few
# milliseconds share one commit, and events that arrive during a commit go into the next. An event that must not wait, or that somebody
# waits for, is committed immediately, together with everything else that is pending.
#
# Commits run on a thread of their own, and wake the event loop only where a coroutine waits. Rejected: an asyncio task for each commit. An
# event loop sleeps in whole milliseconds after each wake-up, so results of calls would be noticed later.


LATE_MAX_S: Final = 0.004  # how long an event waits for others to share its commit
# How long the first record of a run waits for the next one. The row of the run says already that it was submitted, and who drives it. A
# small run has ended by then, so that the thread of commits need not be woken for its beginning.
FIRST_MAX_S: Final = 0.2
# How long the start of a call that is no write waits for others. Nothing follows from it, and if it is lost, the call is made again all the same. A
# call of a few milliseconds has ended by then, and its start and its end share a commit.
START_MAX_S: Final = 0.05
IDLE_S: Final = 2.0  # how long the thread stays where nothing is to be done


class Source(Protocol):
    """Something that the thread of commits calls when it is due: a `Journal`, or work that only needs the thread (`Watch`, `NewRuns`).

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
        self._looks_at = -math.inf  # when the thread looks again by itself; now, while it does not sleep
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def expect(self, source: Source, within_s: float = LATE_MAX_S) -> None:
        """Have what a source holds by then committed within so many seconds; 0: now."""
        until = time.monotonic() + within_s
        with self._changed:
            self._due[source] = min(until, self._due.get(source, math.inf))
            self._first = min(until, self._first)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="firmplan-commits", daemon=True)
                self._thread.start()
            elif until < self._looks_at:
                self._looks_at = -math.inf
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
        # Each round is a call of its own, so that its batches are freed before the thread waits for the next ones.
        while self._commit_next():
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
            # What follows from a commit often has to be committed within another `LATE_MAX_S`, and then something that cannot wait. So the thread
            # looks again by itself after that time: to wake it for the first would cost both threads more than the look does.
            sleep_s = LATE_MAX_S
            while not self._is_closing and (left_s := self._first - (now := time.monotonic())) > 0:
                sleep_s = min(sleep_s, left_s)
                self._looks_at = now + sleep_s
                is_woken = self._changed.wait(sleep_s)
                self._looks_at = -math.inf
                if not (is_woken or self._due) and sleep_s == IDLE_S:
                    break
                sleep_s = IDLE_S
            # A source that is due within the time of one commit goes along: a second commit would cost another wait for the disk.
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
            # One journal that cannot be written must not stop the commits of the others.
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
