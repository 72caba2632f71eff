"""What there is to see of a plan, before anyone draws it: steps in stages, what they do, who waits for whom.

A stage is how long the longest chain up to a step is. A plan with faults has a picture too: what is wrong is not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..body import Bodies, Body, bodies_of
from ..bounds import critical_path
from ..effects import Touches, is_write, joined, touches_of
from ..graph import depths, program_order
from ..plan import AgentStep, AskStep, Fallback, Plan, PlanStep, SetStep, Step, ToolStep
from ..shape import Draft
from ..toolbox import toolbox
from ..values import Json, canonical

if TYPE_CHECKING:
    from ..signature import Signature, Signatures


@dataclass(frozen=True, slots=True)
class Node:
    """One step.

    Attributes:
        stage: From 1.
        kind: The key of its action.
        does: What it calls or computes, in a few words: a tool's name, an expression.
        detail: Its arguments.
        effect: `pure`, `read`, `model`, `write`, or empty if unknown.
        conditions: `for each ..`, `when ..`, `until ..` and the like, in reading order.
        needs: Positions that it refers to.
        after: Positions that it only waits for.
    """

    id: str
    stage: int
    kind: str
    does: str
    detail: str
    effect: str
    conditions: tuple[str, ...]
    fans_out: bool
    is_conditional: bool
    is_critical: bool
    needs: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan to be drawn.

    Attributes:
        nodes: In the plan's order.
        order: Positions in program order.
    """

    title: str
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[Node, ...]
    order: tuple[int, ...]


def picture_of(plan: Plan, toolset: Signatures | Sequence[Signature] | None = None) -> Picture:
    """Return what there is to see of a plan. O(size of the plan)."""
    tools = toolbox(toolset or ())
    bodies = bodies_of(Draft(plan), plan, None)
    body = bodies.every[0]
    waits = [refs.waits for refs in body.refs]
    order, _ = program_order(waits)
    stages = depths(waits, order)
    touches = touches_of(body, _inner_touches(bodies, tools), tools)
    chain, _ = critical_path(body, order, touches, [1] * len(bodies.every))
    critical = set(chain)
    nodes = tuple(
        _node(body, position, step, stages[position], _effect(step, touches[position], tools), step.id in critical)
        for position, step in enumerate(body.steps)
    )
    output = "" if plan.output is None else _short(plan.output)
    inputs = tuple(_input(name, schema) for name, schema in plan.inputs.items())
    return Picture(plan.task or plan.description or "", inputs, output, nodes, tuple(order))


def _inner_touches(bodies: Bodies, tools: Signatures) -> list[Touches]:
    """Return what each body touches; bodies that run one another in a circle touch nothing there."""
    waits = [sorted({called for called in body.calls.values() if called >= 0}) for body in bodies.every]
    inner: list[Touches] = [()] * len(bodies.every)
    for number in program_order(waits)[0]:
        inner[number] = joined(touches_of(bodies.every[number], inner, tools))
    return inner


def _effect(step: Step, touches: Touches, tools: Signatures) -> str:
    match step:
        case SetStep():
            return "pure"
        case AskStep():
            return "model"
        case ToolStep(tool=name):
            tool = tools.find(name)
            return "" if tool is None else str(tool.effect)
        case AgentStep() | PlanStep():
            fallback = "model" if isinstance(step, AgentStep) else ""
            return "write" if is_write(touches) else "read" if touches else fallback


def _node(body: Body, position: int, step: Step, stage: int, effect: str, is_critical: bool) -> Node:  # noqa: FBT001, PLR0917  # filled in one place
    refs = body.refs[position]
    kind, does, detail = _action(step)
    return Node(
        id=step.id,
        stage=stage,
        kind=kind,
        does=does,
        detail=detail,
        effect=effect,
        conditions=tuple(_conditions(step)),
        fans_out=step.has("for_each"),
        is_conditional=step.has("when"),
        is_critical=is_critical,
        needs=refs.needs,
        after=tuple(other for other in refs.after if other not in refs.needs),
    )


def _action(step: Step) -> tuple[str, str, str]:
    match step:
        case ToolStep():
            return "tool", step.tool, _arguments(step.args)
        case AskStep(ask=ask):
            return "ask", "ask", _short(ask.prompt)
        case SetStep():
            return "set", "=", _short(step.set)
        case PlanStep():
            return "plan", f"plan {step.plan}", _arguments(step.args)
        case AgentStep(agent=agent):
            return "agent", "agent", _short(agent.goal)


def _conditions(step: Step) -> list[str]:
    found: list[str] = []
    if step.has("for_each"):
        found.append(f"for each {_short(step.for_each)}")
    if step.has("when"):
        found.append(f"when {_short(step.when)}")
    if step.repeat is not None:
        found.append(f"until {_short(step.repeat.until)}, at most {step.repeat.max} times")
    if step.on_error == "skip":
        found.append("skipped if it fails")
    elif isinstance(step.on_error, Fallback):
        found.append(f"{_short(step.on_error.value)} if it fails")
    return found


def _arguments(args: dict[str, Json]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in args.items())


def _short(value: Json) -> str:
    """Return a template in a line: whole expressions without their `${}`, other values as JSON."""
    if isinstance(value, str):
        text = " ".join(value.split())
        whole = text.startswith("${") and text.endswith("}") and text.count("${") == 1
        return text[2:-1].strip() if whole else f'"{text}"'
    return " ".join(canonical(value).decode().split())


def _input(name: str, schema: dict[str, Json]) -> str:
    kind = schema.get("type", "any")
    shown = f"{name}: {kind if isinstance(kind, str) else 'any'}"
    return f"{shown} = {_short(schema['default'])}" if "default" in schema else shown
