"""What there is to see of a plan, before anyone draws it: steps in stages, what they do, who waits for whom.

A stage is how long the longest chain up to a step is. A plan with faults has a picture too: what is wrong is not drawn, and
where steps wait for one another in a circle, what closes it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..checker.body import Bodies, Body, bodies_of
from ..checker.bounds import critical_path
from ..checker.effects import Touches, effect_waits, is_write, joined, touches_of
from ..format.shape import Draft
from ..graph import depths, program_order
from ..plan import AgentStep, AskStep, Fallback, InnerPlan, Plan, PlanStep, SetStep, Step, ToolStep
from ..toolbox import toolbox
from ..values import Json, canonical

if TYPE_CHECKING:
    from ..signature import Signature, Signatures

IMPLIED_STEPS_MAX = 2_000
"""Steps of a plan up to which waits that follow from others are found: it takes the square of them in bits."""


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
        implied: The part of both whose waiting follows from the rest: a longer way leads there.
        ordered: Positions that it waits for because of what both do to the world, as far as this does not follow from the rest.
        row: Its stage with these waits counted; from 1.
        critical_from: The position before it in the longest chain, or -1.
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
    implied: frozenset[int] = frozenset()
    ordered: tuple[int, ...] = ()
    row: int = 1
    critical_from: int = -1

    @property
    def waits(self) -> tuple[int, ...]:
        """Positions that it waits for."""
        return (*self.needs, *self.after)

    @property
    def direct(self) -> tuple[int, ...]:
        """Positions that it waits for, without those that follow from others."""
        return tuple(other for other in self.waits if other not in self.implied)


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan to be drawn.

    Attributes:
        nodes: In the plan's order.
        order: Positions in program order.
        output_needs: Positions that the output refers to.
        inner: The plan's own inner plans, titled by their names.
    """

    title: str
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[Node, ...]
    order: tuple[int, ...]
    output_needs: tuple[int, ...] = ()
    inner: tuple[Picture, ...] = ()


def picture_of(plan: Plan, toolset: Signatures | Sequence[Signature] | None = None) -> Picture:
    """Return what there is to see of a plan. O(size of the plan), and of the square of its steps up to `IMPLIED_STEPS_MAX`."""
    tools = toolbox(toolset or ())
    bodies = bodies_of(Draft(plan), plan, None)
    touched = _inner_touches(bodies, tools)
    inner = (
        replace(_picture(bodies.every[number], plan.plans[name], touched, tools), title=_plain(name))
        for name, number in bodies.units[0].bodies.items()
        if name is not None
    )
    made = _picture(bodies.every[0], plan, touched, tools)
    return replace(made, title=_plain(plan.task or plan.description or ""), inner=tuple(inner))


def _picture(body: Body, plan: Plan | InnerPlan, touched: Sequence[Touches], tools: Signatures) -> Picture:
    order, _ = program_order([refs.waits for refs in body.refs])
    place = {position: number for number, position in enumerate(order)}
    needs = [
        tuple(other for other in refs.needs if place[other] < place[at]) for at, refs in enumerate(body.refs)
    ]
    after = [
        tuple(other for other in refs.after if place[other] < place[at] and other not in refs.needs)
        for at, refs in enumerate(body.refs)
    ]
    waits = [(*first, *then) for first, then in zip(needs, after, strict=True)]
    stages = depths(waits, order)
    implied = _implied(waits, order)
    touches = touches_of(body, touched, tools)
    chain, _ = critical_path(body, order, touches, [1] * len(touched))
    links = [body.position[id_] for id_ in chain]
    before = dict(zip(links, [-1, *links], strict=False))
    ordered = [() if len(order) > IMPLIED_STEPS_MAX else others for others in effect_waits(touches, order)]
    both = [(*data, *effects) for data, effects in zip(waits, ordered, strict=True)]
    follows = _implied(both, order)
    rows = depths(both, order)
    nodes = tuple(
        replace(
            _node(step, _effect(step, touches[at], tools), stages[at], needs[at], after[at]),
            implied=implied[at],
            is_critical=at in before,
            ordered=tuple(
                other for other in ordered[at] if other not in follows[at] and other not in waits[at]
            ),
            row=rows[at],
            critical_from=before.get(at, -1),
            conditions=tuple(map(_plain, _conditions(step, [body.steps[other].id for other in after[at]]))),
        )
        for at, step in enumerate(body.steps)
    )
    formula = body.output.formula
    output_needs = sorted(
        {body.position[id_] for id_ in formula.strict | formula.lenient if id_ in body.position}
    )
    inputs = tuple(_plain(_input(name, schema)) for name, schema in plan.inputs.items())
    output = "" if plan.output is None else _plain(_short(plan.output))
    return Picture("", inputs, output, nodes, tuple(order), tuple(output_needs))


