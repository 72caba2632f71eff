"""FairSemaphore for calls: so many at a time, fair between runs, and none is lost whatever is cancelled."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from firmplan.executor.calls.concurrency import FairSemaphore


def test_runs_take_turns():
    """Within a run first come, first served; between runs, one after the other."""

    async def main():
        semaphore, order = FairSemaphore(1), []

        async def call(run, number):
            async with semaphore.hold(run):
                order.append((run, number))
                await asyncio.sleep(0)

        await asyncio.gather(
            *(call(run, n) for run, count in (("a", 5), ("b", 2), ("c", 1)) for n in range(count))
        )
        return order

    assert asyncio.run(main()) == [
        ("a", 0), ("a", 1), ("b", 0), ("c", 0), ("a", 2), ("b", 1), ("a", 3), ("a", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_no_place_is_lost_or_given_twice(seed):
    """Seeded calls of several runs, many of them cancelled, at any instant: never too many, and all free in the end."""
    random = Random(seed)

    async def main():
        count = random.randrange(1, 5)
        semaphore, held = FairSemaphore(count), 0

        async def call(run):
            nonlocal held
            async with semaphore.hold(run):
                held += 1
                assert held <= count
                try:
                    for _ in range(random.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    held -= 1

        tasks = [asyncio.create_task(call(f"r{random.randrange(4)}")) for _ in range(60)]
        while any(not task.done() for task in tasks):
            if random.random() < 0.5:
                random.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(not task.cancelled() and task.exception() for task in tasks)
        async with asyncio.timeout(10):
            for _ in range(count):
                await semaphore.acquire("last")
        assert held == 0

    asyncio.run(main())


def test_runs_are_served_by_priority_and_those_of_one_priority_in_turn():
    """A run without a priority is in the middle; a priority that was forgotten counts no more."""

    async def main():
        semaphore, order = FairSemaphore(1), []
        for run, priority in (("low", 5), ("a", None), ("b", 3), ("high", 1), ("gone", 1)):
            semaphore.prefer(run, priority)
        semaphore.forget("gone")

        async def call(run):
            async with semaphore.hold(run):
                order.append(run)

        async with semaphore.hold("first"):
            calls = [asyncio.create_task(call(run)) for run in ("low", "a", "a", "b", "gone", "high", "high")]
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        return order

    assert asyncio.run(main()) == ["high", "high", "a", "b", "gone", "a", "low"]
