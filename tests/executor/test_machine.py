"""The machine alone, event by event: when time counts, in which order calls come, what a person's word and a cancel let through."""

from __future__ import annotations

from itertools import permutations

import pytest
from driven import ONE, TAKES_N, TOOLS, Driven, step, tool
from firmplan.errors import EngineBug
from firmplan.executor import Header, ToolsetLock
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import Pause, Record, RuleApproval, StartModelCall, StartToolCall, StopCall
from firmplan.executor.events import (
    ApprovalAsked,
    ApprovalRuled,
    ApprovalVoided,
    Approved,
    BudgetRaised,
    BudgetReached,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    CancelAsked,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RetryDue,
    RetryScheduled,
    RunFinished,
    RunParked,
    RunResumed,
    RunStarted,
    StepFailed,
    StepIndeterminate,
    StepSkipped,
    StepSucceeded,
)
from firmplan.executor.execution_tree import PersonDecision
from firmplan.executor.fork import Fork, PastWrite
from firmplan.executor.journal.header import build_machine
from firmplan.executor.machine import LOST_RETRIES_MAX
from firmplan.executor.states import State
from firmplan.tools import Toolset
from rig import plan_of

# --- what is counted


def test_time_counts_while_calls_are_ready_or_running():
    """Not before the run, nor while it waits for a person or is parked, nor between two lives of it; a clock that goes back counts nothing."""
    run = Driven(step("a", "look"), step("b", "ask"))
    assert run.take(RunStarted("h"), 10.0) == ["a"]
    assert run.spent["seconds"] == 0
    run.begin("a", 11.0)
    assert run.spent["seconds"] == 1
    run.end("a", 15.0)
    assert run.spent["seconds"] == 5
    run.take(RunResumed("me"), 20.0)
    assert run.spent["seconds"] == 5
    run.take(Approved("b", "me", run.machine.iterations["b"].call.digest), 30.0)
    assert run.spent["seconds"] == 5
    run.begin("b", 32.0)
    assert run.spent["seconds"] == 7
    run.take(RunResumed("me"), 40.0)
    assert run.spent["seconds"] == 7
    run = Driven(step("a", "look"))
    run.take(RunStarted("h"), 10.0)
    run.take(RunParked(3, []), 11.0)
    assert run.spent["seconds"] == 1
    run.take(BudgetRaised({"steps": 9}), 50.0)
    assert run.spent["seconds"] == 1
    run.take(RunResumed("me"), 60.0)
    run.begin("a", 59.0)
    assert run.spent["seconds"] == 1
    run.end("a", 61.0)
    assert run.spent["seconds"] == 3


def test_a_budget_of_seconds_ends_when_it_is_used_up_and_not_before():
    """Time that has passed since the last event counts as well, and time that went back does not."""
    run = Driven(step("a", "look"), step("b", "look", x="${a}"), budget={"seconds": 5})
    run.take(RunStarted("h"), 10.0)
    assert run.machine.find_short("a", 14.9) is None
    assert run.machine.find_short("a", 15.0) == "seconds"
    assert run.machine.find_short("a", 3.0) is None
    run.begin("a", 10.0)
    assert run.end("a", 14.0) == ["b"]
    assert run.machine.find_short("b", 14.0) is None
    assert run.machine.find_short("b", 14.9) is None
    assert run.machine.find_short("b", 15.0) == "seconds"
    run.begin("b", 15.0)
    assert run.machine.find_short("b", 14.0) == "seconds"
    assert Driven(step("a", "look")).machine.find_short("a", 99.0) is None


def test_each_call_is_one_step_however_often_it_is_tried():
    """Whether it waited or not; one that a death cut off is paid for once more."""
    run = Driven(step("a", "add"), step("b", "look"), step("c", "again"), budget={"steps": 4})
    assert run.take(RunStarted("h")) == ["a", "b", "c"]
    run.take(CallMade("a", 1, "", ONE, 0.0))
    assert run.spent["steps"] == 1
    run.begin("b")
    assert run.spent["steps"] == 2
    run.take(CallFailed("b", "down", "..", retryable=True))
    assert [each.step for each in run.asked if isinstance(each, Pause)] == ["b"]
    assert run.take(RetryDue("b")) == ["b"]
    run.take(CallStarted("b", 2, ""))
    assert run.spent["steps"] == 2
    run.begin("c")
    assert run.spent["steps"] == 3
    run.end("b")
    assert run.take(RunResumed("me", died=True)) == []
    run.take(RetryDue("c"))
    assert run.machine.find_short("c", 0.0) is None
    run.take(CallStarted("c", 2, ""))
    assert run.spent["steps"] == 4
    run.take(RunResumed("me"))
    run.take(RetryDue("c"))
    run.take(CallStarted("c", 3, ""))
    assert run.spent["steps"] == 4


def test_what_waits_for_a_budget_is_tried_again_once_that_is_raised():
    run = Driven(step("a", "look"), step("b", "ask"), budget={"steps": 1})
    run.take(RunStarted("h"))
    run.take(BudgetReached("a", "steps"))
    assert run.state("a") is State.WAITING
    assert run.machine.is_stuck()
    assert run.take(BudgetRaised({"steps": 2})) == ["a"]
    assert run.state("a") is State.READY
    assert run.machine.iterations["a"].reason is None
    assert run.machine.budget.limits == {"steps": 2.0}


def test_a_raised_budget_calls_nothing_that_waits_for_a_person():
    run = Driven(step("a", "note"), step("b", "ask"), budget={"steps": 0})
    assert run.take(RunStarted("h")) == ["a"]
    run.take(BudgetReached("a", "steps"))
    assert (run.state("a"), run.state("b")) == (State.WAITING, State.WAITING)
    assert run.take(BudgetRaised({"steps": 2})) == ["a"]
    assert (run.state("a"), run.state("b")) == (State.READY, State.WAITING)


