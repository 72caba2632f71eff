"""What one call of a step's action gives, and what is wrong with what it is given."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import cast

from ..expressions.formula import infer
from ..expressions.infer import infer_parts
from ..nearest import listing, short
from ..plan import AgentStep, AskStep, PlanStep, SetStep, Step, ToolStep
from ..types.types import NEVER, NULL, TEXT, UNKNOWN, Type, union, widened
from ..values import Json
from .arguments import argument_faults, computed, value_faults, without_doubts
from .body import UNKNOWN as NO_BODY
from .checking import Accepted
from .conditions import ANY_LIST, expect
from .examples import example_faults
from .guards import guard_faults
from .templates import Template
from .typed_body import TypedBody, value_type, wrong_places

PREVIOUS_ROUNDS_MAX = 4
"""Rounds until the type of a `set` step that builds on `prev` must have settled; past them it is unknown."""


def made_type(steps: TypedBody, position: int, step: Step, scope: Mapping[str, Type]) -> Type:
    """Return the type of what one call of the step's action gives."""
    path = steps.body.path(position)
    match step:
        case SetStep():
            return _set_type(steps, path, step, scope)
        case ToolStep():
            return _tool_type(steps, path, step, scope)
        case PlanStep():
            return _plan_type(steps, path, position, step, scope)
        case AskStep(ask=ask):
            made = steps.checking.read(steps.body, ask.returns, f"{path}.ask.returns")
            scope = with_previous(step, made, scope)
            _expect_text(steps, path, step, ("prompt", "system"), scope)
            if "examples" in step.templates:
                _expect_examples(steps, path, step.templates["examples"], made, scope)
            steps.checking.findings.add_faults(steps.body, f"{path}.ask.guard", guard_faults(ask.guard, made))
            return made
        case AgentStep(agent=agent):
            for index, name in enumerate(agent.tools):
                _expect_tool(steps, f"{path}.agent.tools[{index}]", name)
            made = steps.checking.read(steps.body, agent.returns, f"{path}.agent.returns")
            _expect_text(steps, path, step, ("goal",), with_previous(step, made, scope))
            return made


def with_previous(step: Step, made: Type, scope: Mapping[str, Type]) -> Mapping[str, Type]:
    """Return the scope with `prev`, which is absent in the first iteration."""
    if step.repeat is None:
        return scope
    return ChainMap({"prev": union(made, NULL)}, scope)  # type: ignore[arg-type]  # a mapping that is only read


def _set_type(steps: TypedBody, path: str, step: SetStep, scope: Mapping[str, Type]) -> Type:
    template = step.templates["set"]
    if step.repeat is None or "prev" not in template.formula.names:
        return value_type(steps, path + template.where, template, scope)
    made: Type = NEVER
    for _ in range(PREVIOUS_ROUNDS_MAX):
        found = union(
            made, widened(infer(template.formula, with_previous(step, made, scope), suggestions=False).type)
        )
        if found == made:
            break
        made = found
    else:
        made = UNKNOWN
    return value_type(steps, path + template.where, template, with_previous(step, made, scope))


def _expect_tool(steps: TypedBody, path: str, name: str) -> bool:
    if steps.checking.toolset.find(name) is not None:
        return True
    names = steps.checking.toolset.names
    if names:
        message = f"there is no tool '{short(name)}': expected one of {listing(names)}"
        hint = steps.checking.findings.suggestion(name, names, "name one of the tools")
    else:
        message = f"there is no tool '{short(name)}': no tools were given"
        hint = "say where the tools are: --tools on the command line, Engine(tools=..) or check(plan, tools) in Python"
    steps.checking.findings.add(steps.body, "unknown-tool", path, message, hint)
    return False


def _tool_type(steps: TypedBody, path: str, step: ToolStep, scope: Mapping[str, Type]) -> Type:
    known = _expect_tool(steps, f"{path}.tool", step.tool)
    tool = steps.checking.toolset.find(step.tool)
    made = NEVER if tool is None else steps.checking.returned_by(tool)
    accepted = steps.checking.accepted_by(tool) if known and tool is not None else None
    _check_args(steps, path, step, accepted, with_previous(step, made, scope))
    return made


def _plan_type(steps: TypedBody, path: str, position: int, step: PlanStep, scope: Mapping[str, Type]) -> Type:
    called = steps.body.calls.get(position, NO_BODY)
    made = steps.checking.outputs.get(called, NEVER)
    accepted = None if called == NO_BODY else steps.checking.inputs_of(called)
    _check_args(steps, path, step, accepted, with_previous(step, made, scope))
    return made


def _check_args(
    steps: TypedBody,
    path: str,
    step: ToolStep | PlanStep,
    accepted: Accepted | None,
    scope: Mapping[str, Type],
) -> None:
    template = step.templates["args"]
    findings, body, at = steps.checking.findings, steps.body, path + template.where
    findings.add_faults(body, at, template.faults)
    inferred = infer_parts(template.formula.tree, scope, suggestions=findings.suggests, callers=steps.callers)
    if accepted is None:
        findings.add_inferred(body, at, inferred.problems)
        return
    parts = computed(inferred.leaves, wrong_places(template, inferred.problems))
    args = template.formula.literal(cast("Json", step.args))
    misfits = list(argument_faults(cast("dict[str, Json]", args), accepted, parts, template.secrets))
    findings.add_inferred(body, at, without_doubts(inferred.problems, misfits))
    findings.add_faults(body, at, without_doubts(misfits, inferred.problems))


def _expect_text(
    steps: TypedBody, path: str, step: Step, names: Sequence[str], scope: Mapping[str, Type]
) -> None:
    for name in names:
        template = step.templates.get(name)
        if template is not None:
            found = value_type(steps, path + template.where, template, scope)
            parts = computed({"": found}, ())
            faults = value_faults(template.value, "", TEXT, parts)
            steps.checking.findings.add_faults(steps.body, path + template.where, faults)


def _expect_examples(
    steps: TypedBody, path: str, template: Template, answer: Type, scope: Mapping[str, Type]
) -> None:
    at = path + template.where
    found = value_type(steps, at, template, scope)
    if isinstance(template.value, str):
        expect(steps, at, found, ANY_LIST, "type-mismatch", template.value)
        return
    inferred = infer_parts(template.formula.tree, scope, suggestions=False)
    parts = computed(inferred.leaves, wrong_places(template, inferred.problems))
    faults = example_faults(cast("list[Json]", template.formula.literal(template.value)), answer, parts)
    steps.checking.findings.add_faults(steps.body, at, faults)
