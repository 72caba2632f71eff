"""How the parts of a plan hang together: circles of steps, plans that are missing, run themselves or are too many."""

from __future__ import annotations

from ..graph import cycles
from ..nearest import listing
from ..plan import PlanStep
from .body import Body
from .checking import Checking
from .survey import Survey

CIRCLE_SHOWN_MAX = 12
"""Steps of a circle that a message names."""


def check_wiring(checking: Checking, survey: Survey) -> None:
    """Note circles, plans that are missing or faulty, and what nests or grows too much. O(size of all bodies)."""
    for unit, faults in checking.bodies.misshapen:
        body = checking.bodies.every[checking.bodies.units[unit].bodies[None]]
        for fault in faults:
            checking.findings.add(body, fault.code, fault.path, fault.message, fault.hint)
    for body, position in checking.bodies.missing:
        _note_missing(checking, body, position)
    for number in survey.circular:
        _note_circles(checking, checking.bodies.every[number])
    if survey.runs_itself:
        _note_recursion(checking)
    else:
        _check_size(checking, survey)


def _note_missing(checking: Checking, body: Body, position: int) -> None:
    step = body.steps[position]
    if isinstance(step, PlanStep):
        own = tuple(checking.bodies.units[body.unit].plan.plans)
        message = f"step '{step.id}' runs '{step.plan[:100]}': there is no inner plan ({listing(own)}) and no saved plan of that name"
        known = (*own, *checking.bodies.saved)
        hint = checking.findings.suggestion(step.plan, known, "define it in 'plans', or save it first")
        checking.findings.add(body, "unknown-plan", f"{body.path(position)}.plan", message, hint)


def _note_circles(checking: Checking, body: Body) -> None:
    for position, refs in enumerate(body.refs):
        if refs.refers_to_self:
            id_ = body.steps[position].id
            hint = "the step's own value is known only in repeat.until; in a repeated step 'prev' is the value before"
            checking.findings.add(body, "cycle", body.path(position), f"step '{id_}' refers to itself", hint)
    for circle in cycles([refs.waits for refs in body.refs]):
        if len(circle) == 2:
            continue  # a step that waits for itself was told of
        names = [body.steps[position].id for position in circle]
        if len(names) > CIRCLE_SHOWN_MAX:
            names = [*names[: CIRCLE_SHOWN_MAX - 1], "..", names[-1]]
        message = f"steps wait for one another in a circle: {' -> '.join(names)}"
        checking.findings.add(
            body, "cycle", body.path(circle[0]), message, "break it: take one of the references out"
        )


def _note_recursion(checking: Checking) -> None:
    bodies = checking.bodies
    for circle in cycles(bodies.callees):
        body = bodies.every[circle[0]]
        position = next(at for at, called in sorted(body.calls.items()) if called == circle[1])
        names = [bodies.every[number].label for number in circle]
        message = f"a plan runs itself: {' -> '.join(names)}"
        hint = "a plan cannot call itself; use for_each or repeat"
        checking.findings.add(body, "recursive-plan", f"{body.path(position)}.plan", message, hint)


def _check_size(checking: Checking, survey: Survey) -> None:
    """Note plans that nest too deep, or that are too large once every `plan` step is written out."""
    bodies, limits = checking.bodies, checking.limits
    depth = [1] * len(bodies.every)
    count = [0] * len(bodies.every)
    for number in survey.order:
        body = bodies.every[number]
        called = body.calls.values()
        depth[number] = 1 + max((depth[inner] for inner in called), default=0)
        count[number] = len(body.steps) + sum(count[inner] for inner in called)
    top = bodies.every[0]
    if depth[0] - 1 > limits.nesting_max:
        message = f"plans run inside one another {depth[0] - 1} deep: expected at most {limits.nesting_max}"
        hint = "run fewer plans inside one another, or raise Limits.nesting_max"
        checking.findings.add(top, "limit-exceeded", "$.steps", message, hint)
    if count[0] > limits.steps_max:
        message = f"with its inner plans written out the plan has {count[0]} steps: expected at most {limits.steps_max}"
        checking.findings.add(
            top, "limit-exceeded", "$.steps", message, "divide it, or raise Limits.steps_max"
        )
