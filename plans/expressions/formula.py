"""A template: a JSON value whose strings may hold `${expression}`, read once and evaluated often.

A string that is exactly one `${..}` is that expression's value, type kept; otherwise the results are put into the text,
strings as they are and other values as canonical JSON. Only the plan's own strings are read; data that flows is never
scanned.

Parsing never raises: it returns problems; evaluating an invalid formula raises `EvaluationError`. `infer.py` computes the types of the expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from ..reports.errors import SKIPPED, EvaluationError, LocalProblem, RefersToSkipped, Skipped
from ..reports.paths import key
from ..values import DEPTH_MAX, Json, canonical
from .data_spans import Span, TextWithData
from .evaluate import compile_node
from .functions import text_of
from .nodes import NOTHING, Call, Literal, Name, References, joined_references
from .operators import CHARACTERS_MAX, Frame, checked
from .template import (
    Branch,
    Expression,
    Leaf,
    Tree,
    pieces_of,
    suspicious,
    unescaped,
    unparsed_tree,
    whole_pieces,
)

PATH_LENGTH_MAX = 4_000
"""Characters of the keys that lead to a list or an object in a template: each string in it is told by its path."""

SPLICED_BYTES_MAX = 64 * 1024
"""Of a value that is put together from serialized parts; a larger one is evaluated, and held against the limits."""

_DATA: Callable[[Serialized], bytes] = attrgetter("data")


_READ_LATER = ("tree", "leaves", "has_escapes", "foldable")
"""What a formula of names leaves out until somebody asks."""

_NO_NAMES: frozenset[str] = frozenset()


class Serialized(Protocol):
    """A value in its canonical form."""

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        ...

    @property
    def is_large_text(self) -> bool:
        """Whether the value is a text that is copied as seldom as possible."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Formula:
    """A template that was read. Immutable.

    Attributes:
        value: As the plan has it.
        tree: Its parts that are not plain; `None` if all of it is.
        leaves: Each string with expressions, in order.
        has_escapes: Whether a string without expressions has an escape.
        strict: Step ids referred to outside `first(..)`.
        lenient: Step ids referred to inside `first(..)`, whether outside too or not.
        names: Every name used: step ids, and `inputs`, `item`, `index`, `prev`.
        inputs: Inputs used by name; empty if `inputs` is used as a whole.
        secret: The name of the secret that is the whole value.
        foldable: Each expression that is more than a path, with the path of its string inside the value.
    """

    value: Json
    tree: Tree | None = None
    leaves: tuple[Leaf, ...] = ()
    has_escapes: bool = False
    strict: AbstractSet[str] = field(init=False)
    lenient: AbstractSet[str] = field(init=False)
    names: AbstractSet[str] = field(init=False)
    inputs: AbstractSet[str] = field(init=False)
    secret: str | None = field(init=False)
    foldable: Sequence[tuple[str, Expression]] = field(init=False)
    # Computed on demand, because a check evaluates no template.
    _run: Run | None = field(default=None, init=False)
    _splices: Sequence[Splice] | None = field(default=None, init=False)
    _joint: tuple[bytes, Sequence[str]] | None = field(default=None, init=False)
    _with_data: TextWithData | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        found, self.foldable = NOTHING, ()
        if self.leaves:
            refers: list[References] = []
            foldable: list[tuple[str, Expression]] = []
            for leaf in self.leaves:
                for piece in leaf.pieces:
                    if isinstance(piece, Expression):
                        parsed = piece.parsed
                        refers.append(parsed.refers)
                        # Most expressions are paths, and of those nothing has to be asked again.
                        if not parsed.is_path:
                            foldable.append((leaf.inner, piece))
            found = joined_references(refers)
            if foldable:
                self.foldable = tuple(foldable)
        self.strict, self.lenient, self.inputs = found.strict, found.lenient, found.inputs
        others = found.lenient | found.roots
        # The same object where nothing else is used: the labels ask by identity, since most templates refer to steps only.
        self.names = found.strict | others if others else found.strict
        self.secret = _secret(self.tree) if isinstance(self.tree, Leaf) else None

    if not TYPE_CHECKING:  # type checkers know the fields

        def __getattr__(self, name: str) -> object:
            """Read the template of a formula that was made of its names (`of_names`), at the first question that needs more than these."""
            if name not in _READ_LATER:
                raise AttributeError(name)
            read = _formula_of(self.value)
            for each in _READ_LATER:
                setattr(self, each, getattr(read, each))
            return getattr(self, name)

    @classmethod
    def of_names(cls, value: dict[str, Json], splices: Sequence[bytes | str]) -> Formula:
        """Return the template of an object without reading it. Only for a template of which `names_in` gave these splices.

        Args:
            value: The object.
            splices: The parts of its canonical form, names as text.
        """
        made = cls.__new__(cls)
        made.value = value
        made.strict = made.names = frozenset([each for each in splices if type(each) is str])
        made.lenient = made.inputs = _NO_NAMES
        made.secret = made._run = made._with_data = made._joint = None  # noqa: SLF001  # its own
        made._keep_splices(splices)  # noqa: SLF001
        return made

    def names_in(self) -> Sequence[bytes | str] | None:
        """Return the parts of the canonical form of an object whose expressions are names of steps, each a whole field; `None`: it is of another form."""
        if (
            not isinstance(self.value, dict)
            or self.lenient
            or self.secret is not None
            or self.names != self.strict
        ):
            return None
        # The short way may be taken only if it gives exactly what the full reading gave.
        found = splices_of_names(self.value)
        names = {each for each in found if isinstance(each, str)}
        return found if found == self._spliced() and names == self.strict else None

    @property
    def expressions(self) -> Iterator[tuple[str, Expression]]:
        """Each expression with the path of its string inside the value, in order."""
        return ((leaf.inner, expression) for leaf in self.leaves for expression in leaf.expressions)

    def constant_problems(self) -> list[LocalProblem]:
        """Return the problems of the constant parts of its expressions: working them out may take as long as evaluating them."""
        return [
            problem.moved(inner, expression.start)
            for inner, expression in self.foldable
            for problem in expression.parsed.folding().problems
        ]

    @property
    def constant(self) -> bool:
        """Whether it refers to nothing."""
        return not self.names and self.secret is None

    def __repr__(self) -> str:
        return f"Formula({self.value!r})"

    def __reduce__(self) -> tuple[Callable[[Json], Formula], tuple[Json]]:
        return _formula_of, (self.value,)  # what was compiled stays here

    def literal(self, value: Json) -> Json:
        """Return a value that was read with what is written in it as it will be: `$${` in text without expressions is `${`."""
        return unescaped(value, self.tree) if self.has_escapes else value

    @property
    def canonical(self) -> Json:
        """The value with its expressions in canonical form."""
        return self.value if self.tree is None else unparsed_tree(self.tree)

    def part(self, name: str) -> Formula:
        """Return one field of a template that is an object, without parsing it again: its strings keep their places in the whole object."""
        tree = self.tree.parts.get(name) if isinstance(self.tree, Branch) else None
        value = cast("Mapping[str, Json]", self.value)[name]
        # A field without a tree is plain: there is no escape in it to undo.
        return Formula(value, tree, tuple(_leaves(tree)), has_escapes=self.has_escapes and tree is not None)

    def evaluate(self, scope: Scope) -> Json:
        """Return the template's value in a scope of values; parts taken from the scope are not copied.

        Raises:
            EvaluationError: It has no value, or is too large.
            RefersToSkipped: It refers to a skipped step outside `first(..)`, whether that part would be evaluated or not;
                or `first(..)` has nothing left.
        """
        if self.tree is None:
            return self.value
        self._expect_all(scope)
        if self._run is None:
            self._run = compiled(self.tree)
        # One expression has checked its own result; several together may still be too large.
        value = self._run(scope)
        return checked(value) if len(self.leaves) > 1 else value

    def evaluate_present(self, scope: Scope) -> tuple[Json, Sequence[tuple[str, EvaluationError]]]:
        """Return the template's value with null in the place of each string that asks for an absent field, and these faults with their places.

        Raises:
            EvaluationError: Of any other kind.
            RefersToSkipped: As `evaluate`.
        """
        absent: list[tuple[str, EvaluationError]] = []
        if self.tree is None:
            return self.value, absent
        self._expect_all(scope)
        return checked(_compiled_present(self.tree, absent)(scope)), absent

    def evaluate_with_spans(self, scope: Scope) -> tuple[Json, tuple[Span, ...]]:
        """Return the template's value, and if it is one string, the spans of it that are data and not the author's words.

        Raises:
            EvaluationError: As `evaluate`.
            RefersToSkipped: As `evaluate`.
        """
        if not isinstance(self.tree, Leaf) or self.constant:
            return self.evaluate(scope), ()
        self._expect_all(scope)
        if self._with_data is None:
            self._with_data = TextWithData(self.tree)
        return self._with_data.render(scope)

    def _expect_all(self, scope: Scope) -> None:
        """Raise `RefersToSkipped` if a step that the template needs was skipped."""
        # Before anything is evaluated: whether a skipped step skips this one must not depend on the data.
        if SKIPPED in (gone := [scope.get(name) for name in self.strict]):
            raise RefersToSkipped(
                min(name for name, value in zip(self.strict, gone, strict=True) if value is SKIPPED)
            )

    @property
    def whole(self) -> str | None:
        """The name whose value is the template's value; `None`: the template is more than a name."""
        match self._spliced():
            case [str() as name]:
                return name
            case _:
                return None

    def _spliced(self) -> Sequence[Splice]:
        # Made when a call first needs them: then a large plan starts sooner, and steps that never run need none.
        return self._keep_splices(spliced(self.value, self.tree)) if self._splices is None else self._splices

    def _keep_splices(self, splices: Sequence[Splice]) -> Sequence[Splice]:
        self._splices = splices
        texts: list[bytes] = []
        names: list[str] = []
        for each in splices:
            if isinstance(each, bytes):
                texts.append(each.replace(b"%", b"%%"))
            elif isinstance(each, str):
                texts.append(b"%b")
                names.append(each)
            else:
                return splices
        self._joint = b"".join(texts), names
        return splices

    def serialize(self, scope: Scope, serialized: Mapping[str, Serialized]) -> tuple[bytes, Json]:
        """Return the canonical bytes of the template's value, and the value itself if it is large or had to be evaluated, else `None`.

        Complete values of steps are copied as their canonical bytes.

        Args:
            scope: As for `evaluate`.
            serialized: Names whose value has been serialized before.

        Raises:
            EvaluationError: As `evaluate`.
            RefersToSkipped: As `evaluate`.
            NotJson: The value is too deep or too large.
        """
        # The arguments of most calls are constants and complete values of steps, which one format puts together: a tenth of a step less than part by part.
        # A step that was skipped has no serialized value.
        if self._splices is None:
            self._spliced()
        if self._joint is not None:
            text, names = self._joint
            try:
                known = tuple(map(_DATA, map(serialized.__getitem__, names)))
            except KeyError:
                pass
            else:
                if not known or max(map(len, known)) <= SPLICED_BYTES_MAX:
                    joined = text % known
                    if len(joined) <= DEPTH_MAX or _is_surely_small(joined):
                        return joined, None
        # Evaluating comes to the problem that stands first in the plan, and says which step was skipped.
        skipped = SKIPPED in map(scope.get, self.strict)
        parts = None if skipped else self._parts(scope, serialized)
        if parts is None:
            value = self.evaluate(scope)
            return canonical(value), value
        # A text has one value and no depth, however long it is: the rest decides whether the limits hold.
        texts = any(len(part) > SPLICED_BYTES_MAX for part in parts)
        made = b"".join(parts)
        if not texts and _is_surely_small(made):
            return made, None
        value = self.evaluate(scope)
        if texts and _is_surely_small(b"".join(part for part in parts if len(part) <= SPLICED_BYTES_MAX)):
            return made, value
        return canonical(value), value

    def _parts(self, scope: Scope, serialized: Mapping[str, Serialized]) -> list[bytes] | None:
        """Return the canonical bytes of all parts; `None`: a part is too large to be serialized twice, or has no value."""
        parts: list[bytes] = []
        try:
            # Copying the bytes of step values instead of evaluating and serializing them again saves a tenth of a warm run
            # whose tools do nothing.
            for splice in self._spliced():
                if isinstance(splice, bytes):
                    parts.append(splice)
                elif isinstance(splice, str):
                    known = serialized.get(splice)
                    parts.append(canonical(scope[splice]) if known is None else known.data)
                    if len(parts[-1]) > SPLICED_BYTES_MAX and (known is None or not known.is_large_text):
                        return None
                else:
                    parts.append(canonical(checked(splice(scope))))
                    if len(parts[-1]) > SPLICED_BYTES_MAX:
                        return None
        except (EvaluationError, RefersToSkipped, KeyError):
            return None
        return parts


