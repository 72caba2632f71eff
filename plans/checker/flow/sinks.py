"""Sinks: where labelled data may not go. Untrusted data may not reach a `Write`, private data may not reach an `Outflow`.

A `Write` is a call that changes the world, or says where data is sent. An `Outflow` is what a call, or a model, sends to somebody who may be no reader. A
call that writes is both.

`judge` goes by the labels of a body (`labels.py`) and does not know how they were found. What is unsafe for every caller is reported in the body itself; what
a caller can make unsafe is kept, and judged at the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...immutable import immutable
from ...plan import AgentStep, AskStep, PlanForStep, PlanStep, Step, ToolStep
from ...reports.paths import parts_of
from ...reports.problems import Problem, problem
from ...signature import DEFAULT_MODEL, Effect, Signature, Signatures, called_by
from ..body import PlanBody
from ..templates import Template, argument_path
from .labels import CLEAN, CONDITIONS, UNTRUSTED, Labels, translated
from .secrecy import (
    Destination,
    Recipients,
    Secrecy,
    any_model,
    destination_of,
    is_destination,
    model_destination,
    receivers_of,
    recipients_in,
)
from .selection import SELECTED, FlowRules, Passed, Selection, default_rules, fitting_rule

VARIANTS_MAX = 8
"""Ways to label the writes of one step that callers judge apart; more are joined, which errs on the safe side."""


@immutable
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


@immutable
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


@immutable
class Judged:
    """What is judged about one body.

    Attributes:
        problems: Unsafe flows, each with the body that has the problem.
        writes: Writes of the body, and of the bodies that it runs, that a caller can make unsafe.
        outflows: The same of outflows.
    """

    problems: tuple[tuple[PlanBody, Problem], ...] = ()
    writes: tuple[Write, ...] = ()
    outflows: tuple[Outflow, ...] = ()


def judge(
    labels: Labels,
    order: Sequence[int],
    judged: Sequence[Judged],
    tools: Signatures,
    rules: FlowRules = default_rules,
    passed: Passed | None = None,
) -> Judged:
    """Return what is unsafe in a body, and what its callers have to judge. O(references).

    Args:
        labels: The labels of the body.
        order: Its steps in program order.
        judged: By number of body; those of the bodies that it runs are known.
        tools: Who writes, and who sends.
        rules: Where untrusted data may stand although its tool does not say so.
        passed: What the callers of an inner plan pass to it.
    """
    given = passed or Passed()
    selection = Selection(labels, tools, given.untrusted, given.inputs)
    body = labels.body
    problems: list[tuple[PlanBody, Problem]] = []
    writes: dict[tuple[str, int], list[Write]] = {}
    outflows: dict[tuple[str, str, int], list[Outflow]] = {}
    # A write that no caller can make worse is judged here and forgotten; others are kept for the callers.
    for position in order:
        if position in body.broken:
            continue
        for write in _writes(labels, position, judged, tools, rules, selection):
            problems.extend(_judge_write(write, labels, position))
            labels_of_write = [
                write.chance,
                *(each[1] for each in write.at),
                *(each[1] for each in write.judged),
            ]
            # Only bits that stand for a caller's data can become worse there.
            if any(label & ~UNTRUSTED for label in labels_of_write):
                _keep(writes.setdefault((write.body.path(write.position), write.body.unit), []), write)
        for outflow in _outflows(labels, position, judged, tools):
            problems.extend(_judge_outflow(outflow, labels, position))
            if rest := _for_callers(outflow, labels.secrecy):
                _keep_outflow(outflows.setdefault((rest.at, rest.to, rest.body.unit), []), rest)
    kept = tuple(write for variants in writes.values() for write in variants)
    sent = tuple(outflow for variants in outflows.values() for outflow in variants)
    return Judged(tuple(problems), kept, sent)


# Writes, and which of them are unsafe


def _writes(  # what `judge` has
    labels: Labels,
    position: int,
    judged: Sequence[Judged],
    tools: Signatures,
    rules: FlowRules,
    selection: Selection,
) -> Iterator[Write]:
    """Yield the writes that a step may make, labelled in this body's bits."""
    body, step = labels.body, labels.body.steps[position]
    match step:
        case ToolStep(tool=name):
            tool = tools.find(name)
            if tool is not None and (tool.effect == Effect.WRITE or tool.egress):
                yield _tool_write(labels, position, step, tool, rules, selection)
        case AgentStep() | PlanForStep():
            known = [tool for name in step.may_call if (tool := tools.find(name)) is not None]
            if any(not tool.asks_approval and not _allows_all(tool) for tool in known):
                yield _agent_write(labels, position, known, is_steered=labels.is_steered(position, tools))
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.translation(position)
                meaning = {bit: here & labels.public for bit, here in meaning.items()}
                for write in judged[called].writes:
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


