"""What a step costs: a durable run, the same with everything reused, and a strict replay, beside two floors without an engine.

    python benchmarks/bench_executor.py [STEPS ..] [--profile run|reuse|replay]

Each plan has STEPS tool steps that do nothing, in layers of 25; each step reads three of the layer before. The store is a
SQLite file on this machine's disk; checking and submitting the plan do not count. Shown is CPU time of the process, threads
included, in microseconds a step, the least of some rounds, and how many times that is of what awaiting the bare coroutines
with `asyncio.gather` costs in the same process: machines and their load differ, ratios hardly. The second floor also commits one
SQLite transaction (WAL) for each step, which is the least that others who keep what a step returned do. Exits with 1 where 1,000
steps are more times `asyncio.gather` than the targets were on the machine that they were set on, or 20,000 cost too much more each.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from firmplan.executor import Execution, Facilities, Header, SqliteStore, ToolsetLock, default_seed
from firmplan.executor.calls.concurrency import FairSemaphore
from firmplan.executor.runs.owner import presence_of
from firmplan.executor.stores.location import open_location
from firmplan.plans import Plan
from firmplan.tools import Models, Toolset, tool

LAYER: Final = 25  # steps side by side
PARENTS: Final = 3
ROUNDS: Final = 5
SIZES: Final = (1_000, 20_000)
TARGETS_US: Final = {"durable run": 50.0, "all reused": 25.0, "replay": 15.0}
GATHER_US: Final = 3.0  # what `asyncio.gather` cost on the machine that the targets were set on
GROWTH_MAX: Final = {"durable run": 1.2}


@tool(effect="pure")
async def add(a: int, b: int, c: int) -> int:
    """Add three numbers."""
    return (a + b + c) % 1_000_003


def parents_of(number: int) -> list[int]:
    """Return the numbers of the steps that a step reads: none in the first layer."""
    layer, place = divmod(number, LAYER)
    first = (layer - 1) * LAYER
    return [first + (place + at * 7) % LAYER for at in range(PARENTS)] if layer else []


def plan_of(steps: int) -> Plan:
    """Return a layered plan."""
    made: list[dict[str, Any]] = []
    for number in range(steps):
        args: list[Any] = [f"${{s{parent}}}" for parent in parents_of(number)] or [number, 1, 2]
        made.append({"id": f"s{number}", "tool": "add", "args": dict(zip("abc", args, strict=True))})
    return Plan.model_validate({"firmplan": 1, "steps": made, "output": f"${{s{steps - 1}}}"})


async def gathered(steps: int, keep: Callable[[int, int], None] | None = None) -> None:
    """Do the same work without an engine, layer by layer."""
    values: list[int] = []

    async def one(number: int) -> int:
        given = [values[parent] for parent in parents_of(number)] or [number, 1, 2]
        value = await add(*given)
        if keep is not None:
            keep(number, value)
        return value

    for first in range(0, steps, LAYER):
        values += await asyncio.gather(*(one(number) for number in range(first, min(first + LAYER, steps))))


async def committed(steps: int, folder: Path) -> None:
    """The same, with one transaction a step."""
    db = sqlite3.connect(folder / f"floor{time.monotonic_ns()}.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE results (step INTEGER PRIMARY KEY, value TEXT)")
    await gathered(
        steps,
        lambda number, value: bool(db.execute("INSERT INTO results VALUES (?,?)", (number, str(value)))),
    )
    db.close()


async def cpu(work: Callable[[], Awaitable[object]]) -> float:
    """Return how much CPU time the work takes, in seconds."""
    started = time.process_time()
    await work()
    return time.process_time() - started


class Bench:
    """One plan in one new store.

    Args:
        steps: How many.
        folder: Where the store goes.
    """

    def __init__(self, steps: int, folder: Path) -> None:
        self._steps = steps
        self._folder = folder
        self._plan = plan_of(steps)
        self._tools = Toolset([add])
        path = str(folder / "bench.db")
        store = SqliteStore(path)
        self._execution = Execution(
            Facilities(self._tools, Models({}), store, FairSemaphore(64)), presence_of(open_location(store))
        )

    async def measure(self) -> dict[str, float]:
        """Return the CPU seconds of each kind of run."""
        await self._execution.open()
        run, reuse = await self._submit("first"), await self._submit("second")
        seconds = {
            "asyncio.gather": await cpu(lambda: gathered(self._steps)),
            "with a commit": await cpu(lambda: committed(self._steps, self._folder)),
            "durable run": await cpu(run),
            "all reused": await cpu(reuse),
            "replay": await cpu(self._replay),
        }
        await self._execution.close()
        return seconds

    async def profile(self, kind: str) -> None:
        """Print where the time of one kind of run goes."""
        await self._execution.open()
        run, reuse = await self._submit("first"), await self._submit("second")
        works = {"run": run, "reuse": reuse, "replay": self._replay}
        if kind != "run":
            await run()
        profiler = cProfile.Profile()
        profiler.enable()
        await works[kind]()
        profiler.disable()
        await self._execution.close()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(60)

    async def _submit(self, run_id: str) -> Callable[[], Awaitable[None]]:
        """Submit a run; return what drives it to its end."""
        header = Header(
            self._plan, {}, default_seed(self._plan, {}), ToolsetLock.of([self._plan], self._tools), {}
        )
        await self._execution.submissions.submit(header, run_id=run_id)

        async def drive() -> None:
            await self._execution.resume(run_id)
            done = await self._execution.wait(run_id)
            assert done.status == "succeeded", done.errors

        return drive

    async def _replay(self) -> None:
        await self._execution.replays.replay("first", keep=False)


async def least(steps: int, rounds: int) -> dict[str, float]:
    """Return the least seconds of some rounds."""
    found: dict[str, float] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds = await Bench(steps, Path(folder)).measure()
        found = {name: min(value, found.get(name, value)) for name, value in seconds.items()}
    return found


async def main(sizes: Sequence[int], profile: str | None) -> int:
    """Print a table, or a profile; return the exit code."""
    if profile is not None:
        with tempfile.TemporaryDirectory() as folder:
            await Bench(sizes[0], Path(folder)).profile(profile)
        return 0
    await least(LAYER, 1)  # what is loaded at first use
    smallest: dict[str, float] = {}
    broken = 0
    print(f"{'steps':>8}  {'':16}{'us/step':>10}{'x gather':>10}{'growth':>8}")
    for size in sizes:
        seconds = await least(size, ROUNDS if size <= SIZES[0] else 2)
        smallest = smallest or {name: value / size for name, value in seconds.items()}
        for name, value in seconds.items():
            target = f"   target {TARGETS_US[name]:.0f} us" if name in TARGETS_US else ""
            times, growth = value / seconds["asyncio.gather"], value / size / smallest[name]
            print(f"{size:>8}  {name:16}{value / size * 1e6:>10.1f}{times:>10.1f}{growth:>8.2f}{target}")
            is_small = size == sizes[0]
            broken += is_small and name in TARGETS_US and times > TARGETS_US[name] / GATHER_US
            broken += growth > GROWTH_MAX.get(name, growth)
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--profile", choices=("run", "reuse", "replay"))
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.sizes, given.profile)))
