"""Information flow: where data from untrusted tools, and private data, goes in a plan, and where it may not go.

A *label* is a set of bits. Bit 0 means untrusted, and there is a bit for each kind of private data (`secrecy.py`). In an inner plan, further
bits mean "as labelled as": one bit stands for the conditions of the call (its `when`, its `for_each`), one for the steps that the call needs,
and one for each input. So each body is labelled once, whoever runs it: its `FlowSummary` describes its output, its failures and its writes in these bits, and each caller translates them into its own.
Labelling a body again for each caller would cost exponential time in nested plans.

A step has three labels:

- `values`: the label of its value. A template's value has the labels of everything that the template mentions. Conditions count
  like values, since they choose values: `item` has the label of the filter that let it pass, too.
- `control`: the label of what decides whether, and how often, the step runs, whatever its references are: its conditions, the conditions
  of the call around its body, and the ends of the steps in `after`.
- `ends`: the label of whether it ends with a value. A step that gets labelled data may fail by it, and an untrusted tool fails when
  it likes. A step that refers to a failed or skipped step is skipped, so it has the label of that step's end.

The order of effects is no control: a write that waits for an earlier write of the same resource, and is blocked if that one fails, is not labelled by
it. Otherwise one failed write would label everything after it.

Untrusted data may not reach a `Write`, private data may not reach an `Outflow`: what a call, or a
model, sends to somebody who is no reader. A call that writes is both.

Data flows along references only, so one pass in program order finds every label. What is unsafe for every caller is reported in the body
itself; what a caller can make unsafe is judged at the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..limits import LIMITS, Limits
from ..paths import parts_of
from ..plan import AgentStep, AskPersonStep, AskStep, EndorseStep, Fallback, PlanStep, Step, ToolStep
from ..problems import Problem, problem
from ..signature import Effect, Signature, Signatures
from .body import PlanBody
from .secrecy import (
    NOTHING_PRIVATE,
    Destination,
    Recipients,
    Secrecy,
    destination_of,
    is_destination,
    model_destination,
    receivers_of,
    recipients_in,
)
from .selection import SELECTED, FlowRules, Selection, default_rules, fitting_rule
from .templates import Template, argument_path, template_of

CLEAN = 0
UNTRUSTED = 1
CONTROL = 2
"""The conditions of the call that runs a body, and the ends of the steps that it comes after."""
REACH = 4
"""The ends of the steps that the call refers to."""
DEFAULT_MODEL = "default"
"""The alias of the model that answers an `ask` step without `model`, and the model of an `agent` step."""
_CONDITIONS = ("when", "for_each", "until")

TRUST_KEY = "x-trust"
"""The key of an input's schema that says who fills it in: `trusted` or `untrusted`."""
VARIANTS_MAX = 8
"""Ways to label the writes of one step that callers judge apart; more are joined, which errs on the safe side."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write whose safety depends on a caller's data.

    Attributes:
        body: The body of its step.
        position: Its step.
        at: Path and label of each argument (or goal) that neither allows untrusted data nor is approved.
        control: Label of the data that decides whether, and how often, the write happens.
        control_at: Path of that condition.
        reach: Label of the ends of the steps that the write refers to.
        judged: Path and label of each argument at which a rule admits untrusted data, or decides about it, with the rule's name.
        allowed: Label of the arguments that may hold untrusted data. Whoever allows a value to be labelled allows it to be missing.
        is_read: Whether it is a read, of which only the arguments that say where it sends data are guarded.
    """

    body: PlanBody
    position: int
    at: tuple[tuple[str, int], ...]
    control: int
    control_at: str
    reach: int = CLEAN
    allowed: int = CLEAN
    is_read: bool = False
    judged: tuple[tuple[str, int, str], ...] = ()

    @property
    def chance(self) -> int:
        """The label of everything that decides whether the write happens, and that nobody has allowed."""
        return self.control | (self.reach & ~self.allowed)


