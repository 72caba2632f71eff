"""What an engine watches in the background, so that runs go on: decisions of other processes, dead owners, times that come, and lost messages.

`Watch` looks for decisions in the store on the commit thread, which wakes the event loop only if there is something to do; it also has the
lease renewed. It looks when the store tells of a decision, and from time to time, since a notification may be lost; a store that tells nothing
is polled. `Takeover` looks for runs that no living process drives, and continues them. `Timers` wakes the runs of this engine whose time has come.
`Stranded` finds the runs of which a backend was not told.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...errors import FirmplanError, StoreError
from ..calls.facilities import Clock, SystemClock
from ..journal.header import Header
from ..states import FINAL, UNDER_WAY
from ..stores.store import RunRow, Store
from .archive import Archive
from .changes import POLL_S

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..journal.journal import Commits
    from ..stores.store import Batch
    from .changes import Changes
    from .driver import Driver
    from .owner import Owner


MISSED_MAX_S: Final = 15.0  # how late a decision is noticed whose notification was lost


class Watch:
    """Looks for decisions of other processes, as long as this engine drives or plans a run.

    Args:
        commits: Runs the looks on its thread.
        store: Where decisions are left.
        archive: Reads the decisions.
        owner: Renews the lease.
        drivers: Run id -> the driver of the run.
        driving: Run id -> the work on the run: the runs that are driven, and those that are being planned.
        changes: Tell of decisions.

    Attributes:
        cancel_planning: Ends the planning of a task that is planned here, if a decision in the store says so.
        is_needed: Whether this owner has runs beside those that are driven, so that its lease has to be renewed.
    """

    cancel_planning: Callable[[str], Awaitable[None]]
    is_needed: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        commits: Commits,
        store: Store,
        archive: Archive,
        owner: Owner,
        drivers: Mapping[str, Driver],
        driving: Mapping[str, object],
        changes: Changes,
    ) -> None:
        self._commits = commits
        self._store = store
        self._archive = archive
        self._owner = owner
        self._drivers = drivers
        self._driving = driving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handover: asyncio.Task[None] | None = None
        self._cancelling: dict[str, asyncio.Task[None]] = {}  # by task that is planned here
        self._changes = changes
        self._looked = (
            -math.inf
        )  # when the last look began, by the monotonic clock; `-inf`: another one is due
        self._is_looking = False  # whether the commit thread comes back by itself
        changes.on_decided(self._hear)

    def begin(self, *, may_have_missed: bool = True) -> None:
        """Look now, and go on looking; hand decisions over on this event loop.

        Args:
            may_have_missed: Whether a decision may have been told before the run was driven here, and nobody has looked since.
        """
        self._loop = asyncio.get_running_loop()
        if not may_have_missed and self._is_looking:
            return
        if may_have_missed:
            self._looked = -math.inf
        self._commits.expect(self, 0.0)

    def _hear(self, runs: Collection[str] | None) -> None:
        """Look at once if a decision is about a run of this engine, or may be. On a thread of the store."""
        driving = self._driving
        if driving and (runs is None or any(run_id in driving for run_id in runs)):
            self._looked = -math.inf
            self._commits.expect(self, 0.0)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks on the event loop."""
        return [*([self._handover] if self._handover is not None else []), *self._cancelling.values()]

    # --- on the commit thread

    def take(self) -> Batch | None:
        """Look at the store if that is due. Returns no batch: there is nothing to commit."""
        decided: list[str] = []
        now = time.monotonic()
        if not self._changes.is_telling or now - self._looked >= MISSED_MAX_S:
            # Before the look: what is told meanwhile asks for another one.
            self._looked = now
            decided = [run_id for run_id in self._store.list_decided() if run_id in self._driving]
        if self._loop is not None and (decided or self._owner.is_beat_due):
            with suppress(RuntimeError):  # the event loop has closed
                self._loop.call_soon_threadsafe(self._hand_over, decided)
        self._look_again()
        return None

    def settle(self, _batch: Batch | None, _fault: Exception | None, /) -> None:
        """Keep looking after the store failed: if the failure lasts, the runs themselves fail with it."""
        self._looked = -math.inf
        self._look_again()

    def _look_again(self) -> None:
        self._is_looking = False  # first: a run that begins now has the looks begin again
        if (self._driving or self.is_needed()) and self._loop is not None and not self._loop.is_closed():
            pause_s = POLL_S
            if self._changes.is_telling:
                left_s = MISSED_MAX_S - (time.monotonic() - self._looked)
                pause_s = max(POLL_S, min(left_s, self._owner.beat_due_in_s))
            elif self._changes.can_tell:  # only now: most programs have ended before, and need not listen
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._changes.begin)
            self._is_looking = True
            self._commits.expect(self, pause_s)

    # --- on the event loop

    def _hand_over(self, decided: Sequence[str]) -> None:
        """Renew the lease and hand the decisions to the drivers, unless the last handover is still under way."""
        if self._handover is None or self._handover.done():
            work = self._hand_to_drivers(decided)
            self._handover = asyncio.get_running_loop().create_task(work, name="firmplan decisions")

    async def _hand_to_drivers(self, decided: Sequence[str]) -> None:
        with suppress(StoreError):  # a run that needs the lease sees the failure itself
            await self._owner.keep_beating(self._store)
        for run_id in decided:
            if (driver := self._drivers.get(run_id)) is not None:
                with suppress(StoreError):  # if the failure lasts, the run itself fails with it
                    await driver.take_decisions(await self._archive.decisions(run_id))
            elif run_id in self._driving and run_id not in self._cancelling:
                # A task of its own: a planning that ends slowly must not keep the lease from being renewed.
                task = asyncio.get_running_loop().create_task(self._end_planning(run_id))
                self._cancelling[run_id] = task

    async def _end_planning(self, run_id: str) -> None:
        try:
            with suppress(StoreError):  # the next look at the store tries again
                await self.cancel_planning(run_id)
        finally:
            del self._cancelling[run_id]


