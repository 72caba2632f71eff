"""The machine alone, about lists and iterations: which items there are, who is asked about them and when, in which order they are called."""

from __future__ import annotations

from dataclasses import replace

import pytest
from driven import ONE, TAKES_N, TOOLS, Driven, step, tool
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import RuleApproval, StartToolCall
from firmplan.executor.events import (
    ApprovalAsked,
    ApprovalRuled,
    Approved,
    CallFailed,
    CallLost,
    CallSucceeded,
    CancelAsked,
    Denied,
    ResolvedFailed,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepSkipped,
    StepSucceeded,
)
from firmplan.executor.execution_tree import Failure
from firmplan.executor.fork import Fork, PastWrite
from firmplan.executor.states import State
from firmplan.tools import Toolset


@pytest.mark.parametrize(
    ("keys", "paths"), [({}, ["a"]), ({"for_each": [1, 2]}, ["a[0]", "a[1]"])], ids=["once", "list"]
)
def test_an_iteration_sees_what_the_one_before_it_gave(keys, paths):
    """The first sees nothing of the kind, also that of the next item."""
    run = Driven(step("a", "pay", x="${first(prev, 10)}", repeat={"until": "${a > 20}", "max": 3}, **keys))
    asked = run.take(RunStarted("h"))
    seen = []
    while asked:
        (call,) = [each for each in run.asked if isinstance(each, StartToolCall)]
        seen.append((call.step, call.args.value["x"]))
        run.begin(call.step)
        asked = run.take(CallSucceeded(call.step, CanonicalValue.of(seen[-1][1] + 6)))
    assert seen == [(f"{path}#{number}", x) for path in paths for number, x in enumerate([10, 16])]
    assert run.machine.status == "succeeded"


@pytest.mark.parametrize(
    ("keys", "paths"),
    [({}, ["a"]), ({"repeat": {"until": "${a > 0}", "max": 2}}, ["a", "a#0"])],
    ids=["once", "repeated"],
)
@pytest.mark.parametrize("is_list", [False, True], ids=["step", "list"])
def test_what_would_be_called_with_the_value_of_a_skipped_step_is_skipped(keys, paths, is_list):
    """It blocks nothing. Of a list the other items are called, but there is no list of results."""
    off = step("o", "add", when="${inputs.n > 0}")
    if is_list:
        keys = {**keys, "for_each": [1, 2]}
        called = step("a", "pay", x="${item if item > 1 else first(o)}", **keys)
    else:
        called = step("a", "pay", x="${first(o)}", **keys)
    run = Driven(off, called, step("w", "pay"), inputs={"n": 0}, plan=TAKES_N)
    asked = run.take(RunStarted("h"))
    if is_list:
        paths = [path.replace("a", "a[0]") for path in paths]
        assert asked == [paths[-1].replace("0", "1", 1)]
        run.begin(asked[0])
        asked = run.end(asked[0])
    assert asked == ["w"]
    cells = [run.machine.iterations[path] for path in paths if path in run.machine.iterations] + [
        run.machine.root.nodes[1]
    ]
    assert {(cell.state, cell.reason) for cell in cells} == {(State.SKIPPED, "skipped-reference")}


@pytest.mark.parametrize(
    ("keys", "items"),
    [
        ({"for_each": "${[first(a)]}"}, []),
        (
            {"for_each": [1, 2, 3], "when": "${item < 2 or (item > 2 and first(a) > 0)}"},
            ["skipped-reference", "when", "skipped-reference"],
        ),
    ],
    ids=["list", "filter"],
)
def test_a_list_that_rests_on_a_skipped_step_is_skipped_as_a_whole(keys, items):
    """None of its items is called, nor stays behind unfinished."""
    off = step("a", "add", when="${inputs.n > 0}")
    run = Driven(off, step("b", "pay", **keys), step("c", "pay"), inputs={"n": 0}, plan=TAKES_N)
    assert run.take(RunStarted("h")) == ["c"]
    node = run.machine.root.nodes[1]
    assert (node.state, node.reason) == (State.SKIPPED, "skipped-reference")
    assert [(item.state, item.reason) for item in node.items] == [(State.SKIPPED, reason) for reason in items]


@pytest.mark.parametrize("value", [5, "ab", {"x": 1}, None, True], ids=str)
def test_what_is_no_list_has_no_items(value):
    """Nor are the letters of a text, or the keys of an object, any."""
    run = Driven(step("a", "pay", for_each="${inputs.n}"), inputs={"n": value}, plan={"inputs": {"n": {}}})
    assert run.take(RunStarted("h")) == []
    assert run.records[0] == StepFailed("a", "not-a-list", run.records[0].message)
    assert run.machine.status == "failed"


