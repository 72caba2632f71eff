"""What a planner is told of a run that went wrong: statuses, types and codes, and nothing that flowed.

Outputs, arguments, messages of errors and what tools call their errors may hold words of anyone; none of it is told. A code
that is not one of firmplan's own is told as `tool-error`, since a tool may make its codes of what it read. So nothing
that a tool says can reach a planner's prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...plans.format.property_order import text_in_order
from ...plans.plan import Plan
from ...plans.values import Json
from .signatures import shown_schema

STATUSES = (
    "pending",
    "running",
    "waiting",
    "indeterminate",
    "succeeded",
    "failed",
    "skipped",
    "cancelled",
)
DONE = "succeeded"
REASONS = (
    "when",
    "on-error",
    "skipped-reference",
    "dependency-failed",
    "blocked",
    "denied",
    "cancelled",
    "approval",
    "budget",
)
OWN_CODES = frozenset(
    [
        "agent-exhausted",
        "bad-args",
        "bad-expr",
        "bad-input",
        "bad-output",
        "bad-prompt",
        "bad-result",
        "bad-value",
        "cancelled",
        "config-error",
        "connection-error",
        "denied",
        "failed",
        "guard-failed",
        "impure",
        "inner-failed",
        "items-failed",
        "limit-exceeded",
        "model-auth",
        "model-rejected",
        "model-unavailable",
        "model-unknown",
        "model-unreachable",
        "no-artifact",
        "no-blobs",
        "no-model",
        "no-secret",
        "not-a-bool",
        "not-a-list",
        "not-reusable",
        "outcome-unknown",
        "process-died",
        "rate-limited",
        "refused",
        "repeat-exhausted",
        "resolved-failed",
        "timeout",
        "tool-error",
        "truncated",
        "type-mismatch",
        "unsafe-flow",
        "withdrawn",
        "absent-field",
        "division-by-zero",
        "empty-list",
        "index-out-of-range",
        "not-finite",
        "null-value",
        "overflow",
        "parked",
        "type-error",
    ]
)
"""Codes that firmplan itself gives; all other codes come from tools. If a tool uses one of these codes, the code tells nothing that the tool wrote."""

TOOL_ERROR = "tool-error"
FILLED_IN = "filled in by on_error"
"""The words in the prompt for a failed step, or part of a step, whose value `on_error` filled in."""

REFUSED = "done, result refused"
"""The words in the prompt for a write that took effect although its result was refused."""

_PART_ORDER = ("filled", *STATUSES)


class ErrorLike(Protocol):
    """What is looked at of an error."""

    @property
    def code(self) -> str: ...  # noqa: D102  # a protocol's members say themselves; the same below
    @property
    def temporary(self) -> bool: ...  # noqa: D102  # as above


class StepLike(Protocol):
    """What is looked at of a step of a run."""

    @property
    def status(self) -> str: ...  # noqa: D102  # as above
    @property
    def reason(self) -> str | None: ...  # noqa: D102  # as above
    @property
    def error(self) -> ErrorLike | None: ...  # noqa: D102  # as above


@dataclass(frozen=True, slots=True)
class StepState:
    """Where a step stands, in words of a fixed list.

    Attributes:
        code: Why it failed: one of `OWN_CODES`.
        temporary: Whether the same call may succeed later.
        reason: Why it was skipped, or what it waits for.
        is_filled_in: Whether the step failed and the value of its `on_error` replaces its result.
        parts: How many of its items or iterations stand where: their state on one line -> how many.
        took_effect: Whether it is a write that is done, although it failed: its result was refused.
    """

    status: str
    code: str | None = None
    temporary: bool = False
    reason: str | None = None
    is_filled_in: bool = False
    parts: Mapping[str, int] = field(default_factory=dict[str, int])
    took_effect: bool = False

    @classmethod
    def of(cls, step: StepLike, parts: Mapping[str, int] | None = None) -> StepState:
        """Return what may be told of a step."""
        status = step.status if step.status in STATUSES else "failed"
        return cls(
            status,
            None if step.error is None else own_code(step.error),
            step.error is not None and step.error.temporary is True,
            step.reason if step.reason in REASONS else None,
            status == DONE and step.error is not None,  # a call that succeeds in the end keeps no error
            dict(parts or {}),
            bool(getattr(step.error, "took_effect", False)),  # not every error of a run has it
        )

    def told(self) -> str:
        """Return the state on one line."""
        said = [FILLED_IN if self.is_filled_in else self.status]
        if self.code:
            more = ", temporary" * self.temporary + f"; {REFUSED}" * self.took_effect
            said.append(f"({self.code}{more})")
        if self.reason:
            said.append(f"because of {self.reason}")
        if self.parts:
            told = sorted(self.parts, key=lambda part: (_PART_ORDER.index(part.split(" ", 1)[0]), part))
            said.append("of " + ", ".join(f"{self.parts[part]} {part}" for part in told))
        return " ".join(said)


def own_code(error: ErrorLike) -> str:
    """Return the code of an error if it is firmplan's own, else `tool-error`."""
    return error.code if error.code in OWN_CODES else TOOL_ERROR


