"""Labels of information flow: which steps of a body hold data from untrusted tools.

A label is a set of bits. Bit 0 says untrusted. Inside an inner plan the other bits say "as untrusted as": bit 1 the call's
control (its `when`, its `for_each`), and one bit for each input. So every body is looked at once, whoever calls it: its
`Summary` tells a caller what its output and its writes are labelled with, in terms of what the caller puts in.

Whatever a template mentions labels its value: conditions choose values, so they count like the values. `after` carries no
data and no label. Data flows along references only, so one pass in program order sees every label. What is wrong with a
flow is judged elsewhere (`flow.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..limits import LIMITS, Limits
from ..plan import AgentStep, PlanStep, ToolStep
from ..signature import Signatures
from .body import Body
from .templates import Template, template_of

CLEAN = 0
UNTRUSTED = 1
CONTROL = 2
_FIRST_INPUT = 2
_CONDITIONS = ("when", "for_each", "until")


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
class Labels:
    """The labels of one body's steps, and whence each has its untrusted part.

    Attributes:
        bits: Input -> its bit.
        labels: Label of each step's value.
        control: Label of what decides whether, and how often, each step runs.
        via: For an untrusted step: the step that it has this from, or the path inside it where it begins.
    """

    body: Body
    bits: dict[str, int]
    limits: Limits
    labels: list[int]
    control: list[int]
    via: list[int | tuple[str, ...] | None]

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
        if position is not None:
            if not formula.names.isdisjoint({"item", "index"}):
                label |= self.of(self.body.steps[position].templates.get("for_each"))
            if "prev" in formula.names:
                label |= self.labels[position]
        return label

    def of_argument(self, position: int, name: str) -> int:
        """Return the label of one argument of a `tool` or `plan` step; an argument that is not there is clean."""
        step = self.body.steps[position]
        if not isinstance(step, ToolStep | PlanStep) or name not in step.args:
            return CLEAN
        return self.of(template_of("", step.args[name]), position)

    def meaning(self, position: int, summary: Summary) -> dict[int, int]:
        """Return what each bit of the body that a `plan` step runs means here."""
        meaning = {UNTRUSTED: UNTRUSTED, CONTROL: self.control[position]}
        step = self.body.steps[position]
        if isinstance(step, PlanStep):
            for name in step.args:
                if name in summary.bits:  # an input that is not given has its default, which is clean
                    meaning[summary.bits[name]] = self.of_argument(position, name)
        return meaning

    def origin(self, templates: Iterable[Template | None]) -> int | tuple[str, ...] | None:
        """Return the first step from which a template has untrusted data."""
        for template in templates:
            if template is None:
                continue
            for id_ in sorted(template.formula.strict | template.formula.lenient):
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


def labels_of(
    body: Body,
    order: Sequence[int],
    summaries: Sequence[Summary],
    toolset: Signatures,
    limits: Limits = LIMITS,
) -> Labels:
    """Return a body's labels, given the summaries of the bodies that it runs. O(references)."""
    is_top = body.unit == 0 and body.name is None
    bits = {} if is_top else {name: 1 << (_FIRST_INPUT + number) for number, name in enumerate(body.inputs)}
    count = len(body.steps)
    labels = Labels(body, bits, limits, [CLEAN] * count, [CLEAN] * count, [None] * count)
    base = CLEAN if is_top else CONTROL
    for position in order:
        if position not in body.broken:
            _label(labels, position, base, summaries, toolset)
    return labels


def _label(
    labels: Labels, position: int, base: int, summaries: Sequence[Summary], toolset: Signatures
) -> None:
    """Label one step from what it mentions and from what it calls."""
    step = labels.body.steps[position]
    templates = step.templates
    control = base
    for name in _CONDITIONS:
        control |= labels.of(templates.get(name), position)
    labels.control[position] = control
    called = labels.body.calls.get(position)
    label = CLEAN
    for name, template in templates.items():
        if name != "args" or called is None:
            label |= labels.of(template, position)
    if called is not None:
        summary = summaries[called]
        label |= translated(summary.output, labels.meaning(position, summary))
    own = _source(labels, position, summaries, toolset)
    if own is not None:
        labels.via[position] = own
        label |= UNTRUSTED
    elif label & UNTRUSTED:
        labels.via[position] = labels.origin(templates.values())
    labels.labels[position] = label


def _source(
    labels: Labels, position: int, summaries: Sequence[Summary], toolset: Signatures
) -> tuple[str, ...] | None:
    """Return the flow inside the step that makes its value untrusted whatever it is given, or `None`."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tools = [toolset.find(name)]
        case AgentStep(agent=agent):
            tools = [toolset.find(name) for name in agent.tools]
        case PlanStep():
            called = body.calls.get(position)
            if called is not None and summaries[called].output & UNTRUSTED:
                return tuple(f"{step.id}/{inner}" for inner in summaries[called].source)
            return None
        case _:
            return None
    return () if any(tool is not None and tool.trust == "untrusted" for tool in tools) else None


def translated(label: int, meaning: Mapping[int, int]) -> int:
    """Return a label of a called body in the caller's bits."""
    made = CLEAN
    for bit, here in meaning.items():
        if label & bit:
            made |= here
    return made