def test_what_a_lost_call_of_a_model_set_aside_is_free_again():
    """That the model was asked counts all the same."""
    run = Driven(step("a", "muse"), step("b", "muse"), tools=Toolset([tool("muse", "model")]))
    run.take(RunStarted("h"))
    run.begin("a")
    run.take(CallSucceeded("a", ONE, usage={"calls": 1, "tokens": 70}))
    run.begin("b")
    assert (run.spent["model_calls"], run.spent["tokens"]) == (2, 140)
    run.take(CallLost("b", "gone"))
    assert (run.spent["model_calls"], run.spent["tokens"]) == (2, 70)


@pytest.mark.parametrize(("tokens", "short"), [(99, None), (100, "tokens"), (101, "tokens")])
def test_what_the_planning_of_a_run_has_used_is_part_of_what_its_calls_may_use(tokens, short):
    cost = {"model_calls": 1, "tokens": tokens, "usd": 0.0, "seconds": 2.5}
    planning = {"source": "model", "cost": cost}
    tools = Toolset([tool("muse", "model")])
    run = Driven(step("a", "muse"), tools=tools, planning=planning, budget={"tokens": 100})
    assert run.take(RunStarted("h")) == ["a"]
    assert run.spent == {"steps": 0, "calls": 0, "items": 0, **cost}
    assert run.machine.find_short("a", 0.0) == short


def test_when_a_step_began_and_ended_is_kept():
    """With its first attempt; of an earlier result that stands for the call, when it was found."""
    inner = {"steps": [step("i", "look")], "output": "${i}"}
    run = Driven({"id": "p", "plan": "inner"}, step("r", "add"), plan={"plans": {"inner": inner}})
    assert run.take(RunStarted("h"), 10.0) == ["p/i", "r"]
    run.take(CallReused("r", "", ONE, "key", "other"), 11.0)
    run.begin("p/i", 12.0)
    run.take(CallFailed("p/i", "down", "..", retryable=True), 13.0)
    run.take(RetryDue("p/i"), 14.0)
    run.take(CallStarted("p/i", 2, ""), 15.0)
    run.end("p/i", 16.0)
    times = {
        path: (iteration.started, iteration.finished) for path, iteration in run.machine.iterations.items()
    }
    assert times == {"p": (10.0, 16.0), "r": (11.0, 11.0), "p/i": (12.0, 16.0)}


def test_the_bytes_of_all_results_are_added_up():
    """`limits.py` ends a run that has too many."""
    run = Driven(step("a", "look"), {"id": "b", "set": "four"}, step("c", "look"))
    run.take(RunStarted("h"))
    size = run.machine.size
    assert size == len(b'"four"')
    run.begin("a")
    run.end("a")
    assert run.machine.size == size + 1
    run.begin("c")
    run.end("c")
    assert run.machine.size == size + 2


# --- order


def test_calls_that_one_event_frees_come_in_the_order_of_the_plan():
    """Whatever freed them: a result that they need, or a resource that is free."""
    run = Driven(step("w", "pay"), step("p", "pay"), step("d", "note", x="${w}"), step("e", "add", x="${w}"))
    assert run.take(RunStarted("h")) == ["w"]
    run.begin("w")
    assert run.end("w") == ["p", "d", "e"]
    run = Driven(step("w", "pay"), step("p", "pay"), step("d", "note", x="${w}"))
    assert run.take(RunStarted("h")) == ["w"]
    run.begin("w")
    assert run.end("w") == ["p", "d"]


def test_an_event_that_is_not_possible_is_refused():
    """A call that was not asked for, that has not begun, or that has ended."""
    run = Driven(step("a", "look"))
    run.take(RunStarted("h"))
    for event in (CallSucceeded("a", ONE), CallLost("a", "gone")):
        with pytest.raises(EngineBug):
            run.take(event)
    with pytest.raises(EngineBug):
        run.begin("b")
    run.take(CallMade("a", 1, "", ONE, 0.0))
    for event in (CallMade("a", 1, "", ONE, 0.0), CallStarted("a", 1, ""), CallSucceeded("a", ONE)):
        with pytest.raises(EngineBug):
            run.take(event)
    run = Driven(step("a", "pay"))
    run.take(RunStarted("h"))
    run.begin("a")
    for state, end in (State.RUNNING, CallLost("a", "gone")), (State.INDETERMINATE, ResolvedRetry("a")):
        assert run.state("a") is state
        for event in CallMade("a", 1, "", ONE, 0.0), StepIndeterminate("a", ".."):
            with pytest.raises(EngineBug):
                run.take(event)
        run.take(end)


def test_only_a_call_that_is_under_way_counts_as_running():
    """What comes of a call that was given up is not noted any more; nor does a step that never started have one."""
    run = Driven(step("a", "look"), step("b", "pay"))
    run.take(RunStarted("h"))
    is_running = run.machine.is_running
    assert not is_running("a")
    run.begin("a")
    assert is_running("a")
    assert not is_running("b")
    run.take(CancelAsked("me"))
    assert not is_running("a")


def test_a_plan_without_steps_ends():
    """Of a run, and inside another plan."""
    run = Driven(
        {"id": "a", "plan": "none"},
        plan={"plans": {"none": {"steps": [], "output": "${2}"}}, "output": "${a}"},
    )
    run.take(RunStarted("h"))
    assert (run.machine.status, run.machine.output.value) == ("succeeded", 2)
    run = Driven()
    run.take(RunStarted("h"))
    assert run.machine.status == "succeeded"