# --- takeover
#
# A run that was stopped in an orderly way has no owner. It continues when someone resumes it, or when an engine opens that recovers runs. Later
# an engine looks only for runs that still have an owner, and whose owner is dead. It claims a few runs at a time, in the background: a
# store may have thousands of such runs, and opening an engine must not wait for them. A run that a caller asks for meanwhile is claimed
# immediately.

LOOK_S: Final = (
    1.0  # how often the store is scanned for dead owners, and known owners that can be seen are looked at
)
CLAIMS_MAX: Final = 8  # runs that are claimed at a time: each reads its journal
STOP_S: Final = (
    15.0  # how long a claim that is under way may take when the engine closes: a locked store takes ten
)


class Takeover:
    """Continues the runs that no living process drives.

    Args:
        store: Where the runs are.
        archive: Reads them.
        find_lost: Returns the runs of dead owners, and the names of the other owners, which live (`Owner.find_lost`).
        is_driven: Whether a living owner has a run.
        expect_tools: Raises `ConfigError` if a run needs tools that this engine does not have.
        go_on: Continues the run of an id; leaves a parked run alone.
        log: The log, for runs that cannot continue here.
        now: The time, in Unix seconds.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # what it asks the engine
        self,
        store: Store,
        archive: Archive,
        find_lost: Callable[[], Awaitable[tuple[Sequence[RunRow], Sequence[str]]]],
        is_driven: Callable[[RunRow], bool],
        expect_tools: Callable[[str, Header], None],
        go_on: Callable[[str], Awaitable[object]],
        log: Callable[[], FilteringBoundLogger],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._archive = archive
        self._find_lost = find_lost
        self._is_driven = is_driven
        self._expect_tools = expect_tools
        self._go_on = go_on
        self._log = log
        self._now = now
        self._is_gone: Callable[[str], bool] = lambda _owner: False
        self._look_s = 0.0
        self._living: Sequence[str] = ()  # the owners that lived at the last scan
        self._scan_at = -math.inf  # when the next scan is due, by the monotonic clock
        self._left: set[tuple[str, int]] = (
            set()
        )  # runs that cannot continue here, with their epochs: each is logged once
        # The runs that the first scan has tried; a future is done when its run was tried. `None`: no first scan is under way.
        self._tried: dict[str, asyncio.Future[None]] | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- life

    def begin(self, is_gone: Callable[[str], bool] | None = None, look_s: float = 0.0) -> None:
        """Continue, in the background, every run that nobody drives, then every run whose owner dies.

        Args:
            is_gone: Whether an owner is seen to be dead, without a scan of the store.
            look_s: The pause between two scans, as long as no known owner is gone and no run is due before the next one.
        """
        self._look_s = look_s
        if is_gone is not None:
            self._is_gone = is_gone
        if self._task is None:
            self._tried = {}
            self._task = asyncio.get_running_loop().create_task(self._work(), name="firmplan takeover")

    async def end(self) -> None:
        """Begin no further claim, and wait for the claims in progress: a claim that is cut off would look like a death."""
        if self._task is None or self._task.done():  # its loop may have ended, and the task with it
            return
        self._stopping.set()
        await asyncio.wait([self._task], timeout=STOP_S)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            await self._take_up(await self._unowned_and_orphans())
        except Exception as fault:  # noqa: BLE001  # nobody waits for this task, so the log is the only place for the error
            self._warn(fault)
        finally:
            self._tried = None
        while not await self._is_stopped_within(LOOK_S):
            if not self._is_scan_due():
                continue
            try:
                lost, self._living = await self._find_lost()
                orphans = [row for row in lost if not self._is_driven(row)]
                due = await self._due()
                rows = [row for row in (*orphans, *due) if (row.id, row.epoch) not in self._left]
                await self._take_up(rows)
                # Each claim raises the epoch. A run that was not claimed cannot go on here, and is not looked at again. Those that no look finds any more are forgotten.
                self._left &= {(row.id, row.epoch) for row in lost}
                self._left |= {(row.id, row.epoch) for row in due}
            except Exception as fault:  # noqa: BLE001  # the same
                self._warn(fault)

    def _is_scan_due(self) -> bool:
        if time.monotonic() >= self._scan_at:
            return True
        # A process of this machine that has died is noticed without a scan.
        return any(map(self._is_gone, self._living))

    async def _due(self) -> Sequence[RunRow]:
        """Return the runs whose time has come, and settle when the next scan is due."""
        self._scan_at = time.monotonic() + self._look_s
        now = self._now()
        due = await self._store.list_due(now + self._look_s)
        if due and self._look_s:  # some of them at the latest before the next scan
            self._scan_at = -math.inf
            due = await self._store.list_due(now)
        return due

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    def _warn(self, fault: Exception) -> None:
        """Log a failed scan. Most often the store has failed, and its next user gets the error too."""
        code = fault.code if isinstance(fault, FirmplanError) else ""
        self._log().warning("no look for runs of dead processes", error=str(fault) or repr(fault), code=code)

    # --- claiming

    async def _take_up(self, rows: Iterable[RunRow]) -> None:
        """Claim and continue runs, oldest first, a few at a time."""
        coming = iter(sorted(rows, key=lambda row: (row.created, row.id)))

        async def take() -> None:
            for row in coming:
                if self._stopping.is_set():
                    return
                await self.take_up(row)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLAIMS_MAX):
                group.create_task(take(), name="firmplan takeover")

    async def take_up(self, row: RunRow) -> None:
        """Continue a run that nobody drives, or wait until another task has tried; log why a run cannot go on here."""
        if self._tried is not None:
            if (tried := self._tried.get(row.id)) is not None:
                await asyncio.wait([tried])
                return
            tried = self._tried[row.id] = asyncio.get_running_loop().create_future()
            try:
                await self._try(row)
            finally:
                tried.set_result(None)
        else:
            await self._try(row)

    async def _try(self, row: RunRow) -> None:
        try:
            await self._expect_readable(row)
            if row.owner is not None:
                self._log().info("run taken over", run=row.id)
            await self._go_on(row.id)
        except FirmplanError as fault:
            self._leave(row, fault)
        except Exception as bug:  # noqa: BLE001  # one run must not keep the others from going on
            self._left.add((row.id, row.epoch))
            self._log().error("run not recovered", run=row.id, error=repr(bug), code="")

    def is_to_come(self, row: RunRow) -> bool:
        """Whether this engine is about to claim a run that nobody drives."""
        if self._tried is None or row.is_replay:
            return False
        tried = self._tried.get(row.id)
        return tried is None or not tried.done()

    # --- scanning

    async def _unowned_and_orphans(self) -> list[RunRow]:
        """Return the rows of every unfinished run that nobody drives."""
        return [
            row
            for status in UNDER_WAY
            async for row in self._archive.rows(status)
            if not row.is_replay and not self._is_driven(row)
        ] + list(await self._store.list_due(self._now()))

    async def _expect_readable(self, row: RunRow) -> None:
        """Raise if a run cannot go on here. The claim would replace the dead owner in the row, and hide the death from other engines."""
        header = Header.from_dict((await self._archive.row(row.id)).header)
        self._expect_tools(row.id, header)

    def _leave(self, row: RunRow, fault: FirmplanError) -> None:
        self._left.add((row.id, row.epoch))
        self._log().warning("run not recovered", run=row.id, error=str(fault), code=fault.code)


# --- timers
#
# When runs that nobody drives go on by themselves: the waits of `wait` steps, the expiry of questions and approvals, deadlines. A run that waits
# for a time has no driver, no task and no lease here: it is an entry of one heap, which one task watches. The time is in the journal and in the
# store as well (`Store.list_due`), so that an engine that recovers runs finds it after a restart.
#
# A sleep is cut into pieces: the clock of a machine is set and machines are suspended, and a sleep counts neither.

SLEEP_MAX_S: Final = (
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
                await self._clock.sleep(min(left_s, SLEEP_MAX_S) if is_of_machine else left_s)
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


# --- stranded runs
#
# Runs that should go on, and that nobody drives: their backend was not told, since a process died in between, or the backend was away. Each
# look also notes the beats of all owners, so that this process knows as early as it can which of them have died.

SETTLED_S: Final = 10.0
"""A run that has changed since then is on its way: its backend is just being told."""
UNTOLD_S: Final = 10.0
"""Runs of which a backend was not told are one line of the log in so many seconds."""
PAGE: Final = 200
"""Rows of runs without an owner that one look reads; the next look goes on behind them."""


class Stranded:
    """The stranded runs of a store.

    Args:
        store: Where the runs are.
        owner: Tells whether owners live.
        now: The time, in Unix seconds.
    """

    def __init__(self, store: Store, owner: Owner, now: Callable[[], float]) -> None:
        self._store = store
        self._owner = owner
        self._now = now
        self._before: dict[str, tuple[float, str] | None] = {}  # by status: where the next look goes on

    async def find(self) -> list[RunRow]:
        """Return rows, without headers, of runs that are stranded, as far as this look has seen. Raises: StoreError."""
        settled = self._now() - SETTLED_S
        found: dict[str, RunRow] = {}
        lost, _ = await self._owner.find_lost(self._store)
        for row in (
            *lost,
            *await self._next_page(),
            *await self._store.list_due(settled),
            *await self._decided(),
        ):
            if not row.is_replay and (row.owner is None or row in lost) and row.updated < settled:
                found[row.id] = row
        return list(found.values())

    async def _next_page(self) -> list[RunRow]:
        """Return some of the runs that are under way without an owner."""
        found: list[RunRow] = []
        for status in UNDER_WAY:
            before = self._before.get(status)
            rows = await self._store.list_runs(status=status, limit=PAGE, before=before)
            self._before[status] = (rows[-1].created, rows[-1].id) if len(rows) == PAGE else None
            found += [row for row in rows if row.owner is None]
        return found

    async def _decided(self) -> Sequence[RunRow]:
        """Return the runs about which a decision is stored that nobody has taken up."""
        ids = await asyncio.to_thread(self._store.list_decided)
        rows = [await self._store.find_run(run_id) for run_id in ids[:PAGE]]
        return [row for row in rows if row is not None and row.status not in FINAL]


class Untold:
    """Tells the log of runs of which the backend was not told: of the first at once, of those that follow together.

    Args:
        log: Returns the log.
    """

    def __init__(self, log: Callable[[], FilteringBoundLogger]) -> None:
        self._log = log
        self._last: tuple[str, Exception] | None = None  # of the runs that the log does not have yet
        self._count = 0
        self._pause: asyncio.TimerHandle | None = None

    def note(self, run_id: str, fault: Exception) -> None:
        """Note that the backend was not told of a run."""
        self._last, self._count = (run_id, fault), self._count + 1
        if self._pause is None:
            self._tell()

    def end(self) -> None:
        """Tell the log of all that is left."""
        if self._pause is not None:
            self._pause.cancel()
        self._tell()
        if self._pause is not None:
            self._pause.cancel()

    def _tell(self) -> None:
        self._pause = None
        if self._last is None:
            return
        run_id, fault = self._last
        hint = "the runs are in the store; each goes on when it is resumed, or when a worker finds it"
        self._log().warning(
            "the backend was not told", run=run_id, runs=self._count, error=str(fault), hint=hint
        )
        self._last, self._count = None, 0
        self._pause = asyncio.get_running_loop().call_later(UNTOLD_S, self._tell)
