"""The machine alone, about plans inside plans and agents, and how a run ends."""

from __future__ import annotations

import pytest
from driven import ONE, TAKES_N, Driven, step, tool
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import (
    ApprovalAsked,
    Approved,
    CallFailed,
    CallStarted,
    CallSucceeded,
    CancelAsked,
    Denied,
    RetryDue,
    RunFinished,
    RunStarted,
)
from firmplan.executor.states import State
from firmplan.tools import Toolset

# --- a plan inside a plan, and the end of the whole


@pytest.mark.parametrize(
    ("event", "output", "ends"),
    [
        (CallSucceeded("a/i", ONE), "${i + 1}", ["succeeded", "succeeded"]),
        (CallSucceeded("a/i", ONE), "${1 // (i - 1)}", ["failed", "skipped:dependency-failed"]),
        (CallFailed("a/i", "down", ".."), "${2}", ["failed", "skipped:dependency-failed"]),
        (Denied("a/i", "me", "no"), "${2}", ["cancelled:denied", "cancelled:denied"]),
        (CancelAsked("me"), "${2}", ["cancelled:cancelled", "cancelled:cancelled"]),
    ],
    ids=["well", "output", "failed", "denied", "cancelled"],
)
def test_a_step_that_runs_a_plan_ends_as_that_plan_ends(event, output, ends):
    """Also where a plan whose step failed has an output that does not need it; what refers to the step ends accordingly."""
    steps = [step("i", "pay" if isinstance(event, CallSucceeded | CallFailed) else "ask")]
    plan = {"plans": {"inner": {"steps": steps, "output": output}}}
    run = Driven({"id": "a", "plan": "inner"}, {"id": "b", "set": "${a}"}, plan=plan)
    run.take(RunStarted("h"))
    if not isinstance(event, Denied | CancelAsked):
        run.begin("a/i")
    run.take(event)
    nodes = run.machine.root.nodes
    assert [":".join(filter(None, (node.state, node.reason))) for node in nodes] == ends
    if output != "${2}" and ends[0] == "failed":
        assert nodes[0].failure.code == "division-by-zero"


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize(
    ("event", "output", "ends"),
    [
        (CallSucceeded("a", ONE), "${a + 1}", ("succeeded", "succeeded")),
        (CallSucceeded("a", ONE), "${1 // (a - 1)}", ("failed", "failed")),
        (CallFailed("a", "down", ".."), "${2}", ("failed", "failed")),
        (Denied("a", "me", "no"), "${2}", ("failed", "cancelled")),
    ],
    ids=["well", "output", "failed", "denied"],
)
def test_a_run_ends_as_its_steps_and_its_output_do(event, output, ends, is_cancelled):
    """A cancel that came too late to end any step changes nothing."""
    run = Driven(step("a", "ask" if isinstance(event, Denied) else "pay"), plan={"output": output})
    run.take(RunStarted("h"))
    if not isinstance(event, Denied):
        run.begin("a")
    if is_cancelled:
        run.take(CancelAsked("me"))
    if run.machine.status is None:
        run.take(event)
    assert run.machine.status == ends[is_cancelled]
    assert run.records[-1] == RunFinished(run.machine.status, run.machine.digest)
    assert run.machine.digest.startswith("sha256:")
    assert (run.machine.output is not None) == (run.machine.status == "succeeded")
    assert (run.machine.failure is not None) == (output.startswith("${1"))


def test_a_plan_is_not_begun_with_arguments_that_do_not_fit():
    inner = {"inputs": {"x": {"type": "integer"}}, "steps": [step("i", "pay")], "output": "${i}"}
    plan = {"plans": {"inner": inner}, "inputs": {"n": {}}}
    for value, state in (1, State.RUNNING), ("one", State.FAILED):
        run = Driven(
            {"id": "a", "plan": "inner", "args": {"x": "${inputs.n}"}}, inputs={"n": value}, plan=plan
        )
        assert run.take(RunStarted("h")) == (["a/i"] if state is State.RUNNING else [])
        assert run.state("a") is state
        assert (run.machine.iterations["a"].failure is not None) == (state is State.FAILED)


def test_after_a_cancel_a_plan_is_not_begun_again():
    """The write in it that was in flight ends, and with it the iteration; a write that waited in it is given up."""
    steps = [step("i", "pay"), step("j", "note", x="${i}"), {"id": "k", "set": 1}]
    plan = {"plans": {"inner": {"steps": steps, "output": "${k}"}}}
    run = Driven({"id": "a", "plan": "inner", "repeat": {"until": "${a == 2}", "max": 3}}, plan=plan)
    assert run.take(RunStarted("h")) == ["a#0/i"]
    run.begin("a#0/i")
    assert run.take(CancelAsked("me")) == []
    inner = run.machine.iterations["a#0"].frames[0].nodes
    assert [node.state for node in inner] == [State.RUNNING, State.CANCELLED, State.SUCCEEDED]
    assert run.end("a#0/i") == []
    assert sorted(run.machine.iterations) == ["a#0", "a#0/i", "a#0/k"]
    assert run.machine.status == "cancelled"


def test_after_a_cancel_an_iteration_that_has_ended_is_the_last():
    plan = {"plans": {"inner": {"steps": [step("i", "pay")], "output": "${i}"}}}
    run = Driven({"id": "a", "plan": "inner", "repeat": {"until": "${a == 2}", "max": 3}}, plan=plan)
    run.take(RunStarted("h"))
    run.begin("a#0/i")
    run.take(CancelAsked("me"))
    assert run.end("a#0/i") == []
    assert sorted(run.machine.iterations) == ["a#0", "a#0/i", "a#1"]
    assert [run.state(f"a#{n}") for n in range(2)] == [State.SUCCEEDED, State.CANCELLED]
    assert run.machine.status == "cancelled"


