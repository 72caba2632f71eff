"""The types of expressions, computed before anything runs, and the problems of their operands.

Every node has a type. A node with a reported problem has the type `NEVER`, so that no other problem is derived from it. Conditions do not narrow:
`x if x is not None else y` may be null if `x` may; `first(x, y)` is the way to say it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, assert_never

from ..immutable import immutable
from ..reports.codes import is_error
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing
from ..types.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    type_of,
    union,
    without_null,
)
from ..values import Json, into
from . import nodes
from . import type_rules as rules
from .evaluate import is_exact
from .function_types import FUNCTION_TYPES, METHOD_TYPES, Argument, FunctionUse
from .functions import FUNCTIONS
from .nodes import Node
from .template import Branch, Expression, Leaf, Tree
from .type_rules import A_TEXT, NOBODY, ExpressionProblems, TupleType, items_of, joined, listed, operand

if TYPE_CHECKING:
    from .formula import Formula


@immutable
class Inferred:
    """The types of a template's value and of its computed parts.

    Attributes:
        type: Of the whole value.
        problems: The problems of the expressions, placed as `LocalProblem` says.
        leaves: The type of each string with expressions, by its path inside the value; `NEVER` if the string has an error.
        branches: The type of each list and object that holds such a string at any depth, by its path.
        moments: The types of those strings that are one expression of dates, by path, before a date became its text; `None`: not kept.
    """

    type: Type
    problems: Sequence[LocalProblem]
    leaves: Mapping[str, Type] = field(default_factory=dict[str, "Type"])
    branches: Mapping[str, Type] = field(default_factory=dict[str, "Type"])
    moments: Mapping[str, Type] | None = None


def infer(
    formula: Formula,
    scope: Mapping[str, Type],
    *,
    suggestions: bool = True,
    callers: Mapping[str, str] = NOBODY,
) -> Inferred:
    """Return the types of a template, and the problems of its operands; problems of its text are those of the parser.

    Args:
        formula: The template.
        scope: The type of each name: step ids, `inputs`, `item`, `index`, `prev`.
        suggestions: Whether hints name the nearest known name; each search compares all names.
        callers: The step that calls a tool, by the tool's name, for hints.
    """
    if formula.tree is None:
        return Inferred(type_of(formula.value), [])
    inferring = _Inference(scope, suggestions=suggestions, callers=callers)
    tree = formula.tree
    found = inferring.leaf(tree) if isinstance(tree, Leaf) else inferring.branch(tree, "")
    return Inferred(found, inferring.problems, inferring.leaves, inferring.branches, inferring.moments)


def infer_fields(
    formula: Formula,
    scope: Mapping[str, Type],
    *,
    suggestions: bool = True,
    callers: Mapping[str, str] = NOBODY,
) -> Inferred:
    """Return the types of the parts of a template that is an object, as `infer` does, but not the type of the whole object.

    Args:
        formula: The template.
        scope: As of `infer`.
        suggestions: As of `infer`.
        callers: As of `infer`.
    """
    inferring = _Inference(scope, suggestions=suggestions, callers=callers)
    # The fields of a large plan's arguments are nearly all that it has, and nobody asks for the types of their objects.
    for name, tree in formula.tree.parts.items() if isinstance(formula.tree, Branch) else ():
        inferring.part(tree, None, "", name)
    return Inferred(UNKNOWN, inferring.problems, inferring.leaves, inferring.branches)


class _Inference:
    """The inference of one template; one object for all of its expressions, because a plan has very many."""

    def __init__(
        self, scope: Mapping[str, Type], *, suggestions: bool = True, callers: Mapping[str, str] = NOBODY
    ) -> None:
        self.scope = scope
        self._suggestions = suggestions
        self._callers = callers
        self.locals: dict[int, Type] = {}
        self.problems: list[LocalProblem] = []
        self.leaves: dict[str, Type] = {}
        self.branches: dict[str, Type] = {}
        self.moments: dict[str, Type] = {}

    @cached_property
    def findings(self) -> ExpressionProblems:
        """The problems of one expression; moved to `problems` when it is done, since a doubt is reported once an expression."""
        return ExpressionProblems("", self._suggestions, self._callers)

    # The parts of a template

    def part(self, tree: Tree | None, value: Json, inner: str, name: str | int) -> Type:
        """Return the type of one part of the list or object at `inner`."""
        if tree is None:
            return type_of(value)
        return self.leaf(tree) if isinstance(tree, Leaf) else self.branch(tree, into(inner, name))

    def branch(self, branch: Branch, inner: str) -> Type:
        """Return the type of the list or object at `inner`."""
        value, parts = branch.value, branch.parts
        if isinstance(value, dict):
            types = [self.part(parts.get(name), part, inner, name) for name, part in value.items()]
            made: Type = object_of(tuple(value), types)
        else:
            made = listed([self.part(parts.get(at), part, inner, at) for at, part in enumerate(value)])
        # The check compares the type of each list and object on the way with its place, so all of them are kept.
        self.branches[inner] = made
        return made

    def leaf(self, leaf: Leaf) -> Type:
        """Return the type of a string."""
        whole = leaf.pieces[0]
        if isinstance(whole, Expression) and len(leaf.pieces) == 1:
            made = self._expression(whole, leaf)
        elif found := [self._expression(expression, leaf) for expression in leaf.expressions]:
            made = None if None in found else TEXT
            self.moments.pop(leaf.inner, None)  # it is a part of a text
        else:
            return type_of("".join(piece for piece in leaf.pieces if isinstance(piece, str)))
        # A string with an error fits every place, so that its place does not report it again.
        self.leaves[leaf.inner] = made or NEVER
        return made or NEVER

    def _expression(self, expression: Expression, leaf: Leaf) -> Type | None:
        """Return the type of an expression; `None` if it has an error."""
        parsed = expression.parsed
        folded = parsed.folding()
        has_error = not parsed.is_path and bool(parsed.misread or folded.problems)
        # The fast path reports nothing, so it may not answer for a text that has a problem.
        plain = None if has_error else plain_type(folded.node, self.scope)
        if plain is not None:
            return plain
        findings = self.findings
        findings.text = parsed.text
        findings.has_dates = False
        found = self.type(folded.node)
        if findings.has_dates:
            self.moments[leaf.inner] = found
            found = rules.without_dates(found)
        if findings.problems:
            has_error = has_error or any(map(is_error, findings.problems))
            self.problems += [problem.moved(leaf.inner, expression.start) for problem in findings.problems]
            findings.problems = []
        return None if has_error else found

    # The nodes of an expression

    def type(self, node: Node) -> Type:  # noqa: C901, PLR0911, PLR0912  # one case, one line for each kind of node
        match node:
            case nodes.Literal() | nodes.Constant():
                return exact(node.value)
            case nodes.Broken():
                return NEVER
            case nodes.Name():
                return self._name(node)
            case nodes.Local():
                return self.locals.get(node.slot, NEVER)
            case nodes.Field():
                return self._field(node, node.name)
            # `inputs["x"]` names an input as `inputs.x` does, so an unknown one is `unknown-ref` and not `unknown-field`.
            case nodes.Index(key=nodes.Literal(value=str() as key)) if isinstance(node.base, nodes.Name):
                return self._field(node, key)
            case nodes.Index():
                return self._index(node)
            case nodes.Slice():
                bounds = [
                    (part, self.type(part)) for part in (node.low, node.high, node.step) if part is not None
                ]
                return rules.cut(self.findings, node, self.type(node.base), bounds)
            case nodes.Unary():
                of = self.type(node.operand)
                return (
                    BOOLEAN
                    if node.operator == "not"
                    else rules.signed(self.findings, node, node.operator, of)
                )
            case nodes.Binary():
                return self._binary(node)
            case nodes.Compare():
                return self._compare(node)
            case nodes.Logic():
                return self._logic(node)
            case nodes.Condition():
                # The test does not choose a branch: conditions do not narrow types.
                self.type(node.test)
                return joined([self.type(node.then), self.type(node.otherwise)])
            case nodes.ListOf():
                return listed([self.type(item) for item in node.items])
            case nodes.DictOf():
                return self._dict(node)
            case nodes.Comprehension():
                return self._comprehension(node)
            case nodes.Call():
                return self._call(node)
            case nodes.Method():
                rule = METHOD_TYPES[node.name]
                arguments = [self._argument(part) for part in (node.base, *node.arguments)]
                return rule(FunctionUse(self.findings, node, f".{node.name}(..)", arguments))
            case _:
                assert_never(node)

    def _index(self, node: nodes.Index) -> Type:
        base, key = self.type(node.base), self.type(node.key)
        if isinstance(node.key, nodes.Name) and node.key.name not in self.scope:
            rules.unquoted(self.findings, node, base, node.key)
        return rules.index(self.findings, node, base, key)

    def _argument(self, node: Node) -> Argument:
        return node, self.type(node)

    def _name(self, node: nodes.Name, following: str | None = None) -> Type:
        found = self.scope.get(node.name)
        if found is None:
            message, hint = unknown_name(
                node.name,
                following,
                self.scope,
                suggestions=self.findings.suggestions,
                caller=self.findings.callers.get(node.name),
            )
            self.findings.add("unknown-ref", node, message, hint)
            return NEVER
        # `first(prev, ..)` says what holds in the first iteration; every other use of `prev` is doubtful there.
        if node.name == "prev":
            self.findings.missing(node, "'prev' is absent in the first iteration")
            return without_null(found)
        return found

    def _field(self, node: nodes.Field | nodes.Index, name: str) -> Type:
        if not isinstance(node.base, nodes.Name):
            return rules.field_of(self.findings, node, self.type(node.base), name)
        base = self._name(node.base, name)
        # An input that is not declared is a wrong name, not a wrong part, and its hint lists the inputs.
        if node.base.name == "inputs" and isinstance(base, ObjectType) and name not in base.fields:
            message, hint = unknown_input(name, base.fields, suggestions=self.findings.suggestions)
            self.findings.add("unknown-ref", node, message, hint)
            return NEVER
        return (
            rules.field_of(self.findings, node, base, name)
            if isinstance(node, nodes.Field)
            else rules.index(self.findings, node, base, exact(name))
        )

    def _binary(self, node: nodes.Binary) -> Type:
        left, right = self._argument(node.left), self._argument(node.right)
        # Only an exponent as written decides that the result is an integer; `evaluate.operator_of` asks the same.
        if node.operator == "**" and is_exact(node.right):
            return rules.exact_power(self.findings, node, left, right)
        return rules.arithmetic(self.findings, node, node.operator, left, right)

    def _compare(self, node: nodes.Compare) -> Type:
        left = self._argument(node.first)
        for operator, part in zip(node.operators, node.rest, strict=True):
            right = self._argument(part)
            if operator in {"in", "not in"}:
                rules.contains(self.findings, node, operator, left, right)
            elif operator in {"<", "<=", ">", ">="}:
                rules.ordering(self.findings, node, operator, left, right)
            else:
                rules.equality(self.findings, node, operator, left, right)
            left = right
        return BOOLEAN

    def _logic(self, node: nodes.Logic) -> Type:
        # `a and b` gives `a` only where `a` is false, and `a or b` only where `a` is true; the last operand is given as it is.
        *most, last = [self.type(part) for part in node.operands]
        keep = rules.falsy if node.operator == "and" else rules.truthy
        return union(*map(keep, most), last)

    def _dict(self, node: nodes.DictOf) -> Type:
        fields: dict[str, Type] = {}
        computed: list[Type] = []
        for name, value in node.pairs:
            found = self.type(value)
            if isinstance(name, nodes.Literal | nodes.Constant) and isinstance(name.value, str):
                fields[name.value] = found
            else:
                operand(self.findings, name, self.type(name), A_TEXT, "a key of an object")
                computed.append(found)
        # A computed key may be equal to a written one and replace its value.
        return ObjectType(
            {name: Property(union(found, *computed)) for name, found in fields.items()},
            union(*computed) if computed else None,
        )

    def _comprehension(self, node: nodes.Comprehension) -> Type:
        for clause in node.clauses:
            self._bind(clause)
            for condition in clause.conditions:
                self.type(condition)
        # Clauses first, although they are written last: they bind the names that the element uses.
        element = self.type(node.element)
        if node.value is None:
            return ListType(element)
        operand(self.findings, node.element, element, A_TEXT, "a key of an object")
        return ObjectType({}, self.type(node.value))

    def _bind(self, clause: nodes.Clause) -> None:
        of = self.type(clause.iterable)
        item = items_of(self.findings, clause.iterable, of, "'for'")
        if any(isinstance(member, ObjectType) for member in members(of)):
            self._hint_items(clause)
        if len(clause.targets) == 1:
            self.locals[clause.targets[0].slot] = item
            return
        for target, found in zip(clause.targets, self._unpacked(clause, item), strict=True):
            self.locals[target.slot] = found

    def _hint_items(self, clause: nodes.Clause) -> None:
        source = self.findings.source(clause.iterable)
        hint = f"write 'in items({source})' for keys and values, 'in keys({source})' for its keys"
        self.findings.rehint("bad-expr", clause.iterable, hint)

    def _unpacked(self, clause: nodes.Clause, item: Type) -> Sequence[Type]:
        """Return the types of the names of a clause that takes each item apart."""
        wanted = len(clause.targets)
        if isinstance(item, TupleType):
            if len(item.cells) == wanted:
                return item.cells
            message = (
                f"'for' with {wanted} names takes lists of {wanted} items, found lists of {len(item.cells)}"
            )
            self.findings.add("bad-expr", clause.iterable, message)
            return [NEVER] * wanted
        return [items_of(self.findings, clause.iterable, item, f"'for' with {wanted} names")] * wanted

    def _call(self, node: nodes.Call) -> Type:
        if node.function == "first":
            return self._first(node.arguments)
        if node.function == "secret":
            return TEXT
        arguments = [self._argument(part) for part in node.arguments]
        key, parts = None, None
        if node.key is not None:
            # The lambda gets single items: those of the only list, or the arguments themselves.
            of = (
                arguments[0][1]
                if len(arguments) == 1
                else ListType(joined([found for _, found in arguments]))
            )
            lists = [member for member in members(of) if isinstance(member, ListType | Unknown)]
            self.locals[node.key.parameter.slot] = joined(
                [member.item if isinstance(member, ListType) else UNKNOWN for member in lists]
            )
            parts = self._key_parts(node.key.body)
            key = (
                self._argument(node.key.body)
                if parts is None
                else (node.key.body, listed([of for _, of in parts]))
            )
        reverse = None if node.reverse is None else self._argument(node.reverse)
        named = {name: self._argument(part) for name, part in zip(node.names, node.named, strict=True)}
        use = FunctionUse(self.findings, node, f"{node.function}(..)", arguments, key, reverse, parts, named)
        return FUNCTION_TYPES[node.function](use)

    def _key_parts(self, body: Node) -> Sequence[Argument] | None:
        """Return the parts of a compound key (`evaluate.is_compound_key`), each with its type."""
        if isinstance(body, nodes.ListOf):
            return [self._argument(part) for part in body.items]
        if isinstance(body, nodes.Constant) and isinstance(body.value, list):
            return [(body, exact(part)) for part in body.value]
        return None

    def _first(self, arguments: Sequence[Node]) -> Type:
        *most, last = arguments
        # A value that may be missing is what `first` is for. Only the last argument has nothing after it.
        self.findings.firsts += 1
        found = [without_null(self.type(part)) for part in most]
        self.findings.firsts -= 1
        return union(*found, self.type(last))


def exact(value: Json) -> Type:
    """Return the type of a value that is known, rows as rows."""
    if isinstance(value, list) and value:
        return listed([exact(part) for part in value])
    return type_of(value)


def object_of(names: tuple[str, ...], types: Sequence[Type]) -> ObjectType:
    """Return the type of an object whose fields are all there."""
    if all(type(one) is Scalar and one.only is None for one in types):
        # Types with known values are not cached: equal ones may list their values in another order, which messages show.
        return _object_again(names, tuple(types))
    return _object(names, types)


def _object(names: Sequence[str], types: Sequence[Type]) -> ObjectType:
    return ObjectType({name: Property(one) for name, one in zip(names, types, strict=True)})


_object_again = lru_cache(1_024)(_object)


# --- The fast path: plain paths, and arithmetic on numbers
#
# It answers only where nothing is wrong and nothing doubtful, and then as the general way does (`tests/plans/expressions/test_plain_types.py` holds both to each other); `None` leaves the
# answer to the general way. Without it a check of a large plan takes a third longer (`benchmarks/bench_check.py`).


_KEEPS_WHOLE = frozenset({"+", "-", "*", "//", "%"})
_ORDERS = frozenset({"<", "<=", ">", ">="})
_EQUALS = frozenset({"==", "!="})


def plain_type(node: Node, scope: Mapping[str, Type]) -> Type | None:
    """Return the type of an expression that is surely right, or `None`."""
    if isinstance(node, nodes.Field):
        base = plain_type(node.base, scope)
        known = base.fields.get(node.name) if isinstance(base, ObjectType) else None
        return known.type if known is not None and known.required else None
    if isinstance(node, nodes.Name):
        return None if node.name == "prev" else scope.get(node.name)
    if isinstance(node, nodes.Binary):
        whole = _is_whole(node.left, scope), _is_whole(node.right, scope)
        if None in whole or not (node.operator in _KEEPS_WHOLE or node.operator == "/"):
            return None
        return INTEGER if all(whole) and node.operator != "/" else NUMBER
    return _comparison(node, scope) if isinstance(node, nodes.Compare) else None


def _is_whole(node: Node, scope: Mapping[str, Type]) -> bool | None:
    """Whether an operand is an integer and no other number; `None`: it is perhaps no number."""
    if isinstance(node, nodes.Literal):
        kind: object = type(node.value)
        return kind is int if kind in (int, float) else None
    found = plain_type(node, scope)
    if not isinstance(found, Scalar) or found.kind not in ("integer", "number"):
        return None
    return found.kind == "integer"


def _comparison(node: nodes.Compare, scope: Mapping[str, Type]) -> Type | None:
    operands = (node.first, *node.rest)
    if all(operator in _ORDERS for operator in node.operators):
        return None if None in [_is_whole(part, scope) for part in operands] else BOOLEAN
    if all(operator in _EQUALS for operator in node.operators):
        kinds = [isinstance(part, nodes.Literal) or plain_type(part, scope) is not None for part in operands]
        return BOOLEAN if all(kinds) else None
    return None


# --- Unknown names: the common mistakes of people and models, each with its remedy


_STEP_WORDS = frozenset(
    {"steps", "step", "outputs", "output", "results", "tasks", "nodes", "variables", "vars"}
)
_INPUT_WORDS = frozenset({"input", "args", "arguments", "params", "parameters", "inputs"})
_WORDS = {
    "true": "True",
    "false": "False",
    "null": "None",
    "none": "None",
    "nil": "None",
    "undefined": "None",
}
_PLACES = {
    "item": ("'item' is known only in a step with 'for_each'", "add 'for_each', or refer to the list's step"),
    "index": (
        "'index' is known only in a step with 'for_each'",
        "add 'for_each', or count with enumerate(..)",
    ),
    "prev": ("'prev' is known only in a step with 'repeat'", "add 'repeat', or refer to another step"),
}
_NAMES_LISTED_MAX = 8


def unknown_name(  # noqa: PLR0911  # one case, one line for each slip
    name: str,
    following: str | None,
    scope: Mapping[str, Type],
    *,
    suggestions: bool,
    caller: str | None = None,
) -> tuple[str, str]:
    """Return message and hint for a name that is not in scope.

    Args:
        name: As it stands in an expression.
        following: The field that is taken of it.
        scope: The names that there are.
        suggestions: Whether the nearest may be looked for.
        caller: The step that calls the tool of this name.
    """
    # The surest mistake first. The search for the nearest name comes last, because it compares all names.
    if name in _PLACES:
        return _PLACES[name]
    message = f"'{name}' is neither a step nor a name in scope"
    inputs = scope.get("inputs")
    fields: Collection[str] = inputs.fields if isinstance(inputs, ObjectType) else ()
    if name.lower() in _WORDS:
        return message, f"write: {_WORDS[name.lower()]}"
    if name in _STEP_WORDS and following is not None and following in scope:
        return message, f"a step is referred to by its id alone, write: {following}"
    if name in _INPUT_WORDS and following is not None and following in fields:
        return message, f"write: inputs.{following}"
    if name in FUNCTIONS:
        return message, f"it is a function, call it: {name}(..)"
    if name in fields:
        return message, f"it is an input, write: inputs.{name}"
    if caller is not None:
        return message, f"it is a tool; refer to the step that calls it, write: {caller}"
    if name in _STEP_WORDS:
        return message, "a step is referred to by its id alone, as in: id.field"
    if not suggestions:
        return message, ""
    known = [known for known in _some(scope) if known != "inputs"] + ["inputs"]
    return message, did_you_mean(name, known, f"in scope: {listing(known, _NAMES_LISTED_MAX)}")


def _some(scope: Mapping[str, Type]) -> Iterable[str]:
    # Sorted, so that equal plans get equal hints; a hint from a large scope is not worth sorting it.
    return sorted(scope) if len(scope) <= 100 else scope


def unknown_input(name: str, known: Iterable[str], *, suggestions: bool) -> tuple[str, str]:
    """Return message and hint for an input that the plan does not declare.

    Args:
        name: As it stands in an expression.
        known: The inputs that the plan declares.
        suggestions: Whether the nearest may be looked for.
    """
    names = list(known)
    message = f"there is no input '{name}': the plan declares {listing(names)}"
    otherwise = "declare it under 'inputs'"
    return message, did_you_mean(name, names, otherwise) if suggestions else otherwise
