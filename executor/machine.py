"""The heart: how a run moves. One door, `Machine.handle(event) -> commands`.

Rules it keeps:

- It does no I/O, reads no clock, draws no random number and knows no asyncio: equal events give equal commands. `at` is
  noted for people and budgets, and decides nothing by itself.
- Every change of state is a legal move of `states.MOVES`.
- The outcome of a step depends on the outcomes of its inputs, never on their timing: a step decides once all
  that it waits for has ended, and failures are looked at in a fixed order of precedence.
- Work per event is proportional to the edges of the steps that it ends. Nothing recurses over the plan: what became
  possible goes to an agenda.

How a step goes: its switch (`when`), its inputs, its turn in effect order, then its items, each with its turns
(`cells.py`). What it does not know: tools, stores, models, processes. The driver carries out what `handle` returns.

It is longer than other modules since it is one table of moves: divided, each half would have to trust the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Literal, assert_never

from ..errors import EngineBug
from ..plans.errors import Skipped
from ..plans.expressions.formula import SKIPPED, EvaluationError, Formula, RefersToSkipped
from ..plans.expressions.operators import kind_of
from ..plans.inputs import fit_inputs
from ..plans.program import (
    AskModel,
    CallTool,
    Fail,
    Program,
    RunAgent,
    RunPlan,
    SetValue,
    Skip,
    StepCode,
    UseFallback,
)
from ..plans.signature import Effect
from ..plans.values import Json, NotJson
from .agency import Agency, Answer, NextCall, frame_of
from .budget import Purse, added, amounts_in
from .cells import (
    INNER_FAILED,
    Failure,
    Frame,
    Item,
    Node,
    Order,
    Turn,
    Verdict,
    add_item,
    add_turn,
    first_turn_of,
    is_asked,
    is_bad,
    policies_of,
    sample_of,
    undecided_attempt,
)
from .commands import (
    Command,
    Pause,
    Record,
    RuleApproval,
    StartModelCall,
    StartToolCall,
    StopCall,
)
from .events import (
    RESOLVED_FAILED,
    WITHDRAWN,
    ApprovalAsked,
    ApprovalRuled,
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
    Cause,
    Consequence,
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
    StepCancelled,
    StepFailed,
    StepIndeterminate,
    StepSkipped,
    StepSucceeded,
)
from .fork import Fork, PastWrite
from .outcome import run_digest
from .policy import LOST_RETRIES_MAX, CallPolicy, retry_pause_s
from .scope import Scope, evaluate_bool, failure_of, output_of, request_of, sealed_in
from .sealed import Sealed, Values
from .states import LIVE, MOVES, SOFT, TERMINAL, Reason, RunStatus, State
from .verdict import verdict_of, verdict_of_inputs

ITEMS_MAX: Final = 100_000  # items of one for_each: beyond this a run would not fit in memory
# The version of these moves; a run keeps the version that it began with. 1: a person is asked about the items of an ordered `for_each` one
# after the other, each when its turn comes. 2: a person is asked about all items as one list when the step begins.
RULES_VERSION: Final = 2
DEPTH_MAX: Final = 32  # sub-plans within sub-plans; recursion is refused at check, this bounds honest nesting


DENIED: Final = "denied"  # a person's decision, and the code of the failure that it is
_BEGINNINGS: Final = (RunStarted, RunResumed)
_CALLS: Final = (CallTool, AskModel)  # actions whose end the event of their call says
WHOLE: Final = Fork()  # the fork of a run that is none: nothing is overridden, held or settled


class Turns(dict[str, Turn]):
    """The turns that have started, by path."""

    __slots__ = ()

    def __missing__(self, step: str) -> Turn:
        raise EngineBug(f"an event names step '{step}', which has not started")


class Machine:
    """One run, from its first event to its last.

    Attributes:
        is_started: Whether the run has begun.
        is_recounting: Whether events come from a journal: the calls that were made then are not asked for again.
        status: `None` until the run has finished.
        output: The run's output, once it has succeeded.
        failure: A fault of the run itself (its output expression), not of a step.
        parked: Why nobody drives the run until someone resumes it; `None`: it is not parked.
        fork: How the run came of its parent.
    """

    def __init__(  # noqa: PLR0913  # what a run is made of
        self,
        program: Program,
        inputs: Mapping[str, Json],
        policies: Mapping[str, CallPolicy],
        *,
        seed: str = "",
        budget: Mapping[str, float] | None = None,
        planning: Mapping[str, float] | None = None,
        fork: Fork = WHOLE,
        rules: int = RULES_VERSION,
    ) -> None:
        self._policies = policies
        self._rules = rules
        self._seed = seed
        self._inputs = inputs
        self._policies_of: dict[int, Sequence[CallPolicy]] = {}
        self.turns = Turns()
        self.root = self._new_frame(program, inputs)
        self.is_started = False
        self.is_recounting = False
        self.status: RunStatus | None = None
        self.output: Sealed | None = None
        self.failure: Failure | None = None
        self.parked: RunParked | None = None
        self.digest = ""
        self._cancelled_by: str | None = None
        self.fork = fork
        self.purse = Purse(dict(budget or {}), planning or {})
        self._now = 0.0
        self.size = 0  # bytes of all results, as `limits.py` bounds them
        self._live = 0  # calls ready, running or pausing
        self._agenda: deque[Item | Frame] = deque()
        self._records: list[Command] = []
        self._calls: list[tuple[Turn, Command]] = []

    # --- the door

    def handle(self, event: Cause, at: float = 0.0) -> list[Command]:
        """Take in what happened; return what to do about it: records first, then calls in plan order.

        Raises:
            EngineBug: The event is not possible in the state that its step is in.
        """
        if at > self._now and self._live and self.status is None and not isinstance(event, _BEGINNINGS):
            self._spend_time(at - self._now)
        self._now = at
        match event:
            case CallMade():
                self._call_made(self.turns[event.step], event)
            case CallStarted():
                self._call_started(self.turns[event.step], event.attempt, at)
            case CallSucceeded():
                self._call_returned(self.turns[event.step], event.output, event.usage)
            case CallReused():
                self._call_reused(self.turns[event.step], event)
            case RunStarted() | RunResumed() | RunParked() | BudgetRaised() | CancelAsked():
                self._handle_run(event)
            case _:
                self._handle_turn(self.turns[event.step], event)
        if self._agenda:
            self._work_off()
        records, calls = self._records, self._calls
        if not records and not calls:
            return []
        self._records, self._calls = [], []
        if len(calls) > 1:
            calls.sort(key=_order)
        return records + [command for _, command in calls] if calls else records

    def _spend_time(self, seconds: float) -> None:
        """Count the time while calls are ready or running. Nobody drives a parked run, whatever people decide about it."""
        if self.parked is None:
            self.purse.spent["seconds"] += seconds

    def _handle_run(self, event: RunStarted | RunResumed | RunParked | BudgetRaised | CancelAsked) -> None:
        """Take in what became of the run as a whole."""
        match event:
            case RunStarted():
                self.is_started = True
                self._open_frame(self.root)
            case RunResumed(died=died):
                self.parked = None
                self._take_over(has_died=bool(died))
            case RunParked():
                self.parked = event
            case BudgetRaised(budget=budget):
                self._raise_budget(budget)
            case CancelAsked(by):
                self._cancel(by)

    def _call_made(self, turn: Turn, event: CallMade) -> None:
        if turn.state is not State.READY:
            raise EngineBug(
                f"a call of '{turn.path}' was made that was not asked for: the step is {turn.state}"
            )
        self._reserve(turn)
        turn.attempts, turn.started = event.attempt, event.started
        self._turn_succeeded(turn, event.output)

    def _call_started(self, turn: Turn, attempt: int, at: float) -> None:
        self._reserve(turn)
        self._move(turn, State.RUNNING)
        turn.attempts = attempt
        if turn.started is None:
            turn.started = at

    def _call_returned(self, turn: Turn, output: Sealed, usage: Mapping[str, Json] | None) -> None:
        self._expect_running(turn)
        self.purse.settle(turn.path, usage)
        if usage is not None:
            turn.usage = added(turn.usage, usage)
        self._turn_succeeded(turn, output)

    def _call_reused(self, turn: Turn, event: CallReused) -> None:
        turn.reused = True
        turn.started = self._now
        self._turn_succeeded(turn, event.output)

    def _expect_running(self, turn: Turn) -> None:
        if turn.state is not State.RUNNING:
            raise EngineBug(f"a call of '{turn.path}' ended that never started: the step is {turn.state}")

    def _handle_turn(self, turn: Turn, event: Cause) -> None:
        """Take in what else became of a call."""
        match event:
            case CallFailed():
                self._call_failed(turn, event)
            case CallLost(why=why):
                self._expect_running(turn)
                self._call_lost(turn, why)
            case RetryDue():
                turn.pause_s = None
                self._start_call(turn)
            case BudgetReached():
                self._move(turn, State.WAITING)
                turn.reason = Reason.BUDGET
            case ApprovalRuled(needed=needed):
                turn.is_ruled = True
                if needed:
                    self._ask_approval(turn)
                elif turn.is_ahead:
                    self._move(turn, State.PENDING)
                else:
                    self._start_call(turn)
            case _:
                self._decided(turn, event)

    def _decided(self, turn: Turn, event: Cause) -> None:
        """Take in what a person decided."""
        match event:
            case Approved(by=by, edit=edit):
                turn.verdict, turn.is_approved = Verdict("approved", by, edit=edit), True
                turn.reason = None
                turn.call = edit or turn.call
                self._move(turn, State.PENDING if turn.is_ahead else State.READY)
                if not turn.is_ahead:
                    self._start_call(turn)
            case Denied(by=by, reason=reason):
                turn.verdict = Verdict(DENIED, by, reason)
                turn.reason = None
                if turn.is_ahead:
                    # The outcome of this item depends on the items before it. The later items are blocked in any case, so no person is asked.
                    self._move(turn, State.PENDING)
                    self._block_items_after(turn.item)
                else:
                    self._deny(turn, turn.verdict)
            case ResolvedDone(output=output, by=by):
                turn.verdict = Verdict("resolved as done", by or "")
                self._turn_succeeded(turn, output)
            case ResolvedRetry(by=by):
                turn.verdict = Verdict("resolved to be called again", by or "")
                self._move(turn, State.READY)
                turn.lost = 0
                self._start_call(turn)
            case ResolvedFailed(why=why, by=by):
                turn.verdict = Verdict("resolved as failed", by or "", why)
                self._turn_failed(turn, Failure(RESOLVED_FAILED, why))
            case _:
                raise EngineBug(f"{type(event).__name__} is not an event of a step")

    def _deny(self, turn: Turn, verdict: Verdict) -> None:
        turn.failure = Failure(DENIED, verdict.reason or f"denied by {verdict.by}")
        self._turn_cancelled(turn, Reason.DENIED)

    def accepts(self, decision: Cause) -> bool:
        """Whether a person's decision still applies: the same attempt waits, with exactly the arguments that were shown."""
        if self.status is not None or isinstance(decision, BudgetRaised):
            return self.status is None
        if isinstance(decision, CancelAsked):
            return self._cancelled_by is None
        turn = self.turns.get(getattr(decision, "step", ""))
        attempt = getattr(decision, "attempt", None)
        if turn is None or (attempt is not None and attempt != undecided_attempt(turn)):
            return False
        match decision:
            case Approved(args=args):
                return is_asked(turn) and turn.call is not None and turn.call.digest == args
            case Denied():
                return is_asked(turn)
            case _:
                return turn.state is State.INDETERMINATE

    def find_short(self, step: str, at: float) -> str | None:
        """Return the limit of the budget that the call would pass now, or `None`."""
        if not self.purse.limits:
            return None
        seconds = self.purse.spent["seconds"] + max(0.0, at - self._now)
        return self.purse.find_short(self._needs(self.turns[step]), seconds)

    def _reserve(self, turn: Turn) -> None:
        """Set aside what a call needs."""
        if turn.item.node.policy.effect is Effect.MODEL:
            self.purse.reserve(turn.path, self._needs(turn))
        elif not turn.attempts or turn.is_cut_off:
            self.purse.spent["steps"] += 1.0
        if turn.is_cut_off:
            turn.is_cut_off = False

    def _needs(self, turn: Turn) -> Mapping[str, float]:
        action = turn.item.node.code.action
        tokens_max = action.max_tokens if isinstance(action, AskModel) else None
        is_model = turn.item.node.policy.effect is Effect.MODEL
        # A call that a death cut off uses budget again when it is repeated: a step that kills its process must not do so for free.
        is_first = not turn.attempts or turn.is_cut_off
        return self.purse.needs_of(is_first=is_first, is_model=is_model, tokens_max=tokens_max)

    def _raise_budget(self, budget: Mapping[str, Json]) -> None:
        """Take in a changed budget, and try again what waits for it."""
        self.purse.limits.update(amounts_in(budget))
        for turn in self._leaf_turns():
            if turn.state is State.WAITING and turn.reason is Reason.BUDGET:
                self._move(turn, State.READY)
                turn.reason = None
                self._start_call(turn)

    @property
    def is_cancelled(self) -> bool:
        """Whether someone has asked the run to stop."""
        return self._cancelled_by is not None

    def withdrawn(self, step: str) -> CallFailed | CallLost:
        """Return the end of a call that was noted and then, since the run was cancelled, not made.

        It did nothing, but an earlier attempt whose outcome is unknown may have.
        """
        if self.turns[step].lost:
            return CallLost(
                step, "an earlier attempt may have taken effect, and the run was cancelled before another"
            )
        return CallFailed(step, WITHDRAWN, "the run was cancelled before the call was made")

    def is_callable(self, step: str) -> bool:
        """Whether the call that was asked for may still start: a cancel may have come between."""
        turn = self.turns.get(step)
        return turn is not None and turn.state is State.READY and turn.pause_s is None

    def is_running(self, step: str) -> bool:
        """Whether the step's call is under way as far as the run is concerned: it may have been stopped."""
        turn = self.turns.get(step)
        return turn is not None and turn.state is State.RUNNING

    def is_pausing(self, step: str) -> bool:
        """Whether the step waits for the time of its next attempt."""
        turn = self.turns.get(step)
        return turn is not None and turn.state is State.READY and turn.pause_s is not None

    def tool_of(self, step: str) -> str | None:
        """Return the name of the tool that the leaf calls, or `None` where it calls none."""
        turn = self.turns.get(step)
        action = turn.item.node.code.action if turn is not None else None
        return action.tool if isinstance(action, CallTool) else None

    def past_write_of(self, turn: Turn) -> PastWrite | None:
        """Return what an earlier run knows of a call that waits for a person."""
        if not is_asked(turn) or turn.call is None:
            return None
        tool = self.tool_of(turn.path) or ""
        past = self.fork.find_past(turn.path, tool, turn.call.digest)
        return past or self.fork.find_done(turn.path, tool, turn.call, turn.item.node.policy.defaults)

    def is_stuck(self) -> bool:
        """Whether nothing goes on without a person: unfinished, and no call ready, running or pausing."""
        return self.status is None and self._live == 0

    # --- frames and nodes

    def _new_frame(self, program: Program, inputs: Mapping[str, Json], owner: Turn | None = None) -> Frame:
        treated = self._policies_of.get(id(program))
        if treated is None:
            treated = self._policies_of[id(program)] = policies_of(program, self._policies)
        prefix = f"{owner.path}/" if owner else ""
        return Frame(program, treated, inputs, prefix=prefix, owner=owner)

    def _open_frame(self, frame: Frame) -> None:
        overrides = self.fork.overrides
        if overrides:
            self._agenda.extend(
                node for node in frame.nodes if not node.pending_when or node.path in overrides
            )
        else:
            self._agenda.extend([frame.nodes[position] for position in frame.program.waits.first])
        if not frame.nodes:
            self._agenda.append(frame)

    def _work_off(self) -> None:
        """Go on with what became possible, until nothing more does."""
        agenda = self._agenda
        while agenda:
            next_up = agenda.popleft()
            if isinstance(next_up, Node) and not next_up.is_due:
                self._advance(next_up)
            elif isinstance(next_up, Item):
                self._next_turn(next_up)
            else:
                self._close_frame(next_up)

    def _advance(self, node: Node) -> None:
        """Take a node as far as what has ended allows."""
        if node.state is not State.PENDING:
            return
        overrides = self.fork.overrides
        if overrides and (value := overrides.get(node.path)) is not None:
            self._end_overridden(node, value)
        elif not node.pending_when and self._is_admitted(node):
            self._begin(node)

    def _is_admitted(self, node: Node) -> bool:  # noqa: PLR0911  # one way out for each thing it waits for
        """Whether a pending step begins now; if it ends without beginning, that is done here."""
        code = node.code
        if code.when is not None and not node.is_switched:
            node.is_switched = True
            if not self._is_switched_on(node, code.when):
                return False
        if node.pending:
            return False
        verdict = None if node.frame.is_well else verdict_of_inputs(node)
        if verdict is not None:
            self._end_node(node, *verdict)
            return False
        if not code.touches:
            return True
        ledger = node.frame.ledger
        if not ledger.admit(code):
            return False
        if ledger.is_blocked(code):
            self._end_node(node, State.SKIPPED, Reason.BLOCKED)
            return False
        return True

    def _end_overridden(self, node: Node, value: Sealed) -> None:
        """End a step whose value a fork gives: nothing of it runs, whatever it waits for."""
        self._end_node(node, State.SUCCEEDED, output=value)
        self._record(StepSucceeded(node.path, value.digest))

    def _is_switched_on(self, node: Node, when: Formula) -> bool:
        code = node.code
        if code.when_filters:
            return True
        verdict = verdict_of(node, code.needs_when)
        if verdict is not None and verdict[1] is not Reason.SKIPPED_REFERENCE:
            self._end_node(node, *verdict)  # a reference to a skipped step is for `when` itself to say
            return False
        try:
            is_on = evaluate_bool(when, node.frame.scope, "when")
        except RefersToSkipped:
            self._end_node(node, State.SKIPPED, Reason.SKIPPED_REFERENCE)
            return False
        except (EvaluationError, NotJson) as fault:
            self._node_failed(node, failure_of(fault))
            return False
        if not is_on:
            self._end_node(node, State.SKIPPED, Reason.WHEN)
        return is_on

    def _begin(self, node: Node) -> None:
        """Make the node's items and start them: all at once, or the first where order matters."""
        if node.code.for_each is None:
            node.items, node.is_due = (node,), True
            self._agenda.append(node)
            return
        self._move(node, State.RUNNING)
        try:
            items = self._expand(node, node.code.for_each)
        except RefersToSkipped:
            for item in node.items:
                if item.state is State.PENDING:  # the filter refers to it
                    self._move(item, State.SKIPPED)
                    item.reason = Reason.SKIPPED_REFERENCE
            self._end_node(node, State.SKIPPED, Reason.SKIPPED_REFERENCE)
            return
        except (EvaluationError, NotJson) as fault:
            self._node_failed(node, failure_of(fault))
            return
        node.open_items = len(items)
        if not items:
            self._finish_node(node)
        if node.code.sequential:
            self._begin_in_order(items)
        else:
            self._agenda.extend(items)

    def _begin_in_order(self, items: Sequence[Item]) -> None:
        """Start the first of some items that run one after the other."""
        if self._rules < 2:
            self._agenda.extend(items[:1])
        elif items:
            self._next_turn(items[0])
            for item in items[1:]:
                self._ask_ahead(item)

    def _expand(self, node: Node, for_each: Formula) -> list[Item]:
        values = for_each.evaluate(node.frame.scope)
        if not isinstance(values, list):
            raise EvaluationError("not-a-list", f"for_each needs a list, found {kind_of(values)}")
        if len(values) > ITEMS_MAX:
            raise EvaluationError(
                "limit-exceeded", f"for_each over {len(values)} items; the limit is {ITEMS_MAX}"
            )
        node.items = items = [add_item(node, index, value) for index, value in enumerate(values)]
        when = node.code.when if node.code.when_filters else None
        return [item for item in items if when is None or self._is_kept(item, when)]

    def _is_kept(self, item: Item, when: Formula) -> bool:
        try:
            with Scope(item) as scope:
                if evaluate_bool(when, scope, "when"):
                    return True
        except (EvaluationError, NotJson) as fault:
            item.failure = failure_of(fault)
            return True  # it fails when its turn comes, as any other item
        self._move(item, State.SKIPPED)
        item.reason = Reason.WHEN
        return False

    def _close_frame(self, frame: Frame) -> None:
        """Every node of the frame has ended: give the output, or the failure, to its owner."""
        if frame.owner is not None and frame.owner.agency is not None:
            self._agent_stepped(frame.owner, frame.owner.agency, frame.nodes[0])
            return
        states = {node.state for node in frame.nodes}
        output, failure = None, None
        if State.FAILED not in states and State.CANCELLED not in states:
            try:
                output = output_of(frame)
            except (EvaluationError, NotJson) as fault:
                failure = failure_of(fault)
        if frame.owner is None:
            self._finish_run(states, output, failure)
        elif State.FAILED in states:
            self._turn_failed(frame.owner, None)
        elif State.CANCELLED in states:
            reasons = {node.reason for node in frame.nodes if node.state is State.CANCELLED}
            self._turn_cancelled(frame.owner, Reason.DENIED if Reason.DENIED in reasons else Reason.CANCELLED)
        elif failure is not None:
            self._turn_failed(frame.owner, failure)
        else:
            self._turn_succeeded(frame.owner, output or Sealed(b"null"))

    def _finish_run(self, states: set[State], output: Sealed | None, failure: Failure | None) -> None:
        if self._cancelled_by is not None and State.CANCELLED in states:
            self.status = RunStatus.CANCELLED
        elif output is None:
            self.status = RunStatus.FAILED
        else:
            self.status = RunStatus.SUCCEEDED
        self.output, self.failure = output, failure
        self.digest = run_digest(self.root, self._inputs)
        self._record(RunFinished(self.status.value, self.digest))

    # --- items and turns

    def _next_turn(self, item: Item) -> None:
        """Start the item's next iteration."""
        node = item.node
        node.is_due = False
        if item is not node and self._is_over_or_asked(item):
            return
        turn = add_turn(item)
        if turn is not item and item.state is State.PENDING:
            self._move(item, State.RUNNING)
        self.turns[turn.path] = turn
        try:
            if item is node and turn.iteration == 0:  # it sees what its frame sees
                self._start_turn(turn, node.frame.scope)
            else:
                with Scope(item) as scope:
                    self._start_turn(turn, scope)
        except RefersToSkipped:
            if turn is not item:
                self._move(turn, State.SKIPPED)
                turn.reason = Reason.SKIPPED_REFERENCE
            self._end_item(item, State.SKIPPED, Reason.SKIPPED_REFERENCE)
        except (EvaluationError, NotJson) as fault:
            self._turn_failed(turn, failure_of(fault))

    def _is_over_or_asked(self, item: Item) -> bool:
        """Whether an item needs no new turn: it ends here, or its turn exists because a person was asked about it."""
        if item.failure is not None:  # its filter could not be evaluated
            self._item_failed(item, item.failure)
        elif (value := self.fork.overrides.get(item.path)) is not None:
            self._end_item(item, State.SUCCEEDED, output=value)
        elif item.turns and item.turns[-1].is_ahead:
            self._turn_came(item.turns[-1])
        else:
            return False
        return True

    def _ask_ahead(self, item: Item) -> None:
        """Ask a person about an item's call before its turn comes, so that the person sees the whole list.

        Does nothing if the arguments cannot be computed yet; a fault in them is reported when the item's turn comes.
        """
        node, action = item.node, item.node.code.action
        is_own = (
            item.state is not State.PENDING or item.failure is not None or item.path in self.fork.overrides
        )
        if is_own or not isinstance(action, CallTool):
            return
        path = item.path if node.code.repeat is None else first_turn_of(item)
        if node.policy.approval == "never" and not self._may_be_held(path, node.policy):
            return
        try:
            with Scope(item) as scope:
                call = sealed_in(action.args, scope)
        except (RefersToSkipped, EvaluationError, NotJson):
            return
        if self._ruling(path, node, call) != "free":
            turn = add_turn(item)
            turn.is_ahead = True
            self.turns[turn.path] = turn
            self._ready(turn, call)

    def _turn_came(self, turn: Turn) -> None:
        """Continue a call about which a person was asked ahead of its turn."""
        turn.is_ahead = False
        if turn is not turn.item:
            self._move(turn.item, State.RUNNING)
        if turn.state is not State.PENDING:
            return  # nobody has decided yet
        if turn.verdict is not None and turn.verdict.what == DENIED:
            self._deny(turn, turn.verdict)
        else:
            self._move(turn, State.READY)
            self._start_call(turn)

    def _start_turn(self, turn: Turn, scope: Values) -> None:
        if self._cancelled_by is not None:
            self._turn_cancelled(turn, Reason.CANCELLED)
            return
        action = turn.item.node.code.action
        match action:
            case CallTool(args=args):
                self._ready(turn, sealed_in(args, scope))
            case SetValue(value):
                self._turn_succeeded(turn, sealed_in(value, scope))
            case AskModel() as ask:
                self._ready(turn, Sealed.of(request_of(ask, scope)))
            case RunPlan(program=program, args=args):
                self._enter_plan(turn, program, args.evaluate(scope))
            case RunAgent() as agent:
                self._enter_agent(turn, agent, scope)
            case _:
                assert_never(action)

    def _enter_plan(self, turn: Turn, program: Program, args: Json) -> None:
        inputs, problems = fit_inputs(program.plan, args)
        if problems:
            raise EvaluationError("bad-args", "; ".join(problem.message for problem in problems))
        if turn.path.count("/") >= DEPTH_MAX:
            raise EvaluationError("limit-exceeded", f"sub-plans nested deeper than {DEPTH_MAX}")
        frame = self._new_frame(program, inputs, turn)
        self._occupy(turn)
        self._run_frame(turn, frame)

    def _occupy(self, turn: Turn) -> None:
        """Have a turn hold inner steps, rather than call something itself."""
        turn.started = self._now
        self._move(turn, State.RUNNING)

    def _run_frame(self, turn: Turn, frame: Frame) -> None:
        turn.frames = (*turn.frames, frame)
        self._open_frame(frame)

    # --- agents

    def _enter_agent(self, turn: Turn, agent: RunAgent, scope: Mapping[str, Json | Skipped]) -> None:
        goal = agent.goal.evaluate(scope)
        if not isinstance(goal, str):
            raise EvaluationError("type-error", f"an agent's goal is text, found {kind_of(goal)}")
        turn.agency = Agency(agent, goal)
        self._occupy(turn)
        self._think(turn, turn.agency)

    def _think(self, turn: Turn, agency: Agency) -> None:
        """Ask the agent's model what to do next, unless a limit is reached."""
        calls = (
            inner
            for frame in turn.frames
            for node in frame.nodes
            for item in node.items
            for inner in item.turns
        )
        if self._cancelled_by is not None:
            self._turn_cancelled(turn, Reason.CANCELLED)
        elif (failure := agency.find_exhausted(calls)) is not None:
            self._turn_failed(turn, failure)
        else:
            self._run_inner(turn, agency.thought())

    def _run_inner(self, turn: Turn, code: StepCode) -> None:
        self._run_frame(turn, frame_of(code, turn, self._policies))

    def _agent_stepped(self, turn: Turn, agency: Agency, node: Node) -> None:
        """A thought or a call of an agent has ended: go on with what follows from it."""
        if node.state is State.CANCELLED:
            self._turn_cancelled(turn, node.reason or Reason.CANCELLED)
        elif isinstance(node.code.action, CallTool):
            agency.note(node)
            self._think(turn, agency)
        elif node.output is None:
            self._turn_failed(turn, None)
        else:
            match agency.decide(node.output.value):
                case Answer(value):
                    self._turn_succeeded(turn, Sealed.of(value))
                case NextCall() as call:
                    self._run_inner(turn, agency.act(call))
                case None:
                    self._think(turn, agency)

    def _ready(self, turn: Turn, call: Sealed) -> None:
        turn.call = call
        self._move(turn, State.READY)
        turn.is_call = True
        self._live += 1
        self._start_call(turn)

    def _turn_succeeded(self, turn: Turn, output: Sealed) -> None:
        turn.call, turn.failure, turn.finished = None, None, self._now
        self.size += len(output.data)
        item, code = turn.item, turn.item.node.code
        if turn is not item:
            self._move(turn, State.SUCCEEDED)
            turn.output = output
        if not isinstance(code.action, _CALLS):
            self._record(StepSucceeded(turn.path, output.digest))
        repeat = code.repeat
        if repeat is None:
            self._end_item(item, State.SUCCEEDED, output=output)
            return
        try:
            with Scope(item, made=turn) as scope:
                is_done = evaluate_bool(repeat.until, scope, "repeat.until")
        except (EvaluationError, NotJson) as fault:
            self._item_failed(item, failure_of(fault))
            return
        if is_done:
            self._end_item(item, State.SUCCEEDED, output=output)
        elif turn.iteration + 1 >= repeat.count_max:
            message = f"`until` did not hold after {repeat.count_max} iterations"
            self._item_failed(item, Failure("repeat-exhausted", message))
        else:
            item.node.is_due = item is item.node
            self._agenda.append(item)

    def _turn_failed(self, turn: Turn, failure: Failure | None) -> None:
        """End a turn as failed; without a failure of its own, an inner step says why."""
        turn.call, turn.finished = None, self._now
        if turn is not turn.item:
            self._move(turn, State.FAILED)
            turn.failure = failure
            if failure is not None:
                self._record(StepFailed(turn.path, failure.code, failure.message))
        self._item_failed(turn.item, failure)

    def _turn_cancelled(self, turn: Turn, reason: Reason) -> None:
        turn.call, turn.finished = None, self._now
        if turn is not turn.item:
            self._move(turn, State.CANCELLED)
            turn.reason = reason
        self._end_item(turn.item, State.CANCELLED, reason)

    def _item_failed(self, item: Item, failure: Failure | None) -> None:
        """Apply `on_error`."""
        item.failure = failure or INNER_FAILED
        match item.node.code.on_error:
            case Fail():
                self._end_item(item, State.FAILED)
            case Skip():
                self._end_item(item, State.SKIPPED, Reason.ON_ERROR)
            case UseFallback(value):
                try:
                    with Scope(item) as scope:
                        output = Sealed.of(value.evaluate(scope))
                except (EvaluationError, NotJson, RefersToSkipped) as fault:
                    item.failure = failure_of(fault)
                    self._end_item(item, State.FAILED)
                else:
                    item.is_replaced = True
                    self._end_item(item, State.SUCCEEDED, output=output)

    def _end_item(
        self, item: Item, state: State, reason: Reason | None = None, output: Sealed | None = None
    ) -> None:
        """End an item; a step that is its own only item ends with it."""
        node = item.node
        if item is node:
            self._end_node(node, state, reason, output)
            return
        self._move(item, state)
        item.reason, item.output = reason, output
        self._record_end(item)
        node.open_items -= 1
        if node.code.sequential:
            self._after_sequential(item)
        if node.open_items == 0:
            self._finish_node(node)

    def _after_sequential(self, item: Item) -> None:
        """Start the next item of an ordered `for_each`, or block the rest."""
        if is_bad(item, SOFT):
            self._block_items_after(item)
        else:
            self._agenda.extend(islice(_open_items_after(item), 1))

    def _block_items_after(self, item: Item) -> None:
        """End the later items of an ordered `for_each`, which may not start any more."""
        for other in _open_items_after(item):
            for turn in other.turns:  # a person was asked about it
                turn.call, turn.is_ahead = None, False
                if turn is not other:
                    self._move(turn, State.SKIPPED)
                    turn.reason = Reason.BLOCKED
            self._move(other, State.SKIPPED)
            other.reason = Reason.BLOCKED
            self._record_end(other)
            item.node.open_items -= 1

    # --- calls

    def _start_call(self, turn: Turn) -> None:
        """Ask for the call, or for the person that it needs."""
        if self._cancelled_by is not None:
            self._turn_cancelled(turn, Reason.CANCELLED)
            return
        code = turn.item.node.code
        policy, call = turn.item.node.policy, turn.call
        if call is None:
            raise EngineBug(f"step '{turn.path}' is ready without arguments")
        if (
            (policy.approval != "never" or policy.effect is Effect.WRITE)
            and isinstance(code.action, CallTool)
            and self._needs_ruling(turn, policy)
        ):
            self._rule(turn, code.action.tool, call)
        elif not self.is_recounting:
            self._calls.append((turn, self._call_of(turn, policy, call)))

    def _call_of(self, turn: Turn, policy: CallPolicy, call: Sealed) -> Command:
        """Return the call that a turn is ready for."""
        code = turn.item.node.code
        timeout_s = code.timeout_s if code.timeout_s is not None else policy.timeout_s
        match code.action:
            case CallTool(tool=tool, secrets=secrets):
                reconcile = policy.can_reconcile and (
                    turn.lost > 0 or bool(self.fork.key_of(turn.path, tool, call.digest))
                )
                sample = sample_of(turn) if policy.effect is Effect.MODEL else ()
                return StartToolCall(
                    turn.path, tool, call, secrets, turn.attempts + 1, sample, timeout_s, reconcile
                )
            case AskModel() as ask:
                return StartModelCall(
                    turn.path,
                    call,
                    ask.returns,
                    ask.model,
                    ask.temperature,
                    ask.max_tokens,
                    ask.guard,
                    turn.attempts + 1,
                    sample_of(turn),
                    timeout_s,
                )
            case _:
                raise EngineBug(f"step '{turn.path}' has nothing to call")

    def _needs_ruling(self, turn: Turn, policy: CallPolicy) -> bool:
        if turn.is_ruled or turn.call is None:
            return False
        tool = self.tool_of(turn.path) or ""
        return policy.approval != "never" or self._is_held(turn.path, policy, tool, turn.call)

    def _is_held(self, path: str, policy: CallPolicy, tool: str, call: Sealed) -> bool:
        """Whether this write waits for a person because of the fork."""
        return policy.effect is Effect.WRITE and (
            self.fork.is_held(path, tool, call.digest)
            or self.fork.find_done(path, tool, call, policy.defaults) is not None
        )

    def _may_be_held(self, path: str, policy: CallPolicy) -> bool:
        """Whether a write at this path may wait for a person because of the fork, depending on its arguments."""
        return policy.effect is Effect.WRITE and (
            self.fork.is_held(path, "", "") or self.fork.may_repeat(path)
        )

    def _ruling(self, path: str, node: Node, call: Sealed) -> Literal["free", "asked", "ruled"]:
        """Return whether a call is free, a person is asked about it, or the tool's own rule decides that."""
        policy = node.policy
        if self.fork.is_settled(path, call.digest):
            return "free"
        is_tainted = bool(node.code.tainted)
        tool = node.code.action.tool if isinstance(node.code.action, CallTool) else ""
        if self._is_held(path, policy, tool, call) or policy.approval == "always":
            return "asked"
        if policy.approval == "never":
            return "free"
        if is_tainted:
            return "asked"
        return "ruled" if policy.approval == "rule" else "free"

    def _rule(self, turn: Turn, tool: str, call: Sealed) -> None:
        """Decide whether a person is needed, or have the tool's own rule decide."""
        match self._ruling(turn.path, turn.item.node, call):
            case "free":
                turn.is_ruled = True
                self._start_call(turn)
            case "asked":
                turn.is_ruled = True
                self._ask_approval(turn)
            case "ruled":
                self._calls.append((turn, RuleApproval(turn.path, tool, call)))

    def _ask_approval(self, turn: Turn) -> None:
        self._move(turn, State.WAITING)
        turn.reason = Reason.APPROVAL
        self._record(ApprovalAsked(turn.path, turn.call or Sealed(b"null")))

    def _call_failed(self, turn: Turn, event: CallFailed) -> None:
        policy, code = turn.item.node.policy, turn.item.node.code
        self.purse.settle(turn.path, event.usage)
        turn.usage = added(turn.usage, event.usage)
        retries = code.retries if code.retries is not None else policy.retries
        is_safe = policy.effect is not Effect.WRITE or policy.idempotent or event.temporary
        turn.failed += 1
        if event.code == WITHDRAWN and self._cancelled_by is not None:
            self._turn_cancelled(turn, Reason.CANCELLED)
            return
        if event.retryable and is_safe and turn.failed <= retries and self._cancelled_by is None:
            self._retry(turn)
            return
        self._turn_failed(turn, Failure(event.code, event.message, event.temporary, event.is_done))

    def _retry(self, turn: Turn) -> None:
        if turn.state is not State.READY:
            self._move(turn, State.READY)
        turn.pause_s = retry_pause_s(turn.attempts, seed=self._seed, step=turn.path)
        self._record(RetryScheduled(turn.path, turn.attempts + 1, turn.pause_s))
        self._calls.append((turn, Pause(turn.path, turn.pause_s)))

    def _call_lost(self, turn: Turn, why: str) -> None:
        """A write may or may not have happened: call again only where that is known to be safe."""
        policy = turn.item.node.policy
        self.purse.settle(turn.path, None)
        turn.lost += 1
        may_repeat = policy.idempotent or policy.can_reconcile
        if may_repeat and turn.lost <= LOST_RETRIES_MAX and self._cancelled_by is None:
            self._retry(turn)
        else:
            self._lose(turn, why)

    def _lose(self, turn: Turn, why: str) -> None:
        """Leave it to a person what became of the call."""
        self._move(turn, State.INDETERMINATE)
        turn.pause_s, turn.reason = None, None
        turn.failure = Failure("outcome-unknown", why)
        self._record(StepIndeterminate(turn.path, why))

    def _take_over(self, *, has_died: bool) -> None:
        """Go on after a stop: what was in flight was cut off, what was ready is asked for again."""
        for turn in self._leaf_turns():
            if has_died and turn.state is State.RUNNING:
                turn.is_cut_off = True
            if turn.state is State.RUNNING and turn.item.node.policy.effect is Effect.WRITE:
                self._call_lost(turn, "the process stopped in mid-call")
            elif turn.state is State.RUNNING:
                self._move(turn, State.READY)
                self._start_call(turn)
            elif turn.state is State.READY and turn.pause_s is not None:
                self._calls.append((turn, Pause(turn.path, turn.pause_s)))
            elif turn.state is State.READY:
                self._start_call(turn)

    def _cancel(self, by: str) -> None:
        """Start nothing more. Writes in flight end by themselves: stopping one would leave its outcome unknown."""
        self._cancelled_by = by
        for turn in self._leaf_turns():
            is_writing = turn.state is State.RUNNING and turn.item.node.policy.effect is Effect.WRITE
            # The end of an earlier item may have blocked this one a moment ago.
            if is_writing or turn.state is State.INDETERMINATE or turn.state in TERMINAL:
                continue
            if turn.state is State.RUNNING or turn.pause_s is not None:
                self._calls.append((turn, StopCall(turn.path)))
            if turn.lost:
                self._lose(turn, "the run was cancelled before it was known what became of an earlier call")
            else:
                self._turn_cancelled(turn, Reason.CANCELLED)
        for frame in self._frames():
            for node in frame.nodes:
                if node.state is State.PENDING:
                    self._end_node(node, State.CANCELLED, Reason.CANCELLED)

    def _leaf_turns(self) -> list[Turn]:
        turns = [t for t in self.turns.values() if t.is_leaf and t.state not in TERMINAL]
        return sorted(turns, key=lambda turn: turn.order)

    def _frames(self) -> Iterator[Frame]:
        yield self.root
        yield from [frame for turn in self.turns.values() for frame in turn.frames]

    # --- ends

    def _node_failed(self, node: Node, failure: Failure) -> None:
        """The step failed before it had items: `on_error` is about items, or about a step that runs once."""
        if node.code.for_each is None:
            self._item_failed(node, failure)
        else:
            node.failure = failure
            self._end_node(node, State.FAILED)

    def _finish_node(self, node: Node) -> None:
        """Every item of a list has ended: the node's state follows from theirs."""
        kept = [item for item in node.items if item.reason is not Reason.WHEN]
        states = {item.state for item in kept}
        reasons = {item.reason for item in kept}
        if State.FAILED in states:
            self._end_node(node, State.FAILED)
        elif State.CANCELLED in states:
            self._end_node(
                node, State.CANCELLED, Reason.DENIED if Reason.DENIED in reasons else Reason.CANCELLED
            )
        elif Reason.SKIPPED_REFERENCE in reasons:
            self._end_node(node, State.SKIPPED, Reason.SKIPPED_REFERENCE)
        else:
            parts = [item.output.data for item in kept if item.output is not None]
            self._end_node(node, State.SUCCEEDED, output=Sealed(b"[" + b",".join(parts) + b"]"))

    def _end_node(
        self, node: Node, state: State, reason: Reason | None = None, output: Sealed | None = None
    ) -> None:
        """End a step, and look again at what waited for it."""
        self._move(node, state)
        node.reason, node.output, node.finished = reason, output, self._now
        frame, code = node.frame, node.code
        if state is not State.SUCCEEDED:
            frame.is_well = False
        if (
            state is not State.SUCCEEDED
            or code.for_each is not None
            or code.repeat is not None
            or node.is_replaced
        ):
            self._record_end(node)  # else the event of its only call or value says it already
        if output is not None:
            frame.scope.sealed[code.id] = output
        else:
            frame.scope[code.id] = SKIPPED
        nodes = frame.nodes
        for position, is_switch in frame.program.waits.dependents[code.position]:
            waiting = nodes[position]
            waiting.pending -= 1
            if is_switch:
                waiting.pending_when -= 1
            if not waiting.pending or (is_switch and not waiting.pending_when):
                self._agenda.append(waiting)
        if code.touches:
            for position in frame.ledger.settle(code, is_bad=is_bad(node, SOFT)):
                self._agenda.append(frame.nodes[position])
        frame.open_nodes -= 1
        if frame.open_nodes == 0:
            self._agenda.append(frame)

    def _record_end(self, cell: Item) -> None:
        match cell.state:
            case State.SUCCEEDED:
                self._record(StepSucceeded(cell.path, cell.output.digest if cell.output else ""))
            case State.FAILED:
                failure = cell.failure or Failure("items-failed", "at least one of its parts failed")
                self._record(StepFailed(cell.path, failure.code, failure.message))
            case State.SKIPPED:
                self._record(StepSkipped(cell.path, cell.reason or ""))
            case _:
                self._record(StepCancelled(cell.path, cell.reason or ""))

    def _record(self, event: Consequence) -> None:
        self._records.append(Record(event))

    def _move(self, cell: Turn, state: State) -> None:
        before = cell.state
        if state not in MOVES[before]:
            raise EngineBug(f"illegal move of '{cell.path}': {before} -> {state}")
        if cell.is_call:
            self._live += (state in LIVE) - (before in LIVE)
        cell.state = state


def _open_items_after(item: Item) -> Iterator[Item]:
    """Yield the later items of a `for_each` that have not ended."""
    if item.index is not None:
        items = item.node.items
        yield from (items[at] for at in range(item.index + 1, len(items)) if items[at].state not in TERMINAL)


def _order(call: tuple[Turn, Command]) -> Order:
    return call[0].order
