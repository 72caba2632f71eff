"""Variation: what of a plan that runs again and again differs from one of its runs to the next.

A condition inside such a plan is a filter over its runs. `for_each: [1, 2, 3]` over a plan that pays `inputs.x` when `inputs.x == inputs.y` pays the amount that
`y` names, as `when: item == y` at the list itself does. So what differs is *chosen* by the conditions that differ, too; `labels.py` gives it their label. What
is the same in every run is not chosen, and a condition that is the same in every run chooses nothing: it only decides whether all of them happen.

A body is looked at once, for all its callers together: an input varies if it does for one of them. That errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field

from ...expressions.nodes import Field, Index, Literal, Name, Node
from ...immutable import record
from ...plan import AgentStep, AskPersonStep, AskStep, EndorseStep, PlanForStep, PlanStep, Step, ToolStep
from ...program.program import Touch
from ...signature import Effect, Signatures
from ..body import PlanBody
from ..templates import Template
from .world import conflict


@record
class Variation:
    """What differs between the runs of one body.

    Attributes:
        body: The body.
        is_repeated: Whether a caller, or a caller of it, runs the body more than once; otherwise nothing differs.
        inputs: The inputs that may differ.
        resources: The resources that the runs write, so that a later run may find something else there.
        values: The steps whose value may differ.
        ends: The steps that may have a value in one run and none in another, or another value. All of `values` are among them.
    """

    body: PlanBody
    is_repeated: bool = False
    inputs: set[str] = field(default_factory=set[str])
    resources: set[str] = field(default_factory=set[str])
    values: set[int] = field(default_factory=set[int])
    ends: set[int] = field(default_factory=set[int])

    def has(self, template: Template | None, position: int) -> bool:
        """Whether the value of a template of a step may differ."""
        if template is None or not self.is_repeated:
            return False
        formula, body = template.formula, self.body
        # `first(..)` tells whether its steps have ended with a value.
        for ids, varying in ((formula.strict, self.values), (formula.lenient, self.ends)):
            if any(body.position.get(id_) in varying for id_ in ids):
                return True
        if "inputs" in formula.names and not self.inputs.isdisjoint(formula.inputs or body.inputs):
            return True
        if "prev" in formula.names and position in self.values:
            return True
        # The items of a list that is the same in every run are the same in every run.
        is_of_item = not formula.names.isdisjoint({"item", "index"})
        listed = body.steps[position].templates.get("for_each")
        return is_of_item and listed is not template and self.has(listed, position)

    def has_inside(self, template: Template | None, position: int) -> bool:
        """Whether the value of a template may differ between the runs of a step, which may have items or rounds."""
        if template is None:
            return False
        step, names = self.body.steps[position], template.formula.names
        if "for_each" in step.templates and not names.isdisjoint({"item", "index"}):
            return True
        if step.repeat is not None and not names.isdisjoint({"prev", step.id}):
            return True
        return self.has(template, position)

    def reads(self, touches: Iterable[Touch]) -> bool:
        """Whether a step that touches some resources may find something else there."""
        return any(conflict(touch.resource, other) for touch in touches for other in self.resources)

    def add_call(self, step: PlanStep, position: int, outer: Variation, touches: Iterable[Touch]) -> None:
        """Add what a `plan` step of another body, which touches some resources, makes differ in this one that it runs.

        Args:
            step: The step.
            position: Its position in the other body.
            outer: The variation of the other body.
            touches: The resources that the step touches.
        """
        self.is_repeated |= outer.is_repeated or step.may_run_again
        self.resources |= outer.resources
        if step.may_run_again:
            self.resources |= {touch.resource for touch in touches if touch.writes}
        args = step.templates["args"]
        self.inputs |= {name for name in step.args if outer.has_inside(args.part(name), position)}

    def add_steps(self, order: Iterable[int], touches: Sequence[Sequence[Touch]], tools: Signatures) -> None:
        """Add the steps that differ; `order` is their program order, `touches` the resources that each touches.

        Args:
            order: The program order of the steps.
            touches: The resources that each step touches.
            tools: The tools that the steps call.
        """
        for position in order if self.is_repeated else ():
            step, refs = self.body.steps[position], self.body.refs[position]
            # Of a condition only the filter of a list shows in the value.
            shown = {name: each for name, each in step.templates.items() if name != "when" or refs.is_filter}
            # Who endorses a value lets through exactly that one, but not always.
            is_endorsed = isinstance(step, AskPersonStep | EndorseStep)
            is_other = not is_endorsed and (
                _answers_anew(step, tools)
                or self.reads(touches[position])
                or any(self.has(template, position) for template in shown.values())
            )
            is_ended = (
                is_other
                or is_endorsed
                or self.has(step.templates.get("when"), position)
                or not self.ends.isdisjoint(refs.waits)
            )
            if is_ended:
                self.ends.add(position)
            if is_other or (is_ended and step.on_error != "fail"):
                self.values.add(position)


def variations_of(
    bodies: Sequence[PlanBody],
    order: Sequence[int],
    steps: Sequence[Sequence[int]],
    touches: Sequence[Sequence[Sequence[Touch]]],
    tools: Signatures,
) -> list[Variation]:
    """Return what differs in each body. O(their steps and references).

    Args:
        bodies: The bodies.
        order: Their numbers, each after those that it runs.
        steps: For each body: the positions of its steps in program order.
        touches: For each body: the resources that each of its steps touches.
        tools: The tools that they call.
    """
    made = [Variation(body) for body in bodies]
    for number in reversed(order):  # callers before the bodies that they run
        body, variation = bodies[number], made[number]
        variation.add_steps(steps[number], touches[number], tools)
        for position, called in body.calls.items():
            step = body.steps[position]
            if isinstance(step, PlanStep):
                made[called].add_call(step, position, variation, touches[number][position])
    return made


def may_fail(template: Template) -> bool:
    """Whether a template may have no value for some data: it does more than name a value, a field, or the element of an item."""
    return not all(
        expression.parsed.node is not None and _is_plain(expression.parsed.node)
        for leaf in template.formula.leaves
        for expression in leaf.expressions
    )


def _is_plain(node: Node) -> bool:
    while True:
        match node:
            case Name() | Literal():
                return True
            case Field(base=base) | Index(base=base, key=Literal() | Name(name="index")):
                node = base
            case _:
                return False


def _answers_anew(step: Step, tools: Signatures) -> bool:
    """Whether a step may answer the same question in another way. A trusted tool does not, unless a write came between."""
    if not isinstance(step, ToolStep):
        return isinstance(step, PlanStep | AskStep | AgentStep | PlanForStep)
    tool = tools.find(step.tool)
    return tool is None or tool.trust == "untrusted" or tool.effect is Effect.MODEL
