"""The picture of a plan, before it is drawn: steps in stages, what they do, and who waits for whom.

`render` draws the same `Picture` as text, as Mermaid or as SVG. A step's stage is the length of the longest chain up to it. A plan with faults
has a picture too: faulty parts are not drawn, and of steps that wait for one another in a cycle, one wait is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ..checker.body import bodies_of
from ..checker.bounds import critical_path
from ..checker.survey import Survey, Touches, is_write, survey_of
from ..durations import duration_text
from ..format.shape import Draft
from ..immutable import immutable
from ..plan import (
    CALL_FREE,
    AgentStep,
    AskPersonStep,
    AskStep,
    EndorseStep,
    FailStep,
    Fallback,
    InnerPlan,
    Plan,
    PlanForStep,
    PlanStep,
    SetStep,
    Step,
    ToolStep,
    WaitStep,
)
from ..program.graph import depths, direct_waits
from ..program.program import Track
from ..signature import signatures_of
from ..values import Json, canonical

if TYPE_CHECKING:
    from ..signature import Signature, Signatures


FORMATS = ("text", "mermaid", "svg")

EFFECT_COLOURS = {
    "pure": (("#64748b", "#f1f5f9", "#334155"), ("#8494aa", "#232c3a", "#cbd5e1")),
    "read": (("#0284c7", "#e0f2fe", "#075985"), ("#38bdf8", "#0b2f45", "#bae6fd")),
    "model": (("#7c3aed", "#ede9fe", "#5b21b6"), ("#a78bfa", "#2a1f4d", "#ddd6fe")),
    "write": (("#ea580c", "#ffedd5", "#9a3412"), ("#fb923c", "#43220d", "#fed7aa")),
    "unknown": (("#94a3b8", "#f1f5f9", "#475569"), ("#64748b", "#1f2733", "#a3b1c2")),
}
"""Effect -> the colours of its line, its background and its text, on light and on dark screens."""


def render(
    plan: Plan,
    format: str = "text",  # noqa: A002  # the contract's word
    toolset: Signatures | Sequence[Signature] | None = None,
    *,
    width: int = 100,
) -> str:
    """Return a picture of a plan.

    Args:
        plan: The plan.
        format: `text`, `mermaid` or `svg`.
        toolset: Tells the effects of steps apart.
        width: The most columns of a text.

    Raises:
        ConfigError: The format is unknown.
    """
    picture = picture_of(plan, toolset)
    match format:
        case "text":
            from .text import text_of  # noqa: PLC0415  # one format at a time

            return text_of(picture, width)
        case "mermaid":
            from .mermaid import mermaid_of  # noqa: PLC0415  # one format at a time

            return mermaid_of(picture)
        case "svg":
            from .svg import svg_of  # noqa: PLC0415  # one format at a time

            return svg_of(picture)
        case _:
            raise ConfigError(f"expected one of the formats {', '.join(FORMATS)}, found {format!r}")


IMPLIED_STEPS_MAX = 2_000
"""Steps of a plan up to which implied waits and waits for effects are drawn: finding them takes the square of the steps in bits."""


@immutable
class PictureNode:
    """One step.

    Attributes:
        stage: From 1.
        kind: The key of its action.
        does: The call or the kind of action, in a few words.
        detail: The prompt, the goal or the expression.
        effect: `pure`, `read`, `model`, `write`, or empty if unknown.
        conditions: `for each ..`, `when ..`, `until ..` and the like, in reading order.
        needs: Positions that it refers to.
        after: Positions that it only waits for.
        implied: The positions of both that it waits for through other steps too.
        ordered: Positions that it waits for because of effects alone, without those that it waits for through other steps.
        row: Its stage if waits for effects count; from 1.
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
    def word(self) -> str:
        """The word for its kind of action: its effect, `set`, or its key."""
        return self.kind if self.kind == "set" else self.effect or self.kind

    @property
    def waits(self) -> tuple[int, ...]:
        """Positions that it waits for."""
        return (*self.needs, *self.after)

    @property
    def direct(self) -> tuple[int, ...]:
        """Positions that it waits for, without the implied ones."""
        return tuple(other for other in self.waits if other not in self.implied)


@immutable
class Picture:
    """A plan, ready to be drawn.

    Attributes:
        nodes: In the plan's order.
        order: Positions in program order.
        output_needs: Positions that the output refers to.
        inner: The plan's own inner plans, titled by their names.
        left_out: What of its task the plan does not do.
        deadline: How long a run may take; empty: as long as it likes.
    """

    title: str
    inputs: tuple[str, ...]
    output: str
    nodes: tuple[PictureNode, ...]
    order: tuple[int, ...]
    output_needs: tuple[int, ...] = ()
    inner: tuple[Picture, ...] = ()
    left_out: tuple[str, ...] = ()
    deadline: str = ""


def picture_of(plan: Plan, toolset: Signatures | Sequence[Signature] | None = None) -> Picture:
    """Return the picture of a plan. O(size of the plan), and of the square of its steps up to `IMPLIED_STEPS_MAX`."""
    tools = signatures_of(toolset or ())
    survey = survey_of(bodies_of(Draft(plan), plan, None), tools)
    inner = (
        replace(_picture(survey, number, plan.plans[name], tools), title=_plain(name))
        for name, number in survey.bodies.units[0].bodies.items()
        if name is not None
    )
    made = _picture(survey, 0, plan, tools)
    return replace(
        made,
        title=_plain(plan.task or plan.description or ""),
        inner=tuple(inner),
        left_out=tuple(map(_plain, plan.left_out)),
        deadline="" if plan.deadline_s is None else duration_text(plan.deadline_s),
    )


