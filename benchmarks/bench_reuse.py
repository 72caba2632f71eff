"""What looking back costs: the strict replay of a run of 1,000 steps, and a run of 1,000 steps that reuses every result.

    python benchmarks/bench_reuse.py [STEPS] [--profile replay|reuse]

Each step adds three of the layer before; the store is a file on this machine's disk. Times are CPU time of the process, threads
included, in microseconds a step, the best of some rounds: after start-up, that is once everything is loaded and each path was
gone once. The floor is what no replay can do without: reading the journal, chaining its hashes, parsing its records. Ratios are to
the floor of the same process, so that they mean something on a busy machine. Exits with 1 where a
ratio is past its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import hashlib
import pstats
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from firmplan import Engine, Plan, tool

STEPS = 1_000
LAYER = 25  # steps side by side
PARENTS = 3
ROUNDS = 7
TARGETS_US = {"replay": 15.0, "all reused": 25.0}  # on a quiet machine
FLOORS_MAX = {"replay": 15.0, "all reused": 26.0}  # times the floor, which a busy machine slows down as well


@tool(effect="pure")
async def add(a: int, b: int, c: int) -> int:
    """Add three numbers."""
    return (a + b + c) % 1_000_003


def plan_of(steps: int) -> Plan:
    """Return a layered plan: each step has three parents in the layer before."""
    made: list[dict[str, Any]] = []
    for number in range(steps):
        layer, place = divmod(number, LAYER)
        parents = [
            f"${{s{layer - 1}_{(place + at * 7) % LAYER}}}" if layer else number + at for at in range(PARENTS)
        ]
        made.append(
            {"id": f"s{layer}_{place}", "tool": "add", "args": dict(zip("abc", parents, strict=True))}
        )
    return Plan.model_validate({"firmplan": 1, "steps": made, "output": f"${{{made[-1]['id']}}}"})


async def cpu(work: Callable[[], Awaitable[object]]) -> float:
    """Return how much CPU time the work takes, in seconds."""
    started = time.process_time()
    await work()
    return time.process_time() - started


async def best(work: Callable[[], Awaitable[object]]) -> float:
    """Return the least of some rounds, after one that does not count."""
    await work()
    return min([await cpu(work) for _ in range(ROUNDS)])


async def measured(steps: int, folder: Path, profile: str | None) -> dict[str, float]:
    """Return microseconds a step of each thing."""
    plan = plan_of(steps)
    async with Engine([add], store=folder / "bench.db") as engine:
        first = (await engine.run(plan)).raise_for_status()
        execution = (await engine._open()).execution  # noqa: SLF001  # the floor reads what a replay reads
        store = execution._store  # noqa: SLF001

        async def floor() -> None:
            head = bytes(32)
            for line in await store.read_journal(first.id):
                head = hashlib.sha256(head + line).digest()
                orjson.loads(line)

        async def replay() -> None:
            assert (await engine.replay(first.id)).digest == first.digest

        async def reuse() -> None:
            run = await engine.run(plan)
            assert run.usage["calls"] == 0
            assert run.digest == first.digest

        if profile is not None:
            await profiled({"replay": replay, "reuse": reuse}[profile])
        cold = await cpu(replay)
        found = {"floor": await best(floor), "replay": await best(replay), "all reused": await best(reuse)}
        found["first replay"] = cold
    return {name: seconds / steps * 1e6 for name, seconds in found.items()}


async def profiled(work: Callable[[], Awaitable[object]]) -> None:
    """Print where the time goes."""
    await work()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(3):
        await work()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> int:
    """Print the numbers; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="?", type=int, default=STEPS)
    parser.add_argument("--profile", choices=("replay", "reuse"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(given.steps, Path(folder), given.profile))
    broken = 0
    print(f"{given.steps} steps, CPU us a step, best of {ROUNDS}")
    for name, amount in found.items():
        target = TARGETS_US.get(name)
        told = "" if target is None else f"   target {target:.0f}"
        broken += name in FLOORS_MAX and amount > FLOORS_MAX[name] * found["floor"]
        print(f"{name:14}{amount:>8.1f}   {amount / found['floor']:>5.1f} x floor{told}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