@pytest.mark.parametrize("name", ["pay", "look"])
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_filter_leaves_items_out_and_one_that_cannot_be_evaluated_fails_its_item(name, on_error):
    """Where items run in order, a failure blocks those behind it; what a filter leaves out blocks nothing."""
    each = [4, 2, 0, 1, 5]
    run = Driven(step("a", name, x="${item}", for_each=each, when="${4 // item < 3}", on_error=on_error))
    asked = run.take(RunStarted("h"))
    called = []
    while asked:
        called += asked
        for path in asked:
            run.begin(path)
        asked = [freed for path in asked for freed in run.end(path)]
    (node,) = run.machine.root.nodes
    failed = (State.FAILED, None) if on_error == "fail" else (State.SKIPPED, "on-error")
    is_blocked = (name, on_error) == ("pay", "fail")
    last = (State.SKIPPED, "blocked") if is_blocked else (State.SUCCEEDED, None)
    assert [(item.state, item.reason) for item in node.items] == [
        (State.SUCCEEDED, None),
        (State.SUCCEEDED, None),
        failed,
        (State.SKIPPED, "when"),
        last,
    ]
    assert called == ["a[0]", "a[1]", *([] if is_blocked else ["a[4]"])]
    assert node.items[2].failure.code == "division-by-zero"
    assert node.state is (State.FAILED if on_error == "fail" else State.SUCCEEDED)


def test_what_is_denied_ahead_of_its_turn_blocks_the_later_items_at_once():
    """So nobody is asked about these in vain; the earlier ones are still called, and only then does the denied one end."""
    run = Driven({"id": "a", "tool": "ask", "for_each": [1, 2, 3], "args": {"x": "${item}"}})
    run.take(RunStarted("h"))
    digests = {path: iteration.call.digest for path, iteration in run.machine.iterations.items()}
    assert run.take(Denied("a[1]", "me", "no")) == []
    assert [run.state(f"a[{n}]") for n in range(3)] == [State.WAITING, State.PENDING, State.SKIPPED]
    assert run.machine.iterations["a[1]"].reason is None
    assert run.machine.iterations["a[2]"].reason == "blocked"
    assert not run.machine.accepts(Approved("a[2]", "me", digests["a[2]"]))
    assert run.take(Approved("a[0]", "me", digests["a[0]"])) == ["a[0]"]
    run.begin("a[0]")
    assert run.end("a[0]") == []
    assert [run.state(f"a[{n}]") for n in range(3)] == [State.SUCCEEDED, State.CANCELLED, State.SKIPPED]
    assert run.machine.status == "failed"


# --- lists that a person is asked about

TWO = CanonicalValue.of({"x": 2}).digest
LISTS = {
    "all": ({"tool": "ask"}, {}, [0, 1, 2], [0, 1, 2]),
    "of no approval": ({"tool": "pay"}, {}, [], [0, 1, 2]),
    "filtered": ({"tool": "ask", "when": "${item != 2}"}, {}, [0, 2], [0, 2]),
    "a filter with a fault": (
        {"tool": "ask", "when": "${1 // (item - 2) != 7}", "on_error": "skip"},
        {},
        [0, 2],
        [0, 2],
    ),
    "a value given": (
        {"tool": "ask"},
        {"fork": Fork(overrides={"a[1]": CanonicalValue.of(5)})},
        [0, 2],
        [0, 2],
    ),
    "arguments with a fault": (
        {"tool": "ask", "args": {"x": "${item + 0 // (item - 2)}"}, "on_error": "skip"},
        {},
        [0, 2],
        [0, 2],
    ),
    "held by a fork": ({"tool": "pay"}, {"fork": Fork(cone=("a",), holds="all")}, [0, 1, 2], [0, 1, 2]),
    "one held by its path": (
        {"tool": "pay"},
        {"fork": Fork(past_writes={"a[1]": PastWrite("unknown")})},
        [1],
        [0, 1, 2],
    ),
    "one done before its plan was patched": (
        {"tool": "pay"},
        {"fork": Fork(patched=("a",), done_writes={"pay": {TWO: "r"}})},
        [1],
        [0, 1, 2],
    ),
    "one done before another step was patched": (
        {"tool": "pay"},
        {"fork": Fork(patched=("b",), done_writes={"pay": {TWO: "r"}})},
        [],
        [0, 1, 2],
    ),
    "one settled": ({"tool": "ask"}, {"fork": Fork(settled={"a[1]": TWO})}, [0, 2], [0, 1, 2]),
    "reads": ({"tool": "see"}, {}, [0, 1, 2], [0, 1, 2]),
}


