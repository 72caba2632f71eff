"""What results looked like is kept in the store and reaches planners; runs and replays depend on nothing of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3

from firmplan import Engine, Planner, Tool, tool
from firmplan.executor.journal import learnt_types
from firmplan.executor.journal.learnt_types import LearntTypes
from firmplan.executor.stores.store import StoreError
from firmplan.plans.types.learnt import LearntType
from firmplan.testing import MemoryStore, ScriptedModel
from rig import Rig, plan_of

CITY = {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]}


def source(results, **options):
    """Return a tool that returns the results one after the other, and then the last one."""
    left = list(results)

    def look():
        return left.pop(0) if len(left) > 1 else left[0]

    given = {"effect": "read", "version": 1, "name": "look", **options}
    return Tool.from_callable(look, parameters={"type": "object"}, **given)


def steps(count, name="look"):
    return plan_of(
        *({"id": f"s{n}", "tool": name, "after": [f"s{n - 1}"] if n else []} for n in range(count))
    )


def learnt_of(tools, runs=1, count=1):
    """Return what is known of each tool after some runs."""

    async def main():
        async with Rig(tools) as rig:
            for _ in range(runs):
                await rig.run(steps(count))
            return await rig.facilities.learnt.find(rig.tools, 1.0)

    return asyncio.run(main())


def test_results_are_counted_and_merged():
    """Over steps and runs; a field that was missing once may be absent."""
    found = learnt_of([source([{"a": 1}, {"a": 2, "b": "x"}, {"a": 3}])], runs=2, count=2)["look"]
    assert (found.results, found.unfit) == (4, 0)
    assert {name: part["n"] for name, part in found.shape["fields"].items()} == {"a": 4, "b": 1}


def test_results_that_refute_the_declared_type_are_counted():
    """Each of them, although the run tells of it once."""
    found = learnt_of(
        [source([{"celsius": "warm"}, {"celsius": 1.5}, {"celsius": "hot"}], returns=CITY)], count=3
    )
    assert (found["look"].results, found["look"].unfit) == (3, 2)
    assert found["look"].shape["fields"]["celsius"] == {"n": 3, "number": 1, "text": 2}


def test_tools_whose_types_are_enforced_and_tell_enough_are_not_looked_at():
    """Nothing is to be learnt there that the type does not say; a bare `dict` says little."""

    @tool(effect="read")
    def exact() -> int:
        """Count."""
        return 3

    @tool(effect="read")
    def bare() -> dict:
        """Look."""
        return {"a": 1}

    assert not exact.is_learnt
    assert bare.is_learnt

    async def main():
        async with Rig([exact, bare]) as rig:
            await rig.run(plan_of({"id": "a", "tool": "exact"}, {"id": "b", "tool": "bare"}))
            return await rig.facilities.learnt.find(rig.tools, 1.0)

    assert list(asyncio.run(main())) == ["bare"]


def test_it_is_kept_when_the_engine_closes(tmp_path):
    """By the fingerprint of the tool: a tool of another version has another result. No value is in the file."""
    path = tmp_path / "s.db"
    for version, value in ((1, {"word": "s3cr3t"}), (2, {"number": 4711})):
        with Engine([source([value], version=version)], store=path) as engine:
            engine.run_sync(steps(1))
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT tool, fingerprint, learnt FROM learnt_types").fetchall()
    db.close()
    shapes = [LearntType.read(learnt).shape["fields"] for _, _, learnt in rows]
    assert len({fingerprint for _, fingerprint, _ in rows}) == 2
    assert sorted(name for each in shapes for name in each) == ["number", "word"]
    assert not any("s3cr3t" in learnt.decode() or "4711" in learnt.decode() for _, _, learnt in rows)


def test_results_of_the_same_structure_are_only_counted_after_a_while(monkeypatch):
    """A tool that is called a million times costs a counter; one that refutes its type is looked at all the same."""
    monkeypatch.setattr(learnt_types, "SETTLED", 4)
    looked: list[int] = []
    monkeypatch.setattr(
        learnt_types, "shape_of", lambda value: looked.append(value) or {"n": 1, "integer": 1}
    )

    async def main():
        async with Rig([source(range(100))]) as rig:
            for number in range(12):
                await rig.run(steps(1), f"r{number}")
                await rig.facilities.learnt.flush(1.0)
            return (await rig.facilities.learnt.find(rig.tools, 1.0))["look"]

    found = asyncio.run(main())
    assert found.results == 12
    assert 4 <= len(looked) <= 6


def test_large_results_are_only_counted(monkeypatch):
    """To look at them takes long."""
    monkeypatch.setattr(learnt_types, "VALUE_BYTES_MAX", 100)
    found = learnt_of([source([{"a": "x" * 200}, {"a": "x"}])], count=2)["look"]
    assert (found.results, found.shape["n"]) == (2, 1)


def test_a_store_that_cannot_keep_it_disturbs_no_run():
    """The log says so; runs go on."""

    class Full(MemoryStore):
        async def merge_learnt(self, *_):
            raise StoreError("the disk is full")

    async def main():
        async with Rig([source([{"a": 1}])], Full()) as rig:
            run = await rig.run(steps(2))
            await rig.facilities.learnt.flush(1.0)
            return run.status

    assert asyncio.run(main()) == "succeeded"


def test_two_engines_that_learn_at_once_lose_nothing(tmp_path):
    """They merge inside the store."""

    async def main():
        tools = [source([{"a": 1}])]
        async with Rig(tools, tmp_path / "s.db") as one, Rig(tools, tmp_path / "s.db") as two:
            await asyncio.gather(*(rig.run(steps(3), f"r{at}") for at, rig in enumerate((one, two, one))))
            await asyncio.gather(*(rig.facilities.learnt.flush(1.0) for rig in (one, two)))
            return await LearntTypes(one.store).find(tools, 1.0)

    assert asyncio.run(main())["look"].results == 9


# --- planners


PLAN = {"firmplan": 1, "steps": [{"id": "a", "tool": "look"}], "output": "${a}"}


def asked(tools, store, script, task="Look"):
    """Return the run of a task, and the words that the model was shown."""

    async def main():
        async with ScriptedModel(script) as model:
            async with Engine(tools, store=store, planner=Planner("m", base_url=model.base_url)) as engine:
                run = await engine.run(task)
            return run, [request["messages"][-1]["content"] for request in model.requests]

    return asyncio.run(main())


def test_the_next_planning_sees_what_came(tmp_path):
    """In another process as well; the first one saw nothing."""
    path = tmp_path / "s.db"
    tools = [source([{"degrees": 3, "day": "2026-12-01"}], returns=CITY)]
    run, told = asked(tools, path, [PLAN])
    assert (run.status, len(run.warnings)) == ("succeeded", 1)
    assert "-> {celsius: number}  [read]" in told[0]
    _, told = asked(tools, path, [PLAN], "Look again")
    seen = "but 1 of 1 result did not fit, and they were {day: text (date), degrees: integer}"
    assert f"-> {{celsius: number}}; {seen}  [read]" in told[0]


def test_an_equal_task_is_planned_once_unless_its_types_were_refuted(tmp_path):
    """What came beside a missing type is no reason to ask a model again."""

    async def requests_of(tools, store):
        """Return how many requests there were after each run of the same task."""
        counts = []
        async with ScriptedModel([PLAN] * 3) as model:
            for _ in range(3):
                planner = Planner("m", base_url=model.base_url)
                async with Engine(tools, store=store, planner=planner) as engine:
                    assert (await engine.run("Look")).status == "succeeded"
                counts.append(len(model.requests))
        return counts

    assert asyncio.run(requests_of([source([{"a": 1}])], tmp_path / "plain.db")) == [1, 1, 1]
    refuted = [source([{"a": 1}], returns=CITY)]
    assert asyncio.run(requests_of(refuted, tmp_path / "refuted.db")) == [1, 2, 2]


def test_no_check_and_no_replay_depends_on_it(tmp_path):
    """The report is the same before and after; a run replays in a store without the table, to the same digest."""
    path = tmp_path / "s.db"
    refuted = {**PLAN, "output": "${a.celsius}"}
    unknown = {**PLAN, "output": "${a.degrees}"}
    tools = [source([{"degrees": 3}], returns={**CITY, "additionalProperties": False})]
    with Engine(tools, store=path) as engine:
        before = [str(engine.check_plan_sync(plan)) for plan in (refuted, unknown)]
        run = engine.run_sync(refuted)
    with Engine(tools, store=path) as engine:
        assert [str(engine.check_plan_sync(plan)) for plan in (refuted, unknown)] == before
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE learnt_types")
    db.close()
    with Engine(tools, store=path) as engine:
        again = engine.replay_sync(run.id)
        assert (again.digest, json.dumps(again.output)) == (run.digest, json.dumps(run.output))


def test_the_learnt_types_can_be_looked_at(tmp_path):
    """As planners get them, in any later process."""
    tools = [source([{"degrees": 3}], returns=CITY)]
    with Engine(tools, store=tmp_path / "s.db") as engine:
        assert engine.learnt_tools_sync().get("look").learnt is None
        engine.run_sync(PLAN)
    with Engine(tools, store=tmp_path / "s.db") as engine:
        found = engine.learnt_tools_sync().get("look")
        assert (found.learnt.results, found.learnt.unfit, list(found.learnt.shape["fields"])) == (
            1,
            1,
            ["degrees"],
        )
        assert (found.fingerprint, found.types) == (tools[0].fingerprint, tools[0].types)


def test_a_patch_sees_what_came(tmp_path):
    """A run that failed by a wrong schema is mended with the types that came."""

    async def main():
        async with ScriptedModel(
            [{"operations": [{"op": "output", "value": "${a}"}, {"op": "remove", "step": "b"}]}]
        ) as model:
            planner = Planner("m", base_url=model.base_url)
            tools = [source([{"degrees": 3}], returns=CITY)]
            async with Engine(tools, store=tmp_path / "s.db", planner=planner) as engine:
                plan = {
                    **PLAN,
                    "steps": [*PLAN["steps"], {"id": "b", "set": "${a.celsius}"}],
                    "output": "${b}",
                }
                run = await engine.run(plan, replan=1)
                return run, model.requests[0]["messages"][-1]["content"]

    run, told = asyncio.run(main())
    assert run.output == {"degrees": 3}
    assert "they were {degrees: integer}" in told
