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
        self.prepared: list[list[str]] = []
        self._make = make
        self.pool = WorkerPool(
            self._prepare,
            self._made,
            lambda call: call.step not in self.unwanted,
            self._spawn,
            self.tasks,
            workers_max,
        )

    def _spawn(self, step, work):
        assert step == ""
        self.workers += 1
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _prepare(self):
        ready, self.pool.ready = self.pool.ready, []
        self.prepared.append([call.step for call in ready])
        for call in ready:
            self.pool.add(call)
        self.pool.start_workers(free=1)

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


def test_a_worker_whose_turn_is_over_lets_others_run_first(monkeypatch):
    """And then goes on itself: another task would cost more than the turn."""
    clock = [0.0]
    monkeypatch.setattr(concurrency, "monotonic", lambda: clock[0])

    async def main():
        ran = []

        async def make(step):
            clock[0] += 10 * concurrency.TURN_S
            asyncio.get_running_loop().call_soon(ran.append, step)
            if step > "a":
                assert ran[-1] < step
            if step < "d":
                work.pool.add(Call(chr(ord(step) + 1)))

        work = Work(make)
        await work.finish("a")
        assert work.made == ran == list("abcd")
        assert work.workers == 1

    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_chain_needs_one_worker(waits):
    """What the outcome of a call makes ready is prepared and called by the worker of that call."""

    async def main():
        async def make(step):
            if waits:
                await asyncio.sleep(0)
            if step < "d":
                work.pool.ready.append(Call(chr(ord(step) + 1)))

        work = Work(make)
        await work.finish("a")
        assert work.made == list("abcd")
        assert work.prepared == [["b"], ["c"], ["d"]]
        assert work.workers == 1

    asyncio.run(main())


def test_calls_that_end_together_have_what_follows_prepared_together():
    """One turn of the event loop, one look into the store; and the workers of the calls that have ended make what follows."""

    async def main():
        gate = asyncio.Event()

        async def make(step):
            if step in "abc":
                await gate.wait()
                work.pool.ready.append(Call(step.upper()))
            else:
                await asyncio.sleep(0)

        work = Work(make)
        asyncio.get_running_loop().call_later(0.01, gate.set)
        await work.finish(*"abc")
        assert work.prepared == [["A", "B", "C"]]
        assert sorted(work.made) == list("ABCabc")
        assert work.workers == 3

    asyncio.run(main())


@pytest.mark.parametrize("most", [1, 2, 1_000])
def test_a_call_that_waits_holds_up_nothing_that_is_ready(most):
    """Whatever number of workers there may be: what is ready may have a result already, and need no call."""

    async def main():
        is_prepared, under_way = asyncio.Event(), 0

        async def make(step):
            nonlocal under_way
            under_way += 1
            assert under_way <= most
            if step == "a":
                work.pool.ready.append(Call("c"))
            elif step == "b":
                await is_prepared.wait()
                await asyncio.sleep(0.01)
            under_way -= 1

        work = Work(make, most)
        prepare = work._prepare

        async def prepared():
            await prepare()
            is_prepared.set()

        work.pool._prepare = prepared
        await work.finish(*"ab")
        assert sorted(work.made) == list("abc")

    asyncio.run(main())


def test_what_a_cancelled_call_has_made_ready_is_left_to_others():
    """Its worker ends with it."""

    async def main():
        async def make(step):
            if step == "a":
                work.pool.ready.append(Call("b"))
                asyncio.current_task().cancel()
                await asyncio.sleep(0)

        work = Work(make)
        await work.finish("a")
        assert work.made == ["b"]
        assert work.workers == 2

    asyncio.run(main())
