"""The events of a run, in the past tense: the vocabulary of the journal.

There are three kinds. A **cause** comes from outside the machine (a call returned, a person decided, a process resumed the run) and is handed
to `Machine.handle`. A **consequence** is a conclusion of the machine from a cause (a step was skipped, an approval is asked for, the run is
finished). The journal holds both, so that a replay, which computes every consequence again, can compare them. A **remark** changes no state: it
is for people, or for a call that is made again.

Times are Unix seconds and decide nothing. The journal keeps one time beside each event; a `CallMade` has two times, so it holds the earlier one.

Nothing changes an event after it was recorded. The classes are no frozen dataclasses, which take three times as long to make (`plans/immutable.py`), and
a run makes thousands of events. New fields are optional, so that older journals can be read; `JOURNAL_FORMAT.md` describes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final, TypeAlias, TypeGuard, get_args

from ..plans.immutable import immutable, record
from ..plans.values import Json
from .canonical_value import CanonicalValue

WITHDRAWN: Final = (
    "withdrawn"  # code of a call whose start was recorded and which was not made: it had no effect
)
RESOLVED_FAILED: Final = "resolved-failed"  # code of a call that had no effect, as a person decided

_TOOK_EFFECT: Final = "the call took effect, but what it returned is refused: "


@immutable
class RunStarted:
    """The run begins.

    Attributes:
        header: Digest of the run's header, which holds plan, inputs, seed and tool signatures.
        by: The owner that drives the run until the next `RunResumed`; `None` in older journals.
    """

    header: str
    by: str | None = None


@immutable
class RunResumed:
    """A process continues the run, another one or the same one after a pause: the calls that were in flight were cut off.

    Attributes:
        died: Whether the former owner died while it drove the run; `None`: no.
        deaths: How many deaths count against the run now (`deaths.py`); `None`: none.
        kept: The steps whose calls were not cut off, since workers of a queue carry them out (`calls/far.py`), in plan order; `None`: there are none.
    """

    by: str
    died: bool | None = None
    deaths: int | None = None
    kept: Sequence[str] | None = None


@immutable
class RunParked:
    """The run lost its process repeatedly without progress: no process drives it until someone resumes it.

    Attributes:
        deaths: How many deaths count against the run.
        calls: The calls that were in flight at the last death: `{"step": path, "tool": name}` each; an `ask` step has no tool.
    """

    deaths: int
    calls: Sequence[Mapping[str, Json]]


@immutable
class WorkContinued:
    """The machine goes on with steps that it put off because their expressions had taken long; other events came in between.

    Attributes:
        spent: Operations of all expressions of the run so far.
    """

    spent: int


# --- calls
#
# A start without an outcome is what a crash leaves. So for a write the start is durable before the call, and its absence proves that the write was
# not made. For other effects it may be lost: the call is made again all the same, and most have no start of their own (`CallMade`).


@immutable
class CallStarted:
    """A call is about to be made. For a write this is the intent: it is durable before the call, and holds the arguments.

    Attributes:
        args: Digest of the arguments.
        key: Idempotency key of a write, else the content key.
        intent: The arguments of a write.
        why: Why no earlier result stood for the call (`explain.py`); `None`: the store had no result of its key.
    """

    step: str
    attempt: int
    args: str
    key: str = ""
    intent: CanonicalValue | None = None
    why: Mapping[str, Json] | None = None


@immutable
class CallSucceeded:
    """A call returned a value.

    Attributes:
        used: The values that the call took from its context: environment, clock, randomness (`Context.used`).
        usage: Tokens and cost of model calls.
        mismatch: Where the value does not fit the declared type of its tool, a sentence for each place; `None`: it fits, its type is not relied on,
            or an earlier record of the run says the same of the tool.
    """

    step: str
    output: CanonicalValue
    used: Mapping[str, Json] | None = None
    usage: Mapping[str, Json] | None = None
    mismatch: Sequence[str] | None = None


@immutable
class CallMade:
    """A call that is not a write returned without having waited: its start and its success in one event.

    Attributes:
        started: When the call began; the time beside the event is the time of its end.
        why: As in `CallStarted`.
        mismatch: As in `CallSucceeded`.
    """

    step: str
    attempt: int
    args: str
    output: CanonicalValue
    started: float
    key: str = ""
    why: Mapping[str, Json] | None = None
    mismatch: Sequence[str] | None = None


@immutable
class CallReused:
    """An earlier result stands for the call.

    Attributes:
        key: The content key under which the result was found; empty: it is the result of the same step in the parent of a fork.
        source: The run that made the result.
    """

    step: str
    args: str
    output: CanonicalValue
    key: str
    source: str


@immutable
class CallFailed:
    """A call failed.

    Attributes:
        temporary: Whether the tool says that the call had no effect and may succeed later.
        retryable: Whether the tool's retry policy covers this failure.
        took_effect: Of a write: the call took effect, and only its result was refused. Otherwise the call had no effect.
        args: Of a call that was not made because it had failed in the parent of a fork: the digest of its arguments there.
        question: What the call wants to know of a person before it does anything: `question`, `returns` (JSON Schema of the answer), and `resume`, which
            the next attempt gets beside the answer. Then the call has not failed for good.
        frames: The last frames of the error in the tool's own code, as Python prints them, without secrets; `None`: there are none, or the run
            has those of enough other calls. They decide nothing, and no digest has them.
    """

    step: str
    code: str
    message: str
    temporary: bool = False
    retryable: bool = False
    usage: Mapping[str, Json] | None = None
    took_effect: bool | None = None
    args: str | None = None
    question: CanonicalValue | None = None
    frames: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the call took effect although it failed; records of older versions have this only in the message."""
        return bool(self.took_effect) or self.message.startswith(_TOOK_EFFECT)


