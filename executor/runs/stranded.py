"""Finds the runs that should go on, and that nobody drives: their backend was not told, since a process died in between, or the backend was away.

Each look also notes the beats of all owners, so that this process knows as early as it can which of them have died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ..states import FINAL, UNDER_WAY

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from ..stores.store import RunRow, Store
    from .owner import Owner

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