@dataclass(frozen=True, slots=True)
class Outflow:
    """A place where a step sends data to somebody, who may not have some of the bits.

    Attributes:
        body: The body of its step.
        position: Its step.
        at: Path of the argument, of the prompt or of the goal.
        to: The receiver, for messages.
        label: Label of the data.
        refused: The bits that the receiver may not have.
        unsure: The bits of which only the run can tell whether the receiver may have them.
        control: Label of the data that decides whether, and how often, an egress tool is called; else clean.
        secret: The name of a secret that the call sends, too; then an untrusted receiver is refused.
    """

    body: PlanBody
    position: int
    at: str
    to: str
    label: int
    refused: int
    unsure: int = CLEAN
    control: int = CLEAN
    secret: str = ""


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """The labels of a body as its callers need them.

    Attributes:
        bits: Input -> its bit.
        private_bits: Input -> the bit of what is private in it, without the rest of its label; empty if nothing is private.
        output: Label of the body's output.
        fails: Label of whether the body fails.
        source: Path of steps from the untrusted source to the output.
        writes: Writes of the body, and of the bodies that it runs, that a caller can make unsafe.
        outflows: The same of outflows.
    """

    bits: dict[str, int] = field(default_factory=dict[str, int])
    private_bits: dict[str, int] = field(default_factory=dict[str, int])
    output: int = CLEAN
    fails: int = CLEAN
    source: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()
    outflows: tuple[Outflow, ...] = ()


@dataclass(slots=True)
class Labels:
    """The labels of one body's steps.

    Attributes:
        bits: Input -> its bit.
        private_bits: As in `FlowSummary`.
        inputs: Input -> its label in the body: its bit, and untrusted if the plan declares it so.
        counts_control: Whether ends and filters count. In runs that began before they did, they do not.
        values: Label of each step's value.
        control: Label of what decides whether, and how often, each step runs, apart from the steps that it refers to.
        reach: Label of the ends of the steps that each step refers to.
        ends: Label of whether each step ends with a value.
        via: For an untrusted step: the step from which it has untrusted data, or the path inside it where that begins.
        secrecy: The kinds of private data.
        private: The bits of private data that each step's own tools return.
    """

    body: PlanBody
    bits: dict[str, int]
    private_bits: dict[str, int]
    inputs: dict[str, int]
    limits: Limits
    counts_control: bool
    values: list[int]
    control: list[int]
    reach: list[int]
    ends: list[int]
    via: list[int | tuple[str, ...] | None]
    secrecy: Secrecy
    private: list[int]

    def of(self, template: Template | None, position: int | None = None) -> int:
        """Return the label of a template's value; `position` is the template's step."""
        if template is None:
            return CLEAN
        formula = template.formula
        # `first(a, b)` has the labels of both: which of them it gives depends on data, and on which of them ended without a value.
        label = CLEAN
        for other in self._positions(formula.strict):
            label |= self.values[other]
        for other in self._positions(formula.lenient):
            label |= self.values[other] | (self.ends[other] if self.counts_control else CLEAN)
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
        found = label & ~self.public
        for name, bit in self.private_bits.items():
            if label & self.bits[name]:
                found |= bit
        return found

    def referred(self, template: Template) -> Iterator[int]:
        """Yield the steps that a template refers to."""
        return self._positions(template.formula.strict | template.formula.lenient)

    def _positions(self, ids: Iterable[str]) -> Iterator[int]:
        return (self.body.position[id_] for id_ in ids if id_ in self.body.position)

    def _of_item(self, position: int, template: Template) -> int:
        """Return the label of `item` and `index` in a template: of the list, and of the filter that let the item pass."""
        templates = self.body.steps[position].templates
        label = self.of(templates.get("for_each"))
        when = templates.get("when")
        if self.counts_control and self.body.refs[position].is_filter and template is not when:
            label |= self.of(when, position)
        return label

    def chance(self, position: int) -> int:
        """Return the label of what decides whether, and how often, a step calls, apart from what its arguments show already."""
        templates = self.body.steps[position].templates
        named = (templates[name] for name in ("args", "goal", "endorse", "ask_person") if name in templates)
        shown = self.of(next(named, None), position)
        return self.control[position] | (self.reach[position] & ~shown)

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
        return self.of(template_of("", step.args[name]), position)

    def translation(self, position: int, summary: FlowSummary) -> dict[int, int]:
        """Return the bits of the body that a `plan` step runs, each with its label in this body."""
        meaning = {bit: bit for bit in (UNTRUSTED, *self.secrecy.bits)}
        meaning |= {CONTROL: self.control[position], REACH: self.reach[position]}
        step = self.body.steps[position]
        if isinstance(step, PlanStep):
            for name in step.args:
                if name in summary.bits:  # an input that is not given has its default, which is clean
                    label = meaning[summary.bits[name]] = self.of_argument(position, name)
                    if name in summary.private_bits:
                        meaning[summary.private_bits[name]] = self.private_part(label)
        return meaning

    def carriers(self, position: int, argument: str | None) -> Iterator[Template]:
        """Yield the templates through which data reaches a step, the likeliest first: that of the argument, if one is named."""
        step = self.body.steps[position]
        if isinstance(step, ToolStep | PlanStep) and argument is not None and argument in step.args:
            yield template_of("", step.args[argument])
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
        while True:
            found = next(
                (other for each in waiting for other in self._with(each, bits) if other not in seen), None
            )
            if found is None:
                names = {
                    name for each in waiting if "inputs" in each.formula.names for name in each.formula.inputs
                }
                source = next(
                    (f"inputs.{name}" for name in sorted(names) if self.inputs.get(name, CLEAN) & bits), None
                )
                return tuple(reversed([*backwards, source] if source is not None else backwards))
            seen.add(found)
            backwards.append(self.body.steps[found].id)
            if self.private[found] & bits:
                return tuple(reversed(backwards))
            if len(backwards) >= self.limits.tainted_hops_max:
                return ("..", *reversed(backwards))
            waiting = list(self.body.steps[found].templates.values())

    def _with(self, template: Template, bits: int) -> Iterator[int]:
        """Yield the steps that a template refers to and that have some bits, in the order of the plan."""
        found = (other for other in self.referred(template) if (self.values[other] | self.ends[other]) & bits)
        return iter(sorted(found))


