"""Noticing what other processes decide about the runs that this one drives, and renewing the lease meanwhile.

It is looked for on the thread of commits: the event loop is woken only where there is something for it to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...errors import FirmplanError, StoreError
from ..journal.header import Header
from ..stores.store import RunRow, Store
from .archive import LIMIT_MAX, UNDER_WAY, Archive
from .run import Run

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..journal.journal import Commits
    from ..stores.store import Batch, Store
    from .archive import Archive
    from .driver import Driver
    from .owner import Owner


POLL_S: Final = 0.2  # how often it is looked


class Watch:
    """See the module; it lasts as long as a run is driven.

    Args:
        commits: Whose thread it is.
        store: Where decisions are left.
        archive: Reads them.
        owner: Whose lease it is.
        drivers: The runs that are driven, by id.
        driving: These, and those that are planned.
    """

    def __init__(  # what it looks at, and whom it tells
        self,
        commits: Commits,
        store: Store,
        archive: Archive,
        owner: Owner,
        drivers: Mapping[str, Driver],
        driving: Mapping[str, object],
    ) -> None:
        self._commits = commits
        self._store = store
        self._archive = archive
        self._owner = owner
        self._drivers = drivers
        self._driving = driving
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look now and then, and tell this event loop."""
        self._loop = asyncio.get_running_loop()
        self._commits.expect(self, POLL_S)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what is under way on the event loop."""
        return [self._log] if self._log is not None else []

    # --- on the thread

    def take(self) -> Batch | None:
        """Look; nothing is to be committed."""
        decided = [run_id for run_id in self._store.list_decided() if run_id in self._driving]
        if self._loop is not None and (decided or self._owner.is_beat_due):
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._tell, decided)
        self._go_on()
        return None

    def settle(self, _batch: Batch | None, _fault: Exception | None, /) -> None:
        """Go on where the store failed: the runs themselves will say so, if that lasts."""
        self._go_on()

    def _go_on(self) -> None:
        if self._driving and self._loop is not None and not self._loop.is_closed():
            self._commits.expect(self, POLL_S)

    # --- on the event loop

    def _tell(self, decided: Sequence[str]) -> None:
        """Have the lease renewed, and hand over what was decided, unless that is under way."""
        if self._log is None or self._log.done():
            work = self._tell_drivers(decided)
            self._log = asyncio.get_running_loop().create_task(work, name="firmplan decisions")

    async def _tell_drivers(self, decided: Sequence[str]) -> None:
        with suppress(StoreError):  # a run that is affected comes to it by itself
            await self._owner.keep_beating(self._store)
        for run_id in decided:
            if (driver := self._drivers.get(run_id)) is not None:
                with suppress(StoreError):  # the run itself will say so, if it lasts
                    await driver.take_decisions(await self._archive.decisions(run_id))


# --- Runs whose process has died, found so that another goes on with them: those that are there, and those that come.
#
# A run that was stopped in order has no owner any more: it goes on when someone resumes it, or when an engine opens that recovers.
# What an engine looks for all the time are runs that still have an owner, and the owner is dead. It does both beside its other work, a few
# runs at a time: a store may have thousands of such runs, and whoever opens an engine does not wait for them. Whoever asks for one of them
# meanwhile has it taken up at once.


LOOK_S: Final = 1.0  # how often dead owners are looked for
CLAIMS_MAX: Final = 8  # runs that are claimed at a time: each reads its journal
STOP_S: Final = (
    15.0  # how long a claim that is under way may take when the engine closes: a locked store takes ten
)

GoOn = Callable[[str], Awaitable[object]]


class Takeover:
    """See the module.

    Args:
        store: Where runs are.
        archive: Shows them.
        is_driven: Whether a living owner has a run.
        expect_tools: Raises a `ConfigError` where a run needs tools that are not here.
        log: Told of runs that cannot go on here.
    """

    def __init__(
        self,
        store: Store,
        archive: Archive,
        is_driven: Callable[[RunRow], bool],
        expect_tools: Callable[[str, Header], None],
        log: Callable[[], FilteringBoundLogger],
    ) -> None:
        self._store = store
        self._archive = archive
        self._is_driven = is_driven
        self._expect_tools = expect_tools
        self._log = log
        self._left: set[tuple[str, int]] = set()  # what was told that it cannot go on here, by run and epoch
        # Runs of the first look that were tried, until when; `None`: there is none, or it is over.
        self._tried: dict[str, asyncio.Future[None]] | None = None
        self._go_on: GoOn | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- life

    def begin(self, go_on: GoOn) -> None:
        """Go on, in the background, with every run that nobody drives, then with every run whose owner dies."""
        if self._task is None:
            self._go_on, self._tried = go_on, {}
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
        except Exception as fault:  # noqa: BLE001  # nobody waits for this task: the log alone can hear of it
            self._tell(fault)
        finally:
            self._tried = None
        while not await self._is_stopped_within(LOOK_S):
            try:
                orphans = [row for row in await self._store.list_driven() if not self._is_driven(row)]
                await self._take_up(row for row in orphans if (row.id, row.epoch) not in self._left)
            except Exception as fault:  # noqa: BLE001  # the same
                self._tell(fault)

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    def _tell(self, fault: Exception) -> None:
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
        if self._go_on is None:
            return
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

    async def find(self) -> list[Run]:
        """Return every unfinished run that nobody drives, oldest first, as it stands; kept replays never go on.

        What cannot go on here, since its journal was changed or its tools are missing, is left out and told to the log.
        """
        runs: list[Run] = []
        for row in sorted(await self._unowned_and_orphans(), key=lambda row: (row.created, row.id)):
            try:
                await self._expect_readable(row)
                runs.append(await self._archive.get(row.id))
            except FirmplanError as fault:
                self._leave(row, fault)
        return runs

    async def _unowned_and_orphans(self) -> list[RunRow]:
        """Return the rows of every unfinished run that nobody drives."""
        found: list[RunRow] = []
        for status in UNDER_WAY:
            before: tuple[float, str] | None = None
            while rows := await self._store.list_runs(status=status, limit=LIMIT_MAX, before=before):
                found += [row for row in rows if not row.is_replay and not self._is_driven(row)]
                before = (rows[-1].created, rows[-1].id)
        return found

    async def _expect_readable(self, row: RunRow) -> None:
        """Raise if a run cannot go on here. The claim would replace the dead owner in the row, and hide the death from other engines."""
        header = Header.from_dict((await self._archive.row(row.id)).header)
        self._expect_tools(row.id, header)

    def _leave(self, row: RunRow, fault: FirmplanError) -> None:
        self._left.add((row.id, row.epoch))
        self._log().warning("run not recovered", run=row.id, error=str(fault), code=fault.code)