@dataclass(frozen=True, slots=True)
class Incident:
    """A run that went wrong, as a planner sees it.

    Attributes:
        plan: The plan that ran.
        states: Step id -> where it stands; steps of the plan itself only.
        types: Step id -> JSON Schema of its value, as the check infers it.
        output_code: Why the plan's output could not be computed: one of `OWN_CODES`.
    """

    plan: Plan
    states: Mapping[str, StepState]
    types: Mapping[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])
    output_code: str | None = None

    @classmethod
    def of(
        cls,
        plan: Plan,
        steps: Mapping[str, StepLike],
        types: Mapping[str, Mapping[str, Json]] | None = None,
        output_error: ErrorLike | None = None,
    ) -> Incident:
        """Return the incident of a run; parts of its steps are counted.

        Args:
            plan: The plan that ran.
            steps: Path -> where it stands.
            types: Step id -> JSON Schema of its value.
            output_error: Why the plan's output could not be computed, if that is what failed.
        """
        ids = [step.id for step in plan.steps]
        parts: dict[str, Counter[str]] = {each: Counter() for each in ids}
        for path, step in steps.items():
            head = path.partition("/")[0].partition("[")[0].partition("#")[0]
            if path not in parts and head in parts and step.status in STATUSES:
                parts[head][StepState.of(step).told()] += 1
        states = {each: StepState.of(steps[each], parts[each]) for each in ids if each in steps}
        output_code = None if output_error is None else own_code(output_error)
        return cls(plan, states, dict(types or {}), output_code)

    def state(self, step: str) -> StepState:
        """Return where a step stands; one that nobody mentions has not begun."""
        return self.states.get(step, StepState("pending"))

    @property
    def finished(self) -> tuple[str, ...]:
        """Steps that must stay as they are: done, or perhaps done."""
        kept = (DONE, "indeterminate")
        return tuple(step.id for step in self.plan.steps if self.state(step.id).status in kept)

    @property
    def begun(self) -> tuple[str, ...]:
        """Unfinished steps with calls that are done or may be done, including writes whose result was refused."""
        return tuple(
            step.id
            for step in self.plan.steps
            if step.id not in self.finished and self._has_begun(self.state(step.id))
        )

    @staticmethod
    def _has_begun(state: StepState) -> bool:
        kept = (DONE, "indeterminate", FILLED_IN)
        return state.took_effect or any(part.startswith(kept) or REFUSED in part for part in state.parts)

    def told(self) -> str:
        """Return plan, states and types as the prompt shows them."""
        plan = self.plan.to_dict()
        task = plan.pop("task", None)
        lines = [self._line(step.id) for step in self.plan.steps]
        if self.output_code is not None:
            lines.append(f"- the plan's output: failed ({self.output_code})")
        head = [f"# Task\n\n{task}"] if task else []
        spelled = f"# The plan\n\n```json\n{text_in_order(plan)}\n```"
        return "\n\n".join([*head, spelled, "# Where its steps stand\n\n" + "\n".join(lines)])

    def _line(self, step: str) -> str:
        schema = self.types.get(step)
        shown = f"; its value: {shown_schema(schema)}" if schema else ""
        return f"- {step}: {self.state(step).told()}{shown}"
