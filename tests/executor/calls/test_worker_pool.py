"""The workers of a run: as few as can be, as many as are needed, and nothing passes from one call to the next."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

import pytest
from firmplan import tool
from firmplan.executor.calls import concurrency
from firmplan.executor.calls.concurrency import WorkerPool
from rig import Rig, plan_of

LEFT: ContextVar[str] = ContextVar("left", default="nothing")


@dataclass
class Call:
    """A call that is due."""

    step: str


class Work:
    """A pool, and what it did."""

    def __init__(self, make, workers_max=1_000):
        self.made: list[str] = []
        self.unwanted: set[str] = set()
        self.workers = 0
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._make = make
        self.pool = WorkerPool(
            self._made, lambda call: call.step not in self.unwanted, self._spawn, self.tasks, workers_max
        )

    def _spawn(self, step, work):
        assert step == ""
        self.workers += 1
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _made(self, call):
        assert self.tasks[call.step] is asyncio.current_task()
        await self._make(call.step)
        self.made.append(call.step)

    async def finish(self, *steps):
        """Have these calls made, and wait for all workers."""
        for step in steps:
            self.pool.add(Call(step))
        self.pool.start_workers()
        while waiting := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(waiting)
        assert self.tasks == {}


async def at_once(_step):
    """Wait for nothing."""


def test_calls_that_never_wait_need_one_worker():
    """And come in the order in which they were due."""

    async def main():
        work = Work(at_once)
        await work.finish(*"abcdefgh")
        assert work.made == list("abcdefgh")
        assert work.workers <= 2  # one was called in case that the first has to wait

    asyncio.run(main())


@pytest.mark.parametrize(("most", "expected"), [(1_000, 50), (7, 7), (1, 1)])
def test_calls_that_wait_are_under_way_together(most, expected):
    """All of them, or as many as there may be workers; each is made once."""

    async def main():
        under_way, highest = 0, 0

        async def wait(_step):
            nonlocal under_way, highest
            under_way += 1
            highest = max(highest, under_way)
            for _ in range(20):
                await asyncio.sleep(0)
            under_way -= 1

        work = Work(wait, most)
        steps = [f"s{number}" for number in range(50)]
        await work.finish(*steps)
        assert sorted(work.made) == sorted(steps)
        assert highest == expected

    asyncio.run(main())


@pytest.mark.parametrize("most", [1, 2, 1_000])
def test_a_worker_that_is_cancelled_ends_with_its_call(most):
    """Others take what is due."""

    async def main():
        begun = asyncio.Event()

        async def wait(step):
            if step == "a":
                begun.set()
                await asyncio.Event().wait()
            await asyncio.sleep(0)

        work = Work(wait, most)

        async def stop():
            await begun.wait()
            work.tasks["a"].cancel()

        await asyncio.gather(work.finish(*"abcdef"), stop())
        assert sorted(work.made) == list("bcdef")

    asyncio.run(main())


def test_a_worker_whose_call_swallows_its_cancel_makes_no_other():
    """Its task counts as cancelled from then on: what a tool raises would be taken for our cancel."""

    async def main():
        begun = asyncio.Event()
        cancelled = {}

        async def wait(step):
            if step == "a":
                begun.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            cancelled[step] = asyncio.current_task().cancelling()

        work = Work(wait, 1)

        async def stop():
            await begun.wait()
            work.tasks["a"].cancel()

        await asyncio.gather(work.finish(*"abc"), stop())
        assert cancelled == {"a": 1, "b": 0, "c": 0}

    asyncio.run(main())


def test_a_call_that_is_not_wanted_any_more_is_left_out():
    """It is asked right before: what came first may have decided it."""

    async def main():
        async def decide(step):
            if step == "a":
                work.unwanted.add("b")

        work = Work(decide)
        await work.finish(*"abc")
        assert work.made == ["a", "c"]

    asyncio.run(main())


def test_others_have_their_turn():
    """Calls that never wait do not keep the loop for long, however many there are."""

    async def main():
        turns = 0

        async def burn(_step):
            until = asyncio.get_running_loop().time() + 0.001
            while asyncio.get_running_loop().time() < until:
                pass

        async def other():
            nonlocal turns
            while len(work.made) < 100:
                turns += 1
                await asyncio.sleep(0)

        work = Work(burn)
        await asyncio.gather(work.finish(*(str(number) for number in range(100))), other())
        assert turns > 10

    asyncio.run(main())


@tool(effect="read", version="1")
async def leave(name: str) -> str:
    """Return what an earlier call has left, and leave something."""
    found = LEFT.get()
    LEFT.set(name)
    return found


@pytest.mark.parametrize("are_in_turn", [False, True])
def test_what_a_tool_leaves_in_its_context_reaches_no_other_call(are_in_turn):
    """Steps have nothing in common but their arguments, whoever makes their calls, and whatever they wait for."""
    steps = [
        {"id": f"s{number}", "tool": "leave", "args": {"name": f"{number}"}, "after": [f"s{number - 1}"][: number and are_in_turn]}
        for number in range(20)
    ]  # fmt: skip

    async def main():
        async with Rig([leave]) as rig:
            run = await rig.run(plan_of(*steps))
            assert {view.output for view in run.steps.values()} == {"nothing"}

    asyncio.run(main())


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_worker_that_has_waited_begins_another_turn(monkeypatch, is_noted):
    """Other tasks ran meanwhile: so it makes the calls that are due by then. A call that took its time without a wait ends the turn."""
    clock = [0.0]
    monkeypatch.setattr(concurrency, "monotonic", lambda: clock[0])

    async def main():
        async def make(step):
            await asyncio.sleep(0)
            clock[0] += 10 * concurrency.TURN_S
            if is_noted:
                work.pool.note_wait()
            if step < "d":
                work.pool.add(Call(chr(ord(step) + 1)))

        work = Work(make)
        await work.finish("a")
        assert work.made == list("abcd")
        assert work.workers == (1 if is_noted else 4)

    asyncio.run(main())
