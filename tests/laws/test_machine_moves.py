"""The machine under everything that a driver may hand it: legal moves, an end, and a fold that finds the same end."""

from __future__ import annotations

from random import Random

import pytest
from firmplan.errors import ToolError
from firmplan.executor import Header, RunStatus, ToolsetLock
from firmplan.executor import machine as moves
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import (
    Continue,
    Pause,
    Record,
    RuleApproval,
    StartModelCall,
    StartToolCall,
    StopCall,
)
from firmplan.executor.events import (
    ApprovalRuled,
    Approved,
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
    RunResumed,
    RunStarted,
    WorkContinued,
)
from firmplan.executor.execution_tree import walk
from firmplan.executor.journal.header import build_machine
from firmplan.executor.journal.records import Entry, read_entry, write_line
from firmplan.executor.journal.restore import fold
from firmplan.executor.runs.run import _view, run_errors, run_status, run_usage, step_views
from firmplan.executor.states import TERMINAL, State
from firmplan.plans import Plan
from firmplan.tools import Tool, Toolset
from hypothesis import given
from hypothesis import strategies as st
from invariants import assert_invariants
from seeds import examples, seeds
from small_plans import PARAMETERS, TOOLS, answer, small_plan, small_plans

OPTIONS = {
    "put_a": {"idempotent": True, "retries": 1},
    "put_b": {"approval": "always"},
    "put": {"reconcile": lambda key, args: None, "approval": lambda args: args["x"] > 5},
    "look": {"retries": 2},
}
LOCKED = Toolset(
    [
        Tool.from_callable(
            lambda x: x,
            name=name,
            parameters=PARAMETERS,
            effect=effect,
            resource=resource,
            version=1,
            **OPTIONS.get(name, {}),
        )
        for name, (effect, resource) in TOOLS.items()
    ]
)
EVENTS_MAX = 5000  # more than any small plan has: beyond it the machine goes round in circles


