"""Contract, 3: the engine: options, every method and its `_sync` twin, run ids, seeds, budgets, errors, events."""

from __future__ import annotations

import asyncio
import inspect
import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from firmplan import (
    ConfigError,
    Context,
    Diverged,
    Engine,
    FirmplanError,
    InputRejected,
    OutcomeUnknown,
    Plan,
    PlanBuilder,
    Planner,
    PlanningFailed,
    PlanRejected,
    Run,
    RunNotFound,
    StoreError,
    ToolError,
    tool,
)
from firmplan.testing import ScriptedModel
from public import call, once, plan, within


@tool(effect="pure")
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool(effect="pure")
def fail(x: int) -> int:
    """Fail."""
    raise ToolError(f"no {x}", code="no", temporary=x > 5)


@tool(effect="model", version="1")
def think(x: int) -> int:
    """Think."""
    return x


@tool(effect="write", resource="a")
def put(x: int) -> int:
    """Write."""
    return x


TOOLS = [add, fail, think, put]
SUM = plan(
    call("s", "add", args={"a": "${inputs.a}", "b": "${inputs.b}"}),
    inputs={"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
    output="${s}",
)


# --- life and stores


def test_every_coroutine_method_has_a_sync_twin():
    """Every coroutine method has a `_sync` twin."""
    names = [
        name
        for name, each in inspect.getmembers(Engine, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "aclose"
    ]
    assert {
        "plan",
        "run",
        "submit",
        "wait",
        "resume",
        "replay",
        "approve",
        "deny",
        "resolve",
        "cancel",
    } <= set(names)
    for name in [*names, "events"]:
        twin = getattr(Engine, f"{name}_sync")
        assert not inspect.iscoroutinefunction(twin), name


def test_the_main_job_asynchronously(tmp_path: Path):
    """`async with Engine(..) as engine: run = await engine.run(plan, inputs=..)`; replay gives equal digests."""

    async def go() -> None:
        async with Engine(tools=TOOLS, store=str(tmp_path / "s.db")) as engine:
            run = await engine.run(SUM, inputs={"a": 1})
            assert (run.status, run.output) == ("succeeded", 3)
            same = await engine.replay(run.id)
            assert same.digest == run.digest
            assert same.output == 3

    within(go())


def test_the_main_job_synchronously(tmp_path: Path):
    """Every coroutine method has a `_sync` twin, in and out of `with`."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.run_sync(SUM, inputs={"a": 1}).output == 3
    engine = Engine(TOOLS, store=tmp_path / "s.db")
    assert engine.run_sync(SUM, inputs={"a": 2}).output == 4
    engine.close()
    engine.close()


def test_a_sync_engine_may_be_used_from_several_threads(tmp_path: Path):
    """`_sync` twins for programs without an event loop."""
    found: list[Any] = []
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        threads = [
            threading.Thread(target=lambda n=n: found.append(engine.run_sync(SUM, inputs={"a": n}).output))
            for n in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(found) == list(range(2, 10))


@pytest.mark.parametrize("attempt", range(5))
def test_the_first_uses_of_a_sync_engine_may_come_from_several_threads(attempt: int, tmp_path: Path):
    """It opens at its first use, once, whoever that is."""
    engine, at_once, found = Engine(TOOLS, store=tmp_path / "s.db"), threading.Barrier(8), list[Any]()

    def use(n: int) -> None:
        at_once.wait()
        found.append(engine.run_sync(SUM, inputs={"a": n}).output)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    engine.close()
    assert sorted(found) == list(range(2, 10))


def test_a_sync_method_inside_a_loop_works_or_says_why_not(tmp_path: Path):
    """Every coroutine method has a `_sync` twin: on its own loop it would wait for itself."""

    async def go() -> None:
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            with pytest.raises(ConfigError):
                engine.run_sync(SUM, inputs={"a": 1})

    within(go())

    async def beside() -> int:
        with Engine(TOOLS, store=tmp_path / "t.db") as engine:
            return engine.run_sync(SUM, inputs={"a": 1}).output

    assert within(beside()) == 3


def test_store_forms(tmp_path: Path):
    """`store`: a path or `sqlite:///..`, `"memory:"`; a store at path P is P plus plain files named `P-*`."""
    path = tmp_path / "deep" / "s.db"
    path.parent.mkdir()
    for form in (path, str(path), f"sqlite:///{path}"):
        once(TOOLS, SUM, form, inputs={"a": 1}).raise_for_status()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    db.close()
    assert all(each.name.startswith("s.db") for each in path.parent.iterdir())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["deep"]
    once(TOOLS, SUM, "memory:", inputs={"a": 1}).raise_for_status()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["deep"]


def test_memory_stores_are_apart(tmp_path: Path):
    """`"memory:"`: of this engine, gone with it."""
    with Engine(TOOLS, store="memory:") as one, Engine(TOOLS, store="memory:") as two:
        run = one.run_sync(SUM, inputs={"a": 1})
        with pytest.raises(RunNotFound):
            two.get_sync(run.id)


def test_the_default_store_is_firmplan_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`store="firmplan.db"`."""
    monkeypatch.chdir(tmp_path)
    with Engine(TOOLS) as engine:
        engine.run_sync(SUM, inputs={"a": 1})
    assert (tmp_path / "firmplan.db").is_file()


def test_stores_that_cannot_be_are_store_errors(tmp_path: Path):
    """Raised are only .. `StoreError`, `ConfigError`: all `FirmplanError`s with a stable `.code`."""
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to be read as one" * 50)
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    for path in (tmp_path / "none" / "s.db", tmp_path / "text.db", tmp_path / "other.db", tmp_path):
        with pytest.raises(StoreError) as caught:
            once(TOOLS, SUM, path, inputs={"a": 1})
        assert caught.value.code == "store-error"
    with pytest.raises(ConfigError):
        Engine(TOOLS, store="mysql://x/y")


@pytest.mark.parametrize(
    "options",
    [{"max_concurrency": 0}, {"flow": "maybe"}, {"store": ""}],
)
def test_wrong_settings_are_config_errors(options: dict[str, Any], tmp_path: Path):
    """`ConfigError`."""
    with pytest.raises(ConfigError):
        Engine(TOOLS, **options)


def test_max_concurrency_bounds_calls(tmp_path: Path):
    """`Engine(max_concurrency=64)`, `run(max_concurrency=None)`, `tool(max_concurrency=None)`."""
    peak: list[int] = []
    now: list[int] = []

    async def look(x: int, *, ctx: Context) -> int:
        now.append(x)
        peak.append(len(now))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now.remove(x)
        return x

    def peak_of(tool_options: dict[str, Any], engine: dict[str, Any], **options: Any) -> int:
        peak.clear()
        made = tool(look, effect="read", description="Look.", **tool_options)
        steps = plan(call("s", "look", args={"x": "${item}"}, for_each=list(range(12))))
        once([made], steps, tmp_path / "s.db", engine=engine, **options).raise_for_status()
        return max(peak)

    assert peak_of({}, {}) > 3
    assert peak_of({}, {"max_concurrency": 2}) == 2
    assert peak_of({}, {}, max_concurrency=3) == 3
    assert peak_of({"max_concurrency": 1}, {}) == 1


# --- run


def test_run_takes_a_plan_or_a_dict(tmp_path: Path):
    """`run`, `submit` and `plan=` take a `Plan` or a dict."""
    assert once(TOOLS, Plan.model_validate(SUM), tmp_path / "s.db", inputs={"a": 1}).output == 3
    assert once(TOOLS, SUM, tmp_path / "s.db", inputs={"a": 1}).output == 3
    builder = PlanBuilder("Add")
    a = builder.input("a", int)
    builder.output(builder.call(add, a=a))
    assert once(TOOLS, builder.build(TOOLS), tmp_path / "s.db", inputs={"a": 1}).output == 2


def test_a_wrong_plan_is_rejected_with_its_report(tmp_path: Path):
    """Raised are .. `PlanRejected` (`.report`); nothing ran."""
    for wrong in (
        plan(call("s", "ad")),
        plan(call("s", "add")),
        {"steps": []},
        {"firmplan": 2, "steps": []},
        {},
    ):
        with pytest.raises(PlanRejected) as caught:
            once(TOOLS, wrong, tmp_path / "s.db")
        assert caught.value.code == "plan-rejected"
        assert not caught.value.report.ok
        assert caught.value.report.problems
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.list_runs_sync().runs == ()


@pytest.mark.parametrize("inputs", [{}, {"a": "1"}, {"a": True}, {"a": 1, "c": 1}, {"a": None}, {"a": 1.5}])
def test_inputs_that_do_not_fit_are_rejected(inputs: dict[str, Any], tmp_path: Path):
    """Raised are .. `InputRejected`."""
    with pytest.raises(InputRejected) as caught:
        once(TOOLS, SUM, tmp_path / "s.db", inputs=inputs)
    assert caught.value.code == "input-rejected"


def test_inputs_are_normalised_and_have_defaults(tmp_path: Path):
    """`Run`: `inputs`; an integral float where an integer is wanted becomes one."""
    run = once(TOOLS, SUM, tmp_path / "s.db", inputs={"a": 1.0})
    assert dict(run.inputs) == {"a": 1, "b": 2}
    assert isinstance(run.inputs["a"], int)


def test_a_run_id_names_one_run(tmp_path: Path):
    """An existing `run_id` with the same plan and inputs is continued or returned, else `InputRejected`."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(SUM, inputs={"a": 1}, run_id="my-run_1.x:y")
        assert run.id == "my-run_1.x:y"
        again = engine.run_sync({**SUM, "description": "the same"}, inputs={"a": 1, "b": 2}, run_id=run.id)
        assert (again.id, again.digest, again.created) == (run.id, run.digest, run.created)
        for other in ({"inputs": {"a": 2}}, {"inputs": {"a": 1, "b": 3}}):
            with pytest.raises(InputRejected):
                engine.run_sync(SUM, run_id=run.id, **other)
        with pytest.raises(InputRejected):
            engine.run_sync({**SUM, "output": "${s + 1}"}, inputs={"a": 1}, run_id=run.id)
        assert len(engine.list_runs_sync().runs) == 1
        first, second = (engine.run_sync(SUM, inputs={"a": 1}) for _ in range(2))
        assert first.id != second.id


def test_a_failed_run_of_that_id_is_returned(tmp_path: Path):
    """An existing `run_id` with the same plan and inputs is continued or returned."""
    calls: list[int] = []

    @tool(effect="pure", version="1")
    def count(x: int) -> int:
        """Fail."""
        calls.append(x)
        raise ToolError("no")

    steps = plan(call("s", "count", args={"x": 1}))
    with Engine([count], store=tmp_path / "s.db") as engine:
        first = engine.run_sync(steps, run_id="r")
        second = engine.run_sync(steps, run_id="r")
    assert (first.status, second.status) == ("failed", "failed")
    assert first.digest == second.digest
    assert calls == [1]


@pytest.mark.parametrize("run_id", ["", "a b", "x" * 129, "a/b", "a\n"])
def test_a_run_id_that_is_none_is_rejected(run_id: str, tmp_path: Path):
    """`InputRejected`."""
    with pytest.raises(InputRejected):
        once(TOOLS, SUM, tmp_path / "s.db", inputs={"a": 1}, run_id=run_id)


def test_resume_or_run_of_a_run_that_is_driven_waits_for_it(tmp_path: Path):
    """`resume`, or `run(run_id=)`, of a run that this engine is driving waits for it."""

    async def go() -> list[Run]:
        started, release = asyncio.Event(), asyncio.Event()
        calls: list[str] = []

        async def slow() -> int:
            calls.append("slow")
            started.set()
            await release.wait()
            return 7

        made = tool(slow, effect="write", description="Wait.")
        source = plan(call("s", "slow"), output="${s}")
        async with Engine([made], store=tmp_path / "s.db") as engine:
            submitted = await engine.submit(source, run_id="r")
            assert submitted.id == "r"
            assert submitted.status in ("queued", "running")
            await started.wait()
            assert (await engine.get("r")).status == "running"
            assert (await engine.get("r")).steps["s"].status == "running"
            waiting = [
                asyncio.ensure_future(engine.resume("r")),
                asyncio.ensure_future(engine.run(source, run_id="r")),
                asyncio.ensure_future(engine.wait("r")),
            ]
            for _ in range(50):
                await asyncio.sleep(0)
            assert not any(each.done() for each in waiting)
            release.set()
            runs = list(await asyncio.gather(*waiting))
            assert calls == ["slow"]
            return runs

    assert [run.output for run in within(go())] == [7, 7, 7]


def test_submit_is_detached_and_wait_waits(tmp_path: Path):
    """`submit(..)`, `wait(run_id)`: the same, detached."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        submitted = engine.submit_sync(SUM, inputs={"a": 1})
        assert submitted.status in ("queued", "running", "succeeded")
        assert engine.wait_sync(submitted.id).output == 3
        assert engine.wait_sync(submitted.id).output == 3
        with pytest.raises(PlanRejected):
            engine.submit_sync(plan(call("s", "nothing")))
        with pytest.raises(InputRejected):
            engine.submit_sync(SUM, inputs={})


def test_events_are_the_journal_and_go_on_from_a_number(tmp_path: Path):
    """`events(run_id, after=0)`: an async iterator of events."""

    async def go() -> None:
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            run = await engine.run(SUM, inputs={"a": 1})
            events = [event async for event in engine.events(run.id)]
            assert len(events) >= 3
            seqs = [event.seq for event in events]
            assert seqs == list(range(1, len(events) + 1))
            later = [event.seq async for event in engine.events(run.id, after=seqs[0])]
            assert later == seqs[1:]
            assert [event async for event in engine.events(run.id, after=seqs[-1])] == []
            with pytest.raises(RunNotFound):
                _ = [event async for event in engine.events("none")]

    within(go())
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(SUM, inputs={"a": 1})
        assert len(list(engine.events_sync(run.id))) >= 3
        assert list(engine.events_sync(run.id, after=10_000)) == []


def test_an_engine_that_closes_parks_its_runs(tmp_path: Path):
    """`resume(run_id)`: go on after a crash, a pause."""

    async def go() -> Run:
        release = asyncio.Event()
        started = asyncio.Event()
        calls: list[int] = []

        async def slow(*, ctx: Context) -> int:
            calls.append(ctx.attempt)
            started.set()
            await release.wait()
            return 7

        made = tool(slow, effect="read", description="Wait.")
        async with Engine([made, add], store=tmp_path / "s.db") as engine:
            await engine.submit(
                plan(call("s", "slow"), call("t", "add", args={"a": "${s}"}), output="${t}"), run_id="r"
            )
            await started.wait()
        release.set()
        async with Engine([made, add], store=tmp_path / "s.db") as engine:
            assert (await engine.get("r")).status == "running"
            run = await engine.resume("r")
        assert len(calls) == 2
        return run

    assert within(go()).output == 8


def test_a_missing_tool_is_a_config_error_at_resume(tmp_path: Path):
    """`ConfigError`: the engine has not the run's tools."""

    @tool(effect="write", approval="always")
    def ask_first(x: int) -> int:
        """Write."""
        return x

    with Engine([ask_first], store=tmp_path / "s.db") as engine:
        engine.run_sync(plan(call("s", "ask_first", args={"x": 1})), run_id="r")
    with Engine([add], store=tmp_path / "s.db") as engine:
        assert engine.get_sync("r").status == "waiting"
        engine.approve_sync("r", "s", by="me")
        with pytest.raises(ConfigError, match="ask_first"):
            engine.resume_sync("r")


# --- budgets


def budgeted(
    folder: Path, budget: dict[str, Any], raised: dict[str, Any], *steps: dict[str, Any]
) -> tuple[Run, Run]:
    with Engine(TOOLS, store=folder / "s.db") as engine:
        first = engine.run_sync(plan(*steps, output="${s2}"), budget=budget, run_id="r", reuse="off")
        assert engine.resume_sync("r").status == first.status
        return first, engine.resume_sync("r", budget=raised)


def test_a_budget_of_steps(tmp_path: Path):
    """`budget`: steps; `over_budget`, then `resume(budget=)`."""
    first, second = budgeted(
        tmp_path,
        {"steps": 1},
        {"steps": 2},
        call("s1", "add", args={"a": 1}),
        call("s2", "add", args={"a": "${s1}"}),
        {"id": "s3", "set": "${s1}"},
    )
    assert first.status == "over_budget"
    assert first.output is None
    assert (first.steps["s1"].status, first.steps["s2"].status, first.steps["s3"].status) == (
        "succeeded",
        "waiting",
        "succeeded",
    )
    assert first.steps["s2"].reason == "budget"
    assert (second.status, second.output) == ("succeeded", 3)


def test_a_budget_of_model_calls(tmp_path: Path):
    """`budget`: model_calls."""
    first, second = budgeted(
        tmp_path,
        {"model_calls": 1},
        {"model_calls": 5},
        call("s1", "think", args={"x": 1}),
        call("s2", "think", args={"x": "${s1 + 1}"}),
        call("s4", "add", args={"a": 1}),
    )
    assert first.status == "over_budget"
    assert first.steps["s4"].status == "succeeded"
    assert (second.status, second.output) == ("succeeded", 2)


def test_a_budget_of_zero_lets_nothing_start(tmp_path: Path):
    """At the limit the run waits, it does not die."""
    first, second = budgeted(tmp_path, {"steps": 0}, {"steps": 10}, call("s2", "add", args={"a": 1}))
    assert first.status == "over_budget"
    assert first.steps["s2"].attempts == 0
    assert second.output == 2


def test_reused_steps_cost_nothing(tmp_path: Path):
    """Reused steps cost nothing."""
    steps = plan(call("s1", "add", args={"a": 1}), call("s2", "add", args={"a": "${s1}"}), output="${s2}")
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        engine.run_sync(steps)
        run = engine.run_sync(steps, budget={"steps": 0})
    assert (run.status, run.output) == ("succeeded", 3)


def test_a_budget_of_tokens_and_usd(tmp_path: Path):
    """`budget`: tokens, usd."""

    async def go() -> None:
        async with ScriptedModel(lambda _: "word " * 20) as model:
            models = {"default": {"name": "m", "base_url": model.base_url, "api_key": "k"}}
            ask = plan(
                {"id": "a", "ask": {"prompt": "One"}},
                {"id": "b", "ask": {"prompt": "Two ${a}"}},
                output="${b}",
            )
            async with Engine([], store=tmp_path / "s.db", models=models) as engine:
                run = await engine.run(ask, budget={"tokens": 1}, run_id="r")
                assert run.status == "over_budget"
                assert run.steps["a"].status == "succeeded"
                assert run.usage["tokens"] > 1
                done = await engine.resume("r", budget={"tokens": 10_000, "usd": 1000})
                assert done.status == "succeeded"
                assert len(model.requests) == 2

    within(go())


def test_a_budget_of_seconds(tmp_path: Path):
    """`budget`: seconds (waiting does not count)."""
    steps = plan(call("s", "add", args={"a": 1}), output="${s}")
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.run_sync(steps, budget={"seconds": 0}, run_id="r").status == "over_budget"
        assert engine.resume_sync("r", budget={"seconds": 60}).status == "succeeded"


@pytest.mark.parametrize(
    "budget", [{"step": 1}, {"steps": -1}, {"steps": "1"}, {"steps": True}, {"usd": float("inf")}]
)
def test_a_budget_that_is_none_is_rejected(budget: dict[str, Any], tmp_path: Path):
    """`budget`: any of `steps model_calls tokens usd seconds`."""
    with pytest.raises(InputRejected):
        once(TOOLS, SUM, tmp_path / "s.db", inputs={"a": 1}, budget=budget)


@pytest.mark.parametrize("options", [{"reuse": "maybe"}, {"max_concurrency": 0}])
def test_options_that_are_none_are_errors(options: dict[str, Any], tmp_path: Path):
    """`FirmplanError`s with a stable `.code`."""
    with pytest.raises(FirmplanError):
        once(TOOLS, SUM, tmp_path / "s.db", inputs={"a": 1}, **options)


# --- replay


def test_replay_calls_nothing_and_needs_no_tools(tmp_path: Path):
    """`replay`: strict, offline; returns a `Run`, stores nothing unless `keep`."""
    steps = plan(
        call("s", "add", args={"a": "${item}"}, for_each=[1, 2]),
        call("f", "fail", args={"x": 1}, on_error="skip"),
        call("w", "put", args={"x": 3}),
        output=["${s}", "${w}"],
    )
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(steps, run_id="r")
    with Engine([], store=tmp_path / "s.db") as engine:
        same = engine.replay_sync("r")
        assert isinstance(same, Run)
        assert (same.status, same.output, same.digest) == (run.status, run.output, run.digest)
        assert {path: step.output for path, step in same.steps.items()} == {
            path: step.output for path, step in run.steps.items()
        }
        assert len(engine.list_runs_sync().runs) == 1
        kept = engine.replay_sync("r", keep=True)
        assert kept.id != "r"
        assert kept.parent == "r"
        assert kept.digest == run.digest
        assert engine.get_sync(kept.id).output == run.output
        assert len(engine.list_runs_sync().runs) == 2


def test_replay_of_a_failed_run(tmp_path: Path):
    """Replay returns what happened in that run."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(plan(call("f", "fail", args={"x": 1}), call("g", "add", args={"a": "${f}"})))
        same = engine.replay_sync(run.id)
    assert (same.status, same.digest, same.errors) == (run.status, run.digest, run.errors)


def test_a_changed_journal_is_noticed(tmp_path: Path):
    """`Diverged` names the first differing step and field; a journal is hash-chained."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(SUM, inputs={"a": 1})
    with sqlite3.connect(tmp_path / "s.db") as db:
        lines = db.execute("SELECT first_seq, lines FROM journal ORDER BY first_seq").fetchall()
        for seq, text in lines:
            db.execute("UPDATE journal SET lines=? WHERE first_seq=?", (bytes(text).replace(b"3", b"4"), seq))
    db.close()
    with Engine(TOOLS, store=tmp_path / "s.db") as engine, pytest.raises((Diverged, StoreError)):
        engine.replay_sync(run.id)


# --- saved plans, lists


def test_plans_are_saved_by_name_and_digest(tmp_path: Path):
    """A saved plan by name or digest."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        saved = engine.save_plan_sync("sum", SUM)
        assert saved.name == "sum"
        found = engine.find_plan_sync("sum")
        assert found is not None
        assert found.digest == Plan.model_validate(SUM).digest
        assert engine.find_plan_sync(found.digest) == found
        assert engine.find_plan_sync("none") is None
        assert [each.name for each in engine.list_plans_sync()] == ["sum"]
        outer = plan({"id": "o", "plan": "sum", "args": {"a": 4}}, output="${o}")
        run = engine.run_sync(outer)
        assert run.output == 6
        engine.save_plan_sync("sum", {**SUM, "output": "${s * 100}"})
        assert engine.run_sync(outer).output == 600
        assert engine.replay_sync(run.id).output == 6
        by_digest = plan({"id": "o", "plan": found.digest, "args": {"a": 4}}, output="${o}")
        with pytest.raises(PlanRejected):
            engine.save_plan_sync("bad", plan(call("s", "nothing")))
        with pytest.raises(InputRejected):
            engine.save_plan_sync("a b", SUM)
        assert by_digest["steps"][0]["plan"].startswith("sha256:")


def test_runs_are_listed_newest_first_in_pages(tmp_path: Path):
    """Runs, newest first; `status=&limit=&cursor=`."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        made = [engine.run_sync(SUM, inputs={"a": n}).id for n in range(5)]
        failed = engine.run_sync(plan(call("f", "fail", args={"x": 1}))).id
        page = engine.list_runs_sync(limit=4)
        rest = engine.list_runs_sync(limit=4, cursor=page.cursor)
        assert [run.id for run in (*page.runs, *rest.runs)] == [failed, *reversed(made)]
        assert rest.cursor is None
        assert [run.id for run in engine.list_runs_sync(status="failed").runs] == [failed]
        with pytest.raises(InputRejected):
            engine.list_runs_sync(status="fine")


def test_check_plan_never_raises(tmp_path: Path):
    """`check` .. never raises for a bad plan: a `Plan`, a dict, or JSON or YAML text."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.check_plan_sync(SUM).ok
        assert engine.check_plan_sync(json.dumps(SUM)).ok
        assert engine.check_plan_sync("firmplan: 1\nsteps: []\n").ok
        assert not engine.check_plan_sync("{").ok
        assert not engine.check_plan_sync({"steps": 3}).ok


# --- tasks


GOOD = {
    "firmplan": 1,
    "task": "Add one to three",
    "steps": [call("s", "add", args={"a": 3})],
    "output": "${s}",
}


def planner_at(model: ScriptedModel, **options: Any) -> Any:
    return Planner(model="scripted", base_url=model.base_url, api_key="k", **options)


def test_a_text_given_to_run_is_a_task(tmp_path: Path):
    """A `str` given to `run` is a task; every response model accepts a plan in the format above as it is."""

    async def go() -> None:
        async with ScriptedModel([GOOD, GOOD]) as model:  # noqa: SIM117  # one thing a line
            async with Engine(TOOLS, store=tmp_path / "s.db", planner=planner_at(model)) as engine:
                made = await engine.plan("Add one to three")
                assert isinstance(made, Plan)
                run = await engine.run("Add one to three")
                assert (run.status, run.output) == ("succeeded", 4)
                assert run.plan is not None
                assert run.plan.steps
                assert (await engine.replay(run.id)).digest == run.digest

    within(go())


def test_a_bad_draft_is_repaired(tmp_path: Path):
    """A draft goes back with its problems, at most `max_repairs` times."""
    bad = {**GOOD, "steps": [call("s", "ad", args={"a": 3})]}

    async def go() -> None:
        async with ScriptedModel([bad, GOOD]) as model:
            async with Engine(TOOLS, store=tmp_path / "s.db", planner=planner_at(model)) as engine:
                assert (await engine.run("Add one to three")).output == 4
            assert len(model.requests) == 2
            assert "unknown-tool" in json.dumps(model.requests[1])

    within(go())


def test_planning_that_fails_carries_every_attempt(tmp_path: Path):
    """`PlanningFailed` carries every attempt and its problems."""
    bad = {**GOOD, "steps": [call("s", "ad", args={"a": 3})]}

    async def go() -> None:
        async with (
            ScriptedModel([bad] * 5) as model,
            Engine(TOOLS, store=tmp_path / "s.db", planner=planner_at(model, max_repairs=2)) as engine,
        ):
            with pytest.raises(PlanningFailed) as caught:
                await engine.plan("Add one to three")
            assert caught.value.code == "planning-failed"
            assert len(caught.value.attempts) == 3
            assert all(attempt.problems for attempt in caught.value.attempts)
            with pytest.raises(PlanningFailed):
                await engine.run("Add one to three", run_id="t")

    within(go())


def test_a_saved_plan_answers_without_a_model(tmp_path: Path):
    """A plan saved with a task pattern answers matching tasks, its typed inputs filled from the words."""
    pattern = {**SUM, "task": "Add {a} and {b}"}
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        engine.save_plan_sync("sum", pattern)
        run = engine.run_sync("Add 3 and 4")
        assert run.output == 7


def test_no_model_and_no_saved_plan_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With neither, the error names .. how to configure a model."""
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with (
        Engine(TOOLS, store=tmp_path / "s.db") as engine,
        pytest.raises(FirmplanError, match="FIRMPLAN_MODEL"),
    ):
        engine.run_sync("Add 3 and 4")


# --- whole programs

FORGETFUL = """
import sys
from firmplan import Engine, tool


@tool(effect="pure")
def add(a: int) -> int:
    '''Add.'''
    return a + 1


engine = Engine([add], store=sys.argv[1])
run = engine.run_sync({"firmplan": 1, "steps": [{"id": "s", "tool": "add", "args": {"a": 1}}], "output": "${s}"})
print(run.output)
"""


def test_a_program_that_forgets_to_close_its_engine_ends(tmp_path: Path):
    """`_sync` twins for programs without an event loop."""
    (tmp_path / "job.py").write_text(FORGETFUL)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "job.py"), str(tmp_path / "s.db")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_an_async_engine_may_be_used_without_a_with(tmp_path: Path):
    """`Engine(tools, ..)`: it opens at its first use."""

    async def go() -> Any:
        engine = Engine(TOOLS, store=tmp_path / "s.db")
        run = await engine.run(SUM, inputs={"a": 1})
        await engine.aclose()
        return run.output

    assert within(go()) == 3


def test_two_engines_share_a_store(tmp_path: Path):
    """A run is driven by one owner; others see it, wait for it and decide about it."""

    async def go() -> None:
        started, release = asyncio.Event(), asyncio.Event()
        calls: list[str] = []

        async def slow() -> int:
            calls.append("slow")
            started.set()
            await release.wait()
            return 7

        made = tool(slow, name="slow", effect="read", description="Wait.")
        source = plan(call("s", "slow"), output="${s}")
        async with (
            Engine([made, add], store=tmp_path / "s.db") as one,
            Engine([made, add], store=tmp_path / "s.db") as two,
        ):
            await one.submit(source, run_id="r")
            await started.wait()
            async for _ in one.events("r"):
                if (await two.get("r")).steps["s"].status == "running":
                    break
            waiting = asyncio.ensure_future(two.run(source, run_id="r"))
            resumed = asyncio.ensure_future(two.resume("r"))
            assert (await two.run(plan(call("t", "add", args={"a": 1}), output="${t}"))).output == 2
            release.set()
            assert (await waiting).output == 7
            assert (await resumed).output == 7
        assert calls == ["slow"]

    within(go())


def test_a_finished_run_is_left_as_it_is(tmp_path: Path):
    """`resume(run_id)`: go on; there is nothing to go on with."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(SUM, inputs={"a": 1})
        events = list(engine.events_sync(run.id))
        for again in (
            engine.resume_sync(run.id),
            engine.wait_sync(run.id),
            engine.get_sync(run.id),
            engine.cancel_sync(run.id),
            engine.resume_sync(run.id, budget={"steps": 0}),
        ):
            assert (again.digest, again.output, again.status) == (run.digest, 3, "succeeded")
        assert len(list(engine.events_sync(run.id))) == len(events)


def test_every_kind_of_run_replays(tmp_path: Path):
    """`replay`: every digest must match: after approvals, edits, retries, budgets, lost calls, cancels."""
    calls: list[int] = []

    @tool(effect="write", approval="always", resource="a")
    def ask_first(x: int) -> int:
        """Write."""
        return x * 10

    @tool(effect="write", resource="b")
    def lose(x: int) -> int:
        """Lose, the first time."""
        calls.append(x)
        if len(calls) == 1:
            raise OutcomeUnknown("?")
        return x

    @tool(effect="read", retries=2)
    def flaky(x: int, *, ctx: Context) -> str:
        """Fail, the first time."""
        if ctx.attempt == 1:
            raise ToolError("busy", temporary=True)
        return f"{ctx.now()} {ctx.uuid()} {ctx.random.random()}"

    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": [call("i", "ask_first", args={"x": "${inputs.n}"})],
        "output": "${i}",
    }
    source = plan(
        call("f", "flaky", args={"x": "${item}"}, for_each=[1, 2]),
        call("l", "lose", args={"x": 1}),
        {"id": "sub", "plan": "inner", "args": {"n": "${item}"}, "for_each": [1, 2]},
        call("bad", "fail", args={"x": 1}, on_error={"value": 5}),
        call("t", "add", args={"a": "${first(prev, 0)}"}, repeat={"until": "${t > 2}", "max": 5}),
        plans={"inner": inner},
        output=["${f}", "${l}", "${sub}", "${bad}", "${t}"],
    )
    with Engine([*TOOLS, ask_first, lose, flaky], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(source, run_id="r", budget={"steps": 2})
        runs = [run]
        engine.resume_sync("r", budget={"steps": 100})
        engine.resolve_sync("r", "l", done=3)
        run = engine.resume_sync("r")
        runs.append(run)
        engine.approve_sync("r", "sub[0]/i", by="me", edit={"x": 4})
        run = engine.resume_sync("r")
        assert run.status == "waiting"
        engine.approve_sync("r", "sub[1]/i", by="me")
        done = engine.resume_sync("r")
        done.raise_for_status()
        assert done.output[1:] == [3, [40, 20], 5, 3]
        cancelled = engine.run_sync(source, run_id="c")
        engine.cancel_sync("c")
        cancelled = engine.resume_sync("c")
        assert cancelled.status == "cancelled"
    with Engine([], store=tmp_path / "s.db") as engine:
        for run in (done, cancelled):
            same = engine.replay_sync(run.id)
            assert (same.digest, same.output, same.status) == (run.digest, run.output, run.status)
            assert {p: (s.status, s.output, s.reason, s.attempts) for p, s in same.steps.items()} == {
                p: (s.status, s.output, s.reason, s.attempts) for p, s in run.steps.items()
            }


def test_a_large_run(tmp_path: Path):
    """Default limits admit 200,000 steps: some thousands are no burden."""
    source = plan(
        *[call(f"s{n}", "add", args={"a": n}) for n in range(500)],
        call("many", "add", args={"a": "${item}"}, for_each="${range(3000)}"),
        output="${sum(many) + s499}",
    )
    run = once(TOOLS, source, tmp_path / "s.db")
    assert run.output == sum(range(1, 3001)) + 500


def test_the_name_of_a_plan_file_is_no_task(tmp_path: Path):
    """A task is words; a file's name is refused before anything is planned or stored."""
    with Engine([], store=tmp_path / "s.db") as engine:
        with pytest.raises(InputRejected, match=r"Plan\.load\('plan\.yaml'\)"):
            engine.run_sync("plan.yaml")
        assert engine.list_runs_sync().runs == ()


def test_a_store_made_between_releases_is_refused_at_once(tmp_path: Path):
    """A store of this format's number with other tables is refused when it is opened, with what to do."""
    with Engine([], store=tmp_path / "s.db") as engine:
        engine.list_runs_sync()
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        db.execute("DROP TABLE resources")
        db.commit()
    with pytest.raises(StoreError, match="between releases"), Engine([], store=tmp_path / "s.db"):
        pass


def test_an_engine_whose_loop_has_ended_says_so(tmp_path: Path):
    """Whether the loop was closed or only left: nobody waits for an answer that cannot come."""
    closed, left = Engine(TOOLS, store="memory:"), Engine(TOOLS, store="memory:")
    assert asyncio.run(closed.run(SUM, inputs={"a": 1})).output == 3
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(left.run(SUM, inputs={"a": 1})).output == 3
    for engine in (closed, left):
        with pytest.raises(ConfigError, match="event loop to which this engine belongs has ended"):
            engine.run_sync(SUM, inputs={"a": 1})
    loop.run_until_complete(left.aclose())
    loop.close()
    asyncio.run(closed.aclose())  # what it holds is let go of in any loop
    used = Engine(TOOLS, store=tmp_path / "s.db")
    events = used.events_sync(used.run_sync(SUM, inputs={"a": 1}).id)
    assert next(events).type == "RunStarted"
    used.close()
    with pytest.raises(ConfigError, match="has ended"):
        next(events)


def test_a_closed_engine_stays_closed(tmp_path: Path):
    """Used after it was closed, an engine says so, by every kind of method: it neither opens again nor loses runs unheard."""
    made = plan({"id": "a", "tool": "add", "args": {"a": 1}})
    for store in ("memory:", str(tmp_path / "runs.db")):
        engine = Engine([add], store=store)
        with engine:
            run = engine.run_sync(made)
        engine.close()
        for use in (
            lambda engine=engine: engine.run_sync(made),
            lambda engine=engine, run=run: engine.get_sync(run.id),
            lambda engine=engine, run=run: list(engine.events_sync(run.id)),
            engine.__enter__,
        ):
            with pytest.raises(ConfigError, match="this engine is closed") as caught:
                use()
            assert caught.value.code == "config-error"
    with Engine([add], store=str(tmp_path / "runs.db")) as again:
        assert again.get_sync(run.id).status == "succeeded"

    async def used_after_close():
        async with Engine([add], store="memory:") as engine:
            await engine.run(made)
        await engine.aclose()
        with pytest.raises(ConfigError, match="make another"):
            await engine.list_runs()

    asyncio.run(used_after_close())


def test_a_task_that_lacks_an_input_raises():
    """Words that a saved plan answers, without an input that it needs: raised, as for a plan, not a failed run that is returned."""
    made = {"firmplan": 1, "task": "Add {a}", "inputs": {"a": {"type": "integer"}}, "steps": [], "output": 1}
    with Engine([], store="memory:") as engine:
        engine.save_plan_sync("adder", made)
        with pytest.raises(InputRejected, match="the input 'a' is missing"):
            engine.run_sync("add {a}")


WRONG = {
    "budget that is none": ({"budget": 5}, InputRejected, "amounts by name"),
    "misspelt budget": (
        {"budget": {"step": 1}},
        InputRejected,
        r"seconds, found 'step'; did you mean 'steps'\?",
    ),
    "run_id of another type": ({"run_id": 5}, InputRejected, "run_id: expected text"),
    "concurrency as text": (
        {"max_concurrency": "3"},
        ConfigError,
        "an integer of at least 1, found the text '3'",
    ),
    "concurrency of none": (
        {"max_concurrency": 0},
        ConfigError,
        "an integer of at least 1, found the integer 0",
    ),
    "concurrency as truth": ({"max_concurrency": True}, ConfigError, "an integer of at least 1, found true"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_of_a_run_is_told(name: str):
    """Options of another type are refused as those of another value are: with what was expected and found."""
    options, error, message = WRONG[name]
    with Engine([add], store="memory:") as engine:
        with pytest.raises(error, match=message):
            engine.run_sync(plan({"id": "a", "set": 1}), **options)
        assert engine.list_runs_sync().runs == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": 5}, "store: expected a path"),
        (
            {"planner": "gpt-5-mini"},
            r"planner: expected a Planner, found 'gpt-5-mini'; write Planner\(model=..\)",
        ),
        ({"secrets": 5}, "secrets: expected secrets by name, found int"),
        ({"secrets": {"A": 5}}, "secrets: 'A': expected text, found int"),
        ({"secrets": {"A": b"hush"}}, "secrets: 'A': expected text, found bytes"),
        ({"secrets": {5: "hush"}}, "secrets: expected names that are text, found the integer 5"),
        ({"max_concurrency": "x"}, "an integer of at least 1, found the text 'x'"),
        ({"models": "qwen"}, "models: expected models by alias, found 'qwen'; write {\"default\": 'qwen'}"),
        ({"models": ["qwen"]}, "models: expected models by alias, found"),
        ({"recover": "no"}, "recover: expected True or False, found 'no'"),
        ({"webhooks": 5}, r"webhooks: expected a list of Webhook\(..\), found int"),
        ({"webhooks": "https://example.org"}, r"webhooks: expected a list of Webhook\(..\), found str"),
    ],
)
def test_a_wrong_setting_of_an_engine_is_told(options: dict[str, Any], message: str):
    """When the engine is made, not at its first use."""
    with pytest.raises(ConfigError, match=message):
        Engine([add], **options)


def test_the_path_of_a_plan_is_its_plan(tmp_path: Path):
    """Wherever a plan is taken; what the file lacks is told as for `Plan.load`, a check of it has the lines of the file."""
    file, bad, none = tmp_path / "plan.yaml", tmp_path / "bad.yaml", tmp_path / "none.yaml"
    file.write_text("firmplan: 1\nsteps: [{id: a, set: 1}]\noutput: ${a}\n")
    bad.write_text("firmplan: 1\nsteps:\n- {id: sum, set: 1}\noutput: ${b}\n")
    with Engine([], store="memory:") as engine:
        assert engine.run_sync(file).output == 1
        assert engine.save_plan_sync("mine", file).plan == Plan.load(file)
        assert [each.line for each in engine.check_plan_sync(bad).errors] == [3, 4]
        with pytest.raises(PlanRejected):
            engine.run_sync(bad)
        with pytest.raises(InputRejected, match=r"expected a plan file, found nothing at .*none.yaml"):
            engine.run_sync(none)


@pytest.mark.parametrize(
    ("given", "advice"),
    [(PlanBuilder("x"), r"PlanBuilder; build it first"), (add, "Tool; a plan has steps that")],
)
def test_what_is_no_plan_is_told_with_what_to_do(given: Any, advice: str):
    with Engine([add], store="memory:") as engine, pytest.raises(InputRejected, match=advice):
        engine.run_sync(given)


def test_a_plan_that_was_saved_anew_stays_by_its_digest(tmp_path: Path):
    """A digest means one plan for ever: a name may move on, and plans that run it by digest still run that one."""
    first, second = (plan({"id": "a", "set": number}, output="${a}") for number in (1, 2))
    with Engine([], store=tmp_path / "s.db") as engine:
        digest = engine.save_plan_sync("mine", first).plan.digest
        by_digest = plan({"id": "o", "plan": digest}, output="${o}")
        assert engine.run_sync(by_digest).output == 1
        engine.save_plan_sync("mine", second)
        engine.save_plan_sync("mine", second)
        assert engine.run_sync(plan({"id": "o", "plan": "mine"}, output="${o}")).output == 2
        assert engine.run_sync(by_digest).output == 1
        assert [saved.name for saved in engine.list_plans_sync()] == ["mine"]