@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "repeated"])
@pytest.mark.parametrize(("keys", "header", "asked", "called"), LISTS.values(), ids=LISTS)
def test_all_items_of_a_list_that_need_a_person_are_asked_about_when_it_begins(
    keys, header, asked, called, is_repeated
):
    """No other; and whatever order they are approved in, each is called once, in the order of the list."""
    more = {}
    name = "a[{}]".format
    if is_repeated:
        name = "a[{}]#0".format
        more = {"repeat": {"until": "${a == 1}", "max": 2}}
        if fork := header.get("fork"):
            settled = {f"{path}#0": digest for path, digest in fork.settled.items()}
            past = {f"{path}#0": write for path, write in fork.past_writes.items()}
            header = {"fork": replace(fork, settled=settled, past_writes=past)}
    tools = Toolset([*TOOLS, tool("see", "read", resource="bank", approval="always")])
    run = Driven(
        {"id": "a", "args": {"x": "${item}"}, "for_each": [1, 2, 3], **keys, **more}, tools=tools, **header
    )
    todo = run.take(RunStarted("h"))
    assert [event.step for event in run.records if isinstance(event, ApprovalAsked)] == list(map(name, asked))
    digests = {path: iteration.call.digest for path, iteration in run.machine.iterations.items()}
    for number in reversed(asked):
        assert run.machine.accepts(Approved(name(number), "me", digests[name(number)]))
        todo += run.take(Approved(name(number), "me", digests[name(number)]))
    made = []
    while todo:
        made += todo[:1]
        run.begin(todo[0])
        assert run.machine.iterations[todo[0]].item.state is State.RUNNING
        todo = todo[1:] + run.end(todo[0])
        assert not [event for event in run.records if isinstance(event, ApprovalAsked)]
    assert (sorted(made) if keys["tool"] == "see" else made) == list(map(name, called))
    assert run.machine.status == "succeeded"


def test_a_run_of_the_first_rules_asks_about_an_item_when_its_turn_comes():
    run = Driven({"id": "a", "tool": "ask", "for_each": [1, 2], "args": {"x": "${item}"}}, rules=1)
    assert run.take(RunStarted("h")) == []
    for number in 0, 1:
        path = f"a[{number}]"
        assert run.records[-1] == ApprovalAsked(path, run.machine.iterations[path].call)
        assert run.take(Approved(path, "me", run.machine.iterations[path].call.digest)) == [path]
        run.begin(path)
        run.end(path)
    assert run.machine.status == "succeeded"


def test_a_write_that_an_earlier_run_made_at_another_path_waits_for_a_person():
    """Exactly that write, in a list as well; whoever decides is told what is known of it."""
    past = PastWrite("unknown", run="r", args=TWO, tool="pay")
    run = Driven(
        {"id": "a", "tool": "pay", "for_each": [1, 2], "args": {"x": "${item}"}},
        step("b", "found", x=2),
        fork=Fork(past_writes={"z": past}),
    )
    assert run.take(RunStarted("h")) == ["a[0]"]
    assert run.machine.past_write_of(run.machine.iterations["a[0]"]) is None
    run.begin("a[0]")
    assert run.end("a[0]") == []
    assert run.machine.past_write_of(run.machine.iterations["a[1]"]) == past
    assert run.take(Approved("a[1]", "me", TWO)) == ["a[1]"]
    assert run.machine.past_write_of(run.machine.iterations["a[1]"]) is None
    run.begin("a[1]")
    assert run.end("a[1]") == ["b"]


def test_a_write_that_is_done_is_not_repeated_by_a_patched_step_unless_a_person_wants_it():
    """Whoever decides is told; a call that changes nothing, and another write, are made."""
    fork = Fork(patched=("a", "b", "c"), done_writes={name: {TWO: "r"} for name in ("pay", "look")})
    run = Driven(step("a", "look", x=2), step("b", "note", x=2), step("c", "pay", x=2), fork=fork)
    assert run.take(RunStarted("h")) == ["a", "b"]
    assert run.machine.past_write_of(run.machine.iterations["a"]) is None
    run.begin("a")
    assert run.end("a") == []
    assert run.records == [ApprovalAsked("c", CanonicalValue.of({"x": 2}))]
    assert run.machine.past_write_of(run.machine.iterations["c"]) == PastWrite("done", "r", tool="pay")
    assert run.take(Approved("c", "me", TWO)) == ["c"]
    assert run.machine.past_write_of(run.machine.iterations["c"]) is None


