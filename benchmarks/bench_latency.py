"""What the engine adds to the time that steps take: 200 steps of 50 ms in 20 layers of 10, against the critical path.

    python benchmarks/bench_latency.py [--thread]

Each step waits 50 ms and has three parents in the layer before, so nothing can be faster than 20 times 50 ms, and no event loop is quite as fast:
its timers are as exact as the machine wakes up. So the bare coroutines are awaited too, layer by layer with `asyncio.gather`, and the
engine's time is told as a number of times both. The store is a SQLite file on this machine's disk; checking and submitting a plan
do not count, ending its run durably does. Shown is wall time, the least of some rounds. `--thread`: the tools block a thread each
instead, and so does the floor. Exits with 1 where a run takes more than 1.03 times the critical path, which is 20 times 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from firmplan import Engine, Plan, Tool, tool

LAYERS: Final = 20
WIDTH: Final = 10
PARENTS: Final = 3
STEP_S: Final = 0.05
ROUNDS: Final = 5
TIMES_MAX: Final = 1.03
CRITICAL_S: Final = LAYERS * STEP_S


@tool(effect="pure")
async def wait(number: int, before: list[int]) -> int:
    """Wait, as for an answer from afar."""
    await asyncio.sleep(STEP_S)
    return number + max(before, default=0)


@tool(effect="pure")
def block(number: int, before: list[int]) -> int:
    """Block a thread."""
    time.sleep(STEP_S)
    return number + max(before, default=0)


def plan_of(called: Tool, start: int) -> Plan:
    """Return the plan; what it is given to start with makes its calls new."""
    steps: list[dict[str, Any]] = []
    for number in range(LAYERS * WIDTH):
        layer, place = divmod(number, WIDTH)
        names = (
            [f"s{(layer - 1) * WIDTH + (place + 3 * at) % WIDTH}" for at in range(PARENTS)] if layer else []
        )
        args: dict[str, Any] = {"number": start + number, "before": [f"${{{name}}}" for name in names]}
        steps.append({"id": f"s{number}", "tool": called.name, "args": args})
    return Plan.model_validate({"firmplan": 1, "steps": steps, "output": f"${{{steps[-1]['id']}}}"})


async def bare(called: Tool) -> None:
    """Do the same work without an engine, layer by layer."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(WIDTH) as threads:
        for _ in range(LAYERS):
            if called is block:
                await asyncio.gather(*(loop.run_in_executor(threads, block, 0, []) for _ in range(WIDTH)))
            else:
                await asyncio.gather(*(wait(0, []) for _ in range(WIDTH)))


async def taken(work: Awaitable[object]) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def main(called: Tool) -> int:
    """Print the times; return the exit code."""
    bare_s, run_s = [await taken(bare(called)) for _ in range(ROUNDS)], list[float]()
    with tempfile.TemporaryDirectory() as folder:
        async with Engine([called], store=Path(folder) / "bench.db") as engine:
            for number in range(ROUNDS + 1):
                run = await engine.submit(plan_of(called, 1_000 * number))
                run_s.append(await taken(engine.wait(run.id)))
                assert (await engine.get(run.id)).usage["calls"] == LAYERS * WIDTH
    seconds = {"asyncio.gather": min(bare_s), "firmplan": min(run_s[1:])}
    floor = seconds["asyncio.gather"]
    print(f"{'':16}{'seconds':>9}{'x 1 s':>8}{'x gather':>10}")
    for name, value in seconds.items():
        limit = f"   limit {TIMES_MAX * CRITICAL_S:.3f} s" if name == "firmplan" else ""
        print(f"{name:16}{value:>9.3f}{value / CRITICAL_S:>8.3f}{value / floor:>10.3f}{limit}")
    return 1 if seconds["firmplan"] > TIMES_MAX * CRITICAL_S else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--thread", action="store_true")
    sys.exit(asyncio.run(main(block if parser.parse_args().thread else wait)))
