"""What a server's usual requests cost in a store of 100,000 ended runs, beside the same in a store of 1,000: they must not grow with what has ended.

    python benchmarks/bench_stored_runs.py [RUNS [ROUNDS]]

In SQLite and, where its server is installed, in PostgreSQL, of which one is started. The stored runs are copies of one run, with their headers, journals, reusable results and records of
calls, under ids and keys in random order. Both stores are asked in turns, and lower quartiles are compared, which other work on the machine changes less than medians.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from firmplan import Engine
from firmplan.service.auth import ServerLimits
from firmplan.service.metrics import Metrics
from firmplan.service.run_queue import RunQueue
from firmplan.tools import tool

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from postgres import Cluster, find_binaries  # only there since the line above
from stored_runs import fill_file, fill_server

TIMES_MAX: Final = 1.2
FEW: Final = 1_000
NOISE_MS: Final = 0.05  # differences below are no growth
WARM: Final = (
    10  # rounds that do not count: caches are empty, and what is remembered of the store is still being read
)


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


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds that some work takes."""
    begin = time.perf_counter()
    await work()
    return (time.perf_counter() - begin) * 1000


def requests_of(engine: Engine, number: int) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the requests of one round."""
    queue = RunQueue(engine, ServerLimits(), Metrics())

    async def submit() -> None:
        await queue.check_queue()
        await engine.wait((await engine.submit(plan(number))).id)

    return {
        "submission, run included": submit,
        "metrics": queue.active,
        "list": lambda: engine.list_runs(limit=50),
        "list of failed runs": lambda: engine.list_runs(status="failed", limit=50),
        "list of waiting runs": lambda: engine.list_runs(status="waiting", limit=50),
    }


async def measured(stores: Sequence[str], fill: Callable[[str, int], None], runs: int, rounds: int) -> bool:
    """Print what each request costs in a store of few and in one of many runs; return whether none grows."""
    for store, count in zip(stores, (FEW, runs), strict=True):
        async with Engine([add], store=store) as engine:
            await engine.explain(
                (await engine.run(plan(0))).id, "s0"
            )  # so that the records of its calls are where they are looked for
        fill(store, count)
    found: dict[str, list[list[float]]] = {}
    async with Engine([add], store=stores[0]) as small, Engine([add], store=stores[1]) as full:
        for number in range(1, rounds + 1):
            for which, engine in ((0, small), (1, full)) if number % 2 else ((1, full), (0, small)):
                for name, work in requests_of(engine, number).items():
                    taken = await timed(work)
                    if number > WARM:
                        found.setdefault(name, [[], []])[which].append(taken)
    is_flat = True
    for name, (few, many) in found.items():
        one, other = (statistics.quantiles(times, n=4)[0] for times in (few, many))
        grows = other > one * TIMES_MAX + NOISE_MS
        is_flat &= not grows
        print(f"  {name:<26} {one:8.3f} {other:8.3f}   {other / one:5.2f} times{'  grows' if grows else ''}")
    return is_flat


async def main(runs: int, rounds: int) -> bool:
    """Measure both kinds of store; return whether nothing grows."""
    print(
        f"milliseconds, lower quartiles of {rounds - WARM} rounds: a store of {FEW:,} runs that have ended, and one of {runs:,}"
    )
    print("SQLite")
    with tempfile.TemporaryDirectory() as folder:
        is_flat = await measured([f"{folder}/small.db", f"{folder}/full.db"], fill_file, runs, rounds)
    if find_binaries() is None:
        print("no PostgreSQL's server is installed here")
        return is_flat
    print("PostgreSQL")
    cluster = Cluster()
    try:
        stores = [cluster.fresh_url(), cluster.fresh_url()]
        is_flat &= await measured(stores, fill_server, runs, rounds)
    finally:
        cluster.remove()
    return is_flat


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(0 if asyncio.run(main(*numbers, *(100_000, 110)[len(numbers) :])) else 1)
