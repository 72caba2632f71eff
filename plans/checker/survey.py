"""All bodies of a plan surveyed: orders, effects and labels, without any type.

The check judges by it and the compiler builds on it. Each body is looked at once, after those that it runs; where plans run
themselves, or steps wait for one another, the orders hold everything still, and `runs_itself` and `circular` say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import program_order
from ..limits import LIMITS, Limits
from ..signature import Signatures
from .body import Bodies
from .effects import Touches, joined, touches_of
from .flow import Flow, flow_of
from .labels import Summary


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of every body, by its number.

    Attributes:
        order: Numbers of the bodies, each after those that it runs.
        runs_itself: Whether a plan runs itself, directly or through others.
        steps: For each body: the positions of its steps in program order.
        circular: Numbers of bodies whose steps wait for one another in a circle.
        touches: For each body: what each of its steps touches.
    """

    bodies: Bodies
    order: tuple[int, ...]
    runs_itself: bool
    steps: tuple[list[int], ...]
    circular: tuple[int, ...]
    touches: tuple[tuple[Touches, ...], ...]
    flows: tuple[Flow, ...]


def survey_of(bodies: Bodies, toolset: Signatures, limits: Limits = LIMITS) -> Survey:
    """Survey all bodies. O(their steps and references)."""
    order, is_order = program_order(bodies.callees)
    steps: list[list[int]] = []
    circular: list[int] = []
    for number, body in enumerate(bodies.every):
        in_order, is_body_order = program_order([refs.waits for refs in body.refs])
        steps.append(in_order)
        if not is_body_order or any(refs.refers_to_self for refs in body.refs):
            circular.append(number)
    count = len(bodies.every)
    touches: list[tuple[Touches, ...]] = [()] * count
    together: list[Touches] = [()] * count
    summaries = [Summary()] * count
    flows: dict[int, Flow] = {}
    for number in order:
        touches[number] = touches_of(bodies.every[number], together, toolset)
        together[number] = joined(touches[number])
        flows[number] = flow_of(bodies.every[number], steps[number], summaries, toolset, limits)
        summaries[number] = flows[number].summary
    return Survey(
        bodies,
        tuple(order),
        not is_order,
        tuple(steps),
        tuple(circular),
        tuple(touches),
        tuple(flows[number] for number in range(count)),
    )
