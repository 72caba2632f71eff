"""What it costs to keep results for reuse, and to find them, as the store grows: up to a million results in a file.

    python benchmarks/bench_reuse_log.py [RESULTS]

Commits leave 500 results each, as a run of 500 steps does; keys are digests, so they come in random order. Times are CPU time in microseconds
a result, the mean of the last commits at each size; 25 keys are looked for at a time, which is a layer of steps. Exits with 1 where a
result costs more than five times what it costs in a store of 10,000.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from firmplan.executor import SqliteStore
from firmplan.executor.stores.store import Batch, Reusable, ReuseEntries

SIZES = (10_000, 100_000, 300_000, 1_000_000)
COMMIT = 500
LAYER = 25
LAST = 20  # commits and look-ups that are measured at each size
GROWTH_MAX = 5.0
OUTPUT = b'{"count":12,"name":"x","price":1.5}'


def results_from(first: int) -> list[Reusable]:
    """Return the results of one commit."""
    numbers = range(first, first + COMMIT)
    return [Reusable(key_of(n), "run_0123456789abcdef", f"s{n}", OUTPUT, 1_000.0 + n) for n in numbers]


def key_of(number: int) -> str:
    """Return a content key."""
    return f"sha256:{sha256(str(number).encode()).hexdigest()}"


async def measure(path: Path, most: int) -> list[tuple[int, float, float]]:
    """Fill a store, and return size, cost of a result that is kept, and cost of one that is found."""
    store = SqliteStore(path)
    await store.open()
    found: list[tuple[int, float, float]] = []
    spent: list[float] = []
    for first in range(0, most, COMMIT):
        left = ReuseEntries(results=results_from(first))
        before = time.thread_time()
        store.append([Batch("r", 0, 1, [], b"", {}, "running", "", 1.0, reuse=left)])
        spent.append(time.thread_time() - before)
        size = first + COMMIT
        if size in SIZES:
            looks = [[key_of(n) for n in range(at, at + LAYER)] for at in range(0, size, size // LAST)]
            before = time.thread_time()
            for keys in looks:
                assert len(await store.find_reusable(keys)) == LAYER
            looked = (time.thread_time() - before) / (len(looks) * LAYER)
            found.append((size, sum(spent[-LAST:]) / LAST / COMMIT * 1e6, looked * 1e6))
            print(f"{size:10,}  kept {found[-1][1]:6.1f} us  found {found[-1][2]:6.1f} us", flush=True)
    await store.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=int, nargs="?", default=SIZES[-1])
    most = max(parser.parse_args().results, SIZES[0])
    with tempfile.TemporaryDirectory() as folder:
        sizes = asyncio.run(measure(Path(folder) / "s.db", most))
    growth = sizes[-1][1] / sizes[0][1]
    print(f"growth {growth:.2f}, at most {GROWTH_MAX:g}")
    return int(growth > GROWTH_MAX)


if __name__ == "__main__":
    sys.exit(main())
