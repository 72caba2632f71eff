"""What a run costs on a store in PostgreSQL, beside the same on a SQLite file: steps a second, and how many times longer it takes.

    python benchmarks/bench_postgres.py [URL]

Two plans: one of 2,000 steps that do nothing, in layers (what is measured is how fast results are recorded), and one of 100 writes, one
after the other, whose intents and outcomes wait for a disk. Time of the wall, the least of some rounds, both stores in each round. Without a
URL a server is started on this machine, on the same disk as the file; without one installed nothing is measured. Each round uses a schema of its own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from firmplan import Engine, tool

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from postgres import Cluster, find_binaries  # only there since the line above

STEPS: Final = 2_000
LAYER: Final = 25  # steps side by side
WRITES: Final = 100
ROUNDS: Final = 5


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return (a + b) % 1_000_003


@tool(effect="write", idempotent=True, resource="box")
async def put(n: int) -> int:
    """Change nothing."""
    return n


def layered() -> dict[str, Any]:
    """Return a plan of steps that each read one of the layer before."""
    steps = []
    for n in range(STEPS):
        before = f"${{s{n - LAYER}}}" if n >= LAYER else 0
        steps.append({"id": f"s{n}", "tool": "add", "args": {"a": before, "b": n}})
    return {"firmplan": 1, "steps": steps, "output": f"${{s{STEPS - 1}}}"}


def writing() -> dict[str, Any]:
    """Return a plan of writes."""
    return {"firmplan": 1, "steps": [{"id": f"w{n}", "tool": "put", "args": {"n": n}} for n in range(WRITES)]}


async def seconds(store: str, plan: dict[str, Any]) -> float:
    """Return how long a run takes once it has been submitted."""
    async with Engine([add, put], store=store) as engine:
        await engine.run({"firmplan": 1, "steps": [{"id": "a", "set": 1}]})
        began = time.perf_counter()
        run = await engine.run(plan, reuse="off")
        assert run.status == "succeeded", run.errors
        return time.perf_counter() - began


async def compare(fresh_url: Callable[[], str]) -> None:
    """Print a line for each plan."""
    for name, plan, count in (("steps", layered(), STEPS), ("writes", writing(), WRITES)):
        least = {"sqlite": float("inf"), "postgresql": float("inf")}
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                stores = {"sqlite": str(Path(folder) / "s.db"), "postgresql": fresh_url()}
                for kind, store in stores.items():
                    least[kind] = min(least[kind], await seconds(store, plan))
        told = "   ".join(f"{kind} {count / least[kind]:>7.0f}" for kind in least)
        print(
            f"{name} a second   {told}   postgresql takes {least['postgresql'] / least['sqlite']:.2f} times as long"
        )


def main() -> None:
    """Compare on a given server, or on one of our own."""
    if len(sys.argv) > 1:
        number = iter(range(1_000_000))
        mark = f"bench_{time.time_ns()}"
        joint = "&" if "?" in sys.argv[1] else "?"
        asyncio.run(compare(lambda: f"{sys.argv[1]}{joint}options=-csearch_path%3D{mark}_{next(number)}"))
        return
    if find_binaries() is None:
        print("PostgreSQL's server is not installed here: nothing is measured")
        return
    cluster = Cluster()
    try:
        asyncio.run(compare(cluster.fresh_url))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
