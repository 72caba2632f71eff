"""Information flow: where data from untrusted tools goes in a plan, and where it may not go.

A *label* is a set of bits. Bit 0 means untrusted. In an inner plan, further bits mean "as untrusted as": bit 1 stands for what decides about
the call (its `when`, its `for_each`), and one bit stands for each input. So each body is labelled once, whoever runs it: its
`FlowSummary` describes its output and its writes in these bits, and each caller translates them into its own. Labelling a body again for
each caller would cost exponential time in nested plans.

A template's value has the labels of everything that the template mentions. Conditions count like values, since they choose
values. `after` passes no data and no label. Data flows along references only, so one pass in program order finds every label.

What is unsafe for every caller is reported in the body itself; what a caller can make unsafe is judged at the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..limits import LIMITS, Limits
from ..paths import parts_of
from ..plan import AgentStep, PlanStep, Step, ToolStep
from ..problems import Problem, problem
from ..signature import Effect, Signature, Signatures
from .body import PlanBody
from .templates import Template, argument_path, template_of

CLEAN = 0
UNTRUSTED = 1
CONTROL = 2
_FIRST_INPUT = 2
_CONDITIONS = ("when", "for_each", "until")

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
    """

    body: PlanBody
    position: int
    at: tuple[tuple[str, int], ...]
    control: int
    control_at: str


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """The labels of a body as its callers need them.

    Attributes:
        bits: Input -> its bit.
        output: Label of the body's output.
        source: Path of steps from the untrusted source to the output.
        writes: Writes of the body, and of the bodies that it runs, that a caller can make unsafe.
    """

    bits: dict[str, int] = field(default_factory=dict[str, int])
    output: int = CLEAN
    source: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()


@dataclass(slots=True)
class Labels:
    """The labels of one body's steps.

    Attributes:
        bits: Input -> its bit.
        labels: Label of each step's value.
        control: Label of what decides whether, and how often, each step runs.
        via: For an untrusted step: the step from which it has untrusted data, or the path inside it where that begins.
    """

    body: PlanBody
    bits: dict[str, int]
    limits: Limits
    labels: list[int]
    control: list[int]
    via: list[int | tuple[str, ...] | None]

    def of(self, template: Template | None, position: int | None = None) -> int:
        """Return the label of a template's value; `position` is the template's step."""
        if template is None:
            return CLEAN
        formula = template.formula
        # `first(a, b)` has the labels of both: which of them it gives depends on data.
        label = CLEAN
        for id_ in (*formula.strict, *formula.lenient):
            other = self.body.position.get(id_)
            if other is not None:
                label |= self.labels[other]
        # `formula.inputs` is empty if the template uses `inputs` as one object: then it has the labels of all inputs.
        if "inputs" in formula.names:
            for name in formula.inputs or self.bits:
                label |= self.bits.get(name, CLEAN)
        if position is not None:
            if not formula.names.isdisjoint({"item", "index"}):
                label |= self.of(self.body.steps[position].templates.get("for_each"))
            if "prev" in formula.names:
                label |= self.labels[position]
        return label

    def of_argument(self, position: int, name: str) -> int:
        """Return the label of one argument of a `tool` or `plan` step; an argument that is not given is clean."""
        step = self.body.steps[position]
        if not isinstance(step, ToolStep | PlanStep) or name not in step.args:
            return CLEAN
        return self.of(template_of("", step.args[name]), position)

    def translation(self, position: int, summary: FlowSummary) -> dict[int, int]:
        """Return the bits of the body that a `plan` step runs, each with its label in this body."""
        meaning = {UNTRUSTED: UNTRUSTED, CONTROL: self.control[position]}
        step = self.body.steps[position]
        if isinstance(step, PlanStep):
            for name in step.args:
                if name in summary.bits:  # an input that is not given has its default, which is clean
                    meaning[summary.bits[name]] = self.of_argument(position, name)
        return meaning

    def carriers(self, position: int, argument: str | None) -> Iterator[Template]:
        """Yield the templates through which data reaches a step, the likeliest first: that of the argument, if one is named."""
        step = self.body.steps[position]
        if isinstance(step, ToolStep | PlanStep) and argument is not None and argument in step.args:
            yield template_of("", step.args[argument])
        if "for_each" in step.templates:
            yield step.templates["for_each"]
        yield from step.templates.values()

    def origin(self, templates: Iterable[Template]) -> int | None:
        """Return the first step from which one of the templates has untrusted data."""
        for template in templates:
            # Sorted, because sets have no order and equal plans have equal messages.
            for id_ in sorted(template.formula.strict | template.formula.lenient):
                other = self.body.position.get(id_)
                if other is not None and self.labels[other] & UNTRUSTED:
                    return other
        return None

    def chain(self, start: int | None) -> tuple[str, ...]:
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