@dataclass(frozen=True, slots=True)
class BodyFlow:
    """The information flow of one body.

    Attributes:
        problems: Unsafe flows, each with the body that has the problem.
    """

    labels: Labels
    summary: FlowSummary
    problems: tuple[tuple[PlanBody, Problem], ...]


def flow_of(  # noqa: PLR0913  # the facts of a body, and what is asked about it
    body: PlanBody,
    order: Sequence[int],
    summaries: Sequence[FlowSummary],
    tools: Signatures,
    limits: Limits = LIMITS,
    *,
    counts_control: bool = True,
    secrecy: Secrecy = NOTHING_PRIVATE,
    rules: FlowRules = default_rules,
) -> BodyFlow:
    """Return a body's information flow. O(references).

    Args:
        body: The body.
        order: Its steps in program order.
        summaries: By number of body; those of the bodies that it runs are known.
        tools: Whose results are untrusted, and who writes.
        limits: How long a chain in a message may get.
        counts_control: Whether ends and filters count (`Labels`).
        secrecy: The kinds of private data.
        rules: Where untrusted data may stand although its tool does not say so.
    """
    labels = _labels_of(body, order, summaries, tools, limits, secrecy, counts_control=counts_control)
    problems: list[tuple[PlanBody, Problem]] = []
    writes: dict[tuple[str, int], list[Write]] = {}
    outflows: dict[tuple[str, str, int], list[Outflow]] = {}
    # A write that no caller can make worse is judged here and forgotten; others are kept for the callers.
    for position in order:
        if position in body.broken:
            continue
        for write in _writes(labels, position, summaries, tools, rules):
            problems.extend(_judge(write, labels, position))
            labels_of_write = [
                write.chance,
                *(each[1] for each in write.at),
                *(each[1] for each in write.judged),
            ]
            if any(label & ~UNTRUSTED for label in labels_of_write):
                _keep(writes.setdefault((write.body.path(write.position), write.body.unit), []), write)
        for outflow in _outflows(labels, position, summaries, tools):
            problems.extend(_judge_outflow(outflow, labels, position))
            if rest := _for_callers(outflow, secrecy):
                _keep_outflow(outflows.setdefault((rest.at, rest.to, rest.body.unit), []), rest)
    output, fails = _output_and_failure(labels, order)
    source = labels.chain(labels.origin([body.output])) if output & UNTRUSTED else ()
    kept = tuple(write for variants in writes.values() for write in variants)
    sent = tuple(outflow for variants in outflows.values() for outflow in variants)
    return BodyFlow(
        labels,
        FlowSummary(labels.bits, labels.private_bits, output, fails, source, kept, sent),
        tuple(problems),
    )


# Labels