def _picture(survey: Survey, number: int, plan: Plan | InnerPlan, tools: Signatures) -> Picture:
    body, order, touches = survey.bodies.every[number], survey.steps[number], survey.touches[number]
    # Of a cycle the order keeps all waits but those that lead back; layers need a graph without cycles.
    rank = {position: at for at, position in enumerate(order)}
    needs, after = (
        [tuple(other for other in found if rank[other] < rank[at]) for at, found in enumerate(every)]
        for every in (
            [refs.needs for refs in body.refs],
            [tuple(other for other in refs.after if other not in refs.needs) for refs in body.refs],
        )
    )
    waits = [(*first, *then) for first, then in zip(needs, after, strict=True)]
    direct, ordered = _direct_and_ordered(waits, touches, order)
    stages = depths(waits, order)
    # Stages follow data alone, as plans are read; rows follow effects too, so that no line of the SVG leads upwards.
    rows = depths([(*data, *effects) for data, effects in zip(waits, ordered, strict=True)], order)
    # Every inner plan counts as one call: it has a picture of its own.
    chain, _ = critical_path(body, order, touches, [1] * len(survey.touches))
    links = [body.position[id_] for id_ in chain]
    before = dict(zip(links, [-1, *links], strict=False))
    nodes = tuple(
        replace(
            _node(step, _effect(step, touches[at], tools), stages[at], needs[at], after[at]),
            implied=frozenset(waits[at]).difference(direct[at]),
            is_critical=at in before,
            ordered=ordered[at],
            row=rows[at],
            critical_from=before.get(at, -1),
            conditions=tuple(map(_plain, _conditions(step, [body.steps[other].id for other in after[at]]))),
        )
        for at, step in enumerate(body.steps)
    )
    inputs = tuple(_plain(_input(name, schema)) for name, schema in plan.inputs.items())
    output = "" if plan.output is None else _plain(_short(plan.output))
    if output and plan.returns is not None:
        output = f"{output}: {_plain(_kind(plan.returns))}"
    return Picture("", inputs, output, nodes, tuple(order), tuple(body.referred(body.output)))


def _direct_and_ordered(
    waits: Sequence[Sequence[int]], touches: Sequence[Touches], order: Sequence[int]
) -> tuple[list[Sequence[int]], list[tuple[int, ...]]]:
    """Return, for each step, the waits that no other wait implies, and the waits that only effects cause."""
    # Without reductions every wait is drawn as a direct one.
    if len(order) > IMPLIED_STEPS_MAX:
        return list(waits), [()] * len(order)
    rank = {position: at for at, position in enumerate(order)}
    # Bits, because the waits of steps that write one resource grow with the square of their number.
    bits = [sum(1 << rank[other] for other in set(others)) for others in waits]
    both = [own | effects for own, effects in zip(bits, effect_waits(touches, order), strict=True)]
    found = direct_waits(both, order)
    # Effects that follow from data need no line of their own.
    ordered = [
        tuple(other for other in others if other not in own) for others, own in zip(found, waits, strict=True)
    ]
    return list(direct_waits(bits, order)), ordered


def effect_waits(touches: Sequence[Touches], order: Sequence[int]) -> list[int]:
    """Return, for each step, the earlier steps that it waits for because of effects, as bits by their place in `order`."""
    tracks: dict[Track, int] = {}
    found = [0] * len(touches)
    for rank, position in enumerate(order):
        for touch in touches[position]:
            for track in touch.awaited:
                found[position] |= tracks.get(track, 0)
        # Only after all touches of the step were asked: a step does not wait for itself.
        for touch in touches[position]:
            for track in touch.tracks:
                tracks[track] = tracks.get(track, 0) | 1 << rank
    return found


def _effect(step: Step, touches: Touches, tools: Signatures) -> str:
    if isinstance(step, CALL_FREE):
        return "pure"
    match step:
        case AskStep():
            return "model"
        case ToolStep(tool=name):
            tool = tools.find(name)
            return "" if tool is None else str(tool.effect)
        case AgentStep() | PlanForStep() | PlanStep():
            # An agent or an inner plan counts by the strongest effect of its tools.
            fallback = "" if isinstance(step, PlanStep) else "model"
            return "write" if is_write(touches) else "read" if touches else fallback


def _node(step: Step, effect: str, stage: int, needs: tuple[int, ...], after: tuple[int, ...]) -> PictureNode:
    kind, does, detail = _action(step)
    return PictureNode(
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


def _action(step: Step) -> tuple[str, str, str]:  # noqa: C901, PLR0911  # one return for each kind of step
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
        case PlanForStep():
            return "plan_for", "plan for", _short(step.plan_for)
        case AskPersonStep():
            return "ask_person", "ask a person", _short(step.ask_person)
        case WaitStep(wait=wait):
            ((kind, value),) = wait.items()
            return "wait", f"wait {kind}", _short(value)
        case FailStep():
            return "fail", "fail", _short(step.fail)
        case EndorseStep():
            return "endorse", f"endorse by {step.by}", _short(step.endorse)


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
    """Return text on one line, without characters that move a cursor, change the direction of text or are not allowed in XML."""
    # Titles and prompts come from models, and the picture may be shown in a terminal or a page.
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def _short(value: Json) -> str:
    """Return a template on one line: a string that is one expression without its `${}`, keys without quotes, other values as JSON."""
    match value:
        case str():
            text = " ".join(value.split())
            # Two expressions in one string also begin with `${` and end with `}`.
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
    """Return the type of an input in a few words: `string`, `list of integer`, the name of a type."""
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
