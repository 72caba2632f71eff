"""Which deaths count against a run, and who may be driven beside whom."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from firmplan import Engine, tool
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import (
    CallFailed,
    CallMade,
    CallStarted,
    CallSucceeded,
    RunResumed,
    RunStarted,
    StepIndeterminate,
)
from firmplan.executor.journal.records import Entry
from firmplan.executor.runs import deaths
from firmplan.executor.runs.deaths import DriveLock, count_deaths
from firmplan.executor.runs.planning import planning_deaths
from firmplan.testing import Held, ScriptedTool
from rig import Rig, plan_of

BEGUN = RunStarted("h")
ONE = CanonicalValue(b"1")


def start(step):
    return CallStarted(step, 1, "sha256:a")


def died(count):
    return RunResumed("me", died=True, deaths=count or None)


CASES = {
    "nothing happened": ([], False, 0),
    "it died before its first record": ([], True, 1),
    "it died in its first call": ([BEGUN, start("a")], True, 1),
    "it ended in order": ([BEGUN, start("a")], False, 0),
    "it died twice": ([BEGUN, start("a"), died(1), start("a")], True, 2),
    "it died three times": ([BEGUN, died(1), start("a"), died(2), start("a")], True, 3),
    "an end in order between changes nothing": (
        [BEGUN, died(1), start("a"), RunResumed("me", deaths=1), start("a")], True, 2,
    ),
    "an outcome is progress": ([BEGUN, start("a"), CallSucceeded("a", ONE), start("b")], True, 0),
    "so is one in a single record": ([BEGUN, CallMade("a", 1, "sha256:a", ONE, 0.0), start("b")], True, 0),
    "so is a failure": ([BEGUN, start("a"), CallFailed("a", "c", "m"), start("b")], True, 0),
    "what was concluded from the death is none": (
        [BEGUN, start("w"), died(1), StepIndeterminate("w", "why"), start("a")], True, 2,
    ),
    "progress after two deaths": (
        [BEGUN, died(1), died(2), start("a"), CallSucceeded("a", ONE), start("b")], False, 0,
    ),
    "a call that the deaths cut off beside progress": (
        [BEGUN, died(0), start("a"), start("b"), CallSucceeded("a", ONE), died(1), start("b"), start("c"),
         CallSucceeded("c", ONE)], True, 2,
    ),
    "of which the first life of a run tells nothing for sure": (
        [BEGUN, start("a"), start("b"), CallSucceeded("a", ONE)], True, 0,
    ),
    "an explicit resume begins anew": ([BEGUN, died(1), died(2), RunResumed("me", died=True), start("a")], True, 1),
    "also where the next death comes before any call": ([BEGUN, died(1), died(2), RunResumed("me", died=True)], True, 1),
    "and for calls that were suspected": (
        [BEGUN, died(1), start("b"), died(2), start("b"), died(3), RunResumed("me"), start("b")], True, 1,
    ),
    "progress counts for the life in which it was made": (
        [BEGUN, CallMade("a", 1, "sha256:a", ONE, 0.0), died(0)], True, 1,
    ),
    "deaths without progress after deaths in a call beside it": (
        [BEGUN, died(1), start("a"), start("b"), CallSucceeded("a", ONE), died(1), died(1)], True, 2,
    ),
    "a death counts against calls of its own life": (
        [BEGUN, died(1), start("a"), start("b"), CallSucceeded("b", ONE), died(1), start("c"),
         CallSucceeded("c", ONE)], True, 1,
    ),
    "a call that has an outcome is not suspected any more": (
        [BEGUN, died(1), start("b"), died(2), start("b"), CallSucceeded("b", ONE)], True, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_deaths_count_where_there_is_no_progress(name):
    """The journal alone tells how many count."""
    events, has_died, wanted = CASES[name]
    entries = [Entry(seq, 0.0, event) for seq, event in enumerate(events, 1)]
    assert count_deaths(entries, has_died=has_died).count == wanted


def test_the_calls_that_a_death_cut_off_are_told():
    """Those of the last death by name, and all that are suspected."""
    events = [
        BEGUN,
        died(1),
        start("a"),
        start("b"),
        CallSucceeded("a", ONE),
        died(1),
        start("b"),
        start("c"),
    ]
    found = count_deaths([Entry(1, 0.0, event) for event in events], has_died=True)
    assert (found.cut_off, found.suspects) == (("b", "c"), {"b", "c"})


def test_a_call_is_cut_off_by_the_death_of_its_own_life():
    """Not by that of the next process, which died before it had begun anything."""
    events = [BEGUN, died(1), start("a"), died(2)]
    found = count_deaths([Entry(1, 0.0, event) for event in events], has_died=True)
    assert (found.count, found.cut_off, found.suspects) == (3, (), {"a"})


MADE = CallMade("a", 1, "sha256:a", ONE, 0.0)


@pytest.mark.parametrize(
    ("events", "has_died", "is_careful"),
    [
        ([BEGUN, MADE], False, False),
        ([BEGUN, MADE], True, True),
        ([BEGUN, died(1)], False, True),
        ([BEGUN, died(1), MADE], False, False),
    ],
    ids=["no death", "a death beside progress", "an earlier death", "an earlier death, and progress"],
)
def test_starts_are_durable_before_their_calls_after_any_death(events, has_died, is_careful):
    """Whether it counts or not: the next one has to show which calls it cuts off."""
    found = count_deaths([Entry(1, 0.0, event) for event in events], has_died=has_died)
    assert found.is_careful == is_careful


@pytest.mark.parametrize(
    ("header", "count"),
    [({}, 0), ({"planning": None}, 0), ({"planning": {}}, 0), ({"planning": {"deaths": 2}}, 2)],
)
def test_deaths_of_a_planning_are_counted_in_its_header(header, count):
    """A task without a plan has no journal."""
    assert planning_deaths(header) == count


async def iterations():
    """Let all tasks go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_run_that_is_driven_alone_excludes_all_others():
    """It waits until the others are let go of; who comes meanwhile waits for it; several of the kind come in turn."""

    async def main():
        lock = DriveLock()
        first = lock.try_share()
        alone = [asyncio.create_task(lock.alone()) for _ in range(2)]
        await iterations()
        assert not any(task.done() for task in alone)
        assert lock.try_share() is None
        later = asyncio.create_task(lock.share())
        first.give_back()
        await iterations()
        assert (alone[0].done(), alone[1].done(), later.done()) == (True, False, False)
        assert alone[0].result().is_alone
        alone[0].result().give_back()
        await iterations()
        assert (alone[1].done(), later.done()) == (True, False)
        alone[1].result().give_back()
        await later
        assert lock.try_share() is not None

    asyncio.run(main())


