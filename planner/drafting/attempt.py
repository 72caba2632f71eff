"""The attempts of a planning, and the failure that carries them: each says in words why no plan came and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from ...errors import ConfigError, PlanningFailed
from ...plans.immutable import frozen
from ...plans.plan import Plan
from ...plans.reports.problems import Problem
from ...plans.values import Json
from ...tools.models.completion import Usage
from ...tools.models.errors import ModelError
from ..library.library import SavedPlan

CUT_OFF = "the answer was cut off before its end"


@frozen
class Attempt:
    """One draft, of a model or of a saved plan; or a request that brought no draft, or did not ask for one.

    Attributes:
        number: From 1, in order.
        text: The answer, word for word; empty if there was none.
        plan: The plan in it, if it has the shape of a plan.
        problems: The problems that the check found, including warnings; none if there was no draft to check.
        usage: The usage of its requests.
        error: Why there was nothing to check: no JSON, a refusal, an answer cut off, no endpoint. `None` for a draft.
        source: `"model"`, `"saved:<name>"`, `"adapted:<name>"`, `"reused"`, or `"choice"` of tools, which brings no plan.
        approach: What the model was asked for: `"draft"`, then a repair strategy, `"steps"`, `"whole"` or `"simple"` (see `drafting.py`);
            `"adapt"`, `"choose"` or `"patch"`.
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
        """Whether the answer was cut off before its end, so that its text is of no use."""
        return self.error is not None and self.error.startswith(CUT_OFF)

    @property
    def ok(self) -> bool:
        """Whether the attempt gave a plan that may run."""
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
            [
                f"attempt {self.number} ({self.source}): {_count(len(self.faults), 'fault')}",
                *map(str, self.faults),
            ]
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


# --- failures

FAULTS_SHOWN = 5
TASK_CHARACTERS = 200

_ADVICE = {
    "refused": "say the task in other words, or use another model (FIRMPLAN_MODEL)",
    "model-unreachable": "start the server, or set FIRMPLAN_BASE_URL to one that runs",
    "timeout": "raise Planner(timeout=..), or use a faster model",
    "rate-limited": "wait, or use another key or endpoint",
    "model-unavailable": "try again later, or use another endpoint (FIRMPLAN_BASE_URL)",
    "limit-exceeded": "a planning ends after 12 requests or ten times Planner(timeout=..): raise the timeout, or use a better model",
}


def no_model_for_part(task: str, missing: ConfigError) -> PlanningFailed:
    """Return the failure of the planning of a part of a run without a model: saved plans do not answer parts, so none is named."""
    return PlanningFailed(
        f"the part {quoted_task(task)} of the run needs a model for its plan, and {missing}."
    )


def no_model(
    task: str, missing: ConfigError, saved: Sequence[SavedPlan], attempts: Sequence[Attempt]
) -> PlanningFailed:
    """Return the failure of a planning without a model whose task no saved plan answers.

    Args:
        task: The words.
        missing: What is missing to ask a model.
        saved: The nearest saved plans.
        attempts: What was tried.
    """
    head = f"no saved plan answers the task {quoted_task(task)}, and {missing}."
    passed_over = [f"A saved plan fits but cannot be used: {attempt}" for attempt in attempts]
    return PlanningFailed("\n".join([head, *passed_over, _nearest(saved)]), attempts)


def no_endpoint(
    task: str, fault: ModelError, saved: Sequence[SavedPlan], attempts: Sequence[Attempt]
) -> PlanningFailed:
    """Return the failure of a planning whose model cannot be asked, or declines.

    Args:
        task: The words.
        fault: Why there is no answer.
        saved: The nearest saved plans.
        attempts: What was tried, the last of them this request.
    """
    head = f"no plan for the task {quoted_task(task)}: {fault}"
    advice = [f"What to do: {_ADVICE[fault.code]}."] if fault.code in _ADVICE else []
    earlier = [str(attempt) for attempt in attempts[-2:-1]]
    return PlanningFailed(
        "\n".join([head, *advice, *earlier, *([_nearest(saved)] if saved else [])]), attempts
    )


def over_budget(task: str, limit: str, attempts: Sequence[Attempt]) -> PlanningFailed:
    """Return the failure of a planning whose next request would pass a limit of its budget.

    Args:
        task: The words.
        limit: The name of the limit.
        attempts: What was tried.
    """
    head = f"no plan for the task {quoted_task(task)}: its planning would pass the budget's '{limit}'."
    advice = "What to do: raise the budget (`firmplan resume RUN --budget NAME=AMOUNT`), or save a plan that answers the task."
    return PlanningFailed(f"{head}\n{advice}", attempts, limit)


def no_good_draft(task: str, attempts: Sequence[Attempt], advice: str | None = None) -> PlanningFailed:
    """Return the failure of a planning all of whose drafts have faults.

    Args:
        task: The words.
        attempts: What was tried.
        advice: What else may help.
    """
    # Small questions and saved plans are attempts too, and brought no draft.
    drafts = [attempt for attempt in attempts if attempt.source == "model"]
    last = drafts[-1]
    head = f"no plan for the task {quoted_task(task)}: {_count(len(drafts), 'draft')} of the model, none without faults. The last: "
    if last.error is not None:
        return PlanningFailed(f"{head}{last.error}\n{_do_better(advice, cut=last.is_cut)}", attempts)
    shown = [str(fault) for fault in last.faults[:FAULTS_SHOWN]]
    if len(last.faults) > FAULTS_SHOWN:
        shown.append(f"and {len(last.faults) - FAULTS_SHOWN} more")
    return PlanningFailed(
        "\n".join([f"{head}{_count(len(last.faults), 'fault')}", *shown, _do_better(advice, cut=False)]),
        attempts,
    )


def _do_better(advice: str | None, *, cut: bool) -> str:
    more = "" if advice is None else f"\n{advice}"
    if cut:
        return f"What to do: split the task, or raise the length of answers at the endpoint.{more}"
    return (
        "What to do: say the task more precisely, use a stronger model (FIRMPLAN_MODEL), or raise "
        f"Planner(max_repairs=..). The error's `attempts` hold every draft.{more}"
    )


def _nearest(saved: Sequence[SavedPlan]) -> str:
    """Return the nearest saved tasks, one on each line."""
    if not saved:
        return "No plans are saved: `firmplan plans save NAME FILE` keeps one, Planner(library=..) brings a folder of them."
    lines = [f"  {each.plan.task}  ({each.name})" for each in saved]
    return "\n".join(["The nearest saved tasks:", *lines])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def quoted_task(task: str) -> str:
    """Return a task on one line, as messages quote it; cut where it is long."""
    line = " ".join(task.split())
    return f"'{line}'" if len(line) <= TASK_CHARACTERS else f"'{line[:TASK_CHARACTERS]}..'"
