"""What steps do to the world: the resources they touch, and the order this forces.

On one resource, in program order, a write waits for every earlier read and write, and a read for every earlier write;
`"world"` conflicts with every resource. A `plan` step has the effects of its inner steps, an `agent` step those of its tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from ..plan import AgentStep, PlanStep, Step, ToolStep
from ..program import Touch
from ..signature import Effect, Signature, Signatures
from .body import Body

WORLD = "world"
Touches = tuple[Touch, ...]


def touches_of(body: Body, inner: Sequence[Touches], toolset: Signatures) -> tuple[Touches, ...]:
    """Return what each step of a body touches; `inner` has what the bodies that it runs touch."""
    shared: dict[Touches, Touches] = {}
    made = (_touches(body, position, step, inner, toolset) for position, step in enumerate(body.steps))
    return tuple(shared.setdefault(touches, touches) for touches in made)


def joined(every: Iterable[Touches]) -> Touches:
    """Return what all of them touch together, sorted by resource."""
    writes: dict[str, bool] = {}
    for touches in every:
        for touch in touches:
            writes[touch.resource] = writes.get(touch.resource, False) or touch.writes
    return tuple(Touch(resource, writes[resource]) for resource in sorted(writes))


def is_write(touches: Touches) -> bool:
    """Whether any resource is written."""
    return any(touch.writes for touch in touches)


def _touches(body: Body, position: int, step: Step, inner: Sequence[Touches], toolset: Signatures) -> Touches:
    match step:
        case ToolStep(tool=name):
            return _of_tool(toolset.find(name))
        case AgentStep(agent=agent):
            return joined(_of_tool(toolset.find(name)) for name in agent.tools)
        case PlanStep():
            called = body.calls.get(position)
            return () if called is None else inner[called]
        case _:
            return ()


def _of_tool(tool: Signature | None) -> Touches:
    if tool is None or tool.effect not in (Effect.READ, Effect.WRITE):
        return ()
    return (Touch(tool.resource, tool.effect == Effect.WRITE),)


Mark: TypeAlias = tuple[int, int, int]
"""What steps are compared by: calls of the longest chain up to a step, its steps, and the step's position counted down from -1."""
NOTHING: Mark = (0, 0, 0)


class EffectOrder:
    """The waits that effects force, met step by step in program order.

    Instead of edges, of which there may be many for each step, it keeps the largest mark of what came before on each resource.
    """

    def __init__(self) -> None:
        self._write: dict[str, Mark] = {}
        self._any: dict[str, Mark] = {}
        self._all_writes = NOTHING
        self._all = NOTHING

    def before(self, touches: Touches) -> Mark:
        """Return the largest mark among the steps that one with these effects waits for."""
        most = NOTHING
        for touch in touches:
            if touch.resource == WORLD:
                most = max(most, self._all if touch.writes else self._all_writes)
            else:
                met = self._any if touch.writes else self._write
                most = max(most, met.get(touch.resource, NOTHING), met.get(WORLD, NOTHING))
        return most

    def add(self, touches: Touches, mark: Mark) -> None:
        """Note a step's effects."""
        for touch in touches:
            self._any[touch.resource] = max(mark, self._any.get(touch.resource, NOTHING))
            self._all = max(mark, self._all)
            if touch.writes:
                self._write[touch.resource] = max(mark, self._write.get(touch.resource, NOTHING))
                self._all_writes = max(mark, self._all_writes)


def effect_waits(touches: Sequence[Touches], order: Sequence[int]) -> list[tuple[int, ...]]:
    """Return whom each step waits for because of what both do to the world; waits that follow from these are left out.

    O(steps + waits): what a write waited for, later steps on the resource wait for by way of it.
    """
    waits: list[tuple[int, ...]] = [()] * len(touches)
    writes: dict[str, list[int]] = {}
    reads: dict[str, list[int]] = {}
    for position in order:
        found: set[int] = set()
        for touch in touches[position]:
            places = [*{**writes, **reads}] if touch.resource == WORLD else [touch.resource, WORLD]
            for place in places:
                found.update(writes.get(place, ()))
                if touch.writes:
                    found.update(reads.get(place, ()))
        for touch in touches[position]:
            if touch.writes:
                for place in [*{**writes, **reads}] if touch.resource == WORLD else [touch.resource]:
                    writes.pop(place, None)
                    reads.pop(place, None)
                writes[touch.resource] = [position]
            else:
                reads.setdefault(touch.resource, []).append(position)
        waits[position] = tuple(sorted(found - {position}))
    return waits


def unsafe_retries(body: Body, toolset: Signatures) -> Iterator[tuple[str, str, str]]:
    """Yield path, message and hint of every step whose `retries` may repeat a write that cannot tell what became of it."""
    for position, step in enumerate(body.steps):
        if not step.retries or position in body.broken:
            continue
        names = (
            (step.tool,)
            if isinstance(step, ToolStep)
            else step.agent.tools
            if isinstance(step, AgentStep)
            else ()
        )
        for name in names:
            tool = toolset.find(name)
            if tool is None or tool.effect != Effect.WRITE or tool.idempotent or tool.can_reconcile:
                continue
            message = f"step '{step.id}' retries the write '{name}', which may have happened although it seemed to fail"
            hint = "leave 'retries' out, or make the tool idempotent, or give it a 'reconcile'"
            yield f"{body.path(position)}.retries", message, hint
            break
