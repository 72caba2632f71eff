"""The machine meters the work of expressions: a run has a most of it, and after a slice the other steps wait for the next event."""

from __future__ import annotations

import pytest
from driven import Driven, step
from firmplan.executor import machine as moves
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import Continue, StartToolCall
from firmplan.executor.events import (
    CallMade,
    CancelAsked,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFailed,
    StepSucceeded,
    WorkContinued,
)
from firmplan.executor.journal.records import Entry
from firmplan.executor.journal.restore import fold
from firmplan.executor.states import State

N = {"inputs": {"n": {"type": "integer"}}}
TEXT = "${len('a' * (16 * inputs.n))}"  # n operations


def dear(*ids):
    return [{"id": id_, "set": TEXT} for id_ in ids]


def drive(run, *, calls=()):
    """Start a run and go on with it until nothing is asked for; return its journal."""
    entries = []

    def note(event):
        entries.append(event)
        run.take(event)
        entries.extend(run.records)
        return list(run.asked)

    queue = note(RunStarted("h"))
    while queue:
        match queue.pop(0):
            case Continue(spent=spent):
                queue += note(WorkContinued(spent))
            case StartToolCall() as call:
                queue += note(CallMade(call.step, 1, call.args.digest, CanonicalValue.of(1), 0.0))
            case _:
                pass
    return [Entry(number, 0.0, event) for number, event in enumerate(entries, 1)]


def kinds(entries, kind):
    return [entry.event for entry in entries if isinstance(entry.event, kind)]


def test_a_run_has_a_most_of_work(monkeypatch):
    """The expression that reaches it still counts; the next one fails its step, and paths cost nothing."""
    monkeypatch.setattr(moves, "RUN_WORK_MAX", 3000)
    plan = {**N, "output": {"c": "${c}", "path": "${inputs.n}"}}
    enough = Driven(*dear("a", "b", "c"), plan=plan, inputs={"n": 1000})
    drive(enough)
    assert enough.machine.status == "succeeded"
    short = Driven(
        *dear("a", "b", "c"), {"id": "d", "set": TEXT, "on_error": "skip"}, plan=plan, inputs={"n": 1000}
    )
    entries = drive(short)
    assert short.machine.status == "succeeded"
    (failed,) = [node for node in short.machine.root.nodes if node.state is not State.SUCCEEDED]
    assert failed.path == "d"
    assert failed.failure.code == "limit-exceeded"
    assert "3000 operations" in failed.failure.message
    assert [event.step for event in kinds(entries, StepSucceeded)] == ["a", "b", "c"]


def test_a_run_of_older_rules_is_not_metered(monkeypatch):
    """It replays as it ran."""
    monkeypatch.setattr(moves, "RUN_WORK_MAX", 10)
    monkeypatch.setattr(moves, "SLICE_WORK", 0)
    run = Driven(*dear("a", "b"), plan={**N, "output": "${b}"}, inputs={"n": 1000}, rules=3)
    entries = drive(run)
    assert run.machine.status == "succeeded"
    assert kinds(entries, WorkContinued) == []


def test_dear_steps_take_turns(monkeypatch):
    """After a slice of work the machine asks for another event; what follows from an event is complete before it."""
    monkeypatch.setattr(moves, "SLICE_WORK", 1000)
    run = Driven(*dear("a", "b", "c", "d", "e"), plan={**N, "output": "${e}"}, inputs={"n": 600})
    entries = drive(run)
    assert run.machine.status == "succeeded"
    assert [event.spent for event in kinds(entries, WorkContinued)] == [1200, 2400]
    first = [each.event for each in entries][1:3]
    assert [event.step for event in first] == ["a", "b"]


