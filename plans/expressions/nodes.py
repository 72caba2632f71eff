"""The syntax of expressions as our own small tree: all that an expression can be.

Nodes are immutable and know where they stand (`start`, `end`: characters from the expression's first). Names are
already resolved: `Name` leads out of the expression (a step, `inputs`, `item`, `index`, `prev`), `Local` is a loop
or lambda name with its place in the frame. There is no node for what the language refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal as OneOf
from typing import TypeAlias

from ..immutable import immutable
from ..values import Json


@immutable
class Located:
    """Where a node stands, and what it is made of."""

    start: int
    end: int

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return ()


@immutable
class Literal(Located):
    """A number, a text, `True`, `False` or `None`, as written."""

    value: Json


@immutable
class Constant(Located):
    """What a sub-expression without references was folded to; never written, never printed."""

    value: Json


@immutable
class Broken(Located):
    """A constant sub-expression that has no value: the problem was reported, nothing more is said of it."""

    code: str
    message: str


@immutable
class Name(Located):
    """A name from outside the expression."""

    name: str


@immutable
class Local(Located):
    """A loop or lambda name; `slot` is its place in the frame."""

    name: str
    slot: int


@immutable
class Field(Located):
    """`base.name`."""

    base: Node
    name: str

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.base,)


@immutable
class Index(Located):
    """`base[key]`."""

    base: Node
    key: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.base, self.key)


@immutable
class Slice(Located):
    """`base[low:high:step]`."""

    base: Node
    low: Node | None
    high: Node | None
    step: Node | None

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return tuple([part for part in (self.base, self.low, self.high, self.step) if part is not None])


@immutable
class Unary(Located):
    """`-x`, `+x` or `not x`."""

    operator: OneOf["-", "+", "not"]
    operand: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.operand,)


@immutable
class Binary(Located):
    """Arithmetic: `+ - * / // % **`."""

    operator: str
    left: Node
    right: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.left, self.right)


@immutable
class Compare(Located):
    """A chain of comparisons: `first op rest[0] op rest[1] ..`."""

    first: Node
    operators: tuple[str, ...]
    rest: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.first, *self.rest)


@immutable
class Logic(Located):
    """`a and b and ..`, or with `or`: gives one of the operands."""

    operator: OneOf["and", "or"]
    operands: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return self.operands


@immutable
class Condition(Located):
    """`then if test else otherwise`."""

    test: Node
    then: Node
    otherwise: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.then, self.test, self.otherwise)


@immutable
class ListOf(Located):
    """`[a, b]`."""

    items: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return self.items


@immutable
class DictOf(Located):
    """`{"a": x}`."""

    keys: tuple[Node, ...]
    values: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return tuple([part for pair in zip(self.keys, self.values, strict=True) for part in pair])


@immutable
class Clause:
    """`for targets in iterable if condition ..`; more than one target unpacks each item."""

    targets: tuple[Local, ...]
    iterable: Node
    conditions: tuple[Node, ...]


@immutable
class Comprehension(Located):
    """A list comprehension, a dict comprehension (`value` is there) or a generator argument (evaluated as a list)."""

    generator: bool
    element: Node
    value: Node | None
    clauses: tuple[Clause, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        made = [self.element] if self.value is None else [self.element, self.value]
        for clause in self.clauses:
            made += [clause.iterable, *clause.conditions]
        return tuple(made)


@immutable
class Lambda:
    """`lambda x: body`, only as `key=`."""

    start: int
    end: int
    parameter: Local
    body: Node


@immutable
class Call(Located):
    """`function(arguments, key=.., reverse=..)`."""

    function: str
    arguments: tuple[Node, ...]
    key: Lambda | None
    reverse: Node | None

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        if self.key is None and self.reverse is None:
            return self.arguments
        others = (None if self.key is None else self.key.body, self.reverse)
        return (*self.arguments, *[part for part in others if part is not None])


@immutable
class Method(Located):
    """`base.name(arguments)`, a method of text."""

    base: Node
    name: str
    arguments: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """Its sub-expressions, in the order in which they are written."""
        return (self.base, *self.arguments)


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


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and every node inside it, outside first."""
    yield node
    for part in node.parts:
        yield from walk(part)


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:  # noqa: C901, PLR0911, PLR0912  # one case for each kind of node
    """Return the same node with every sub-expression changed, visited in the order of `parts`."""
    start, end = node.start, node.end
    match node:
        case Literal() | Constant() | Broken() | Name() | Local():
            return node
        case Field():
            return Field(start, end, change(node.base), node.name)
        case Index():
            base = change(node.base)
            return Index(start, end, base, change(node.key))
        case Slice():
            base = change(node.base)
            low, high, step = (
                None if part is None else change(part) for part in (node.low, node.high, node.step)
            )
            return Slice(start, end, base, low, high, step)
        case Unary():
            return Unary(start, end, node.operator, change(node.operand))
        case Binary():
            left = change(node.left)
            return Binary(start, end, node.operator, left, change(node.right))
        case Compare():
            first = change(node.first)
            return Compare(start, end, first, node.operators, tuple(map(change, node.rest)))
        case Logic():
            return Logic(start, end, node.operator, tuple(map(change, node.operands)))
        case Condition():
            then, test = change(node.then), change(node.test)
            return Condition(start, end, test, then, change(node.otherwise))
        case ListOf():
            return ListOf(start, end, tuple(map(change, node.items)))
        case DictOf():
            pairs = [(change(key), change(value)) for key, value in zip(node.keys, node.values, strict=True)]
            return DictOf(start, end, tuple([key for key, _ in pairs]), tuple([value for _, value in pairs]))
        case Comprehension():
            element = change(node.element)
            value = None if node.value is None else change(node.value)
            clauses = [
                Clause(clause.targets, change(clause.iterable), tuple(map(change, clause.conditions)))
                for clause in node.clauses
            ]
            return Comprehension(start, end, node.generator, element, value, tuple(clauses))
        case Call():
            arguments = tuple(map(change, node.arguments))
            key = node.key and Lambda(node.key.start, node.key.end, node.key.parameter, change(node.key.body))
            reverse = None if node.reverse is None else change(node.reverse)
            return Call(start, end, node.function, arguments, key, reverse)
        case Method():
            base = change(node.base)
            return Method(start, end, base, node.name, tuple(map(change, node.arguments)))


def bound(node: Node) -> frozenset[int]:
    """Return the places of the loop and lambda names that a node gives values to."""
    match node:
        case Comprehension():
            return frozenset([target.slot for clause in node.clauses for target in clause.targets])
        case Call(key=Lambda(parameter=parameter)):
            return frozenset({parameter.slot})
        case _:
            return frozenset()


# --- What an expression refers to outside itself.


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
