"""Information flow: where data from untrusted tools may go.

A label is a set of bits. Bit 0 says untrusted. Inside an inner plan the other bits say "as untrusted as": bit 1 the call's control (its
`when`, its `for_each`), and one bit for each input. So every body is looked at once, whoever calls it: its `Summary` tells a
caller what its output and its writes are labelled with, in terms of what the caller puts in.

Whatever a template mentions labels its value: conditions choose values, so they count like the values. `after` carries no
data and no label. Data flows along references only, so one pass in program order sees every label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .body import UNKNOWN, Body
from .limits import Limits
from .plan import AgentStep, PlanStep, Step, ToolStep
from .problems import Problem, problem
from .signature import Effect, Signature, Signatures
from .templates import Template, argument_path, template_of

CLEAN = 0
UNTRUSTED = 1
CONTROL = 2
_FIRST_INPUT = 2

VARIANTS_MAX = 8
"""Ways to label the writes of one step that are told apart for callers; more are joined, which errs on the safe side."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write whose safety depends on what a caller puts in.

    Attributes:
        body: The body it stands in.
        position: Its step.
        at: Path of each argument (or goal) that neither allows untrusted data nor is approved, with its label.
        control: Label of what decides whether, and how often, it happens.
        control_at: Path of that condition.
    """

    body: Body
    position: int
    at: tuple[tuple[str, int], ...]
    control: int
    control_at: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the labels of a body mean for those who run it.

    Attributes:
        bits: Input -> its bit.
        output: Label of the body's output.
        source: Where the output's untrusted part comes from, as a path of steps.
        writes: Its writes, and those of the bodies that it runs, that a caller can make unsafe.
    """

    bits: dict[str, int] = field(default_factory=dict[str, int])
    output: int = CLEAN
    source: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()


