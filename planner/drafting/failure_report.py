"""The report of a failed run for a planner: statuses, types and codes, and nothing that flowed through the run.

Outputs, arguments, error messages and the codes of tools may contain anyone's words, so none of them is in the report. A code that is not
one of firmplan's own is shown as `tool-error`, since a tool may derive its codes from the data that it read. So no text of a tool can reach
a planner's prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...plans.format.property_order import text_in_order
from ...plans.plan import Plan
from ...plans.values import Json
from ...tools.models.marks import Data
from .signatures import shown_schema

STATUSES = ("pending", "running", "waiting", "indeterminate", "succeeded", "failed", "skipped", "cancelled")
DONE = "succeeded"
REASONS = (
    *("when", "on-error", "skipped-reference", "dependency-failed", "blocked"),
    *("denied", "cancelled", "approval", "question", "budget"),
)
_OWN_CODES = """
    absent-field agent-exhausted bad-args bad-expr bad-input bad-output bad-prompt bad-result bad-value
    cancelled cannot config-error connection-error denied division-by-zero empty-list expired fail failed guard-failed guard-refused
    impure index-out-of-range inner-failed items-failed limit-exceeded model-auth model-rejected
    model-unavailable model-unknown model-unreachable no-artifact no-blobs no-model no-secret not-a-bool
    not-a-list not-finite not-reusable null-value outcome-unknown overflow parked plan-rejected planning-failed policy-denied private-condition
    private-flow process-died rate-limited redirected refused repeat-exhausted resolved-failed timeout tool-error truncated type-error
    type-mismatch unknown-policy unreachable unsafe-flow untrusted-condition withdrawn
"""
OWN_CODES = frozenset(_OWN_CODES.split())
"""Codes of firmplan itself; all other codes come from tools. A tool may use one of these codes too, but cannot put its own words into it."""

TOOL_ERROR = "tool-error"
FILLED_IN = "filled in by on_error"
"""The words in the prompt for a failed step, or part of a step, whose value `on_error` filled in."""

REFUSED = "done, result refused"
"""The words in the prompt for a write that took effect although its result was refused."""

_PART_ORDER = ("filled", *STATUSES)


class ErrorLike(Protocol):
    """The part of an error that is looked at."""

    @property
    def code(self) -> str: ...  # noqa: D102  # the names say it; the same below
    @property
    def temporary(self) -> bool: ...  # noqa: D102  # as above


class StepLike(Protocol):
    """The part of a step of a run that is looked at."""

    @property
    def status(self) -> str: ...  # noqa: D102  # as above
    @property
    def reason(self) -> str | None: ...  # noqa: D102  # as above
    @property
    def error(self) -> ErrorLike | None: ...  # noqa: D102  # as above


@dataclass(frozen=True, slots=True)
class StepState:
    """The state of a step, in words of a fixed list.

    Attributes:
        code: Why it failed: one of `OWN_CODES`.
        temporary: Whether the same call may succeed later.
        reason: Why it was skipped, or why it waits.
        is_filled_in: Whether the step failed and the value of its `on_error` replaces its result.
        parts: The states of its items or iterations: a state on one line -> the number of parts in it.
        took_effect: Whether the step is a write that took effect although it failed, since its result was refused.
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
        """Return the state of a step of a run, without anything that a tool wrote."""
        status = step.status if step.status in STATUSES else "failed"
        return cls(
            status,
            None if step.error is None else own_code(step.error),
            # `is True`: the error may come from a stored journal, where any JSON could stand.
            step.error is not None and step.error.temporary is True,
            step.reason if step.reason in REASONS else None,
            status == DONE and step.error is not None,  # a call that succeeds in the end keeps no error
            dict(parts or {}),
            bool(getattr(step.error, "took_effect", False)),  # not every error of a run has it
        )

    def rendered(self) -> str:
        """Return the state on one line."""
        words = [FILLED_IN if self.is_filled_in else self.status]
        if self.code:
            more = ", temporary" * self.temporary + f"; {REFUSED}" * self.took_effect
            words.append(f"({self.code}{more})")
        if self.reason:
            words.append(f"because of {self.reason}")
        if self.parts:
            parts = sorted(self.parts, key=lambda part: (_PART_ORDER.index(part.split(" ", 1)[0]), part))
            words.append("of " + ", ".join(f"{self.parts[part]} {part}" for part in parts))
        return " ".join(words)


def own_code(error: ErrorLike) -> str:
    """Return the code of an error if it is firmplan's own, else `tool-error`."""
    return error.code if error.code in OWN_CODES else TOOL_ERROR


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A failed run, as a planner sees it.

    Attributes:
        plan: The plan that ran.
        states: Step id -> state; only steps of the plan itself.
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
    ) -> FailureReport:
        """Return the report of a run; parts of its steps are counted.

        Args:
            plan: The plan that ran.
            steps: Path -> state.
            types: Step id -> JSON Schema of its value.
            output_error: Why the plan's output could not be computed, if that is what failed.
        """
        ids = [step.id for step in plan.steps]
        parts: dict[str, Counter[str]] = {each: Counter() for each in ids}
        for path, step in steps.items():
            # Items, iterations and inner steps are counted under the step of the plan: the model changes steps
            # and not their parts.
            head = path.partition("/")[0].partition("[")[0].partition("#")[0]
            if path not in parts and head in parts and step.status in STATUSES:
                parts[head][StepState.of(step).rendered()] += 1
        states = {each: StepState.of(steps[each], parts[each]) for each in ids if each in steps}
        output_code = None if output_error is None else own_code(output_error)
        return cls(plan, states, dict(types or {}), output_code)

    def state(self, step: str) -> StepState:
        """Return the state of a step; a step that the run does not mention has not begun."""
        return self.states.get(step, StepState("pending"))

    @property
    def finished(self) -> tuple[str, ...]:
        """Steps that must stay as they are: they are done, or may be done."""
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
        # A part whose value `on_error` filled in has made its call, whatever came of it.
        kept = (DONE, "indeterminate", FILLED_IN)
        return state.took_effect or any(part.startswith(kept) or REFUSED in part for part in state.parts)

    def rendered(self) -> str:
        """Return task, plan, states and types as text."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts())

    def parts(self) -> tuple[str | Data, ...]:
        """Return the same as parts of the prompt: the plan, and the states with the types of values, are data.

        The task is none: it is what the patched plan has to do.
        """
        plan = self.plan.to_dict()
        task = plan.pop("task", None)
        lines = [self._line(step.id) for step in self.plan.steps]
        if self.output_code is not None:
            lines.append(f"- the plan's output: failed ({self.output_code})")
        return (
            *([f"# Task\n\n{task}\n\n"] if task else []),
            "# The plan\n\n",
            Data("plan", f"```json\n{text_in_order(plan)}\n```"),
            "\n\n# Where its steps stand\n\n",
            Data("states", "\n".join(lines)),
        )

    def _line(self, step: str) -> str:
        schema = self.types.get(step)
        shown = f"; its value: {shown_schema(schema)}" if schema else ""
        return f"- {step}: {self.state(step).rendered()}{shown}"
