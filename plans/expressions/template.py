"""Templates: a JSON value as a tree of the strings that hold expressions, and one such string as pieces.

Plain parts of a value are not looked at again: a tree has a node only for a string that holds an expression or an escape, and for the lists and objects around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from functools import lru_cache
from typing import TypeAlias

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..reports.errors import LocalProblem
from ..values import Json
from .evaluate import Folded, fold
from .lexical import BRACKETS_MAX, EXPRESSION_LENGTH_MAX, find_placeholder
from .nodes import NOTHING, Broken, Call, Node, References, references
from .syntax import ExpressionSyntaxError, parse, parse_path
from .unparse import unparse


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


def unparsed_tree(tree: Tree) -> Json:
    """Return a template's value with its expressions in canonical form."""
    if isinstance(tree, Leaf):
        if (whole := tree.whole) is not None:
            return whole.serialized
        return "".join(
            [
                piece.replace("${", "$${") if isinstance(piece, str) else piece.serialized
                for piece in tree.pieces
            ]
        )
    made: list[Json] | dict[str, Json] = tree.value.copy()
    for name, part in tree.parts.items():
        made[name] = unparsed_tree(part)  # type: ignore[index]  # keys are the container's own
    return made


# --- One string: plain text and expressions
#
# Scanning goes from left to right: `$${` gives `${`, `${` opens an expression that ends at the first `}` outside quotes and brackets, a lone `$` is text. Inside,
# outer space is dropped and line breaks are spaces. Linear in the string; a string without `$` and `{{` never comes here.


_OPEN = late_pattern(r"\$?\$\{")
_PATH = late_pattern(r" *([A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)*+) *\}", re.ASCII)
_EASY = late_pattern(
    r"""[ ]* (
      (?: [ ]++
        | [A-Za-z_][A-Za-z0-9_]*+ (?!["'])          # a name that is no prefix of quotes
        | [0-9]++ (?:\.[0-9]++)? (?![\w.])
        | "[^"\\\r\n]*+" (?!") | '[^'\\\r\n]*+' (?!')
        | != | [-+*/%<>=.,:()\[\]]
      )++ ) \}""",
    re.VERBOSE,
)
"""Expressions in whose spelling alone nothing can be wrong that Python's parser would not refuse: no braces, no escapes."""
_SPACE = " \t\f\r\n"
_BREAKS = str.maketrans("\r\n", "  ")
_BRACES = late_pattern(r"\{\{\s*([A-Za-z_][\w.\[\]]*)\s*\}\}")
_DOLLAR = late_pattern(r"\$([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")

CACHED_LENGTH_MAX = 200  # characters: longer expressions are not remembered, so that the memory stays small
CACHED_MAX = 1_024  # expressions: a plan repeats the same few, and each is asked for several times


@immutable
class ParsedExpression:
    """What an expression's text says.

    Its constants are worked out when they are first asked for, and not when it is read: that can take a second, and a check has to count
    it before it spends it. The result is the same whoever asks, so it is kept.

    Attributes:
        text: The expression, without outer space and line breaks.
        node: As written; `None` if it is no expression.
        misread: What is wrong with the text, in characters of the text. The problems of constants are not among them.
        refers: The names that it uses.
        is_path: Whether it is a plain path such as `step.field`, so that it has no problem and no constant to work out.
    """

    text: str
    node: Node | None
    misread: tuple[LocalProblem, ...] = ()
    refers: References = NOTHING
    is_path: bool = field(default=False, compare=False)
    _folded: Folded | None = field(default=None, repr=False, compare=False)

    @property
    def folded(self) -> Node:
        """The expression with its constants worked out; `Broken` if it is no expression."""
        return self.folding().node

    @property
    def problems(self) -> tuple[LocalProblem, ...]:
        """All problems, those of constants included, in characters of the text."""
        return (*self.folding().problems, *self.misread)

    def folding(self, work: int | None = None) -> Folded:
        """Return the expression with its constants worked out, and the work that it took.

        Args:
            work: The most work to spend. A result that needs more is cut short: it has more `work` than this, and is not kept.
        """
        known = self._folded
        if known is not None:
            return known
        if self.node is None:
            first = self.misread[0]
            made = Folded(Broken(first.start, first.end, first.code, first.message))
        else:
            made = fold(self.node, work)
            if work is not None and made.work > work:
                return made
        self._folded = made  # type: ignore[misc]  # a memo: every thread would write an equal value
        return made


@immutable
class Expression:
    """One `${..}` of a string.

    Attributes:
        start: Where in the string its text begins, in characters.
        source: All of it, from `${` to `}`.
        parsed: What it says.
    """

    start: int
    source: str
    parsed: ParsedExpression

    @property
    def serialized(self) -> str:
        """In canonical form; as it is if it is no expression."""
        parsed = self.parsed
        if parsed.is_path:  # there is one way to write it, but for space around it
            return self.source if len(self.source) == len(parsed.text) + 3 else f"${{{parsed.text}}}"
        return self.source if parsed.node is None else f"${{{unparse(parsed.node)}}}"


def whole_pieces(text: str) -> tuple[Expression] | None:
    """Return the expression that is all of a string, or `None` if the string is something else, or doubtful."""
    if len(text) > CACHED_LENGTH_MAX or not text.startswith("${"):
        return None
    return _whole_again(text)


@lru_cache(CACHED_MAX)
def _whole_again(text: str) -> tuple[Expression] | None:
    found = _easy(text, 2)
    return None if found is None or len(found.source) < len(text) or found.parsed.misread else (found,)