# --- an agent


def agent(*tools, **keys):
    returns = {"type": "integer"}
    keys = {"goal": "count", **keys}
    return {"id": "r", "agent": {"tools": list(tools), "returns": returns, **keys}}


def chosen(name, x=1):
    return CanonicalValue.of({"reasoning": "..", "call": {"tool": name, "args": {"x": x}}})


ANSWER = CanonicalValue.of({"reasoning": "..", "answer": 4})


def test_an_agent_thinks_and_calls_in_turn_until_it_answers():
    """Its calls are treated as those of any step: here a person is asked, and a refusal ends the agent."""
    for is_denied in False, True:
        run = Driven(agent("ask"), step("w", "pay"), step("s", "add", x="${r}"))
        assert run.take(RunStarted("h")) == ["r/think0"]
        run.begin("r/think0")
        assert run.take(CallSucceeded("r/think0", chosen("ask"))) == []
        assert run.records == [ApprovalAsked("r/act0", CanonicalValue.of({"x": 1}))]
        assert run.state("r") is State.RUNNING
        if is_denied:
            run.take(Denied("r/act0", "me", "no"))
            assert [(node.state, node.reason) for node in run.machine.root.nodes] == [
                (State.CANCELLED, "denied"),
                (State.SKIPPED, "blocked"),
                (State.CANCELLED, "denied"),
            ]
            continue
        assert run.take(Approved("r/act0", "me", CanonicalValue.of({"x": 1}).digest)) == ["r/act0"]
        run.begin("r/act0")
        assert run.end("r/act0") == ["r/think1"]
        run.begin("r/think1")
        assert run.take(CallSucceeded("r/think1", ANSWER)) == ["w", "s"]
        assert run.machine.root.nodes[0].output.value == 4


def test_an_agent_that_is_cancelled_thinks_no_further():
    """The write that it has begun ends, and nothing comes of that."""
    run = Driven(agent("pay"))
    run.take(RunStarted("h"))
    run.begin("r/think0")
    assert run.take(CallSucceeded("r/think0", chosen("pay"))) == ["r/act0"]
    run.begin("r/act0")
    assert run.take(CancelAsked("me")) == []
    assert run.machine.status is None
    assert run.end("r/act0") == []
    assert (run.state("r"), run.machine.status) == (State.CANCELLED, "cancelled")


def test_an_agent_without_a_goal_asks_nobody():
    run = Driven(agent("look", goal="${inputs.n}"), inputs={"n": 5}, plan=TAKES_N)
    assert run.take(RunStarted("h")) == []
    assert run.machine.iterations["r"].failure.code == "type-error"
    assert run.machine.status == "failed"


def test_an_agent_that_gives_neither_call_nor_answer_is_asked_again():
    """Each thought counts, so this ends at its limit."""
    run = Driven(agent("look", max_steps=2))
    run.take(RunStarted("h"))
    run.begin("r/think0")
    neither = CanonicalValue.of({"reasoning": ".."})
    assert run.take(CallSucceeded("r/think0", neither)) == ["r/think1"]
    run.begin("r/think1")
    assert run.take(CallSucceeded("r/think1", neither)) == []
    assert run.machine.iterations["r"].failure.code == "agent-exhausted"
    assert run.machine.status == "failed"


def test_an_agent_whose_thought_fails_has_failed():
    run = Driven(agent("look"), step("s", "add", x="${r}"))
    run.take(RunStarted("h"))
    run.begin("r/think0")
    assert run.take(CallFailed("r/think0", "down", "..")) == []
    assert [node.state for node in run.machine.root.nodes] == [State.FAILED, State.SKIPPED]
    assert run.machine.status == "failed"


@pytest.mark.parametrize(
    ("budget", "is_spent"),
    [
        ({"seconds": 6}, True),
        ({"seconds": 6.5}, False),
        ({"tokens": 35}, True),
        ({"tokens": 36}, False),
        ({"model_calls": 3}, True),
        ({"model_calls": 4}, False),
        ({"steps": 1}, True),
        ({"steps": 2}, False),
    ],
    ids=str,
)
def test_what_an_agent_uses_counts_every_attempt_of_its_calls(budget, is_spent):
    """From the first start to the end, with the pause between them, and what a failed attempt took."""
    tools = Toolset([tool("muse", "model", retries=1)])
    run = Driven(agent("muse", budget=budget), tools=tools)
    run.take(RunStarted("h"), 9.0)
    run.begin("r/think0", 10.0)
    run.take(CallSucceeded("r/think0", chosen("muse"), usage={"calls": 1, "tokens": 5}), 11.0)
    run.begin("r/act0", 11.0)
    run.take(CallFailed("r/act0", "down", "..", retryable=True, usage={"calls": 1, "tokens": 10}), 12.0)
    assert run.take(RetryDue("r/act0"), 14.0) == ["r/act0"]
    run.take(CallStarted("r/act0", 2, ""), 14.0)
    asked = run.take(CallSucceeded("r/act0", ONE, usage={"calls": 1, "tokens": 20}), 16.0)
    assert asked == ([] if is_spent else ["r/think1"])
    assert run.machine.status == ("failed" if is_spent else None)
