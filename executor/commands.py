"""The commands of the machine to the driver, in the imperative. The driver carries them out in their order.

Nothing changes a command after it was made. As with events, the classes are no frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from ..plans.expressions.data_spans import NO_DATA, PromptData
from ..plans.immutable import immutable
from ..plans.values import Json
from .canonical_value import CanonicalValue
from .events import Consequence

if TYPE_CHECKING:
    from ..plans.program.program import AgentTurns


@immutable
class WakeAt:
    """Hand in an event when a time has come: the end of a `wait` step, or the time in which nobody has decided.

    Attributes:
        at: Unix seconds.
        args: Of a `wait` step: what it was given, by which a fork finds the wait of its parent.
    """

    step: str
    at: float
    args: CanonicalValue | None = None


@immutable
class Record:
    """Append a consequence to the journal."""

    event: Consequence


@immutable
class StartToolCall:
    """Call a tool, or find an earlier result that stands for the call.

    Attributes:
        step: Path of the leaf.
        args: Evaluated arguments, as the journal holds them: with the expressions of secrets in the place of their values.
        secrets: Argument name -> secret name.
        sample: Of a model call: indices of items and iterations, which are a part of its content key if the model is sampled; else empty.
        timeout_s: The step's own limit, else that of the tool.
        reconcile: Whether the tool is asked first if the write took effect: an earlier attempt has an unknown outcome, or the parent of a fork
            called the write.
        answers: What a person answered to questions of earlier attempts: `[resume, answer]` each.
        turns: Of a turn of an `@agent` tool: the turns before it; `args` are `{"args": .., "turns": ..}` then (`AskAgent.request`). `None`: it is none.
    """

    step: str
    tool: str
    args: CanonicalValue
    secrets: Mapping[str, str]
    attempt: int
    sample: tuple[int, ...]
    timeout_s: float | None
    reconcile: bool
    answers: tuple[Json, ...] = ()
    turns: AgentTurns | None = None


@immutable
class FollowCall:
    """Wait for the outcome of a call that an earlier owner has begun, and that workers of a queue carry out.

    Attributes:
        call: The call; its attempt is the one under way.
    """

    call: StartToolCall

    @property
    def step(self) -> str:
        """Path of the leaf."""
        return self.call.step


@immutable
class StartModelCall:
    """Send one prompt to a model.

    Attributes:
        request: {prompt, system, examples}, rendered.
        data: The parts of the request that are data, for a model to read and not to obey.
        turns: Of a turn of an agent: the request in parts.
    """

    step: str
    request: CanonicalValue
    returns: Mapping[str, Json]
    model: str
    temperature: float | None
    max_tokens: int | None
    guard: tuple[Json, ...]
    attempt: int
    sample: tuple[int, ...]
    timeout_s: float | None
    data: PromptData = NO_DATA
    turns: AgentTurns | None = None


@immutable
class StartPlanning:
    """Ask the planner for the sub-plan of a `plan_for` step.

    Attributes:
        step: Path of the leaf.
        args: `task given tools max_steps returns`, and `answers` to earlier questions.
        hidden: Names of the given values that hold untrusted data.
    """

    step: str
    args: CanonicalValue
    hidden: tuple[str, ...]
    attempt: int
    timeout_s: float | None


@immutable
class RecordEndorsement:
    """Hand in `CallMade` with the value that a person or a policy has allowed, or `CallReused` with what the parent of a fork or retry was given.

    Attributes:
        step: Path of the leaf.
        args: `{"value": ..}`: as evaluated, or as a person edited it.
    """

    step: str
    args: CanonicalValue
    attempt: int


@immutable
class RuleApproval:
    """Ask the tool's own rule, or the policy of an `endorse` step, whether a person is needed, and hand in `ApprovalRuled`.

    Attributes:
        tool: The tool; empty for an `endorse` step.
    """

    step: str
    tool: str
    args: CanonicalValue


@immutable
class Pause:
    """Hand in `RetryDue` after `delay_s`."""

    step: str
    delay_s: float


@immutable
class StopCall:
    """Stop a call in flight, or the pause before its next attempt. It is never a write, so nothing is lost."""

    step: str


@immutable
class Continue:
    """Hand in `WorkContinued` when others have had their turn."""

    spent: int


Call: TypeAlias = StartToolCall | StartModelCall
Command: TypeAlias = (
    Record
    | Call
    | FollowCall
    | StartPlanning
    | RecordEndorsement
    | RuleApproval
    | Pause
    | WakeAt
    | StopCall
    | Continue
)
