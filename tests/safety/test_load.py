"""Many runs at once in one process on one store: nothing is lost, nothing is kept, nobody is starved.

`benchmarks/bench_load.py` does it with 1,000 runs of 100 steps.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from random import Random

from firmplan import Engine, ToolError
from firmplan.executor.journal.journal import Journal
from firmplan.executor.machine import Machine
from firmplan.executor.runs.archive import RECENT_MAX
from firmplan.executor.runs.driver import Driver
from firmplan.tools import Context, tool

RUNS, STEPS = 80, 15


class World:
    """What the tools of many runs did."""

    def __init__(self, seed):
        self.random = Random(seed)
        self.puts = Counter()
        self.at_once, self.most = 0, 0
        self.release = threading.Event()

    def tools(self):
        @tool(effect="read", resource="there", retries=3, version=1)
        async def step(n: int, before: list[int], *, ctx: Context) -> int:
            """Take a while, and fail now and then."""
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(self.random.random() * 0.002)
            self.at_once -= 1
            if ctx.attempt == 1 and self.random.random() < 0.02:
                raise ToolError("busy", temporary=True)
            return n + max(before, default=0)

        @tool(effect="write", resource="box", version=1)
        def put(n: int, *, ctx: Context) -> int:
            """Change something, on a thread."""
            self.puts[ctx.idempotency_key] += 1
            return n

        @tool(effect="read", resource="elsewhere", version=1)
        def block() -> bool:
            """Block a thread until all else is done."""
            return self.release.wait(60)

        return [step, put, block]


def plan(random):
    """A random layered plan that ends with a write."""
    steps = []
    for n in range(STEPS - 1):
        before = [f"s{m}" for m in random.sample(range(n), min(n, 3))]
        steps.append(
            {"id": f"s{n}", "tool": "step", "args": {"n": n, "before": "${[" + ", ".join(before) + "]}"}}
        )
    steps.append({"id": "end", "tool": "put", "args": {"n": f"${{s{STEPS - 2}}}"}})
    return {"firmplan": 1, "steps": steps, "output": "${end}"}


def left_over():
    """Return how many parts of runs are still in memory."""
    gc.collect()
    return Counter(
        type(each).__name__ for each in gc.get_objects() if isinstance(each, Driver | Machine | Journal)
    )


def test_many_runs_at_once(tmp_path):
    """Every run ends, every write happened once, limits held, a blocked thread stopped nobody, and nothing of them is left."""
    world, random, before = (
        World(0),
        Random(0),
        left_over(),
    )  # errors that other tests keep hold runs of theirs

    async def main():
        async with Engine(world.tools(), store=tmp_path / "s.db", max_concurrency=32) as engine:
            blocking = await engine.submit(
                {"firmplan": 1, "steps": [{"id": "b", "tool": "block"}], "output": "${b}"}
            )
            ids = [(await engine.submit(plan(random))).id for _ in range(RUNS)]
            runs = [await engine.wait(run_id) for run_id in ids]
            assert (await engine.get(blocking.id)).status == "running", (
                "the others did not wait for its thread"
            )
            world.release.set()
            assert (await engine.wait(blocking.id)).output is True
            assert Counter(run.status for run in runs) == {"succeeded": RUNS}
            for run in random.sample(runs, 5):
                assert (await engine.replay(run.id)).digest == run.digest
            del runs, run
            end = (
                time.monotonic() + 60
            )  # whoever looks after the driven runs has to notice that there are none
            while not left_over() <= before + Counter(
                Machine=RECENT_MAX
            ):  # the last runs are shown from theirs
                assert time.monotonic() < end, left_over()
                await asyncio.sleep(0.05)
            pages = await engine.list_runs(limit=1000)
            assert Counter(run.status for run in pages.runs) == {"succeeded": RUNS + 1}

    asyncio.run(main())
    assert len(world.puts) == RUNS
    assert set(world.puts.values()) == {1}
    assert world.most <= 32


def test_two_engines_share_a_store_under_load(tmp_path):
    """Their commits interleave; no lock error reaches anybody."""
    worlds, random = [World(1), World(2)], Random(3)

    async def main():
        async with (
            Engine(worlds[0].tools(), store=tmp_path / "s.db") as one,
            Engine(worlds[1].tools(), store=tmp_path / "s.db") as two,
        ):
            plans = [plan(random) for _ in range(30)]
            runs = await asyncio.gather(*((one, two)[n % 2].run(each) for n, each in enumerate(plans)))
            assert Counter(run.status for run in runs) == {"succeeded": 30}

    asyncio.run(main())
    assert sum(len(world.puts) for world in worlds) == 30


def test_runs_share_the_places_fairly(tmp_path):
    """A run of a thousand calls does not hold up a run of one."""
    order = []

    @tool(effect="read", version=1)
    async def note(who: str) -> int:
        """Take a moment."""
        await asyncio.sleep(0.001)
        order.append(who)
        return 1

    async def main():
        async with Engine([note], store=tmp_path / "s.db", max_concurrency=4) as engine:
            many = {"id": "a", "tool": "note", "for_each": "${range(400)}", "args": {"who": "large"}}
            large = await engine.submit({"firmplan": 1, "steps": [many]})
            async for event in engine.events(large.id):
                if event.type == "CallSucceeded":
                    break
            await engine.run(
                {"firmplan": 1, "steps": [{"id": "a", "tool": "note", "args": {"who": "small"}}]}
            )
            place = order.index("small")
            assert (await engine.wait(large.id)).status == "succeeded"
            return place

    assert asyncio.run(main()) < 200
