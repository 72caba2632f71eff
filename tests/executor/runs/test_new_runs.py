"""A new run is stored and claimed in one transaction, and shown as it was submitted, without a look at the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from firmplan import ConfigError, Engine, InputRejected, StoreError, tool
from firmplan.executor.runs.owner import this_host
from firmplan.executor.runs.request import Options
from firmplan.executor.stores.sqlite_store import SqliteStore
from firmplan.testing import MemoryStore
from waiting_for import until

PLAN = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer"}},
    "steps": [{"id": "s", "tool": "one"}],
    "output": "${s}",
}


@tool(effect="read", resource="x", version=1)
async def one() -> int:
    """Return one."""
    return 1


class Counted(MemoryStore):
    """Counts the trips to it, and fails the creation of runs on request."""

    def __init__(self):
        super().__init__()
        self.trips = Counter()
        self.fails = False

    async def _call(self, work):
        self.trips["all"] += 1
        return await super()._call(work)

    def create_runs(self, rows):
        self.trips["all"] += 1
        made = super().create_runs(rows)
        if self.fails:
            raise StoreError("the answer was lost")
        return made


def test_a_submission_goes_to_the_store_once():
    """Whatever its run needs later: a second trip would be half of the cost of a submission to a server."""

    async def main():
        store = Counted()
        async with Engine([one], store=store) as engine:
            before = store.trips["all"]
            run = await engine.submit(PLAN, inputs={"n": 1})
            trips = store.trips["all"] - before
            return run, trips, await engine.wait(run.id)

    run, trips, ended = asyncio.run(main())
    assert (run.status, run.steps["s"].status, run.inputs, trips) == ("queued", "pending", {"n": 1}, 1)
    assert (run.abandoned, ended.status, ended.output) == (False, "succeeded", 1)


def test_many_at_once_share_transactions():
    """Each run is there, and ends."""

    async def main():
        store = Counted()
        async with Engine([one], store=store) as engine:
            before = store.trips["all"]
            runs = await asyncio.gather(*(engine.submit(PLAN, inputs={"n": n}) for n in range(50)))
            trips = store.trips["all"] - before
            return trips, [(await engine.wait(run.id)).status for run in runs]

    trips, statuses = asyncio.run(main())
    assert trips < 10
    assert statuses == ["succeeded"] * 50


def test_the_same_id_at_the_same_time_is_one_run():
    """Of many submissions one makes it, and the others get it; other inputs under the id are refused."""

    async def main():
        async with Engine([one], store="memory:") as engine:
            same = [engine.submit(PLAN, inputs={"n": 1}, run_id="r") for _ in range(8)]
            found = await asyncio.gather(
                *same, engine.submit(PLAN, inputs={"n": 2}, run_id="r"), return_exceptions=True
            )
            ended = await engine.wait("r")
            return (
                found,
                ended,
                len((await engine.list_runs()).runs),
                [event.type async for event in engine.events("r")],
            )

    found, ended, count, types = asyncio.run(main())
    assert [run.id for run in found[:8]] == ["r"] * 8
    assert isinstance(found[8], InputRejected)
    assert (ended.output, count, types.count("RunStarted"), types.count("RunFinished")) == (1, 1, 1, 1)


def test_a_run_whose_creation_got_no_answer_is_not_lost():
    """It may be in the store: the same submission again gets it, and it runs once."""

    async def main():
        store = Counted()
        async with Engine([one], store=store) as engine:
            store.fails = True
            with pytest.raises(StoreError, match="lost"):
                await engine.submit(PLAN, inputs={"n": 1}, run_id="r")
            store.fails = False
            run = await engine.submit(PLAN, inputs={"n": 1}, run_id="r")
            return await engine.wait(run.id), [event.type async for event in engine.events("r")]

    ended, types = asyncio.run(main())
    assert (ended.output, types.count("RunStarted")) == (1, 1)


def test_a_killed_submitter_leaves_a_run_that_the_next_engine_continues(tmp_path):
    """A run that is claimed and has no record yet, whose owner is gone."""

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        async with Engine([one], store=tmp_path / "s.db") as engine:
            opened = await engine._open()
            header = await opened.plans.header(
                PLAN, Options(None, None, None, "auto", {}, 0, None, ""), {"n": 1}
            )
            row, _ = opened.execution.submissions.prepared(header, "r")
            await store.open()
            gone = f"1-l30000x00@{this_host()}"
            assert await store.create_run(replace(row, owner=gone, epoch=1))
            await store.close()
            found = await engine.get("r")
            return found, await engine.resume("r")

    found, ended = asyncio.run(main())
    assert (found.status, ended.output) == ("queued", 1)


def test_a_priority_changes_no_result():
    """It stands in the header of its run, and nowhere else: digests and reuse are those of a run without one. Its forks have it, too."""

    async def main():
        async with Engine([one], store="memory:") as engine:
            plain = await engine.run(PLAN, inputs={"n": 1})
            first = await engine.run(PLAN, inputs={"n": 1}, priority=1)
            forked = await engine.fork(first.id)
            replayed = await engine.replay(first.id, keep=True)
            kept = [run.priority for run in (plain, first, forked, replayed, await engine.get(first.id))]
            assert "priority" in plain.to_dict()
            with pytest.raises(ConfigError, match="priority: expected an integer from 1 to 5"):
                await engine.run(PLAN, inputs={"n": 1}, priority=0)
            return plain.digest == first.digest, kept

    assert asyncio.run(main()) == (True, [None, 1, 1, 1, 1])


def test_calls_of_runs_that_another_engine_accepted_are_made_by_priority(tmp_path):
    """The priority is in the store: an engine that has one place gives it to the first run, whichever was resumed first."""
    order, held = [], asyncio.Event()

    @tool(effect="pure")
    async def note(text: str) -> str:
        """Note a text; the first waits."""
        order.append(text)
        if text == "busy":
            await held.wait()
        return text

    plan = {
        "firmplan": 1,
        "inputs": {"text": {"type": "string"}},
        "steps": [{"id": "n", "tool": "note", "args": {"text": "${inputs.text}"}}],
    }
    waiting = {"low": 5, "middle": None, "high": 1}

    async def main():
        async with Engine([note], store=tmp_path / "s.db") as front:
            for name, priority in {"busy": None, **waiting}.items():
                await front.accept(plan, inputs={"text": name}, run_id=name, priority=priority)
        async with Engine([note], store=tmp_path / "s.db", max_concurrency=1) as engine:
            runs = [asyncio.create_task(engine.resume("busy"))]
            await until(lambda: order)
            runs += [asyncio.create_task(engine.resume(name)) for name in waiting]
            semaphore = engine._opened.execution.facilities.semaphore
            await until(lambda: len(semaphore._waiting) == len(waiting))
            held.set()
            assert {run.status for run in await asyncio.gather(*runs)} == {"succeeded"}

    asyncio.run(main())
    assert order == ["busy", "high", "middle", "low"]
