"""The bounds of the plan language, by name.

Every bound exists so that a hostile plan costs linear time and bounded memory; none should be felt by an honest one.
Bounds of expressions (length, depth, work) stand with the expressions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What `check` admits; hand it another to raise a bound.

    Attributes:
        text_bytes_max: Length of a plan's text in bytes.
        steps_max: Steps of a plan, its inner plans included.
        nesting_max: How many plans may run inside one another.
        tainted_hops_max: Steps of a flow that a message spells out; longer flows are told by both ends.
        named_parts_max: Parts of the named types that the schemas of a plan rest on, counted for each schema that does.
        suggestions_max: Problems of one report that get a nearest name: finding one costs time for every name.
    """

    text_bytes_max: int = 64 * 1024 * 1024
    steps_max: int = 200_000
    nesting_max: int = 32
    tainted_hops_max: int = 64
    named_parts_max: int = 300_000
    suggestions_max: int = 100


LIMITS = Limits()