@immutable
class CallLost:
    """A call may or may not have taken effect: a timeout, a lost connection, a dead process.

    Attributes:
        frames: As in `CallFailed`.
    """

    step: str
    why: str
    frames: str | None = None


@immutable
class RetryDue:
    """The pause before the next attempt is over."""

    step: str


# --- people
#
# A decision names the attempt, and an approval the digest of what was shown, so that a decision which arrives late is about nothing else.


@immutable
class ApprovalRuled:
    """The tool's own rule, or the flow policy, decided whether this call needs a person.

    Attributes:
        rules: Argument -> the rule that allows the untrusted data in it, or has a person asked; `None`: none was used.
    """

    step: str
    needed: bool
    rules: Mapping[str, str] | None = None


@immutable
class Approved:
    """A person allowed a call.

    Attributes:
        args: Digest of the arguments that the person saw: the consent is for exactly these.
        edit: Arguments that the person gave in their place.
        attempt: The attempt that the decision is about, counted from 1; `None`: an older record without an attempt.
    """

    step: str
    by: str
    args: str
    edit: CanonicalValue | None = None
    attempt: int | None = None


@immutable
class ApprovalVoided:
    """The tool of a call has changed since a person was asked about the call, so the person is asked again.

    Attributes:
        tool: The tool.
        shown: The fingerprint of the tool that the person was asked about.
        found: The fingerprint of the tool that the engine has now.
        attempt: The attempt that the person decides about now: the request that is void counts as one.
        by: Who had approved the call; `None`: nobody had decided about it yet.
    """

    step: str
    tool: str
    shown: str
    found: str
    attempt: int
    by: str | None = None


@immutable
class Denied:
    """A person refused a call."""

    step: str
    by: str
    reason: str
    attempt: int | None = None


@immutable
class Answered:
    """A person answered the question of an `ask_person` step, or of a call.

    Attributes:
        args: Digest of the question that the person saw.
        answer: The value, which fits the step's schema.
        attempt: As in `Approved`.
    """

    step: str
    by: str
    args: str
    answer: CanonicalValue
    attempt: int | None = None


@immutable
class QuestionExpired:
    """Nobody answered the question of an `ask_person` step in time."""

    step: str


@immutable
class ApprovalExpired:
    """Nobody decided in time whether a call may be made: the call counts as denied.

    Attributes:
        after_s: How long the decision was waited for, in seconds.
    """

    step: str
    after_s: float


@immutable
class WaitEnded:
    """The time of a `wait` step has come, or the step has waited in the parent of a fork."""

    step: str


@immutable
class DeadlinePassed:
    """The run has not ended before its deadline: nothing new starts, as after `CancelAsked`.

    Attributes:
        deadline: Unix seconds, as in the header of the run.
    """

    deadline: float


@immutable
class ResolvedDone:
    """A person decided that the call of unknown outcome took effect, and gave its result.

    Attributes:
        attempt: The attempt whose outcome was unknown; `None`: an older record without an attempt.
        by: The person who decided; `None`: no name was given.
    """

    step: str
    output: CanonicalValue
    attempt: int | None = None
    by: str | None = None


@immutable
class ResolvedRetry:
    """A person decided that the call of unknown outcome had no effect and may be made again."""

    step: str
    attempt: int | None = None
    by: str | None = None


@immutable
class ResolvedFailed:
    """A person decided that the call of unknown outcome had no effect and counts as failed."""

    step: str
    why: str
    attempt: int | None = None
    by: str | None = None


@immutable
class BudgetReached:
    """A call would pass a limit of the budget, so it waits for a larger budget.

    Attributes:
        limit: The name of the limit, such as `steps`.
        usage: Of a planning that stopped at the limit: what it has used. `None`: the call had not started.
    """

    step: str
    limit: str
    usage: Mapping[str, Json] | None = None


@immutable
class BudgetRaised:
    """Someone changed limits of the budget; the other limits stay."""

    budget: Mapping[str, Json]


@immutable
class CancelAsked:
    """Someone asked the run to stop: nothing new starts."""

    by: str


# --- consequences
#
# They hold no more than a replay needs to compare: the machine draws each of them again from the causes.


@immutable
class StepSucceeded:
    """A `set` step has its value, or a step of several parts has succeeded. A step of one call has no such event: the call's own says it.

    Attributes:
        output: Digest of the output.
    """

    step: str
    output: str