def test_a_run_that_has_shown_itself_lets_others_in():
    """Its permit becomes a share."""

    async def main():
        lock = DriveLock()
        alone = await lock.alone()
        later = asyncio.create_task(lock.share())
        await iterations()
        assert not later.done()
        alone.let_others_in()
        await later
        next_one = asyncio.create_task(lock.alone())
        later.result().give_back()
        await iterations()
        assert not next_one.done(), "the first one is still driven"
        alone.give_back()
        alone.give_back()
        await next_one

    asyncio.run(main())


def test_a_run_that_is_driven_beside_others_can_be_driven_alone_from_then_on():
    """Its share is given back, and what it gets instead is given back too."""

    async def main():
        lock = DriveLock()
        one, other = lock.try_share(), lock.try_share()
        excluding = asyncio.create_task(one.exclude_others())
        await iterations()
        assert not excluding.done()
        assert lock.try_share() is None
        other.give_back()
        await iterations()
        assert excluding.done()
        assert one.is_alone
        assert lock.try_share() is None
        one.give_back()
        one.give_back()
        assert not one.is_alone
        next_one = lock.try_share()
        assert next_one is not None
        next_one.give_back()
        alone = asyncio.create_task(lock.alone())
        await iterations()
        assert alone.done()

    asyncio.run(main())


def test_who_gives_up_waiting_leaves_no_trace():
    """A run that was to be driven alone, and is not any more."""

    async def main():
        lock = DriveLock()
        first = lock.try_share()
        alone = asyncio.create_task(lock.alone())
        await iterations()
        newcomer = asyncio.create_task(lock.share())
        await iterations()
        assert not newcomer.done()
        alone.cancel()
        await iterations()
        assert newcomer.done(), "it is told at once"
        assert lock.try_share() is not None
        first.give_back()

    asyncio.run(main())


def test_a_run_inside_one_that_is_driven_waits_for_nobody():
    """Neither for the one that is driven alone, which waits for it, nor for one that waits to be; under another engine's lock it is not inside."""

    async def main():
        lock, other = DriveLock(), DriveLock()

        async def drive(permit):
            with permit:
                assert (permit.is_inside, lock.is_inside, other.is_inside) == (False, True, False)
                inner = lock.try_share()
                assert inner is not None
                assert inner.is_inside
                assert lock.holder is permit
                inner.give_back()
                inner.give_back()

        alone = await lock.alone()
        assert lock.try_share() is None
        assert not lock.is_inside
        await asyncio.create_task(drive(alone))
        assert not alone.is_alone
        assert not lock.is_inside
        next_one = await lock.alone()
        assert next_one.is_alone

    asyncio.run(main())