def _labels_of(
    body: PlanBody,
    order: Sequence[int],
    summaries: Sequence[FlowSummary],
    tools: Signatures,
    limits: Limits,
    secrecy: Secrecy,
    *,
    counts_control: bool,
) -> Labels:
    is_top = body.unit == 0 and body.name is None  # its inputs come from the person who starts the run
    first = secrecy.first_free
    bits = {} if is_top else {name: 1 << (first + number) for number, name in enumerate(body.inputs)}
    private_bits = {name: bit << len(bits) for name, bit in bits.items()} if secrecy.kinds else {}
    inputs = {
        name: bits.get(name, CLEAN)
        | (UNTRUSTED if is_untrusted(schema) else CLEAN)
        | secrecy.of_input(schema)
        for name, schema in body.inputs.items()
    }
    count = len(body.steps)
    values, control, reach, ends, private = ([CLEAN] * count for _ in range(5))
    via: list[int | tuple[str, ...] | None] = [None] * count
    labels = Labels(
        body,
        bits,
        private_bits,
        inputs,
        limits,
        counts_control,
        values,
        control,
        reach,
        ends,
        via,
        secrecy,
        private,
    )
    for position in order:
        if position not in body.broken:
            _label(labels, position, summaries, tools, is_top=is_top)
    return labels


def is_untrusted(schema: Mapping[str, object]) -> bool:
    """Whether a plan declares an input untrusted (`x-trust`): whoever fills it in may be hostile."""
    return schema.get(TRUST_KEY) == "untrusted"


def _label(
    labels: Labels, position: int, summaries: Sequence[FlowSummary], tools: Signatures, *, is_top: bool
) -> None:
    """Label one step by what it mentions, what it waits for and what it calls."""
    body, step = labels.body, labels.body.steps[position]
    templates, refs = step.templates, body.refs[position]
    control, reach = (CLEAN, CLEAN) if is_top else (CONTROL, REACH)
    for name in _CONDITIONS:
        control |= labels.of(templates.get(name), position)
    for other in refs.after:
        control |= labels.ends[other]
    for other in refs.needs:
        reach |= labels.ends[other]
    if position in body.calls:  # the plan does not run if its inputs have no value, or do not fit
        reach |= labels.of(templates.get("args"), position)
    labels.control[position], labels.reach[position] = control, reach
    value, failure = _value_and_failure(labels, position, summaries)
    labels.private[position] = secrecy_bits = labels.secrecy.of_tools(map(tools.find, tools_of(step)))
    value |= secrecy_bits
    source = _source(labels, position, summaries, tools)
    if source is not None:
        value |= UNTRUSTED
        # An untrusted tool fails when it likes. Of a plan, `FlowSummary.fails` says whether it fails.
        failure |= CLEAN if isinstance(step, PlanStep) else UNTRUSTED
    ended = control | reach
    if isinstance(step, AskPersonStep | EndorseStep):
        value, failure, ended = _endorsed(labels, position, value, failure, ended)
    if labels.counts_control and step.on_error != "fail":
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
        found = labels.origin(templates.values())
        labels.via[position] = labels.first_untrusted(refs.waits) if found is None else found


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


def _value_and_failure(labels: Labels, position: int, summaries: Sequence[FlowSummary]) -> tuple[int, int]:
    """Return the label of a step's own value, and of whether the step fails. A step may fail by all that it mentions."""
    templates, called = labels.body.steps[position].templates, labels.body.calls.get(position)
    value = CLEAN
    for name, template in templates.items():
        if name != "args" or called is None:
            value |= labels.of(template, position)
    if called is None:
        return value, value
    # Of the arguments of a plan only those count that it passes on to its output.
    summary = summaries[called]
    meaning = labels.translation(position, summary)
    failure = value | labels.of(templates.get("args"), position) | translated(summary.fails, meaning)
    return value | translated(summary.output, meaning), failure


def _output_and_failure(labels: Labels, order: Sequence[int]) -> tuple[int, int]:
    """Return the label of a body's output, and of whether the body fails."""
    body = labels.body
    output = labels.of(body.output)
    fails = output
    for position in order:
        if body.steps[position].on_error == "fail":
            fails |= labels.ends[position]
    if labels.counts_control:  # an output that refers to a skipped step is null
        for other in labels.referred(body.output):
            output |= labels.ends[other]
    return output, fails


def _source(
    labels: Labels, position: int, summaries: Sequence[FlowSummary], tools: Signatures
) -> tuple[str, ...] | None:
    """Return the path inside a step that makes its value untrusted whatever the step gets, or `None`."""
    body, step = labels.body, labels.body.steps[position]
    if isinstance(step, PlanStep):
        called = body.calls.get(position)
        if called is not None and summaries[called].output & UNTRUSTED:
            return tuple(f"{step.id}/{inner}" for inner in summaries[called].source)
        return None
    called_tools = map(tools.find, tools_of(step))
    return () if any(tool is not None and tool.trust == "untrusted" for tool in called_tools) else None