def test_a_step_is_repeated_until_its_condition_holds_and_not_more_often_than_it_may_be():
    """Each iteration after the one before; the last one that may be and fails the condition fails the step."""
    for returns, calls, status in ([1, 2], 2, "succeeded"), ([1, 1, 1], 3, "failed"), ([2], 1, "succeeded"):
        run = Driven(step("a", "pay", repeat={"until": "${a == 2}", "max": 3}), step("b", "note", x="${a}"))
        asked = run.take(RunStarted("h"))
        for number, value in enumerate(returns):
            assert asked == [f"a#{number}"]
            run.begin(asked[0])
            asked = run.take(CallSucceeded(asked[0], CanonicalValue.of(value)))
        assert (asked, number + 1) == (["b"] if status == "succeeded" else [], calls)
        if asked:
            run.begin("b")
            run.end("b")
        assert run.machine.status == status


def test_a_call_has_its_number_its_limit_of_time_and_whether_the_tool_is_asked_first():
    """The step's own limit goes before the tool's; only after an unknown outcome is a tool asked what became of the call."""
    run = Driven(step("a", "found"), step("b", "add", timeout=2), step("c", "add"))
    run.take(RunStarted("h"))

    def told():
        return [
            (each.step, each.attempt, each.timeout_s, each.reconcile)
            for each in run.asked
            if isinstance(each, StartToolCall)
        ]

    limit = told()[2][2]
    assert told() == [("a", 1, 7.0, False), ("b", 1, 2.0, False), ("c", 1, limit, False)]
    assert limit != 2.0
    run.begin("a")
    run.take(CallLost("a", "gone"))
    run.take(RetryDue("a"))
    assert told() == [("a", 2, 7.0, True)]


# --- what is tried again


@pytest.mark.parametrize("temporary", [False, True])
def test_a_write_that_failed_is_tried_again_only_where_that_is_safe(temporary):
    """Where it may be repeated, or says that it did nothing; as often as its retries say."""
    for name, retries, is_safe in ("pay", 2, temporary), ("again", 1, True), ("look", 1, True):
        run = Driven(step("a", name, retries=retries))
        run.take(RunStarted("h"))
        for attempt in range(1, retries + 2):
            run.take(CallStarted("a", attempt, ""))
            run.take(CallFailed("a", "down", "..", temporary=temporary, retryable=True))
            if attempt > (retries if is_safe else 0):
                break
            assert run.state("a") is State.READY
            assert not run.machine.is_callable("a"), "it pauses first"
            assert run.machine.is_pausing("a")
            assert run.take(RetryDue("a")) == ["a"]
            assert not run.machine.is_pausing("a")
        assert (run.state("a"), run.machine.status) == (State.FAILED, "failed")
        run = Driven(step("a", name, retries=retries))
        run.take(RunStarted("h"))
        run.begin("a")
        run.take(CallFailed("a", "down", "..", temporary=temporary))
        assert run.state("a") is State.FAILED, "the tool says that trying again is of no use"


def test_a_lost_write_is_called_again_only_where_that_is_known_to_be_safe():
    """Not more often than it may be in a row; a person's word begins the count anew."""
    run = Driven(step("a", "pay"), step("b", "pay"))
    run.take(RunStarted("h"))
    run.begin("a")
    assert run.take(RunResumed("me", died=True)) == []
    assert run.state("a") is State.INDETERMINATE
    assert run.machine.is_stuck()
    assert run.take(ResolvedFailed("a", "no")) == []
    assert [node.state for node in run.machine.root.nodes] == [State.FAILED, State.SKIPPED]
    for name in "again", "found":
        run = Driven(step("a", name))
        run.take(RunStarted("h"))
        for _ in range(2):
            for attempt in range(LOST_RETRIES_MAX + 1):
                assert run.state("a") is State.READY
                run.take(CallStarted("a", attempt + 1, ""))
                run.take(CallLost("a", "gone"))
                if attempt < LOST_RETRIES_MAX:
                    assert run.take(RetryDue("a")) == ["a"]
            assert run.state("a") is State.INDETERMINATE
            assert run.take(ResolvedRetry("a")) == ["a"]


def test_calls_that_do_nothing_are_asked_for_again_after_a_stop_and_writes_are_not():
    run = Driven(step("a", "look"), step("b", "add"), step("c", "note"))
    assert run.take(RunStarted("h")) == ["a", "b", "c"]
    run.begin("a")
    run.begin("c")
    assert run.take(RunResumed("me")) == ["a", "b"]
    assert [run.state(path) for path in "abc"] == [State.READY, State.READY, State.INDETERMINATE]


# --- what a person says


def test_a_tool_s_own_rule_is_asked_before_its_call():
    """What it lets through is called, what it does not waits for a person, who is asked once."""
    for needed in False, True:
        run = Driven(step("a", "ruled"))
        assert run.take(RunStarted("h")) == []
        assert [type(each) for each in run.asked] == [RuleApproval]
        assert run.take(ApprovalRuled("a", needed)) == ([] if needed else ["a"])
        if needed:
            assert run.records == [ApprovalAsked("a", run.machine.iterations["a"].call)]
            assert run.take(Approved("a", "me", run.machine.iterations["a"].call.digest)) == ["a"]


def test_an_approval_that_is_void_is_asked_for_again():
    """Before and after the decision, as an attempt of its own; of a call that nobody was asked about, or that runs, it is impossible."""
    run = Driven(step("a", "ask"))
    run.take(RunStarted("h"))
    call, machine = run.machine.iterations["a"].call, run.machine
    machine.note_shown(ApprovalAsked("a", call, "6:x"))
    assert machine.void_of("a", "6:y") == ApprovalVoided("a", "ask", "6:x", "6:y", 2)
    assert run.take(ApprovalVoided("a", "ask", "6:x", "6:y", 2)) == []
    assert (run.records, run.state("a")) == ([ApprovalAsked("a", call)], State.WAITING)
    assert not machine.accepts(Approved("a", "me", call.digest, attempt=1))
    assert run.take(Approved("a", "me", call.digest, attempt=2)) == ["a"]
    assert machine.is_consent_due("a")
    assert machine.void_of("a", "6:z").by == "me"
    assert run.take(ApprovalVoided("a", "ask", "6:x", "6:z", 3, "me")) == []
    assert run.state("a") is State.WAITING
    assert run.take(Approved("a", "me", call.digest, attempt=3)) == ["a"]
    run.begin("a")
    assert not machine.is_consent_due("a")
    with pytest.raises(EngineBug):
        run.take(ApprovalVoided("a", "ask", "6:x", "6:z", 4, "me"))
    other = Driven(step("a", "look"))
    other.take(RunStarted("h"))
    with pytest.raises(EngineBug, match="nobody was asked"):
        other.take(ApprovalVoided("a", "look", "6:x", "6:z", 1))


