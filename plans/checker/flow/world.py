"""The world of a body: which labelled data the writes of a plan have left in which resources.

A write stores its arguments in its resource, and a later step that touches this resource, in the order of effects, may get them back. So a write labels its
resource, and the value of a later read, or write, of the resource has that label. `world` conflicts with every resource: a write of `world` labels all of them,
and a step that touches `world` gets what any of them holds.

Nothing removes a label: whether a later write replaces what an earlier one stored is not known. A run begins with a clean world: what earlier runs have stored
is not known either.

In an inner plan one bit stands for what each resource held at the call. This module knows no templates: `labels.py` says what a step stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from ...immutable import record
from ...program.program import WORLD, Touch


@record
class World:
    """The resources of one body, while its steps are labelled in program order.

    Attributes:
        bits: Resource -> the bit that stands for what it held when the body was called.
        stored: Resource -> label of what the body's writes have left there.
    """

    bits: Mapping[str, int]
    stored: dict[str, int] = field(default_factory=dict[str, int])
    _writers: dict[str, dict[int, int]] = field(default_factory=dict[str, "dict[int, int]"])

    def held(self, resource: str) -> int:
        """Return the label of what a step gets that touches a resource now."""
        label = self.bits.get(resource, 0)
        if resource != WORLD:
            return label | self.stored.get(resource, 0) | self.stored.get(WORLD, 0)
        for stored in self.stored.values():
            label |= stored
        return label

    def held_by(self, touches: Iterable[Touch]) -> int:
        """Return the label of what a step gets that touches some resources now."""
        label = 0
        for touch in touches:
            label |= self.held(touch.resource)
        return label

    def store(self, resource: str, label: int, position: int, bits: Iterable[int]) -> None:
        """Let a step store data in a resource.

        Args:
            resource: The resource.
            label: The label of the data.
            position: The step.
            bits: The bits of which `writer` can be asked.
        """
        if not label:
            return
        self.stored[resource] = self.stored.get(resource, 0) | label
        writers = self._writers.setdefault(resource, {})
        for bit in bits:
            if label & bit:
                writers.setdefault(bit, position)

    def writer(self, touches: Iterable[Touch], bits: int, reader: int) -> int | None:
        """Return the first other step that stored data with one of some bits where `reader`, which touches some resources, gets it.

        Args:
            touches: What the reader touches.
            bits: The bits that are looked for.
            reader: The position of the reader.
        """
        for touch in touches:
            resources = self._writers if touch.resource == WORLD else (touch.resource, WORLD)
            for resource in resources:
                for bit, position in self._writers.get(resource, {}).items():
                    if bit & bits and position != reader:
                        return position
        return None


def conflict(one: str, other: str) -> bool:
    """Whether a write of one resource may change what is read from another."""
    return one == other or WORLD in (one, other)
