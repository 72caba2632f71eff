"""The state machine that moves a run. It has one entrance: `Machine.handle(event) -> commands`.

Rules that it keeps:

- It does no I/O, reads no clock, draws no random number and knows no asyncio: equal events give equal commands. The times of events are kept
  for people and for budgets; no move depends on them.
- Every change of state is a legal move of `states.MOVES`.
- The outcome of a step depends on the outcomes of its inputs, never on their timing: a step decides when all its inputs have ended, and
  `skip_rules.py` looks at failures in a fixed order of precedence.
- The work for an event is proportional to the edges of the steps that it ends. Nothing recurses over the plan: nodes, items and frames
  that may continue are put on an agenda.

A step passes these stations: its condition (`when`), its inputs, its place in effect order, then its items, each with its iterations
(`execution_tree.py`). The machine does not know tools, stores, models or processes. The driver carries its commands out.

The module is long because it is one table of moves: each half of a divided machine would have to trust the invariants of the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, Literal, TypeAlias, assert_never, cast

from ..errors import EngineBug, PlanRejected
from ..plans.durations import duration_text, time_text
from ..plans.expressions.formula import Formula
from ..plans.expressions.operators import WORK_MAX, Meter, kind_of
from ..plans.inputs import fit_inputs
from ..plans.program.program import (
    Action,
    AskAgent,
    AskModel,
    AskPerson,
    AskPlanner,
    CallTool,
    Fail,
    FailWith,
    Program,
    RunAgent,
    RunPlan,
    RunPlanned,
    RunSubPlan,
    SetValue,
    Skip,
    StepCode,
    UseFallback,
    WaitUntil,
)
from ..plans.reports.errors import SKIPPED, EvaluationError, RefersToSkipped
from ..plans.signature import Effect
from ..plans.values import Json, NotJson
from ..plans.waits import due_of
from .budget import Budget, added, amounts_in
from .canonical_value import CanonicalValue, Scope
from .commands import (
    Command,
    Continue,
    FollowCall,
    Pause,
    Record,
    RecordEndorsement,
    RuleApproval,
    StartModelCall,
    StartPlanning,
    StartToolCall,
    StopCall,
    WakeAt,
)
from .events import (
    RESOLVED_FAILED,
    WITHDRAWN,
    Answered,
    ApprovalAsked,
    ApprovalExpired,
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
    Cause,
    Consequence,
    DeadlinePassed,
    Denied,
    ListHeld,
    LoopBlocked,
    QuestionExpired,
    QueueUnserved,
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
    WaitBegun,
    WaitEnded,
    WorkContinued,
)
from .execution_tree import (
    BLOCKED_HINT,
    INNER_FAILED,
    Failure,
    Frame,
    Item,
    ItemScope,
    Iteration,
    Node,
    Order,
    PersonDecision,
    RunWarning,
    add_item,
    add_iteration,
    canonical_value_of,
    evaluate_bool,
    failure_of,
    first_iteration_of,
    is_asked,
    is_bad,
    is_question,
    is_timed,
    mismatch_kind,
    output_of,
    policies_of,
    request_of,
    run_digest,
    sample_of,
    shown_of,
    shown_to_person,
    undecided_attempt,
    unserved_hint,
)
from .fork import Fork, PastWrite
from .limits import RUN_WORK_MAX, SLICE_WORK
from .loops import AgentLoop, Answer, PlanningLoop, SubPlanned, SubQuestion, frame_of
from .policy import LOST_RETRIES_MAX, CallPolicy, retry_pause_s
from .skip_rules import ending_by, ending_by_inputs
from .states import (
    LIVE,
    MOVES,
    PENDING,
    READY,
    RUNNING,
    SOFT,
    SUCCEEDED,
    TERMINAL,
    Reason,
    RunStatus,
    State,
)

ITEMS_MAX: Final = 100_000  # items of one for_each: a run with more would not fit in memory
# The version of these moves; a run keeps the version that it began with. 1: a person is asked about the items of an ordered `for_each` one
# after the other, each when it is next. 2: a person is asked about all items as one list when the step begins. 3: whether a step runs is labelled
# like a value (`plans.checker.flow.labels`), and where a call is labelled, a rule is asked whether a person is needed. 4: expressions are metered: a run has a
# most of their work, and after a slice of it the other steps are put off until the next event. 5: an output that asks for an absent field is null there,
# where the run would fail. 6: a resource has the label of what was written to it. 7: what a repeated plan
# stores has the label of what can make one of its rounds fail. 8: conditions inside a plan that runs for each item label what they choose among the items.
RULES_VERSION: Final = 8
CHOICES_COUNT_SINCE: Final = 8
ROUNDS_COUNT_SINCE: Final = 7
WORLD_COUNTS_SINCE: Final = 6
ABSENT_OUTPUT_SINCE: Final = 5
METERED_SINCE: Final = 4
CONTROL_COUNTS_SINCE: Final = 3
MISMATCHES_MAX: Final = 100  # kinds of mismatch of a run's results that are recorded: more help nobody
DEPTH_MAX: Final = 32  # sub-plans within sub-plans: the check refuses recursion, and this limit bounds a chain of different plans


QUESTIONS_MAX: Final = 20  # questions of one call that a person is asked; the next one fails the call
EXPIRED: Final = "expired"  # code of a question that nobody answered in time
DEADLINE: Final = "deadline"  # code of the error of a run that its deadline has ended
DENIED: Final = "denied"  # a decision of a person, and the code of the failure that follows from it
_WRITE: Final = Effect.WRITE  # as in `states.py`
_MODEL: Final = Effect.MODEL
_BEGINNINGS: Final = (RunStarted, RunResumed)
_CALLS: Final = (
    CallTool,
    AskModel,
    AskAgent,
    AskPlanner,
    AskPerson,
)  # actions whose end is recorded by the event of their call
NO_FORK: Final = (
    Fork()
)  # stands for the fork in a run without a parent: no step is overridden, held or settled


SubPrograms: TypeAlias = Callable[[SubPlanned, RunPlanned], Program]
"""Compiles the sub-plans of `plan_for` steps. Raises: PlanRejected."""


class Iterations(dict[str, Iteration]):
    """The iterations that have started, by path."""

    __slots__ = ()

    def __missing__(self, step: str) -> Iteration:
        raise EngineBug(f"an event names step '{step}', which has not started")


class Machine:
    """One run, from its first event to its last. Whoever uses its tree holds the machine, with which the tree goes.

    Attributes:
        is_started: Whether the run has begun.
        is_recounting: Whether the events come from a journal. Then no calls are asked for, because they were made in the past.
        status: `None` until the run has finished.
        output: The run's output, once it has succeeded.
        failure: An error of the run's output expression, which belongs to no step.
        warnings: What went other than declared and failed nothing, in the order in which it came.
        left_out: What the sub-plans of `plan_for` steps do not do of their task, each with the path of its step.
        parked: The event after which no process drives the run until someone resumes it; `None`: the run is not parked.
        expiries: Path of each question or approval that waits and expires -> when it does, in Unix seconds.
        timers: Path of each `wait` step that waits -> when its wait ends, in Unix seconds.
        shown: Path of each call about which a person was asked -> the fingerprint of its tool at that time; it decides nothing here.
        deadline: When the run is to have ended, in Unix seconds; `None`: there is no deadline.
        fork: The fork that made the run from its parent.
    """

    def __init__(  # noqa: PLR0913  # the parts of a run
        self,
        program: Program,
        inputs: Mapping[str, Json],
        policies: Mapping[str, CallPolicy],
        *,
        seed: str = "",
        budget: Mapping[str, float] | None = None,
        planning: Mapping[str, float] | None = None,
        fork: Fork = NO_FORK,
        rules: int = RULES_VERSION,
        sub_programs: SubPrograms | None = None,
        deadline: float | None = None,
        approval_expires_s: float | None = None,
    ) -> None:
        self._policies = policies
        self._sub_programs = sub_programs
        self._rules = rules
        self._seed = seed
        self._inputs = inputs
        self._policies_of: dict[int, Sequence[CallPolicy]] = {}
        self.iterations = Iterations()
        self.root = self._new_frame(program, inputs)
        self.is_started = False
        self.is_recounting = False
        self.status: RunStatus | None = None
        self.output: CanonicalValue | None = None
        self.failure: Failure | None = None
        self.warnings: list[RunWarning] = []
        self._blocking: set[str] = set()  # the tools that a warning says have blocked the event loop
        self._unserved: set[str] = set()  # the queues that a warning says have no worker
        self.left_out: list[str] = []
        self._mismatches: set[str] = set()
        self.parked: RunParked | None = None
        self.digest = ""
        self._cancelled_by: str | None = None
        self.fork = fork
        self.budget = Budget(dict(budget or {}), planning or {})
        self.expiries: dict[str, float] = {}
        self.timers: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.deadline = deadline
        self._approval_expires_s = approval_expires_s
        self._is_past_deadline = False
        self._now = 0.0
        self.size = 0  # bytes of all results, as `limits.py` bounds them
        self._live = (
            0  # calls that are ready, running or pausing: counted by `_move`, so that `is_stuck` is O(1)
        )
        self._held: list[Node] = []  # steps whose lists have more items than the budget has left
        # The work of expressions is metered. Whether a step is put off depends on nothing else, so that a replay puts off the same steps.
        self._meter = Meter(RUN_WORK_MAX) if rules >= METERED_SINCE else None
        self._is_continuing = False  # whether `WorkContinued` was asked for and has not come
        self._agenda: deque[Item | Frame] = deque()
        self._records: list[Command] = []
        self._calls: list[tuple[Iteration, Command]] = []

    # --- the entrance

    def __del__(self) -> None:
        # No circle leads through the machine itself, so this is called as soon as nobody needs the tree.
        if (root := self.__dict__.get("root")) is not None:
            root.dissolve()

    def handle(self, event: Cause, at: float = 0.0) -> list[Command]:
        """Handle an event; return the commands that follow from it: records first, then calls in plan order.

        Args:
            event: The event, from the driver or from the journal.
            at: When it happened, in Unix seconds.

        Raises:
            EngineBug: The event is not possible in the state that its step is in.
        """
        # Time counts only while a call is under way. A run that waits for a person all night uses no seconds of its budget, and nobody drives a
        # parked run, whatever people decide about it.
        if at > self._now and self._live and self.parked is None and not isinstance(event, _BEGINNINGS):
            self.budget.spent["seconds"] += at - self._now
        self._now = at
        # The four events of an ordinary call come first: `match` tries its cases in order, and nearly all events are one of these.
        match event:
            case CallMade():
                self._call_made(self.iterations[event.step], event)
            case CallStarted():
                self._call_started(self.iterations[event.step], event.attempt, at)
            case CallSucceeded():
                self._call_returned(self.iterations[event.step], event)
            case CallReused():
                self._call_reused(self.iterations[event.step], event)
            case (
                RunStarted()
                | RunResumed()
                | RunParked()
                | WorkContinued()
                | BudgetRaised()
                | CancelAsked()
                | DeadlinePassed()
            ):
                self._handle_run(event)
            case _:
                self._handle_iteration(self.iterations[event.step], event)
        # Nobody carries out what follows from the start of a call, so steps that were put off stay so.
        if self._agenda and type(event) is not CallStarted:
            self._work_off()
        # Records first: a call must not start before the journal has taken in why it starts. Calls follow in plan order, not in the order in
        # which their steps became ready, so that a replay asks for them in the same order.
        records, calls = self._records, self._calls
        if not records and not calls:
            return []
        self._records, self._calls = [], []
        if len(calls) > 1:
            calls.sort(key=_order)
        return records + [command for _, command in calls] if calls else records

    def _handle_run(
        self,
        event: RunStarted
        | RunResumed
        | RunParked
        | WorkContinued
        | BudgetRaised
        | CancelAsked
        | DeadlinePassed,
    ) -> None:
        """Handle an event that belongs to no step."""
        match event:
            case RunStarted():
                self.is_started = True
                self._open_frame(self.root)
            case RunResumed(died=died, kept=kept):
                self.parked, self._is_continuing = None, False
                self._take_over(has_died=bool(died), kept=frozenset(kept or ()))
            case RunParked():
                self.parked = event
            case WorkContinued():
                self._is_continuing = False
            case BudgetRaised(budget=budget):
                self._raise_budget(budget)
            case CancelAsked(by):
                self._cancel(by)
            case DeadlinePassed():
                self._is_past_deadline = True
                self._cancel(DEADLINE)

    def _call_made(self, iteration: Iteration, event: CallMade) -> None:
        if iteration.state is not READY:
            raise EngineBug(
                f"a call of '{iteration.path}' was made that was not asked for: the step is {iteration.state}"
            )
        self._reserve(iteration)
        iteration.attempts, iteration.started = event.attempt, event.started
        if event.mismatch is not None:
            self._note_mismatch(event.step, event.mismatch)
        self._iteration_succeeded(iteration, event.output)

    def _call_started(self, iteration: Iteration, attempt: int, at: float) -> None:
        self._reserve(iteration)
        self._move(iteration, RUNNING)
        iteration.attempts = attempt
        if iteration.started is None:
            iteration.started = at

    def _call_returned(self, iteration: Iteration, event: CallSucceeded) -> None:
        self._expect_running(iteration)
        usage = event.usage
        self.budget.settle(iteration.path, usage)
        if usage is not None:
            iteration.usage = added(iteration.usage, usage)
        if event.mismatch is not None:
            self._note_mismatch(event.step, event.mismatch)
        self._iteration_succeeded(iteration, event.output)

    def _note_mismatch(self, step: str, mismatch: Sequence[str]) -> None:
        """Warn of a result that does not fit the declared type of its tool."""
        tool = self.tool_of(step) or ""
        self._mismatches.update(mismatch_kind(tool, sentence) for sentence in mismatch)
        why = "; ".join(mismatch)
        message = f"what the tool '{tool}' returned does not fit its declared type, and stands: {why}"
        self.warnings.append(RunWarning(step, "result-mismatch", message))

    def note_blocked(self, event: LoopBlocked) -> bool:
        """Warn of a tool that blocked the event loop, unless the run did so before; return whether it warns. It decides nothing."""
        is_new = event.tool not in self._blocking
        if is_new:
            self._blocking.add(event.tool)
            why = f"the tool '{event.tool}' kept the event loop from all other calls for {event.seconds:g} s"
            self.warnings.append(RunWarning(event.step, "loop-blocked", f"{why}; {BLOCKED_HINT}"))
        return is_new

    def note_unserved(self, event: QueueUnserved) -> bool:
        """Warn of a queue that no worker serves, unless the run did so before; return whether it warns. It decides nothing."""
        is_new = event.queue not in self._unserved
        if is_new:
            self._unserved.add(event.queue)
            why = f"the tool '{event.tool}' waits for a worker of the queue '{event.queue}', which had none"
            self.warnings.append(
                RunWarning(event.step, "unserved-queue", f"{why}; {unserved_hint(event.queue)}")
            )
        return is_new

    def new_mismatch(self, step: str, mismatch: Sequence[str]) -> list[str] | None:
        """Return those of the sentences about a result that say what no earlier result of the tool did in this run; `None`: none does."""
        # A list of a thousand items has one wrong schema: it is said once.
        if not mismatch or len(self._mismatches) >= MISMATCHES_MAX:
            return None
        tool = self.tool_of(step) or ""
        new = {mismatch_kind(tool, sentence): sentence for sentence in mismatch}
        return [sentence for kind, sentence in new.items() if kind not in self._mismatches] or None

    def _call_reused(self, iteration: Iteration, event: CallReused) -> None:
        iteration.reused = True
        iteration.started = self._now
        self._iteration_succeeded(iteration, event.output)

    def _expect_running(self, iteration: Iteration) -> None:
        if iteration.state is not RUNNING:
            raise EngineBug(
                f"a call of '{iteration.path}' ended that never started: the step is {iteration.state}"
            )

    def _handle_iteration(self, iteration: Iteration, event: Cause) -> None:
        """Handle an event of a call that is not one of the four of an ordinary call."""
        match event:
            case CallFailed():
                self._call_failed(iteration, event)
            case CallLost(why=why, frames=frames):
                self._expect_running(iteration)
                self._call_lost(iteration, why, frames)
            case RetryDue():
                iteration.pause_s = None
                self._start_call(iteration)
            case BudgetReached(usage=usage):
                if iteration.state is RUNNING:  # a planning, which looks at its budget before each request
                    self.budget.settle(iteration.path, usage)
                    iteration.usage = added(iteration.usage, usage)
                    self._move(iteration, READY)
                self._move(iteration, State.WAITING)
                iteration.reason = Reason.BUDGET
            case ApprovalRuled(needed=needed):
                iteration.is_ruled = True
                if needed:
                    self._ask_approval(iteration)
                elif iteration.is_ahead:
                    self._move(iteration, PENDING)
                else:
                    self._start_call(iteration)
            case _:
                self._decided(iteration, event)

    def _decided(  # noqa: C901  # one case for each kind of decision
        self, iteration: Iteration, event: Cause
    ) -> None:
        """Handle the decision of a person, or the end of a wait."""
        match event:
            case Approved(by=by, edit=edit):
                iteration.decision, iteration.is_approved = PersonDecision("approved", by, edit=edit), True
                iteration.reason = None
                iteration.call = edit or iteration.call
                self._move(iteration, PENDING if iteration.is_ahead else READY)
                if not iteration.is_ahead:
                    self._start_call(iteration)
            case ApprovalVoided():
                self._void(iteration, event)
            case Denied(by=by, reason=reason):
                iteration.decision = PersonDecision(DENIED, by, reason)
                self._denied(iteration, iteration.decision)
            case Answered(by=by, answer=answer):
                self._answered(iteration, by, answer)
            case WaitEnded():
                iteration.reason = None
                self._iteration_succeeded(iteration, CanonicalValue(b"null"))
            case ApprovalExpired(after_s=after_s):
                iteration.decision = PersonDecision(
                    DENIED, "", f"nobody decided within {duration_text(after_s)}"
                )
                self._denied(iteration, iteration.decision)
            case QuestionExpired():
                iteration.reason = None
                self._iteration_failed(iteration, Failure(EXPIRED, "nobody answered the question in time"))
            case ResolvedDone(output=output, by=by):
                iteration.decision = PersonDecision("resolved as done", by or "")
                self._iteration_succeeded(iteration, output)
            case ResolvedRetry(by=by):
                # The person knows that the call did not happen, so earlier lost attempts do not count against the limit any more.
                iteration.decision = PersonDecision("resolved to be called again", by or "")
                self._move(iteration, READY)
                iteration.lost = 0
                self._start_call(iteration)
            case ResolvedFailed(why=why, by=by):
                iteration.decision = PersonDecision("resolved as failed", by or "", why)
                self._iteration_failed(iteration, Failure(RESOLVED_FAILED, why))
            case _:
                raise EngineBug(f"{type(event).__name__} is not an event of a step")

    def _void(self, iteration: Iteration, event: ApprovalVoided) -> None:
        """Ask a person again about a call whose tool has changed since they were asked."""
        path, tool = event.step, event.tool
        if not (iteration.is_approved or is_asked(iteration)) or iteration.state in TERMINAL:
            raise EngineBug(
                f"nobody was asked about the call of '{path}', or it has ended: it is {iteration.state}"
            )
        whose = f"since {event.by} approved the call" if event.by else "since approval was asked for"
        iteration.why_anew = f"the tool '{tool}' has changed {whose}"
        iteration.voided += 1
        iteration.decision, iteration.is_approved = None, False
        if iteration.state is State.WAITING:
            self._move(iteration, PENDING if iteration.is_ahead else READY)
        self._ask_approval(iteration)

    def is_consent_due(self, step: str) -> bool:
        """Whether a person is asked about the call of a step, or has allowed it and it is still to be made."""
        iteration = self.iterations.get(step)
        if iteration is None or self._cancelled_by is not None:
            return False
        if is_asked(iteration):
            return iteration.reason is Reason.APPROVAL
        # Before a retry, the end of the pause decides.
        return iteration.is_approved and iteration.state in (READY, PENDING) and iteration.pause_s is None

    def void_of(self, step: str, found: str) -> ApprovalVoided:
        """Return the event that voids what a person was asked about a call, or has decided: its tool has another fingerprint now."""
        iteration = self.iterations[step]
        by = iteration.decision.by if iteration.is_approved and iteration.decision is not None else None
        attempt = iteration.attempts + iteration.voided + 2
        return ApprovalVoided(step, self.tool_of(step) or "", self.shown[step], found, attempt, by)

    def note_shown(self, event: ApprovalAsked) -> None:
        """Remember which tool a person was asked about."""
        if event.fingerprint is not None:
            self.shown[event.step] = event.fingerprint

    def _denied(self, iteration: Iteration, decision: PersonDecision) -> None:
        """Handle the denial of a call, whose turn may not have come."""
        iteration.reason = None
        if iteration.is_ahead:
            # The denial ends this item only when the earlier items have ended, because they may block it first. The later items are
            # blocked in either case, so nobody is asked about them any more.
            self._move(iteration, PENDING)
            self._block_items_after(iteration.item)
        else:
            self._deny(iteration, decision)

    def _deny(self, iteration: Iteration, decision: PersonDecision) -> None:
        if (
            iteration.lost and iteration.voided
        ):  # the tool changed after an attempt that may have taken effect
            self._lose(iteration, f"{decision.what} before it was known what became of an earlier call")
            return
        iteration.failure = Failure(DENIED, decision.reason or f"denied by {decision.by}")
        self._iteration_cancelled(iteration, Reason.DENIED)

    def accepts(self, decision: Cause) -> bool:  # noqa: C901, PLR0911  # one return for each kind of decision
        """Whether the decision of a person, or the end of a wait, still applies: the same attempt waits, with exactly the arguments that were shown."""
        # A decision may arrive late: the run has ended, another person was faster, or the call was retried. The driver asks here first, and a late
        # decision is dropped instead of being an illegal event.
        if self.status is not None or isinstance(decision, BudgetRaised):
            return self.status is None
        if isinstance(decision, CancelAsked | DeadlinePassed):
            return self._cancelled_by is None
        iteration = self.iterations.get(getattr(decision, "step", ""))
        attempt = getattr(decision, "attempt", None)
        if iteration is None or (attempt is not None and attempt != undecided_attempt(iteration)):
            return False
        match decision:
            case Answered(args=args):
                shown = shown_of(iteration)
                return is_question(iteration) and shown is not None and shown.digest == args
            case QuestionExpired():
                return is_question(iteration)
            case ApprovalExpired():
                return is_asked(iteration) and not is_question(iteration)
            case WaitEnded():
                return is_timed(iteration)
            case Approved(args=args) if is_question(iteration):
                return False
            case Approved(args=args):
                # The digest binds the consent to the arguments that the person saw. Other arguments need another consent.
                return is_asked(iteration) and iteration.call is not None and iteration.call.digest == args
            case Denied():
                return is_asked(iteration)
            case _:
                return iteration.state is State.INDETERMINATE

    def find_short(self, step: str, at: float) -> str | None:
        """Return the limit of the budget that the call would pass at this time; `None`: it would pass none."""
        if not self.budget.limits:
            return None
        seconds = self.budget.spent["seconds"] + max(0.0, at - self._now)
        return self.budget.find_short(self._needs(self.iterations[step]), seconds)

    def _reserve(self, iteration: Iteration) -> None:
        """Reserve the amounts that a call needs. A tool call is one step; only a model call has costs that are unknown in advance."""
        node = iteration.item.node
        if node.policy.asks_model or type(node.code.action) is AskPerson:
            self.budget.reserve(iteration.path, self._needs(iteration))
        else:  # what `_needs` says of such a call, counted at once
            self.budget.count_call(is_first=not iteration.attempts or iteration.is_cut_off)
        if iteration.is_cut_off:
            iteration.is_cut_off = False

    def _needs(self, iteration: Iteration) -> Mapping[str, float]:
        node = iteration.item.node
        action, is_model = node.code.action, node.policy.asks_model
        if isinstance(action, AskPerson):
            return {}
        tokens_max = action.max_tokens if isinstance(action, AskModel) else None
        # A call that was cut off by the death of its process uses budget again when it is repeated. Otherwise a step that kills its process
        # could do so without end.
        is_first = not iteration.attempts or iteration.is_cut_off
        return self.budget.needs_of(is_first=is_first, is_model=is_model, tokens_max=tokens_max)

    def _raise_budget(self, budget: Mapping[str, Json]) -> None:
        """Change limits of the budget, and start the calls that waited for it."""
        self.budget.limits.update(amounts_in(budget))
        held, self._held = self._held, []
        for node in held:
            if node.state is State.WAITING:
                self._move(node, PENDING)
                node.reason = None
                self._begin(node)
        for iteration in self._open_leaves():
            if iteration.state is State.WAITING and iteration.reason is Reason.BUDGET:
                self._move(iteration, READY)
                iteration.reason = None
                self._start_call(iteration)

    @property
    def is_cancelled(self) -> bool:
        """Whether someone has asked the run to stop."""
        return self._cancelled_by is not None

    def withdrawn(self, step: str) -> CallFailed | CallLost:
        """Return the outcome of a call whose start was recorded and which was then not made, because the run was cancelled.

        The call had no effect, but an earlier attempt of unknown outcome may have had one.
        """
        if self.iterations[step].lost:
            return CallLost(
                step, "an earlier attempt may have taken effect, and the run was cancelled before another"
            )
        return CallFailed(step, WITHDRAWN, "the run was cancelled before the call was made")

    def is_callable(self, step: str) -> bool:
        """Whether the call that the machine asked for may still start: the run may have been cancelled since."""
        iteration = self.iterations.get(step)
        return iteration is not None and iteration.state is READY and iteration.pause_s is None

    def is_running(self, step: str) -> bool:
        """Whether the machine counts the call of the step as under way: a call that it has stopped may still run."""
        iteration = self.iterations.get(step)
        return iteration is not None and iteration.state is RUNNING

    def is_pausing(self, step: str) -> bool:
        """Whether the step pauses before its next attempt."""
        iteration = self.iterations.get(step)
        return iteration is not None and iteration.state is READY and iteration.pause_s is not None

    def has_ended(self, step: str) -> bool:
        """Whether a step, an item or an iteration has ended."""
        iteration = self.iterations.get(step)
        return iteration is not None and iteration.state in TERMINAL

    def tool_of(self, step: str) -> str | None:
        """Return the name of the tool that the leaf calls; `None`: it calls no tool."""
        iteration = self.iterations.get(step)
        action = iteration.item.node.code.action if iteration is not None else None
        return action.tool if isinstance(action, CallTool | AskAgent) else None

    def past_write_of(self, iteration: Iteration) -> PastWrite | None:
        """Return the write of an earlier run that a call which waits for a person would repeat; `None`: there is none."""
        if not is_asked(iteration) or iteration.call is None:
            return None
        tool = self.tool_of(iteration.path) or ""
        past = self.fork.find_past(iteration.path, tool, iteration.call.digest)
        return past or self.fork.find_done(
            iteration.path, tool, iteration.call, iteration.item.node.policy.defaults
        )

    @property
    def next_due(self) -> float | None:
        """When something happens by itself although no call is under way, in Unix seconds; `None`: nothing does."""
        if not self.timers and not self.expiries and self.deadline is None:
            return None
        times = [*self.timers.values(), *self.expiries.values()]
        if self.deadline is not None and self._cancelled_by is None:
            times.append(self.deadline)
        return min(times) if times and self.status is None else None

    @property
    def needs_nobody(self) -> bool:
        """Whether a `wait` step waits, and nobody is asked anything. O(iterations)."""
        return bool(self.timers) and not any(is_asked(each) for each in self.iterations.values())

    def due(self, at: float, *, expires: bool = True) -> list[Cause]:
        """Return the events whose time has come, in the order of their times; a passed deadline comes alone, since it ends everything else.

        Args:
            at: Unix seconds.
            expires: Whether questions, approvals and the run itself end when their time is over, and not only the waits of `wait` steps.
        """
        if expires and self.deadline is not None and self.deadline <= at and self._cancelled_by is None:
            return [DeadlinePassed(self.deadline)]
        times = [*self.timers.items(), *(self.expiries.items() if expires else ())]
        steps = sorted((time, step) for step, time in times if time <= at)
        return [self._end_of_wait(self.iterations[step]) for _, step in steps]

    def _end_of_wait(self, iteration: Iteration) -> Cause:
        if is_timed(iteration):
            return WaitEnded(iteration.path)
        if is_question(iteration):
            return QuestionExpired(iteration.path)
        return ApprovalExpired(iteration.path, round((iteration.until or 0.0) - (iteration.asked or 0.0), 3))

    def is_stuck(self) -> bool:
        """Whether the run continues only after a decision of a person: unfinished, and no call ready, running or pausing."""
        return self.status is None and self._live == 0 and not self._agenda

    # --- frames and nodes

    def _new_frame(
        self, program: Program, inputs: Mapping[str, Json], owner: Iteration | None = None
    ) -> Frame:
        # A sub-plan in a `for_each` opens one frame an item, all with the same program. The program is alive as long as the machine, so its
        # identity is a safe key.
        policies = self._policies_of.get(id(program))
        if policies is None:
            policies = self._policies_of[id(program)] = policies_of(program, self._policies)
        prefix = f"{owner.path}/" if owner else ""
        return Frame(program, policies, inputs, prefix=prefix, owner=owner)

    def _open_frame(self, frame: Frame) -> None:
        frame.scope.meter = self._meter
        # An overridden step ends immediately, whatever it waits for. So it goes on the agenda even if its inputs have not ended.
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
        """Advance everything on the agenda, until it is empty."""
        # A loop instead of recursion: a chain of 100,000 `set` steps ends in one event, and would overflow the stack of Python.
        agenda, meter = self._agenda, self._meter
        slice_end = meter.spent + SLICE_WORK if meter is not None else 0
        while agenda:
            if meter is not None and meter.spent > slice_end:
                # Dear expressions must not keep the process from all other work. The rest of the agenda waits for the next event.
                if not self._is_continuing:
                    self._is_continuing = True
                    self._records.append(Continue(meter.spent))
                return
            next_up = agenda.popleft()
            if isinstance(next_up, Node) and not next_up.is_due:
                self._advance(next_up)
            elif isinstance(next_up, Item):
                self._next_iteration(next_up)
            else:
                self._close_frame(next_up)

    def _advance(self, node: Node) -> None:
        """Advance a node as far as its inputs allow."""
        # A node may be on the agenda several times, once for each input that ended. Only the first visit finds it pending.
        if node.state is not PENDING:
            return
        overrides = self.fork.overrides
        if overrides and (value := overrides.get(node.path)) is not None:
            self._end_overridden(node, value)
        elif not node.pending_when and self._is_admitted(node):
            self._begin(node)

    def _is_admitted(self, node: Node) -> bool:  # noqa: PLR0911  # one return for each condition
        """Whether a pending step begins now; a step that ends without having begun is ended here."""
        code = node.code
        # The condition is evaluated as soon as its own inputs have ended, before the other inputs: a step that is switched off must not wait for
        # them, and their failure must not change its reason. It is evaluated once: a step may come here again for its inputs or its effect order.
        if code.when is not None and not node.is_switched:
            node.is_switched = True
            if not self._is_switched_on(node, code.when):
                return False
        if node.pending:
            return False
        # As long as every step of the frame has succeeded, no input can be bad, and the look at them is saved.
        ending = None if node.frame.is_well else ending_by_inputs(node)
        if ending is not None:
            self._end_node(node, *ending)
            return False
        if not code.touches or (ledger := node.frame.ledger) is None:
            return True
        # Effect order comes last: `admit` puts a waiting step into the queue of a resource, where a step that never starts must not stand.
        if not ledger.admit(code):
            return False
        if ledger.is_blocked(code):
            self._end_node(node, State.SKIPPED, Reason.BLOCKED)
            return False
        return True

    def _end_overridden(self, node: Node, value: CanonicalValue) -> None:
        """End a step whose value the fork gives: the step does not run, and waits for nothing."""
        self._end_node(node, SUCCEEDED, output=value)
        self._record(StepSucceeded(node.path, value.digest))

    def _is_switched_on(self, node: Node, when: Formula) -> bool:
        code = node.code
        if code.when_filters:
            return True
        ending = ending_by(node, code.needs_when)
        if ending is not None and ending[1] is not Reason.SKIPPED_REFERENCE:
            # A skipped reference is left to the evaluation: `first(..)` in the condition may pass over it.
            self._end_node(node, *ending)
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
        """Make the node's items, and start all of them, or only the first one if they are ordered."""
        if node.code.for_each is None:
            # The agenda holds nodes to advance and items to start. A node that is its own item is both, so `is_due` says which is meant.
            node.items, node.is_due = (node,), True
            self._agenda.append(node)
            return
        try:
            values = self._list_of(node, node.code.for_each)
            if not self.budget.has_room_for(len(values)):
                self._hold(node, len(values))
                return
            self._move(node, RUNNING)
            items = self._expand(node, values)
        except RefersToSkipped:
            for item in node.items:
                if item.state is PENDING:  # the filter refers to it
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
        # A run keeps the rules that it began with: its journal must replay, also if a later version asks about all items first.
        if self._rules < 2:
            self._agenda.extend(items[:1])
        elif items:
            self._next_iteration(items[0])
            for item in items[1:]:
                self._ask_ahead(item)

    def _hold(self, node: Node, items: int) -> None:
        """Have a step wait for a larger budget before any of its items is made."""
        # An event of its own: without it only the status of the run would tell why it stopped, and not how many items it needs.
        self._move(node, State.WAITING)
        node.reason = Reason.BUDGET
        self._held.append(node)
        self._record(ListHeld(node.path, items))

    def _list_of(self, node: Node, for_each: Formula) -> list[Json]:
        values = for_each.evaluate(node.frame.scope)
        if not isinstance(values, list):
            raise EvaluationError("not-a-list", f"for_each needs a list, found {kind_of(values)}")
        if len(values) > ITEMS_MAX:
            raise EvaluationError(
                "limit-exceeded", f"for_each over {len(values)} items; the limit is {ITEMS_MAX}"
            )
        return values

    def _expand(self, node: Node, values: Sequence[Json]) -> list[Item]:
        self.budget.spent["items"] += len(values)
        node.items = items = [add_item(node, index, value) for index, value in enumerate(values)]
        when = node.code.when if node.code.when_filters else None
        if when is None:
            return items
        spent = 0 if self._meter is None else self._meter.spent
        kept: list[Item] = []
        for item in items:
            if self._is_kept(item, when):
                kept.append(item)
            if self._meter is not None and self._meter.spent - spent > WORK_MAX:
                # The filter of a list is one evaluation, since all of it happens in one piece.
                node.items = ()
                raise EvaluationError(
                    "limit-exceeded",
                    f"the filter of for_each takes more than {WORK_MAX} operations for its items; let a tool filter the list",
                )
        return kept

    def _is_kept(self, item: Item, when: Formula) -> bool:
        try:
            with ItemScope(item) as scope:
                if evaluate_bool(when, scope, "when"):
                    return True
        except (EvaluationError, NotJson) as fault:
            item.failure = failure_of(fault)
            return True  # the item fails when it starts, in its place among the items
        self._move(item, State.SKIPPED)
        item.reason = Reason.WHEN
        return False

    def _close_frame(self, frame: Frame) -> None:
        """Hand the output or the failure of a frame, whose nodes have all ended, to its owner."""
        if frame.owner is not None and frame.owner.agent_loop is not None:
            self._loop_stepped(frame.owner, frame.owner.agent_loop, frame.nodes)
            return
        # A failure beats a cancel: `on_error` of the owner handles a failed sub-plan, and must not hide one behind a denial elsewhere in it.
        states = {node.state for node in frame.nodes}
        output, failure = None, None
        if State.FAILED not in states and State.CANCELLED not in states:
            try:
                # A plan that runs in a step is different: what reads its value relies on the type that the check found.
                is_lenient = frame.owner is None and self._rules >= ABSENT_OUTPUT_SINCE
                output = output_of(frame, self.warnings if is_lenient else None)
            except (EvaluationError, NotJson) as fault:
                failure = failure_of(fault)
        if frame.owner is None:
            self._finish_run(states, output, failure)
        elif State.FAILED in states:
            self._iteration_failed(frame.owner, None)
        elif State.CANCELLED in states:
            self._iteration_cancelled(frame.owner, _cancel_reason(frame.nodes))
        elif failure is not None:
            self._iteration_failed(frame.owner, failure)
        else:
            self._iteration_succeeded(frame.owner, output or CanonicalValue(b"null"))

    def _finish_run(self, states: set[State], output: CanonicalValue | None, failure: Failure | None) -> None:
        if self._cancelled_by is not None and State.CANCELLED in states:
            self.status = RunStatus.CANCELLED
            if self._is_past_deadline:
                failure = Failure(
                    DEADLINE, f"the run had not ended at its deadline, {time_text(self.deadline or 0.0)}"
                )
        elif output is None:
            self.status = RunStatus.FAILED
        else:
            self.status = RunStatus.SUCCEEDED
        self.output, self.failure = output, failure
        self.digest = run_digest(self.root, self._inputs)
        self._record(RunFinished(self.status.value, self.digest))

    # --- items and iterations

    def _next_iteration(self, item: Item) -> None:
        """Start the item's next iteration."""
        node = item.node
        node.is_due = False
        if item.state in TERMINAL:  # it was cancelled, or blocked, while it was put off
            return
        if item is not node and self._is_over_or_asked(item):
            return
        iteration = add_iteration(item)
        if iteration is not item and item.state is PENDING:
            self._move(item, RUNNING)
        self.iterations[iteration.path] = iteration
        try:
            # The first iteration of a plain step has no names of its own, so the frame's scope will do, which saves two updates of a dictionary.
            if item is node and iteration.number == 0:
                self._start_iteration(iteration, node.frame.scope)
            else:
                with ItemScope(item) as scope:
                    self._start_iteration(iteration, scope)
        except RefersToSkipped:
            if iteration is not item:
                self._move(iteration, State.SKIPPED)
                iteration.reason = Reason.SKIPPED_REFERENCE
            self._end_item(item, State.SKIPPED, Reason.SKIPPED_REFERENCE)
        except (EvaluationError, NotJson) as fault:
            self._iteration_failed(iteration, failure_of(fault))

    def _is_over_or_asked(self, item: Item) -> bool:
        """Whether an item needs no new iteration: it ends here, or its iteration exists because a person was asked about it."""
        if item.failure is not None:  # its filter could not be evaluated
            self._item_failed(item, item.failure)
        elif (value := self.fork.overrides.get(item.path)) is not None:
            self._end_item(item, SUCCEEDED, output=value)
        elif item.iterations and item.iterations[-1].is_ahead:
            self._iteration_is_next(item.iterations[-1])
        else:
            return False
        return True

    def _ask_ahead(self, item: Item) -> None:
        """Ask a person about an item's call before the earlier items have ended, so that the person sees the whole list.

        Does nothing if the arguments cannot be computed yet; an error in them fails the item when it starts.
        """
        node, action = item.node, item.node.code.action
        is_own = item.state is not PENDING or item.failure is not None or item.path in self.fork.overrides
        if is_own or not isinstance(action, CallTool):
            return
        path = item.path if node.code.repeat is None else first_iteration_of(item)
        # Cheap questions first: to evaluate the arguments of 100,000 items, about which nobody will be asked, would cost as much as the run.
        if node.policy.approval == "never" and not self._may_be_held(path, node.policy):
            return
        try:
            with ItemScope(item) as scope:
                call = canonical_value_of(action.args, scope)
        except (RefersToSkipped, EvaluationError, NotJson):
            return
        if self._ruling(path, node, call) != "free":
            iteration = add_iteration(item)
            iteration.is_ahead = True
            self.iterations[iteration.path] = iteration
            self._ready(iteration, call)

    def _iteration_is_next(self, iteration: Iteration) -> None:
        """Continue a call about which a person was asked before the earlier items had ended."""
        iteration.is_ahead = False
        if iteration is not iteration.item:
            self._move(iteration.item, RUNNING)
        if iteration.state is not PENDING:
            return  # nobody has decided yet
        if iteration.decision is not None and iteration.decision.what == DENIED:
            self._deny(iteration, iteration.decision)
        else:
            self._move(iteration, READY)
            self._start_call(iteration)

    def _start_iteration(  # noqa: C901, PLR0912  # one case for each kind of action
        self, iteration: Iteration, scope: Scope
    ) -> None:
        if self._cancelled_by is not None:
            self._iteration_cancelled(iteration, self._stopped_for)
            return
        action = iteration.item.node.code.action
        match action:
            case CallTool(args=args):
                self._ready(iteration, canonical_value_of(args, scope))
            case SetValue(value):
                self._iteration_succeeded(iteration, canonical_value_of(value, scope))
            case AskModel() as ask:
                request, iteration.data = request_of(ask, scope)
                self._ready(iteration, CanonicalValue.of(request))
            case RunPlan(program=program, args=args):
                self._enter_plan(iteration, program, args.evaluate(scope))
            case RunAgent() as agent:
                self._enter_agent(iteration, agent, scope)
            case RunPlanned() as planned:
                self._enter_planned(iteration, planned, planned.given.evaluate(scope))
            case AskAgent(request=asked) | AskPlanner(request=asked):
                self._ready(iteration, CanonicalValue.of(asked))
            case RunSubPlan(program=program, inputs=inputs):
                self._enter_plan(iteration, program, dict(inputs))
            case AskPerson(args=args) as asking:
                self._ready(iteration, shown_to_person(asking, canonical_value_of(args, scope)))
            case WaitUntil(given):
                self._wait(iteration, canonical_value_of(given, scope))
            case FailWith(message):
                raise EvaluationError("fail", str(message.evaluate(scope)))
            case _:
                assert_never(action)

    def _wait(self, iteration: Iteration, given: CanonicalValue) -> None:
        """Begin a wait. Its end is an event, also where its time has come already: no move depends on the clock."""
        iteration.until = self.timers[iteration.path] = due_of(given.value, self._now)
        self._move(iteration, State.WAITING)
        iteration.call, iteration.reason, iteration.started = given, Reason.TIMER, self._now
        self._record(WaitBegun(iteration.path, given.digest, iteration.until))
        self._wake(iteration)

    def _wake(self, iteration: Iteration) -> None:
        """Ask to be told when the wait of an iteration is over."""
        if iteration.until is not None:
            args = iteration.call if iteration.reason is Reason.TIMER else None
            self._calls.append((iteration, WakeAt(iteration.path, iteration.until, args)))

    def _enter_plan(self, iteration: Iteration, program: Program, args: Json) -> None:
        inputs, problems = fit_inputs(program.plan, args)
        if problems:
            raise EvaluationError("bad-args", "; ".join(problem.message for problem in problems))
        # The check refuses recursion. A chain of different plans may still be deep, and each level adds a frame.
        if iteration.path.count("/") >= DEPTH_MAX:
            raise EvaluationError("limit-exceeded", f"sub-plans nested deeper than {DEPTH_MAX}")
        frame = self._new_frame(program, inputs, iteration)
        self._occupy(iteration)
        self._run_frame(iteration, frame)

    def _occupy(self, iteration: Iteration) -> None:
        """Mark an iteration as running, because it holds inner steps instead of a call of its own."""
        iteration.started = self._now
        self._move(iteration, RUNNING)

    def _run_frame(self, iteration: Iteration, frame: Frame) -> None:
        iteration.frames = (*iteration.frames, frame)
        self._open_frame(frame)

    # --- agents

    def _enter_agent(self, iteration: Iteration, agent: RunAgent, scope: Scope) -> None:
        if agent.call is not None:
            code = iteration.item.node.code
            args = cast("dict[str, Json]", canonical_value_of(agent.call.args, scope).value)
            timeout_s = (
                code.timeout_s if code.timeout_s is not None else self._policies[agent.call.tool].timeout_s
            )
            iteration.agent_loop = AgentLoop(agent, "", args=args, timeout_s=timeout_s, retries=code.retries)
            self._occupy(iteration)
            self._think(iteration, iteration.agent_loop)
            return
        goal, data = agent.goal.evaluate_with_spans(scope)
        if not isinstance(goal, str):
            raise EvaluationError("type-error", f"an agent's goal is text, found {kind_of(goal)}")
        iteration.agent_loop = AgentLoop(agent, goal, data)
        self._occupy(iteration)
        self._think(iteration, iteration.agent_loop)

    def _think(self, iteration: Iteration, agent_loop: AgentLoop) -> None:
        """Ask the agent's model what to do next, unless a limit is reached."""
        calls = [
            inner
            for frame in iteration.frames
            for node in frame.nodes
            for item in node.items
            for inner in item.iterations
        ]
        if self._cancelled_by is not None:
            self._iteration_cancelled(iteration, self._stopped_for)
        elif (failure := agent_loop.find_exhausted(calls)) is not None:
            self._iteration_failed(iteration, failure)
        else:
            self._run_inner(iteration, (agent_loop.thought(calls),))

    def _run_inner(self, iteration: Iteration, codes: Sequence[StepCode]) -> None:
        self._run_frame(iteration, frame_of(codes, iteration, self._policies))

    def _loop_stepped(
        self, iteration: Iteration, loop: AgentLoop | PlanningLoop, nodes: Sequence[Node]
    ) -> None:
        """Continue an agent or a `plan_for` step after a step of its loop has ended, or all the calls that an agent made at once."""
        cancelled = next((node for node in nodes if node.state is State.CANCELLED), None)
        if cancelled is not None:
            self._iteration_cancelled(iteration, cancelled.reason or Reason.CANCELLED)
        elif isinstance(loop, PlanningLoop):
            self._planning_stepped(iteration, loop, nodes[0])
        else:
            self._agent_stepped(iteration, loop, nodes)

    def _agent_stepped(self, iteration: Iteration, agent_loop: AgentLoop, nodes: Sequence[Node]) -> None:
        first = nodes[0]
        if isinstance(first.code.action, CallTool):
            agent_loop.note(nodes)
            self._act(iteration, agent_loop)
        elif first.output is None:
            self._iteration_failed(iteration, None)
        else:
            match agent_loop.decide(first.output.value):
                case Answer(value):
                    self._iteration_succeeded(iteration, CanonicalValue.of(value))
                case None:
                    self._act(iteration, agent_loop)

    def _act(self, iteration: Iteration, agent_loop: AgentLoop) -> None:
        """Make the next calls of an agent's turn: reads at once, writes one at a time. After the last one its model is asked again."""
        codes = agent_loop.next_acts(lambda tool: self._policies[tool].effect is _WRITE)
        if codes and self._cancelled_by is None:
            self._run_inner(iteration, codes)
        else:
            self._think(iteration, agent_loop)

    # --- sub-plans that are planned in the run

    def _enter_planned(self, iteration: Iteration, planned: RunPlanned, given: Json) -> None:
        code, values = iteration.item.node.code, given if isinstance(given, dict) else {}
        loop = iteration.agent_loop = PlanningLoop(planned, values, code.retries, code.timeout_s)
        self._occupy(iteration)
        self._run_inner(iteration, (loop.ask_planner(),))

    def _planning_stepped(self, iteration: Iteration, loop: PlanningLoop, node: Node) -> None:
        """Continue a `plan_for` step after the planner or a person has answered, or its sub-plan has ended."""
        action, output = node.code.action, node.output
        if output is None:
            self._iteration_failed(iteration, None if isinstance(action, RunSubPlan) else node.failure)
        elif isinstance(action, RunSubPlan):
            failure = loop.find_misfit(output.value)
            if failure is None:
                self._iteration_succeeded(iteration, output)
            else:
                self._iteration_failed(iteration, failure)
        elif isinstance(action, AskPerson):
            loop.note_answer(output.value)
            self._run_inner(iteration, (loop.ask_planner(),))
        else:
            match loop.read(output.value):
                case SubQuestion() as question:
                    self._run_inner(iteration, (loop.ask_person(question),))
                case SubPlanned() as made:
                    self._run_sub_plan(iteration, loop, made)

    def _run_sub_plan(self, iteration: Iteration, loop: PlanningLoop, made: SubPlanned) -> None:
        if self._sub_programs is None:
            raise EngineBug(f"step '{iteration.path}' has a sub-plan, and nothing compiles it")
        try:
            program = self._sub_programs(made, loop.planned)
        except PlanRejected as fault:
            self._iteration_failed(iteration, Failure(fault.code, str(fault)))
        else:
            # Prose is in no digest, and so not surely that of the program, which is shared.
            self.left_out += [f"{iteration.path}: {text}" for text in made.plan.get("left_out", ())]
            self._run_inner(iteration, (loop.run(program),))

    def _ready(self, iteration: Iteration, call: CanonicalValue) -> None:
        iteration.call = call
        self._move(iteration, READY)
        iteration.is_call = True
        self._live += 1
        self._start_call(iteration)

    def _iteration_succeeded(self, iteration: Iteration, output: CanonicalValue) -> None:
        iteration.call, iteration.failure, iteration.finished = None, None, self._now
        self.size += len(output.data)
        item, code = iteration.item, iteration.item.node.code
        if iteration is not item:
            self._move(iteration, SUCCEEDED)
            iteration.output = output
        # The journal has no second record for a call: `CallSucceeded` says that its step, or this iteration of it, succeeded.
        if not isinstance(code.action, _CALLS):
            self._record(StepSucceeded(iteration.path, output.digest))
        repeat = code.repeat
        if repeat is None:
            if item is item.node:  # as `_end_item` does
                self._end_node(item.node, SUCCEEDED, None, output)
            else:
                self._end_item(item, SUCCEEDED, output=output)
            return
        try:
            with ItemScope(item, made=iteration) as scope:
                is_done = evaluate_bool(repeat.until, scope, "repeat.until")
        except (EvaluationError, NotJson) as fault:
            # The value was computed, and only the condition failed: `on_error` handles it as a failure of the item.
            self._item_failed(item, failure_of(fault))
            return
        if is_done:
            self._end_item(item, SUCCEEDED, output=output)
        elif iteration.number + 1 >= repeat.count_max:
            message = f"`until` did not hold after {repeat.count_max} iterations"
            self._item_failed(item, Failure("repeat-exhausted", message))
        else:
            item.node.is_due = item is item.node
            self._agenda.append(item)

    def _iteration_failed(self, iteration: Iteration, failure: Failure | None) -> None:
        """End an iteration as failed; `failure` is `None` if an inner step says why."""
        iteration.call, iteration.finished = None, self._now
        if iteration is not iteration.item:
            self._move(iteration, State.FAILED)
            iteration.failure = failure
            if failure is not None:
                self._record(StepFailed(iteration.path, failure.code, failure.message))
        self._item_failed(iteration.item, failure)

    def _iteration_cancelled(self, iteration: Iteration, reason: Reason) -> None:
        iteration.call, iteration.finished = None, self._now
        if iteration is not iteration.item:
            self._move(iteration, State.CANCELLED)
            iteration.reason = reason
        self._end_item(iteration.item, State.CANCELLED, reason)

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
                    with ItemScope(item) as scope:
                        output = CanonicalValue.of(value.evaluate(scope))
                except (EvaluationError, NotJson, RefersToSkipped) as fault:
                    # A fallback that fails itself has no fallback. The newer error is reported, because it is the one to repair.
                    item.failure = failure_of(fault)
                    self._end_item(item, State.FAILED)
                else:
                    item.is_replaced = True
                    self._end_item(item, SUCCEEDED, output=output)

    def _end_item(
        self, item: Item, state: State, reason: Reason | None = None, output: CanonicalValue | None = None
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
        # Before the node is finished: blocking the later items lowers `open_items`, too.
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
            for iteration in other.iterations:  # a person was asked about it
                iteration.call, iteration.is_ahead = None, False
                if iteration is not other:
                    self._move(iteration, State.SKIPPED)
                    iteration.reason = Reason.BLOCKED
            self._move(other, State.SKIPPED)
            other.reason = Reason.BLOCKED
            self._record_end(other)
            item.node.open_items -= 1

    # --- calls

    def _start_call(self, iteration: Iteration) -> None:
        """Ask for the call, or for the person that it needs."""
        if self._cancelled_by is not None:
            self._iteration_cancelled(iteration, self._stopped_for)
            return
        code = iteration.item.node.code
        policy, call = iteration.item.node.policy, iteration.call
        # Here the iteration is ready, for the first time or again: after a pause, an approval, a raised budget or the death of a process.
        # `is_ruled` keeps a retry from asking a person twice about one call.
        if call is None:
            raise EngineBug(f"step '{iteration.path}' is ready without arguments")
        if (
            (policy.approval != "never" or policy.effect is _WRITE)
            and not iteration.is_ruled
            and isinstance(code.action, CallTool | AskPerson)
            and self._is_deferred(iteration, policy, _tool_in(code.action), call)
        ):
            return
        if not self.is_recounting:
            self._calls.append((iteration, self._call_of(iteration, policy, call)))

    def _is_deferred(self, iteration: Iteration, policy: CallPolicy, tool: str, call: CanonicalValue) -> bool:
        """Whether a person, or the tool's own rule, has to decide before the call; if so, ask."""
        if policy.approval == "never" and not self._is_held(iteration.path, policy, tool, call):
            return False
        ruling = self._ruling(iteration.path, iteration.item.node, call)
        if ruling == "ruled":
            self._calls.append((iteration, RuleApproval(iteration.path, tool, call)))
            return True
        iteration.is_ruled = True
        if ruling == "asked":
            self._ask_approval(iteration)
        return ruling == "asked"

    def _call_of(self, iteration: Iteration, policy: CallPolicy, call: CanonicalValue) -> Command:
        """Return the command for the call of an iteration."""
        code = iteration.item.node.code
        timeout_s = code.timeout_s if code.timeout_s is not None else policy.timeout_s
        match code.action:
            case CallTool(tool=tool, secrets=secrets):
                reconcile = policy.can_reconcile and (
                    iteration.lost > 0 or bool(self.fork.key_of(iteration.path, tool, call.digest))
                )
                sample = sample_of(iteration) if policy.effect is _MODEL else ()
                return StartToolCall(
                    iteration.path,
                    tool,
                    call,
                    secrets,
                    iteration.attempts + 1,
                    sample,
                    timeout_s,
                    reconcile,
                    iteration.answers,
                )
            case AskAgent(tool=tool, secrets=secrets, turns=turns):
                return StartToolCall(
                    iteration.path,
                    tool,
                    call,
                    secrets,
                    iteration.attempts + 1,
                    sample_of(iteration),
                    timeout_s,
                    reconcile=False,
                    turns=turns,
                )
            case AskModel() as ask:
                return StartModelCall(
                    iteration.path,
                    call,
                    ask.returns,
                    ask.model,
                    ask.temperature,
                    ask.max_tokens,
                    ask.guard,
                    iteration.attempts + 1,
                    sample_of(iteration),
                    timeout_s,
                    iteration.data,
                    ask.turns,
                )
            case AskPlanner(hidden=hidden):
                return StartPlanning(iteration.path, call, hidden, iteration.attempts + 1, timeout_s)
            case AskPerson():
                return RecordEndorsement(iteration.path, call, iteration.attempts + 1)
            case _:
                raise EngineBug(f"step '{iteration.path}' has no call")

    def _is_held(self, path: str, policy: CallPolicy, tool: str, call: CanonicalValue) -> bool:
        """Whether this write waits for a person because of the fork."""
        if policy.effect is not _WRITE or self.fork is NO_FORK:
            return False
        is_held = self.fork.is_held(path, tool, call.digest)
        return is_held or self.fork.find_done(path, tool, call, policy.defaults) is not None

    def _may_be_held(self, path: str, policy: CallPolicy) -> bool:
        """Whether a write at this path may wait for a person because of the fork, depending on its arguments."""
        return policy.effect is _WRITE and (self.fork.is_held(path, "", "") or self.fork.may_repeat(path))

    def _ruling(self, path: str, node: Node, call: CanonicalValue) -> Literal["free", "asked", "ruled"]:
        """Return whether a call is free, a person is asked about it, or the tool's own rule decides that."""
        # The order matters. A call that the parent run made, with equal arguments, was decided about there. Then the fork asks, whatever the tool
        # says. Untrusted arguments ask before the tool's own rule runs: a rule must not be talked out of asking by the data that it looks at.
        policy = node.policy
        if self.fork.is_settled(path, call.digest):
            return "free"
        code = node.code
        tool = _tool_in(code.action)
        if self._is_held(path, policy, tool, call) or policy.approval == "always":
            return "asked"
        if policy.approval == "never":
            return "free"
        if code.tainted or (code.controlled and self._rules >= CONTROL_COUNTS_SINCE):
            return "ruled" if self._rules >= CONTROL_COUNTS_SINCE else "asked"
        return "ruled" if policy.approval == "rule" else "free"

    def _ask_approval(self, iteration: Iteration) -> None:
        action = iteration.item.node.code.action
        self._move(iteration, State.WAITING)
        is_question = isinstance(action, AskPerson) and action.is_question
        iteration.reason, iteration.asked = Reason.QUESTION if is_question else Reason.APPROVAL, self._now
        self._record(ApprovalAsked(iteration.path, iteration.call or CanonicalValue(b"null")))
        expires_s = action.expires_s if isinstance(action, AskPerson) and is_question else None
        if not is_question:
            own_s = iteration.item.node.policy.approval_expires_s
            expires_s = own_s if own_s is not None else self._approval_expires_s
        if expires_s is not None:
            iteration.until = self.expiries[iteration.path] = self._now + expires_s
            self._wake(iteration)

    def _call_failed(self, iteration: Iteration, event: CallFailed) -> None:
        policy, code = iteration.item.node.policy, iteration.item.node.code
        self.budget.settle(iteration.path, event.usage)
        iteration.usage = added(iteration.usage, event.usage)
        if event.question is not None and self._may_ask(iteration):
            self._ask(iteration, event.question)
            return
        retries = code.retries if code.retries is not None else policy.retries
        # A write that failed for sure may be repeated if it is idempotent, or if its tool says that the failure was temporary (so nothing took
        # effect). A write whose outcome is unknown never comes here: it is a `CallLost`.
        is_safe = policy.effect is not _WRITE or policy.idempotent or event.temporary
        iteration.failed += 1
        if event.code == WITHDRAWN and self._cancelled_by is not None:
            self._iteration_cancelled(iteration, self._stopped_for)
            return
        if event.retryable and is_safe and iteration.failed <= retries and self._cancelled_by is None:
            self._retry(iteration)
            return
        self._iteration_failed(iteration, _failure_of(event))

    def _may_ask(self, iteration: Iteration) -> bool:
        """Whether a call may ask a person something before it is made again: a server may ask without end."""
        return self._cancelled_by is None and len(iteration.answers) < QUESTIONS_MAX

    def _ask(self, iteration: Iteration, question: CanonicalValue) -> None:
        """Have a call wait for the answer to its question. It counts neither as failed nor as lost."""
        if iteration.state is RUNNING:
            self._move(iteration, READY)
        self._move(iteration, State.WAITING)
        iteration.question, iteration.reason, iteration.asked = question, Reason.QUESTION, self._now
        iteration.until = None
        self._record(ApprovalAsked(iteration.path, question))

    def _answered(self, iteration: Iteration, by: str, answer: CanonicalValue) -> None:
        """Take an answer as the value of a question step, or make the call that asked again with it."""
        iteration.decision, iteration.reason = PersonDecision("answered", by), None
        if iteration.question is None:
            self._iteration_succeeded(iteration, answer)
            return
        asked = iteration.question.value
        resume = asked["resume"] if isinstance(asked, dict) else None
        iteration.answers = (*iteration.answers, [resume, answer.value])
        iteration.question = None
        self._move(iteration, READY)
        self._start_call(iteration)

    def _retry(self, iteration: Iteration) -> None:
        if iteration.state is not READY:
            self._move(iteration, READY)
        iteration.pause_s = retry_pause_s(iteration.attempts, seed=self._seed, step=iteration.path)
        self._record(RetryScheduled(iteration.path, iteration.attempts + 1, iteration.pause_s))
        self._calls.append((iteration, Pause(iteration.path, iteration.pause_s)))

    def _call_lost(self, iteration: Iteration, why: str, frames: str | None = None) -> None:
        """A write may or may not have happened: call again only where that is known to be safe."""
        policy = iteration.item.node.policy
        self.budget.settle(iteration.path, None)
        iteration.lost += 1
        # An idempotent write is repeated under the same key; a tool with `reconcile` is asked first. The number of repetitions is bounded, because
        # a server that cannot answer today may not answer tomorrow either, and then a person knows more.
        may_repeat = policy.idempotent or policy.can_reconcile
        if may_repeat and iteration.lost <= LOST_RETRIES_MAX and self._cancelled_by is None:
            self._retry(iteration)
        else:
            self._lose(iteration, why, frames)

    def _lose(self, iteration: Iteration, why: str, frames: str | None = None) -> None:
        """Leave the outcome of a call to the decision of a person."""
        self._move(iteration, State.INDETERMINATE)
        iteration.pause_s, iteration.reason = None, None
        iteration.failure = Failure("outcome-unknown", why, frames=frames or "")
        self._record(StepIndeterminate(iteration.path, why))

    def find_kept(self, is_kept: Callable[[str], bool]) -> Sequence[str]:
        """Return the steps, in plan order, whose calls go on without the process that began them: `is_kept` says so of their tools."""
        running = (each for each in self._open_leaves() if each.state is RUNNING)
        return [
            each.path for each in running if (tool := self.tool_of(each.path)) is not None and is_kept(tool)
        ]

    def _follow_call(self, iteration: Iteration) -> None:
        """Ask for the outcome of a call that another process has begun, and that goes on."""
        if self.is_recounting or iteration.call is None:
            return
        call = self._call_of(iteration, iteration.item.node.policy, iteration.call)
        if isinstance(call, StartToolCall):
            self._calls.append((iteration, FollowCall(replace(call, attempt=iteration.attempts))))

    def _take_over(self, *, has_died: bool, kept: Collection[str] = ()) -> None:
        """Continue after a stop: calls in flight were cut off, but for those in `kept`, and calls that were ready are asked for again."""
        # In plan order, so that two processes that take over the same run ask for the same calls in the same order.
        for iteration in self._open_leaves():
            if iteration.state is RUNNING and iteration.path in kept:
                self._follow_call(iteration)
                continue
            if has_died and iteration.state is RUNNING:
                iteration.is_cut_off = True
            if iteration.state is RUNNING and iteration.item.node.policy.effect is _WRITE:
                self._call_lost(iteration, "the process stopped in mid-call")
            elif iteration.state is RUNNING:
                self._move(iteration, READY)
                self._start_call(iteration)
            elif iteration.state is READY and iteration.pause_s is not None:
                self._calls.append((iteration, Pause(iteration.path, iteration.pause_s)))
            elif iteration.state is READY:
                self._start_call(iteration)
            elif iteration.state is State.WAITING:
                self._wake(iteration)

    def _cancel(self, by: str) -> None:
        """Start nothing more. Writes in flight end by themselves: stopping one would leave its outcome unknown."""
        self._cancelled_by = by
        for iteration in self._open_leaves():
            is_writing = iteration.state is RUNNING and iteration.item.node.policy.effect is _WRITE
            # A write in flight ends by itself, and an unknown outcome stays a question for a person: a cancel must not turn it into an answer.
            # The end of an earlier item may have blocked this one a moment ago, so its state is looked at again.
            if is_writing or iteration.state is State.INDETERMINATE or iteration.state in TERMINAL:
                continue
            if iteration.state is RUNNING or iteration.pause_s is not None:
                self._calls.append((iteration, StopCall(iteration.path)))
            if iteration.lost:
                self._lose(
                    iteration, "the run was cancelled before it was known what became of an earlier call"
                )
            else:
                self._iteration_cancelled(iteration, self._stopped_for)
        for frame in self._frames():
            for node in frame.nodes:
                if (
                    node.state is PENDING or node.state is State.WAITING
                ):  # of the latter only held lists are left
                    self._end_node(node, State.CANCELLED, self._stopped_for)

    @property
    def _stopped_for(self) -> Reason:
        """Why a run that was asked to stop ends its steps."""
        return Reason.DEADLINE if self._is_past_deadline else Reason.CANCELLED

    def _open_leaves(self) -> list[Iteration]:
        every = self.iterations.values()
        leaves = [each for each in every if each.is_leaf and each.state not in TERMINAL]
        return sorted(leaves, key=lambda iteration: iteration.order)

    def _frames(self) -> Iterator[Frame]:
        yield self.root
        yield from [frame for iteration in self.iterations.values() for frame in iteration.frames]

    # --- ends

    def _node_failed(self, node: Node, failure: Failure) -> None:
        """Fail a step before it has items. `on_error` applies to a step that runs once, and else only to its items."""
        if node.code.for_each is None:
            self._item_failed(node, failure)
        else:
            node.failure = failure
            self._end_node(node, State.FAILED)

    def _finish_node(self, node: Node) -> None:
        """End a node whose items have all ended: its state follows from theirs."""
        # Items that the filter left out are no part of the list. An item that `on_error: "skip"` left out has no output.
        kept = [item for item in node.items if item.reason is not Reason.WHEN]
        states = {item.state for item in kept}
        reasons = {item.reason for item in kept}
        if State.FAILED in states:
            self._end_node(node, State.FAILED)
        elif State.CANCELLED in states:
            self._end_node(node, State.CANCELLED, _cancel_reason(kept))
        elif Reason.SKIPPED_REFERENCE in reasons:
            self._end_node(node, State.SKIPPED, Reason.SKIPPED_REFERENCE)
        else:
            # The canonical bytes of a list are those of its elements, joined: nothing is parsed or serialized again.
            parts = [item.output.data for item in kept if item.output is not None]
            self._end_node(node, SUCCEEDED, output=CanonicalValue(b"[" + b",".join(parts) + b"]"))

    def _end_node(
        self, node: Node, state: State, reason: Reason | None = None, output: CanonicalValue | None = None
    ) -> None:
        """End a step, and put the steps that waited for it on the agenda."""
        self._move(node, state)
        node.reason, node.output, node.finished = reason, output, self._now
        frame, code = node.frame, node.code
        if state is not SUCCEEDED:
            frame.is_well = False
        if state is not SUCCEEDED or code.for_each is not None or code.repeat is not None or node.is_replaced:
            self._record_end(node)  # otherwise the event of its only call or value says so
        if output is not None:
            frame.scope.canonical[code.id] = output
        else:
            frame.scope[code.id] = SKIPPED
        # Counters instead of a scan of the inputs: an input tells its dependents once, so a run is linear in the edges of its plan.
        nodes = frame.nodes
        for position, is_switch in frame.program.waits.dependents[code.position]:
            waiting = nodes[position]
            waiting.pending -= 1
            if is_switch:
                waiting.pending_when -= 1
            if not waiting.pending or (is_switch and not waiting.pending_when):
                self._agenda.append(waiting)
        if code.touches and frame.ledger is not None:
            for position in frame.ledger.settle(code, is_bad=is_bad(node, SOFT)):
                self._agenda.append(frame.nodes[position])
        frame.open_nodes -= 1
        if frame.open_nodes == 0:
            self._agenda.append(frame)

    def _record_end(self, part: Item) -> None:
        match part.state:
            case State.SUCCEEDED:
                self._record(StepSucceeded(part.path, part.output.digest if part.output else ""))
            case State.FAILED:
                failure = part.failure or Failure("items-failed", "at least one of its parts failed")
                self._record(StepFailed(part.path, failure.code, failure.message))
            case State.SKIPPED:
                self._record(StepSkipped(part.path, part.reason or ""))
            case _:
                self._record(StepCancelled(part.path, part.reason or ""))

    def _record(self, event: Consequence) -> None:
        self._records.append(Record(event))

    def _move(self, part: Iteration, state: State) -> None:
        # The only place that changes a state: an illegal move is a bug of this module, or a journal that was changed, and stops the run here.
        before = part.state
        if state not in MOVES[before]:
            raise EngineBug(f"illegal move of '{part.path}': {before} -> {state}")
        if part.is_call:
            self._live += (state in LIVE) - (before in LIVE)
        if (
            self.timers or self.expiries
        ) and before is State.WAITING:  # however the wait ended, a cancel included
            self.expiries.pop(part.path, None)
            self.timers.pop(part.path, None)
        part.state = state


def _tool_in(action: Action) -> str:
    """Return the tool that an action calls; empty: it calls none."""
    return action.tool if isinstance(action, CallTool) else ""


def _failure_of(event: CallFailed) -> Failure:
    return Failure(event.code, event.message, event.temporary, event.is_done, event.frames or "")


def _cancel_reason(parts: Iterable[Iteration]) -> Reason:
    """Return the reason of a step whose parts were cancelled: a denial explains more than a cancel."""
    reasons = {part.reason for part in parts}
    return next((each for each in (Reason.DENIED, Reason.DEADLINE) if each in reasons), Reason.CANCELLED)


def _open_items_after(item: Item) -> Iterator[Item]:
    """Yield the later items of a `for_each` that have not ended."""
    if item.index is not None:
        items = item.node.items
        yield from (items[at] for at in range(item.index + 1, len(items)) if items[at].state not in TERMINAL)


def _order(call: tuple[Iteration, Command]) -> Order:
    return call[0].order
