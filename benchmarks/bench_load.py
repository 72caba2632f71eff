"""1,000 runs of 100 steps at once in one process on one store: nothing is lost, memory stays flat, nobody waits for a lock.

`python benchmarks/bench_load.py [RUNS [STEPS [ROUNDS]]]`. Each round submits all runs before the first has ended; one more run, whose
step blocks its thread, goes on beside them. Ends with an error if anything was lost.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from firmplan import Engine
from firmplan.tools import tool

CALLS: Counter[str] = Counter()


@tool(effect="pure", version=1)
async def step(n: int, before: list[int]) -> int:
    """Add to the largest."""
    CALLS["step"] += 1
    return n + max(before, default=0)


@tool(effect="write", resource="box", version=1)
async def put(n: int) -> int:
    """Change something."""
    CALLS["put"] += 1
    return n


@tool(effect="read", resource="elsewhere", version=1)
def block(seconds: float) -> float:
    """Block a thread."""
    time.sleep(seconds)
    return seconds


def plan_of(steps: int, number: int) -> dict[str, object]:
    """Return a layered plan of so many steps, the last of which writes."""
    made: list[dict[str, object]] = []
    for n in range(steps - 1):
        before = [f"s{m}" for m in range(max(0, n - 3), n)] if n % 10 else []
        args = {"n": number * steps + n, "before": "${[" + ", ".join(before) + "]}"}
        made.append({"id": f"s{n}", "tool": "step", "args": args})
    made.append({"id": "end", "tool": "put", "args": {"n": f"${{s{steps - 2}}}"}})
    return {"firmplan": 1, "steps": made, "output": "${end}"}


def rss_mib() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def one_round(engine: Engine, runs: int, steps: int, number: int) -> None:
    """Submit all runs, wait for all, and compare what happened with what had to."""
    CALLS.clear()
    blocking = await engine.submit(
        {"firmplan": 1, "steps": [{"id": "b", "tool": "block", "args": {"seconds": 1.0}}], "output": "${b}"}
    )
    began, cpu = time.perf_counter(), time.process_time()
    ids = [(await engine.submit(plan_of(steps, number * runs + n))).id for n in range(runs)]
    submitted = time.perf_counter() - began
    ended = [await engine.wait(run_id) for run_id in ids]
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert (await engine.wait(blocking.id)).output == 1.0
    assert Counter(run.status for run in ended) == {"succeeded": runs}, Counter(run.status for run in ended)
    assert {"step": runs * (steps - 1), "put": runs} == CALLS, CALLS
    assert len({run.id for run in ended}) == runs
    del ended
    gc.collect()
    print(
        f"round {number}: {runs} runs of {steps} steps: {wall:.1f} s ({submitted:.1f} s to submit), {cpu:.1f} s CPU, "
        f"{1e6 * cpu / runs / steps:.0f} us CPU a step, {runs * steps / wall:.0f} steps/s, {rss_mib():.0f} MiB now, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most"
    )


async def main(runs: int, steps: int, rounds: int) -> None:
    """Do the rounds on one store."""
    with tempfile.TemporaryDirectory() as folder:
        async with Engine([step, put, block], store=Path(folder) / "load.db") as engine:
            for number in range(rounds):
                await one_round(engine, runs, steps, number)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*given, *(1000, 100, 3)[len(given) :]))