def tools_of(step: Step) -> tuple[str, ...]:
    """Return the names of the tools that a step calls itself."""
    match step:
        case ToolStep(tool=name):
            return (name,)
        case AgentStep(agent=agent):
            return agent.tools
        case _:
            return ()


def translated(label: int, meaning: Mapping[int, int]) -> int:
    """Return a label of a called body in the caller's bits."""
    made = CLEAN
    for bit, here in meaning.items():
        if label & bit:
            made |= here
    return made


# Writes, and which of them are unsafe


def _writes(
    labels: Labels,
    position: int,
    summaries: Sequence[FlowSummary],
    tools: Signatures,
    rules: FlowRules,
) -> Iterator[Write]:
    """Yield the writes that a step may make, labelled in this body's bits."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = tools.find(name)
            if tool is not None and (tool.effect == Effect.WRITE or tool.egress):
                yield _tool_write(labels, position, step, tools, tool, rules)
        case AgentStep(agent=agent):
            known = [tool for name in agent.tools if (tool := tools.find(name)) is not None]
            if any(not tool.asks_approval and not _allows_all(tool) for tool in known):
                yield _agent_write(labels, position, known)
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.translation(position, summaries[called])
                meaning = {bit: here & labels.public for bit, here in meaning.items()}
                for write in summaries[called].writes:
                    yield _translated_write(write, meaning)
        case _:
            return


def _allows_all(tool: Signature) -> bool:
    """Whether a tool, whatever untrusted data it is called with, is safe."""
    if tool.effect != Effect.WRITE:
        return set(tool.egress) <= set(tool.allow_untrusted)
    # A tool whose schema lists no properties may take any argument, so it allows none for sure.
    properties = tool.parameters.get("properties")
    return isinstance(properties, dict) and set(properties) <= set(tool.allow_untrusted)


def _tool_write(
    labels: Labels, position: int, step: ToolStep, tools: Signatures, tool: Signature, rules: FlowRules
) -> Write:
    body = labels.body
    is_read = tool.effect != Effect.WRITE
    public = labels.public
    guarded: list[tuple[str, int]] = []
    allowed = CLEAN
    judged: list[tuple[str, int, str]] = []
    selection = Selection(labels, tools, ~CLEAN)
    for name in step.args if labels.of(step.templates["args"], position) & public else ():
        if is_read and name not in tool.egress:
            continue
        label = labels.of_argument(position, name) & public
        if name in tool.allow_untrusted:
            allowed |= label
        elif label and not tool.asks_approval and (rule := _rule(selection, position, tool, name, rules)):
            allowed |= label
            judged.append((body.path(position) + argument_path(name), label, rule))
        elif not tool.asks_approval:
            guarded.append((body.path(position) + argument_path(name), label))
        elif label:
            # A person who approves labelled arguments sees that the call is unusual, and so decides about the write too. A call with clean
            # arguments looks like any other: nothing shows that untrusted data chose to make it.
            return Write(body, position, (), CLEAN, body.path(position))
    if is_read:  # whether a read happens changes nothing
        return Write(
            body, position, tuple(guarded), CLEAN, body.path(position), is_read=True, judged=tuple(judged)
        )
    control, at = labels.control[position] & public, _control_at(labels, position, public)
    reach = labels.reach[position] & public
    return Write(body, position, tuple(guarded), control, at, reach, allowed, judged=tuple(judged))


def _rule(
    selection: Selection, position: int, tool: Signature, argument: str, rules: FlowRules
) -> str | None:
    """Return the name of the rule that admits untrusted data at an argument, or decides about it when the call is made."""
    fits = fitting_rule(tool, argument)
    if fits is None and selection.is_selected(position, argument):
        fits = SELECTED
    return rules(tool.name, argument, fits)


def _agent_write(labels: Labels, position: int, tools: Sequence[Signature]) -> Write:
    """Return the write of an agent: a model that has read untrusted data may pass it to any tool."""
    body = labels.body
    public = labels.public
    label = labels.of(body.steps[position].templates["goal"], position) & public
    # The agent reads the results of its tools, so an untrusted tool makes its later calls untrusted, whatever its goal.
    if any(tool.trust == "untrusted" for tool in tools):
        label |= UNTRUSTED
    at = f"{body.path(position)}.agent.goal"
    if not any(
        tool.effect == Effect.WRITE and not tool.asks_approval and not _allows_all(tool) for tool in tools
    ):
        return Write(body, position, ((at, label),), CLEAN, at, is_read=True)
    control, reach = labels.control[position] & public, labels.reach[position] & public
    return Write(body, position, ((at, label),), control, _control_at(labels, position, public), reach)


def _control_at(labels: Labels, position: int, bits: int, first: int = UNTRUSTED) -> str:
    """Return the path of what decides whether a step runs and has one of the bits: a condition, `after`, or a reference.

    Args:
        labels: The labels of the step's body.
        position: The step.
        bits: The bits that are looked for.
        first: Those of them that are looked for before the others.
    """
    body = labels.body
    templates, refs, path = body.steps[position].templates, body.refs[position], body.path(position)
    for wanted in (first, bits):
        for name in _CONDITIONS:
            if labels.of(templates.get(name), position) & wanted:
                return path + templates[name].where
        if any(labels.ends[other] & wanted for other in refs.after):
            return f"{path}.after"
        for template in templates.values():
            for other in labels.reached(position):
                if labels.ends[other] & wanted and body.steps[other].id in template.formula.names:
                    return path + template.where
    return path


def _translated_write(write: Write, meaning: Mapping[int, int]) -> Write:
    """Return a called body's write in this body's bits, without what that body reports itself."""
    at = tuple(
        (path, translated(label & ~UNTRUSTED, meaning)) for path, label in write.at if not label & UNTRUSTED
    )
    # Untrusted bits are reported in the called body for every caller, so only the bits that stand for the caller's data go on.
    control, reach = write.control, write.reach
    if write.chance & UNTRUSTED:
        control = reach = CLEAN
    return Write(
        write.body,
        write.position,
        at,
        translated(control, meaning),
        write.control_at,
        translated(reach, meaning),
        translated(write.allowed, meaning),
        write.is_read,
        tuple(
            (path, translated(label & ~UNTRUSTED, meaning), rule)
            for path, label, rule in write.judged
            if not label & UNTRUSTED
        ),
    )


def _keep(variants: list[Write], write: Write) -> None:
    """Keep a write for callers, and join its variants when there are too many."""
    if write in variants:
        return
    # A write that is reached on several ways may be labelled differently on each; joining them at once would blame every caller.
    variants.append(write)
    if len(variants) > VARIANTS_MAX:
        joined: dict[str, int] = {}
        control = reach = CLEAN
        allowed = ~CLEAN
        for variant in variants:
            control |= variant.control
            reach |= variant.reach
            allowed &= variant.allowed
            for path, label in variant.at:
                joined[path] = joined.get(path, CLEAN) | label
        at = tuple(joined.items())
        judged = tuple({each: None for variant in variants for each in variant.judged})
        joint = Write(
            write.body, write.position, at, control, write.control_at, reach, allowed, write.is_read, judged
        )
        variants[:] = [joint]


def _judge(write: Write, labels: Labels, position: int) -> Iterator[tuple[PlanBody, Problem]]:
    """Yield the problems of a write, as far as its labels are known in this body, each with the body that has it."""
    unsafe = [path for path, label in write.at if label & UNTRUSTED]
    for path in unsafe:
        yield write.body, _unsafe_flow(write, labels, position, path)
    for path, label, rule in write.judged:
        if label & UNTRUSTED:
            found = _unsafe_flow(write, labels, position, path)
            message = f"{found.message}; the rule '{rule}' decides about it"
            hint = "make sure that whoever controls that data may choose this value"
            yield write.body, problem("judged-flow", path, message, hint)
    if not unsafe and write.chance & UNTRUSTED:
        where, at, decider = write.body, write.control_at, write.position
        # The condition of the `plan` step is a better place than the write inside the plan, which is fine by itself.
        if write.body is not labels.body and (labels.control[position] | labels.reach[position]) & UNTRUSTED:
            where, at, decider = labels.body, _control_at(labels, position, labels.public), position
        yield where, _controlled(write, labels if where is labels.body else None, decider, at)


def _controlled(write: Write, labels: Labels | None, decider: int, at: str) -> Problem:
    """Return the warning that untrusted data decides whether a write happens; `labels` are those of the body that has the deciding step."""
    step = write.body.steps[write.position]
    message = f"data from an untrusted tool decides whether step '{step.id}' writes"
    if labels is not None and (chain := labels.chain(_decider(labels, decider))):
        message = f"{message}: {' -> '.join((*chain, labels.body.steps[decider].id))}"
    return problem(
        "untrusted-condition", at, message, "make sure that whoever controls that data may decide this"
    )


def _decider(labels: Labels, position: int) -> int | tuple[str, ...] | None:
    """Return the first step, or the input, by whose untrusted data a step runs or does not run."""
    templates, refs = labels.body.steps[position].templates, labels.body.refs[position]
    conditions = [templates[name] for name in _CONDITIONS if name in templates]
    found = labels.origin(conditions)
    return labels.first_untrusted((*refs.after, *labels.reached(position))) if found is None else found


def _unsafe_flow(write: Write, labels: Labels, position: int, path: str) -> Problem:
    step: Step = write.body.steps[write.position]
    here = labels.body.steps[position]
    is_own = write.body is labels.body
    argument = str(parts_of(path)[-1])
    chain = labels.chain(labels.origin(labels.carriers(position, argument if is_own else None))) or (here.id,)
    inner = () if is_own else (here.id,)
    shown = " -> ".join((*chain, *inner, f"{step.id}.{argument}"))
    what = f"'{step.id}', which says where data is sent" if write.is_read else f"the write '{step.id}'"
    message = f"untrusted data reaches '{argument}' of {what}: {shown}"
    hint = f"let the tool allow it (allow_untrusted=({argument!r},)) or ask for approval, or do not pass this data on"
    if isinstance(step, AgentStep):
        kind = "sending" if write.is_read else "writing"
        hint = f"give the agent's {kind} tools an approval, or keep untrusted data and tools from the agent"
    return problem("unsafe-flow", path, message, hint)


# Outflows, and who may not have what they send


def _outflows(
    labels: Labels, position: int, summaries: Sequence[FlowSummary], tools: Signatures
) -> Iterator[Outflow]:
    """Yield the places where a step sends data that somebody may not have, labelled in this body's bits."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = tools.find(name)
            if tool is not None:
                yield from _secret_outflows(labels, position, step, tool)
                if labels.secrecy.kinds and is_destination(tool):
                    yield from _tool_outflows(labels, position, step, tool)
        case AskStep() if labels.secrecy.kinds:
            yield from _ask_outflows(labels, position, step)
        case AgentStep(agent=agent) if labels.secrecy.kinds:
            yield from _agent_outflows(labels, position, [tools.find(name) for name in agent.tools])
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.translation(position, summaries[called])
                for outflow in summaries[called].outflows:
                    yield replace(
                        outflow,
                        label=translated(outflow.label, meaning),
                        control=translated(outflow.control, meaning),
                    )
        case _:
            return


