"""Why no plan came, in words that say what to do, for each way in which planning ends."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ConfigError, PlanningFailed
from ...tools.models.errors import ModelError
from ..saved import SavedPlan
from .attempt import Attempt

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


def no_model(
    task: str, missing: ConfigError, saved: Sequence[SavedPlan], attempts: Sequence[Attempt]
) -> PlanningFailed:
    """Return the failure where no saved plan answers the task and there is no model to ask."""
    head = f"no saved plan answers the task {_quoted(task)}, and {missing}."
    return PlanningFailed("\n".join([head, *_passed_over(attempts), _nearest(saved)]), attempts)


def no_endpoint(
    task: str, fault: ModelError, saved: Sequence[SavedPlan], attempts: Sequence[Attempt]
) -> PlanningFailed:
    """Return the failure where the model cannot be asked, or declines."""
    head = f"no plan for the task {_quoted(task)}: {fault}"
    advice = [f"What to do: {_ADVICE[fault.code]}."] if fault.code in _ADVICE else []
    earlier = [str(attempt) for attempt in attempts[-2:-1]]
    return PlanningFailed(
        "\n".join([head, *advice, *earlier, *([_nearest(saved)] if saved else [])]), attempts
    )


def over_budget(task: str, limit: str, attempts: Sequence[Attempt]) -> PlanningFailed:
    """Return the failure of a planning that would exceed its budget."""
    head = f"no plan for the task {_quoted(task)}: its planning would pass the budget's '{limit}'."
    advice = "What to do: raise the budget (`firmplan resume RUN --budget NAME=AMOUNT`), or save a plan that answers the task."
    return PlanningFailed(f"{head}\n{advice}", attempts, limit)


def no_good_draft(task: str, attempts: Sequence[Attempt]) -> PlanningFailed:
    """Return the failure where every draft was bad."""
    drafts = [attempt for attempt in attempts if attempt.source == "model"]
    last = drafts[-1]
    head = f"no plan for the task {_quoted(task)}: {_count(len(drafts), 'draft')} of the model, none without fault. The last: "
    if last.error is not None:
        return PlanningFailed(f"{head}{last.error}\n{_do_better(cut=last.is_cut)}", attempts)
    shown = [str(fault) for fault in last.faults[:FAULTS_SHOWN]]
    if len(last.faults) > FAULTS_SHOWN:
        shown.append(f"and {len(last.faults) - FAULTS_SHOWN} more")
    return PlanningFailed(
        "\n".join([f"{head}{_count(len(last.faults), 'fault')}", *shown, _do_better(cut=False)]), attempts
    )


def _do_better(*, cut: bool) -> str:
    if cut:
        return "What to do: split the task, or raise the length of answers at the endpoint."
    return (
        "What to do: say the task more precisely, use a stronger model (FIRMPLAN_MODEL), or raise "
        "Planner(max_repairs=..). The error's `attempts` hold every draft."
    )


def _nearest(saved: Sequence[SavedPlan]) -> str:
    """Return the saved tasks that read most like the task, one a line."""
    if not saved:
        return "No plans are saved: `firmplan plans save NAME FILE` keeps one, Planner(library=..) brings a folder of them."
    lines = [f"  {each.plan.task}  ({each.name})" for each in saved]
    return "\n".join(["The nearest saved tasks:", *lines])


def _passed_over(attempts: Sequence[Attempt]) -> list[str]:
    """Return what kept saved plans whose tasks fit from being used."""
    return [f"A saved plan fits but cannot be used: {attempt}" for attempt in attempts]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _quoted(task: str) -> str:
    line = " ".join(task.split())
    return f"'{line}'" if len(line) <= TASK_CHARACTERS else f"'{line[:TASK_CHARACTERS]}..'"
