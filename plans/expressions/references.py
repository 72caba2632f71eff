"""What an expression refers to outside itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from .nodes import Call, Field, Index, Literal, Name, Node, children

ROOTS = ("inputs", "item", "index", "prev")


@dataclass(slots=True)
class References:
    """The names of an expression, or of several.

    Attributes:
        strict: Step ids referred to outside `first(..)`.
        lenient: Step ids referred to inside `first(..)`, whether outside too or not.
        roots: Which of `inputs`, `item`, `index` and `prev` are used.
        inputs: Input names used as `inputs.x` or `inputs["x"]`.
        all_inputs: Whether `inputs` is used in any other way, so that every input counts as used.
    """

    strict: set[str] = field(default_factory=set[str])
    lenient: set[str] = field(default_factory=set[str])
    roots: set[str] = field(default_factory=set[str])
    inputs: set[str] = field(default_factory=set[str])
    all_inputs: bool = False


def references(*nodes: Node) -> References:
    """Return what expressions refer to. Linear in them."""
    found = References()
    for node in nodes:
        _walk(node, found, inside_first=False)
    return found


def _walk(node: Node, found: References, *, inside_first: bool) -> None:
    match node:
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
        case Call(function="first"):
            for part in children(node):
                _walk(part, found, inside_first=True)
        case _:
            for part in children(node):
                _walk(part, found, inside_first=inside_first)
