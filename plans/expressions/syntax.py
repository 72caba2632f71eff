"""From the text of one expression to its tree: Python's own parser, then an allow-list.

`parse` takes text that `lexical.find_placeholder` has passed, so it is short and balanced. Python parses it; every node of
Python's tree is then turned into one of ours, or rejected by name: an allow-list, because a list of forbidden nodes would miss those of the next Python. Names are resolved
on the way, by Python's scoping: a comprehension's first iterable is evaluated outside, its names are known inside
only, and hide what is outside.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Sequence
from typing import Final, Literal, NoReturn, cast

from ...lazy_imports import late_pattern
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing
from ..values import INTEGER_MAX, INTEGER_MIN, NotJson, canonical
from . import nodes
from .functions import FUNCTIONS, METHODS, RESERVED_FUNCTIONS
from .nodes import ROOTS, Node

# Operations inside operations; every later walk is recursive, and Python's stack is short.
EXPRESSION_DEPTH_MAX = 100
RESERVED = RESERVED_FUNCTIONS | frozenset(ROOTS)  # never the name of a step, an input or a loop variable

_UNARY: dict[type[ast.unaryop], Literal["-", "+", "not"]] = {ast.Not: "not", ast.USub: "-", ast.UAdd: "+"}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}


class ExpressionSyntaxError(Exception):  # carries a `LocalProblem`
    """The expression is not in the language.

    Attributes:
        problem: What and where, in characters of the expression.
    """

    def __init__(self, problem: LocalProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def parse(text: str) -> Node:
    """Return the tree of an expression. Linear in the text.

    Args:
        text: The expression without outer space, line breaks already spaces.

    Raises:
        ExpressionSyntaxError: It is not an expression of the language, or exceeds a limit.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ExpressionSyntaxError(syntax_problem(error, text)) from None
    except (RecursionError, MemoryError):
        raise ExpressionSyntaxError(_too_deep(0, len(text))) from None
    except ValueError as error:  # NUL characters and lone surrogates
        raise ExpressionSyntaxError(
            LocalProblem("bad-expr", f"not an expression: {error}", "", "", 0, len(text))
        ) from None
    return _Reader(text).read(tree.body, EXPRESSION_DEPTH_MAX)


def parse_path(text: str) -> Node | None:
    """Return the tree of a plain path such as `step.field`; `None` if it is more than that by the meaning of its words.

    Args:
        text: Names in ASCII, joined by dots.
    """
    # Keywords and functions mean something else; they take the long way, which says what is wrong.
    head, *names = every = text.split(".")
    if (
        len(every) > EXPRESSION_DEPTH_MAX
        or head in RESERVED_FUNCTIONS
        or "__" in text
        or not _KEYWORDS.isdisjoint(every)
    ):
        return None
    node: Node = nodes.Name(0, len(head), head)
    end = len(head)
    for name in names:
        end += 1 + len(name)
        node = nodes.Field(0, end, node, name)
    return node


_KEYWORDS = frozenset(keyword.kwlist)


def _too_deep(start: int, end: int) -> LocalProblem:
    return LocalProblem(
        "limit-exceeded",
        f"nested deeper than {EXPRESSION_DEPTH_MAX} operations",
        "compute parts of it in steps of their own with 'set'; join(..) and sum(..) replace long chains of +",
        "",
        start,
        end,
    )