def _tool_write(  # what `judge` has
    labels: Labels, position: int, step: ToolStep, tool: Signature, rules: FlowRules, selection: Selection
) -> Write:
    body = labels.body
    is_read = tool.effect != Effect.WRITE
    public = labels.public
    guarded: list[tuple[str, int]] = []
    allowed = CLEAN
    judged: list[tuple[str, int, str]] = []
    # All arguments are asked together first, since most calls have nothing labelled.
    for name in step.args if labels.sent(step.templates["args"], position) & public else ():
        # A read changes nothing, but the argument that names its receiver can carry data out.
        if is_read and name not in tool.egress:
            continue
        label = labels.sent_argument(position, name) & public
        if name in tool.allow_untrusted:
            allowed |= labels.of_argument(position, name)
        elif label and not tool.asks_approval and (rule := _rule(selection, position, tool, name, rules)):
            allowed |= labels.of_argument(position, name)
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


def _agent_write(labels: Labels, position: int, tools: Sequence[Signature], *, is_steered: bool) -> Write:
    """Return the write of an agent, or of a sub-plan: a model that has read untrusted data may pass it to any tool."""
    body = labels.body
    public = labels.public
    label = labels.sent_by_agent(position) & public
    # The agent reads the results of its tools, so an untrusted tool makes its later calls untrusted, whatever its goal.
    if is_steered:
        label |= UNTRUSTED
    at = body.path(position) + _seen(labels, position).where
    # Tools that only read may still send. Whether a read happens changes nothing, so its conditions do not count.
    if not any(
        tool.effect == Effect.WRITE and not tool.asks_approval and not _allows_all(tool) for tool in tools
    ):
        return Write(body, position, ((at, label),), CLEAN, at, is_read=True)
    control, reach = labels.control[position] & public, labels.reach[position] & public
    return Write(body, position, ((at, label),), control, _control_at(labels, position, public), reach)


def _seen(labels: Labels, position: int) -> Template:
    """Return what the model of an `agent` or `plan_for` step is told: the goal, or the given values."""
    templates = labels.body.steps[position].templates
    return templates.get("goal") or templates["given"]


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
    # The likeliest reason first, so that the report points to where an author can change something.
    for wanted in (first, bits):
        for name in CONDITIONS:
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
        # What one variant alone allows is not allowed of the joint write.
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


def _judge_write(write: Write, labels: Labels, position: int) -> Iterator[tuple[PlanBody, Problem]]:
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
    # An argument at fault is the better report; its condition is not reported as well.
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
    conditions = [templates[name] for name in CONDITIONS if name in templates]
    found = labels.origin(conditions)
    return labels.first_untrusted((*refs.after, *labels.reached(position))) if found is None else found


def _unsafe_flow(write: Write, labels: Labels, position: int, path: str) -> Problem:
    step: Step = write.body.steps[write.position]
    here = labels.body.steps[position]
    is_own = write.body is labels.body
    argument = str(parts_of(path)[-1])
    chain = labels.way_to(position, argument if is_own else None) or (here.id,)
    # A write inside a plan is named after the step that runs the plan, as a caller sees it.
    inner = () if is_own else (here.id,)
    shown = " -> ".join((*chain, *inner, f"{step.id}.{argument}"))
    what = f"'{step.id}', which says where data is sent" if write.is_read else f"the write '{step.id}'"
    message = f"untrusted data reaches '{argument}' of {what}: {shown}"
    hint = f"let the tool allow it (allow_untrusted=({argument!r},)) or ask for approval, or do not pass this data on"
    if isinstance(step, AgentStep):
        kind = "sending" if write.is_read else "writing"
        hint = f"give the agent's {kind} tools an approval, or keep untrusted data and tools from the agent"
    if isinstance(step, PlanForStep):
        kind = "sending" if write.is_read else "writing"
        hint = f"give the {kind} tools of the step an approval, or do not give it untrusted data"
    return problem("unsafe-flow", path, message, hint)


