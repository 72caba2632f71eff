"""The syntax of expressions as our own small tree: all that an expression can be.

Nodes are immutable and know where they stand (`start`, `end`: characters from the expression's first). Names are
already resolved: `Name` leads out of the expression (a step, `inputs`, `item`, `index`, `prev`), `Local` is a loop
or lambda name with its place in the frame. There is no node for what the language refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal as OneOf
from typing import TypeAlias

from ..values import Json


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, `True`, `False` or `None`, as written."""

    start: int
    end: int
    value: Json


@dataclass(frozen=True, slots=True)
class Constant:
    """What a sub-expression without references was folded to; never written, never printed."""

    start: int
    end: int
    value: Json


@dataclass(frozen=True, slots=True)
class Broken:
    """A constant sub-expression that has no value: the fault was reported, nothing more is said of it."""

    start: int
    end: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Name:
    """A name from outside the expression."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Local:
    """A loop or lambda name; `slot` is its place in the frame."""

    start: int
    end: int
    name: str
    slot: int


@dataclass(frozen=True, slots=True)
class Field:
    """`base.name`."""

    start: int
    end: int
    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """`base[key]`."""

    start: int
    end: int
    base: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Slice:
    """`base[low:high:step]`."""

    start: int
    end: int
    base: Node
    low: Node | None
    high: Node | None
    step: Node | None


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x`, `+x` or `not x`."""

    start: int
    end: int
    operator: OneOf["-", "+", "not"]
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic: `+ - * / // % **`."""

    start: int
    end: int
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain of comparisons: `first op rest[0] op rest[1] ..`."""

    start: int
    end: int
    first: Node
    operators: tuple[str, ...]
    rest: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Logic:
    """`a and b and ..`, or with `or`: gives one of the operands."""

    start: int
    end: int
    operator: OneOf["and", "or"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """`then if test else otherwise`."""

    start: int
    end: int
    test: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b]`."""

    start: int
    end: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """`{"a": x}`."""

    start: int
    end: int
    keys: tuple[Node, ...]
    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """`for targets in iterable if condition ..`; more than one target unpacks each item."""

    targets: tuple[Local, ...]
    iterable: Node
    conditions: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """A list comprehension, a dict comprehension (`value` is there) or a generator argument (evaluated as a list)."""

    start: int
    end: int
    generator: bool
    element: Node
    value: Node | None
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Lambda:
    """`lambda x: body`, only as `key=`."""

    start: int
    end: int
    parameter: Local
    body: Node


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments, key=.., reverse=..)`."""

    start: int
    end: int
    function: str
    arguments: tuple[Node, ...]
    key: Lambda | None
    reverse: Node | None


@dataclass(frozen=True, slots=True)
class Method:
    """`base.name(arguments)`, a method of text."""

    start: int
    end: int
    base: Node
    name: str
    arguments: tuple[Node, ...]


Node: TypeAlias = (
    Literal
    | Constant
    | Broken
    | Name
    | Local
    | Field
    | Index
    | Slice
    | Unary
    | Binary
    | Compare
    | Logic
    | Condition
    | ListOf
    | DictOf
    | Comprehension
    | Call
    | Method
)


def children(node: Node) -> Iterator[Node]:  # noqa: C901, PLR0912  # one case for each kind of node
    """Yield the sub-expressions of a node, in the order in which they are written."""
    match node:
        case Literal() | Constant() | Broken() | Name() | Local():
            pass
        case Field():
            yield node.base
        case Index():
            yield node.base
            yield node.key
        case Slice():
            yield node.base
            yield from (part for part in (node.low, node.high, node.step) if part is not None)
        case Unary():
            yield node.operand
        case Binary():
            yield node.left
            yield node.right
        case Compare():
            yield node.first
            yield from node.rest
        case Logic():
            yield from node.operands
        case Condition():
            yield node.then
            yield node.test
            yield node.otherwise
        case ListOf():
            yield from node.items
        case DictOf():
            for key, value in zip(node.keys, node.values, strict=True):
                yield key
                yield value
        case Comprehension():
            yield node.element
            if node.value is not None:
                yield node.value
            for clause in node.clauses:
                yield clause.iterable
                yield from clause.conditions
        case Call():
            yield from node.arguments
            if node.key is not None:
                yield node.key.body
            if node.reverse is not None:
                yield node.reverse
        case Method():
            yield node.base
            yield from node.arguments


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:  # noqa: C901, PLR0911, PLR0912  # as `children`
    """Return the same node with every sub-expression changed, visited in the order of `children`."""
    match node:
        case Literal() | Constant() | Broken() | Name() | Local():
            return node
        case Field():
            return replace(node, base=change(node.base))
        case Index():
            return replace(node, base=change(node.base), key=change(node.key))
        case Slice():
            base = change(node.base)
            low, high, step = (
                None if part is None else change(part) for part in (node.low, node.high, node.step)
            )
            return replace(node, base=base, low=low, high=high, step=step)
        case Unary():
            return replace(node, operand=change(node.operand))
        case Binary():
            return replace(node, left=change(node.left), right=change(node.right))
        case Compare():
            return replace(node, first=change(node.first), rest=tuple(map(change, node.rest)))
        case Logic():
            return replace(node, operands=tuple(map(change, node.operands)))
        case Condition():
            then, test = change(node.then), change(node.test)
            return replace(node, then=then, test=test, otherwise=change(node.otherwise))
        case ListOf():
            return replace(node, items=tuple(map(change, node.items)))
        case DictOf():
            pairs = [(change(key), change(value)) for key, value in zip(node.keys, node.values, strict=True)]
            return replace(
                node, keys=tuple([key for key, _ in pairs]), values=tuple([value for _, value in pairs])
            )
        case Comprehension():
            element = change(node.element)
            value = None if node.value is None else change(node.value)
            clauses = [
                Clause(clause.targets, change(clause.iterable), tuple(map(change, clause.conditions)))
                for clause in node.clauses
            ]
            return replace(node, element=element, value=value, clauses=tuple(clauses))
        case Call():
            arguments = tuple(map(change, node.arguments))
            key = None if node.key is None else replace(node.key, body=change(node.key.body))
            reverse = None if node.reverse is None else change(node.reverse)
            return replace(node, arguments=arguments, key=key, reverse=reverse)
        case Method():
            return replace(node, base=change(node.base), arguments=tuple(map(change, node.arguments)))


def bound(node: Node) -> frozenset[int]:
    """Return the places of the loop and lambda names that a node gives values to."""
    match node:
        case Comprehension():
            return frozenset([target.slot for clause in node.clauses for target in clause.targets])
        case Call(key=Lambda(parameter=parameter)):
            return frozenset({parameter.slot})
        case _:
            return frozenset()