def test_what_was_denied_is_not_called_nor_what_writes_after_it():
    run = Driven(step("a", "ask"), step("b", "pay"), step("c", "note"))
    assert run.take(RunStarted("h")) == ["c"]
    assert run.take(Denied("a", "me", "no")) == []
    assert [node.state for node in run.machine.root.nodes] == [State.CANCELLED, State.SKIPPED, State.READY]


@pytest.mark.parametrize(
    ("decision", "kept", "state"),
    [
        (
            Approved("a", "me", CanonicalValue.of({"x": 1}).digest),
            PersonDecision("approved", "me"),
            State.READY,
        ),
        (Denied("a", "me", "no"), PersonDecision("denied", "me", "no"), State.CANCELLED),
        (ResolvedDone("a", ONE, by="me"), PersonDecision("resolved as done", "me"), State.SUCCEEDED),
        (ResolvedRetry("a", by="me"), PersonDecision("resolved to be called again", "me"), State.READY),
        (ResolvedFailed("a", "no", by="me"), PersonDecision("resolved as failed", "me", "no"), State.FAILED),
    ],
    ids=lambda each: type(each).__name__,
)
def test_who_decided_what_is_kept(decision, kept, state):
    """And the step does not look any more as if it waited."""
    run = Driven(step("a", "ask" if isinstance(decision, Approved | Denied) else "pay"))
    run.take(RunStarted("h"))
    if not isinstance(decision, Approved | Denied):
        run.begin("a")
        run.take(CallLost("a", "gone"))
    assert run.machine.accepts(decision)
    run.take(decision)
    iteration = run.machine.iterations["a"]
    assert (iteration.decision, iteration.state) == (kept, state)
    assert iteration.reason != "approval"


def test_what_was_edited_is_called_as_it_was_edited():
    run = Driven(step("a", "ask"))
    run.take(RunStarted("h"))
    edit = CanonicalValue.of({"x": 7})
    run.take(Approved("a", "me", run.machine.iterations["a"].call.digest, edit))
    assert [each.args for each in run.asked] == [edit]


def test_a_word_is_about_the_very_call_that_waits():
    """With the arguments that were shown, about this attempt, while the run goes on; otherwise it does not fit any more."""
    run = Driven(step("a", "ask"), step("b", "pay"))
    assert run.take(RunStarted("h")) == []
    assert run.records == [ApprovalAsked("a", run.machine.iterations["a"].call)]
    digest = run.machine.iterations["a"].call.digest
    fits = run.machine.accepts
    assert fits(Approved("a", "me", digest, attempt=1))
    assert fits(Denied("a", "me", "no", attempt=1))
    assert not fits(Approved("a", "me", digest, attempt=2))
    assert not fits(Approved("a", "me", "sha256:other"))
    assert not fits(Approved("b", "me", digest))
    assert not any(map(fits, (ResolvedDone("a", ONE), ResolvedRetry("a"), ResolvedFailed("a", "no"))))
    assert run.take(Approved("a", "me", digest)) == ["a"]
    assert not fits(Approved("a", "me", digest))
    assert not fits(Denied("a", "me", "no"))
    run.begin("a")
    run.take(CallLost("a", "gone"))
    assert run.records == [StepIndeterminate("a", "gone")]
    assert all(map(fits, (ResolvedDone("a", ONE), ResolvedRetry("a"), ResolvedFailed("a", "no"))))
    assert not fits(ResolvedRetry("a", attempt=2))
    assert run.take(ResolvedRetry("a")) == ["a"]
    run.begin("a")
    assert run.end("a") == ["b"]
    assert fits(CancelAsked("me"))
    run.take(CancelAsked("me"))
    assert not fits(CancelAsked("me"))
    assert run.machine.status is not None
    assert not fits(BudgetRaised({}))


# --- a cancel


def test_after_a_cancel_nothing_starts_though_a_write_in_flight_ends():
    """Not the next item of its list, nor its next iteration, nor what waited for it, nor another attempt."""
    pays = {"id": "pay", "tool": "pay", "for_each": [1, 2], "args": {"x": "${item}"}}
    until = {"until": "${note == 2}", "max": 3}
    run = Driven(pays, step("note", "note", repeat=until), step("last", "add", x="${note}"))
    first, second = run.take(RunStarted("h"))
    run.begin(first)
    run.begin(second)
    assert [node.state for node in run.machine.root.nodes] == [State.RUNNING, State.RUNNING, State.PENDING]
    assert run.take(CancelAsked("me")) == []
    assert not [each for each in run.asked if isinstance(each, StopCall)]
    assert [node.state for node in run.machine.root.nodes] == [State.RUNNING, State.RUNNING, State.CANCELLED]
    assert run.end(first) == []
    assert run.machine.status is None
    assert run.end(second) == []
    assert run.machine.status == "cancelled"


