"""What an expression refers to outside itself."""

from __future__ import annotations

from ..immutable import immutable
from .nodes import Call, Field, Index, Literal, Name, Node

ROOTS = ("inputs", "item", "index", "prev")
_NOTHING: frozenset[str] = frozenset()


@immutable
class References:
    """The names of an expression, or of several.

    Attributes:
        strict: Step ids referred to outside `first(..)`.
        lenient: Step ids referred to inside `first(..)`, whether outside too or not.
        roots: Which of `inputs`, `item`, `index` and `prev` are used.
        inputs: Input names used as `inputs.x` or `inputs["x"]`.
        all_inputs: Whether `inputs` is used in any other way, so that every input counts as used.
    """

    strict: frozenset[str] = _NOTHING
    lenient: frozenset[str] = _NOTHING
    roots: frozenset[str] = _NOTHING
    inputs: frozenset[str] = _NOTHING
    all_inputs: bool = False


NOTHING = References()


class _Names:
    __slots__ = ("all_inputs", "inputs", "lenient", "roots", "strict")

    def __init__(self) -> None:
        self.strict: list[str] = []
        self.lenient: list[str] = []
        self.roots: list[str] = []
        self.inputs: list[str] = []
        self.all_inputs = False

    def add(self, name: str, *, inside_first: bool) -> None:
        if name in ROOTS:
            self.roots.append(name)
            self.all_inputs = self.all_inputs or name == "inputs"
        elif inside_first:
            self.lenient.append(name)
        else:
            self.strict.append(name)


def references(node: Node) -> References:
    """Return what an expression refers to. Linear in it."""
    found = _Names()
    _walk(node, found, inside_first=False)
    return References(
        _fixed(found.strict),
        _fixed(found.lenient),
        _fixed(found.roots),
        _fixed(found.inputs),
        found.all_inputs,
    )


def _fixed(names: list[str]) -> frozenset[str]:
    return frozenset(names) if names else _NOTHING


def together(every: list[References]) -> References:
    """Return what several expressions refer to."""
    if len(every) == 1:
        return every[0]
    return References(
        _joined([one.strict for one in every]),
        _joined([one.lenient for one in every]),
        _joined([one.roots for one in every]),
        _joined([one.inputs for one in every]),
        any(one.all_inputs for one in every),
    )


def _joined(every: list[frozenset[str]]) -> frozenset[str]:
    some = [names for names in every if names]
    return _NOTHING.union(*some) if some else _NOTHING  # an empty set of its own would take 200 bytes


def _walk(node: Node, found: _Names, *, inside_first: bool) -> None:
    if isinstance(node, Literal):
        return
    if isinstance(node, Field | Index) and isinstance(node.base, Name):
        name = _part(node)
        if name is not None and node.base.name == "inputs":
            found.roots.append("inputs")
            found.inputs.append(name)
            return
        found.add(node.base.name, inside_first=inside_first)
        if isinstance(node, Index):
            _walk(node.key, found, inside_first=inside_first)
    elif isinstance(node, Name):
        found.add(node.name, inside_first=inside_first)
    else:
        inside = inside_first or (isinstance(node, Call) and node.function == "first")
        for part in node.parts:
            _walk(part, found, inside_first=inside)


def _part(node: Field | Index) -> str | None:
    """Return the name of the part that is taken, if it is written out."""
    if isinstance(node, Field):
        return node.name
    return node.key.value if isinstance(node.key, Literal) and isinstance(node.key.value, str) else None
