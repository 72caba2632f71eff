"""Contract, 3: what can be done with a run that was: fork, diff, explain, verify, export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from firmplan import Engine, FirmplanError, InputRejected, PlanRejected, RunNotFound, ToolError, tool
from public import call, plan

WORLD = {"n": 1}


@tool(effect="pure")
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool(effect="read")
def look(x: int) -> int:
    """Look."""
    return x + WORLD["n"]


@tool(effect="write", resource="mail")
def send(x: int) -> str:
    """Send."""
    SENT.append(x)
    return f"sent {x}"


SENT: list[int] = []
TOOLS = [add, look, send]
PLAN = plan(
    call("seen", "look", args={"x": "${inputs.n}"}),
    call("left", "add", args={"a": "${seen}"}),
    call("right", "add", args={"a": "${inputs.m}", "b": 10}),
    call("mail", "send", args={"x": "${left}"}),
    inputs={"n": {"type": "integer"}, "m": {"type": "integer", "default": 5}},
    output=["${left}", "${right}", "${mail}"],
)


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    SENT.clear()
    WORLD["n"] = 1
    with Engine(TOOLS, store=tmp_path / "s.db") as opened:
        opened.run_sync(PLAN, inputs={"n": 1}, run_id="parent")
        yield opened


def test_a_fork_takes_what_is_unaffected_from_the_parents_journal(engine: Engine):
    """`fork`: a new run; what is unaffected comes from the parent's journal."""
    WORLD["n"] = 100
    run = engine.fork_sync("parent", inputs={"m": 7})
    assert run.id != "parent"
    assert run.parent == "parent"
    assert run.status == "succeeded"
    assert run.output == [3, 17, "sent 3"]
    assert SENT == [3]
    assert dict(run.inputs) == {"n": 1, "m": 7}
    assert engine.get_sync("parent").output == [3, 15, "sent 3"]
    assert engine.replay_sync(run.id).digest == run.digest


def test_without_allow_writes_every_write_in_the_cone_waits(engine: Engine):
    """Without `allow_writes` every write in the affected cone waits for approval."""
    run = engine.fork_sync("parent", inputs={"n": 5})
    assert run.status == "waiting"
    assert run.steps["mail"].status == "waiting"
    assert run.steps["left"].output == 7
    engine.approve_sync(run.id, "mail", by="me")
    run = engine.resume_sync(run.id)
    assert run.output == [7, 15, "sent 7"]
    assert SENT == [3, 7]
    free = engine.fork_sync("parent", inputs={"n": 6}, allow_writes=True)
    assert free.output == [8, 15, "sent 8"]


def test_a_fork_at_a_step_runs_it_again(engine: Engine):
    """`fork(run_id, *, at=None)`."""
    WORLD["n"] = 3
    run = engine.fork_sync("parent", at="seen", allow_writes=True)
    assert run.output == [5, 15, "sent 5"]


def test_a_fork_may_set_a_value(engine: Engine):
    """`fork(run_id, *, set=None)`."""
    run = engine.fork_sync("parent", set={"seen": 50}, allow_writes=True)
    assert run.output == [51, 15, "sent 51"]
    with pytest.raises(InputRejected):
        engine.fork_sync("parent", set={"seen": "text"})
    with pytest.raises(InputRejected):
        engine.fork_sync("parent", set={"nothing": 1})


def test_a_fork_may_edit_the_plan(engine: Engine):
    """`fork(run_id, *, plan=None)`: `plan=` takes a `Plan` or a dict."""
    edited = {
        **PLAN,
        "steps": [
            *PLAN["steps"][:2],
            call("right", "add", args={"a": "${inputs.m}", "b": 20}),
            PLAN["steps"][3],
        ],
    }
    run = engine.fork_sync("parent", plan=edited)
    assert run.output == [3, 25, "sent 3"]
    assert SENT == [3]
    with pytest.raises(PlanRejected):
        engine.fork_sync("parent", plan=plan(call("s", "nothing")))
    with pytest.raises(RunNotFound):
        engine.fork_sync("none")