@pytest.mark.parametrize("until", range(1, 9))
def test_a_run_that_stopped_between_turns_goes_on(monkeypatch, until):
    """From any prefix of its journal that a process can leave: nothing is lost, and nothing is computed otherwise."""
    monkeypatch.setattr(moves, "SLICE_WORK", 0)
    steps = [*dear("a", "b"), step("p", "add", x="${a}"), {"id": "c", "set": f"{TEXT[:-1]} + p}}"}]
    plan = {**N, "output": "${c}"}
    run = Driven(*steps, plan=plan, inputs={"n": 7})
    entries = drive(run)
    causes = [
        at for at, entry in enumerate(entries) if not isinstance(entry.event, StepSucceeded | RunFinished)
    ]
    cut = [*causes, len(entries)][min(until, len(causes))]
    again = Driven(*steps, plan=plan, inputs={"n": 7})
    fold(again.machine, entries[:cut])
    assert again.machine.status is not None or not again.machine.is_stuck()
    if again.machine.status is None:
        queue = again.machine.handle(RunResumed("o"))
        while queue:
            match queue.pop(0):
                case Continue(spent=spent):
                    queue += again.machine.handle(WorkContinued(spent))
                case StartToolCall() as call:
                    queue += again.machine.handle(
                        CallMade(call.step, 1, call.args.digest, CanonicalValue.of(1), 0.0)
                    )
    assert again.machine.digest == run.machine.digest
    assert again.machine.digest


def test_a_replay_takes_the_same_turns(monkeypatch):
    """It compares every conclusion, and a list that is filtered and repeated comes to the same digest."""
    monkeypatch.setattr(moves, "SLICE_WORK", 0)
    steps = [
        {"id": "l", "set": TEXT, "for_each": [1, 2, 3, 4], "when": "${len('b' * (16 * item)) > 16}"},
        {
            "id": "r",
            "set": f"{TEXT[:-1]} + first(prev, 0)}}",
            "repeat": {"until": "${r > 3 * inputs.n}", "max": 9},
        },
    ]
    run = Driven(*steps, plan={**N, "output": "${[l, r]}"}, inputs={"n": 5})
    entries = drive(run)
    assert run.machine.status == "succeeded"
    assert run.machine.output.value == [[80, 80, 80], 80]
    again = Driven(*steps, plan={**N, "output": "${[l, r]}"}, inputs={"n": 5})
    fold(again.machine, entries)
    assert (again.machine.digest, again.machine.status) == (run.machine.digest, "succeeded")
    assert len(kinds(entries, WorkContinued)) >= 3


def test_a_cancel_between_turns_ends_what_was_put_off(monkeypatch):
    """Steps and items that wait for their turn are cancelled, and the run ends."""
    monkeypatch.setattr(moves, "SLICE_WORK", 0)
    run = Driven(
        *dear("a", "b"),
        {"id": "l", "set": TEXT, "for_each": [1, 2, 3]},
        plan={**N, "output": "${b}"},
        inputs={"n": 5},
    )
    run.take(RunStarted("h"))
    assert run.machine.is_stuck() is False
    queue = run.machine.handle(CancelAsked("me"))
    for _ in range(20):
        for command in queue:
            if isinstance(command, Continue):
                queue = run.machine.handle(WorkContinued(command.spent))
                break
        else:
            break
    if run.machine.status is None:
        run.machine.handle(WorkContinued(0))
    assert run.machine.status == "cancelled"


def test_the_filter_of_a_list_is_one_evaluation(monkeypatch):
    """All of it happens in one piece, so its items share the bound of an evaluation."""
    monkeypatch.setattr(moves, "WORK_MAX", 100)
    filtered = {
        "id": "l",
        "set": 1,
        "for_each": [1, 2, 3],
        "when": "${len('b' * (16 * inputs.n)) > item - 9}",
    }
    within, past = (Driven(filtered, plan={**N, "output": "${l}"}, inputs={"n": n}) for n in (33, 34))
    drive(within)
    entries = drive(past)
    assert within.machine.output.value == [1, 1, 1]
    (failed,) = kinds(entries, StepFailed)
    assert (failed.code, failed.step) == ("limit-exceeded", "l")


def test_an_early_start_of_a_call_is_not_the_turn_of_others(monkeypatch):
    """What follows from the start of a call is dropped, so nothing may follow from it."""
    monkeypatch.setattr(moves, "SLICE_WORK", 0)
    run = Driven(step("p", "look"), *dear("a", "b", "c"), plan={**N, "output": "${c}"}, inputs={"n": 5})
    assert run.take(RunStarted("h")) == ["p"]
    assert run.begin("p") == []
    assert run.asked == []
