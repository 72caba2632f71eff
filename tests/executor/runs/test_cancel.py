"""What a cancel, and a larger budget, do to runs that are not driven by their steps: those being planned, those that have ended, kept replays."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import InputRejected
from firmplan.executor import Header, ToolsetLock
from firmplan.testing import ScriptedTool
from rig import Rig, plan_of
from waiting_for import PATIENCE_S, until

PLAN = plan_of({"id": "a", "set": 1}, output="${a}")
WAITS = plan_of({"id": "p", "tool": "pay"}, output="${p}")


def pay():
    return ScriptedTool("pay", lambda: "paid", effect="write", approval="always")


class Planning:
    """The planning of a task: it has begun, it never ends, and it was cut off."""

    def __init__(self):
        self.begun, self.is_cut_off = asyncio.Event(), False

    async def plan_run(self, row, inputs, cost, early):
        cost.add(model_calls=2, tokens=30, usd=0.5)
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.is_cut_off = True


async def task(rig, run_id="t"):
    """A task that nobody has planned."""
    header = Header(None, {}, "", ToolsetLock(()), task="do it")
    return (await rig.execution.submissions.submit(header, run_id=run_id)).id


async def planning(rig):
    """A task that is being planned, and that planning."""
    made = rig.execution.planning.planner = Planning()
    work = await rig.execution.go_on(await task(rig))
    await made.begun.wait()
    return made, work


def test_a_task_that_is_being_planned_is_cancelled_with_its_planning(tmp_path):
    """What the planning has used stands in the run; nobody owns it any more, and another engine agrees."""
    store = str(tmp_path / "s.db")

    async def main():
        async with Rig([], store) as rig, Rig([], store) as other:
            made, work = await planning(rig)
            run = await rig.decisions.cancel("t")
            assert (run.id, run.status) == ("t", "cancelled")
            assert made.is_cut_off
            assert work.done()
            row = await other.execution.archive.row("t")
            assert (row.status, row.owner, row.plan_digest) == ("cancelled", None, None)
            assert Header.from_dict(row.header).planning_cost["tokens"] == 30
            assert (await other.decisions.cancel("t")).status == "cancelled"
            assert (await other.execution.archive.row("t")).epoch == row.epoch, "there is nothing to claim"

    asyncio.run(main())


def test_a_task_that_another_process_plans_is_cancelled_there(tmp_path):
    """The process that plans finds the decision in the store, ends the planning, and keeps its cost; nothing is left for anybody to take in."""
    store = str(tmp_path / "s.db")

    async def main():
        async with Rig([], store) as rig, Rig([], store) as other:
            made, work = await planning(rig)
            assert (await other.decisions.cancel("t")).status == "queued"
            await asyncio.wait([work], timeout=PATIENCE_S)
            assert made.is_cut_off
            row = await until(lambda: other.execution.archive.row("t"), lambda row: row.status == "cancelled")
            assert (row.owner, row.plan_digest) == (None, None)
            assert Header.from_dict(row.header).planning_cost["tokens"] == 30
            assert other.store.list_decided() == []

    asyncio.run(main())


def test_a_cancel_outlives_the_process_that_plans(tmp_path):
    """It dies before it has looked: whoever has the task next plans nothing."""
    store = str(tmp_path / "s.db")

    async def main():
        async with Rig([], store) as rig, Rig([], store) as other:
            await task(rig)
            claimed = await rig.execution._owner.claim(rig.store, "t")
            assert (await other.decisions.cancel("t")).status == "queued"
            await rig.execution._owner.let_go(rig.store, claimed)
            made = other.execution.planning.planner = Planning()
            await asyncio.wait([await other.execution.go_on("t")], timeout=PATIENCE_S)
            assert (await other.execution.archive.row("t")).status == "cancelled"
            assert not made.begun.is_set()
            assert other.store.list_decided() == []

    asyncio.run(main())


def test_a_task_that_nobody_has_begun_to_plan_is_cancelled():
    async def main():
        async with Rig([]) as rig:
            await task(rig)
            assert (await rig.decisions.cancel("t")).status == "cancelled"
            row = await rig.execution.archive.row("t")
            assert (row.status, row.owner) == ("cancelled", None)

    asyncio.run(main())


def test_a_run_that_has_ended_is_left_as_it_is():
    """Nobody claims it, and nothing is left for anybody to take in."""

    async def main():
        async with Rig([]) as rig:
            run = await rig.run(PLAN, "r")
            row, events = await rig.execution.archive.row("r"), await rig.event_types("r")
            assert (await rig.decisions.cancel("r")).digest == run.digest
            await rig.decisions.raise_budget("r", {"steps": 9})
            assert await rig.execution.archive.row("r") == row
            assert await rig.event_types("r") == events
            assert await rig.store.list_decisions("r") == []

    asyncio.run(main())


def test_a_kept_replay_takes_no_decision():
    """Whoever went on with it would make the writes of its parent once more."""

    async def main():
        async with Rig([pay()]) as rig:
            await rig.run(WAITS, "r")
            kept = await rig.execution.replays.replay("r", keep=True)
            assert kept.status == "waiting"
            for decide in (
                rig.decisions.cancel(kept.id),
                rig.decisions.raise_budget(kept.id, {"steps": 9}),
                rig.decisions.approve(kept.id, "p", by="ann"),
                rig.decisions.decide(kept.id, {"p": "approve"}, by="ann"),
            ):
                with pytest.raises(InputRejected, match="is a replay of run r that was kept"):
                    await decide
            assert await rig.store.list_decisions(kept.id) == []

    asyncio.run(main())


def test_a_budget_for_a_task_without_a_plan_waits_for_its_first_driver():
    """Nobody is made to drive what has no plan; the decision lies in the store."""

    async def main():
        async with Rig([]) as rig:
            await task(rig)
            before = await rig.execution.archive.row("t")
            await rig.decisions.raise_budget("t", {"steps": 9})
            assert await rig.execution.archive.row("t") == before
            assert len(await rig.store.list_decisions("t")) == 1
            assert (await rig.execution.planning.cost_of(before)).limits == {"steps": 9}

    asyncio.run(main())


def test_whoever_notes_a_decision_owns_the_run_only_meanwhile(tmp_path):
    """Another engine can go on with it at once."""
    store = str(tmp_path / "s.db")

    async def main():
        async with Rig([pay()], store) as rig, Rig([pay()], store) as other:
            await rig.run(WAITS, "r")
            await rig.decisions.approve("r", "p", by="ann")
            assert (await rig.execution.archive.row("r")).owner is None
            assert await rig.store.list_decisions("r") == [], "it was noted in the journal"
            assert (await other.resume("r")).output == "paid"

    asyncio.run(main())
