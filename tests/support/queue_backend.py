"""A backend of the tests: a queue in a file of SQLite, which engines of any process share.

It promises no more than `firmplan.backends.backend` asks for, and less than a good queue: a run that was taken is handed out again when nobody has reported on it
for `HIDDEN_S`, whether or not somebody still drives it. So runs are handed out twice all the time, and the lease of the store has to do its work.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import structlog
from firmplan import FirmplanError, RunDriven

HIDDEN_S = 0.3
LOOK_S = 0.02
NEVER = float("inf")


class QueueBackend:
    """See the module. `put` may be called once for each process of the queue's file."""

    drives_here = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.handed_out: list[str] = []  # runs that this object has handed to `drive`
        with closing(self._connect()) as made, made:
            made.execute(
                "CREATE TABLE IF NOT EXISTS queue (run TEXT PRIMARY KEY, at REAL NOT NULL, wakes INTEGER NOT NULL)"
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30, isolation_level="IMMEDIATE")

    def _write(self, statement: str, *values: object) -> list[tuple]:
        with closing(self._connect()) as link, link:
            return link.execute(statement, values).fetchall()

    async def open(self, host) -> None:
        """See `Backend.open`."""
        self.host = host

    async def close(self) -> None:
        """See `Backend.close`."""

    async def enqueue(self, run) -> None:
        """See `Backend.enqueue`."""
        self._write("INSERT INTO queue VALUES (?, ?, 0) ON CONFLICT DO NOTHING", run.id, time.time())

    async def wake(self, run_id: str) -> None:
        """See `Backend.wake`."""
        self._write(
            "INSERT INTO queue VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET at = min(at, excluded.at), wakes = wakes + 1",
            run_id,
            time.time(),
        )

    async def cancel(self, run_id: str) -> None:
        """See `Backend.cancel`."""
        await self.wake(run_id)

    async def take(self, drive, *, slots: int) -> None:
        """See `Backend.take`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(slots):
                group.create_task(self._serve(drive))

    async def _serve(self, drive) -> None:
        while True:
            now = time.time()
            taken = self._write(
                "UPDATE queue SET at = ? WHERE run = (SELECT run FROM queue WHERE at <= ? ORDER BY at LIMIT 1) RETURNING run, wakes",
                now + HIDDEN_S,
                now,
            )
            for run_id, wakes in taken:
                self.handed_out.append(run_id)
                await self._hand_out(drive, run_id, wakes)
            if not taken:
                await asyncio.sleep(LOOK_S)

    async def _hand_out(self, drive, run_id: str, wakes: int) -> None:
        try:
            run = await drive(run_id)
        except RunDriven:
            return  # it is handed out again
        except FirmplanError as fault:
            structlog.get_logger().warning("a run was left", run=run_id, error=str(fault))
            return
        except asyncio.CancelledError:
            await self.wake(run_id)
            raise
        # A run that was woken meanwhile is handed out again, whatever became of it.
        if run.status in ("succeeded", "failed", "cancelled"):
            self._write("DELETE FROM queue WHERE run = ? AND wakes = ?", run_id, wakes)
        else:
            until = run.due if run.due is not None else 1e18
            self._write("UPDATE queue SET at = ? WHERE run = ? AND wakes = ?", until, run_id, wakes)
