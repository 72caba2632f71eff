"""The cache: how large it is, how it shrinks by age and size, and that runs do not need it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from firmplan import Engine, InputRejected
from firmplan.testing import FakeClock, MemoryStore, ScriptedTool
from public import call, plan, within
from rig import Rig, plan_of

EACH = plan(
    {"id": "s", "tool": "grow", "for_each": "${inputs.l}", "args": {"n": "${item}"}},
    output="${s}",
    inputs={"l": {"type": "array", "items": {"type": "integer"}}},
)


def grow():
    return ScriptedTool("grow", lambda n: "x" * n, effect="pure", version="1")


def test_it_is_counted():
    """Results, their size and age; a reused result is counted once."""

    async def main():
        async with Engine([grow()], store="memory:") as engine:
            assert (await engine.cache_stats()).to_dict() == {
                "results": 0,
                "bytes": 0,
                "calls": 0,
                "oldest": None,
                "newest": None,
            }
            await engine.run(EACH, inputs={"l": [1, 2, 1000]})
            await engine.run(EACH, inputs={"l": [1, 2, 1000]})
            return await engine.cache_stats()

    stats = within(main())
    assert (stats.results, stats.calls) == (3, 3)
    assert 1000 < stats.bytes < 2000
    assert stats.oldest <= stats.newest


def test_results_in_memory_are_those_of_the_tables():
    """A store in memory writes its results when somebody counts them: what is reused is the same before and after, and nothing is damaged."""
    growing = grow()

    async def main():
        async with Engine([growing], store="memory:") as engine:
            runs = [await engine.run(EACH, inputs={"l": [1, 2, 70_000]}) for _ in range(2)]
            before = await engine.cache_stats()
            runs.append(await engine.run(EACH, inputs={"l": [1, 2, 70_000, 3]}))
            runs.append(await engine.run(EACH, inputs={"l": [1, 2, 70_000, 3]}))
            after = await engine.cache_stats()
            await engine.prune_artifacts()
            runs.append(await engine.run(EACH, inputs={"l": [3, 70_000]}))
            return runs, before, after, (await engine.check_store()).damages

    runs, before, after, damage = within(main())
    assert len(growing.calls) == 4
    assert [run.usage["reused"] for run in runs] == [0, 3, 3, 4, 2]
    assert runs[0].output == runs[1].output == runs[2].output[:3] == [*runs[0].output[:2], runs[4].output[1]]
    assert (before.results, after.results, damage) == (3, 4, ())


def test_it_is_cleared_and_runs_replay_all_the_same():
    """After clearing, the next run calls everything and says why; the recorded runs are untouched."""
    growing = grow()

    async def main():
        async with Engine([growing], store="memory:") as engine:
            run = await engine.run(EACH, inputs={"l": [1, 2]})
            assert await engine.shrink_cache(max_bytes=0) == 2
            assert (await engine.cache_stats()).results == 0
            again = await engine.run(EACH, inputs={"l": [1, 2]})
            assert len(growing.calls) == 4
            told = str(await engine.explain(again.id, "s[0]"))
            assert "its result is not in the cache any more" in told
            assert (await engine.replay(run.id)).digest == again.digest

    within(main())


def test_the_oldest_go_first():
    """Past a size, the newest results stay."""
    growing = grow()

    async def main():
        clock = FakeClock()
        async with Rig([growing], clock=clock) as rig:
            for n in (1000, 1001, 1002):
                await rig.run(plan_of(call("s", "grow", args={"n": n})))
                clock.advance(10)
            stats = await rig.execution.care.cache_stats()
            gone = await rig.execution.care.shrink_cache(age_s=None, bytes_max=stats.bytes * 2 // 3 + 10)
            assert gone == 1
            for n, reused in ((1002, True), (1001, True), (1000, False)):
                run = await rig.run(plan_of(call("s", "grow", args={"n": n})))
                assert run.steps["s"].reused is reused

    asyncio.run(main())


def test_old_results_go_by_age():
    """Past an age, with what was known of their calls."""
    growing = grow()

    async def main():
        clock = FakeClock()
        async with Rig([growing], clock=clock) as rig:
            await rig.run(plan_of(call("s", "grow", args={"n": 1})))
            clock.advance(100)
            await rig.run(plan_of(call("s", "grow", args={"n": 2})))
            care = rig.execution.care
            assert await care.shrink_cache(age_s=50, bytes_max=None) == 1
            assert ((await care.cache_stats()).results, (await care.cache_stats()).calls) == (1, 1)

    asyncio.run(main())


class Gated(MemoryStore):
    """A store that keeps its first results only once the gate is open."""

    def __init__(self):
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def append(self, batches):
        """Wait at the gate, the first time."""
        if any(batch.reuse for batch in batches):
            self.entered.set()
            self.gate.wait()
        return super().append(batches)


def test_results_that_come_while_others_are_stored_are_kept_too(monkeypatch):
    """A run that ends while its first results are on their way to the store still leaves the later ones there."""
    monkeypatch.setattr("firmplan.executor.journal.journal.LEFT_MAX_S", 0)
    store = Gated()

    async def late(n: int) -> int:
        await asyncio.to_thread(store.entered.wait)
        asyncio.get_running_loop().call_later(0.05, store.gate.set)
        return n

    tools = [grow(), ScriptedTool("late", late, effect="pure", version="1")]
    steps = plan_of(call("s", "grow", args={"n": 1}), call("t", "late", args={"n": "${len(s)}"}))

    async def main():
        async with Rig(tools, store) as rig:
            await rig.execution.wait(await rig.start(steps))
            again = await rig.run(steps)
            return [step.reused for step in again.steps.values()]

    assert within(main()) == [True, True]


@pytest.mark.parametrize(
    "limits", [{"max_age": "soon"}, {"max_age": -1}, {"max_bytes": -1}, {"max_bytes": True}]
)
def test_what_is_no_limit_is_refused(limits):
    """With what was expected."""
    with Engine([], store="memory:") as engine, pytest.raises(InputRejected, match="expected"):
        engine.shrink_cache_sync(**limits)
