"""The machine alone, event by event: when time counts, in which order calls come, what a person's word and a cancel let through."""

from __future__ import annotations

from itertools import permutations

import pytest
from firmplan.errors import EngineBug
from firmplan.executor import Header, Lock
from firmplan.executor.commands import Pause, Record, RuleApproval, StartToolCall, StopCall
from firmplan.executor.events import (
    ApprovalAsked,
    ApprovalRuled,
    Approved,
    BudgetRaised,
    BudgetReached,
    CallFailed,
    CallLost,
    CallMade,
    CallStarted,
    CallSucceeded,
    CancelAsked,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RetryDue,
    RunParked,
    RunResumed,
    RunStarted,
    StepIndeterminate,
)
from firmplan.executor.fork import Fork
from firmplan.executor.journal.restore import build_machine
from firmplan.executor.machine import LOST_RETRIES_MAX
from firmplan.executor.sealed import Sealed
from firmplan.executor.states import State
from firmplan.tools import Tool, Toolset
from rig import plan_of

PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
ONE = Sealed.of(1)


def tool(name, effect, **options):
    return Tool.from_callable(
        lambda x: x, name=name, parameters=PARAMETERS, effect=effect, version=1, **options
    )


TOOLS = Toolset(
    [
        tool("add", "pure"),
        tool("look", "read", resource="bank", retries=1),
        tool("pay", "write", resource="bank"),
        tool("note", "write", resource="book"),
        tool("again", "write", resource="book", idempotent=True, retries=1),
        tool("ask", "write", resource="bank", approval="always"),
        tool("found", "write", resource="bank", reconcile=lambda key, args: None, timeout=7.0),
        tool("ruled", "write", resource="bank", approval=lambda args: args["x"] > 5),
    ]
)


def step(name, called, x=1, **keys):
    return {"id": name, "tool": called, "args": {"x": x}, **keys}


class Driven:
    """A machine, and what it asked for at last."""

    def __init__(self, *steps, budget=None):
        plan = plan_of(*steps)
        self.machine = build_machine(Header(plan, {}, "seed", Lock.of([plan], TOOLS), budget=budget or {}))
        self.asked = []

    def take(self, event, at=0.0):
        """Hand in an event; return the paths of the calls that it asks for."""
        self.asked = self.machine.handle(event, at)
        return [each.step for each in self.asked if isinstance(each, StartToolCall)]

    def begin(self, path, at=0.0):
        return self.take(CallStarted(path, 1, ""), at)

    def end(self, path, at=0.0):
        return self.take(CallSucceeded(path, ONE), at)

    def state(self, path):
        return self.machine.turns[path].state

    @property
    def records(self):
        return [each.event for each in self.asked if isinstance(each, Record)]

    @property
    def spent(self):
        return self.machine.purse.spent


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
    run.take(Approved("b", "me", run.machine.turns["b"].call.digest), 30.0)
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
    assert run.machine.find_short("b", 14.9) is None
    assert run.machine.find_short("b", 15.0) == "seconds"
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
    assert run.machine.turns["a"].reason is None
    assert run.machine.purse.limits == {"steps": 2.0}


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


def test_a_step_is_repeated_until_its_condition_holds_and_not_more_often_than_it_may_be():
    """Each iteration after the one before; the last one that may be and fails the condition fails the step."""
    for returns, calls, status in ([1, 2], 2, "succeeded"), ([1, 1, 1], 3, "failed"), ([2], 1, "succeeded"):
        run = Driven(step("a", "pay", repeat={"until": "${a == 2}", "max": 3}), step("b", "note", x="${a}"))
        asked = run.take(RunStarted("h"))
        for number, value in enumerate(returns):
            assert asked == [f"a#{number}"]
            run.begin(asked[0])
            asked = run.take(CallSucceeded(asked[0], Sealed.of(value)))
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
            assert run.records == [ApprovalAsked("a", run.machine.turns["a"].call)]
            assert run.take(Approved("a", "me", run.machine.turns["a"].call.digest)) == ["a"]


def test_what_was_denied_is_not_called_nor_what_writes_after_it():
    run = Driven(step("a", "ask"), step("b", "pay"), step("c", "note"))
    assert run.take(RunStarted("h")) == ["c"]
    assert run.take(Denied("a", "me", "no")) == []
    assert [node.state for node in run.machine.root.nodes] == [State.CANCELLED, State.SKIPPED, State.READY]