def test_a_cancel_stops_calls_that_do_nothing_and_ends_what_waits():
    run = Driven(step("a", "look"), step("b", "ask"), step("c", "add"))
    assert run.take(RunStarted("h")) == ["a", "c"]
    run.begin("a")
    assert run.take(CancelAsked("me")) == []
    assert [each.step for each in run.asked if isinstance(each, StopCall)] == ["a"]
    assert run.machine.status == "cancelled"
    assert {node.code.id: node.state for node in run.machine.root.nodes} == dict.fromkeys(
        "abc", State.CANCELLED
    )


def test_a_lost_attempt_is_not_forgotten_when_the_run_is_cancelled_in_its_pause():
    """It may have taken effect: a person has to say."""
    run = Driven(step("a", "again"))
    run.take(RunStarted("h"))
    run.begin("a")
    run.take(CallLost("a", "gone"))
    assert [type(each) for each in run.asked if not isinstance(each, Record)] == [Pause]
    run.take(CancelAsked("me"))
    assert run.state("a") is State.INDETERMINATE
    assert run.machine.status is None


def test_a_call_that_is_withdrawn_did_nothing_unless_an_earlier_attempt_may_have():
    """A cancel came between the note of its start and the call itself."""
    for lost in False, True:
        run = Driven(step("a", "again"))
        run.take(RunStarted("h"))
        run.begin("a")
        if lost:
            run.take(CallLost("a", "gone"))
            run.take(RetryDue("a"))
            run.take(CallStarted("a", 2, ""))
        run.take(CancelAsked("me"))
        assert run.state("a") is State.RUNNING
        assert run.machine.is_cancelled
        end = run.machine.withdrawn("a")
        run.take(end)
        assert isinstance(end, CallLost) == lost
        assert run.state("a") is (State.INDETERMINATE if lost else State.CANCELLED)
        assert run.machine.is_stuck() == lost


def test_a_value_that_a_fork_gives_ends_its_step_whatever_that_waits_for():
    """Nothing of the step runs, and what needs its value goes on with the one that was given."""
    run = Driven(step("a", "pay"), step("b", "look", x="${a}", when="${a > 0}"), step("c", "add", x="${b}"))
    run.machine.fork = Fork(overrides={"b": CanonicalValue.of(5)})
    assert run.take(RunStarted("h")) == ["a", "c"]
    assert [each.args.value for each in run.asked if isinstance(each, StartToolCall)] == [{"x": 1}, {"x": 5}]
    assert run.records == [StepSucceeded("b", CanonicalValue.of(5).digest)]
    assert [node.state for node in run.machine.root.nodes] == [State.READY, State.SUCCEEDED, State.READY]


def test_an_item_is_running_while_one_of_its_iterations_is():
    """So it is shown as what it is, and a cancel ends it as such."""
    pays = {
        "id": "a",
        "tool": "pay",
        "for_each": [1, 2],
        "args": {"x": "${item}"},
        "repeat": {"until": "${a == 1}", "max": 2},
    }
    run = Driven(pays)
    (path,) = run.take(RunStarted("h"))
    first, second = run.machine.root.nodes[0].items
    assert (first.state, second.state) == (State.RUNNING, State.PENDING)
    run.begin(path)
    (path,) = run.end(path)
    assert (first.state, second.state) == (State.SUCCEEDED, State.RUNNING)
    assert path == "a[1]#0"


def test_a_step_begins_once_all_that_it_refers_to_and_comes_after_has_ended():
    """Whatever of that ends first, and though its condition was decided long before."""
    last = step("d", "add", x="${b}", when="${a > 0}", after=["c"])
    for order in permutations("abc"):
        run = Driven(step("a", "add"), step("b", "look"), step("c", "note"), last)
        assert run.take(RunStarted("h")) == ["a", "b", "c"]
        for path in order:
            run.begin(path)
            assert run.end(path) == (["d"] if path == order[-1] else [])


@pytest.mark.parametrize("failed", ["a", "b"])
def test_what_needs_a_failed_step_is_skipped(failed):
    """Whether its condition or its arguments refer to it; the others go on."""
    run = Driven(
        step("a", "add"), step("b", "add"), step("d", "add", x="${b}", when="${a > 0}"), step("e", "add")
    )
    assert run.take(RunStarted("h")) == ["a", "b", "e"]
    for path in "ab":
        run.begin(path)
        event = CallFailed(path, "down", "..") if path == failed else CallSucceeded(path, ONE)
        assert run.take(event) == []
    states = {node.code.id: (node.state, node.reason) for node in run.machine.root.nodes}
    assert states["d"] == (State.SKIPPED, "dependency-failed")
    assert states["e"] == (State.READY, None)


DENIED, FAILED = (State.CANCELLED, "denied"), (State.SKIPPED, "dependency-failed")


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ({"x": "${no}"}, DENIED),
        ({"x": "${off}"}, (State.SKIPPED, "skipped-reference")),
        ({"x": "${down}"}, FAILED),
        ({"x": "${no + down}"}, FAILED),
        ({"x": "${no + off}"}, DENIED),
        ({"x": "${early + no}"}, DENIED),
        ({"x": "${off + down}"}, FAILED),
        ({"x": "${down}", "after": ["down2"]}, FAILED),
        ({"x": "${no}", "after": ["down"]}, DENIED),
        ({"x": "${off}", "after": ["down"]}, (State.SKIPPED, "blocked")),
        ({"x": "${off}", "after": ["ok"]}, (State.SKIPPED, "skipped-reference")),
        ({"after": ["no"]}, (State.SKIPPED, "blocked")),
        ({"after": ["off"]}, (State.READY, None)),
        ({"x": "${ok}", "after": ["ok"]}, (State.READY, None)),
    ],
)
def test_a_write_is_not_made_after_what_it_waits_for_ended_badly(keys, end):
    """A failure goes first, then a refusal, then `after`, then a skip; whatever the order in the plan, the write is not called."""
    run = Driven(
        step("early", "add", when="${1 > 2}"),
        step("no", "ask"),
        step("off", "add", when="${1 > 2}"),
        step("ok", "add"),
        step("down", "add"),
        step("down2", "add"),
        step("w", "note", **keys),
    )
    calls = run.take(RunStarted("h"))
    for path, event in (
        ("down", CallFailed("down", "down", "..")),
        ("down2", CallFailed("down2", "down", "..")),
        ("ok", CallSucceeded("ok", ONE)),
    ):
        run.begin(path)
        calls += run.take(event)
    calls += run.take(Denied("no", "ann", "no"))
    node = run.machine.root.nodes[-1]
    assert ((node.state, node.reason), "w" in calls) == (end, end[0] is State.READY)


