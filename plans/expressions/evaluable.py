"""A template made ready to be evaluated, and to be spelled at once where it mostly passes on what is spelled already.

Both are made when first asked for: a plan has many templates, and a check evaluates none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeAlias, cast

from ..faults import Skipped
from ..values import Json, canonical
from .evaluate import compile_node
from .frame import CHARACTERS_MAX, Frame
from .functions import text_of
from .nodes import Name
from .tree import Branch, Leaf, Tree

Scope: TypeAlias = Mapping[str, "Json | Skipped"]
Run: TypeAlias = "Callable[[Scope], Json]"
Splice: TypeAlias = "bytes | str | Run"  # as it is; the whole value of a name; what is computed


def compiled(tree: Tree) -> Run:
    """Return the function that evaluates a template. It raises `EvalFault`, or `RefersToSkipped`."""
    if isinstance(tree, Branch):
        return _branch(tree.value, [(key, compiled(part)) for key, part in tree.parts.items()])
    if tree.whole is not None:
        return compile_node(tree.whole.reading.folded)
    return _text(
        [piece if isinstance(piece, str) else compile_node(piece.reading.folded) for piece in tree.pieces]
    )


def _branch(value: list[Json] | dict[str, Json], parts: list[tuple[int | str, Run]]) -> Run:
    def run(scope: Scope) -> Json:
        made: list[Json] | dict[str, Json] = value.copy()
        for name, part in parts:
            made[name] = part(scope)  # type: ignore[index]  # keys are the container's own
        return made

    return run


def _text(pieces: list[str | Run]) -> Run:
    def run(scope: Scope) -> Json:
        frame, length = Frame(scope, 0), 0
        made: list[str] = []
        for piece in pieces:
            made.append(piece if isinstance(piece, str) else text_of(frame, piece(scope)))
            length += len(made[-1])
            if length > CHARACTERS_MAX:
                frame.pay_text(length)  # says what is too long
        return "".join(made)

    return run


class Form(NamedTuple):
    """A template that only passes on whole values: its canonical spelling, with `%b` for each, and their names in order."""

    text: bytes
    names: tuple[str, ...]


def form_of(splices: Sequence[Splice], names: AbstractSet[str]) -> Form | None:
    """Return the form of a template that nothing but the whole values of these names goes into; `None`: it has none."""
    whole = [part for part in splices if not isinstance(part, bytes)]
    if not all(isinstance(part, str) and part in names for part in whole):
        return None
    text = [part.replace(b"%", b"%%") if isinstance(part, bytes) else b"%b" for part in splices]
    return Form(b"".join(text), tuple(cast("list[str]", whole)))


def spliced(value: Json, tree: Tree | None) -> list[Splice]:
    """Return the parts that a template's canonical spelling is put together from, as few as possible."""
    made: list[Splice] = []
    _splice(value, tree, made)
    return made


def _splice(value: Json, tree: Tree | None, made: list[Splice]) -> None:
    if tree is None:
        _add_text(made, canonical(value))
    elif isinstance(tree, Leaf):
        whole = tree.whole
        node = None if whole is None else whole.reading.folded
        made.append(node.name if isinstance(node, Name) else compiled(tree))
    elif isinstance(tree.value, dict):
        before = b"{"
        for name in sorted(tree.value):
            _add_text(made, before + canonical(name) + b":")
            _splice(tree.value[name], tree.parts.get(name), made)
            before = b","
        _add_text(made, b"}")
    else:
        before = b"["
        for place, part in enumerate(tree.value):
            _add_text(made, before)
            _splice(part, tree.parts.get(place), made)
            before = b","
        _add_text(made, b"]")


def _add_text(made: list[Splice], text: bytes) -> None:
    last = made[-1] if made else None
    if isinstance(last, bytes):
        made[-1] = last + text
    else:
        made.append(text)