def _outflow(
    labels: Labels,
    position: int,
    where: str,
    to: str,
    label: int,
    destination: Destination,
    control: int = CLEAN,
) -> Iterator[Outflow]:
    refused, unsure = labels.secrecy.refused(destination)
    if (label or control) and (refused or unsure):
        path = labels.body.path(position) + where
        yield Outflow(labels.body, position, path, to, label, refused, unsure, control)


def _tool_outflows(labels: Labels, position: int, step: ToolStep, tool: Signature) -> Iterator[Outflow]:
    recipients = _known_recipients(step, tool)
    to = f"the tool '{tool.name}'"
    if labels.of(step.templates["args"], position):
        for name in step.args:
            label = labels.of_argument(position, name)
            destination = destination_of(tool, name, recipients)
            yield from _outflow(labels, position, argument_path(name), to, label, destination)
    if tool.egress and (control := labels.chance(position)):
        destination = destination_of(tool, None, recipients)
        yield from _outflow(labels, position, "", to, CLEAN, destination, control)


def _ask_outflows(labels: Labels, position: int, step: AskStep) -> Iterator[Outflow]:
    model = step.ask.model or DEFAULT_MODEL
    destination = model_destination(model, is_judged=bool(step.ask.guard))
    for name in ("system", "examples", "prompt"):
        if name in step.templates:
            template = step.templates[name]
            label = labels.of(template, position)
            yield from _outflow(labels, position, template.where, f"the model '{model}'", label, destination)


