"""Short runs: how many a second at 50 at a time, and how long 200 runs that end at once take until the engine is closed.

    python benchmarks/bench_runs.py [URL]

Each run is one step. Without a URL a PostgreSQL server is started on this machine, on the same disk as the SQLite file; without one installed
only SQLite is measured. Time of the wall, the least of some rounds; each round uses a new store.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from firmplan import Engine, tool

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from postgres import Cluster, find_binaries  # only there since the line above

RUNS: Final = 500
AT_A_TIME: Final = 50
AT_ONCE: Final = 200
ROUNDS: Final = 3
GATES: Final[list[asyncio.Event]] = []  # the last one is of the present event loop


@tool(effect="read", resource="clock", version=1)
async def look(n: int) -> int:
    """Return at once."""
    return n


@tool(effect="read", resource="clock", version=1)
async def wait_for_gate(n: int) -> int:
    """Wait until all runs have begun."""
    await GATES[-1].wait()
    return n


def one_step(tool_name: str, n: int) -> dict[str, object]:
    """Return a plan of one step."""
    return {"firmplan": 1, "steps": [{"id": "a", "tool": tool_name, "args": {"n": n}}], "output": "${a}"}


async def runs_a_second(store: str) -> float:
    """Return how many runs a second end where so many go on at a time, with the closing of the engine."""
    numbers = iter(range(RUNS))
    plans = [one_step("look", n % 10) for n in range(10)]
    began = time.perf_counter()
    async with Engine([look, wait_for_gate], store=store) as engine:

        async def one_after_the_other() -> None:
            for n in numbers:
                assert (await engine.run(plans[n % 10])).output == n % 10

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_A_TIME)))
    return RUNS / (time.perf_counter() - began)


async def seconds_to_end(store: str) -> float:
    """Return how long it takes from the end of 200 calls at once until their runs have ended and the engine is closed."""
    GATES.append(asyncio.Event())
    async with Engine([look, wait_for_gate], store=store, max_concurrency=AT_ONCE) as engine:
        ids = [(await engine.submit(one_step("wait_for_gate", 0))).id for _ in range(AT_ONCE)]
        GATES[-1].set()
        began = time.perf_counter()
        for run_id in ids:
            assert (await engine.wait(run_id)).output == 0
    return time.perf_counter() - began


async def measure(kind: str, fresh: Callable[[], str]) -> None:
    """Print a line for one kind of store."""
    fastest = max([await runs_a_second(fresh()) for _ in range(ROUNDS)])
    shortest = min([await seconds_to_end(fresh()) for _ in range(ROUNDS)])
    print(
        f"{kind:<12} {fastest:>6.0f} runs a second, {AT_A_TIME} at a time   {AT_ONCE} runs that end at once: {shortest:.2f} s"
    )


def main() -> None:
    """Measure on SQLite, then on a given server or on one of our own."""
    number = iter(range(1_000_000))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure("sqlite", lambda: str(Path(folder) / f"s{next(number)}.db")))
    if len(sys.argv) > 1:
        mark, joint = f"bench_{time.time_ns()}", "&" if "?" in sys.argv[1] else "?"
        url = f"{sys.argv[1]}{joint}options=-csearch_path%3D{mark}_"
        asyncio.run(measure("postgresql", lambda: f"{url}{next(number)}"))
        return
    if find_binaries() is None:
        print("no PostgreSQL server is installed here: give the URL of one")
        return
    cluster = Cluster()
    try:
        asyncio.run(measure("postgresql", cluster.fresh_url))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
