"""What a plan has and does not use: steps that change nothing and that nothing refers to, and inputs."""

from __future__ import annotations

from ..paths import key
from ..plan import AgentStep, PlanStep, Step, ToolStep
from .body import Body
from .checking import Checking
from .effects import is_write
from .naming import is_name
from .survey import Survey


def check_usage(checking: Checking, survey: Survey) -> None:
    """Note what is not used. O(steps and references)."""
    for number, body in enumerate(checking.bodies.every):
        if body.unit:
            continue  # a saved plan was told of this when it was saved
        used = _used(body)
        for position, step in enumerate(body.steps):
            is_told = position in body.broken or not is_name(step.id) or body.position[step.id] != position
            if not used[position] and not is_told and _is_idle(checking, survey, number, position, step):
                message = f"nothing refers to step '{step.id}', and it changes nothing"
                hint = f"leave it out, or refer to it: ${{{step.id}}}"
                checking.findings.add(body, "unused-step", body.path(position), message, hint)
        _check_inputs(checking, body)


def _used(body: Body) -> list[bool]:
    used = [False] * len(body.steps)
    for refs in body.refs:
        for other in refs.waits:
            used[other] = True
    for id_ in (*body.output.formula.strict, *body.output.formula.lenient):
        if id_ in body.position:
            used[body.position[id_]] = True
    return used


def _is_idle(checking: Checking, survey: Survey, number: int, position: int, step: Step) -> bool:
    """Whether a step is known to change nothing."""
    names: tuple[str, ...] = ()
    match step:
        case ToolStep(tool=name):
            names = (name,)
        case AgentStep(agent=agent):
            names = agent.tools
        case PlanStep():
            if position not in checking.bodies.every[number].calls:
                return False
        case _:
            pass
    known = all(checking.toolset.find(name) is not None for name in names)
    return known and not is_write(survey.touches[number][position])


def _check_inputs(checking: Checking, body: Body) -> None:
    used: set[str] = set()
    for template in (*(text for step in body.steps for text in step.templates.values()), body.output):
        if "inputs" in template.formula.names:
            if not template.formula.inputs:
                return
            used.update(template.formula.inputs)
    if body.broken:
        return  # what was broken may have used them
    for name in body.inputs:
        if name not in used and is_name(name):
            message = f"nothing refers to the input '{name}'"
            path = f"{body.where}.inputs{key(name)}"
            checking.findings.add(
                body, "unused-input", path, message, f"leave it out, or refer to it: ${{inputs.{name}}}"
            )