def _known_recipients(step: ToolStep, tool: Signature) -> Recipients:
    """Return to whom a call sends, as far as the plan's text says it."""
    templates = {name: template_of("", step.args[name]) for name in tool.egress if name in step.args}
    if any(template.formula.leaves for template in templates.values()):
        return None
    return recipients_in(tool, {name: template.value for name, template in templates.items()})


def _agent_outflows(labels: Labels, position: int, tools: Sequence[Signature | None]) -> Iterator[Outflow]:
    """Yield what an agent sends: its model and its tools may get all that its goal holds and that its tools return."""
    goal = labels.body.steps[position].templates["goal"]
    label = labels.of(goal, position) | labels.private[position]
    model = model_destination(DEFAULT_MODEL)
    yield from _outflow(labels, position, goal.where, f"the model '{DEFAULT_MODEL}'", label, model)
    for tool in tools:
        if tool is None or not is_destination(tool):
            continue
        destination = destination_of(tool, None, None if tool.egress else ())
        control = labels.chance(position) if tool.egress else CLEAN
        to = f"the tool '{tool.name}'"
        yield from _outflow(labels, position, goal.where, to, label, destination, control)


def _secret_outflows(labels: Labels, position: int, step: ToolStep, tool: Signature) -> Iterator[Outflow]:
    """Yield the arguments by which untrusted data could choose who gets a secret of the same call."""
    secrets = step.templates["args"].secrets
    if not secrets:
        return
    secret = min(secrets.values())
    for name in receivers_of(tool):
        if label := labels.of_argument(position, name) & labels.public:
            path = labels.body.path(position) + argument_path(name)
            yield Outflow(
                labels.body, position, path, f"the tool '{tool.name}'", label, UNTRUSTED, secret=secret
            )


