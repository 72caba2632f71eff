"""All bodies of a plan surveyed without types: their program orders, the resources that their steps touch, and their labels.

The check judges by the survey, and the compiler, the pictures and `flow/sources.py` build on it, so that nobody else walks the
bodies for these facts. Each body is surveyed once, after the bodies that it runs. Where plans run themselves, or steps wait for one another, the
orders still hold everything, and `runs_itself` and `circular` say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ..format.shape import Draft
from ..immutable import immutable
from ..limits import LIMITS, Limits
from ..plan import AgentStep, Plan, PlanForStep, PlanStep, ToolStep
from ..program.graph import program_order
from ..program.program import Touch
from ..signature import Effect, Signature, Signatures, called_by, is_same_signature, signatures_of
from .body import Bodies, PlanBody, SavedPlans, bodies_of
from .flow.labels import EVERYTHING, UNTRUSTED, Counted, FlowSummary, Labels, labels_of
from .flow.secrecy import Secrecy, secrecy_of
from .flow.variation import variations_of

Touches: TypeAlias = tuple[Touch, ...]
"""The resources that a step, or a whole body, touches, sorted by name."""


@immutable
class Survey:
    """The facts about every body, by its number.

    Attributes:
        order: Numbers of the bodies, each after those that it runs.
        runs_itself: Whether a plan runs itself, directly or through others.
        steps: For each body: the positions of its steps in program order.
        circular: Numbers of bodies whose steps wait for one another in a cycle.
        touches: For each body: the resources that each of its steps touches.
        labels: For each body: the labels of its steps.
        secrecy: The kinds of private data.
    """

    bodies: Bodies
    order: tuple[int, ...]
    runs_itself: bool
    steps: tuple[list[int], ...]
    circular: tuple[int, ...]
    touches: tuple[tuple[Touches, ...], ...]
    labels: tuple[Labels, ...]
    secrecy: Secrecy

    def is_of(self, plan: Plan, surveyed_with: Signatures, tools: Signatures) -> bool:
        """Whether a survey of a plan with some tools, of which nothing is known yet, would say the same.

        It errs to no: of plans that run saved plans, and where data is private, since the names of all tools count there.

        Args:
            plan: The plan.
            surveyed_with: The tools that this survey was made with.
            tools: The tools.
        """
        bodies = self.bodies
        if len(bodies.units) != 1 or bodies.units[0].plan is not plan or self.secrecy.kinds:
            return False
        if any(body.written or body.controlled or body.broken for body in bodies.every):
            return False
        names = {name for body in bodies.every for step in body.steps for name in step.may_call}
        names.update(each for name in list(names) for each in called_by(tools.find(name)))
        return all(is_same_signature(surveyed_with.find(name), tools.find(name)) for name in names)


def survey_of(
    bodies: Bodies,
    tools: Signatures,
    limits: Limits = LIMITS,
    counted: Counted = EVERYTHING,
) -> Survey:
    """Survey all bodies. O(their steps and references).

    Args:
        bodies: The bodies.
        tools: The tools that they call.
        limits: How long a message may get.
        counted: What counts in labels.
    """
    order, is_order = program_order(bodies.callees)
    steps: list[list[int]] = []
    circular: list[int] = []
    for number, body in enumerate(bodies.every):
        body_order, is_body_order = program_order([refs.waits for refs in body.refs])
        steps.append(body_order)
        if not is_body_order or any(refs.refers_to_self for refs in body.refs):
            circular.append(number)
    count = len(bodies.every)
    touches: list[tuple[Touches, ...]] = [()] * count
    together: list[Touches] = [()] * count
    summaries = [FlowSummary()] * count
    labels: dict[int, Labels] = {}
    secrecy = secrecy_in(bodies, tools)
    # The bodies that a body runs come before it in the order, so their touches and summaries are known. Where plans run
    # themselves, some are not; the plan is refused then, and its survey only has to be complete in form.
    for number in order:
        touches[number] = _touches_of(bodies.every[number], together, tools)
        together[number] = _joined(touches[number])
    variations = variations_of(bodies.every, order, steps, touches, tools)
    for number in order:
        labels[number] = labels_of(
            bodies.every[number],
            steps[number],
            summaries,
            touches[number],
            tools,
            secrecy,
            limits,
            counted,
            variations[number],
        )
        summaries[number] = labels[number].summary
    return Survey(
        bodies,
        tuple(order),
        not is_order,
        tuple(steps),
        tuple(circular),
        tuple(touches),
        tuple(labels[number] for number in range(count)),
        secrecy,
    )


def secrecy_in(bodies: Bodies, tools: Signatures) -> Secrecy:
    """Return the kinds of private data that the bodies may hold."""
    names = {name: None for body in bodies.every for step in body.steps for name in step.may_call}
    return secrecy_of(
        map(tools.find, names), (schema for body in bodies.every for schema in body.inputs.values()), tools
    )


def has_untrusted_data(
    plan: Plan, signatures: Signatures | Iterable[Signature], plans: SavedPlans | None = None
) -> bool:
    """Whether untrusted data may come into a plan, or into a plan that it runs.

    Args:
        plan: A plan that passed its check.
        signatures: The tools that it was checked with.
        plans: Saved plans by name or digest.
    """
    survey = survey_of(bodies_of(Draft(plan), plan, plans), signatures_of(signatures))
    return any(
        label & UNTRUSTED
        for labels in survey.labels
        for label in (*labels.values, *labels.control, *labels.ends)
    )


def is_write(touches: Touches) -> bool:
    """Whether any resource is written."""
    return any(touch.writes for touch in touches)


def _touches_of(body: PlanBody, inner: Sequence[Touches], tools: Signatures) -> tuple[Touches, ...]:
    """Return what each step touches: a `plan` step what its plan does (`inner`), an `agent` or `plan_for` step what its tools do."""
    # Steps with equal touches share one tuple: a large plan has few different ones.
    shared: dict[Touches, Touches] = {}
    of_tools: dict[str, Touches] = {}
    found: list[Touches] = []
    for position, step in enumerate(body.steps):
        match step:
            case ToolStep(tool=name):
                if name not in of_tools:
                    of_tools[name] = _touches_of_call(name, tools)
                touches = of_tools[name]
            case AgentStep() | PlanForStep():
                touches = _joined(_tool_touches(tools.find(name)) for name in step.may_call)
            case PlanStep():
                called = body.calls.get(position)
                touches = () if called is None else inner[called]
            case _:
                touches = ()
        found.append(shared.setdefault(touches, touches))
    return tuple(found)


def _touches_of_call(name: str, tools: Signatures) -> Touches:
    """Return what a call of a tool touches: also what the tools do that an agent may call."""
    own = tools.find(name)
    if not (called := called_by(own)):
        return _tool_touches(own)
    return _joined(_tool_touches(tools.find(each)) for each in called)


def _tool_touches(tool: Signature | None) -> Touches:
    if tool is None or tool.effect not in (Effect.READ, Effect.WRITE):
        return ()
    return (Touch(tool.resource, tool.effect == Effect.WRITE),)


def _joined(every: Iterable[Touches]) -> Touches:
    """Return what all of them touch together, each resource once; a write hides reads of its resource."""
    writes: dict[str, bool] = {}
    for touches in every:
        for touch in touches:
            writes[touch.resource] = writes.get(touch.resource, False) or touch.writes
    return tuple(Touch(resource, writes[resource]) for resource in sorted(writes))
