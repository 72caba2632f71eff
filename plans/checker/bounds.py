"""The most that a run of a plan can cost, and its longest chain: known before it runs.

A tool step makes a call, an `ask` step a model call, a tool with the effect `model` both in one; an agent step makes at most
`max_steps` model calls and as many tool calls. `retries` of the step, else of the tool, and `repeat.max` multiply, and so does a `for_each` whose list has
a known greatest length; where it has none, the number depends on data and there is no bound.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..immutable import immutable
from ..plan import AgentStep, AskStep, PlanStep, SetStep, Step, ToolStep
from ..problems import Bounds
from ..signature import Effect, Signatures
from .body import Body
from .effects import NOTHING, EffectOrder, Touches


@immutable
class Cost:
    """Calls and model calls; `None`: no bound."""

    calls: int | None
    model_calls: int | None

    def __add__(self, other: Cost) -> Cost:
        return Cost(_sum(self.calls, other.calls), _sum(self.model_calls, other.model_calls))

    def times(self, count: int | None) -> Cost:
        """Return the cost of that many times the same; no bound on the count leaves none unless it costs nothing."""
        return Cost(_product(self.calls, count), _product(self.model_calls, count))


FREE = Cost(0, 0)
_CALL = Cost(1, 0)
_MODEL_CALL = Cost(1, 1)


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left + right


def _product(cost: int | None, count: int | None) -> int | None:
    if cost == 0 or count == 0:
        return 0
    return None if cost is None or count is None else cost * count


def cost_of(body: Body, inner: Sequence[Cost], lengths: Sequence[int | None], toolset: Signatures) -> Cost:
    """Return the most that a body costs; `lengths` has the greatest length of each step's list (1 without `for_each`)."""
    total = FREE
    for position, step in enumerate(body.steps):
        once = _once(body, position, step, inner, toolset)
        if once is not FREE:
            repeats = 1 if step.repeat is None else step.repeat.max
            times, length = repeats * (1 + _retries(step, toolset)), lengths[position]
            total += once if times == length == 1 else once.times(times).times(length)
    return total


def _retries(step: Step, toolset: Signatures) -> int:
    if step.retries is not None:
        return step.retries
    tool = toolset.find(step.tool) if isinstance(step, ToolStep) else None
    return int(getattr(tool, "retries", 0))  # a policy of the tool: what is only a signature has none


def _once(body: Body, position: int, step: Step, inner: Sequence[Cost], toolset: Signatures) -> Cost:
    match step:
        case ToolStep(tool=name):
            tool = toolset.find(name)
            return _MODEL_CALL if tool is not None and tool.effect == Effect.MODEL else _CALL
        case AskStep():
            return _MODEL_CALL
        case AgentStep(agent=agent):
            return Cost(2 * agent.max_steps, agent.max_steps)
        case PlanStep():
            called = body.calls.get(position)
            return FREE if called is None else inner[called]
        case SetStep():
            return FREE


def critical_path(
    body: Body, order: Sequence[int], touches: Sequence[Touches], inner: Sequence[int]
) -> tuple[tuple[str, ...], int]:
    """Return the longest chain of steps that wait for one another, and how many calls it makes one after another.

    A chain is longer if it makes more calls, then if it has more steps, then if it ends earlier in the plan; effects count as
    waits. `inner` has the calls of the chains of the bodies that it runs. O(steps + references).
    """
    effects = EffectOrder()
    marks = [NOTHING] * len(body.steps)
    before = [-1] * len(body.steps)
    for position in order:
        waits = max((marks[other] for other in body.refs[position].waits), default=NOTHING)
        waits = max(waits, effects.before(touches[position]))
        before[position] = -1 - waits[2]
        calls = _chain_calls(body, position, inner)
        marks[position] = (waits[0] + calls, waits[1] + 1, -1 - position)
        effects.add(touches[position], marks[position])
    longest = max(marks, default=NOTHING)
    chain: list[str] = []
    at = -1 - longest[2]
    while at >= 0:
        chain.append(body.steps[at].id)
        at = before[at]
    return tuple(reversed(chain)), longest[0]


def _chain_calls(body: Body, position: int, inner: Sequence[int]) -> int:
    step = body.steps[position]
    if isinstance(step, SetStep):
        return 0
    called = body.calls.get(position)
    return 1 if called is None else inner[called]


def bounds_of(cost: Cost, chain: tuple[str, ...]) -> Bounds:
    """Return bounds as reports have them."""
    return Bounds(cost.calls, cost.model_calls, chain)