class _Reader:
    """Turns Python's tree of one expression into ours."""

    def __init__(self, text: str) -> None:
        self._columns = None if text.isascii() else _columns(text)
        self._scopes: list[dict[str, nodes.Target | None]] = []  # None: a name that is bound later
        self._slots = 0

    def read(self, tree: ast.expr, room: int) -> Node:
        if room <= 0:
            raise ExpressionSyntaxError(_too_deep(*self._span(tree)))
        # By exact class, so that what a later Python adds is refused until somebody decides about it.
        reader = _READERS.get(type(tree))
        if reader is None:
            message, hint = REFUSED.get(
                type(tree), (f"'{type(tree).__name__}' is not part of the language", "")
            )
            self._refuse(tree, message, hint)
        return reader(self, tree, room - 1)

    def _span(self, tree: ast.expr | ast.keyword) -> tuple[int, int]:
        start, end = tree.col_offset, tree.end_col_offset or tree.col_offset
        # Python counts bytes of UTF-8; problems count characters.
        if self._columns is None:
            return start, end
        return self._columns[start], self._columns[end]

    def _refuse(self, tree: ast.expr | ast.keyword, message: str, hint: str = "") -> NoReturn:
        raise ExpressionSyntaxError(LocalProblem("bad-expr", message, hint, "", *self._span(tree)))

    def _all(self, trees: Sequence[ast.expr], room: int) -> tuple[Node, ...]:
        return tuple([self.read(tree, room) for tree in trees])

    def _optional(self, tree: ast.expr | None, room: int) -> Node | None:
        return None if tree is None else self.read(tree, room)

    def constant(self, tree: ast.Constant, _room: int) -> Node:
        # Python has literals that JSON has no values for.
        value = cast("object", tree.value)
        if isinstance(value, bytes | complex) or value is ...:
            self._refuse(
                tree, f"{value!r} is not a value of JSON", "write a number, a text, True, False or None"
            )
        if type(value) is not int or not INTEGER_MIN <= value <= INTEGER_MAX:
            # `1e999` and lone surrogates are literals of Python and no values of JSON.
            try:
                canonical(value)
            except NotJson as error:
                self._refuse(tree, str(error).removeprefix("$: "))
        return nodes.Literal(*self._span(tree), cast("None", value))

    def name(self, tree: ast.Name, _room: int) -> Node:
        name = tree.id
        # Inner names hide outer ones. A name that a later `for` binds is not visible yet.
        for scope in reversed(self._scopes) if self._scopes else ():
            if name in scope:
                local = scope[name]
                if local is None:
                    self._refuse(tree, f"'{name}' is used before the 'for' that gives it a value")
                return nodes.Local(*self._span(tree), name, local.slot)
        if name in RESERVED_FUNCTIONS:
            self._refuse(
                tree,
                f"'{name}' is a function",
                f"call it: {name}(..); no step and no input can have this name",
            )
        start, end = self._span(tree)
        return nodes.Name(start, end, name)

    def attribute(self, tree: ast.Attribute, room: int) -> Node:
        # It could do no harm, since values are JSON. It is refused because whoever writes it expects Python.
        if tree.attr[:2] == tree.attr[-2:] == "__":
            self._refuse(
                tree,
                f"'{tree.attr}' looks into Python, not into data",
                f'a field of that name is x["{tree.attr}"]',
            )
        start, end = self._span(tree)
        return nodes.Field(start, end, self.read(tree.value, room), tree.attr)

    def subscript(self, tree: ast.Subscript, room: int) -> Node:
        base, key = self.read(tree.value, room), tree.slice
        if isinstance(key, ast.Slice):
            parts = [self._optional(part, room) for part in (key.lower, key.upper, key.step)]
            return nodes.Slice(*self._span(tree), base, *parts)
        return nodes.Index(*self._span(tree), base, self.read(key, room))

    def set(self, tree: ast.Set, room: int) -> Node:
        """Refuse a set; braces around all of an expression are a slip of those who know `{{x}}`."""
        message, hint = REFUSED[ast.Set]
        if room == EXPRESSION_DEPTH_MAX - 1 and len(tree.elts) == 1:
            hint = f"one pair of braces is enough: ${{{ast.unparse(tree.elts[0])}}}"
        self._refuse(tree, message, hint)

    def unary(self, tree: ast.UnaryOp, room: int) -> Node:
        operator = _UNARY.get(type(tree.op))
        if operator is None:
            self._refuse(tree, "'~' is not an operator here")
        operand = tree.operand
        if operator == "-" and isinstance(operand, ast.Constant) and operand.value == INTEGER_MAX + 1:
            return nodes.Literal(*self._span(tree), INTEGER_MIN)  # its digits alone would be past 64 bits
        return nodes.Unary(*self._span(tree), operator, self.read(operand, room))

    def binary(self, tree: ast.BinOp, room: int) -> Node:
        operator = _BINARY.get(type(tree.op))
        if operator is None:
            self._refuse(tree, f"the operator '{type(tree.op).__name__}' is not part of the language")
        start, end = self._span(tree)
        left = self.read(tree.left, room)
        return nodes.Binary(start, end, operator, left, self.read(tree.right, room))

    def compare(self, tree: ast.Compare, room: int) -> Node:
        operators = tuple([_COMPARE[type(op)] for op in tree.ops])
        first, rest = self.read(tree.left, room), self._all(tree.comparators, room)
        # Values of JSON have no identity; only `is None` means what it says.
        for operator, right, source in zip(operators, rest, tree.comparators, strict=True):
            if operator in {"is", "is not"} and not (
                isinstance(right, nodes.Literal) and right.value is None
            ):
                wanted = "==" if operator == "is" else "!="
                self._refuse(
                    source, f"'{operator}' compares with None only", f"compare values with '{wanted}'"
                )
        return nodes.Compare(*self._span(tree), first, operators, rest)

    def logic(self, tree: ast.BoolOp, room: int) -> Node:
        return nodes.Logic(
            *self._span(tree), "and" if isinstance(tree.op, ast.And) else "or", self._all(tree.values, room)
        )

    def condition(self, tree: ast.IfExp, room: int) -> Node:
        test, then = self.read(tree.test, room), self.read(tree.body, room)
        return nodes.Condition(*self._span(tree), test, then, self.read(tree.orelse, room))

    def list_of(self, tree: ast.List | ast.Tuple, room: int) -> Node:
        return nodes.ListOf(*self._span(tree), self._all(tree.elts, room))

    def dict_of(self, tree: ast.Dict, room: int) -> Node:
        keys: list[Node] = []
        for key in tree.keys:
            if key is None:
                self._refuse(tree, "'**' does not unpack here")
            keys.append(self.read(key, room))
        return nodes.DictOf(*self._span(tree), tuple(zip(keys, self._all(tree.values, room), strict=True)))

    def list_comprehension(self, tree: ast.ListComp, room: int) -> Node:
        return self._comprehension(tree, tree.elt, None, tree.generators, room)

    def dict_comprehension(self, tree: ast.DictComp, room: int) -> Node:
        return self._comprehension(tree, tree.key, tree.value, tree.generators, room)

    def _comprehension(
        self,
        tree: ast.expr,
        element: ast.expr,
        value: ast.expr | None,
        clauses: list[ast.comprehension],
        room: int,
    ) -> Node:
        # Python evaluates the first iterable outside the comprehension, so it is read before the names exist.
        outside = self.read(clauses[0].iter, room)
        names = [target for clause in clauses for target in self._targets(clause.target)]
        # All names at once, still without a value: before its own `for`, a name must not mean a step of that name.
        self._scopes.append({target.id: None for target in names})
        made = [
            self._clause(clause, outside if number == 0 else None, room)
            for number, clause in enumerate(clauses)
        ]
        first = self.read(element, room)
        second = self._optional(value, room)
        self._scopes.pop()
        return nodes.Comprehension(
            *self._span(tree), isinstance(tree, ast.GeneratorExp), first, second, tuple(made)
        )

    def _clause(self, clause: ast.comprehension, iterable: Node | None, room: int) -> nodes.Clause:
        if clause.is_async:
            self._refuse(clause.iter, "'async' is not part of the language")
        if iterable is None:
            iterable = self.read(clause.iter, room)
        targets = tuple([self._bind(target) for target in self._targets(clause.target)])
        return nodes.Clause(targets, iterable, self._all(clause.ifs, room))

    def _targets(self, target: ast.expr) -> list[ast.Name]:
        parts = target.elts if isinstance(target, ast.Tuple) else [target]
        names = [part for part in parts if isinstance(part, ast.Name)]
        # Nested names, as in `for k, (a, b) in ..`, are left out: a second clause says the same.
        if len(names) != len(parts) or not names:
            self._refuse(target, "'for' takes a name, or names as in: for k, v in ..")
        if isinstance(target, ast.Tuple) and len(names) < 2:
            self._refuse(target, "a single name takes no comma")
        return names

    def _bind(self, target: ast.Name) -> nodes.Target:
        # Slots are numbered through the whole expression, so a name inside never has the place of one outside.
        self._check_bindable(target, target.id)
        local = nodes.Target(*self._span(target), target.id, self._slots)
        self._slots += 1
        self._scopes[-1][target.id] = local
        return local

    def _check_bindable(self, tree: ast.expr, name: str) -> None:
        # A loop that is named like a function would mislead readers, though before `(` the function is meant.
        if name in RESERVED:
            kind = "a function" if name in RESERVED_FUNCTIONS else "a reserved name"
            self._refuse(
                tree,
                f"'{name}' is {kind}, so it cannot be a loop name",
                f"write another name, such as '{name[0]}'",
            )

    def _argument(self, tree: ast.expr, room: int, *, generators: bool) -> Node:
        if not isinstance(tree, ast.GeneratorExp):
            return self.read(tree, room)
        if not generators:
            self._refuse(tree, "this function takes no generator", "write a list: [.. for x in xs]")
        return self._comprehension(tree, tree.elt, None, tree.generators, room - 1)

    def call(self, tree: ast.Call, room: int) -> Node:
        if isinstance(tree.func, ast.Name):
            return self._function(tree, tree.func.id, room)
        if not isinstance(tree.func, ast.Attribute):
            self._refuse(tree.func, "only functions and methods of text can be called")
        return self._method(tree, tree.func, room)

    def _function(self, tree: ast.Call, name: str, room: int) -> Node:
        # Before `(` a name is a function, whatever step or loop has the same name: values cannot be called. If a loop name hid
        # the function, as in Python, a plan's meaning would depend on names that the language promises not to reserve.
        function = FUNCTIONS.get(name)
        if function is None:
            self._refuse(tree.func, f"there is no function '{name}'", _function_hint(name))
        key, reverse, named = self._keywords(tree, name, room)
        arguments = tuple([self._argument(part, room, generators=function.generators) for part in tree.args])
        self._check_count(tree, f"{name}(..)", len(arguments), function.least, function.most)
        if name == "secret" and not (
            isinstance(arguments[0], nodes.Literal) and isinstance(arguments[0].value, str)
        ):
            self._refuse(tree, "secret(..) takes a name, written out", 'write: secret("NAME")')
        return nodes.Call(
            *self._span(tree), name, arguments, key, reverse, tuple(named), tuple(named.values())
        )

    def _keywords(
        self, tree: ast.Call, name: str, room: int
    ) -> tuple[nodes.Lambda | None, Node | None, dict[str, Node]]:
        key: nodes.Lambda | None = None
        reverse: Node | None = None
        named: dict[str, Node] = {}
        known = FUNCTIONS[name].keywords
        for word in tree.keywords:
            if word.arg not in known:
                shown = f"'{word.arg}='" if word.arg else "'**'"
                hint = (
                    f"it takes {listing([f'{each}=' for each in known])}"
                    if known
                    else "give the arguments by position"
                )
                self._refuse(word, f"{name}(..) takes no {shown}", hint)
            if word.arg == "key":
                key = self._lambda(word.value, room)
            elif word.arg == "reverse":
                reverse = self.read(word.value, room)
            elif word.arg in named:
                self._refuse(word, f"'{word.arg}=' stands twice")
            else:
                named[word.arg] = self.read(word.value, room)
        return key, reverse, named

    def _lambda(self, tree: ast.expr, room: int) -> nodes.Lambda:
        if not isinstance(tree, ast.Lambda):
            self._refuse(tree, "key= takes a lambda", "write: key=lambda x: x.field")
        # One plain name: defaults and stars would need a frame for each call.
        names = tree.args
        if (
            len(names.args) != 1
            or names.posonlyargs
            or names.kwonlyargs
            or names.vararg
            or names.kwarg
            or names.defaults
        ):
            self._refuse(tree, "the lambda of key= takes one name", "write: key=lambda x: x.field")
        name = names.args[0].arg
        self._check_bindable(tree, name)
        local = nodes.Target(*self._span(tree), name, self._slots)
        self._slots += 1
        self._scopes.append({name: local})
        # Python's way to sort by several values is a tuple; it is read as the list that it means.
        body = (
            self.list_of(tree.body, room - 1)
            if isinstance(tree.body, ast.Tuple)
            else self.read(tree.body, room)
        )
        self._scopes.pop()
        return nodes.Lambda(*self._span(tree), local, body)

    def _method(self, tree: ast.Call, func: ast.Attribute, room: int) -> Node:
        name = func.attr
        method = METHODS.get(name)
        if method is None:
            # `x.len()` and `x.toUpperCase()` come from other languages: the hint has the words of this one.
            instead = ELSEWHERE.get(name) or (f"{name}(x)" if name in FUNCTIONS else None)
            hint = f"write: {instead}" if instead else did_you_mean(name, METHODS)
            self._refuse(func, f"there is no method '.{name}(..)'", hint)
        if tree.keywords:
            hint = (
                "a date is made anew: date(x.year, x.month, 1)"
                if name == "replace"
                else "give the arguments by position"
            )
            self._refuse(tree.keywords[0], f".{name}(..) takes no names", hint)
        base = self.read(func.value, room)
        arguments = tuple([self._argument(part, room, generators=method.generators) for part in tree.args])
        self._check_count(tree, f".{name}(..)", len(arguments), method.least, method.most)
        return nodes.Method(*self._span(tree), base, name, arguments)

    def _check_count(self, tree: ast.Call, shown: str, found: int, least: int, most: int | None) -> None:
        if found < least or (most is not None and found > most):
            wanted = (
                f"at least {least}" if most is None else str(least) if least == most else f"{least} to {most}"
            )
            self._refuse(
                tree, f"{shown} takes {wanted} argument{'' if wanted == '1' else 's'}, found {found}"
            )


