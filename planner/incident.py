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

from ..plans.plan import Plan
from ..plans.values import Json, canonical
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
OWN_CODES = (
    *(
        "agent-exhausted",
        "bad-args",
        "bad-expr",
        "bad-input",
        "bad-output",
        "bad-prompt",
        "bad-result",
        "bad-value",
    ),
    *("cancelled", "connection-error", "impure", "inner-failed", "items-failed", "limit-exceeded"),
    *("model-auth", "model-rejected", "model-unavailable", "model-unknown", "model-unreachable"),
    *("no-artifact", "no-model", "no-secret", "not-a-list", "not-a-bool", "outcome-unknown"),
    *("rate-limited", "refused", "repeat-exhausted", "resolved-failed", "timeout", "tool-error"),
    *("truncated", "type-error", "type-mismatch", "unsafe-flow"),
)
"""Codes that firmplan itself gives; all others are some tool's."""

TOOL_ERROR = "tool-error"


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
        parts: How many of its items or iterations stand where.
        took_effect: Whether a write of it failed that is done: only its result was refused.
    """

    status: str
    code: str | None = None
    temporary: bool = False
    reason: str | None = None
    parts: Mapping[str, int] = field(default_factory=dict[str, int])
    took_effect: bool = False

    @classmethod
    def of(
        cls, step: StepLike, parts: Mapping[str, int] | None = None, *, took_effect: bool = False
    ) -> StepState:
        """Return what may be told of a step, one of whose writes may have `took_effect`."""
        code = (
            None if step.error is None else (step.error.code if step.error.code in OWN_CODES else TOOL_ERROR)
        )
        return cls(
            step.status if step.status in STATUSES else "failed",
            code,
            step.error is not None and step.error.temporary is True,
            step.reason if step.reason in REASONS else None,
            dict(parts or {}),
            took_effect,
        )

    def told(self) -> str:
        """Return the state on one line."""
        said = [self.status]
        if self.code:
            said.append(f"({self.code}{', temporary' if self.temporary else ''})")
        if self.took_effect:
            said.append("(done, result refused: the write took effect)")
        if self.reason:
            said.append(f"because of {self.reason}")
        if self.parts:
            said.append(
                "of " + ", ".join(f"{self.parts[each]} {each}" for each in STATUSES if each in self.parts)
            )
        return " ".join(said)


@dataclass(frozen=True, slots=True)
class Incident:
    """A run that went wrong, as a planner sees it.

    Attributes:
        plan: The plan that ran.
        states: Step id -> where it stands; steps of the plan itself only.
        types: Step id -> JSON Schema of its value, as the check infers it.
    """

    plan: Plan
    states: Mapping[str, StepState]
    types: Mapping[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])

    @classmethod
    def of(
        cls, plan: Plan, steps: Mapping[str, StepLike], types: Mapping[str, Mapping[str, Json]] | None = None
    ) -> Incident:
        """Return the incident of a run's steps, by their paths; parts of steps are counted."""
        ids = [step.id for step in plan.steps]
        parts: dict[str, Counter[str]] = {each: Counter() for each in ids}
        done: set[str] = set()
        for path, step in steps.items():
            head = path.partition("/")[0].partition("[")[0].partition("#")[0]
            if getattr(step.error, "took_effect", False):  # not every error of a run has it
                done.add(head)
            if path not in parts and head in parts and step.status in STATUSES:
                parts[head][step.status] += 1
        states = {
            each: StepState.of(steps[each], parts[each], took_effect=each in done)
            for each in ids
            if each in steps
        }
        return cls(plan, states, dict(types or {}))

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
        """Steps that are not finished, some of whose parts are done or may be done: also a write whose result was refused."""
        return tuple(
            step.id
            for step in self.plan.steps
            if step.id not in self.finished and self._has_begun(self.state(step.id))
        )

    @staticmethod
    def _has_begun(state: StepState) -> bool:
        return state.took_effect or any(each in (DONE, "indeterminate") for each in state.parts)

    def told(self) -> str:
        """Return plan, states and types as the prompt shows them."""
        plan = self.plan.to_dict()
        task = plan.pop("task", None)
        lines = [self._line(step.id) for step in self.plan.steps]
        head = [f"# Task\n\n{task}"] if task else []
        spelled = f"# The plan\n\n```json\n{canonical(plan).decode()}\n```"
        return "\n\n".join([*head, spelled, "# Where its steps stand\n\n" + "\n".join(lines)])

    def _line(self, step: str) -> str:
        schema = self.types.get(step)
        shown = f"; its value: {shown_schema(schema)}" if schema else ""
        return f"- {step}: {self.state(step).told()}{shown}"
