"""A task in words, before a run of it is stored: how its inputs are read, and what it is bound to fail with."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine import Engine
from ..executor.runs.request import fitted_inputs
from ..planner.library.library import find_matches
from ..planner.request import is_missing_input
from ..plans import Json, Plan
from ..plans.inputs import fit_inputs
from .config import Settings
from .session import is_model_configured
from .values import name_of, read_inputs


async def read_task(engine: Engine, task: str, words: Sequence[str], settings: Settings) -> dict[str, Json]:
    """Return the inputs given with a task, read by the types of the saved plan that answers it, else by their looks.

    Raises:
        PlanningFailed: No saved plan answers the task, and no model is configured.
        InputRejected: The saved plan that answers it lacks an input, or an input does not fit.
    """
    saved = await engine.list_plans()
    inputs = read_inputs(words, _taking([fit.saved.plan for fit in find_matches(task, saved, {})], words))
    found = find_matches(task, saved, inputs)
    faults = [fit_inputs(fit.saved.plan, fit.inputs)[1] for fit in found]
    if found and all(faults) and all(is_missing_input(fault, found[0].inputs) for fault in faults[0]):
        fitted_inputs(found[0].saved.plan, found[0].inputs)
    if not is_model_configured(settings):
        fitting = [fit.saved.plan for fit, fault in zip(found, faults, strict=True) if not fault]
        if not any([(await engine.check_plan(plan)).ok for plan in fitting]):
            await engine.plan(task, inputs=inputs or None)
    return inputs


def _taking(plans: Sequence[Plan], words: Sequence[str]) -> Plan | None:
    """Return the first plan that takes all inputs of these names."""
    names = [name_of(word) for word in words]
    return next((plan for plan in plans if all(name in plan.inputs for name in names)), None)