def _is_surely_small(serialized: bytes) -> bool:
    """Whether a value is neither too large nor too deep; where that is not sure, evaluating it counts exactly."""
    if len(serialized) <= DEPTH_MAX:
        return True
    return (
        len(serialized) <= SPLICED_BYTES_MAX and serialized.count(b"[") + serialized.count(b"{") <= DEPTH_MAX
    )


def parse_formula(value: Json) -> tuple[Formula, list[LocalProblem]]:
    """Return a value as a template, and what is wrong with it, constants worked out included. Never raises."""
    formula, problems = read_formula(value)
    return formula, problems if formula.secret is not None else [*problems, *formula.constant_problems()]


def read_formula(value: Json) -> tuple[Formula, list[LocalProblem]]:
    """Return a value as a template, and what is wrong with its text: no constant is worked out. Never raises. O(size of the value).

    Faults are `bad-expr`, `limit-exceeded` and `suspicious-text`. A secret is a problem unless it is the whole value: then
    `Formula.secret` has its name, and where it may stand is for others to judge.
    """
    if type(value) is str and _is_plain(value):
        return Formula(value), []
    reader = _Reader()
    tree = reader.tree(value, DEPTH_MAX)
    formula = Formula(value, tree, tuple(reader.leaves), has_escapes=reader.has_escapes)
    return formula, reader.problems if formula.secret is None else []


