"""What a run looks like: paths, their order, statuses, attempts, errors, usage; and runs that were left behind."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest
from firmplan import Context, Engine, Run, tool
from firmplan.errors import ConfigError, RunFailed, StoreError, ToolError
from firmplan.executor import SqliteStore
from firmplan.executor.runs.execution import LINES_MAX
from firmplan.service.routes.runs import event_stream
from firmplan.testing import Held, ScriptedTool
from rig import Rig, one_run, plan_of, statuses

NUMBER = {"type": "integer"}
NESTED = plan_of(
    {"id": "last", "set": "${rounds}", "after": ["outer"]},
    {
        "id": "rounds",
        "tool": "t",
        "args": {"x": "${first(prev, 0)}"},
        "repeat": {"until": "${rounds >= 2}", "max": 5},
    },
    {
        "id": "outer",
        "plan": "pair",
        "for_each": "${[10, 20]}",
        "args": {"n": "${item}"},
        "repeat": {"until": "${outer > 0}", "max": 2},
    },
    {"id": "none", "tool": "t", "for_each": "${[]}", "args": {"x": 1}},
    {"id": "some", "tool": "t", "for_each": "${[1, 2, 3]}", "when": "${item != 2}", "args": {"x": "${item}"}},
    {"id": "off", "tool": "t", "args": {"x": 1}, "when": "${1 > 2}"},
    {"id": "off2", "tool": "t", "args": {"x": "${off}"}},
    {"id": "off3", "set": "${first(off2, 7)}"},
    output="${[last, outer, some, off3]}",
    plans={
        "pair": {
            "inputs": {"n": NUMBER},
            "steps": [
                {"id": "b", "set": "${a + 1}"},
                {"id": "a", "tool": "t", "args": {"x": "${inputs.n}"}},
            ],
            "output": "${b}",
        }
    },
)


def grow() -> ScriptedTool:
    return ScriptedTool("t", lambda x: x + 1, effect="read")


def test_steps_stand_in_plan_order_each_followed_by_its_leaves():
    """Items `[0]`, iterations `#0`, inner steps `/a`; also where something ran first that stands last."""
    run = one_run(NESTED, grow())
    assert run.output == [2, [12, 22], [2, 4], 7]
    assert list(statuses(run).items()) == [
        ("last", "succeeded"),
        ("rounds", "succeeded"),
        ("rounds#0", "succeeded"),
        ("rounds#1", "succeeded"),
        ("outer", "succeeded"),
        ("outer[0]", "succeeded"),
        ("outer[0]#0", "succeeded"),
        ("outer[0]#0/b", "succeeded"),
        ("outer[0]#0/a", "succeeded"),
        ("outer[1]", "succeeded"),
        ("outer[1]#0", "succeeded"),
        ("outer[1]#0/b", "succeeded"),
        ("outer[1]#0/a", "succeeded"),
        ("none", "succeeded"),
        ("some", "succeeded"),
        ("some[0]", "succeeded"),
        ("some[1]", "skipped:when"),
        ("some[2]", "succeeded"),
        ("off", "skipped:when"),
        ("off2", "skipped:skipped-reference"),
        ("off3", "succeeded"),
    ]
    assert {path: view.attempts for path, view in run.steps.items() if view.attempts} == {
        "rounds": 2,
        "rounds#0": 1,
        "rounds#1": 1,
        "outer": 2,
        "outer[0]": 1,
        "outer[0]#0": 1,
        "outer[0]#0/a": 1,
        "outer[1]": 1,
        "outer[1]#0": 1,
        "outer[1]#0/a": 1,
        "some": 2,
        "some[0]": 1,
        "some[2]": 1,
    }
    assert run.usage["calls"] == 6
    assert (run.steps["none"].output, run.steps["some[1]"].output, run.steps["off"].output) == (
        [],
        None,
        None,
    )
    json.dumps(run.to_dict())


def test_times_are_there_for_what_ran():
    """A step has started before it has finished; what was skipped has not started."""
    run = one_run(NESTED, grow())
    for path, view in run.steps.items():
        if view.attempts:
            assert view.started is not None, path
            assert view.started <= view.finished, path
    assert run.steps["off"].started is None


def test_a_step_that_exhausts_its_repeats_fails():
    """Code `repeat-exhausted`; the iterations stand with their own values."""
    plan = plan_of(
        {
            "id": "r",
            "tool": "t",
            "args": {"x": "${first(prev, 0)}"},
            "repeat": {"until": "${r > 9}", "max": 3},
        }
    )
    run = one_run(plan, grow())
    assert [(e.step, e.code) for e in run.errors] == [("r", "repeat-exhausted")]
    assert [run.steps[f"r#{n}"].output for n in range(3)] == [1, 2, 3]
    assert statuses(run) == {"r": "failed", "r#0": "succeeded", "r#1": "succeeded", "r#2": "succeeded"}


def test_errors_stand_in_plan_order_at_their_leaves():
    """Those that `on_error` handled are not among them."""

    def body(x: int) -> int:
        if x % 2:
            raise ToolError(f"odd: {x}", code="odd", temporary=x == 1)
        return x

    plan = plan_of(
        {"id": "late", "tool": "t", "args": {"x": 9}, "after": ["ok"]},
        {"id": "ok", "tool": "t", "args": {"x": 2}},
        {"id": "each", "tool": "t", "for_each": "${[1, 2, 3]}", "args": {"x": "${item}"}},
        {"id": "inner", "plan": "p"},
        {"id": "fine", "tool": "t", "args": {"x": 5}, "on_error": "skip"},
        {"id": "calc", "set": "${1 // (ok - 2)}"},
        {"id": "cone", "set": "${each}"},
        plans={"p": {"steps": [{"id": "s", "tool": "t", "args": {"x": 7}}], "output": "${s}"}},
    )
    run = one_run(plan, ScriptedTool("t", body, effect="read"))
    assert [(e.step, e.code, e.temporary) for e in run.errors] == [
        ("late", "odd", False),
        ("each[0]", "odd", True),
        ("each[2]", "odd", False),
        ("inner/s", "odd", False),
        ("calc", run.errors[4].code, False),
    ]
    assert statuses(run)["cone"] == "skipped:dependency-failed"
    assert run.steps["fine"].error.code == "odd"
    assert run.output is None
    with pytest.raises(RunFailed, match="odd: 9"):
        run.raise_for_status()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("failed", "run r failed"),
        ("cancelled", "run r was cancelled"),
        ("over_budget", "run r is over its budget: it waits for a larger one"),
        ("waiting", "run r is waiting"),
    ],
)
def test_what_is_raised_of_a_run_is_a_sentence(status, words):
    """In the words that people use for what became of a run."""
    with pytest.raises(RunFailed) as raised:
        Run("r", status).raise_for_status()
    assert str(raised.value) == words


def test_a_run_is_queued_until_it_begins_and_then_running():
    """The status of a snapshot, and of the steps in it."""
    held = Held(1)
    plan = plan_of(
        {"id": "a", "tool": "t", "args": {"x": 1}},
        {"id": "b", "set": "${a}"},
    )

    async def main():
        made = ScriptedTool("t", [held], effect="read")
        async with Rig([made]) as rig:
            await rig.submit(plan, "r")
            queued = await rig.execution.archive.get("r")
            assert (queued.status, statuses(queued)) == ("queued", {"a": "pending", "b": "pending"})
            await rig.execution.resume("r")
            await held.called.wait()
            running = await rig.execution.archive.get("r")
            assert (running.status, statuses(running)) == ("running", {"a": "running", "b": "pending"})
            held.release()
            assert (await rig.execution.wait("r")).status == "succeeded"

    asyncio.run(main())


def test_events_end_with_the_run_and_may_be_read_from_anywhere():
    """Live or afterwards, each once and in order."""
    held = Held(1)

    async def main():
        made = ScriptedTool("t", [held, 2, 3], effect="read")
        plan = plan_of(*[{"id": name, "tool": "t", "args": {"x": 1}} for name in "abc"])
        async with Rig([made], places=1) as rig:
            await rig.start(plan, "r")

            async def follow():
                return [event async for event in rig.execution.events("r")]

            following = asyncio.create_task(follow())
            await held.called.wait()
            held.release()
            live = await following
            assert [event.seq for event in live] == list(range(1, len(live) + 1))
            assert (live[0].type, live[-1].type) == ("RunStarted", "RunFinished")
            later = [event async for event in rig.execution.events("r", 3)]
            assert later == live[3:]

    asyncio.run(main())


def test_events_come_before_the_journal_is_read(tmp_path):
    """The first event of a long journal needs one page of it, and all of them come once and in order."""
    read = []

    class Counting(SqliteStore):
        async def read_journal(self, run_id, after=0, *, limit=None):
            lines = await super().read_journal(run_id, after, limit=limit)
            read.append(len(lines))
            return lines

    steps = {"id": "a", "tool": "t", "for_each": "${range(2000)}", "args": {"x": "${item}"}}

    async def main():
        made = ScriptedTool("t", lambda x: x, effect="read")
        async with Rig([made], Counting(str(tmp_path / "s.db"))) as rig:
            run = await rig.run(plan_of(steps), "r")
            read.clear()
            events = rig.execution.events("r")
            assert (await anext(events)).type == "RunStarted"
            assert read == [LINES_MAX]
            assert [event.seq async for event in events] == list(range(2, run.last_event + 1))
            assert max(read) == LINES_MAX
            assert sum(read) == run.last_event
            read.clear()
            stream = event_stream(rig.execution.events("r"), asyncio.Event())
            texts = [await anext(stream) for _ in range(2)]
            assert texts[1].startswith("id: 1\nevent: RunStarted\n")
            assert read == [LINES_MAX], "over HTTP too"
            await stream.aclose()
            read.clear()
            middle = rig.execution.events("r", 1500)
            assert (await anext(middle)).seq == 1501
            assert read == [LINES_MAX]

    asyncio.run(main())


# --- runs that were left behind


async def abandoned(rig):
    page = await rig.execution.archive.list_runs(status=None, limit=100, cursor=None)
    return [run.id for run in page.runs if run.abandoned]


def test_runs_of_dead_owners_are_found_and_those_of_living_ones_are_not(tmp_path):
    """Finished, waiting and living runs are no one's to recover."""
    store, held = str(tmp_path / "s.db"), Held(1)
    plan = plan_of({"id": "a", "tool": "t", "args": {"x": 1}})
    asking = plan_of({"id": "p", "tool": "pay"})
    pay = ScriptedTool("pay", effect="write", approval="always")

    async def main():
        async with Rig([ScriptedTool("t", [held], effect="read"), pay], store) as living:
            await living.start(plan, "living")
            await living.submit(plan, "left")
            await living.run(asking, "waiting")
            await held.called.wait()
            async with Rig([grow(), pay], store) as other:
                assert await abandoned(other) == ["left"]
                assert (await other.resume("left")).status == "succeeded"
                assert await abandoned(other) == []
            held.release()
            await living.execution.wait("living")

    asyncio.run(main())