def _function_hint(name: str) -> str:
    if name in METHODS:
        return f"it is a method of text, write: x.{name}(..)"
    instead = ELSEWHERE.get(name)
    return (
        f"write: {instead}" if instead else did_you_mean(name, FUNCTIONS, "what needs code is a tool's work")
    )


def _columns(text: str) -> list[int]:
    """Return the character position of every byte of the text's UTF-8 form (Python's tree counts in bytes)."""
    columns: list[int] = []
    for position, char in enumerate(text):
        columns.extend([position] * len(char.encode()))
    columns.append(len(text))
    return columns


_READERS: dict[type[ast.AST], Callable[..., Node]] = {
    ast.Constant: _Reader.constant,
    ast.Name: _Reader.name,
    ast.Attribute: _Reader.attribute,
    ast.Subscript: _Reader.subscript,
    ast.UnaryOp: _Reader.unary,
    ast.BinOp: _Reader.binary,
    ast.Compare: _Reader.compare,
    ast.BoolOp: _Reader.logic,
    ast.IfExp: _Reader.condition,
    ast.List: _Reader.list_of,
    ast.Set: _Reader.set,
    ast.Dict: _Reader.dict_of,
    ast.ListComp: _Reader.list_comprehension,
    ast.DictComp: _Reader.dict_comprehension,
    ast.Call: _Reader.call,
}