def test_a_step_whose_condition_does_not_hold_is_skipped_without_waiting_for_its_arguments():
    run = Driven(step("a", "add"), step("b", "look"), step("d", "add", x="${b}", when="${a > 1}"))
    run.take(RunStarted("h"))
    run.begin("a")
    assert run.end("a") == []
    assert (run.machine.root.nodes[2].state, run.machine.root.nodes[2].reason) == (State.SKIPPED, "when")


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ({}, (State.FAILED, None)),
        ({"on_error": "skip"}, (State.SKIPPED, "on-error")),
        ({"on_error": {"value": 7}}, (State.SUCCEEDED, None)),
        ({"for_each": [1, 2]}, (State.FAILED, None)),
        ({"for_each": [1, 2], "on_error": "skip"}, (State.FAILED, None)),
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_evaluated_is_a_failure_of_its_step(keys, end):
    """Nothing of the step is called, and `on_error` decides as for any other failure."""
    run = Driven(step("a", "pay", when="${1 // inputs.n > 0}", **keys), inputs={"n": 0}, plan=TAKES_N)
    assert run.take(RunStarted("h")) == []
    (node,) = run.machine.root.nodes
    assert (node.state, node.reason) == end
    assert run.machine.status == ("failed" if node.state is State.FAILED else "succeeded")


@pytest.mark.parametrize(
    ("when", "reason"),
    [("a > 0", "skipped-reference"), ("first(a) > 0", "skipped-reference"), ("first(a, 0) > 0", "when")],
)
def test_a_condition_may_refer_to_a_step_that_was_skipped(when, reason):
    """It skips its step too, unless it says what stands for that step."""
    off = step("a", "add", when="${inputs.n > 0}")
    run = Driven(off, step("b", "pay", when=f"${{{when}}}"), inputs={"n": 0}, plan=TAKES_N)
    assert run.take(RunStarted("h")) == []
    assert [(node.state, node.reason) for node in run.machine.root.nodes] == [
        (State.SKIPPED, "when"),
        (State.SKIPPED, reason),
    ]


@pytest.mark.parametrize(
    ("fork", "waits"),
    [
        (Fork(cone=("a",), holds="all"), True),
        (Fork(cone=("a",), holds="none"), False),
        (Fork(cone=("a",), holds="none", unknown=("a",)), False),
        (Fork(cone=(), holds="none", unknown=("a",)), True),
        (Fork(cone=(), holds="made"), False),
    ],
)
def test_a_fork_has_a_person_asked_about_its_writes(fork, waits):
    """Of a tool that asks for nobody by itself; what does nothing waits for nobody."""
    for name, effect_waits in ("pay", waits), ("look", False), ("add", False):
        run = Driven(step("a", name))
        run.machine.fork = fork
        assert run.take(RunStarted("h")) == ([] if effect_waits else ["a"])


def test_what_the_parent_of_a_fork_has_made_as_it_is_asks_nobody_again():
    """Exactly that call: other arguments, or another decision before it, are another call."""
    args = Driven(step("a", "ask"))
    args.take(RunStarted("h"))
    digest = args.machine.iterations["a"].call.digest
    for fork, asks in (
        (Fork(settled={"a": digest}), False),
        (Fork(settled={"a": "sha256:other"}), True),
        (Fork(settled={"b": digest}), True),
        (Fork(cone=("a",), settled={"a": digest}), True),
    ):
        run = Driven(step("a", "ask"))
        run.machine.fork = fork
        assert run.take(RunStarted("h")) == ([] if asks else ["a"])


def test_pauses_go_on_after_a_stop():
    run = Driven(step("a", "look"))
    run.take(RunStarted("h"))
    run.begin("a")
    run.take(CallFailed("a", "down", "..", retryable=True))
    pause = run.asked[-1]
    assert run.take(RunResumed("me")) == []
    assert run.asked == [pause]
    assert run.take(RetryDue("a")) == ["a"]


def test_an_item_whose_turn_comes_before_anybody_has_decided_about_it_waits_on():
    """All items are asked about at once; each is called only once it was approved and those before it have ended."""
    asks = {"id": "a", "tool": "ask", "for_each": [1, 2, 3], "args": {"x": "${item}"}}
    run = Driven(asks)
    assert run.take(RunStarted("h")) == []
    assert [event.step for event in run.records] == ["a[0]", "a[1]", "a[2]"]

    def approve(path):
        return run.take(Approved(path, "me", run.machine.iterations[path].call.digest))

    assert approve("a[2]") == []
    assert approve("a[0]") == ["a[0]"]
    run.begin("a[0]")
    assert run.end("a[0]") == []
    assert run.state("a[1]") is State.WAITING
    assert run.machine.is_stuck()
    assert approve("a[1]") == ["a[1]"]
    run.begin("a[1]")
    assert run.end("a[1]") == ["a[2]"]


def test_whatever_a_tool_does_a_person_is_asked_if_it_says_so():
    """Not only about writes."""
    plan = plan_of(step("a", "see"))
    seen = Toolset([tool("see", "read", resource="bank", approval="always")])
    commands = build_machine(Header(plan, {}, "seed", ToolsetLock.of([plan], seen))).handle(RunStarted("h"))
    assert [type(each.event) for each in commands if isinstance(each, Record)] == [ApprovalAsked]
    assert not [each for each in commands if isinstance(each, StartToolCall)]


