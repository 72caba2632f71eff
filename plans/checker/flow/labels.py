"""Labels: where data from untrusted tools, and private data, goes in a plan.

A *label* is a set of bits. Bit 0 means untrusted, and there is a bit for each kind of private data (`secrecy.py`). In an inner plan, further
bits mean "as labelled as": one bit stands for the conditions of the call (its `when`, its `for_each`), one for the steps that the call needs,
one for those of both that differ from one run of the body to the next, one for each input, and one for each resource that the body touches. So each body is labelled once, whoever runs it: its `FlowSummary` describes its output and its failures in these bits, and each
caller translates them into its own. Labelling a body again for each caller would cost exponential time in nested plans.

A step has four labels:

- `values`: the label of its value. A template's value has the labels of everything that the template mentions. Conditions count
  like values, since they choose values: `item` has the label of the filter that let it pass, too.
- `control`: the label of what decides whether, and how often, the step runs, whatever its references are: its conditions, the conditions
  of the call around its body, and the ends of the steps in `after`.
- `choices`: the part of that which differs between the runs of a body that runs again and again (`variation.py`). What a step sends and what differs,
  too, is chosen by it: `sent` has its label.
- `ends`: the label of whether it ends with a value. A step that gets labelled data may fail by it, and an untrusted tool fails when
  it likes. A step that refers to a failed or skipped step is skipped, so it has the label of that step's end.

The order of effects is no control: a write that waits for an earlier write of the same resource, and is blocked if that one fails, is not labelled by
it. Otherwise one failed write would label everything after it.

Data flows along references, and through the world: a write leaves data in its resource, and a later step that touches the resource may get it (`world.py`). Both
lead from earlier steps to later ones, so one pass in program order finds every label. Only a plan that runs again and again may get what it has stored itself. This module does not know where labelled data may not go: `sinks.py`
judges by labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import count as count_from

from ...immutable import immutable, record
from ...limits import LIMITS, Limits
from ...plan import AgentStep, AskPersonStep, EndorseStep, Fallback, PlanForStep, PlanStep, ToolStep
from ...program.program import WORLD, Touch
from ...signature import Signature, Signatures, called_by
from ..body import PlanBody
from ..templates import Template
from .secrecy import NOTHING_PRIVATE, Secrecy
from .variation import Variation, may_fail
from .world import World

CLEAN = 0
UNTRUSTED = 1
CONTROL = 2
"""The conditions of the call that runs a body, and the ends of the steps that it comes after."""
REACH = 4
"""The ends of the steps that the call refers to."""
CHOICE = 8
"""What chooses the runs of a body among those that its callers ask for: their conditions that differ from one run to the next."""
CONDITIONS = ("when", "for_each", "until")
"""The templates of a step that decide whether, and how often, it runs."""

TRUST_KEY = "x-trust"
"""The key of an input's schema that says who fills it in: `trusted` or `untrusted`."""
UNNAMED = "an untrusted source"
"""The name of a source of untrusted data that nothing names."""


@immutable
class Counted:
    """What counts in labels. A run keeps what counted when it began.

    Attributes:
        control: Whether ends and filters count.
        world: Whether resources have the labels of what was written to them, and the rounds of a repeated step those of the rounds before.
        rounds: Whether what can make a round of a repeated step fail labels what the step's plan stores.
        choices: Whether conditions inside a plan that runs for each item choose among the items.
    """

    control: bool = True
    world: bool = True
    rounds: bool = True
    choices: bool = True


EVERYTHING = Counted()