# --- Syntax errors
#
# Python says `invalid syntax` and an offset, and its advice is for programs. The place decides which message is given here: the end of the text, a common mistake of
# people and models, or two values with nothing between them.


_TOKEN: Final = late_pattern(r"\w+|'[^']*'|\"[^\"]*\"|===|[=!<>]=|=[<>]|<>|:=|->|//|\*\*|\+\+|--|\.\.|.")
_VALUE_ENDS: Final = late_pattern(r"[\w)\]}'\"]\s*$")
_VALUE_BEGINS: Final = late_pattern(r"[\w(\[{'\"]")
SHOWN_MAX: Final = 40  # characters of the text that a message repeats

_CONDITION: Final = "write: x if condition else y"
_STATEMENT: Final = "write the value itself: statements are no part of the language"
_SLIPS: Final = {
    "=": "compare with '=='",
    "===": "compare with '=='",
    "=>": "write: >=",
    "=<": "write: <=",
    "<>": "write: !=",
    ":=": "name a value by a step of its own: {id: .., set: ..}",
    "++": "write: x + 1",
    "--": "write: x - 1",
    "..": "one dot reaches into a value: x.field",
    ".": "positions stand in brackets: x[0]",
    "*": "join lists with +",
    "if": _CONDITION,
    "then": _CONDITION,
    "else": _CONDITION,
    **{word: f"write: {word.lower()}" for word in ("AND", "OR", "NOT", "IN", "IS", "IF", "ELSE")},
    "for": "write a list: [x.field for x in xs]",
    **dict.fromkeys(("import", "from", "return", "def", "class", "del", "raise", "while", "try", "with"), _STATEMENT),
}  # fmt: skip


