"""The limits of plans, by name.

Every limit exists so that a hostile plan costs linear time and bounded memory; no honest plan should reach one.
Limits of expressions (length, depth, work) are in `expressions/`.
"""

from __future__ import annotations

from .immutable import frozen


@frozen
class Limits:
    """The limits of one check; pass another value to raise one.

    Attributes:
        text_bytes_max: Length of a plan's text in bytes.
        steps_max: Steps of a plan, its inner plans included.
        nesting_max: How many plans may run inside one another.
        tainted_hops_max: Steps of a flow that a message lists; of longer flows it lists the last ones.
        named_parts_max: Parts of the named types that the schemas of a plan rest on, counted for each schema.
        work_max: Operations of a whole check: what the constant expressions of all bodies visit and make, in the units of
            `expressions/operators.py`. A check past it ends with that one problem.
        suggestions_max: Problems of one report that get a nearest name: finding one compares all names.
    """

    text_bytes_max: int = 64 * 1024 * 1024
    steps_max: int = 200_000
    nesting_max: int = 32
    tainted_hops_max: int = 64
    named_parts_max: int = 300_000
    work_max: int = 5_000_000
    suggestions_max: int = 100


LIMITS = Limits()