@dataclass(slots=True)
class _Labels:
    """The labels of one body's steps, and whence each has its untrusted part."""

    body: Body
    bits: dict[str, int]
    limits: Limits
    labels: list[int] = field(default_factory=list[int])
    control: list[int] = field(default_factory=list[int])
    via: list[int | tuple[str, ...] | None] = field(default_factory=list["int | tuple[str, ...] | None"])

    def of(self, template: Template | None, position: int | None = None) -> int:
        """Return the label of a template's value; `position` is the step in which it stands."""
        if template is None:
            return CLEAN
        formula = template.formula
        label = CLEAN
        for id_ in (*formula.strict, *formula.lenient):
            other = self.body.position.get(id_)
            if other is not None:
                label |= self.labels[other]
        if "inputs" in formula.names:
            for name in formula.inputs or self.bits:
                label |= self.bits.get(name, CLEAN)
        if position is not None and not formula.names.isdisjoint({"item", "index"}):
            label |= self.of(self.body.steps[position].templates.get("for_each"))
        return label

    def origin(self, templates: Iterable[Template | None]) -> int | tuple[str, ...] | None:
        """Return the first step from which a template has untrusted data."""
        for template in templates:
            if template is None:
                continue
            for id_ in (*template.formula.strict, *template.formula.lenient):
                other = self.body.position.get(id_)
                if other is not None and self.labels[other] & UNTRUSTED:
                    return other
        return None

    def flow(self, start: int | tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the ids that lead from an untrusted source to `start`, source first; long ones are cut in the middle."""
        backwards: list[str] = []
        at = start
        while isinstance(at, int):
            if len(backwards) >= self.limits.tainted_hops_max:
                backwards.append("..")
                return tuple(reversed(backwards))
            backwards.append(self.body.steps[at].id)
            at = self.via[at]
        return (*(at or ()), *reversed(backwards))


def flow_of(
    body: Body, order: Sequence[int], summaries: Sequence[Summary], toolset: Signatures, limits: Limits
) -> tuple[Summary, list[tuple[Body, Problem]]]:
    """Return a body's summary, and its unsafe flows with the body that each is a problem of. O(references), given the summaries of the bodies it runs."""
    is_top = body.unit == 0 and body.name is None
    bits = {} if is_top else {name: 1 << (_FIRST_INPUT + number) for number, name in enumerate(body.inputs)}
    count = len(body.steps)
    labels = _Labels(body, bits, limits, [CLEAN] * count, [CLEAN] * count, [None] * count)
    base = CLEAN if is_top else CONTROL
    problems: list[tuple[Body, Problem]] = []
    writes: dict[tuple[str, int], list[Write]] = {}
    for position in order:
        if position in body.broken:
            continue
        _label(labels, position, base, summaries, toolset)
        for write in _writes(labels, position, summaries, toolset):
            problems.extend((write.body, found) for found in _judge(write, labels, position))
            if any(label & ~UNTRUSTED for _, label in write.at) or write.control & ~UNTRUSTED:
                _keep(writes.setdefault((write.body.path(write.position), write.body.unit), []), write)
    output = labels.of(body.output)
    source = labels.flow(labels.origin([body.output])) if output & UNTRUSTED else ()
    kept = tuple(write for variants in writes.values() for write in variants)
    return Summary(bits, output, source, kept), problems


def _label(labels: _Labels, position: int, base: int, summaries: Sequence[Summary], toolset: Signatures) -> None:
    """Label one step from what it mentions and from what it calls."""
    step = labels.body.steps[position]
    mentioned = list(step.templates.values())
    conditions = [step.templates.get(name) for name in ("when", "for_each", "until")]
    label = CLEAN
    for template in mentioned:
        label |= labels.of(template, position)
    control = base
    for condition in conditions:
        control |= labels.of(condition, position)
    labels.control[position] = control
    own = _source(labels, position, summaries, toolset)
    if own is not None:
        labels.via[position] = own
        label |= UNTRUSTED
    elif label & UNTRUSTED:
        labels.via[position] = labels.origin(mentioned)
    labels.labels[position] = label


def _source(
    labels: _Labels, position: int, summaries: Sequence[Summary], toolset: Signatures
) -> tuple[str, ...] | None:
    """Return the flow inside the step that makes its value untrusted whatever it is given, or `None`."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tools = [toolset.find(name)]
        case AgentStep(agent=agent):
            tools = [toolset.find(name) for name in agent.tools]
        case PlanStep():
            called = body.calls.get(position, UNKNOWN)
            if called != UNKNOWN and summaries[called].output & UNTRUSTED:
                return tuple(f"{step.id}/{inner}" for inner in summaries[called].source)
            return None
        case _:
            return None
    return () if any(tool is not None and tool.trust == "untrusted" for tool in tools) else None


def _writes(labels: _Labels, position: int, summaries: Sequence[Summary], toolset: Signatures) -> Iterable[Write]:
    """Yield the writes that a step may make, as this body sees them."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = toolset.find(name)
            if tool is not None and tool.effect == Effect.WRITE:
                yield _tool_write(labels, position, step, tool)
        case AgentStep(agent=agent):
            tools = [tool for name in agent.tools if (tool := toolset.find(name)) is not None]
            risky = any(tool.effect == Effect.WRITE and not tool.asks_approval and not _allows_all(tool) for tool in tools)
            if risky:
                yield _agent_write(labels, position, tools)
        case PlanStep():
            called = body.calls.get(position, UNKNOWN)
            if called != UNKNOWN:
                meaning = _meaning(labels, position, step, summaries[called])
                for write in summaries[called].writes:
                    yield _translated(write, meaning)
        case _:
            return


def _allows_all(tool: Signature) -> bool:
    properties = tool.parameters.get("properties")
    return isinstance(properties, dict) and set(properties) <= set(tool.allow_untrusted)


def _tool_write(labels: _Labels, position: int, step: ToolStep, tool: Signature) -> Write:
    body = labels.body
    guarded: list[tuple[str, int]] = []
    if not tool.asks_approval and labels.of(step.templates["args"], position):
        for name, value in step.args.items():
            if name not in tool.allow_untrusted:
                label = labels.of(template_of("", value), position)
                guarded.append((body.path(position) + argument_path(name), label))
    return Write(body, position, tuple(guarded), labels.control[position], _condition_at(labels, position))


def _agent_write(labels: _Labels, position: int, tools: Sequence[Signature]) -> Write:
    body = labels.body
    goal = body.steps[position].templates["goal"]
    label = labels.of(goal, position)
    if any(tool.trust == "untrusted" for tool in tools):
        label |= UNTRUSTED
    at = f"{body.path(position)}.agent.goal"
    return Write(body, position, ((at, label),), labels.control[position], _condition_at(labels, position))


def _condition_at(labels: _Labels, position: int) -> str:
    """Return the path of the condition that has a label, the untrusted one first."""
    templates = labels.body.steps[position].templates
    present = [templates[name] for name in ("when", "for_each", "until") if name in templates]
    for wanted in (UNTRUSTED, ~0):
        for template in present:
            if labels.of(template, position) & wanted:
                return labels.body.path(position) + template.where
    return labels.body.path(position)


def _meaning(labels: _Labels, position: int, step: PlanStep, summary: Summary) -> dict[int, int]:
    """Return what each bit of a called body means here."""
    meaning = {UNTRUSTED: UNTRUSTED, CONTROL: labels.control[position]}
    for name, bit in summary.bits.items():
        meaning[bit] = labels.of(template_of("", step.args[name]), position) if name in step.args else CLEAN
    return meaning


def _translate(label: int, meaning: dict[int, int]) -> int:
    made = CLEAN
    for bit, here in meaning.items():
        if label & bit:
            made |= here
    return made


def _translated(write: Write, meaning: dict[int, int]) -> Write:
    """Return a called body's write with its labels in this body's bits; what was untrusted there is told there."""
    at = tuple((path, _translate(label & ~UNTRUSTED, meaning)) for path, label in write.at if not label & UNTRUSTED)
    control = CLEAN if write.control & UNTRUSTED else _translate(write.control, meaning)
    return Write(write.body, write.position, at, control, write.control_at)


def _keep(variants: list[Write], write: Write) -> None:
    """Remember a write for callers, joining what is too varied."""
    if write in variants:
        return
    variants.append(write)
    if len(variants) > VARIANTS_MAX:
        joined: dict[str, int] = {}
        control = CLEAN
        for variant in variants:
            control |= variant.control
            for path, label in variant.at:
                joined[path] = joined.get(path, CLEAN) | label
        variants[:] = [Write(write.body, write.position, tuple(joined.items()), control, write.control_at)]


def _judge(write: Write, labels: _Labels, position: int) -> Iterable[Problem]:
    """Yield what is wrong with a write now that its labels are known this far."""
    unsafe = [path for path, label in write.at if label & UNTRUSTED]
    for path in unsafe:
        yield _unsafe_flow(write, labels, position, path)
    if not unsafe and write.control & UNTRUSTED:
        step = write.body.steps[write.position]
        message = f"data from an untrusted tool decides whether step '{step.id}' writes"
        hint = "make sure that whoever controls that data may decide this, or give the tool an approval"
        yield problem("untrusted-condition", write.control_at, message, hint)


def _unsafe_flow(write: Write, labels: _Labels, position: int, path: str) -> Problem:
    step: Step = write.body.steps[write.position]
    here = labels.body.steps[position]
    mentioned = _mentioned(labels, position, path)
    chain = labels.flow(labels.origin(mentioned)) or (here.id,)
    inner = () if write.body is labels.body else (here.id,)
    name = path.rsplit(".", 1)[-1]
    told = " -> ".join((*chain, *inner, f"{step.id}.{name}"))
    message = f"untrusted data reaches '{name}' of the write '{step.id}': {told}"
    hint = f"let the tool allow it (allow_untrusted=({name!r},)) or ask for approval, or do not pass this data on"
    return problem("unsafe-flow", path, message, hint)


def _mentioned(labels: _Labels, position: int, path: str) -> Iterable[Template | None]:
    """Return the templates of a step through which the flow to `path` may run, the likeliest first."""
    step = labels.body.steps[position]
    if isinstance(step, ToolStep):
        for name, value in step.args.items():
            if path.endswith(argument_path(name)):
                yield template_of("", value)
        yield step.templates.get("for_each")
    yield from step.templates.values()
