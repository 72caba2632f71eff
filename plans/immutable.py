"""Values of which a plan has very many: frozen for every reader and type checker, but quick to make.

A frozen dataclass sets its attributes the slow way, three times as long as an open one; with some hundred thousand nodes and
references in a large plan that is much of a check. Type checkers hold these to be frozen, and nobody changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True)
def immutable(of: type[_Class]) -> type[_Class]:
    """Make a class a slotted dataclass whose instances are equal and hash alike by their attributes."""
    return dataclass(slots=True, unsafe_hash=True)(of)
