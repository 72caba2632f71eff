"""Constant folding: every sub-expression that refers to nothing is evaluated before the plan runs.

What it gives replaces it (`Constant`). What it faults with is reported, and it becomes `Broken`, of which nothing more is
said. An expression shares one budget of work among its constant parts, as it has one budget when it runs. Large results
are not kept, since a plan would hold them for as long as it lives: such a part is worked out again at run time.

Inside `first(..)` something absent is passed over and is no fault: `first({}["a"], 1)` is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..faults import EvalFault, Fault
from .evaluate import evaluate_closed
from .frame import Frame, weigh
from .nodes import Broken, Call, Constant, Literal, Local, Name, Node, bound, mapped

KEPT_MAX = 1_000  # parts of a folded value that a plan keeps


def fold(node: Node) -> tuple[Node, list[Fault]]:
    """Return the expression with its constant parts worked out, and their faults in the order of the text."""
    if not _Scan().finds(node):
        return node, []
    folding = _Folding()
    kept = folding.part(node).kept
    return kept, sorted(folding.faults, key=lambda fault: (fault.start, fault.end))


_NOTHING: frozenset[int] = frozenset()


class _Scan:
    """Looks for constant operations without building anything, since most expressions have none."""

    def __init__(self) -> None:
        self.found = False

    def finds(self, node: Node) -> bool:
        """Whether some part that is no literal refers to nothing."""
        self._needs(node)
        return self.found

    def _needs(self, node: Node) -> frozenset[int] | None:
        """Return the loop and lambda names that a part takes from around it; `None` if it leads out of the expression."""
        if isinstance(node, Literal | Constant):
            return _NOTHING
        if isinstance(node, Name | Broken):
            return None
        if isinstance(node, Local):
            return frozenset({node.slot})
        needs: frozenset[int] | None = _NOTHING
        for part in node.parts:
            inner = self._needs(part)
            needs = None if needs is None or inner is None else (needs | inner if inner else needs)
        if needs is None or (isinstance(node, Call) and node.function == "secret"):
            return None
        needs -= bound(node)
        self.found = self.found or not needs
        return needs


@dataclass(frozen=True, slots=True)
class _Part:
    """A sub-expression on its way up.

    Attributes:
        original: As it was written.
        folded: A `Constant` if it has a value of its own, else the same with folded parts.
        needs: Places of the loop and lambda names it takes from around it; `None` if it leads out of the expression.
    """

    original: Node
    folded: Node
    needs: frozenset[int] | None

    @property
    def kept(self) -> Node:
        """What stands in the finished expression."""
        if isinstance(self.folded, Constant) and weigh(self.folded.value, KEPT_MAX) > KEPT_MAX:
            return self.original
        return self.folded


class _Folding:
    """The folding of one expression."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._budget = Frame({}, 0)
        self._firsts = 0  # calls of `first` around the part that is looked at

    def part(self, node: Node) -> _Part:
        match node:
            case Literal() | Constant():
                return _Part(node, node, _NOTHING)
            case Local():
                return _Part(node, node, frozenset({node.slot}))
            case Broken() | Name() | Call(function="secret"):
                return _Part(node, node, None)
            case _:
                return self._operation(node)

    def _operation(self, node: Node) -> _Part:
        parts: list[_Part] = []

        def visit(child: Node) -> Node:
            parts.append(self.part(child))
            return parts[-1].folded

        is_first = isinstance(node, Call) and node.function == "first"
        self._firsts += is_first
        folded = mapped(node, visit)
        self._firsts -= is_first
        needs = _needs(node, parts)
        if needs is not None and not needs:
            return self._constant(node, folded)
        kept = iter([part.kept for part in parts])
        return _Part(node, mapped(node, lambda _child: next(kept)), needs)

    def _constant(self, node: Node, folded: Node) -> _Part:
        try:
            value = evaluate_closed(folded, self._budget)
        except EvalFault as fault:
            if self._firsts and fault.is_missing:
                return _Part(node, node, _NOTHING)
            code = "limit-exceeded" if fault.code == "limit-exceeded" else "bad-expr"
            self.faults.append(Fault(code, str(fault), "", "", node.start, node.end))
            return _Part(node, Broken(node.start, node.end, code, str(fault)), None)
        return _Part(node, Constant(node.start, node.end, value), _NOTHING)


def _needs(node: Node, parts: Sequence[_Part]) -> frozenset[int] | None:
    found = _NOTHING
    for part in parts:
        if part.needs is None:
            return None
        found |= part.needs
    return found - bound(node)
