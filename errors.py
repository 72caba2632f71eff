"""Everything firmplan raises, as one tree.

    FirmplanError              has a stable `code`; its message says expected, found, where, what to do
    +-- PlanError              your plan, or the words it was to be made from
    |   +-- PlanRejected       the plan has faults: `.report`
    |   +-- PlanningFailed     no valid plan came from the planner: `.attempts .outcome`
    +-- InputRejected          what was handed to a call does not fit
    +-- RunNotFound            no run of that name in the store
    +-- RunDriven              `drive` and `park`: a living owner drives the run: `.owner`
    +-- RunFailed              `run.raise_for_status()`: `.run`
    +-- Diverged               a replay differs from what was recorded: `.step .field .expected .found`
    +-- StoreError             the store cannot be read or written: `.temporary`
    +-- ServerError            a server cannot be reached, or refuses the request: `.status .retry_after`
    +-- ConfigError            a setting or a declaration is wrong or missing: `.temporary`
    +-- ToolError              raised by tools: the call failed and did nothing
    +-- OutcomeUnknown         raised by tools: the call may or may not have happened
    +-- EngineBug              firmplan broke its own rule: please report it

This module knows none of the rooms: errors carry their evidence as fields, typed by the room that raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .executor import Run, RunOwner
    from .plans import CheckReport, Problem


DECIDED: Final = "decided"  # code of `InputRejected`: another decision about the attempt stands
REPLACED: Final = "replaced"  # code of `InputRejected`: a plan is to be saved in the place of another one than the one that stands
UNKNOWN_PLAN: Final = (
    "unknown-plan"  # code of `InputRejected`: no plan, or no version of it, is saved under that name
)
UNKNOWN_DELIVERY: Final = "unknown-delivery"  # code of `InputRejected`: there is no such message of a webhook
UNKNOWN_SCHEDULE: Final = "unknown-schedule"  # code of `InputRejected`: there is no schedule of that name
OTHER_REQUEST: Final = (
    "other-request"  # code of `InputRejected`: a run of that id was made for another request
)
OWN_RUN: Final = "own-run"  # code of `InputRejected`: the submitter of a run may not approve its calls
NOT_ENDED: Final = "not-ended"  # code of `InputRejected`: a run to delete has not ended
HAS_CHILDREN: Final = "has-children"  # code of `InputRejected`: a run to delete has children
UNPRICED: Final = (
    "unpriced-model"  # code of `InputRejected`: a budget in dollars for a model whose price nobody knows
)


class FirmplanError(Exception):
    """The root of all errors that firmplan raises.

    Attributes:
        problems: One entry for each fault found, where it is said of what: plans and values have places.
    """

    code: ClassVar[str] = "error"
    problems: Sequence[Problem] = ()

    @property
    def message(self) -> str:
        """The text for people, without the code."""
        return str(self)


class PlanError(FirmplanError):
    """The plan, or the task that should have become one, is at fault."""

    code = "plan-error"


class PlanRejected(PlanError):
    """A plan did not pass its check; nothing was run.

    Attributes:
        report: The full check report, with every fault and its path.
    """

    code = "plan-rejected"

    def __init__(self, report: CheckReport) -> None:
        super().__init__(str(report))
        self.report = report
        self.problems = report.problems

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


@dataclass(frozen=True)
class Cannot:
    """A planning ended because the task cannot be done with the tools at hand, as the model says.

    Attributes:
        reason: Why, in the model's words.
    """

    reason: str


@dataclass(frozen=True)
class Question:
    """A planning ended with a question to the user; with its answer the planning goes on.

    Attributes:
        text: The question, in the model's words.
        returns: JSON Schema of the answer.
    """

    text: str
    returns: Mapping[str, Any]


class PlanningFailed(PlanError):
    """No valid plan could be made from the task.

    Attributes:
        attempts: Every draft in order, each with its problems (`firmplan.planner.Attempt`).
        limit: The limit of its budget that the planning would have passed: `model_calls`, `tokens`, `usd` or `seconds`; `None`: none.
        outcome: What the model said in the place of a plan; `None`: it made no plan that passed.
    """

    code = "planning-failed"

    def __init__(
        self,
        message: str,
        attempts: Sequence[Any] = (),
        limit: str | None = None,
        outcome: Cannot | Question | None = None,
    ) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)
        self.limit = limit
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.attempts, self.limit, self.outcome)


class InputRejected(FirmplanError):
    """A value handed to a call does not fit: an input of a plan, a run id in use, a decision.

    Args:
        message: Expected, found, where, what to do.
        problems: One entry for each fault that has a place.
        code: `DECIDED`, `OTHER_REQUEST`, `OWN_RUN`, `NOT_ENDED`, `HAS_CHILDREN`, `REPLACED`, `UNKNOWN_PLAN`, `UNKNOWN_SCHEDULE`, `UNKNOWN_DELIVERY` or `UNPRICED` where that is why; `input-rejected` if not given.
    """

    code = "input-rejected"

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, code: str | None = None) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        if code is not None:
            self.code = code  # type: ignore[misc]  # per error here, per class elsewhere

    def __reduce__(self) -> tuple[Any, ...]:
        return _input_rejected, (str(self), self.problems, self.code)


def _input_rejected(message: str, problems: Sequence[Problem], code: str) -> InputRejected:
    return InputRejected(message, problems, code=code)


class RunNotFound(FirmplanError):
    """The store has no run of that name."""

    code = "run-not-found"


class RunDriven(FirmplanError):
    """A run was to be driven, or parked, whose owner is alive: whoever asked for it tries again later, or asks that owner.

    Attributes:
        owner: Who drives the run.
    """

    code = "run-driven"

    def __init__(self, message: str, owner: RunOwner) -> None:
        super().__init__(message)
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.owner)


class RunFailed(FirmplanError):
    """A run did not succeed, and `raise_for_status` was asked to say so.

    Attributes:
        run: The run, with its errors.
    """

    code = "run-failed"

    def __init__(self, message: str, run: Run) -> None:
        super().__init__(message)
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.run)


class Diverged(FirmplanError):
    """A replay computed something else than what was recorded.

    Attributes:
        step: Path of the first differing step in plan order; empty for the run as a whole.
        field: What differs: `status`, `args`, `output`, `digest` or `plan`.
        expected: What the journal holds.
        found: What the replay computed.
    """

    code = "diverged"

    def __init__(self, *, step: str, field: str, expected: object, found: object) -> None:
        where = f"step '{step}'" if step else "the run"
        super().__init__(f"replay diverged at {where}: {field} was recorded as {expected!r}, now {found!r}")
        self.step = step
        self.field = field
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return _diverged, (self.step, self.field, self.expected, self.found)


def _diverged(step: str, field: str, expected: object, found: object) -> Diverged:
    return Diverged(step=step, field=field, expected=expected, found=found)


class StoreError(FirmplanError):
    """The store cannot be opened, read or written; what it acknowledged before is kept.

    Args:
        message: Which store, what it answered, what to do.
        temporary: Whether the same may succeed later, such as when the store's server is away or another process drives the run. Otherwise
            somebody has to mend the store first: a journal was changed, a table is missing.
    """

    code = "store-error"

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = bool(temporary)


class ServerError(FirmplanError):
    """A server cannot be reached, or refuses a request for a reason of its own; raised by clients.

    Args:
        message: Which server, what it answered, what to do.
        code: The server's code, such as `unauthorized` or `queue-full`; `unreachable` without an answer, `bad-answer` for one that is not
            firmplan's; `server-error` if not given.
        status: The HTTP status; `None`: there was no answer.
        retry_after: Seconds after which the server may be asked again, as far as it says so.
    """

    code = "server-error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code  # type: ignore[misc]  # per error here, per class elsewhere
        self.status = status
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _server_error, (str(self), self.code, self.status, self.retry_after)


def _server_error(message: str, code: str, status: int | None, retry_after: float | None) -> ServerError:
    return ServerError(message, code=code, status=status, retry_after=retry_after)


class ConfigError(FirmplanError):
    """A setting, a tool declaration or an environment variable is wrong or missing.

    Args:
        message: Which setting, what was expected and found, what to do.
        temporary: Whether the same setting may do later: the server that it names does not answer at the moment.
    """

    code = "config-error"

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.temporary = bool(temporary)


class ToolError(FirmplanError):
    """Raised by a tool: the call failed, and it did nothing.

    Args:
        message: What went wrong, for people.
        code: A stable word for programs; `tool-error` if not given.
        temporary: Whether the same call may succeed later; only then is a write that is not idempotent retried.
    """

    code = "tool-error"

    def __init__(self, message: str, *, code: str | None = None, temporary: bool = False) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code  # type: ignore[misc]  # per error here, per class elsewhere
        self.temporary = bool(temporary)

    def __reduce__(self) -> tuple[Any, ...]:
        return _tool_error, (type(self), str(self), self.code, self.temporary)


def _tool_error(kind: type[ToolError], message: str, code: str, temporary: bool) -> ToolError:  # noqa: FBT001  # pickling is positional
    return kind(message, code=code, temporary=temporary)


class OutcomeUnknown(FirmplanError):
    """Raised by a tool: the call may or may not have taken effect, so nobody may assume either."""

    code = "outcome-unknown"


class EngineBug(FirmplanError):
    """firmplan broke one of its own rules. The journal is intact; please report what led here."""

    code = "engine-bug"
