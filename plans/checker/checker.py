"""`check`: every fault of a plan at once, before anything runs.

The door and the order of things; each part of the check is a module of its own. First the text, then the shape; what has
the shape of a plan is looked at for names, schemas, wiring, types, flows, effects and use, body by body, each after
those that it runs. What is broken in one way is not reported in another: the more specific code wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from ..collecting import collector_paused
from ..format.shape import Draft, draft_of
from ..format.source import SourceError, parse_source, source_report
from ..limits import LIMITS, Limits
from ..plan import Plan
from ..problems import Bounds, CheckReport, in_order, problem
from ..signature import Signature, Signatures
from ..toolbox import toolbox
from ..types.types import NEVER, Type
from .body import UNKNOWN, Bodies, SavedPlans, bodies_of
from .bounds import FREE, Cost, bounds_of, cost_of, critical_path
from .checking import Checking
from .effects import unsafe_retries
from .findings import Findings
from .inference import infer_body
from .lengths import list_lengths
from .naming import check_names
from .schemas import check_schemas
from .survey import Survey, survey_of
from .usage import check_usage
from .wiring import check_wiring

MISSHAPEN_MAX = 100
"""Faults of shape whose places are kept silent about afterwards: each is compared with every later problem."""
Tools: TypeAlias = Signatures | Iterable[Signature]


def check(
    plan: object, toolset: Tools = (), *, plans: SavedPlans | None = None, limits: Limits = LIMITS
) -> CheckReport:
    """Return all that is wrong, or doubtful, about a plan. Never raises for a bad plan. O(size of the plan).

    Args:
        plan: A `Plan`, a dict, or JSON or YAML text; anything else is a fault of shape.
        toolset: The tools that it may use: a toolset, or a list of tools.
        plans: Saved plans by name or digest, or a function that finds them.
        limits: What is admitted.
    """
    with collector_paused():
        return _check(plan, toolbox(toolset), plans, limits)


def _check(plan: object, tools: Signatures, plans: SavedPlans | None, limits: Limits) -> CheckReport:
    if not isinstance(plan, str | bytes):
        return _check_draft(draft_of(plan), tools, plans, limits)
    try:
        source = parse_source(plan, limits)
    except SourceError as fault:
        return source_report(fault)
    return source.located(_check_draft(draft_of(source.value, owned=True), tools, plans, limits))


def _check_draft(draft: Draft, toolset: Signatures, plans: SavedPlans | None, limits: Limits) -> CheckReport:
    if draft.plan is None:
        return CheckReport(in_order(draft.problems))
    count = _count_steps(draft.plan)
    if count > limits.steps_max:
        message = f"the plan has {count} steps: expected at most {limits.steps_max}"
        found = problem("limit-exceeded", "$.steps", message, "divide it, or raise Limits.steps_max")
        return CheckReport(in_order([*draft.problems, found]))
    bodies = bodies_of(draft, draft.plan, plans)
    checking = Checking(bodies, toolset, limits, _findings(draft, limits))
    survey = survey_of(bodies, toolset, limits)
    _check_bodies(checking, survey)
    bounds = Bounds(None, None, ()) if survey.runs_itself else _bounds(checking, survey)
    return CheckReport(in_order(checking.findings.problems), bounds, _inferred(checking, survey))


def _findings(draft: Draft, limits: Limits) -> Findings:
    misshapen = tuple(found.path for found in draft.problems if found.path != "$")
    return Findings(list(draft.problems), misshapen[:MISSHAPEN_MAX], limits.suggestions_max)


def _count_steps(plan: Plan) -> int:
    return len(plan.steps) + sum(len(inner.steps) for inner in plan.plans.values())


def _check_bodies(checking: Checking, survey: Survey) -> None:
    findings = checking.findings
    check_wiring(checking, survey)
    for number in survey.order:
        body = checking.bodies.every[number]
        check_names(body, findings)
        check_schemas(checking, body)
        infer_body(checking, number, survey.steps[number])
        for at, message, hint in unsafe_retries(body, checking.toolset):
            findings.add(body, "unsafe-retry", at, message, hint)
        for where, found in survey.flows[number].problems:
            findings.add(where, found.code, found.path, found.message, found.hint)
    check_usage(checking, survey)


def _bounds(checking: Checking, survey: Survey) -> Bounds:
    costs: list[Cost] = [FREE] * len(checking.bodies.every)
    chains: list[tuple[tuple[str, ...], int]] = [((), 0)] * len(checking.bodies.every)
    for number in survey.order:
        body = checking.bodies.every[number]
        lengths = list_lengths(body, survey.steps[number])
        costs[number] = cost_of(body, costs, lengths, checking.toolset)
        calls = [chain[1] for chain in chains]
        chains[number] = critical_path(body, survey.steps[number], survey.touches[number], calls)
    return bounds_of(costs[0], chains[0][0])


def _inferred(checking: Checking, survey: Survey) -> dict[str, Type]:
    """Return the type of every step by its path, those of inner plans under the step that runs them."""
    made: dict[str, Type] = {}
    if not survey.runs_itself:
        _add_types(checking.bodies, checking, made)
    return made


def _add_types(bodies: Bodies, checking: Checking, made: dict[str, Type]) -> None:
    waiting = deque([("", 0)])
    while waiting:
        prefix, number = waiting.popleft()
        body = bodies.every[number]
        for position, step in enumerate(body.steps):
            if len(made) >= checking.limits.steps_max:
                return
            found = checking.steps[number][position]
            if found != NEVER:
                made[f"{prefix}{step.id}"] = found
            called = body.calls.get(position, UNKNOWN)
            if called != UNKNOWN:
                waiting.append((f"{prefix}{step.id}/", called))
