"""The syntax of expressions as our own small tree: all that an expression can be.

Nodes are immutable and know where they stand (`start`, `end`: characters from the expression's first). Names are
already resolved: `Name` leads out of the expression (a step, `inputs`, `item`, `index`, `prev`), `Local` is a loop
or lambda name with its place in the frame. There is no node for what the language refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, cast
from typing import Literal as OneOf

from ..immutable import immutable
from ..values import Json


@immutable
class Located:
    """Where a node stands in the text of its expression, and its sub-expressions."""

    start: int
    end: int

    inner: ClassVar[tuple[str, ...]] = ()
    """The attributes that hold sub-expressions, in the order in which they are written: all that walkers need to know of a kind of node."""

    @property
    def parts(self) -> tuple[Node, ...]:
        """The sub-expressions, in the order in which they are written."""
        found: list[Node] = []
        for name in self.inner:
            value = getattr(self, name)
            if isinstance(value, Located):
                found.append(cast("Node", value))
            elif value is not None:
                _collect(value, found)
        return tuple(found)


@immutable
class Literal(Located):
    """A number, a text, `True`, `False` or `None`, as written."""

    value: Json


@immutable
class Constant(Located):
    """The value that a sub-expression without references was folded to; never written, never printed."""

    value: Json


@immutable
class Broken(Located):
    """A constant sub-expression that has no value: its problem is reported already, so no other problem is derived from it."""

    code: str
    message: str


@immutable
class Name(Located):
    """A name from outside the expression."""

    name: str


@immutable
class Local(Located):
    """A use of a loop or lambda name; `slot` is its place in the frame."""

    name: str
    slot: int


@immutable
class Target:
    """The place where a `for` or a lambda binds a name. No sub-expression: walkers do not visit it."""

    start: int
    end: int
    name: str
    slot: int


@immutable
class Field(Located):
    """`base.name`."""

    base: Node
    name: str
    inner: ClassVar[tuple[str, ...]] = ("base",)


@immutable
class Index(Located):
    """`base[key]`."""

    base: Node
    key: Node
    inner: ClassVar[tuple[str, ...]] = ("base", "key")


@immutable
class Slice(Located):
    """`base[low:high:step]`."""

    base: Node
    low: Node | None
    high: Node | None
    step: Node | None
    inner: ClassVar[tuple[str, ...]] = ("base", "low", "high", "step")


@immutable
class Unary(Located):
    """`-x`, `+x` or `not x`."""

    operator: OneOf["-", "+", "not"]
    operand: Node
    inner: ClassVar[tuple[str, ...]] = ("operand",)


@immutable
class Binary(Located):
    """Arithmetic: `+ - * / // % **`."""

    operator: str
    left: Node
    right: Node
    inner: ClassVar[tuple[str, ...]] = ("left", "right")

    @property
    def parts(self) -> tuple[Node, ...]:
        """The sub-expressions. The general way, for the commonest operation, would be a tenth of reading a large plan."""
        return (self.left, self.right)


@immutable
class Compare(Located):
    """A chain of comparisons: `first op rest[0] op rest[1] ..`."""

    first: Node
    operators: tuple[str, ...]
    rest: tuple[Node, ...]
    inner: ClassVar[tuple[str, ...]] = ("first", "rest")


@immutable
class Logic(Located):
    """`a and b and ..`, or with `or`: gives one of the operands."""

    operator: OneOf["and", "or"]
    operands: tuple[Node, ...]
    inner: ClassVar[tuple[str, ...]] = ("operands",)


@immutable
class Condition(Located):
    """`then if test else otherwise`."""

    test: Node
    then: Node
    otherwise: Node
    inner: ClassVar[tuple[str, ...]] = ("then", "test", "otherwise")


@immutable
class ListOf(Located):
    """`[a, b]`."""

    items: tuple[Node, ...]
    inner: ClassVar[tuple[str, ...]] = ("items",)


@immutable
class DictOf(Located):
    """`{"a": x}`, as pairs of key and value."""

    pairs: tuple[tuple[Node, Node], ...]
    inner: ClassVar[tuple[str, ...]] = ("pairs",)


@immutable
class Clause:
    """`for targets in iterable if condition ..`; more than one target unpacks each item."""

    targets: tuple[Target, ...]
    iterable: Node
    conditions: tuple[Node, ...]
    inner: ClassVar[tuple[str, ...]] = ("iterable", "conditions")


@immutable
class Comprehension(Located):
    """A list comprehension, a dict comprehension (`value` is there) or a generator argument (evaluated as a list)."""

    generator: bool
    element: Node
    value: Node | None
    clauses: tuple[Clause, ...]
    inner: ClassVar[tuple[str, ...]] = ("element", "value", "clauses")


@immutable
class Lambda:
    """`lambda x: body`, only as `key=`."""

    start: int
    end: int
    parameter: Target
    body: Node
    inner: ClassVar[tuple[str, ...]] = ("body",)


@immutable
class Call(Located):
    """`function(arguments, key=.., reverse=.., name=..)`.

    Attributes:
        names: The names of the arguments that are given by other names than `key` and `reverse`, such as `days` of `timedelta(days=7)`.
        named: What stands behind these names.
    """

    function: str
    arguments: tuple[Node, ...]
    key: Lambda | None
    reverse: Node | None
    names: tuple[str, ...] = ()
    named: tuple[Node, ...] = ()
    inner: ClassVar[tuple[str, ...]] = ("arguments", "key", "reverse", "named")


@immutable
class Method(Located):
    """`base.name(arguments)`, a method of text."""

    base: Node
    name: str
    arguments: tuple[Node, ...]
    inner: ClassVar[tuple[str, ...]] = ("base", "arguments")


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

_Held: TypeAlias = "Node | Clause | Lambda | tuple[_Held, ...] | None"


def _collect(held: _Held, found: list[Node]) -> None:
    if isinstance(held, tuple):
        for part in held:
            _collect(part, found)
    elif isinstance(held, Located):
        found.append(held)
    elif held is not None:
        for name in held.inner:
            _collect(getattr(held, name), found)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and every node inside it, outside first."""
    yield node
    for part in node.parts:
        yield from walk(part)


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return the same node with every sub-expression changed, visited in the order of `parts`."""
    return replace(node, **_changes(node, change)) if node.inner else node


def _changes(of: Located | Clause | Lambda, change: Callable[[Node], Node]) -> dict[str, Any]:
    return {name: _changed(getattr(of, name), change) for name in of.inner}


def _changed(held: _Held, change: Callable[[Node], Node]) -> _Held:
    if isinstance(held, tuple):
        return tuple([_changed(part, change) for part in held])
    if isinstance(held, Located):
        return change(held)
    return None if held is None else replace(held, **_changes(held, change))


def bound(node: Node) -> frozenset[int]:
    """Return the slots of the loop and lambda names that a node gives values to."""
    match node:
        case Comprehension():
            return frozenset([target.slot for clause in node.clauses for target in clause.targets])
        case Call(key=Lambda(parameter=parameter)):
            return frozenset({parameter.slot})
        case _:
            return NO_SLOTS


NO_SLOTS: frozenset[int] = frozenset()


# --- References: the names that an expression uses from outside


ROOTS = ("inputs", "item", "index", "prev")
"""The names of an expression that are no steps."""
_NOTHING: frozenset[str] = frozenset()


@immutable
class References:
    """The names of an expression, or of several.

    Attributes:
        strict: Step ids referred to outside `first(..)`.
        lenient: Step ids referred to inside `first(..)`, whether outside too or not.
        roots: Which of `inputs`, `item`, `index` and `prev` are used.
        inputs: Input names used as `inputs.x` or `inputs["x"]`; empty if `inputs` is also used in any other way, so that every input
            counts as used.
    """

    strict: frozenset[str] = _NOTHING
    lenient: frozenset[str] = _NOTHING
    roots: frozenset[str] = _NOTHING
    inputs: frozenset[str] = _NOTHING


NOTHING = References()


def references(node: Node) -> References:
    """Return what an expression refers to. Linear in it."""
    strict: list[str] = []
    lenient: list[str] = []
    roots: list[str] = []
    inputs: list[str] = []
    uses_all = False
    waiting = [(node, False)]  # nodes, each with whether it stands inside `first(..)`
    while waiting:
        node, in_first = waiting.pop()
        if isinstance(node, Name):
            (roots if node.name in ROOTS else lenient if in_first else strict).append(node.name)
            uses_all = uses_all or node.name == "inputs"
        elif (name := _input_name(node)) is not None:
            roots.append("inputs")
            inputs.append(name)
        elif isinstance(node, Field):
            waiting.append((node.base, in_first))
        elif not isinstance(node, Literal):
            in_first = in_first or (isinstance(node, Call) and node.function == "first")
            waiting += [(part, in_first) for part in node.parts]
    return References(
        _fixed(strict), _fixed(lenient), _fixed(roots), _NOTHING if uses_all else _fixed(inputs)
    )


def _input_name(node: Node) -> str | None:
    """Return the input that a node takes by its name: `inputs.x` or `inputs["x"]`."""
    if not isinstance(node, Field | Index) or not isinstance(node.base, Name) or node.base.name != "inputs":
        return None
    if isinstance(node, Field):
        return node.name
    return node.key.value if isinstance(node.key, Literal) and isinstance(node.key.value, str) else None


def joined_references(every: list[References]) -> References:
    """Return what several expressions refer to together."""
    if len(every) == 1:
        return every[0]
    steps: set[str] = set()
    others: list[References] = []
    for one in every:
        steps |= one.strict
        if one.lenient or one.roots:
            others.append(one)
    strict = _fixed(steps)
    if not others:  # most refer to steps only
        return References(strict)
    uses_all = any("inputs" in one.roots and not one.inputs for one in others)
    return References(
        strict,
        _fixed(_NOTHING.union(*[one.lenient for one in others])),
        _fixed(_NOTHING.union(*[one.roots for one in others])),
        _NOTHING if uses_all else _fixed(_NOTHING.union(*[one.inputs for one in others])),
    )


def _fixed(names: Collection[str]) -> frozenset[str]:
    # A large plan has very many empty sets, and an empty frozenset of its own takes 200 bytes.
    return frozenset(names) or _NOTHING
