"""The graph that firmplan and its peers run: layers of small steps, each of which reads three of the layer before; and how they are timed.

It knows no engine: it is imported in the environment of every peer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from typing_extensions import TypedDict

STEPS: Final = 500
LAYER: Final = 25  # steps side by side
PARENTS: Final = 3
MODULUS: Final = 2**31 - 1
FLOOR_REPEATS: Final = 4


class Item(TypedDict):
    """What a step takes and returns."""

    name: str
    count: int
    price: float


START: Final[Item] = {"name": "x", "count": 3, "price": 1.5}


def added(a: Item, b: Item, c: Item, n: int) -> Item:
    """Return the work of one step."""
    count = (a["count"] + b["count"] + c["count"] + n) % MODULUS
    return {"name": a["name"], "count": count, "price": b["price"]}


async def step(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items."""
    return added(a, b, c, n)


def parents_of(number: int, layer: int = LAYER) -> list[int]:
    """Return the numbers of the steps that a step reads: none in the first layer."""
    at, place = divmod(number, layer)
    first = (at - 1) * layer
    return [first + (place + parent * 7) % layer for parent in range(PARENTS)] if at else []


def layers() -> list[range]:
    """Return the numbers of the steps, layer by layer."""
    return [range(first, first + LAYER) for first in range(0, STEPS, LAYER)]


def given_to(number: int, values: Any) -> list[Item]:
    """Return what a step reads."""
    return [values[parent] for parent in parents_of(number)] or [START] * PARENTS


async def gathered(n: int) -> Item:
    """Do the work without an engine."""
    values: list[Item] = []
    for numbers in layers():
        values += await asyncio.gather(
            *(step(*given_to(number, values), number + (0 if values else n)) for number in numbers)
        )
    return values[-1]


def expected(n: int) -> Item:
    """Return the last step's value."""
    return asyncio.run(gathered(n))


def cpu_s() -> float:
    """Return the CPU seconds of this process, and of the processes that it has started, those that have ended included."""
    mine, ticks = os.getpid(), os.sysconf("SC_CLK_TCK")
    parents: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / ticks)
    ended = os.times()
    total, family = time.process_time() + ended.children_user + ended.children_system, {mine}
    while True:
        more = {pid for pid, (parent, _) in parents.items() if parent in family} - family
        if not more:
            return total
        total += sum(parents[pid][1] for pid in more)
        family |= more


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, float, Any]:
    """Return CPU and wall seconds of some work, and its result."""
    gc.collect()
    started, began = cpu_s(), time.perf_counter()
    result = await work()
    return cpu_s() - started, time.perf_counter() - began, result


async def floor_s() -> float:
    """Return the CPU seconds of a step without an engine."""
    gc.collect()
    started = time.process_time()
    for _ in range(FLOOR_REPEATS):
        await gathered(0)
    return (time.process_time() - started) / FLOOR_REPEATS / STEPS


async def measured(rows: dict[str, Callable[[int], Awaitable[Any]]], packages: list[str]) -> None:
    """Run each row in each round, between two floors, and print all figures as JSON.

    Args:
        rows: Name -> what runs the graph for a number and returns the last step's value, or None where that is not at hand.
        packages: Those whose versions are told.
    """
    rounds = int(sys.argv[1])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for number in range(-1, rounds):
        # The first round loads what is loaded at first use. The same number would let a cache answer.
        n = (number + 2) * 1_000_000
        wanted = await gathered(n)
        before = await floor_s()
        taken = {name: await timed(lambda run=run, n=n: run(n)) for name, run in rows.items()}
        floor = statistics.mean([before, await floor_s()])
        for name, (cpu, wall, result) in taken.items():
            assert result is None or result == wanted, (name, result, wanted)
            if number >= 0:
                found[name].append({"cpu": cpu / STEPS, "wall": wall / STEPS, "floor": floor})
    print(json.dumps({"versions": {name: version(name) for name in packages}, "rows": found}))