def syntax_problem(error: SyntaxError, text: str) -> LocalProblem:
    """Return the problem of a text that is no expression: the word or sign at the place that Python names, and a hint for it."""
    if "Exceeds the limit" in error.msg:
        return LocalProblem("bad-expr", "an integer past 64 bits", "write it as text", "", 0, len(text))
    tokens = [found for found in _TOKEN.finditer(text) if not found[0].isspace()]
    if not tokens:
        return LocalProblem("bad-expr", "an empty expression")
    # Python counts from 1; the offset may be missing, or lie behind the last character.
    at = (error.offset or len(text) + 1) - 1
    token = next((found for found in tokens if found.end() > at), tokens[-1])
    word, start, end, hint = token[0], token.start(), token.end(), ""
    if at >= len(text):
        words = f"it ends after '{word}', where a value is expected"
        hint = f"write what follows '{word}', or leave '{word}' out"
    elif "forgot a comma" in error.msg:
        start, end = at, max((error.end_offset or 0) - 1, at + 1)
        words, hint = f"'{_short(text[start:end])}' are two values", _BETWEEN
    # Other messages name what Python expected. Their advice, after the first sentence, is about programs.
    elif error.msg != "invalid syntax":
        words = error.msg[:1].lower() + error.msg[1:].split(". ", 1)[0]
    elif word not in _SLIPS and _VALUE_BEGINS.match(word) and _VALUE_ENDS.search(text[:start]):
        words, hint = f"expected an operator before '{_short(word)}'", _BETWEEN
    else:
        words = f"found '{_short(word)}' where no such thing can stand"
    message = f"not an expression: {words} (column {start + 1})"
    return LocalProblem("bad-expr", message, _SLIPS.get(word, hint), "", start, end)


