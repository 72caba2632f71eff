"""Stops a process as SIGSTOP does, and waits until it stands still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def stop(pid: int) -> None:
    """Stop a process: when this function returns, no thread of the process runs.

    The kernel gives SIGSTOP to one thread, commonly the main thread, and the other threads stop only once this thread has had the CPU. On a
    busy machine they can go on for many milliseconds after `os.kill` has returned, and finish the call that the test wants to interrupt.
    """
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until = time.monotonic() + 60
    while tasks.exists() and any(_state(task) not in "TtXZ" for task in tasks.iterdir()):
        assert time.monotonic() < until, "a thread of the process still runs"
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"  # the thread ended meanwhile