@immutable
class StepFailed:
    """A step, item or iteration ended as failed."""

    step: str
    code: str
    message: str


@immutable
class StepSkipped:
    """A step or item does not run."""

    step: str
    reason: str


@immutable
class StepCancelled:
    """A step or item was stopped or refused before it ended."""

    step: str
    reason: str


@immutable
class StepIndeterminate:
    """A write may or may not have taken effect, and a person has to decide."""

    step: str
    why: str


@immutable
class ListHeld:
    """The items of a step would pass the budget's `items`, so the step waits for a larger budget.

    Attributes:
        items: How many items the step's list has.
    """

    step: str
    items: int


@immutable
class WaitBegun:
    """A `wait` step waits. The time of its end is computed once and stands here.

    Attributes:
        args: Digest of what the step was given: `{"for": ..}` or `{"until": ..}`.
        until: When the wait ends, in Unix seconds.
    """

    step: str
    args: str
    until: float


@immutable
class RetryScheduled:
    """The call will be made again after `delay_s`, as attempt number `attempt`."""

    step: str
    attempt: int
    delay_s: float


@record
class ApprovalAsked:
    """A call waits for a person, who sees `args`; the answer names their digest.

    Attributes:
        fingerprint: That of the tool that the engine had when it asked: the number of the format, and a digest. The driver adds it, and a replay does not compare it: no process needs the
            tools to read a journal. `None`: an older record, a question, or a tool whose code cannot be seen.
    """

    step: str
    args: CanonicalValue
    fingerprint: str | None = field(default=None, compare=False)


@immutable
class RunFinished:
    """Every step has ended. `digest` covers plan, inputs, statuses and outputs."""

    status: str
    digest: str


@immutable
class PlanMade:
    """A planner made the run's plan, or the patch with which this run continues. The header holds the details.

    Attributes:
        source: `"model"`, `"saved:<name>"`, `"adapted:<name>"`, `"reused"` or `"patch of <run>"`.
        usage: `model_calls tokens usd seconds` of all plannings of the run.
    """

    source: str
    usage: Mapping[str, Json]


@immutable
class CallProgressed:
    """A call reported its progress: `fraction` is from 0 to 1. A replay passes over the event."""

    step: str
    fraction: float
    note: str


@immutable
class TimeTold:
    """A call got the time, in Unix seconds; a repeated call of the step gets the same. For a write, the event is durable before the call gets it."""

    step: str
    seconds: float


@immutable
class IdMade:
    """A call got a new id; a repeated call of the step gets the same. For a write, the event is durable before the call gets it."""

    step: str
    id: str


@immutable
class LoopBlocked:
    """A call kept the event loop from all others for so many seconds: the run warns of its tool, once. A replay passes over the event."""

    step: str
    tool: str
    seconds: float


@immutable
class QueueUnserved:
    """A call waits for a worker of its tool's queue, and there is none: the run warns of the queue, once. A replay passes over the event."""

    step: str
    tool: str
    queue: str


Cause: TypeAlias = (
    RunStarted
    | RunResumed
    | RunParked
    | WorkContinued
    | CallStarted
    | CallSucceeded
    | CallMade
    | CallReused
    | CallFailed
    | CallLost
    | RetryDue
    | ApprovalRuled
    | Approved
    | ApprovalVoided
    | Denied
    | Answered
    | QuestionExpired
    | ApprovalExpired
    | WaitEnded
    | DeadlinePassed
    | ResolvedDone
    | ResolvedRetry
    | ResolvedFailed
    | BudgetReached
    | BudgetRaised
    | CancelAsked
)
Consequence: TypeAlias = (
    StepSucceeded
    | StepFailed
    | StepSkipped
    | StepCancelled
    | StepIndeterminate
    | ListHeld
    | RetryScheduled
    | WaitBegun
    | ApprovalAsked
    | RunFinished
)
DecisionEvent: TypeAlias = Approved | Denied | Answered | ResolvedDone | ResolvedRetry | ResolvedFailed
"""What a person decides about one attempt of a call."""
Remark: TypeAlias = PlanMade | CallProgressed | TimeTold | IdMade | LoopBlocked | QueueUnserved
JournalEvent: TypeAlias = Cause | Consequence | Remark

# The union types are the registry: the machine matches over them, and a type checker finds a kind that somebody forgot to handle.
# Each kind is listed once, in its type alias; the tuples are for `isinstance` and for the registry of `records.py`.
CAUSES: Final[tuple[type[Cause], ...]] = get_args(Cause)
CONSEQUENCES: Final[tuple[type[Consequence], ...]] = get_args(Consequence)
REMARKS: Final[tuple[type[Remark], ...]] = get_args(Remark)
_CAUSES: Final[frozenset[type]] = frozenset(CAUSES)


def is_cause(event: JournalEvent) -> TypeGuard[Cause]:
    """Whether an event comes from outside the machine."""
    return type(event) in _CAUSES