# Outflows, and who may not have what they send


def _outflows(
    labels: Labels, position: int, judged: Sequence[Judged], tools: Signatures
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
                    yield from _called_outflows(
                        labels, position, step, [tools.find(each) for each in called_by(tool)]
                    )
        case AskStep() if labels.secrecy.kinds:
            yield from _ask_outflows(labels, position, step)
        case AgentStep() | PlanForStep() if labels.secrecy.kinds:
            yield from _agent_outflows(labels, position, [tools.find(name) for name in step.may_call])
        case PlanStep():
            called = body.calls.get(position)
            if called is not None:
                meaning = labels.translation(position)
                # Who may not have the data was found in the called body; only the labels are translated.
                for outflow in judged[called].outflows:
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
    if labels.sent(step.templates["args"], position):
        for name in step.args:
            label = labels.sent_argument(position, name)
            destination = destination_of(tool, name, recipients)
            yield from _outflow(labels, position, argument_path(name), to, label, destination)
    # That a call happens tells its receiver something, even if no argument is private.
    if tool.egress and (control := labels.chance(position)):
        destination = destination_of(tool, None, recipients)
        yield from _outflow(labels, position, "", to, CLEAN, destination, control)


def _called_outflows(
    labels: Labels, position: int, step: ToolStep, tools: Sequence[Signature | None]
) -> Iterator[Outflow]:
    """Yield what the model of an `@agent` tool may send by the tools that it calls: all that it sees."""
    label = labels.sent_by_agent(position) if tools else CLEAN
    for tool in tools:
        if tool is not None and is_destination(tool):
            where = step.templates["args"].where
            to = f"the tool '{tool.name}' of the agent '{step.tool}'"
            yield from _outflow(labels, position, where, to, label, destination_of(tool, None, ()))


def _ask_outflows(labels: Labels, position: int, step: AskStep) -> Iterator[Outflow]:
    model = step.ask.model or DEFAULT_MODEL
    destination = model_destination(model, is_judged=bool(step.ask.guard))
    for name in ("system", "examples", "prompt"):
        if name in step.templates:
            template = step.templates[name]
            label = labels.sent(template, position)
            yield from _outflow(labels, position, template.where, f"the model '{model}'", label, destination)


def _known_recipients(step: ToolStep, tool: Signature) -> Recipients:
    """Return to whom a call sends, as far as the plan's text says it."""
    args = step.templates["args"]
    templates = {name: args.part(name) for name in tool.egress if name in step.args}
    if any(template.formula.leaves for template in templates.values()):
        return None
    return recipients_in(tool, {name: template.value for name, template in templates.items()})


def _agent_outflows(labels: Labels, position: int, tools: Sequence[Signature | None]) -> Iterator[Outflow]:
    """Yield what an agent sends: its model and its tools may get all that its goal holds and that its tools return.

    The planner of a `plan_for` step gets what it is given. Its model has no name in the plan, so that data needs readers of any model.
    """
    goal, label = _seen(labels, position), labels.sent_by_agent(position)
    if isinstance(labels.body.steps[position], PlanForStep):
        shown = labels.sent_goal(position)
        yield from _outflow(labels, position, goal.where, "the planner", shown, any_model())
    else:
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
    # Of several the first by name is reported, so that equal plans have equal messages.
    secret = min(secrets.values())
    for name in receivers_of(tool):
        if label := labels.sent_argument(position, name) & labels.public:
            path = labels.body.path(position) + argument_path(name)
            yield Outflow(
                labels.body, position, path, f"the tool '{tool.name}'", label, UNTRUSTED, secret=secret
            )


def _for_callers(outflow: Outflow, secrecy: Secrecy) -> Outflow | None:
    """Return the part of an outflow that its callers have to judge, `None`: there is none."""
    own = UNTRUSTED | secrecy.mask
    if outflow.label & outflow.refused:
        return None  # reported already, for every caller
    # The bits of this body were judged here; those of its callers' data are left.
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
