"""The vocabulary of the journal: what happened in a run, in the past tense.

Three kinds. A **cause** comes from outside the machine (a call returned, a person decided, a process resumed the run) and is
handed to `Machine.handle`. A **consequence** is what the machine concluded from it (a step was skipped, an approval is
asked for, the run is finished); the journal holds both, so that a replay, which recomputes every consequence, has
something to compare with. A **remark** moves nothing: it is for people, or for a call that is made again. Times are Unix seconds and stand beside
the event (a `CallMade` has two, so the earlier one stands in it): they decide nothing.

Nobody changes an event. The classes are not frozen all the same: that makes each three times as dear, and a run makes thousands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard, get_args

from ..plans.values import Json
from .canonical_value import CanonicalValue

WITHDRAWN: Final = "withdrawn"  # the code of a call that was noted and not made: it did nothing
RESOLVED_FAILED: Final = (
    "resolved-failed"  # the code of a call of which a person has said that it did nothing
)

_TOOK_EFFECT: Final = "the call took effect, but what it returned is refused: "


@dataclass(slots=True)
class RunStarted:
    """The run begins: `header` is the digest of its header, which holds plan, inputs, seed and tool signatures.

    Attributes:
        by: The owner that drives the run until the next `RunResumed`; empty in older journals.
    """

    header: str
    by: str | None = None


@dataclass(slots=True)
class RunResumed:
    """Another process, or the same one after a pause, takes the run over: calls in flight were cut off.

    Attributes:
        died: Whether the process that had the run died with it; `None`: no.
        deaths: How many deaths count against the run now (`deaths.py`); `None`: none.
    """

    by: str
    died: bool | None = None
    deaths: int | None = None


@dataclass(slots=True)
class RunParked:
    """The run lost its process again and again without progress: nobody drives it until someone resumes it.

    Attributes:
        deaths: How many deaths count against it.
        calls: The calls that were in flight at the last death: `{"step": path, "tool": name}` each; an `ask` step has no tool.
    """

    deaths: int
    calls: Sequence[Mapping[str, Json]]


@dataclass(slots=True)
class CallStarted:
    """A call is about to be made; for a write this is the intent, durable before the call, with its arguments.

    Attributes:
        why: Why no earlier result stood for it (`explain.py`); `None`: there was none.
    """

    step: str
    attempt: int
    args: str
    key: str = ""
    intent: CanonicalValue | None = None
    why: Mapping[str, Json] | None = None


@dataclass(slots=True)
class CallSucceeded:
    """A call returned a value that fits its declared type.

    Attributes:
        used: What the call read of its context: environment values, clock, randomness (`Context.used`).
        usage: Tokens and cost of model calls.
    """

    step: str
    output: CanonicalValue
    used: Mapping[str, Json] | None = None
    usage: Mapping[str, Json] | None = None


@dataclass(slots=True)
class CallMade:
    """A call that is no write returned without ever having waited: its start and its success in one.

    Attributes:
        started: When it began; the event itself stands at its end.
        why: As in `CallStarted`.
    """

    step: str
    attempt: int
    args: str
    output: CanonicalValue
    started: float
    key: str = ""
    why: Mapping[str, Json] | None = None


@dataclass(slots=True)
class CallReused:
    """An earlier result stands for the call: `source` is the run, `key` the content key that was found."""

    step: str
    args: str
    output: CanonicalValue
    key: str
    source: str


@dataclass(slots=True)
class CallFailed:
    """A call failed; `retryable` is what the tool's retry policy says of this failure.

    Attributes:
        took_effect: Of a write: the call is done, and only its result was refused. Otherwise the call did nothing.
        args: Of a call that was not made because it had failed in the parent of a fork: the digest of the arguments that the plan gave it there.
    """

    step: str
    code: str
    message: str
    temporary: bool = False
    retryable: bool = False
    usage: Mapping[str, Json] | None = None
    took_effect: bool | None = None
    args: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the call took effect although it failed; records of older versions say this only in the message."""
        return bool(self.took_effect) or self.message.startswith(_TOOK_EFFECT)


@dataclass(slots=True)
class CallLost:
    """A call may or may not have taken effect: a timeout, a lost connection, a dead process."""

    step: str
    why: str


@dataclass(slots=True)
class RetryDue:
    """The pause before the next attempt is over."""

    step: str


@dataclass(slots=True)
class ApprovalRuled:
    """The tool's own rule said whether this call needs a person."""

    step: str
    needed: bool


@dataclass(slots=True)
class Approved:
    """A person allowed a call with exactly the arguments of digest `args`; `edit` replaces them.

    Attributes:
        attempt: The attempt that the decision is about, counted from 1; `None`: an older record without an attempt.
    """

    step: str
    by: str
    args: str
    edit: CanonicalValue | None = None
    attempt: int | None = None


