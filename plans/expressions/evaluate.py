"""From an expression's tree to a function that evaluates it: compiled once, to closures.

Every node becomes one closure over the closures of its parts, so an evaluation runs no dispatch. `operators.py` and `functions.py` say what a node
computes; this module has only the order of evaluation, which is Python's: left to right; `and`, `or`, conditions and chained comparisons as far as
needed; comprehensions clause by clause. Constant parts are evaluated once, before the plan runs (`fold`).

Values made are canonical: no minus zero, no NaN, 64-bit integers. Values taken from the scope are handed on without
copying: consumers treat them as immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias, assert_never

from ..reports.errors import SKIPPED, EvaluationError, LocalProblem, RefersToSkipped, Skipped
from ..values import Json
from . import dates, nodes, operators, patterns
from .functions import FUNCTIONS, METHODS
from .nodes import NO_SLOTS, Node, bound, mapped, references
from .operators import WORK_MAX, Frame, Meter, checked, weigh

COMPOUND_KEYS_SINCE = 2
"""The version of the language in which `key=` takes several values at a time."""

Run: TypeAlias = Callable[[Frame], Json]
Scope: TypeAlias = Mapping[str, "Json | Skipped"]


def compile_node(node: Node) -> Callable[[Scope], Json]:
    """Return the function that evaluates an expression in a scope.

    It raises `EvaluationError`, or `RefersToSkipped`.
    """
    # Closures call each other directly, so an evaluation looks at no node again.
    run = _compile(node)
    # A path makes no value: what it takes from the scope was counted when it was made.
    return _taking(run) if _is_path(node) else _making(run)


def _taking(run: Run) -> Callable[[Scope], Json]:
    def evaluate(scope: Scope) -> Json:
        try:
            return run(Frame(scope))
        except (RecursionError, MemoryError):
            raise EvaluationError("limit-exceeded", _TOO_DEEP) from None

    return evaluate


def _making(run: Run) -> Callable[[Scope], Json]:
    def evaluate(scope: Scope) -> Json:
        meter: Meter | None = getattr(scope, "meter", None)
        if meter is not None and meter.spent >= meter.most:
            raise meter.past()
        frame = Frame(scope)
        try:
            # The parser bounds the depth of expressions, but not that of values; a value that is too deep fails its step, not the process.
            value = checked(run(frame))
            if frame.has_dates:
                value = checked(dates.plain(value))
        except (RecursionError, MemoryError):
            raise EvaluationError("limit-exceeded", _TOO_DEEP) from None
        finally:
            if meter is not None:
                meter.spent += WORK_MAX - frame.work
        if meter is not None and (type(value) is list or type(value) is dict):
            meter.spent += weigh(value, WORK_MAX)  # it was looked through, and will be serialized
        return value

    return evaluate


def evaluate_closed(node: Node, budget: Frame) -> Json:
    """Return the value of an expression that refers to nothing; its work is taken off the budget.

    Raises:
        EvaluationError: It has no value.
    """
    frame = Frame(budget.scope)
    frame.work = budget.work
    try:
        return checked(_compile(node)(frame))
    except (RecursionError, MemoryError):
        raise EvaluationError("limit-exceeded", _TOO_DEEP) from None
    finally:
        budget.work = frame.work


_TOO_DEEP = "the value is nested too deep or too large to compute with"


def _is_path(node: Node) -> bool:
    """Whether an expression is a plain path such as `a.b[0]`."""
    while isinstance(node, nodes.Field) or (
        isinstance(node, nodes.Index) and isinstance(node.key, nodes.Literal | nodes.Constant)
    ):
        node = node.base
    return isinstance(node, nodes.Name)


def _compile(node: Node) -> Run:  # noqa: C901, PLR0911, PLR0912  # one case, one line for each kind of node
    match node:
        case nodes.Literal() | nodes.Constant():
            return _constant(node.value)
        case nodes.Broken():
            return _broken(node.code, node.message)
        case nodes.Name():
            return _name(node.name)
        case nodes.Local():
            return _local(node.slot)
        case nodes.Field():
            return _field(_compile(node.base), node.name)
        case nodes.Index():
            return _index(_compile(node.base), _compile(node.key))
        case nodes.Slice():
            return _slice(
                _compile(node.base), *(_compile_optional(part) for part in (node.low, node.high, node.step))
            )
        case nodes.Unary():
            return _unary(node.operator, _compile(node.operand))
        case nodes.Binary():
            return _binary(operator_of(node), _compile(node.left), _compile(node.right))
        case nodes.Compare():
            return _compare(node)
        case nodes.Logic():
            return _logic(node.operator == "and", [_compile(operand) for operand in node.operands])
        case nodes.Condition():
            return _condition(_compile(node.test), _compile(node.then), _compile(node.otherwise))
        case nodes.ListOf():
            return _list([_compile(item) for item in node.items])
        case nodes.DictOf():
            return _dict([(_compile(key), _compile(value)) for key, value in node.pairs])
        case nodes.Comprehension():
            return _comprehension(node)
        case nodes.Call():
            return _call(node)
        case nodes.Method():
            return _apply(METHODS[node.name].apply, [_compile(node.base), *map(_compile, node.arguments)])
        case _:
            assert_never(node)


def operator_of(node: nodes.Binary) -> operators.Operator:
    """Return what a binary operator does; `**` looks at how its exponent is written."""
    if node.operator == "**" and is_exact(node.right):
        return operators.exact_power
    return operators.BINARY[node.operator]


def is_exact(exponent: Node) -> bool:
    """Whether an exponent is written as a non-negative integer."""
    return isinstance(exponent, nodes.Literal) and type(exponent.value) is int and exponent.value >= 0


def _compile_optional(node: Node | None) -> Run:
    return _constant(None) if node is None else _compile(node)


def _constant(value: Json) -> Run:
    # Minus zero becomes zero, as in every canonical value.
    if type(value) is float:
        value += 0.0
    return lambda _frame: value


def _broken(code: str, message: str) -> Run:
    def run(_frame: Frame) -> Json:
        raise EvaluationError(code, message)

    return run


def _name(name: str) -> Run:
    def run(frame: Frame) -> Json:
        try:
            value = frame.scope[name]
        except KeyError:
            raise EvaluationError("absent-field", f"'{name}' has no value here") from None
        if value is SKIPPED:
            raise RefersToSkipped(name)
        return value

    return run


def _local(slot: int) -> Run:
    return lambda frame: frame.locals[slot]


def _field(base: Run, name: str) -> Run:
    def run(frame: Frame) -> Json:
        value = base(frame)
        try:
            # Python's own lookup is right in nearly all cases; `operators.field` says what is wrong in the others.
            return value[name]  # type: ignore[index, call-overload]  # TypeError is caught
        except (KeyError, TypeError):
            return operators.field(value, name)

    return run


def _index(base: Run, key: Run) -> Run:
    return lambda frame: operators.item(base(frame), key(frame))


def _slice(base: Run, low: Run, high: Run, step: Run) -> Run:
    return lambda frame: operators.cut(frame, base(frame), (low(frame), high(frame), step(frame)))


def _unary(operator: str, operand: Run) -> Run:
    match operator:
        case "not":
            return lambda frame: not operand(frame)
        case "-":
            return lambda frame: operators.negate(operand(frame))
        case _:
            return lambda frame: operators.plus(operand(frame))


def _binary(apply: operators.Operator, left: Run, right: Run) -> Run:
    return lambda frame: apply(frame, left(frame), right(frame))


def _compare(node: nodes.Compare) -> Run:
    first = _compile(node.first)
    # As in Python, an operand between two comparisons is evaluated once, and the first false one ends the chain.
    links = [
        (operators.COMPARE[op], _compile(right)) for op, right in zip(node.operators, node.rest, strict=True)
    ]
    if len(links) == 1:
        return _binary(links[0][0], first, links[0][1])

    def run(frame: Frame) -> Json:
        left = first(frame)
        for holds, right in links:
            value = right(frame)
            if not holds(frame, left, value):
                return False
            left = value
        return True

    return run


def _logic(is_and: bool, operands: list[Run]) -> Run:  # noqa: FBT001  # private, one caller
    *most, last = operands

    def run(frame: Frame) -> Json:
        for operand in most:
            value = operand(frame)
            # The result is an operand and not a boolean, as in Python.
            if bool(value) is not is_and:
                return value
        return last(frame)

    return run


def _condition(test: Run, then: Run, otherwise: Run) -> Run:
    return lambda frame: then(frame) if test(frame) else otherwise(frame)


def _list(items: list[Run]) -> Run:
    return lambda frame: [item(frame) for item in items]


def _dict(pairs: list[tuple[Run, Run]]) -> Run:
    return lambda frame: {_key(key(frame)): value(frame) for key, value in pairs}


def _key(value: Json) -> str:
    if type(value) is not str:
        raise operators.type_problem("a key of an object", "text", value)
    return value


def _comprehension(node: nodes.Comprehension) -> Run:
    clauses = [_clause(clause) for clause in node.clauses]
    # A round pays for all of its operations at once: counting each would cost more than the operations.
    weight = 1 + _size(node.element) + (0 if node.value is None else _size(node.value))
    element = _compile(node.element)

    if node.value is None:

        def as_list(frame: Frame) -> Json:
            made: list[Json] = []
            for _ in _rounds(frame, clauses, 0):
                frame.pay(weight)
                made.append(element(frame))
            return made

        return as_list

    value = _compile(node.value)

    def as_dict(frame: Frame) -> Json:
        made: dict[str, Json] = {}
        for _ in _rounds(frame, clauses, 0):
            frame.pay(weight)
            made[_key(element(frame))] = value(frame)
        return made

    return as_dict


_Clause: TypeAlias = "tuple[Run, list[int], list[Run], int]"  # iterable, slots, conditions, work of a round


def _clause(clause: nodes.Clause) -> _Clause:
    weight = 1 + sum(map(_size, clause.conditions))
    slots = [target.slot for target in clause.targets]
    return _compile(clause.iterable), slots, [_compile(condition) for condition in clause.conditions], weight


def _rounds(frame: Frame, clauses: list[_Clause], depth: int) -> Iterator[None]:
    """Set the loop names to each combination in turn; yields once for each that passes the conditions."""
    # Recursion over clauses, not over items: it is as deep as the expression has `for`s.
    if depth == len(clauses):
        yield
        return
    iterable, slots, conditions, weight = clauses[depth]
    items = iterable(frame)
    if type(items) is not list:
        raise operators.type_problem("'for'", "a list", items)
    for item in items:
        frame.pay(weight)
        _assign(frame, slots, item)
        if all(condition(frame) for condition in conditions):
            yield from _rounds(frame, clauses, depth + 1)


def _assign(frame: Frame, slots: list[int], item: Json) -> None:
    if len(slots) == 1:
        frame.locals[slots[0]] = item
        return
    if type(item) is not list:
        raise operators.type_problem("'for' with several names", f"lists of {len(slots)} items", item)
    if len(item) != len(slots):
        raise EvaluationError("bad-value", f"'for' with {len(slots)} names found a list of {len(item)} items")
    for slot, part in zip(slots, item, strict=True):
        frame.locals[slot] = part


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.parts))


def _call(node: nodes.Call) -> Run:
    if node.function == "first":
        return _first([(frozenset(references(part).strict), _compile(part)) for part in node.arguments])
    if node.function == "secret":
        # The checker takes allowed secrets out of arguments, so a secret that is evaluated stands in a wrong place.
        return _broken("bad-expr", "a secret is the whole of an argument of a tool step, and never a value")
    apply = FUNCTIONS[node.function].apply
    arguments = [_compile(part) for part in node.arguments]
    if node.key is None and node.reverse is None and not node.names:
        return _apply(apply, arguments)
    keys = None if node.key is None else _keys(node.function, node.key)
    is_compound = node.key is not None and is_compound_key(node.key.body)
    reverse = None if node.reverse is None else _compile(node.reverse)
    others = [(name, _compile(part)) for name, part in zip(node.names, node.named, strict=True)]

    def run(frame: Frame) -> Json:
        values = [argument(frame) for argument in arguments]
        named: dict[str, object] = {}
        if keys is not None:
            named["keys"] = keys(frame, values)
        if is_compound:
            named["is_compound"] = True
        if reverse is not None:
            named["reverse"] = reverse(frame)
        for name, part in others:
            named[name] = part(frame)
        return apply(frame, *values, **named)

    return run


def is_compound_key(body: Node) -> bool:
    """Whether a lambda is written as a list, so that each part of it counts: `key=lambda x: [x.a, x.b]`."""
    # By how it is written, not by its value: in version 1 a key that happened to be a list failed its run, and runs of that time have to replay.
    return isinstance(body, nodes.ListOf) or (isinstance(body, nodes.Constant) and type(body.value) is list)


def _apply(apply: Callable[..., Json], arguments: list[Run]) -> Run:
    return lambda frame: apply(frame, *[argument(frame) for argument in arguments])


def _keys(function: str, key: nodes.Lambda) -> Callable[[Frame, list[Json]], list[Json]]:
    # Keys are computed before the function runs, so that no function calls back into an expression.
    slot, body, weight = key.parameter.slot, _compile(key.body), 1 + _size(key.body)

    def run(frame: Frame, values: list[Json]) -> list[Json]:
        items = values[0] if len(values) == 1 else values
        if type(items) is not list:
            raise operators.type_problem(f"{function}(..)", "a list", items)
        made: list[Json] = []
        for item in items:
            frame.pay(weight)
            frame.locals[slot] = item
            made.append(body(frame))
        return made

    return run


def _first(arguments: list[tuple[frozenset[str], Run]]) -> Run:
    def run(frame: Frame) -> Json:
        skipped: str | None = None
        missing: EvaluationError | None = None  # of the last argument that was looked at
        looked = False
        for names, argument in arguments:
            # A skipped step makes an argument absent even where its evaluation would not reach the reference, as it would skip a step.
            gone = [name for name in names if frame.scope.get(name) is SKIPPED]
            if gone:
                skipped = skipped or min(gone)
                continue
            try:
                value = argument(frame)
            except RefersToSkipped as skip:  # a `first` inside, with nothing left
                skipped = skipped or skip.step
                continue
            except EvaluationError as problem:
                if not problem.is_missing:
                    raise
                # Without its traceback and its context, which hold this frame: such a circle would keep the frame, and with it the run.
                looked, missing = True, problem.with_traceback(None)
                missing.__context__ = None
                continue
            if value is not None:
                return value
            looked, missing = True, None
        if missing is not None:
            try:
                raise missing
            finally:
                del missing  # as above
        if skipped is not None and not looked:
            raise RefersToSkipped(skipped)
        return None

    return run


# --- Constant folding: every sub-expression that refers to nothing is evaluated before the plan runs.
#
# Its value replaces it (`Constant`). If it has none, the problem is reported, and the part becomes `Broken`, from which no other problem
# is derived. An expression shares one budget of work among its constant parts, as it has one budget when it runs. Large results
# are not kept, since a plan would hold them for as long as it lives: such a part is computed again at run time.
#
# Inside `first(..)` an absent value is no problem: `first({}["a"], 1)` is 1.


KEPT_MAX = 1_000  # parts of a folded value that a plan keeps


class Folded(NamedTuple):
    """An expression with its constant parts evaluated.

    Attributes:
        node: The expression.
        problems: Those of its constant parts, in the order of the text.
        work: The work that it took; more than was allowed if it was cut short.
    """

    node: Node
    problems: tuple[LocalProblem, ...] = ()
    work: int = 0


def fold(node: Node, work: int | None = None) -> Folded:
    """Return the expression with its constant parts evaluated.

    Args:
        node: The expression.
        work: The most work to spend; past it the result is of no use but for its `work`, which is more. `None`: what any expression may spend.
    """
    folding = _Folding(work)
    folding.find_free(node)
    if not folding.constants and not folding.has_patterns:
        return Folded(node)
    folded = folding.folded(node)
    if folding.large:
        folded = folding.without_large(folded)
    problems = sorted(folding.problems, key=lambda problem: (problem.start, problem.end))
    return Folded(folded, tuple(problems), folding.spent)


class _Folding:
    """The folding of one expression, with at most that much work."""

    def __init__(self, work: int | None) -> None:
        self._most = work
        # Parts of the values that were made: looking at them is work, too, but not the expression's.
        self._weighed = 0
        # By identity: the operations that refer to nothing outside themselves.
        self.constants: set[int] = set()
        self.problems: list[LocalProblem] = []
        # By identity of the constant, which stays alive here.
        self.large: dict[int, tuple[nodes.Constant, Node]] = {}
        self._budget = Frame({})
        if work is not None:
            self._budget.work = min(work, WORK_MAX)
        self._allowed = self._budget.work
        self._firsts = 0  # calls of `first` around the node
        self.has_dates = False
        self.has_patterns = False

    @property
    def spent(self) -> int:
        """The work so far."""
        return self._allowed - self._budget.work + self._weighed

    def find_free(self, node: Node) -> frozenset[int] | None:
        """Return the loop and lambda names that a node takes from around it; `None` if it refers to a step or an input."""
        if isinstance(node, nodes.Name | nodes.Broken):
            return None
        if isinstance(node, nodes.Literal | nodes.Constant):
            return NO_SLOTS
        if isinstance(node, nodes.Local):
            return frozenset({node.slot})
        # From the leaves up: a node is constant if it takes no name from outside itself.
        free: frozenset[int] | None = NO_SLOTS
        for part in node.parts:
            inner = self.find_free(part)
            free = None if free is None or inner is None else free | inner
        if isinstance(node, nodes.Call):
            self.has_dates = self.has_dates or node.function in dates.MAKERS
            self.has_patterns = self.has_patterns or node.function in patterns.FUNCTIONS
        if free is None or (isinstance(node, nodes.Call) and node.function == "secret"):
            return None
        free -= bound(node)
        if not free:
            self.constants.add(id(node))
        return free

    def folded(self, node: Node) -> Node:
        """Return a node with its constant parts evaluated: the smallest ones first, so that a problem is told where it arises."""
        is_first = isinstance(node, nodes.Call) and node.function == "first"
        before = len(self.problems)
        self._firsts += is_first
        made = mapped(node, self.folded)
        self._firsts -= is_first
        if self.has_patterns and isinstance(made, nodes.Call) and made.function in patterns.FUNCTIONS:
            made = self._with_pattern(made)
        # A part with a problem inside has no value that means anything, so it is not evaluated.
        if id(node) not in self.constants or len(self.problems) > before:
            return made
        if self._most is not None and self.spent > self._most:
            return made
        try:
            value = evaluate_closed(made, self._budget)
        except EvaluationError as error:
            # The run passes the missing value over, so the part stays as it is.
            if self._firsts and error.is_missing:
                return node
            # The codes of evaluation are finer than those of plans.
            code = "limit-exceeded" if error.code == "limit-exceeded" else "bad-expr"
            self.problems.append(LocalProblem(code, str(error), "", "", node.start, node.end))
            return nodes.Broken(node.start, node.end, code, str(error))
        if type(value) is list or type(value) is dict:
            self._weighed += weigh(value, WORK_MAX)
        # A plan keeps no dates, so such a part is computed again when the expression is.
        if self.has_dates and dates.plain(value) is not value:
            return made
        constant = nodes.Constant(node.start, node.end, value)
        if weigh(value, KEPT_MAX) > KEPT_MAX:
            self.large[id(constant)] = (constant, node)
        return constant

    def _with_pattern(self, call: nodes.Call) -> nodes.Call:
        """Return a call with its regular expression looked at, if that is written out."""
        # Here and not where types are inferred, because compiling is work, and this is where a check counts work.
        pattern, *others = call.arguments
        if not isinstance(pattern, nodes.Literal | nodes.Constant) or not isinstance(pattern.value, str):
            return call
        self._weighed += patterns.work_of(pattern.value)
        if self._most is not None and self.spent > self._most:
            return call
        try:
            patterns.compiled(pattern.value)
        except patterns.PatternError as error:
            message = f"{call.function}(..) cannot read its pattern: {error}"
            hint = "it takes Python's syntax, without look-arounds and back-references"
            self.problems.append(LocalProblem("bad-expr", message, hint, "", pattern.start, pattern.end))
            return replace(
                call, arguments=(nodes.Broken(pattern.start, pattern.end, "bad-expr", message), *others)
            )
        return call

    def without_large(self, node: Node) -> Node:
        """Return a folded node as a plan keeps it: with the original expression for each large value."""
        # Only now: a constant part around a large value is evaluated from that value, so that no work is paid for twice.
        found = self.large.get(id(node))
        return mapped(node, self.without_large) if found is None else found[1]