@pytest.fixture(autouse=True, scope="module")
def turns():
    """Whatever takes work ends a turn of the run, so that every way in which steps are put off is met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moves, "SLICE_WORK", 0)
        yield


class Fuzz:
    """Hands a machine, at random, whatever may come next."""

    def __init__(self, plan: Plan, n: int, seed: int) -> None:
        self.header = Header(plan, {"n": n}, "seed", ToolsetLock.of([plan], LOCKED))
        self.machine = build_machine(self.header)
        self.random = Random(seed)
        self.asked: list = []
        self.under_way: list = []
        self.entries: list[Entry] = []

    def run(self) -> None:
        """Go on until the run has ended."""
        self._take_in(RunStarted("run"))
        for _ in range(EVENTS_MAX):
            if self.machine.status is not None:
                return
            self._move()
        raise AssertionError("the run does not end")

    def _move(self) -> None:
        chance = self.random.random()
        if chance < 0.01:
            self._decide(CancelAsked("me"))
        elif chance < 0.04:
            self.asked, self.under_way = [], []
            self._take_in(RunResumed("me"))
        elif self.asked and (chance < 0.5 or not self.under_way):
            self._start(self.asked.pop(self.random.randrange(len(self.asked))))
        elif self.under_way:
            self._end(self.under_way.pop(self.random.randrange(len(self.under_way))))
        else:
            self._ask_a_person()

    def _start(self, command) -> None:
        if isinstance(command, Continue):
            self._take_in(WorkContinued(command.spent))
            return
        step = command.step
        match command:
            case Pause() if self.machine.is_pausing(step):
                self._take_in(RetryDue(step))
            case RuleApproval() if self.machine.is_callable(step):
                self._take_in(ApprovalRuled(step, self.random.random() < 0.5))
            case StopCall():
                self.under_way = [other for other in self.under_way if other.step != step]
            case StartToolCall() if self.machine.is_callable(step):
                self._call(command)
            case StartModelCall():
                raise AssertionError("these plans have no prompts")

    def _call(self, command: StartToolCall) -> None:
        step, args = command.step, command.args
        effect, _ = TOOLS[command.tool]
        if effect != "write" and self.random.random() < 0.1:
            self._take_in(CallReused(step, args.digest, CanonicalValue.of(1), "key", "other"))
        elif self.random.random() < 0.05:
            self._take_in(CallFailed(step, "bad-args", "it never started"))
        elif effect != "write" and self.random.random() < 0.3 and (made := self._made(command)) is not None:
            self._take_in(made)
        else:
            self._take_in(CallStarted(step, command.attempt, args.digest))
            self.under_way.append(command)

    def _made(self, command: StartToolCall) -> CallMade | None:
        """Return the event that a call returned at once; `None`: this one fails."""
        try:
            output = CanonicalValue.of(answer(command.tool, command.args.value["x"]))
        except ToolError:
            return None
        return CallMade(command.step, command.attempt, command.args.digest, output, self.random.random())

    def _end(self, command: StartToolCall) -> None:
        if not self.machine.is_running(command.step):
            return
        chance, step = self.random.random(), command.step
        if chance < 0.2:
            temporary = self.random.random() < 0.5
            self._take_in(CallFailed(step, "trouble", "busy", temporary, retryable=True))
        elif chance < 0.4 and TOOLS[command.tool][0] == "write":
            self._take_in(CallLost(step, "lost"))
        else:
            try:
                self._take_in(
                    CallSucceeded(step, CanonicalValue.of(answer(command.tool, command.args.value["x"])))
                )
            except ToolError as fault:
                self._take_in(CallFailed(step, "no", str(fault)))

    def _ask_a_person(self) -> None:
        """Nothing goes on by itself: someone decides about a step that waits."""
        assert self.machine.is_stuck()
        assert run_status(self.machine) in (RunStatus.WAITING, RunStatus.INDETERMINATE)
        waiting = [
            iteration
            for iteration in self.machine.iterations.values()
            if iteration.state in (State.WAITING, State.INDETERMINATE)
        ]
        iteration = self.random.choice(waiting)
        if iteration.state is State.WAITING:
            edit = self.random.choice([None, CanonicalValue.of({"x": 2})])
            self._decide(
                self.random.choice(
                    [
                        Approved(iteration.path, "me", iteration.call.digest, edit),
                        Denied(iteration.path, "me", "no"),
                    ]
                )
            )
        else:
            choices = [
                ResolvedDone(iteration.path, CanonicalValue.of(4)),
                ResolvedRetry(iteration.path),
                ResolvedFailed(iteration.path, "no"),
            ]
            self._decide(self.random.choice(choices))

    def _decide(self, decision) -> None:
        if self.machine.accepts(decision):
            self._take_in(decision)

    def _take_in(self, event) -> None:
        commands = self.machine.handle(event, float(len(self.entries)))
        assert_invariants(self.machine)
        for each in (event, *(command.event for command in commands if isinstance(command, Record))):
            self.entries.append(Entry(len(self.entries) + 1, 0.0, each))
        for command in commands:
            if isinstance(command, StopCall):
                self._start(command)
            elif not isinstance(command, Record):
                self.asked.append(command)


@examples(200)
@given(plan=small_plans(), n=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_every_run_ends_by_legal_moves_and_folds_to_the_same_end(plan, n, seed):
    """Failures, losses, cancels, restarts, decisions, in any order; the journal written and read back gives the same run."""
    fuzz = Fuzz(Plan.model_validate(plan), n, seed)
    fuzz.run()
    machine = fuzz.machine
    assert all(cell.state in TERMINAL for cell in walk(machine.root))
    calls = [command for command in fuzz.asked if not isinstance(command, Continue)]
    assert not any(fuzz.machine.is_callable(command.step) for command in calls)
    lines = [write_line(entry.seq, entry.at, entry.event, None)[0] for entry in fuzz.entries]
    again = build_machine(fuzz.header)
    fold(again, [read_entry(line, lambda name: CanonicalValue(b"")) for line in lines])
    assert (again.status, again.digest, again.output) == (machine.status, machine.digest, machine.output)
    assert {path: view.status for path, view in step_views(again).items()} == {
        path: view.status for path, view in step_views(machine).items()
    }
    assert run_errors(again) == run_errors(machine)
    assert run_usage(again)["calls"] == run_usage(machine)["calls"]


@examples(60)
@given(plan=small_plans(), n=st.integers(0, 9), is_cancelled=st.booleans())
def test_the_steps_of_a_run_that_has_not_begun_look_as_each_would_by_itself(plan, n, is_cancelled):
    """They are shown without a look at each of them."""
    machine = build_machine(Fuzz(Plan.model_validate(plan), n, 0).header)
    if is_cancelled:
        machine.handle(CancelAsked("me"))
    assert step_views(machine) == {part.path: _view(part) for part in walk(machine.root)}


@examples(60)
@given(plan=small_plans(), n=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_any_prefix_of_a_journal_is_a_legal_state(plan, n, seed):
    """As long as it ends where a cause and its consequences end: a process may die at any flush."""
    fuzz = Fuzz(Plan.model_validate(plan), n, seed)
    fuzz.run()
    cut = fuzz.random.randrange(len(fuzz.entries) + 1)
    from firmplan.executor.events import CAUSES

    while cut < len(fuzz.entries) and not isinstance(fuzz.entries[cut].event, CAUSES):
        cut += 1
    machine = build_machine(fuzz.header)
    fold(machine, fuzz.entries[:cut])
    assert step_views(machine) is not None
    if machine.status is None and cut:
        machine.handle(RunResumed("me"))
        assert (
            machine.status is not None or not machine.is_stuck() or run_status(machine) != RunStatus.RUNNING
        )


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(10_000, sampled=20))
def test_every_seeded_run_ends_by_legal_moves(seed):
    """The same from a seed alone, for `make sweep`; and once a cancel is taken in, no further call starts."""
    random = Random(seed)
    fuzz = Fuzz(Plan.model_validate(small_plan(random)), random.randrange(10), seed)
    fuzz.run()
    assert all(cell.state in TERMINAL for cell in walk(fuzz.machine.root))
    again = build_machine(fuzz.header)
    fold(again, fuzz.entries)
    assert (again.status, again.digest, again.output) == (
        fuzz.machine.status,
        fuzz.machine.digest,
        fuzz.machine.output,
    )
    events = [entry.event for entry in fuzz.entries]
    cancelled = next((at for at, event in enumerate(events) if isinstance(event, CancelAsked)), len(events))
    assert not [event for event in events[cancelled:] if isinstance(event, CallMade | CallStarted)]