@dataclass(frozen=True, slots=True)
class BodyFlow:
    """The information flow of one body.

    Attributes:
        problems: Unsafe flows, each with the body that has the problem.
    """

    labels: Labels
    summary: FlowSummary
    problems: tuple[tuple[PlanBody, Problem], ...]


def flow_of(
    body: PlanBody,
    order: Sequence[int],
    summaries: Sequence[FlowSummary],
    tools: Signatures,
    limits: Limits = LIMITS,
) -> BodyFlow:
    """Return a body's information flow. O(references).

    Args:
        body: The body.
        order: Its steps in program order.
        summaries: By number of body; those of the bodies that it runs are known.
        tools: Whose results are untrusted, and who writes.
        limits: How long a chain in a message may get.
    """
    labels = _labels_of(body, order, summaries, tools, limits)
    problems: list[tuple[PlanBody, Problem]] = []
    writes: dict[tuple[str, int], list[Write]] = {}
    # A write that no caller can make worse is judged here and forgotten; others are kept for the callers.
    for position in order:
        if position in body.broken:
            continue
        for write in _writes(labels, position, summaries, tools):
            problems.extend(_judge(write, labels, position))
            if any(label & ~UNTRUSTED for _, label in write.at) or write.control & ~UNTRUSTED:
                _keep(writes.setdefault((write.body.path(write.position), write.body.unit), []), write)
    output = labels.of(body.output)
    source = labels.chain(labels.origin([body.output])) if output & UNTRUSTED else ()
    kept = tuple(write for variants in writes.values() for write in variants)
    return BodyFlow(labels, FlowSummary(labels.bits, output, source, kept), tuple(problems))


# Labels


def _labels_of(
    body: PlanBody, order: Sequence[int], summaries: Sequence[FlowSummary], tools: Signatures, limits: Limits
) -> Labels:
    is_top = body.unit == 0 and body.name is None  # its inputs come from the person who starts the run
    bits = {} if is_top else {name: 1 << (_FIRST_INPUT + number) for number, name in enumerate(body.inputs)}
    count = len(body.steps)
    labels = Labels(body, bits, limits, [CLEAN] * count, [CLEAN] * count, [None] * count)
    for position in order:
        if position not in body.broken:
            _label(labels, position, CLEAN if is_top else CONTROL, summaries, tools)
    return labels


def _label(
    labels: Labels, position: int, control: int, summaries: Sequence[FlowSummary], tools: Signatures
) -> None:
    """Label one step by what it mentions and what it calls; `control` is the label of what decides about its body."""
    step = labels.body.steps[position]
    templates = step.templates
    for name in _CONDITIONS:
        control |= labels.of(templates.get(name), position)
    labels.control[position] = control
    called = labels.body.calls.get(position)
    label = CLEAN
    for name, template in templates.items():
        if name != "args" or called is None:
            label |= labels.of(template, position)
    if called is not None:  # of the arguments only those count that the plan passes on to its output
        summary = summaries[called]
        label |= _translated(summary.output, labels.translation(position, summary))
    source = _source(labels, position, summaries, tools)
    if source is not None:
        labels.via[position] = source
        label |= UNTRUSTED
    # One predecessor a step is enough: a message shows one chain, not all.
    elif label & UNTRUSTED:
        labels.via[position] = labels.origin(templates.values())
    labels.labels[position] = label


def _source(
    labels: Labels, position: int, summaries: Sequence[FlowSummary], tools: Signatures
) -> tuple[str, ...] | None:
    """Return the path inside a step that makes its value untrusted whatever the step gets, or `None`."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            called_tools = [tools.find(name)]
        case AgentStep(agent=agent):
            called_tools = [tools.find(name) for name in agent.tools]
        case PlanStep():
            called = body.calls.get(position)
            if called is not None and summaries[called].output & UNTRUSTED:
                return tuple(f"{step.id}/{inner}" for inner in summaries[called].source)
            return None
        case _:
            return None
    return () if any(tool is not None and tool.trust == "untrusted" for tool in called_tools) else None


def _translated(label: int, meaning: Mapping[int, int]) -> int:
    """Return a label of a called body in the caller's bits."""
    made = CLEAN
    for bit, here in meaning.items():
        if label & bit:
            made |= here
    return made


# Writes, and which of them are unsafe


