"""What a server's usual requests cost in a store of 100,000 ended runs, beside the same in a store of 1,000: they must not grow with what has ended.

`python benchmarks/bench_stored_runs.py [RUNS [ROUNDS]]`. The stored runs are copies of one run's row. Both stores are asked in turns, and medians are compared.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from firmplan import Engine
from firmplan.service.auth import ServerLimits
from firmplan.service.metrics import Metrics
from firmplan.service.run_queue import RunQueue
from firmplan.tools import tool

TIMES_MAX = 1.2
FEW = 1_000
NOISE_MS = 0.05  # differences below are no growth


@tool(effect="pure", version=1)
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def plan(number: int) -> dict[str, object]:
    """Return a plan of three steps."""
    steps = [
        {"id": f"s{n}", "tool": "add", "args": {"a": f"${{s{n - 1}}}" if n else number, "b": 1}}
        for n in range(3)
    ]
    return {"firmplan": 1, "steps": steps, "output": "${s2}"}


def fill(path: Path, runs: int) -> None:
    """Copy the row of the only run of a store, as runs that failed or succeeded in the past."""
    with sqlite3.connect(path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(runs)")]
        values = {
            "id": "'past-' || n",
            "created": "created - n",
            "status": "iif(n % 10, 'succeeded', 'failed')",
        }
        chosen = ", ".join(values.get(column, column) for column in columns)
        db.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {runs}) "
            f"INSERT INTO runs ({', '.join(columns)}) SELECT {chosen} FROM runs, numbers"
        )
    db.close()


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds that some work takes."""
    begin = time.perf_counter()
    await work()
    return (time.perf_counter() - begin) * 1000


async def main(runs: int, rounds: int) -> bool:
    """Print what each request costs in both stores; return whether none grows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "small.db", Path(folder) / "full.db"]
        for path in paths:
            async with Engine([add], store=path) as engine:
                await engine.run(plan(0))
        fill(paths[0], FEW)
        fill(paths[1], runs)
        async with Engine([add], store=paths[0]) as small, Engine([add], store=paths[1]) as full:
            found: dict[str, list[list[float]]] = {}
            for number in range(1, rounds + 1):
                for which, engine in enumerate((small, full)):
                    queue = RunQueue(engine, ServerLimits(), Metrics())

                    async def submit(
                        queue: RunQueue = queue, engine: Engine = engine, number: int = number
                    ) -> None:
                        await queue.check_queue()
                        await engine.wait((await engine.submit(plan(number))).id)

                    requests: dict[str, Callable[[], Awaitable[object]]] = {
                        "submission, run included": submit,
                        "metrics": queue.active,
                        "list": lambda engine=engine: engine.list_runs(limit=50),
                        "list of failed runs": lambda engine=engine: engine.list_runs(
                            status="failed", limit=50
                        ),
                        "list of waiting runs": lambda engine=engine: engine.list_runs(
                            status="waiting", limit=50
                        ),
                    }
                    for name, work in requests.items():
                        found.setdefault(name, [[], []])[which].append(await timed(work))
    print(
        f"milliseconds, medians of {rounds} rounds: a store of {FEW:,} runs that have ended, and one of {runs:,}"
    )
    is_flat = True
    for name, (few, many) in found.items():
        one, other = statistics.median(few), statistics.median(many)
        grows = other > one * TIMES_MAX + NOISE_MS
        is_flat &= not grows
        print(f"  {name:<26} {one:8.3f} {other:8.3f}   {other / one:5.2f} times{'  grows' if grows else ''}")
    return is_flat


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(0 if asyncio.run(main(*numbers, *(100_000, 60)[len(numbers) :])) else 1)