def _easy(text: str, at: int) -> Expression | None:
    """Return the expression whose `${` ends at `at`, or `None` if it has to be read character by character.

    Most expressions are paths, and most others are short and plain. A large plan is read quickly because two regular expressions find
    these without a look at each character.
    """
    path = _PATH.match(text, at)
    if path is not None and path.end() - at <= CACHED_LENGTH_MAX:
        parsed = _path_again(path.group(1))
        if parsed is not None:
            return Expression(path.start(1), text[at - 2 : path.end()], parsed)
    easy = _EASY.match(text, at)
    if easy is None or easy.end() - at > CACHED_LENGTH_MAX:
        return None
    bare = easy.group(1).rstrip(" ")
    if bare.count("(") + bare.count("[") > BRACKETS_MAX:
        return None
    parsed = _read_again(bare)
    return None if parsed.node is None else Expression(easy.start(1), text[at - 2 : easy.end()], parsed)


@lru_cache(CACHED_MAX)
def _path_again(text: str) -> ParsedExpression | None:
    node = parse_path(text)
    return (
        None
        if node is None
        else ParsedExpression(text, node, (), references(node), is_path=True, _folded=Folded(node))
    )


def pieces_of(text: str) -> tuple[tuple[str | Expression, ...], list[LocalProblem]]:
    """Return a string's texts, unescaped, and expressions in order, and what is wrong with their text."""
    pieces: list[str | Expression] = []
    problems: list[LocalProblem] = []
    plain: list[str] = []
    at = 0
    while (opening := _OPEN.search(text, at)) is not None:
        plain.append(text[at : opening.start()])
        at = opening.end()
        if len(opening.group()) == 3:
            plain.append("${")
            continue
        _add_text(pieces, plain)
        expression = _easy(text, at)
        if expression is None:
            hole = find_placeholder(text, at)
            source = text[opening.start() : hole.end + 1]
            expression = _expression(text, at, hole.end, source, hole.problem)
        pieces.append(expression)
        problems += [problem.moved("", expression.start) for problem in expression.parsed.misread]
        at = opening.start() + len(expression.source)
    plain.append(text[at:])
    _add_text(pieces, plain)
    return tuple(pieces), problems


def _add_text(pieces: list[str | Expression], plain: list[str]) -> None:
    if text := "".join(plain):
        pieces.append(text)
    plain.clear()


def _expression(text: str, start: int, end: int, source: str, problem: LocalProblem | None) -> Expression:
    inside = text[start:end]
    bare = inside.strip(_SPACE)
    begin = start + inside.find(bare) if bare else start
    if problem is not None:
        return Expression(begin, source, _unreadable(bare, problem.moved("", -begin)))
    if not bare:
        nothing = LocalProblem(
            "bad-expr",
            "an empty '${}'",
            "write an expression between the braces; a '${' that is meant as text is written '$${'",
            "",
            -2,
            len(inside) + 1,
        )
        return Expression(begin, source, _unreadable(bare, nothing))
    bare = bare.translate(_BREAKS)
    read = _read_again if len(bare) <= CACHED_LENGTH_MAX else read_expression
    return Expression(begin, source, read(bare))


def _unreadable(text: str, problem: LocalProblem) -> ParsedExpression:
    return ParsedExpression(text, None, (problem,))


def read_expression(text: str) -> ParsedExpression:
    """Return what an expression says: text without outer space and line breaks, passed by `find_placeholder`."""
    try:
        node = parse(text)
    except ExpressionSyntaxError as refused:
        return _unreadable(text, refused.problem)
    if len(text) > EXPRESSION_LENGTH_MAX // 2 and len(unparse(node)) > EXPRESSION_LENGTH_MAX:
        return _unreadable(text, _too_long(text))
    misplaced = tuple(map(_misplaced, _secrets(node))) if "secret" in text else ()
    return ParsedExpression(text, node, misplaced, references(node))


_read_again = lru_cache(CACHED_MAX)(read_expression)


def _too_long(text: str) -> LocalProblem:
    # Its canonical form must be an expression too, or a plan could not be written out and read again.
    message = f"an expression longer than {EXPRESSION_LENGTH_MAX} characters, spaces around operators counted"
    return LocalProblem(
        "limit-exceeded",
        message,
        "compute parts of it in steps of their own with 'set'",
        "",
        0,
        len(text),
    )


def _secrets(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function == "secret":
        yield node
        return
    for part in node.parts:
        yield from _secrets(part)


def _misplaced(node: Node) -> LocalProblem:
    # Allowed ones are taken out of a tool step's arguments before these are read: see `plans/checker/templates.py`.
    return LocalProblem(
        "bad-expr",
        "secret(..) stands only as the whole of an argument of a tool step",
        'give the secret to a tool as an argument: "key": "${secret(\\"NAME\\")}"',
        "",
        node.start,
        node.end,
    )


def suspicious(text: str, pieces: tuple[str | Expression, ...] | tuple[str]) -> Iterator[LocalProblem]:
    """Yield a warning for text that looks like another language's reference, one for each way to write it."""
    made: list[str] = []
    at = 0
    for piece in pieces:
        if isinstance(piece, Expression):
            start = text.rindex("${", at, piece.start)  # only space stands between
            # NUL characters, which no pattern matches, stand for the expression and keep the places of the rest.
            made += [text[at:start], "\0" * len(piece.source)]
            at = start + len(piece.source)
    plain = "".join([*made, text[at:]])
    for pattern in (_BRACES, _DOLLAR):
        found = pattern.search(plain)
        if found is not None:
            yield LocalProblem(
                "suspicious-text",
                f"'{_short(found.group())}' is plain text, not a reference",
                f"write: ${{{_short(found.group(1))}}}",
                "",
                found.start(),
                found.end(),
            )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + ".."
