"""What an expression refers to outside itself."""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(slots=True)
class _Names:
    strict: set[str] = field(default_factory=set[str])
    lenient: set[str] = field(default_factory=set[str])
    roots: set[str] = field(default_factory=set[str])
    inputs: set[str] = field(default_factory=set[str])
    all_inputs: bool = False


def references(node: Node) -> References:
    """Return what an expression refers to. Linear in it."""
    found = _Names()
    _walk(node, found, inside_first=False)
    return References(
        *[
            frozenset(names) if names else _NOTHING
            for names in (found.strict, found.lenient, found.roots, found.inputs)
        ],
        found.all_inputs,
    )


def together(every: list[References]) -> References:
    """Return what several expressions refer to."""
    if len(every) == 1:
        return every[0]
    return References(
        _NOTHING.union(*[one.strict for one in every]),
        _NOTHING.union(*[one.lenient for one in every]),
        _NOTHING.union(*[one.roots for one in every]),
        _NOTHING.union(*[one.inputs for one in every]),
        any(one.all_inputs for one in every),
    )


def _walk(node: Node, found: _Names, *, inside_first: bool) -> None:
    match node:
        case Literal():
            return
        case Name(name=name):
            if name == "inputs":
                found.all_inputs = True
            if name in ROOTS:
                found.roots.add(name)
            else:
                (found.lenient if inside_first else found.strict).add(name)
        case (
            Field(base=Name(name="inputs"), name=name)
            | Index(base=Name(name="inputs"), key=Literal(value=str() as name))
        ):
            found.roots.add("inputs")
            found.inputs.add(name)
        case _:
            inside = inside_first or (isinstance(node, Call) and node.function == "first")
            for part in node.parts:
                _walk(part, found, inside_first=inside)