@dataclass(slots=True)
class Denied:
    """A person refused a call."""

    step: str
    by: str
    reason: str
    attempt: int | None = None


@dataclass(slots=True)
class ResolvedDone:
    """A person says that the call of unknown outcome took effect, and what it returned.

    Attributes:
        attempt: The attempt whose outcome was unknown; `None`: an older record without an attempt.
        by: The person who decided; `None`: no name was given.
    """

    step: str
    output: CanonicalValue
    attempt: int | None = None
    by: str | None = None


@dataclass(slots=True)
class ResolvedRetry:
    """A person says that the call of unknown outcome did nothing, and may be made again."""

    step: str
    attempt: int | None = None
    by: str | None = None


@dataclass(slots=True)
class ResolvedFailed:
    """A person says that the call of unknown outcome did nothing, and shall count as failed."""

    step: str
    why: str
    attempt: int | None = None
    by: str | None = None


@dataclass(slots=True)
class BudgetReached:
    """A call would take more than the run may use: it waits for a larger budget. `limit` is `steps`, `tokens` .."""

    step: str
    limit: str


@dataclass(slots=True)
class BudgetRaised:
    """Someone changed how much the run may use; names that are not given keep their limit."""

    budget: Mapping[str, Json]


@dataclass(slots=True)
class CancelAsked:
    """Someone asked the run to stop: nothing new starts."""

    by: str


@dataclass(slots=True)
class StepSucceeded:
    """A `set` step has its value, or a step of several parts is complete."""

    step: str
    output: str


@dataclass(slots=True)
class StepFailed:
    """A step, item or iteration ended as failed."""

    step: str
    code: str
    message: str


@dataclass(slots=True)
class StepSkipped:
    """A step or item will not run: `reason` says why."""

    step: str
    reason: str


@dataclass(slots=True)
class StepCancelled:
    """A step or item was stopped or refused before it ended."""

    step: str
    reason: str


@dataclass(slots=True)
class StepIndeterminate:
    """A write may or may not have taken effect, and only a person can tell."""

    step: str
    why: str


@dataclass(slots=True)
class RetryScheduled:
    """The call will be made again after `delay_s`; the next attempt's number is `attempt`."""

    step: str
    attempt: int
    delay_s: float


@dataclass(slots=True)
class ApprovalAsked:
    """A call waits for a person, who will see `args` and answer for their digest."""

    step: str
    args: CanonicalValue


@dataclass(slots=True)
class RunFinished:
    """Every step has ended. `digest` covers plan, inputs, statuses and outputs."""

    status: str
    digest: str


@dataclass(slots=True)
class PlanMade:
    """A planner made the run's plan, or the patch that this run goes on with. The event changes no state: the header holds the details.

    Attributes:
        source: `"model"`, `"saved:<name>"`, `"adapted:<name>"`, `"reused"` or `"patch of <run>"`.
        usage: `model_calls tokens usd seconds` of all plannings of the run.
    """

    source: str
    usage: Mapping[str, Json]


@dataclass(slots=True)
class CallProgressed:
    """A call says how far it has come: `fraction` from 0 to 1. It moves nothing, and a replay passes over it."""

    step: str
    fraction: float
    note: str


@dataclass(slots=True)
class TimeTold:
    """A call asked for the time, in Unix seconds; a repeated call of the step is told the same. Of a write it is durable before that."""

    step: str
    seconds: float


@dataclass(slots=True)
class IdMade:
    """A call asked for a new id; a repeated call of the step gets the same. Of a write it is durable before that."""

    step: str
    id: str


Cause: TypeAlias = (
    RunStarted
    | RunResumed
    | RunParked
    | CallStarted
    | CallSucceeded
    | CallMade
    | CallReused
    | CallFailed
    | CallLost
    | RetryDue
    | ApprovalRuled
    | Approved
    | Denied
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
    | RetryScheduled
    | ApprovalAsked
    | RunFinished
)
DecisionEvent: TypeAlias = Approved | Denied | ResolvedDone | ResolvedRetry | ResolvedFailed
"""What a person decides about one attempt of a call."""
Remark: TypeAlias = PlanMade | CallProgressed | TimeTold | IdMade
JournalEvent: TypeAlias = Cause | Consequence | Remark

# Each kind is listed once, in its type alias; the tuples are for `isinstance` and for the registry of `records.py`.
CAUSES: Final[tuple[type[Cause], ...]] = get_args(Cause)
CONSEQUENCES: Final[tuple[type[Consequence], ...]] = get_args(Consequence)
REMARKS: Final[tuple[type[Remark], ...]] = get_args(Remark)
_CAUSES: Final[frozenset[type]] = frozenset(CAUSES)


def is_cause(event: JournalEvent) -> TypeGuard[Cause]:
    """Whether an event comes from outside the machine."""
    return type(event) in _CAUSES
