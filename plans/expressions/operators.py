"""The operators at run time, with Python's meaning over JSON values, and the frame that counts the work of one evaluation.

Differences from Python: booleans are not numbers, integers end at 64 bits, floats are finite and have no minus zero, and `**` gives an integer only where its exponent
is written as a non-negative integer. Every function takes values as they are in a scope (exact JSON types), and returns a value or raises `EvaluationError`. The
messages of these errors are journaled: a changed word is a difference in the replay of an old run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TypeAlias, cast

from ..reports.errors import EvaluationError, Skipped
from ..values import INTEGER_MAX, INTEGER_MIN, Json
from . import dates

Operator: TypeAlias = "Callable[[Frame, Json, Json], Json]"


_WORDS: Mapping[type[object], str] = MappingProxyType(
    {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
        **{kind: f"a {name}" for kind, name in dates.KINDS.items()},
    }
)


def kind_of(value: Json) -> str:
    """Return what a value is, as a word with its article."""
    return _WORDS[type(value)]


def type_problem(what: str, wanted: str, *found: Json) -> EvaluationError:
    """Return the problem of an operation on values that it does not take."""
    code = "null-value" if any(value is None for value in found) else "type-error"
    return EvaluationError(
        code, f"{what} takes {wanted}, found {' and '.join(kind_of(value) for value in found)}"
    )


def is_number(value: Json) -> bool:
    """Whether a value is an integer or a float; booleans are not."""
    kind = type(value)
    return kind is int or kind is float


def integer(value: int) -> int:
    """Return an integer result, if it is one of ours.

    Raises:
        EvaluationError: `overflow`: it is past 64 bits.
    """
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    raise EvaluationError(
        "overflow", "an integer past 64 bits; float(..) of an operand gives a number instead"
    )


def number(value: float) -> float:
    """Return a float result without minus zero, if it is finite.

    Raises:
        EvaluationError: `not-finite`.
    """
    if math.isfinite(value):
        # Adding zero turns minus zero into zero.
        return value + 0.0
    raise EvaluationError("not-finite", "the result is too large for a number, or none")


def result(value: complex) -> Json:
    """Return the result of Python's arithmetic, if it is one of ours.

    Raises:
        EvaluationError: It is past 64 bits, not finite, or no real number.
    """
    if type(value) is int:
        return integer(value)
    if type(value) is float:
        return number(value)
    raise EvaluationError("not-finite", "the result is not a real number")


def _dates(sign: str, wanted: str, left: Json, right: Json) -> Json:
    """Return `left sign right` of values that are not both numbers, if one is a date. Raises: EvaluationError."""
    made = dates.computed(sign, left, right) if dates.is_moment(left) or dates.is_moment(right) else None
    if made is None:
        raise type_problem(f"'{sign}'", wanted, left, right)
    # A timedelta divided by another is a number, and subject to the bounds of numbers.
    return result(cast("float", made)) if type(made) is int or type(made) is float else cast("Json", made)


def add(frame: Frame, left: Json, right: Json) -> Json:
    """`+` of numbers, texts or lists."""
    match left, right:
        case str(), str():
            frame.pay_text(len(left) + len(right))
            return left + right
        case list(), list():
            frame.pay_items(len(left) + len(right))
            return left + right
        case _:
            if is_number(left) and is_number(right):
                return result(cast("float", left) + cast("float", right))
            return _dates("+", "two numbers, two texts or two lists", left, right)


def multiply(frame: Frame, left: Json, right: Json) -> Json:
    """`*` of numbers, or of a text or list and how often to repeat it."""
    if is_number(left) and is_number(right):
        return result(cast("float", left) * cast("float", right))
    # As in Python, the count may stand on either side.
    if type(left) is int:
        left, right = right, left
    if type(right) is int and not dates.is_moment(left):
        count = max(right, 0)
        if type(left) is str:
            # Paid before the text is made: `"a" * 10**9` must fail, not fill the memory.
            frame.pay_text(len(left) * count)
            return left * count if left else ""
        if type(left) is list:
            frame.pay_items(len(left) * count)
            return left * count if left else []
    return _dates("*", "two numbers, or a text or list and an integer", left, right)


def _arithmetic(sign: str, compute: Callable[[float, float], complex]) -> Operator:
    """Return an operator of two numbers, or of a date and what `dates.RESULTS` has beside it."""

    def apply(_frame: Frame, left: Json, right: Json) -> Json:
        if not (is_number(left) and is_number(right)):
            return _dates(sign, "two numbers", left, right)
        # Python decides what is a division by zero or an overflow. The words are ours, since they are journaled.
        try:
            return result(compute(cast("float", left), cast("float", right)))
        except ZeroDivisionError:
            raise EvaluationError("division-by-zero", "division by zero") from None
        except OverflowError:
            raise EvaluationError("overflow", "the result is too large for a number") from None

    return apply


power = _arithmetic("**", lambda base, exponent: float(base) ** float(exponent))


def exact_power(frame: Frame, left: Json, right: Json) -> Json:
    """`**` with an exponent written as a non-negative integer: an integer from an integer."""
    if type(left) is not int or type(right) is not int:
        return power(frame, left, right)
    if abs(left) > 1 and right > 64:
        return integer(INTEGER_MAX + 1)  # past 64 bits whatever the base; not worked out
    return integer(left**right)


BINARY: dict[str, Operator] = {
    "+": add,
    "*": multiply,
    "**": power,
    **{sign: _arithmetic(sign, dates.ARITHMETIC[sign]) for sign in ("-", "/", "//", "%")},
}


def negate(value: Json) -> Json:
    """`-x` of a number."""
    of: object = value
    if isinstance(of, timedelta):
        return dates.negated(of)
    if not is_number(value):
        raise type_problem("'-'", "a number", value)
    return result(-cast("float", value))


def plus(value: Json) -> Json:
    """`+x` of a number: the number."""
    if not is_number(value):
        raise type_problem("'+'", "a number", value)
    return value


def equal(frame: Frame, left: Json, right: Json) -> bool:
    """Whether two values are the same: numbers by value, booleans only to booleans, all the way down."""
    kind, other = type(left), type(right)
    # `True == 1` holds in Python, but not in JSON: only numbers are equal across kinds.
    if kind is not other:
        if (dates.is_moment(left) or dates.is_moment(right)) and left is not None and right is not None:
            # Python says that they differ. That a text was not read as a date would then pass without a word.
            raise type_problem("'==' of a date", "two values of one kind", left, right)
        return is_number(left) and is_number(right) and left == right
    if kind is list:
        mine, theirs = cast("list[Json]", left), cast("list[Json]", right)
        if len(mine) != len(theirs):
            return False
        frame.pay(len(mine))
        return all(equal(frame, a, b) for a, b in zip(mine, theirs, strict=True))
    if kind is dict:
        here, there = cast("dict[str, Json]", left), cast("dict[str, Json]", right)
        if here.keys() != there.keys():
            return False
        frame.pay(len(here))
        return all(equal(frame, value, there[key]) for key, value in here.items())
    if kind is str:
        _pay_compared(frame, cast("str", left), cast("str", right))
    return left == right


def _pay_compared(frame: Frame, left: str, right: str) -> None:
    """Count the characters that a comparison of two texts may look at."""
    shorter = min(len(left), len(right))
    if shorter >= CHARACTERS_A_UNIT:
        frame.pay(shorter // CHARACTERS_A_UNIT)


def contains(frame: Frame, part: Json, whole: Json) -> bool:
    """`part in whole`: an item of a list, a piece of a text, a key of an object."""
    match whole:
        case list():
            frame.pay(len(whole))
            return any(equal(frame, part, item) for item in whole)
        case str() if type(part) is str:
            frame.pay_text(len(whole))
            return part in whole
        case dict() if type(part) is str:
            return part in whole
        case str() | dict():
            raise type_problem("'in' a text or an object", "text on its left", part)
        case _:
            raise type_problem("'in'", "a list, a text or an object on its right", whole)


def _is_less(frame: Frame, left: Json, right: Json, what: str) -> bool:
    if type(left) is str and type(right) is str:
        _pay_compared(frame, left, right)
    return less(left, right, what)


def less(left: Json, right: Json, what: str = "'<'") -> bool:
    """Whether `left < right`: two numbers, or two texts by code points."""
    # Texts compare by code points, so the order is the same in every locale.
    if (is_number(left) and is_number(right)) or (type(left) is str and type(right) is str):
        return cast("float", left) < cast("float", right)
    if dates.is_moment(left) and type(left) is type(right):
        return dates.is_before(left, right)
    raise type_problem(what, "two numbers or two texts", left, right)


COMPARE: dict[str, Operator] = {
    "==": equal,
    "!=": lambda frame, left, right: not equal(frame, left, right),
    "<": lambda frame, left, right: _is_less(frame, left, right, "'<'"),
    ">": lambda frame, left, right: _is_less(frame, right, left, "'>'"),
    "<=": lambda frame, left, right: not _is_less(frame, right, left, "'<='"),
    ">=": lambda frame, left, right: not _is_less(frame, left, right, "'>='"),
    "in": contains,
    "not in": lambda frame, part, whole: not contains(frame, part, whole),
    "is": lambda _frame, left, _right: left is None,
    "is not": lambda _frame, left, _right: left is not None,
}


def item(base: Json, key: Json) -> Json:
    """`base[key]`: of a list or text by position, of an object by key."""
    match base, key:
        case dict(), str():
            try:
                return base[key]
            except KeyError:
                raise EvaluationError("absent-field", f"there is no field {_shown(key)}") from None
        # `True` is an integer to Python, and no position here.
        case ((list() | str()), int()) if type(key) is int:
            try:
                return base[key]
            except IndexError:
                raise EvaluationError(
                    "index-out-of-range", f"there is no item [{key}], the length is {len(base)}"
                ) from None
        case ((list() | str()), _):
            raise type_problem(f"[..] of {kind_of(base)}", "an integer", key)
        case dict(), _:
            raise type_problem("[..] of an object", "text", key)
        case _:
            raise type_problem("[..]", "a list, a text or an object", base)


def field(base: Json, name: str) -> Json:
    """`base.name`, of an object."""
    if type(base) is dict:
        return item(base, name)
    if dates.is_moment(base):
        return dates.field(base, name)
    raise type_problem(f".{name}", "an object", base)


def cut(frame: Frame, base: Json, parts: tuple[Json, Json, Json]) -> Json:
    """`base[low:high:step]`, of a list or a text."""
    for part in parts:
        if part is not None and type(part) is not int:
            raise type_problem("a slice", "integers", part)
    if parts[2] == 0:
        raise EvaluationError("bad-value", "the step of a slice cannot be 0")
    where = slice(*cast("tuple[int | None, int | None, int | None]", parts))
    match base:
        case str():
            frame.pay_text(len(base))
            return base[where]
        case list():
            # The items that the slice will have are counted, and not those of the list.
            frame.pay(len(range(*where.indices(len(base)))))
            return base[where]
        case _:
            raise type_problem("a slice", "a list or a text", base)


def _shown(key: str) -> str:
    return f"'{key}'" if len(key) <= 60 else f"'{key[:57]}..'"


# --- The frame: what one evaluation may see, its loop names, and how much work it has left
#
# Whatever costs more than a constant is paid for before it is done: `pay` counts the values and characters that an operation visits or makes. So an expression ends within
# a bounded time and in bounded memory, whatever the data.


WORK_MAX = 5_000_000  # values visited or made by one evaluation: about a second
ITEMS_MAX = 1_000_000  # items of one list that an expression makes
CHARACTERS_MAX = 16 * 1024 * 1024  # of one text that an expression makes
CHARACTERS_A_UNIT = 16  # characters that count as one value: Python handles text in bulk


class Meter:
    """Counts the work of many evaluations, such as all of a run.

    A scope that has one as `meter` is metered: no evaluation begins past the limit. The last one may pass it, by its own `WORK_MAX` at the most.

    Attributes:
        spent: The work so far.
        most: The limit.
    """

    __slots__ = ("most", "spent")

    def __init__(self, most: int) -> None:
        self.spent = 0
        self.most = most

    def past(self) -> EvaluationError:
        """Return the problem of an evaluation that begins at the limit."""
        return EvaluationError(
            "limit-exceeded",
            f"the expressions of the run have taken {self.most} operations, which is the most; let a tool do the work, or divide it among runs",
        )


class Frame:
    """The state of one evaluation.

    Attributes:
        scope: The values of names.
        locals: Those of loop and lambda names.
        work: What may still be spent.
        has_dates: Whether a date was made, so that the result may have one in it. The run notes it, since a look through each expression would
            cost more when it is compiled.
    """

    __slots__ = ("has_dates", "locals", "scope", "work")

    def __init__(self, scope: Mapping[str, Json | Skipped]) -> None:
        self.scope = scope
        self.locals: dict[int, Json] = {}
        self.work = WORK_MAX
        self.has_dates = False

    def pay(self, units: int) -> None:
        """Count work about to be done.

        Raises:
            EvaluationError: `limit-exceeded`.
        """
        self.work -= units
        if self.work < 0:
            raise EvaluationError(
                "limit-exceeded",
                f"the expression takes more than {WORK_MAX} operations; divide it among steps",
            )

    def pay_items(self, count: int) -> None:
        """Count the items of a list about to be made.

        Raises:
            EvaluationError: `limit-exceeded`.
        """
        if count > ITEMS_MAX:
            raise EvaluationError(
                "limit-exceeded", f"a list of {count} items; an expression makes at most {ITEMS_MAX}"
            )
        self.pay(count)

    def pay_text(self, length: int) -> None:
        """Count the characters of a text about to be made.

        Raises:
            EvaluationError: `limit-exceeded`.
        """
        if length > CHARACTERS_MAX:
            raise EvaluationError(
                "limit-exceeded",
                f"a text of {length} characters; an expression makes at most {CHARACTERS_MAX}",
            )
        self.pay(length // CHARACTERS_A_UNIT)


def weigh(value: Json, room: int) -> int:
    """Return the work that a value stands for, counting shared parts as often as they stand in it.

    Stops soon after `room` is exceeded, so that a value that unfolds without end costs no more than that.
    """
    kind = type(value)
    if kind is str:
        return 1 + len(cast("str", value)) // CHARACTERS_A_UNIT
    if kind is list:
        parts: Iterable[Json] = cast("list[Json]", value)
    elif kind is dict:
        parts = cast("dict[str, Json]", value).values()
    else:
        return 1
    # Shared parts are counted wherever they stand, because serializing writes them out each time.
    total = 1
    for part in parts:
        total += weigh(part, room - total)
        if total > room:
            break
    return total


def checked(value: Json) -> Json:
    """Return an evaluation's result, if it is no larger than what one evaluation may visit.

    Raises:
        EvaluationError: `limit-exceeded`: parts that are shared in memory would unfold to more.
    """
    kind = type(value)
    if (kind is list or kind is dict) and weigh(value, WORK_MAX) > WORK_MAX:
        raise EvaluationError(
            "limit-exceeded", f"a value of more than {WORK_MAX} parts; divide it among steps"
        )
    return value