def test_a_list_of_untrusted_data_asks_nobody_whose_tool_does_not_unless_a_write_of_it_is_done():
    tools = Toolset(
        [
            tool("browse", "read", resource="web", trust="untrusted"),
            tool("pay", "write", resource="bank"),
        ]
    )
    fork = Fork(patched=("a",), done_writes={"pay": {TWO: "r"}})
    pays = step("a", "pay", x="${item}", for_each="${b}")
    run = Driven(step("b", "browse"), pays, tools=tools, fork=fork)
    run.take(RunStarted("h"))
    assert run.machine.root.nodes[1].code.tainted == ("x",)
    run.begin("b")
    assert run.take(CallSucceeded("b", CanonicalValue.of([1, 2, 3]))) == ["a[0]"]
    assert run.records == [ApprovalAsked("a[1]", CanonicalValue.of({"x": 2}))]


@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "repeated"])
def test_the_rule_of_a_tool_is_asked_about_the_whole_list_and_decides_for_each_item(is_repeated):
    """What it lets through waits for its turn; what it does not waits for a person as well."""
    name = "a[{}]#0".format if is_repeated else "a[{}]".format
    more = {"repeat": {"until": "${a == 1}", "max": 2}} if is_repeated else {}
    run = Driven({"id": "a", "tool": "ruled", "for_each": [1, 2, 3], "args": {"x": "${item}"}, **more})
    assert run.take(RunStarted("h")) == []
    assert [each.step for each in run.asked if isinstance(each, RuleApproval)] == list(map(name, range(3)))
    assert run.take(ApprovalRuled(name(2), needed=False)) == []
    assert run.take(ApprovalRuled(name(1), needed=True)) == []
    assert run.records == [ApprovalAsked(name(1), run.machine.iterations[name(1)].call)]
    assert run.take(ApprovalRuled(name(0), needed=False)) == [name(0)]
    run.begin(name(0))
    assert run.end(name(0)) == []
    assert run.take(Approved(name(1), "me", run.machine.iterations[name(1)].call.digest)) == [name(1)]
    run.begin(name(1))
    assert run.end(name(1)) == [name(2)]
    run.begin(name(2))
    run.end(name(2))
    assert run.machine.status == "succeeded"


# --- what fails in a list or an iteration


@pytest.mark.parametrize("is_list", [False, True], ids=["step", "list"])
@pytest.mark.parametrize(
    ("on_error", "end", "goes_on"),
    [
        ("fail", (State.FAILED, None), False),
        ("skip", (State.SKIPPED, "on-error"), True),
        ({"value": "${inputs.n}"}, (State.SUCCEEDED, None), True),
        ({"value": "${1 // inputs.n}"}, (State.FAILED, None), False),
    ],
    ids=["fail", "skip", "value", "no value"],
)
@pytest.mark.parametrize("fault", ["call", "until", "exhausted"])
def test_an_iteration_that_fails_is_the_last_and_on_error_decides_about_the_whole(
    fault, on_error, end, goes_on, is_list
):
    """What comes after, and the next item of a list, go on unless it failed; the failure is told either way."""
    until = {"call": "${a > 0}", "until": "${1 // (a - 1) > 0}", "exhausted": "${a > 1}"}[fault]
    more = {"for_each": [1, 2]} if is_list else {}
    run = Driven(
        step("a", "pay", on_error=on_error, repeat={"until": until, "max": 1}, **more),
        step("w", "pay"),
        inputs={"n": 0},
        plan=TAKES_N,
    )
    (path,) = run.take(RunStarted("h"))
    run.begin(path)
    asked = run.take(CallFailed(path, "down", "..") if fault == "call" else CallSucceeded(path, ONE))
    iteration = run.machine.iterations[path]
    code = {"call": "down", "until": "division-by-zero", "exhausted": "repeat-exhausted"}[fault]
    assert iteration.state is (State.FAILED if fault == "call" else State.SUCCEEDED)
    assert (StepFailed(path, "down", "..") in run.records) == (fault == "call")
    assert iteration.failure == (Failure("down", "..") if fault == "call" else None)
    whole = {
        State.FAILED: StepFailed(
            iteration.item.path, iteration.item.failure.code, iteration.item.failure.message
        ),
        State.SKIPPED: StepSkipped(iteration.item.path, "on-error"),
        State.SUCCEEDED: StepSucceeded(iteration.item.path, CanonicalValue.of(0).digest),
    }
    assert whole[end[0]] in run.records
    assert (iteration.item.state, iteration.item.reason) == end
    assert iteration.item.failure.code == (
        "division-by-zero" if isinstance(on_error, dict) and not goes_on else code
    )
    assert asked == ([("a[1]#0" if is_list else "w")] if goes_on else [])
    if end[0] is State.SUCCEEDED:
        assert iteration.item.output.value == 0
    if not goes_on:
        states = [(node.state, node.reason) for node in run.machine.root.nodes]
        assert states == [(State.FAILED, None), (State.SKIPPED, "blocked")]
        assert run.machine.status == "failed"


