"""One attempt at a plan: what was proposed, what is wrong with it, what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...plans.plan import Plan
from ...plans.problems import Problem
from ...plans.values import Json
from ...tools.models.completion import Usage

CUT_OFF = "the answer was cut off before its end"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One draft, of a model or of a saved plan, or a request that brought none or was for something else.

    Attributes:
        number: From 1, in order.
        text: What came, word for word; empty where nothing did.
        plan: The plan in it, if it has the shape of one.
        problems: What its check found, warnings included; none where there was no draft to check.
        usage: What the requests for it cost.
        error: Why there was nothing to check: no JSON, a refusal, an answer cut off, no endpoint. `None` for a draft.
        source: `"model"`, `"saved:<name>"`, `"adapted:<name>"`, `"reused"`, or `"choice"` of tools, which brings no plan.
        approach: What a model was asked for: `"draft"`, then `"steps"`, `"whole"` or `"simple"` (see `approach.py`); `"adapt"` or `"choose"`.
    """

    number: int
    text: str = ""
    plan: Plan | None = None
    problems: tuple[Problem, ...] = ()
    usage: Usage = field(default_factory=Usage)
    error: str | None = None
    source: str = "model"
    approach: str = "draft"

    @property
    def is_cut(self) -> bool:
        """Whether the answer was cut off before its end, so that its text says nothing."""
        return self.error is not None and self.error.startswith(CUT_OFF)

    @property
    def ok(self) -> bool:
        """Whether this attempt gave a plan that may run."""
        return self.error is None and self.plan is not None and not self.faults

    @property
    def faults(self) -> tuple[Problem, ...]:
        """The problems that stop the plan."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    def __str__(self) -> str:
        if self.error is not None:
            return f"attempt {self.number} ({self.source}): {self.error}"
        if not self.faults:
            return f"attempt {self.number} ({self.source}): ok"
        return "\n".join(
            [f"attempt {self.number} ({self.source}): {_faults(len(self.faults))}", *map(str, self.faults)]
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the attempt as JSON."""
        return {
            "number": self.number,
            "source": self.source,
            "approach": self.approach,
            "text": self.text,
            "plan": None if self.plan is None else self.plan.to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "usage": self.usage.to_dict(),
            "error": self.error,
        }


def _faults(number: int) -> str:
    return "1 fault" if number == 1 else f"{number} faults"
