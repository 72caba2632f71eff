"""What a step costs: a durable run, the same with everything reused, and a strict replay, beside `asyncio.gather`.

    python benchmarks/bench_executor.py [STEPS ..]

Each plan has STEPS tool steps that do nothing, in a chain of fans: ten steps side by side, then one that waits for them.
The store is a SQLite file on this machine's disk. The best of three runs is shown, in microseconds a step; `ratio` is how
many times as long as awaiting the bare coroutines with `asyncio.gather`, fan by fan.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from firmplan.executor import Execution, Facilities, Header, Lock, SqliteStore, default_seed
from firmplan.executor.places import Places
from firmplan.plans import Plan
from firmplan.tools import Models, Toolset, tool

FAN = 10  # steps side by side
ROUNDS = 3
SIZES = (100, 1_000, 10_000)


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def plan_of(steps: int) -> Plan:
    """Return a chain of fans."""
    made: list[dict[str, Any]] = []
    before = "0"
    for number in range(steps // (FAN + 1)):
        fan = [f"s{number}_{place}" for place in range(FAN)]
        made += [
            {"id": name, "tool": "add", "args": {"a": f"${{{before}}}", "b": number * FAN + place}}
            for place, name in enumerate(fan)
        ]
        made.append({"id": f"j{number}", "tool": "add", "args": {"a": f"${{max({', '.join(fan)})}}", "b": 1}})
        before = f"j{number}"
    return Plan.model_validate({"firmplan": 1, "steps": made, "output": f"${{{before}}}"})


async def bare(steps: int) -> None:
    """Await the same work without an engine."""
    before = 0
    for number in range(steps // (FAN + 1)):
        fan = await asyncio.gather(*(add(before, number * FAN + place) for place in range(FAN)))
        before = await add(max(fan), 1)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long the work takes, in seconds."""
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def measured(plan: Plan, folder: Path) -> dict[str, float]:
    """Return the seconds of each kind of run, in a new store."""
    path = str(folder / "bench.db")
    tools = Toolset([add])
    execution = Execution(Facilities(tools, Models({}), SqliteStore(path), Places(64)), path)
    await execution.open()
    header = Header(plan, {}, default_seed(plan, {}), Lock.of([plan], tools), {})

    async def run(run_id: str) -> None:
        await execution.submissions.submit(header, run_id=run_id)
        await execution.resume(run_id)
        done = await execution.wait(run_id)
        assert done.status == "succeeded", done.errors

    async def replay() -> None:
        await execution.replays.replay("first", keep=False)

    seconds = {
        "durable run": await timed(lambda: run("first")),
        "all reused": await timed(lambda: run("second")),
        "replay": await timed(replay),
    }
    await execution.close()
    return seconds


async def main(sizes: tuple[int, ...]) -> None:
    """Print a table."""
    print(f"{'steps':>8}  {'':14}{'us/step':>10}{'ratio':>10}")
    for size in sizes:
        plan = plan_of(size)
        count = len(plan.steps)
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                found = {
                    "asyncio.gather": await timed(partial(bare, size)),
                    **await measured(plan, Path(folder)),
                }
            best = {name: min(value, best.get(name, value)) for name, value in found.items()}
        for name, seconds in best.items():
            ratio = seconds / best["asyncio.gather"]
            print(f"{count:>8}  {name:14}{seconds / count * 1e6:>10.1f}{ratio:>10.1f}")


if __name__ == "__main__":
    asyncio.run(main(tuple(map(int, sys.argv[1:])) or SIZES))