def _implied(waits: Sequence[Sequence[int]], order: Sequence[int]) -> list[frozenset[int]]:
    """Return, for each step, what it waits for by way of others too; nothing for plans that are too large to ask."""
    if len(waits) > IMPLIED_STEPS_MAX:
        return [frozenset()] * len(waits)
    reach = [0] * len(waits)
    for at in order:
        for other in waits[at]:
            reach[at] |= reach[other] | 1 << other
    return [
        frozenset(other for other in others if any(reach[way] >> other & 1 for way in others if way != other))
        for others in waits
    ]


def _inner_touches(bodies: Bodies, tools: Signatures) -> list[Touches]:
    """Return what each body touches; bodies that run one another in a circle touch nothing there."""
    inner: list[Touches] = [()] * len(bodies.every)
    for number in program_order(bodies.callees)[0]:
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


def _node(step: Step, effect: str, stage: int, needs: tuple[int, ...], after: tuple[int, ...]) -> Node:
    kind, does, detail = _action(step)
    return Node(
        id=_plain(step.id),
        stage=stage,
        kind=kind,
        does=_plain(does),
        detail=_plain(detail),
        effect=effect,
        conditions=(),
        fans_out=step.has("for_each"),
        is_conditional=step.has("when"),
        is_critical=False,
        needs=needs,
        after=after,
    )


def _action(step: Step) -> tuple[str, str, str]:
    match step:
        case ToolStep():
            return "tool", f"{step.tool}({_arguments(step.args)})", ""
        case AskStep(ask=ask):
            return "ask", "ask", _short(ask.prompt)
        case SetStep():
            return "set", "=", _short(step.set)
        case PlanStep():
            return "plan", f"plan {step.plan}({_arguments(step.args)})", ""
        case AgentStep(agent=agent):
            return "agent", "agent", _short(agent.goal)


def _conditions(step: Step, after: Sequence[str]) -> list[str]:
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
    if after:
        found.append(f"after {', '.join(after)}")
    return found


def _arguments(args: dict[str, Json]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in args.items())


def _plain(text: str) -> str:
    """Return text on one line, without characters that move a cursor, turn a direction or are no XML."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def _short(value: Json) -> str:
    """Return a template in a line: whole expressions without their `${}`, names of objects without quotes, the rest as JSON."""
    match value:
        case str():
            text = " ".join(value.split())
            whole = text.startswith("${") and text.endswith("}") and text.count("${") == 1
            return text[2:-1].strip() if whole else f'"{text}"'
        case list():
            return f"[{', '.join(map(_short, value))}]"
        case dict():
            return "{" + ", ".join(f"{name}: {_short(part)}" for name, part in value.items()) + "}"
        case _:
            return canonical(value).decode()


def _input(name: str, schema: dict[str, Json]) -> str:
    shown = f"{name}: {_kind(schema)}"
    return f"{shown} = {_short(schema['default'])}" if "default" in schema else shown


def _kind(schema: Json) -> str:
    """Return the type of an input in a word or three: `string`, `list of integer`, the name of a type."""
    match schema:
        case {"$ref": str() as target}:
            return target.rpartition("/")[2]
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": str() as kind}:
            return "list" if kind == "array" else kind
        case {"enum": [*values]}:
            return " | ".join(_short(value) for value in values)
        case _:
            return "any"