def test_a_run_that_cannot_be_read_does_not_hinder_the_others(tmp_path):
    """An engine that recovers logs it, and goes on with the rest."""
    store = str(tmp_path / "s.db")
    plan = plan_of({"id": "a", "tool": "t", "args": {"x": 1}})

    async def main():
        async with Rig([grow()], store) as rig:
            await rig.submit(plan, "broken")
            await rig.submit(plan, "whole")
        gone = ScriptedTool("gone", effect="read")
        async with Rig([grow(), gone], store) as rig:
            await rig.submit(plan_of({"id": "a", "tool": "gone"}), "toolless")
        async with Rig([grow()], store) as rig:
            with sqlite3.connect(store) as db:
                db.execute("UPDATE runs SET head=x'00', last_seq=3 WHERE id='broken'")
            db.close()
            rig.execution.recover()
            assert (await rig.execution.wait("whole")).status == "succeeded"
            with pytest.raises(StoreError, match="broken"):
                await rig.resume("broken")
            with pytest.raises(ConfigError, match="'gone'"):
                await rig.resume("toolless")

    asyncio.run(main())


def test_progress_is_an_event_that_a_replay_passes_over():
    """What a tool says of its progress is in the events, seldom enough, without its secrets, and decides nothing."""

    @tool(effect="read")
    def slow(n: int, *, ctx: Context) -> int:
        """Count."""
        secret = ctx.secret("KEY")
        for done in range(n):
            ctx.progress(done / n, f"counting with {secret}")
        for _ in range(n):
            ctx.progress(1, "done")
        return n

    async def drive():
        plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "slow", "args": {"n": 1000}}], "output": "${a}"}
        async with Engine([slow], store="memory:", secrets={"KEY": "hunter2"}) as engine:
            run = await engine.run(plan)
            events = [event async for event in engine.events(run.id)]
            assert (await engine.replay(run.id)).digest == run.digest
            return events

    events = asyncio.run(drive())
    told = [event.data for event in events if event.type == "CallProgressed"]
    assert told[0]["fraction"] == 0.0
    assert told[-1] == {"fraction": 1.0, "note": "done"}
    assert len(told) < 100
    assert "hunter2" not in str(events)


def test_no_item_is_left_where_the_filter_refers_to_a_skipped_step():
    """Whichever item comes to it first, all have ended with their step."""
    steps = [
        {"id": "off", "set": 1, "when": "${1 == 2}"},
        {"id": "each", "set": "${item}", "for_each": "${[1, 2, 3]}", "when": "${item > 1 and first(off, off) == 1}"},
    ]  # fmt: skip
    run = one_run(plan_of(*steps))
    gone = "skipped:skipped-reference"
    assert list(statuses(run).items()) == [
        ("off", "skipped:when"),
        ("each", gone),
        ("each[0]", "skipped:when"),
        ("each[1]", gone),
        ("each[2]", gone),
    ]
