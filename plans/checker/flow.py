"""Information flow judged: where data from untrusted tools may not go.

Every body is looked at once. What a caller's data may make unsafe is kept in its `Summary` and judged where the caller is; what
is unsafe whoever calls is told in the body itself. What the labels mean is `labels.py`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..limits import LIMITS, Limits
from ..plan import AgentStep, PlanStep, Step, ToolStep
from ..problems import Problem, problem
from ..signature import Effect, Signature, Signatures
from .body import Body
from .labels import CLEAN, UNTRUSTED, Labels, Summary, Write, labels_of, translated
from .templates import Template, argument_path, template_of

VARIANTS_MAX = 8
"""Ways to label the writes of one step that are told apart for callers; more are joined, which errs on the safe side."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What is known of one body's flows.

    Attributes:
        problems: Unsafe flows, each with the body that it is a problem of.
    """

    labels: Labels
    summary: Summary
    problems: tuple[tuple[Body, Problem], ...]


def flow_of(
    body: Body,
    order: Sequence[int],
    summaries: Sequence[Summary],
    toolset: Signatures,
    limits: Limits = LIMITS,
) -> Flow:
    """Return a body's flows, given the summaries of the bodies that it runs. O(references)."""
    labels = labels_of(body, order, summaries, toolset, limits)
    problems: list[tuple[Body, Problem]] = []
    writes: dict[tuple[str, int], list[Write]] = {}
    for position in order:
        if position in body.broken:
            continue
        for write in _writes(labels, position, summaries, toolset):
            problems.extend(_judge(write, labels, position))
            if any(label & ~UNTRUSTED for _, label in write.at) or write.control & ~UNTRUSTED:
                _keep(writes.setdefault((write.body.path(write.position), write.body.unit), []), write)
    output = labels.of(body.output)
    source = labels.flow(labels.origin([body.output])) if output & UNTRUSTED else ()
    kept = tuple(write for variants in writes.values() for write in variants)
    return Flow(labels, Summary(labels.bits, output, source, kept), tuple(problems))


def _writes(
    labels: Labels, position: int, summaries: Sequence[Summary], toolset: Signatures
) -> Iterable[Write]:
    """Yield the writes that a step may make, as this body sees them."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = toolset.find(name)
            if tool is not None and tool.effect == Effect.WRITE:
                yield _tool_write(labels, position, step, tool)
        case AgentStep(agent=agent):
            tools = [tool for name in agent.tools if (tool := toolset.find(name)) is not None]
            risky = any(
                tool.effect == Effect.WRITE and not tool.asks_approval and not _allows_all(tool)
                for tool in tools
            )
            if risky:
                yield _agent_write(labels, position, tools)
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.meaning(position, summaries[called])
                for write in summaries[called].writes:
                    yield _translated(write, meaning)
        case _:
            return


def _allows_all(tool: Signature) -> bool:
    properties = tool.parameters.get("properties")
    return isinstance(properties, dict) and set(properties) <= set(tool.allow_untrusted)


def _tool_write(labels: Labels, position: int, step: ToolStep, tool: Signature) -> Write:
    body = labels.body
    guarded: list[tuple[str, int]] = []
    given = labels.of(step.templates["args"], position)
    # A person who approves labelled arguments decides about the write as well; of clean ones, that something else chose them.
    control = CLEAN if tool.asks_approval and given else labels.control[position]
    if not tool.asks_approval and given:
        for name in step.args:
            if name not in tool.allow_untrusted:
                label = labels.of_argument(position, name)
                guarded.append((body.path(position) + argument_path(name), label))
    return Write(body, position, tuple(guarded), control, _condition_at(labels, position))


def _agent_write(labels: Labels, position: int, tools: Sequence[Signature]) -> Write:
    body = labels.body
    goal = body.steps[position].templates["goal"]
    label = labels.of(goal, position)
    if any(tool.trust == "untrusted" for tool in tools):
        label |= UNTRUSTED
    at = f"{body.path(position)}.agent.goal"
    return Write(body, position, ((at, label),), labels.control[position], _condition_at(labels, position))


def _condition_at(labels: Labels, position: int) -> str:
    """Return the path of the condition that has a label, the untrusted one first."""
    templates = labels.body.steps[position].templates
    present = [templates[name] for name in ("when", "for_each", "until") if name in templates]
    for wanted in (UNTRUSTED, ~0):
        for template in present:
            if labels.of(template, position) & wanted:
                return labels.body.path(position) + template.where
    return labels.body.path(position)


def _translated(write: Write, meaning: Mapping[int, int]) -> Write:
    """Return a called body's write with its labels in this body's bits; what was untrusted there is told there."""
    at = tuple(
        (path, translated(label & ~UNTRUSTED, meaning)) for path, label in write.at if not label & UNTRUSTED
    )
    control = CLEAN if write.control & UNTRUSTED else translated(write.control, meaning)
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


def _judge(write: Write, labels: Labels, position: int) -> Iterable[tuple[Body, Problem]]:
    """Yield what is wrong with a write now that its labels are known this far, with the body it is told of."""
    unsafe = [path for path, label in write.at if label & UNTRUSTED]
    for path in unsafe:
        yield write.body, _unsafe_flow(write, labels, position, path)
    if not unsafe and write.control & UNTRUSTED:
        step = write.body.steps[write.position]
        message = f"data from an untrusted tool decides whether step '{step.id}' writes"
        hint = "make sure that whoever controls that data may decide this"
        where, at = write.body, write.control_at
        if write.body is not labels.body and labels.control[position] & UNTRUSTED:
            where, at = labels.body, _condition_at(labels, position)
        yield where, problem("untrusted-condition", at, message, hint)


def _unsafe_flow(write: Write, labels: Labels, position: int, path: str) -> Problem:
    step: Step = write.body.steps[write.position]
    here = labels.body.steps[position]
    mentioned = _mentioned(labels, position, path)
    chain = labels.flow(labels.origin(mentioned)) or (here.id,)
    inner = () if write.body is labels.body else (here.id,)
    name = path.rsplit(".", 1)[-1]
    told = " -> ".join((*chain, *inner, f"{step.id}.{name}"))
    message = f"untrusted data reaches '{name}' of the write '{step.id}': {told}"
    hint = f"let the tool allow it (allow_untrusted=({name!r},)) or ask for approval, or do not pass this data on"
    if isinstance(step, AgentStep):
        hint = "give the agent's writing tools an approval, or keep untrusted data and tools from the agent"
    return problem("unsafe-flow", path, message, hint)


def _mentioned(labels: Labels, position: int, path: str) -> Iterable[Template | None]:
    """Return the templates of a step through which the flow to `path` may run, the likeliest first."""
    step = labels.body.steps[position]
    if isinstance(step, ToolStep):
        for name, value in step.args.items():
            if path.endswith(argument_path(name)):
                yield template_of("", value)
        yield step.templates.get("for_each")
    yield from step.templates.values()
