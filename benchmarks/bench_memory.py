"""What a server keeps of runs that have ended: its memory after 20,000 runs over HTTP, beside the same server's after 1,000, and how long it takes to stop.

    python benchmarks/bench_memory.py [RUNS [POSTGRES_URL]]

The server is a process of its own, on a new SQLite file, or on the database of the URL. Runs have three steps, and inputs of their own; 16 connections submit them. What counts
is the resident memory of the process once all runs have ended. Exits with 1 where a limit is broken.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench_submissions import TOOLS, Load, Server

FEW: Final = 1_000
TIMES_MAX: Final = 1.1
STOP_S_MAX: Final = 3.0
PORTION: Final = 1_000


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def settled(pid: int) -> float:
    """Return the resident memory once it has stood still for a second."""
    before, now = 0.0, rss_mib(pid)
    while abs(now - before) > 0.1:
        time.sleep(1.0)
        before, now = now, rss_mib(pid)
    return now


def main(runs: int, store: str) -> int:
    """Print the memory after each few thousand runs; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tools.py").write_text(TOOLS)
        words = ["-m", "firmplan", "serve", "--tools", "tools.py", "--port", "0", "--rate", "1000000"]
        words += ["--queue", "1000000", "--store", store or "s.db"]
        server = Server.started("firmplan", words, folder, store or folder / "s.db")
        load = Load(server, is_other=False)
        found: dict[int, float] = {}
        for done in range(PORTION, runs + 1, PORTION):
            load.flood(PORTION)
            if done in (FEW, runs) or done % 5_000 == 0:
                found[done] = settled(server.process.pid)
                print(
                    f"after {done:6,} runs  {found[done]:7.1f} MiB  {found[done] / found[FEW]:5.2f} times",
                    flush=True,
                )
        begin = time.perf_counter()
        server.stop()
        stop_s = time.perf_counter() - begin
    times = found[runs] / found[FEW]
    print(
        f"{times:.2f} times the memory after {FEW:,} runs (limit {TIMES_MAX:g}); stopped within {stop_s:.1f} s (limit {STOP_S_MAX:g} s)"
    )
    return int(times > TIMES_MAX or stop_s > STOP_S_MAX)


if __name__ == "__main__":
    sys.exit(
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, sys.argv[2] if len(sys.argv) > 2 else "")
    )