@immutable
class FlowSummary:
    """The labels of a body as its callers need them.

    Attributes:
        bits: Input -> its bit.
        private_bits: Bit of an input or a resource -> the bit of what is private in it, without the rest of its label; empty if nothing is private.
        output: Label of the body's output.
        fails: Label of whether the body fails.
        source: Path of steps from the untrusted source to the output.
        world: Resource -> the bit of what it held when the body was called.
        stores: Resource -> label of what the body leaves there.
    """

    bits: dict[str, int] = field(default_factory=dict[str, int])
    private_bits: dict[int, int] = field(default_factory=dict[int, int])
    output: int = CLEAN
    fails: int = CLEAN
    source: tuple[str, ...] = ()
    world: Mapping[str, int] = field(default_factory=dict[str, int])
    stores: Mapping[str, int] = field(default_factory=dict[str, int])


@record
class Labels:
    """The labels of one body's steps.

    Attributes:
        summaries: By number of body: the labels of the bodies that it runs.
        bits: Input -> its bit.
        private_bits: As in `FlowSummary`.
        inputs: Input -> its label in the body: its bit, and untrusted if the plan declares it so.
        counted: What counts.
        touches: The resources that each step touches.
        world: The labels of these resources, after the last step that is labelled.
        values: Label of each step's value.
        control: Label of what decides whether, and how often, each step runs, apart from the steps that it refers to.
        reach: Label of the ends of the steps that each step refers to.
        ends: Label of whether each step ends with a value.
        via: For an untrusted step: the step from which it has untrusted data, or the path inside it where that begins.
        secrecy: The kinds of private data.
        private: The bits of private data that each step's own tools return.
        held: Label of what each step gets from the resources that it touches; of a `plan` step, see `entries`.
        stored: Label of what each step leaves in the resources that it writes; of a `plan` step, what its plan leaves.
        variation: What differs between the runs of the body.
        choices: Label of what chooses whether each step runs, in those runs of the body; clean where the body runs once.
        entries: `plan` step -> resource -> label of what the resource holds when the plan runs.
        summary: The labels that callers need.
    """

    body: PlanBody
    summaries: Sequence[FlowSummary]
    bits: dict[str, int]
    private_bits: dict[int, int]
    inputs: dict[str, int]
    limits: Limits
    counted: Counted
    touches: Sequence[Sequence[Touch]]
    world: World
    secrecy: Secrecy
    variation: Variation
    values: list[int] = field(init=False)
    control: list[int] = field(init=False)
    reach: list[int] = field(init=False)
    ends: list[int] = field(init=False)
    private: list[int] = field(init=False)
    held: list[int] = field(init=False)
    stored: list[int] = field(init=False)
    choices: list[int] = field(init=False)
    via: list[int | tuple[str, ...] | None] = field(init=False)
    entries: dict[int, dict[str, int]] = field(default_factory=dict[int, "dict[str, int]"])
    summary: FlowSummary = field(default_factory=FlowSummary)

    def __post_init__(self) -> None:
        count = len(self.body.steps)
        self.values, self.control, self.reach, self.ends = ([CLEAN] * count for _ in range(4))
        self.private, self.held, self.stored, self.choices = ([CLEAN] * count for _ in range(4))
        self.via = [None] * count

    def of(self, template: Template | None, position: int | None = None) -> int:
        """Return the label of a template's value; `position` is the template's step."""
        if template is None:
            return CLEAN
        formula, values, places = template.formula, self.values, self.body.position
        # What a planner writes that was shown untrusted data may be that data, also where it is a constant.
        written = self.body.written
        is_written = bool(written) and position is not None and self.body.steps[position].id in written
        label = UNTRUSTED if is_written else CLEAN
        for id_ in formula.strict:
            if id_ in places:
                label |= values[places[id_]]
        if formula.names is formula.strict:  # most templates refer to steps only
            return label
        return label | self._of_others(template, position)

    def _of_others(self, template: Template, position: int | None) -> int:
        """Return the label of what a template refers to besides steps whose value it needs."""
        formula, label = template.formula, CLEAN
        # `first(a, b)` has the labels of both: which of them it gives depends on data, and on which of them ended without a value.
        for other in self.body.positions(formula.lenient):
            label |= self.values[other] | (self.ends[other] if self.counted.control else CLEAN)
        # `formula.inputs` is empty if the template uses `inputs` as one object: then it has the labels of all inputs.
        if "inputs" in formula.names:
            for name in formula.inputs or self.inputs:
                label |= self.inputs.get(name, CLEAN)
        if position is not None:
            if not formula.names.isdisjoint({"item", "index"}):
                label |= self._of_item(position, template)
            if "prev" in formula.names:
                label |= self.values[position]
        return label

    @property
    def public(self) -> int:
        """The bits that do not stand for private data."""
        return ~(self.secrecy.mask | sum(self.private_bits.values()))

    def private_part(self, label: int) -> int:
        """Return what is private in a label."""
        if not label:
            return CLEAN
        found = label & ~self.public
        for bit, private in self.private_bits.items():
            if label & bit:
                found |= private
        return found

    def _of_item(self, position: int, template: Template) -> int:
        """Return the label of `item` and `index` in a template: of the list, and of the filter that let the item pass."""
        templates = self.body.steps[position].templates
        label = self.of(templates.get("for_each"))
        when = templates.get("when")
        if self.counted.control and self.body.refs[position].is_filter and template is not when:
            label |= self.of(when, position)
        return label

    def chance(self, position: int) -> int:
        """Return the label of what decides whether, and how often, a step calls, apart from what its arguments show already."""
        control, reach = self.control[position], self.reach[position]
        if not reach:
            return control
        templates = self.body.steps[position].templates
        named = (
            templates[name]
            for name in ("args", "goal", "given", "endorse", "ask_person")
            if name in templates
        )
        shown = self.of(next(named, None), position)
        # What the arguments show already, the call does not tell anew by happening.
        return control | (reach & ~shown)

    def reached(self, position: int) -> Iterator[int]:
        """Yield the steps that a step refers to and whose end has a label that their value does not have."""
        for other in self.body.refs[position].needs:
            if self.ends[other] & ~self.values[other]:
                yield other

    def of_argument(self, position: int, name: str) -> int:
        """Return the label of one argument of a `tool` or `plan` step; an argument that is not given is clean."""
        step = self.body.steps[position]
        if not isinstance(step, ToolStep | PlanStep) or name not in step.args:
            return CLEAN
        return self.of(step.templates["args"].part(name), position)

    def of_agent(self, position: int) -> int:
        """Return the label of all that an agent sees whose tools are trusted: its goal, and what its tools return.

        Of a `plan_for` step it is the label of what is given to the planner, and of what the tools of its sub-plan return.
        """
        return self.of_goal(position) | self.private[position] | self.held[position]

    def of_goal(self, position: int) -> int:
        """Return the label of the goal of an `agent` step, of what a `plan_for` step gives to the planner, or of the arguments of an `@agent` tool."""
        return self.of(self._goal(position), position)

    def _goal(self, position: int) -> Template | None:
        templates = self.body.steps[position].templates
        return templates.get("goal") or templates.get("given") or templates.get("args")

    def is_steered(self, position: int, tools: Signatures) -> bool:
        """Whether an untrusted tool of an `agent` or `plan_for` step may steer the later calls of the step."""
        step = self.body.steps[position]
        # A planner sees no results of the tools, so the flow in its plan decides about each call. But another item of the step may have left data in
        # a resource, which the plan of this item does not know.
        if isinstance(step, PlanForStep) and not step.may_run_again:
            return False
        return any(tool is not None and tool.trust == "untrusted" for tool in map(tools.find, step.may_call))

    def sent(self, template: Template | None, position: int) -> int:
        """Return the label of what a step sends by a template: that of its value, and of what chooses among its values."""
        choice = self.choices[position]
        return self.of(template, position) | (choice if self.variation.has(template, position) else CLEAN)

    def sent_argument(self, position: int, name: str) -> int:
        """Return the label of what a `tool` step sends by an argument."""
        step = self.body.steps[position]
        if not isinstance(step, ToolStep) or name not in step.args:
            return CLEAN
        return self.sent(step.templates["args"].part(name), position)

    def sent_goal(self, position: int) -> int:
        """Return the label of what a step sends by the goal of its agent, or by what it gives to a planner."""
        return self.sent(self._goal(position), position)

    def sent_by_agent(self, position: int) -> int:
        """Return the label of all that an agent may send: what it sees, and what chooses among that."""
        label = self.of_agent(position)
        if self.varies_for_agent(position):
            label |= self.choices[position]
        return label

    def varies_for_agent(self, position: int) -> bool:
        """Whether what an agent sees may differ between the runs of the body."""
        return self.variation.has(self._goal(position), position) or self.variation.reads(
            self.touches[position]
        )

    def choosers(self, position: int, *, is_inside: bool = False) -> tuple[Sequence[Template], Sequence[int]]:
        """Return what decides, for some runs of the body and not for others, whether a step runs: templates, and steps that may end without a value.

        Args:
            position: The step.
            is_inside: The same of the runs of what a `plan` step runs, for some items or rounds and not for others.
        """
        step, refs, variation = self.body.steps[position], self.body.refs[position], self.variation
        may_differ = variation.has_inside if is_inside else variation.has
        conditions = (step.templates[name] for name in CONDITIONS if name in step.templates)
        found = [condition for condition in conditions if may_differ(condition, position)]
        # The plan does not run if one of its inputs has no value.
        for name in step.args if is_inside and isinstance(step, PlanStep) else ():
            given = step.templates["args"].part(name)
            if may_fail(given) and may_differ(given, position):
                found.append(given)
        others = (*refs.after, *self.reached(position))
        return found, [other for other in others if other in variation.ends]

    def choice(self, position: int, *, is_inside: bool = False) -> int:
        """Return the label of what chooses whether a step runs; `is_inside`: whether the plan runs that it runs."""
        if not self.counted.choices or not (self.variation.is_repeated or is_inside):
            return CLEAN
        templates, others = self.choosers(position, is_inside=is_inside)
        label = CHOICE if self.variation.is_repeated else CLEAN
        for template in templates:
            label |= self.of(template, position)
        for other in others:
            label |= self.ends[other]
        return label

    def called(self, position: int) -> FlowSummary | None:
        """Return the labels of the body that a `plan` step runs; `None`: it runs none."""
        number = self.body.calls.get(position)
        return None if number is None else self.summaries[number]

    def translation(self, position: int) -> dict[int, int]:
        """Return the bits of the body that a `plan` step runs, each with its label in this body."""
        summary = self.called(position)
        # The bits that mean the same everywhere, then those of the call, then those of the inputs and resources of the called body.
        meaning = {bit: bit for bit in (UNTRUSTED, *self.secrecy.bits)}
        meaning |= {CONTROL: self.control[position], REACH: self.reach[position]}
        meaning[CHOICE] = self.choice(position, is_inside=True)
        step = self.body.steps[position]
        if isinstance(step, PlanStep) and summary is not None:
            for name in step.args:
                if name in summary.bits:  # an input that is not given has its default, which is clean
                    meaning[summary.bits[name]] = self.of_argument(position, name)
            for resource, label in self.entries.get(position, {}).items():
                meaning[summary.world[resource]] = label
            for bit, private in summary.private_bits.items():
                meaning[private] = self.private_part(meaning.get(bit, CLEAN))
        return meaning

    def carriers(self, position: int, argument: str | None) -> Iterator[Template]:
        """Yield the templates through which data reaches a step, the likeliest first: that of the argument, if one is named."""
        step = self.body.steps[position]
        if isinstance(step, ToolStep | PlanStep) and argument is not None and argument in step.args:
            yield step.templates["args"].part(argument)
        if "for_each" in step.templates:
            yield step.templates["for_each"]
        yield from step.templates.values()

    def origin(self, templates: Iterable[Template]) -> int | tuple[str, ...] | None:
        """Return the first step, or the path of the input, from which one of the templates has untrusted data."""
        for template in templates:
            # Sorted, because sets have no order and equal plans have equal messages.
            for id_ in sorted(template.formula.strict | template.formula.lenient):
                other = self.body.position.get(id_)
                if other is not None and (self.values[other] | self.ends[other]) & UNTRUSTED:
                    return other
            if "inputs" in template.formula.names:
                for name in sorted(template.formula.inputs or self.inputs):
                    if self.inputs.get(name, CLEAN) & UNTRUSTED:
                        return (f"inputs.{name}",)
        return None

    def writer(self, position: int, bits: int) -> int | None:
        """Return the first earlier step from whose writes a step has data with one of some bits."""
        return self.world.writer(self.touches[position], bits, position)

    def way_to(self, position: int, argument: str | None) -> tuple[str, ...]:
        """Return the ids of the steps from the untrusted source to a step; `argument`: to that argument of it."""
        found = self.origin(self.carriers(position, argument))
        found = self.writer(position, UNTRUSTED) if found is None else found
        return self.chain(self.first_untrusted(self.choosers(position)[1]) if found is None else found)

    def first_untrusted(self, positions: Iterable[int]) -> int | None:
        """Return the first of some steps whose end is untrusted."""
        return next((other for other in positions if self.ends[other] & UNTRUSTED), None)

    def chain(self, start: int | tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the ids of the steps from the untrusted source to `start`; of a long chain only the last ones, after `..`."""
        backwards: list[str] = []
        at: int | tuple[str, ...] | None = start
        while isinstance(at, int):
            if len(backwards) >= self.limits.tainted_hops_max:
                backwards.append("..")
                return tuple(reversed(backwards))
            backwards.append(self.body.steps[at].id)
            at = self.via[at]
        return (*(at or ()), *reversed(backwards))

    def private_chain(self, templates: Iterable[Template], bits: int) -> tuple[str, ...]:
        """Return the ids of the steps through which templates have private data, its source first; of a long chain only the last ones."""
        backwards: list[str] = []
        seen: set[int] = set()
        waiting = list(templates)
        at: int | None = None
        # Backwards from the templates, one step at a time: a message shows one way, not all.
        while True:
            found = next(
                (other for each in waiting for other in self._with(each, bits) if other not in seen), None
            )
            if found is None and at is not None and (writer := self.writer(at, bits)) not in seen:
                found = writer
            if found is None:
                names = {
                    name for each in waiting if "inputs" in each.formula.names for name in each.formula.inputs
                }
                source = next(
                    (f"inputs.{name}" for name in sorted(names) if self.inputs.get(name, CLEAN) & bits), None
                )
                return tuple(reversed([*backwards, source] if source is not None else backwards))
            seen.add(found)
            at = found
            backwards.append(self.body.steps[found].id)
            if self.private[found] & bits:
                return tuple(reversed(backwards))
            if len(backwards) >= self.limits.tainted_hops_max:
                return ("..", *reversed(backwards))
            waiting = list(self.body.steps[found].templates.values())

    def _with(self, template: Template, bits: int) -> Iterator[int]:
        """Yield the steps that a template refers to and that have some bits, in the order of the plan."""
        return (
            other for other in self.body.referred(template) if (self.values[other] | self.ends[other]) & bits
        )


def labels_of(  # noqa: PLR0913, PLR0917  # the facts of a body
    body: PlanBody,
    order: Sequence[int],
    summaries: Sequence[FlowSummary],
    touches: Sequence[Sequence[Touch]],
    tools: Signatures,
    secrecy: Secrecy = NOTHING_PRIVATE,
    limits: Limits = LIMITS,
    counted: Counted = EVERYTHING,
    variation: Variation | None = None,
) -> Labels:
    """Return the labels of a body's steps. O(references).

    Args:
        body: The body.
        order: Its steps in program order.
        summaries: By number of body; those of the bodies that it runs are known.
        touches: The resources that each of its steps touches.
        tools: Whose results are untrusted, and who writes.
        secrecy: The kinds of private data.
        limits: How long a chain in a message may get.
        counted: What counts.
        variation: What differs between the runs of the body; `None`: it runs once.
    """
    is_top = body.unit == 0 and body.name is None  # its inputs come from the person who starts the run
    first = secrecy.first_free
    resources = sorted({touch.resource for each in touches for touch in each}) if counted.world else []
    free = (1 << number for number in count_from(first))
    bits = {} if is_top else dict(zip(body.inputs, free, strict=False))
    world = World({} if is_top else dict(zip(resources, free, strict=False)))
    given = (*bits.values(), *world.bits.values())
    private_bits = dict(zip(given, free, strict=False)) if secrecy.kinds else {}
    inputs = {
        name: bits.get(name, CLEAN)
        | (UNTRUSTED if is_untrusted(schema) else CLEAN)
        | secrecy.of_input(schema)
        for name, schema in body.inputs.items()
    }
    labels = Labels(
        body,
        summaries,
        bits,
        private_bits,
        inputs,
        limits,
        counted,
        touches,
        world,
        secrecy,
        variation or Variation(body),
    )
    for position in order:
        if position not in body.broken:
            if counted.world and touches[position] and position not in body.calls:
                labels.held[position] = world.held_by(touches[position]) & ~(CONTROL | REACH)
            before = (CLEAN, CLEAN)
            _label(labels, position, tools, is_top=is_top)
            # What a repeated step has made, and whether a round fails, decides about its next round and may stand in what that stores. Each
            # time adds bits, so this has an end.
            while body.steps[position].repeat is not None and counted.world:
                after = (labels.values[position], labels.reach[position] if counted.rounds else CLEAN)
                if after == before:
                    break
                before = after
                _label(labels, position, tools, is_top=is_top)
    if counted.choices and labels.variation.is_repeated:
        labels.choices = [labels.choice(position) for position in range(len(body.steps))]
    output, fails = _output_and_failure(labels, order)
    source = labels.chain(labels.origin([body.output])) if output & UNTRUSTED else ()
    labels.summary = FlowSummary(bits, private_bits, output, fails, source, world.bits, world.stored)
    return labels


def is_untrusted(schema: Mapping[str, object]) -> bool:
    """Whether a plan declares an input untrusted (`x-trust`): whoever fills it in may be hostile."""
    return schema.get(TRUST_KEY) == "untrusted"


def _label(labels: Labels, position: int, tools: Signatures, *, is_top: bool) -> None:
    """Label one step by what it mentions, what it waits for and what it calls."""
    step = labels.body.steps[position]
    control, reach = _control_and_reach(labels, position, is_top=is_top)
    # A round that fails is the last, so what can make a round fail decides how often a repeated step runs. See the end of this function.
    rounds = labels.reach[position] if step.repeat is not None and labels.counted.rounds else CLEAN
    labels.control[position], labels.reach[position] = control, reach | rounds
    if isinstance(step, ToolStep):
        tool = tools.find(step.tool)
        # The answer of an agent may hold what its tools returned.
        called = [tool, *map(tools.find, called_by(tool))]
    else:
        called = [tools.find(name) for name in step.may_call]
    if labels.secrecy.kinds:
        labels.private[position] = labels.secrecy.of_tools(called)
    if labels.counted.world and labels.touches[position]:
        _touch(labels, position, tools)
    value, failure = _value_and_failure(labels, position)
    value |= labels.private[position] | (UNTRUSTED if step.id in labels.body.written else CLEAN)
    source = _source(labels, position, called)
    if source is not None:
        value |= UNTRUSTED
        # An untrusted tool fails when it likes. Of a plan, `FlowSummary.fails` says whether it fails.
        failure |= CLEAN if isinstance(step, PlanStep) else UNTRUSTED
    if step.repeat is not None and labels.counted.world:
        labels.reach[position] |= failure
    ended = control | reach
    if not isinstance(step, ToolStep) and isinstance(step, AskPersonStep | EndorseStep):
        value, failure, ended = _endorsed(labels, position, value, failure, ended)
    if labels.counted.control and step.on_error != "fail":
        # Whether the step has its own value, or another one, tells whether it failed. Of a list, failed items are left out.
        value |= failure
        failure = failure if step.on_error == "skip" else CLEAN
    labels.values[position] = value
    # What decides about the whole body decides nothing about its steps once the body runs.
    labels.ends[position] = ended & ~(CONTROL | REACH) | failure
    if source is not None:
        labels.via[position] = source
    # One predecessor a step is enough: a message shows one chain, not all.
    elif (value | labels.ends[position]) & UNTRUSTED:
        found = labels.origin(step.templates.values())
        found = labels.writer(position, UNTRUSTED) if found is None else found
        waits = labels.body.refs[position].waits
        labels.via[position] = labels.first_untrusted(waits) if found is None else found


def _control_and_reach(labels: Labels, position: int, *, is_top: bool) -> tuple[int, int]:
    """Return the label of what decides whether, and how often, a step runs, and of the ends of the steps that it refers to."""
    body, step, refs = labels.body, labels.body.steps[position], labels.body.refs[position]
    begins = UNTRUSTED if step.id in body.controlled or step.id in body.written else CLEAN
    # Nobody decides about the checked plan. Inside a plan the callers do, and one bit for each of the two stands for them.
    control, reach = (begins, CLEAN) if is_top else (CONTROL, REACH)
    templates, ends = step.templates, labels.ends
    for name in CONDITIONS:
        if name in templates:
            control |= labels.of(templates[name], position)
    for other in refs.after:
        control |= ends[other]
    for other in refs.needs:
        reach |= ends[other]
    if position in body.calls:  # the plan does not run if its inputs have no value, or do not fit
        reach |= labels.of(templates.get("args"), position)
    return control, reach


def _endorsed(labels: Labels, position: int, value: int, failure: int, ended: int) -> tuple[int, int, int]:
    """Return the labels of an `endorse` or `ask_person` step: of its value, of whether it fails, and of whether it ends. What is private stays private.

    Who lets a value count as trusted knows that it may be missing, or be one of several: that alone labels nothing. But nobody is asked
    about the conditions of the step, nor about the value of its `on_error`.
    """
    body, templates = labels.body, labels.body.steps[position].templates
    endorsed = labels.of(templates.get("endorse") or templates["ask_person"], position)
    conditions = labels.of(templates.get("when"), position) | labels.of(templates.get("until"), position)
    for other in body.refs[position].after:
        conditions |= labels.ends[other]
    if not isinstance(body.steps[position].on_error, Fallback):
        failure = labels.private_part(failure)
    return labels.private_part(value), failure, conditions | (ended & ~endorsed) | labels.private_part(ended)


def _touch(labels: Labels, position: int, tools: Signatures) -> None:
    """Label the resources that a step writes by what it leaves there; run the plan of a `plan` step in the world as it is."""
    touches, world = labels.touches[position], labels.world
    step, called = labels.body.steps[position], labels.called(position)
    kept = (UNTRUSTED, *labels.secrecy.bits)
    if called is not None:
        _run_in(labels, position, called)
        return
    held = labels.held[position]
    if not any(touch.writes for touch in touches):
        return
    if isinstance(step, AgentStep | PlanForStep) and labels.body.refs[position].is_filter:
        # For one item it gets what it has written for others, and the filter decides for which.
        held = labels.held[position] = held | labels.of(step.templates["when"], position)
    stored = labels.control[position] | labels.reach[position]
    if isinstance(step, ToolStep):
        stored |= labels.of(step.templates["args"], position)
        # A step that touches all resources may copy from one to another. What stands in the step's own resource is there already.
        stored |= held if touches[0].resource == WORLD else CLEAN
    else:
        stored |= labels.of_agent(position)
    # The writes of an untrusted tool leave what it likes. Without a named resource nothing says that a trusted tool reads from there.
    for tool in map(tools.find, step.may_call):
        is_named = isinstance(step, AgentStep | PlanForStep) or touches[0].resource != WORLD
        if tool is not None and tool.trust == "untrusted" and is_named:
            stored |= UNTRUSTED
    labels.stored[position] = stored
    for touch in touches:
        if touch.writes:
            world.store(touch.resource, stored, position, kept)


def _run_in(labels: Labels, position: int, called: FlowSummary) -> None:
    """Let a `plan` step run its plan in the world as it is, and label the resources by what the plan leaves there."""
    step, world = labels.body.steps[position], labels.world
    kept = (UNTRUSTED, *labels.secrecy.bits)
    # A plan that runs again gets what its last run has left. Each round adds labels, so the rounds have an end. What decides about the whole body
    # decides nothing about what its own steps have left, once it runs.
    entry = _entry(labels, called)
    while True:
        labels.entries[position] = entry
        meaning = labels.translation(position)
        for resource, label in called.stores.items():
            stored = translated(label, meaning)
            labels.stored[position] |= stored
            world.store(resource, stored, position, kept)
        again = _entry(labels, called)
        if again == entry or not step.may_run_again:
            return
        entry = again


def _entry(labels: Labels, called: FlowSummary) -> dict[str, int]:
    """Return the labels of the resources that a plan touches which begins now."""
    return {resource: labels.world.held(resource) & ~(CONTROL | REACH) for resource in called.world}


def _value_and_failure(labels: Labels, position: int) -> tuple[int, int]:
    """Return the label of a step's own value, and of whether the step fails. A step may fail by all that it mentions."""
    templates, called = labels.body.steps[position].templates, labels.called(position)
    value = labels.held[position]
    for name, template in templates.items():
        if name != "args" or called is None:
            value |= labels.of(template, position)
    if called is None:
        return value, value
    # Of the arguments of a plan only those count that it passes on to its output.
    meaning = labels.translation(position)
    failure = value | labels.of(templates.get("args"), position) | translated(called.fails, meaning)
    return value | translated(called.output, meaning), failure


def _output_and_failure(labels: Labels, order: Sequence[int]) -> tuple[int, int]:
    """Return the label of a body's output, and of whether the body fails."""
    body = labels.body
    output = labels.of(body.output)
    fails = output
    for position in order:
        if body.steps[position].on_error == "fail":
            fails |= labels.ends[position]
    if labels.counted.control:  # an output that refers to a skipped step is null
        for other in body.referred(body.output):
            output |= labels.ends[other]
    return output, fails


def _source(
    labels: Labels, position: int, called_tools: Sequence[Signature | None]
) -> tuple[str, ...] | None:
    """Return the path inside a step that makes its value untrusted whatever the step gets, or `None`."""
    step = labels.body.steps[position]
    # The summary of a plan says where in it the data begins.
    if position in labels.body.calls:
        called = labels.called(position)
        if called is not None and called.output & UNTRUSTED:
            return tuple(f"{step.id}/{inner}" for inner in called.source)
        return None
    for tool in called_tools:
        if tool is not None and tool.trust == "untrusted":
            return ()
    return None


def translated(label: int, meaning: Mapping[int, int]) -> int:
    """Return a label of a called body in the caller's bits."""
    assert label >= 0, "a label is a set of bits"
    made = CLEAN
    while label:
        bit = label & -label  # labels have few of many bits
        made |= meaning.get(bit, CLEAN)
        label ^= bit
    return made