def _formula_of(value: Json) -> Formula:
    return read_formula(value)[0]


def _is_plain(text: str) -> bool:
    return "$" not in text and "{{" not in text


class _Reader:
    """Reads one value; knows where in it it is."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self.problems: list[LocalProblem] = []
        self.has_escapes = False
        self._path: list[str | int] = []
        self._length = 0  # of its keys

    def tree(self, value: Json, room: int) -> Tree | None:
        if type(value) is str:
            return None if _is_plain(value) else self._text(value)
        if isinstance(value, list | dict):
            if room <= 0:
                message = f"nested deeper than {DEPTH_MAX} levels"
                self.problems.append(LocalProblem("limit-exceeded", message, "", self._inner()))
                return None
            return self._branch(value, room - 1)
        return None

    def _branch(self, value: list[Json] | dict[str, Json], room: int) -> Branch | None:
        parts: dict[int | str, Tree] = {}
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            # Most parts are plain text, which is passed over without a call.
            if type(part) is str:
                if "$" not in part and "{{" not in part:
                    continue
                tree = self._text(part, name)
            elif type(part) is list or type(part) is dict:
                tree = self._inside(name, part, room)
            else:
                continue
            if tree is not None:
                parts[name] = tree
        return Branch(value, parts) if parts else None

    def _inside(self, name: str | int, part: Json, room: int) -> Tree | None:
        length = len(name) if isinstance(name, str) else 1
        # Each problem has its path, so long keys around many strings would multiply the text of a report.
        if self._length + length > PATH_LENGTH_MAX:
            message = f"expected a place whose keys have at most {PATH_LENGTH_MAX} characters together, found a longer one"
            self.problems.append(LocalProblem("limit-exceeded", message, "shorten the keys", self._inner()))
            return None
        self._path.append(name)
        self._length += length
        tree = self.tree(part, room)
        self._length -= length
        self._path.pop()
        return tree

    def _text(self, text: str, name: str | int | None = None) -> Tree | None:
        """Read one string, which is no plain text, at a place in the list or object that is being read."""
        # A string that is one expression is the commonest, and is remembered by its text.
        whole = whole_pieces(text)
        if whole is not None:
            leaf = Leaf(self._inner(name), whole)
            self.leaves.append(leaf)
            return leaf
        pieces, problems = pieces_of(text) if "${" in text else ((text,), [])
        problems += suspicious(text, pieces)
        inner = self._inner(name) if problems or pieces != (text,) else ""
        self.problems += [problem.moved(inner, 0) for problem in problems]
        if pieces == (text,):
            return None
        leaf = Leaf(inner, pieces)
        if any(isinstance(piece, Expression) for piece in pieces):
            self.leaves.append(leaf)
        else:
            self.has_escapes = True
        return leaf

    def _inner(self, name: str | int | None = None) -> str:
        own = "" if name is None else key(name) if isinstance(name, str) else f"[{name}]"
        return _joined(self._path) + own if self._path else own


def _joined(path: list[int | str]) -> str:
    return "".join([key(part) if isinstance(part, str) else f"[{part}]" for part in path])


def _leaves(tree: Tree | None) -> Iterator[Leaf]:
    """Yield the strings of a template that hold expressions, in order."""
    if isinstance(tree, Branch):
        for part in tree.parts.values():
            yield from _leaves(part)
    # A string with escapes alone has a leaf in the tree, and no expression.
    elif tree is not None and any(isinstance(piece, Expression) for piece in tree.pieces):
        yield tree


def _secret(leaf: Leaf) -> str | None:
    match leaf.whole and leaf.whole.parsed.node:
        case Call(function="secret", arguments=(Literal(value=str() as name),)):
            return name
        case _:
            return None


# --- Evaluating and serializing
#
# A template that mostly passes on values that have canonical bytes already is serialized by copying these bytes.


Scope: TypeAlias = Mapping[str, "Json | Skipped"]
Run: TypeAlias = "Callable[[Scope], Json]"
Splice: TypeAlias = "bytes | str | Run"  # as it is; the whole value of a name; what is computed


def compiled(tree: Tree) -> Run:
    """Return the function that evaluates a template. It raises `EvaluationError`, or `RefersToSkipped`."""
    if isinstance(tree, Branch):
        return _branch(tree.value, [(key, compiled(part)) for key, part in tree.parts.items()])
    if tree.whole is not None:
        return compile_node(tree.whole.parsed.folded)
    return _text(
        [piece if isinstance(piece, str) else compile_node(piece.parsed.folded) for piece in tree.pieces]
    )


def _compiled_present(tree: Tree, absent: list[tuple[str, EvaluationError]]) -> Run:
    """Return the function that evaluates a template and gives null for each string that asks for an absent field, whose fault `absent` gets."""
    if isinstance(tree, Branch):
        return _branch(
            tree.value, [(key, _compiled_present(part, absent)) for key, part in tree.parts.items()]
        )
    run, inner = compiled(tree), tree.inner

    def present(scope: Scope) -> Json:
        try:
            return run(scope)
        except EvaluationError as fault:
            if not fault.is_absent:
                raise
            absent.append((inner, fault))
            return None

    return present


def _branch(value: list[Json] | dict[str, Json], parts: list[tuple[int | str, Run]]) -> Run:
    def run(scope: Scope) -> Json:
        made: list[Json] | dict[str, Json] = value.copy()
        for name, part in parts:
            made[name] = part(scope)  # type: ignore[index]  # keys are the container's own
        return made

    return run


def _text(pieces: list[str | Run]) -> Run:
    def run(scope: Scope) -> Json:
        frame, length = Frame(scope), 0
        made: list[str] = []
        for piece in pieces:
            made.append(piece if isinstance(piece, str) else text_of(frame, piece(scope)))
            length += len(made[-1])
            if length > CHARACTERS_MAX:
                frame.pay_text(length)  # says what is too long
        return "".join(made)

    return run


def spliced(value: Json, tree: Tree | None) -> list[Splice]:
    """Return the parts that a template's canonical form is put together from, as few as possible."""
    made: list[Splice] = []
    _splice(value, tree, made)
    return made