def test_what_was_edited_is_called_as_it_was_edited():
    run = Driven(step("a", "ask"))
    run.take(RunStarted("h"))
    edit = Sealed.of({"x": 7})
    run.take(Approved("a", "me", run.machine.turns["a"].call.digest, edit))
    assert [each.args for each in run.asked] == [edit]


def test_a_word_is_about_the_very_call_that_waits():
    """With the arguments that were shown, about this attempt, while the run goes on; otherwise it does not fit any more."""
    run = Driven(step("a", "ask"), step("b", "pay"))
    assert run.take(RunStarted("h")) == []
    assert run.records == [ApprovalAsked("a", run.machine.turns["a"].call)]
    digest = run.machine.turns["a"].call.digest
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
    assert run.take(CancelAsked("me")) == []
    assert not [each for each in run.asked if isinstance(each, StopCall)]
    assert run.end(first) == []
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
    run.machine.fork = Fork(overrides={"b": Sealed.of(5)})
    assert run.take(RunStarted("h")) == ["a", "c"]
    assert [each.args.value for each in run.asked if isinstance(each, StartToolCall)] == [{"x": 1}, {"x": 5}]
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
    digest = args.machine.turns["a"].call.digest
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
        return run.take(Approved(path, "me", run.machine.turns[path].call.digest))

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
    commands = build_machine(Header(plan, {}, "seed", Lock.of([plan], seen))).handle(RunStarted("h"))
    assert [type(each.event) for each in commands if isinstance(each, Record)] == [ApprovalAsked]
    assert not [each for each in commands if isinstance(each, StartToolCall)]


def test_what_a_call_of_a_model_needs_is_set_aside_before_it_is_made():
    """So calls that run at the same time do not pass the budget together; once a call has ended, what it used counts."""
    plan = plan_of(step("a", "think"), step("b", "think"))
    tools = Toolset([tool("think", "model")])
    machine = build_machine(Header(plan, {}, "seed", Lock.of([plan], tools), budget={"model_calls": 1}))
    machine.handle(RunStarted("h"))
    assert [machine.find_short(path, 0.0) for path in "ab"] == [None, None]
    machine.handle(CallStarted("a", 1, ""))
    assert machine.purse.spent["model_calls"] == 1
    assert machine.find_short("b", 0.0) == "model_calls"
    machine.handle(CallSucceeded("a", ONE, usage={"calls": 1}))
    assert machine.find_short("b", 0.0) == "model_calls"


@pytest.mark.parametrize("approval", ["untrusted", lambda args: False], ids=["untrusted", "rule"])
def test_a_person_is_asked_about_a_write_of_untrusted_data_whatever_its_rule_would_say(approval):
    """Of other data the tool's own approval decides."""
    tools = Toolset(
        [
            tool("browse", "read", resource="web", trust="untrusted"),
            tool("look", "read", resource="bank"),
            tool("send", "write", resource="mail", approval=approval),
        ]
    )
    for source in "browse", "look":
        plan = plan_of(step("a", source), step("b", "send", x="${a}"))
        machine = build_machine(Header(plan, {}, "seed", Lock.of([plan], tools)))
        machine.handle(RunStarted("h"))
        machine.handle(CallStarted("a", 1, ""))
        commands = machine.handle(CallSucceeded("a", ONE))
        is_asked = any(
            isinstance(each, Record) and isinstance(each.event, ApprovalAsked) for each in commands
        )
        assert is_asked == (source == "browse")
        assert bool([each for each in commands if not isinstance(each, Record)]) != is_asked


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_what_a_call_of_a_model_has_used_counts_once_it_has_ended(end):
    """More than was set aside, as well: nothing more starts then."""
    plan = plan_of(step("a", "think"), step("b", "think"))
    tools = Toolset([tool("think", "model")])
    machine = build_machine(Header(plan, {}, "seed", Lock.of([plan], tools), budget={"tokens": 100}))
    machine.handle(RunStarted("h"))
    machine.handle(CallStarted("a", 1, ""))
    usage = {"calls": 1, "tokens": 150}
    machine.handle(
        CallSucceeded("a", ONE, usage=usage)
        if end == "succeeded"
        else CallFailed("a", "down", "..", usage=usage)
    )
    assert machine.purse.spent["tokens"] == 150
    assert machine.find_short("b", 0.0) == "tokens"
