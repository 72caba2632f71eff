"""The shape of a template: which parts of a JSON value are not plain.

Plain parts are not looked at again: a tree has a node only for a string that holds something to work out, and for the
lists and objects around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..immutable import immutable
from ..values import Json
from .pieces import Expression


@immutable
class Leaf:
    """One string of a template that is not plain.

    Attributes:
        inner: Where it stands inside the value, such as `.city` or `[0].x`; empty for the value itself.
        pieces: Its texts and its expressions, in order.
    """

    inner: str
    pieces: tuple[str | Expression, ...]

    @property
    def whole(self) -> Expression | None:
        """The expression that is the whole string, or `None` if the string is text with expressions in it."""
        only = self.pieces[0]
        return only if len(self.pieces) == 1 and isinstance(only, Expression) else None

    @property
    def expressions(self) -> Iterator[Expression]:
        """Its expressions, in order."""
        return (piece for piece in self.pieces if isinstance(piece, Expression))


@immutable
class Branch:
    """A list or an object of a template that is not plain.

    Attributes:
        value: As the plan has it.
        parts: Those of its items or fields that are not plain, by index or key.
    """

    value: list[Json] | dict[str, Json]
    parts: dict[int | str, Tree]


Tree: TypeAlias = Leaf | Branch


def unescaped(value: Json, tree: Tree | None) -> Json:
    """Return a template's value with the escapes undone in its strings without expressions; the others stay as they are."""
    match tree:
        case Leaf(pieces=(str() as text,)):
            return text
        case Branch(parts=parts):
            if isinstance(value, list):
                return [unescaped(part, parts.get(at)) for at, part in enumerate(value)]
            if isinstance(value, dict):
                return {name: unescaped(part, parts.get(name)) for name, part in value.items()}
            return value
        case _:
            return value


def spelled_tree(tree: Tree) -> Json:
    """Return a template's value with its expressions in canonical spelling."""
    if isinstance(tree, Leaf):
        return "".join(
            [piece.replace("${", "$${") if isinstance(piece, str) else piece.spelled for piece in tree.pieces]
        )
    made: list[Json] | dict[str, Json] = tree.value.copy()
    for name, part in tree.parts.items():
        made[name] = spelled_tree(part)  # type: ignore[index]  # keys are the container's own
    return made