@pytest.mark.parametrize("patience_s", [0.0, 0.02])
def test_newcomers_do_not_wait_for_ever_for_one_that_waits(monkeypatch, patience_s):
    """The run that has to end first may be waiting for the newcomer. The newcomer counts, and nobody joins one that is driven alone."""
    monkeypatch.setattr(deaths, "PATIENCE_S", patience_s)

    async def main():
        lock = DriveLock()
        first = lock.try_share()
        alone = asyncio.create_task(lock.alone())
        await iterations()
        second = await asyncio.wait_for(lock.share(), 10)
        first.give_back()
        await iterations()
        assert not alone.done()
        second.give_back()
        permit = await alone
        third = asyncio.create_task(lock.share())
        await iterations()
        assert not third.done(), "however long it has waited"
        permit.give_back()
        (await third).give_back()
        assert (await lock.alone()).is_alone, "nobody is driven any more"

    asyncio.run(main())


def suspect(path, run_id, step=None):
    """Have a run look as if two processes had died with it, the second one in the call of a step."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET owner='1-dead@', status='running' WHERE id=?", (run_id,))


async def make_suspect(rig, path, run_id):
    """Have a run lose two owners, as deaths are: the journal says so of the first, the row of the second."""
    suspect(path, run_id)
    taken = await rig.execution._take(run_id)
    await rig.execution._note(taken, taken.first, await rig.execution._machine_of(taken))
    await rig.execution._let_go(taken.row)
    suspect(path, run_id)


def test_a_suspect_lets_others_in_once_its_call_has_returned(tmp_path):
    """Until then a run that is submitted waits, unclaimed; afterwards both are driven, so that a long run stops nobody."""
    path = tmp_path / "s.db"
    first, second = Held(1), Held(2)
    plan = plan_of(
        {"id": "a", "tool": "t", "args": {"x": 1}}, {"id": "b", "tool": "u", "after": ["a"]}, output="${b}"
    )
    other = plan_of({"id": "q", "tool": "quick"}, output="${q}")

    async def main():
        tools = [
            ScriptedTool("t", [first], effect="read"),
            ScriptedTool("u", [second], effect="read"),
            ScriptedTool("quick", [5], effect="read"),
        ]
        async with Rig(tools, str(path)) as rig:
            await rig.submit(plan, "suspect")
            await make_suspect(rig, path, "suspect")
            await rig.execution.go_on("suspect")
            await first.called.wait()
            await rig.submit(other, "other")
            await rig.execution.go_on("other")
            await iterations()
            row = await rig.execution.archive.row("other")
            assert (row.owner, row.last_seq) == (None, 0)
            assert not (await rig.execution.archive.get("other")).abandoned
            first.release()
            assert (await rig.execution.wait("other")).output == 5
            await second.called.wait()
            second.release()
            assert (await rig.execution.wait("suspect")).output == 2

    asyncio.run(main())


def test_a_run_that_a_tool_of_a_suspect_starts_is_driven(tmp_path):
    """The two would wait for each other else: of threads and of coroutines."""
    path = tmp_path / "s.db"
    engines = []
    inner = {"firmplan": 1, "steps": [{"id": "a", "set": 3}], "output": "${a}"}

    @tool(effect="read", version=1)
    async def nest() -> int:
        """Run a plan."""
        return (await engines[0].run(inner)).output

    @tool(effect="read", version=1)
    def nest_in_thread() -> int:
        """Run a plan."""
        return engines[0].run_sync(inner).output

    steps = [{"id": "a", "tool": "nest"}, {"id": "b", "tool": "nest_in_thread"}]
    plan = {"firmplan": 1, "steps": steps, "output": "${a + b}"}

    async def main():
        async with Rig([nest, nest_in_thread], str(path)) as rig:
            await rig.submit(plan_of(*steps, output="${a + b}"), "r")
            await make_suspect(rig, path, "r")
        async with Engine([nest, nest_in_thread], store=path) as engine:
            engines.append(engine)
            run = await asyncio.wait_for(engine.run(plan, run_id="r"), 30)
            assert run.output == 6
            resumed = [event.data async for event in engine.events("r") if event.type == "RunResumed"]
            assert resumed[-1]["deaths"] == 2, "it was driven alone"

    asyncio.run(main())