def _for_callers(outflow: Outflow, secrecy: Secrecy) -> Outflow | None:
    """Return the part of an outflow that its callers have to judge, `None`: there is none."""
    own = UNTRUSTED | secrecy.mask
    if outflow.label & outflow.refused:
        return None  # reported already, for every caller
    label = outflow.label & ~own
    control = CLEAN if outflow.control & outflow.refused else outflow.control & ~own
    return replace(outflow, label=label, control=control) if label or control else None


def _keep_outflow(variants: list[Outflow], outflow: Outflow) -> None:
    """Keep an outflow for callers, and join its variants when there are too many."""
    if outflow in variants:
        return
    variants.append(outflow)
    if len(variants) > VARIANTS_MAX:
        label = control = CLEAN
        for variant in variants:
            label |= variant.label
            control |= variant.control
        variants[:] = [replace(outflow, label=label, control=control)]


def _judge_outflow(outflow: Outflow, labels: Labels, position: int) -> Iterator[tuple[PlanBody, Problem]]:
    """Yield the problem of an outflow, as far as its labels are known in this body, with the body that has it."""
    if bits := outflow.label & outflow.refused:
        yield outflow.body, _private_flow(outflow, labels, position, bits)
        return
    step = outflow.body.steps[outflow.position]
    if bits := outflow.label & outflow.unsure:
        message = f"private data goes to whom '{step.id}' names, and only the run can tell whether it may: {_way(outflow, labels, position, bits)}"
        yield outflow.body, problem("unchecked-reader", outflow.at, message, _readers(labels, bits))
    if bits := outflow.control & (outflow.refused | outflow.unsure):
        where, at = outflow.body, outflow.at
        if where is not labels.body or labels.control[position] & bits:
            where, at = labels.body, _control_at(labels, position, bits, bits)
        message = f"private data decides whether '{step.id}' sends something through {outflow.to}"
        hint = "make sure that whoever gets it may know that, or call the tool in any case"
        yield where, problem("private-condition", at, message, hint)


def _private_flow(outflow: Outflow, labels: Labels, position: int, bits: int) -> Problem:
    step = outflow.body.steps[outflow.position]
    if outflow.secret:
        message = f"untrusted data chooses who gets the secret '{outflow.secret}' in the call of '{step.id}'"
        hint = "write the address into the plan, or call the tool without the secret"
        return problem("private-flow", outflow.at, message, hint)
    message = f"private data reaches {outflow.to}, which is none of its readers: {_way(outflow, labels, position, bits)}"
    return problem("private-flow", outflow.at, message, _readers(labels, bits))


def _readers(labels: Labels, bits: int) -> str:
    return f"its readers are: {labels.secrecy.shown(bits)}"


def _way(outflow: Outflow, labels: Labels, position: int, bits: int) -> str:
    """Return the steps through which private data goes, for messages."""
    here, step = labels.body.steps[position], outflow.body.steps[outflow.position]
    argument = str(parts_of(outflow.at)[-1])
    is_own = outflow.body is labels.body
    chain = labels.private_chain(labels.carriers(position, argument if is_own else None), bits) or (here.id,)
    inner = () if is_own else (here.id,)
    return " -> ".join((*chain, *inner, f"{step.id}.{argument}"))