def test_what_a_call_of_a_model_needs_is_set_aside_before_it_is_made():
    """So calls that run at the same time do not pass the budget together; once a call has ended, what it used counts."""
    plan = plan_of(step("a", "think"), step("b", "think"))
    tools = Toolset([tool("think", "model")])
    machine = build_machine(
        Header(plan, {}, "seed", ToolsetLock.of([plan], tools), budget={"model_calls": 1})
    )
    machine.handle(RunStarted("h"))
    assert [machine.find_short(path, 0.0) for path in "ab"] == [None, None]
    machine.handle(CallStarted("a", 1, ""))
    assert machine.budget.spent["model_calls"] == 1
    assert machine.find_short("b", 0.0) == "model_calls"
    machine.handle(CallSucceeded("a", ONE, usage={"calls": 1}))
    assert machine.find_short("b", 0.0) == "model_calls"


@pytest.mark.parametrize("rules", [2, 3])
@pytest.mark.parametrize("approval", ["untrusted", lambda args: False], ids=["untrusted", "rule"])
def test_a_call_with_untrusted_data_does_not_start_by_itself(approval, rules):
    """By rules of version 2 a person is asked at once; since then the flow policy is asked first, whatever the tool's own rule would say."""
    tools = Toolset(
        [
            tool("browse", "read", resource="web", trust="untrusted"),
            tool("look", "read", resource="bank"),
            tool("send", "write", resource="mail", approval=approval),
        ]
    )
    for source in "browse", "look":
        plan = plan_of(step("a", source), step("b", "send", x="${a}"))
        machine = build_machine(Header(plan, {}, "seed", ToolsetLock.of([plan], tools), rules=rules))
        machine.handle(RunStarted("h"))
        machine.handle(CallStarted("a", 1, ""))
        commands = machine.handle(CallSucceeded("a", ONE))
        is_asked = any(
            isinstance(each, Record) and isinstance(each.event, ApprovalAsked) for each in commands
        )
        is_ruled = any(isinstance(each, RuleApproval) for each in commands)
        is_labelled = source == "browse"
        assert is_asked == (is_labelled and rules == 2)
        assert is_ruled == ((is_labelled and rules == 3) or (approval != "untrusted" and not is_labelled))
        assert bool([each for each in commands if not isinstance(each, Record)]) != is_asked


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_what_a_call_of_a_model_has_used_counts_once_it_has_ended(end):
    """More than was set aside, as well: nothing more starts then."""
    plan = plan_of(step("a", "think"), step("b", "think"))
    tools = Toolset([tool("think", "model")])
    machine = build_machine(Header(plan, {}, "seed", ToolsetLock.of([plan], tools), budget={"tokens": 100}))
    machine.handle(RunStarted("h"))
    machine.handle(CallStarted("a", 1, ""))
    usage = {"calls": 1, "tokens": 150}
    machine.handle(
        CallSucceeded("a", ONE, usage=usage)
        if end == "succeeded"
        else CallFailed("a", "down", "..", usage=usage)
    )
    assert machine.budget.spent["tokens"] == 150
    assert machine.find_short("b", 0.0) == "tokens"


# --- what the driver is told of a call


def test_a_question_to_a_model_is_asked_as_the_plan_says():
    """Rendered, with the step's own limits; which one of several equal questions it is belongs to it."""
    ask = {
        "id": "a",
        "ask": {"prompt": "Say ${item}", "system": "Be brief", "max_tokens": 50, "temperature": 0.5},
        "for_each": ["x", "y"],
        "timeout": 3,
    }
    run = Driven(ask)
    assert run.take(RunStarted("h")) == ["a[0]", "a[1]"]
    told = [each for each in run.asked if isinstance(each, StartModelCall)]
    assert [each.request.value for each in told] == [
        {"prompt": "Say x", "system": "Be brief"},
        {"prompt": "Say y", "system": "Be brief"},
    ]
    assert {(each.max_tokens, each.temperature, each.timeout_s, each.attempt) for each in told} == {
        (50, 0.5, 3, 1)
    }
    assert [each.sample for each in told] == [(0, 0), (1, 0)]
    run.begin("a[1]")
    assert run.take(RunResumed("me")) == ["a[0]", "a[1]"]
    assert [each.attempt for each in run.asked if isinstance(each, StartModelCall)] == [1, 2]


def test_which_of_several_equal_calls_it_is_belongs_to_a_call_of_a_model_only():
    tools = Toolset([*TOOLS, tool("muse", "model")])
    for name, samples in ("muse", [(0, 0), (1, 0)]), ("add", [(), ()]):
        run = Driven(step("a", name, for_each=[1, 1]), tools=tools)
        run.take(RunStarted("h"))
        assert [each.sample for each in run.asked if isinstance(each, StartToolCall)] == samples


@pytest.mark.parametrize(
    ("past", "is_asked"),
    [
        (PastWrite("unknown", args=CanonicalValue.of({"x": 1}).digest, key="k", tool="found"), True),
        (PastWrite("unknown", args=CanonicalValue.of({"x": 2}).digest, key="k", tool="found"), False),
        (PastWrite("denied"), False),
    ],
    ids=["called", "called with others", "not called"],
)
def test_a_tool_that_can_tell_is_asked_about_a_write_that_an_earlier_run_made(past, is_asked):
    """Once a person has allowed the call; a tool that cannot tell is called."""
    for name in "found", "pay":
        run = Driven(step("a", name), fork=Fork(past_writes={"a": past}))
        assert run.take(RunStarted("h")) == []
        assert run.take(Approved("a", "me", CanonicalValue.of({"x": 1}).digest)) == ["a"]
        assert [each.reconcile for each in run.asked] == [is_asked and name == "found"]