def splices_of_names(value: Mapping[str, Json]) -> list[bytes | str]:
    """Return the splices of an object in which each expression is a name, and a whole field: `${step}`.

    Whether an object is of this form is not asked here, since to ask would be to read it (`Formula.names_in` asks).
    """
    made: list[bytes | str] = []
    text = b"{"
    for name in sorted(value):
        text += _serialized_again(name) if len(name) <= _KEY_CACHED_MAX else _serialized_key(name)
        part = value[name]
        if type(part) is str and part.startswith("${"):
            made += (text, part[2:-1])
            text = b","
        else:
            text += canonical(part) + b","
    return [*made, text[:-1] + b"}" if value else b"{}"]


def _splice(value: Json, tree: Tree | None, made: list[Splice]) -> None:
    if tree is None:
        _add_text(made, canonical(value))
    elif isinstance(tree, Leaf):
        whole = tree.whole
        node = None if whole is None else whole.parsed.folded
        made.append(node.name if isinstance(node, Name) else compiled(tree))
    elif isinstance(tree.value, dict):
        text = b"{"
        # In the order of canonical JSON, which the joined parts have to be.
        for name in sorted(tree.value):
            text += _serialized_key(name)
            inner = tree.parts.get(name)
            if inner is None:
                text += canonical(tree.value[name]) + b","
            else:
                _add_text(made, text)
                _splice(tree.value[name], inner, made)
                text = b","
        _add_text(made, text[:-1] + b"}")
    else:
        before = b"["
        for place, part in enumerate(tree.value):
            _add_text(made, before)
            _splice(part, tree.parts.get(place), made)
            before = b","
        _add_text(made, b"]")


def _serialized_key(name: str) -> bytes:
    """Return the canonical bytes of a key and the colon after it."""
    return _serialized_again(name) if len(name) <= _KEY_CACHED_MAX else canonical(name) + b":"


_KEY_CACHED_MAX = 64  # characters; a plan has few keys, and short ones


@lru_cache(1_024)
def _serialized_again(name: str) -> bytes:
    return canonical(name) + b":"


def _add_text(made: list[Splice], text: bytes) -> None:
    last = made[-1] if made else None
    if isinstance(last, bytes):
        made[-1] = last + text
    else:
        made.append(text)