_BETWEEN: Final = "put an operator or a comma between them; text stands in quotes"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 2]}.."


# --- What Python has and the language does not, each with what to write instead


REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Tuple: ("tuples are not part of the language", "write a list: [a, b]"),
    ast.Set: ("sets are not part of the language", "write a list: [a, b]; distinct(..) drops what is twice"),
    ast.SetComp: ("set comprehensions are not part of the language", "write: distinct([.. for x in xs])"),
    ast.GeneratorExp: (
        "a generator stands only as the argument of a function",
        "write a list: [.. for x in xs]",
    ),
    ast.Starred: ("'*' does not unpack here", "join lists with +"),
    ast.NamedExpr: ("':=' is not part of the language", "compute the value in a step of its own with 'set'"),
    ast.Lambda: (
        "a lambda stands only as key= of a function",
        "write: sorted(xs, key=lambda x: x.field)",
    ),
    ast.Await: ("'await' is not part of the language", ""),
    ast.Yield: ("'yield' is not part of the language", ""),
    ast.YieldFrom: ("'yield' is not part of the language", ""),
    ast.JoinedStr: (
        "f-strings are not part of the language",
        'write text + str(x), join([..], "") or format(x, ",.2f")',
    ),
    ast.Slice: ("a slice stands only inside x[..]", ""),
}
ELSEWHERE: Final = {
    "append": "xs + [x]",
    "average": "avg(xs)",
    "coalesce": "first(a, b)",
    "concat": "xs + ys",
    "contains": "x in xs",
    "count": "len(xs)",
    "default": "first(x, default)",
    "dict": "{k: v for k, v in items(x)}",
    "dumps": "str(x)",
    "extend": "xs + ys",
    "filter": "[x for x in xs if ..]",
    "format": 'format(x, ",.2f")',
    "findall": "findall(pattern, x)",
    "fromisoformat": "date(x), or datetime(x)",
    "fromtimestamp": 'datetime("1970-01-01T00:00:00Z") + timedelta(seconds=x)',
    "now": "inputs.now; the time is an input, since expressions have no clock",
    "parse_date": "date(x), or datetime(x)",
    "re": "match(pattern, x), search(pattern, x) or findall(pattern, x)",
    "strptime": "date(x) or datetime(x) of ISO text",
    "sub": "x.replace(a, b)",
    "today": "inputs.today; the day is an input, since expressions have no clock",
    "utcnow": "inputs.now; the time is an input, since expressions have no clock",
    "ZoneInfo": 'the name of the zone as text, as in datetime(x, "Europe/Rome")',
    "get": 'get(x, "field", default)',
    "group": 'search(r"(?P<name>..)", x).name',
    "groupby": "group_by(xs, key=lambda x: x.field)",
    "Counter": "count_by(xs, key=lambda x: x.field)",
    "isocalendar": 'x.strftime("%V")',
    "includes": "x in xs",
    "json": "str(x)",
    "length": "len(x)",
    "list": "[x for x in xs]",
    "map": "[.. for x in xs]",
    "match": "match(pattern, x)",
    "mean": "avg(xs)",
    "next": "xs[0]",
    "pow": "x ** 2",
    "push": "xs + [x]",
    "reverse": "reversed(xs)",
    "search": "search(pattern, x)",
    "set": "distinct(xs)",
    "size": "len(x)",
    "slice": "x[a:b]",
    "sort": "sorted(xs)",
    "string": "str(x)",
    "substring": "x[a:b]",
    "to_json": "str(x)",
    "toLowerCase": "x.lower()",
    "toString": "str(x)",
    "toUpperCase": "x.upper()",
    "tojson": "str(x)",
    "trim": "x.strip()",
    "tuple": "[a, b]",
    "unique": "distinct(xs), or unique_by(xs, key=lambda x: x.field)",
}
"""Functions and methods of Python and of other languages, and what the language has instead."""