# --- what a cancel and a stop find


def test_a_cancel_finds_each_call_where_it_stands():
    """What asks a rule, what pauses, what waits for a budget: nothing of it is called any more, whatever is said later."""
    run = Driven(step("r", "ruled"), step("n", "note"), step("b", "add"), step("p", "add", retries=1))
    assert run.take(RunStarted("h")) == ["n", "b", "p"]
    run.begin("n")
    run.take(BudgetReached("b", "steps"))
    run.begin("p")
    run.take(CallFailed("p", "down", "..", retryable=True))
    assert run.machine.is_pausing("p")
    run.take(CancelAsked("me"))
    assert [each.step for each in run.asked if isinstance(each, StopCall)] == ["p"]
    assert [run.state(path) for path in "rnbp"] == [
        State.CANCELLED,
        State.RUNNING,
        State.CANCELLED,
        State.CANCELLED,
    ]
    assert run.take(BudgetRaised({"steps": 9})) == []
    assert run.take(CallFailed("n", "down", "..", temporary=True, retryable=True)) == []
    assert run.state("n") is State.FAILED
    assert run.machine.status == "cancelled"


@pytest.mark.parametrize("name", ["pay", "again", "found"])
def test_a_write_that_is_lost_after_a_cancel_is_not_called_again(name):
    """A person decides what became of it; and to call it again is not to be had any more."""
    for decision, state in (
        (ResolvedRetry("a"), State.CANCELLED),
        (ResolvedDone("a", ONE), State.SUCCEEDED),
        (ResolvedFailed("a", "no"), State.FAILED),
    ):
        run = Driven(step("a", name))
        run.take(RunStarted("h"))
        run.begin("a")
        run.take(CancelAsked("me"))
        assert run.take(CallLost("a", "gone")) == []
        assert [type(each) for each in run.asked] == [Record]
        assert run.state("a") is State.INDETERMINATE
        assert run.machine.status is None
        assert run.take(decision) == []
        assert run.state("a") is state


def test_an_unknown_outcome_outlives_a_cancel():
    """The run does not end before a person has said what became of the write."""
    run = Driven(step("a", "pay"), step("b", "note"))
    run.take(RunStarted("h"))
    run.begin("a")
    run.take(CallLost("a", "gone"))
    assert run.take(CancelAsked("me")) == []
    assert [run.state(path) for path in "ab"] == [State.INDETERMINATE, State.CANCELLED]
    assert run.machine.status is None
    run.take(ResolvedDone("a", ONE))
    assert run.machine.status == "cancelled"


def test_what_a_stop_finds_is_asked_for_again_and_nothing_else_is():
    """Not what has ended, what waits for a person or a budget, nor a write whose outcome is unknown."""
    steps = [step("d", "add"), step("r", "ruled"), step("n", "note"), step("b", "add"), step("c", "add")]
    run = Driven(*steps, step("x", "ask", x="${c}"))
    assert run.take(RunStarted("h")) == ["d", "n", "b", "c"]
    run.begin("d")
    run.end("d")
    run.take(ApprovalRuled("r", needed=True))
    run.begin("n")
    run.take(CallLost("n", "gone"))
    run.take(BudgetReached("b", "steps"))
    before = {path: iteration.state for path, iteration in run.machine.iterations.items()}
    assert run.take(RunResumed("me", died=True)) == ["c"]
    assert len(run.asked) == 1
    assert {path: iteration.state for path, iteration in run.machine.iterations.items()} == before
    run = Driven(step("r", "ruled"))
    run.take(RunStarted("h"))
    run.take(RunResumed("me"))
    assert [type(each) for each in run.asked] == [RuleApproval]


def test_calls_of_the_past_are_not_asked_for_while_a_journal_is_read():
    """Once it has been read, what is still ready is asked for."""
    run = Driven(step("a", "add"), step("b", "note"))
    run.machine.is_recounting = True
    assert run.take(RunStarted("h")) == []
    assert run.asked == []
    run.machine.is_recounting = False
    assert run.take(RunResumed("me")) == ["a", "b"]


def test_a_call_that_fails_before_it_has_begun_is_treated_as_one_that_failed():
    """It is tried again where its tool says so, with the same number, since nothing was called."""
    run = Driven(step("a", "look"))
    run.take(RunStarted("h"))
    run.take(CallFailed("a", "busy", "..", temporary=True, retryable=True))
    assert (run.state("a"), run.machine.is_pausing("a")) == (State.READY, True)
    assert run.records == [RetryScheduled("a", 1, run.asked[-1].delay_s)]
    assert run.take(RetryDue("a")) == ["a"]
    assert [each.attempt for each in run.asked] == [1]
    run.take(CallFailed("a", "busy", "..", temporary=True, retryable=True))
    assert run.machine.status == "failed"


# --- what the journal is told of an end


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, StepFailed("a", "down", "..")),
        ({"on_error": "skip"}, StepSkipped("a", "on-error")),
        ({"on_error": {"value": 7}}, StepSucceeded("a", CanonicalValue.of(7).digest)),
    ],
    ids=["failed", "skipped", "replaced"],
)
def test_what_becomes_of_a_failed_call_is_recorded(keys, told):
    """What a call or a value came to is recorded once: the event of the call itself says it where it went well."""
    run = Driven(step("a", "pay", **keys), {"id": "s", "set": "four"}, step("w", "note"))
    run.take(RunStarted("h"))
    assert run.records == [StepSucceeded("s", CanonicalValue.of("four").digest)]
    run.begin("a")
    run.take(CallFailed("a", "down", ".."))
    assert run.records == [told]
    run.begin("w")
    run.end("w")
    assert [type(each) for each in run.records] == [RunFinished]