def test_a_diff_is_by_step_path(engine: Engine):
    """`diff(a, b)`: by step path: same, changed, only in one; plan, inputs, outputs, cost, time, why."""
    edited = {**PLAN, "steps": [*PLAN["steps"], call("more", "add", args={"a": 1})]}
    other = engine.run_sync(edited, inputs={"n": 2})
    found = engine.diff_sync("parent", other.id)
    assert found
    assert {step.step: step.change for step in found.steps} == {
        "seen": "changed",
        "left": "changed",
        "right": "same",
        "mail": "changed",
        "more": "only_b",
    }
    assert next(step for step in found.steps if step.step == "left").why
    assert found.inputs
    assert found.output
    assert found.plan
    assert "left" in str(found)
    assert not engine.diff_sync("parent", "parent")


def test_explain_says_why_in_a_sentence(engine: Engine):
    """`explain(run_id, step)`: why it ran or was reused: which key part changed; `str()` is a sentence."""
    other = engine.run_sync(PLAN, inputs={"n": 2}, run_id="other")
    assert other.steps["right"].reused is True
    assert "reused" in str(engine.explain_sync("other", "right"))
    left = str(engine.explain_sync("other", "left"))
    assert "args.a" in left
    assert "2" in left
    assert "3" in left
    assert "write" in str(engine.explain_sync("other", "mail"))
    for sentence in (engine.explain_sync("other", step) for step in other.steps):
        assert str(sentence).strip()
    with pytest.raises(FirmplanError):
        engine.explain_sync("other", "nothing")


def test_verify_calls_pure_steps_again(engine: Engine):
    """`verify(run_id)`: calls pure steps again and compares: which tools are not deterministic?"""
    assert engine.verify_sync("parent").ok
    assert SENT == [3]
    assert WORLD["n"] == 1


def test_verify_names_a_tool_that_is_not_deterministic(tmp_path: Path):
    """`verify(run_id)`: which tools are not deterministic?"""
    values = iter(range(100))

    @tool(effect="pure", version="1")
    def drift(x: int) -> int:
        """Drift."""
        return next(values)

    source = plan(call("d", "drift", args={"x": 1}), call("a", "add", args={"a": "${d}"}))
    with Engine([*TOOLS, drift], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(source)
        found = engine.verify_sync(run.id)
    assert not found.ok
    assert "drift" in str(found)


def test_a_bundle_replays_on_another_machine_without_the_tools(engine: Engine, tmp_path: Path):
    """`export(run_id, path)`; `replay(path)`: one portable file that replays on another machine without the tools."""
    made = engine.export_sync("parent", tmp_path / "run.bundle")
    assert Path(made).is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(str(made), elsewhere / "moved")
    run = engine.get_sync("parent")
    with Engine([], store=elsewhere / "t.db") as other:
        same = other.replay_sync(str(elsewhere / "moved"))
        assert (same.digest, same.output, same.status) == (run.digest, run.output, "succeeded")
        assert other.list_runs_sync().runs == ()
        kept = other.replay_sync(elsewhere / "moved", keep=True)
        assert other.get_sync(kept.id).digest == run.digest
        with pytest.raises(RunNotFound):
            other.replay_sync("no-such-run")


def test_a_changed_bundle_is_noticed(engine: Engine, tmp_path: Path):
    """`replay`: strict."""
    made = Path(engine.export_sync("parent", tmp_path / "run.bundle"))
    data = bytearray(made.read_bytes())
    data[len(data) // 2] ^= 1
    made.write_bytes(bytes(data))
    with pytest.raises(FirmplanError):
        engine.replay_sync(made)


def test_a_failed_run_forks_from_its_failure(tmp_path: Path):
    """`fork(run_id, at=)`: after a repair, what is unaffected comes from the parent's journal."""
    broken, calls = [True], list[str]()

    @tool(effect="read")
    def fetch(x: int) -> int:
        """Fetch."""
        calls.append("fetch")
        return x

    @tool(effect="read")
    def parse(x: int) -> int:
        """Parse."""
        calls.append("parse")
        if broken[0]:
            raise ToolError("cannot")
        return x * 2

    source = plan(call("f", "fetch", args={"x": 4}), call("p", "parse", args={"x": "${f}"}), output="${p}")
    with Engine([fetch, parse], store=tmp_path / "s.db") as engine:
        assert engine.run_sync(source, run_id="r").status == "failed"
        broken[0] = False
        run = engine.fork_sync("r", at="p")
        assert (run.status, run.output) == ("succeeded", 8)
        assert calls == ["fetch", "parse", "parse"]