def _writes(
    labels: Labels, position: int, summaries: Sequence[FlowSummary], tools: Signatures
) -> Iterator[Write]:
    """Yield the writes that a step may make, labelled in this body's bits."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = tools.find(name)
            if tool is not None and tool.effect == Effect.WRITE:
                yield _tool_write(labels, position, step, tool)
        case AgentStep(agent=agent):
            known = [tool for name in agent.tools if (tool := tools.find(name)) is not None]
            if any(
                tool.effect == Effect.WRITE and not tool.asks_approval and not _allows_all(tool)
                for tool in known
            ):
                yield _agent_write(labels, position, known)
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.translation(position, summaries[called])
                for write in summaries[called].writes:
                    yield _translated_write(write, meaning)
        case _:
            return


def _allows_all(tool: Signature) -> bool:
    # A tool whose schema lists no properties may take any argument, so it allows none for sure.
    properties = tool.parameters.get("properties")
    return isinstance(properties, dict) and set(properties) <= set(tool.allow_untrusted)


def _tool_write(labels: Labels, position: int, step: ToolStep, tool: Signature) -> Write:
    body = labels.body
    guarded: list[tuple[str, int]] = []
    args = labels.of(step.templates["args"], position)
    # A person who approves labelled arguments sees that the call is unusual, and so decides about the write too. A call with clean
    # arguments looks like any other: nothing shows that untrusted data chose to make it.
    control = CLEAN if tool.asks_approval and args else labels.control[position]
    if not tool.asks_approval and args:
        for name in step.args:
            if name not in tool.allow_untrusted:
                label = labels.of_argument(position, name)
                guarded.append((body.path(position) + argument_path(name), label))
    return Write(body, position, tuple(guarded), control, _condition_at(labels, position))


def _agent_write(labels: Labels, position: int, tools: Sequence[Signature]) -> Write:
    """Return the write of an agent: a model that has read untrusted data may pass it to any tool."""
    body = labels.body
    label = labels.of(body.steps[position].templates["goal"], position)
    # The agent reads the results of its tools, so an untrusted tool makes its later calls untrusted, whatever its goal.
    if any(tool.trust == "untrusted" for tool in tools):
        label |= UNTRUSTED
    at = f"{body.path(position)}.agent.goal"
    return Write(body, position, ((at, label),), labels.control[position], _condition_at(labels, position))


def _condition_at(labels: Labels, position: int) -> str:
    """Return the path of the condition that has a label, an untrusted one first."""
    templates = labels.body.steps[position].templates
    present = [templates[name] for name in _CONDITIONS if name in templates]
    for wanted in (UNTRUSTED, ~0):
        for template in present:
            if labels.of(template, position) & wanted:
                return labels.body.path(position) + template.where
    return labels.body.path(position)


def _translated_write(write: Write, meaning: Mapping[int, int]) -> Write:
    """Return a called body's write in this body's bits, without what that body reports itself."""
    at = tuple(
        (path, _translated(label & ~UNTRUSTED, meaning)) for path, label in write.at if not label & UNTRUSTED
    )
    # Untrusted bits are reported in the called body for every caller, so only the bits that stand for the caller's data go on.
    control = CLEAN if write.control & UNTRUSTED else _translated(write.control, meaning)
    return Write(write.body, write.position, at, control, write.control_at)


def _keep(variants: list[Write], write: Write) -> None:
    """Keep a write for callers, and join its variants when there are too many."""
    if write in variants:
        return
    # A write that is reached on several ways may be labelled differently on each; joining them at once would blame every caller.
    variants.append(write)
    if len(variants) > VARIANTS_MAX:
        joined: dict[str, int] = {}
        control = CLEAN
        for variant in variants:
            control |= variant.control
            for path, label in variant.at:
                joined[path] = joined.get(path, CLEAN) | label
        variants[:] = [Write(write.body, write.position, tuple(joined.items()), control, write.control_at)]


def _judge(write: Write, labels: Labels, position: int) -> Iterator[tuple[PlanBody, Problem]]:
    """Yield the problems of a write, as far as its labels are known in this body, each with the body that has it."""
    unsafe = [path for path, label in write.at if label & UNTRUSTED]
    for path in unsafe:
        yield write.body, _unsafe_flow(write, labels, position, path)
    if not unsafe and write.control & UNTRUSTED:
        step = write.body.steps[write.position]
        message = f"data from an untrusted tool decides whether step '{step.id}' writes"
        hint = "make sure that whoever controls that data may decide this"
        where, at = write.body, write.control_at
        # The condition of the `plan` step is a better place than the write inside the plan, which is fine by itself.
        if write.body is not labels.body and labels.control[position] & UNTRUSTED:
            where, at = labels.body, _condition_at(labels, position)
        yield where, problem("untrusted-condition", at, message, hint)


def _unsafe_flow(write: Write, labels: Labels, position: int, path: str) -> Problem:
    step: Step = write.body.steps[write.position]
    here = labels.body.steps[position]
    is_own = write.body is labels.body
    argument = str(parts_of(path)[-1])
    chain = labels.chain(labels.origin(labels.carriers(position, argument if is_own else None))) or (here.id,)
    inner = () if is_own else (here.id,)
    shown = " -> ".join((*chain, *inner, f"{step.id}.{argument}"))
    message = f"untrusted data reaches '{argument}' of the write '{step.id}': {shown}"
    hint = f"let the tool allow it (allow_untrusted=({argument!r},)) or ask for approval, or do not pass this data on"
    if isinstance(step, AgentStep):
        hint = "give the agent's writing tools an approval, or keep untrusted data and tools from the agent"
    return problem("unsafe-flow", path, message, hint)