@pytest.mark.parametrize("end", ["failed", "denied", "lost"])
@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "repeated"])
def test_an_item_that_goes_wrong_blocks_those_behind_it_whatever_a_person_said_of_them(end, is_repeated):
    """Approved, asked about or not asked about yet; a decision about them does not fit any more."""
    name = "a[{}]#0".format if is_repeated else "a[{}]".format
    more = {"repeat": {"until": "${a == 1}", "max": 2}} if is_repeated else {}
    each = {"for_each": [1, 2, 3, 4], "args": {"x": "${item + (0 if item < 4 else 0 // index)}"}}
    run = Driven({"id": "a", "tool": "ask", **each, **more})
    run.take(RunStarted("h"))
    digests = {path: iteration.call.digest for path, iteration in run.machine.iterations.items()}
    run.take(Approved(name(1), "me", digests[name(1)]))
    if end == "denied":
        run.take(Denied(name(0), "me", "no"))
        assert (run.state(name(0)), run.machine.iterations[name(0)].reason) == (State.CANCELLED, "denied")
        assert StepCancelled("a[0]", "denied") in run.records
    else:
        run.take(Approved(name(0), "me", digests[name(0)]))
        run.begin(name(0))
        assert (
            run.take(CallLost(name(0), "gone") if end == "lost" else CallFailed(name(0), "down", "..")) == []
        )
    if end == "lost":
        assert [run.state(name(n)) for n in range(3)] == [State.INDETERMINATE, State.PENDING, State.WAITING]
        assert run.take(ResolvedFailed(name(0), "no")) == []
    assert [event.step for event in run.records if isinstance(event, StepSkipped)] == ["a[1]", "a[2]", "a[3]"]
    for number in 1, 2, 3:
        item = run.machine.root.nodes[0].items[number]
        cells = [item, *item.iterations]
        assert {(cell.state, cell.reason, cell.call, cell.is_ahead) for cell in cells} == {
            (State.SKIPPED, "blocked", None, False)
        }
        path = name(number)
        assert not run.machine.accepts(Approved(path, "me", digests.get(path, "")))
        assert not run.machine.accepts(Denied(path, "me", ""))
    assert run.machine.status == "failed"
    assert run.machine.is_stuck() is False


@pytest.mark.parametrize(
    ("ends", "state", "reason"),
    [
        (["well", "well"], State.SUCCEEDED, None),
        (["well", "down"], State.FAILED, None),
        (["denied", "down"], State.FAILED, None),
        (["down", "cancelled"], State.FAILED, None),
        (["well", "denied"], State.CANCELLED, "denied"),
        (["denied", "cancelled"], State.CANCELLED, "denied"),
        (["well", "cancelled"], State.CANCELLED, "cancelled"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else None,
)
def test_a_list_ends_as_the_worst_of_its_items(ends, state, reason):
    """Each item is decided about and called by itself, since none of them changes anything."""
    tools = Toolset([tool("see", "read", resource="bank", approval="always")])
    run = Driven(step("a", "see", x="${item}", for_each=[1, 2]), tools=tools)
    run.take(RunStarted("h"))
    for number, end in enumerate(ends):
        path = f"a[{number}]"
        match end:
            case "denied":
                run.take(Denied(path, "me", "no"))
            case "cancelled":
                run.take(CancelAsked("me"))
            case _:
                run.take(Approved(path, "me", run.machine.iterations[path].call.digest))
                run.begin(path)
                run.take(CallSucceeded(path, ONE) if end == "well" else CallFailed(path, "down", ".."))
    (node,) = run.machine.root.nodes
    assert (node.state, node.reason) == (state, reason)
    assert (node.output.value if node.output else None) == ([1, 1] if state is State.SUCCEEDED else None)
    told = {
        State.SUCCEEDED: StepSucceeded("a", CanonicalValue.of([1, 1]).digest),
        State.FAILED: StepFailed("a", "items-failed", "at least one of its parts failed"),
        State.CANCELLED: StepCancelled("a", reason),
    }
    assert told[state] in run.records
    assert run.machine.status == {"succeeded": "succeeded", "failed": "failed"}.get(
        state, "cancelled" if "cancelled" in ends else "failed"
    )
