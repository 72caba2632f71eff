"""Stops processes as SIGSTOP does, and waits until they stand still."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

PATIENCE_S = 60.0


def stop(store: str | Path, *pids: int) -> None:
    """Stop processes: when this function returns, no thread of them runs, and none of them has a transaction of the store open.

    A process that is stopped in the middle of a transaction keeps the lock of the store for ever: then nobody else can write, which is
    another case than that of an owner that hangs.

    Args:
        store: The path or the URL of the store, in which nobody else writes now.
        pids: The processes.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        for pid in pids:
            _stop(pid, until)
        if not _is_locked(store):
            return
        assert time.monotonic() < until, "a process is always in a transaction"
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)


def _stop(pid: int, until: float) -> None:
    # The kernel gives SIGSTOP to one thread, commonly the main thread, and the other threads stop only once this thread has had the CPU. On a
    # busy machine they can go on for many milliseconds after `os.kill` has returned, and finish the call that the test wants to interrupt.
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    while tasks.exists() and any(_state(task) not in "TtXZ" for task in tasks.iterdir()):
        assert time.monotonic() < until, "a thread of the process still runs"
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"  # the thread ended meanwhile


def _is_locked(store: str | Path) -> bool:
    """Whether somebody has a transaction of the store open in which they write."""
    if str(store).startswith("postgresql"):
        import psycopg

        with psycopg.connect(str(store)) as server:
            (count,) = server.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type='client backend' AND state<>'idle' AND pid<>pg_backend_pid()"
            ).fetchone() or (0,)
            return count > 0
    with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        db.rollback()
        return False
