"""The most that a run of a plan can cost, and its longest chain, both known before the run.

A tool step makes one call, an `ask` step one model call, and a tool with the effect `model` counts as both. An agent step makes at most
`max_steps` model calls and as many tool calls; a `plan_for` step has no bound. Retries (the step's, else the tool's) and `repeat.max` multiply the cost, and so does a
`for_each` over a list whose greatest length the plan itself tells. Other lists depend on data, so a plan with one has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..expressions.nodes import Call, Comprehension, ListOf, Name, Node
from ..immutable import immutable
from ..plan import CALL_FREE, AgentStep, AskStep, PlanForStep, PlanStep, SetStep, Step, ToolStep
from ..program.program import Track
from ..reports.errors import EvaluationError
from ..reports.problems import Bounds
from ..signature import Effect, Signature, Signatures, agent_tools_of
from .body import PlanBody
from .context import CheckContext
from .survey import Survey, Touches
from .templates import Template

NO_LONGER = frozenset({"sorted", "reversed", "distinct", "unique_by", "enumerate", "zip"})
"""Functions that return a list which is at most as long as their first argument."""


@immutable
class Cost:
    """Calls and model calls; `None`: no bound."""

    calls: int | None
    model_calls: int | None

    def __add__(self, other: Cost) -> Cost:
        return Cost(_sum(self.calls, other.calls), _sum(self.model_calls, other.model_calls))

    def times(self, count: int | None) -> Cost:
        """Return the cost of so many repetitions; without a bound on the count only a free step stays bounded."""
        return Cost(_product(self.calls, count), _product(self.model_calls, count))


FREE = Cost(0, 0)
_CALL = Cost(1, 0)
_MODEL_CALL = Cost(1, 1)
_UNKNOWN = Cost(None, None)  # of a sub-plan that is planned in the run: its steps may go over lists


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


def _product(cost: int | None, count: int | None) -> int | None:
    if cost == 0 or count == 0:
        return 0
    return None if cost is None or count is None else cost * count


def bounds_of(context: CheckContext, survey: Survey) -> Bounds:
    """Return the bounds of the plan whose bodies were surveyed. O(steps + references)."""
    bodies = survey.bodies.every
    costs: list[Cost] = [FREE] * len(bodies)
    calls = [0] * len(bodies)
    chain: tuple[str, ...] = ()
    for number in survey.order:
        body, order = bodies[number], survey.steps[number]
        costs[number] = _cost_of(body, costs, _list_lengths(body, order), context.tools)
        found, calls[number] = critical_path(body, order, survey.touches[number], calls)
        if number == 0:
            chain = found
    return Bounds(costs[0].calls, costs[0].model_calls, chain)


def _cost_of(body: PlanBody, inner: Sequence[Cost], lengths: Sequence[int | None], tools: Signatures) -> Cost:
    """Return the most that a body costs.

    Args:
        body: The body.
        inner: By number of body: the cost of the bodies that it runs.
        lengths: The greatest length of each step's `for_each`.
        tools: Which tool asks a model, and which has retries.
    """
    total, single = FREE, 0
    for position, step in enumerate(body.steps):
        once = _cost_once(body, position, inner, tools)
        if once is not FREE:
            repeats = 1 if step.repeat is None else step.repeat.max
            # Multiplying by 1 changes nothing, and most steps have neither retries nor a list.
            times, length = repeats * (1 + _retries(step, tools)), lengths[position]
            if not times == length == 1:
                total += once.times(times).times(length)
            elif once is _CALL:
                single += 1
            else:
                total += once
    return total + Cost(single, 0)


def _retries(step: Step, tools: Signatures) -> int:
    if step.retries is not None:
        return step.retries
    tool = tools.find(step.tool) if isinstance(step, ToolStep) else None
    return int(getattr(tool, "retries", 0))  # only a real tool has a retry policy, a mere signature has none


def _cost_once(body: PlanBody, position: int, inner: Sequence[Cost], tools: Signatures) -> Cost:
    step = body.steps[position]
    if isinstance(step, CALL_FREE):
        return FREE
    match step:
        case ToolStep(tool=name):
            return _cost_of_call(tools.find(name))
        case AskStep():
            return _MODEL_CALL
        case AgentStep(agent=agent):
            return Cost(2 * agent.max_steps, agent.max_steps)
        case PlanForStep():
            return _UNKNOWN
        case PlanStep():
            called = body.calls.get(position)
            return FREE if called is None else inner[called]


def _cost_of_call(tool: Signature | None) -> Cost:
    if (agent := agent_tools_of(tool)) is not None:
        return Cost(agent.max_steps + agent.max_calls, agent.max_steps)
    asks_model = tool is not None and (tool.effect == Effect.MODEL or getattr(tool, "asks_judge", False))
    return _MODEL_CALL if asks_model else _CALL


_Mark: TypeAlias = tuple[int, int, int]
"""Chains compare by their calls, then by their steps, then by the negated position of their last step minus 1."""
_NO_CHAIN: _Mark = (0, 0, 0)


def critical_path(
    body: PlanBody, order: Sequence[int], touches: Sequence[Touches], inner: Sequence[int]
) -> tuple[tuple[str, ...], int]:
    """Return the longest chain of steps that wait for one another, and its number of calls. O(steps + references).

    Of two chains, the one with more calls is longer, then the one with more steps, then the one that ends earlier in the plan. Waits for
    effects count. Each track keeps only the longest chain that ends on it: that needs no edges, of which there may be many for each step.

    Args:
        body: The body.
        order: Its steps in program order.
        touches: The resources that each step touches.
        inner: By number of body: the calls of the longest chain of the bodies that it runs.
    """
    tracks: dict[Track, _Mark] = {}
    marks = [_NO_CHAIN] * len(body.steps)
    before = [-1] * len(body.steps)
    for position in order:
        longest = max([marks[other] for other in body.refs[position].waits], default=_NO_CHAIN)
        for touch in touches[position]:
            for track in touch.awaited:
                longest = max(longest, tracks.get(track, _NO_CHAIN))
        # The mark holds the position of the chain's last step, so the chain can be followed back without storing edges.
        before[position] = -1 - longest[2]
        marks[position] = (
            longest[0] + _chain_calls(body, position, inner),
            longest[1] + 1,
            -1 - position,
        )
        for touch in touches[position]:
            for track in touch.tracks:
                tracks[track] = max(marks[position], tracks.get(track, _NO_CHAIN))
    longest = max(marks, default=_NO_CHAIN)
    chain: list[str] = []
    at = -1 - longest[2]
    while at >= 0:
        chain.append(body.steps[at].id)
        at = before[at]
    return tuple(reversed(chain)), longest[0]


def _chain_calls(body: PlanBody, position: int, inner: Sequence[int]) -> int:
    step = body.steps[position]
    if isinstance(step, ToolStep):  # asked first, because most steps are
        return 1
    if isinstance(step, CALL_FREE):
        return 0
    called = body.calls.get(position)
    return 1 if called is None else inner[called]


_LengthOf: TypeAlias = Callable[[str], "int | None"]


def _list_lengths(body: PlanBody, order: Sequence[int]) -> list[int | None]:
    """Return the greatest length of each step's `for_each`: 1 without one, `None` if it depends on data. O(references)."""
    lengths: list[int | None] = [1] * len(body.steps)
    values: list[int | None] = [None] * len(body.steps)

    def length_of(name: str) -> int | None:
        position = body.position.get(name)
        return None if position is None else values[position]

    for position in order:
        step = body.steps[position]
        if "for_each" in step.templates:
            lengths[position] = values[position] = _length(step.templates["for_each"], length_of)
        # A fallback may be a list of any length.
        elif isinstance(step, SetStep) and step.on_error in ("fail", "skip"):
            values[position] = _length(step.templates["set"], length_of)
    return lengths


def _length(template: Template, length_of: _LengthOf) -> int | None:
    if isinstance(template.value, list):
        return len(template.value)
    if template.faults or not template.formula.leaves:
        return None
    # A template without references, such as `${range(5)}`, is evaluated; it needs no run.
    if template.formula.constant:
        try:
            value = template.formula.evaluate({})
        except EvaluationError:
            return None
        return len(value) if isinstance(value, list) else None
    whole = template.formula.leaves[0].whole
    node = None if whole is None else whole.parsed.node
    return None if node is None else _node_length(node, length_of)


def _node_length(node: Node, length_of: _LengthOf) -> int | None:
    match node:
        case Name(name=name):
            return length_of(name)
        case ListOf(items=items):
            return len(items)
        case Comprehension(value=None, clauses=(clause,)):
            return _node_length(clause.iterable, length_of)
        case Call(function=function, arguments=(first, *_)) if function in NO_LONGER:
            return _node_length(first, length_of)
        case _:
            return None
