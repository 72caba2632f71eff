"""The functions and the methods of text: two tables, and what each entry does at run time.

Each entry says how many arguments it takes and how it is written with types; `function_types.py` has the type that it gives. Implementations take the frame
(to pay for their work) and values; they return a value or raise `EvaluationError`. `first` and `secret` have no implementation here, because
they do not evaluate their arguments like the rest.

The language grows without breaking plans. The names of the functions of version 1 are reserved (`RESERVED_FUNCTIONS`): no step, input or loop may have them. A
later function gets `since` its version, raises `EXPRESSION_VERSION`, and reserves nothing: its name is the function where `(` follows, and everywhere else
the step, input or loop of that name.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..reports.errors import EvaluationError
from ..values import Json, canonical
from . import date_functions, dates, patterns
from .operators import (
    CHARACTERS_A_UNIT,
    ITEMS_MAX,
    equal,
    integer,
    is_number,
    kind_of,
    number,
    result,
    type_problem,
    weigh,
)

if TYPE_CHECKING:
    from .operators import Frame


FORM_WIDTH_MAX: Final = 1_000
"""Characters to which `format` fills up."""

FORM_DIGITS_MAX: Final = 100
"""Digits after the point that `format` writes."""

PATH_PARTS_MAX: Final = 100
"""Fields and positions of a path that `get` follows."""

SORTED_AT_ONCE_MAX: Final = 50_000
"""Items that one call of Python's sort brings in order from nothing."""

STRIPPED_DISTINCT_MAX: Final = 64
"""Characters that Python's `strip` is given to look for."""

Apply: TypeAlias = "Callable[..., Json]"  # (frame, *arguments)

EXPRESSION_VERSION: Final = 2
"""Of the language: its syntax and its meaning change only with this number. A run's header keeps the version that it began with."""

RESERVED_FUNCTIONS: Final = frozenset(
    [
        "len",
        "sum",
        "min",
        "max",
        "avg",
        "abs",
        "round",
        "sorted",
        "reversed",
        "range",
        "any",
        "all",
        "zip",
        "enumerate",
        "str",
        "int",
        "float",
        "bool",
        "keys",
        "values",
        "items",
        "flatten",
        "distinct",
        "join",
        "first",
        "secret",
    ]
)
"""The functions of version 1: these names are reserved. The set is frozen: another name would make stored plans unreadable."""


@immutable
class Function:
    """One function or method.

    Attributes:
        signature: How it is written, with types, for people.
        least: Fewest arguments.
        most: Most arguments; `None`: any number.
        apply: What it does.
        keywords: The names it takes, such as `key` and `reverse`.
        generators: Whether an argument may be a generator.
        since: The version of the language that it came with. A run of an older version does not have it.
        of: Of a method: whether its values are text or dates.
    """

    signature: str
    least: int
    most: int | None
    apply: Apply
    keywords: tuple[str, ...] = ()
    generators: bool = False
    since: int = 1
    of: Literal["text", "date"] = "text"


def a_list(value: Json, what: str) -> list[Json]:
    """Return a value that should be a list.

    Raises:
        EvaluationError: The value is of another kind.
    """
    if type(value) is not list:
        raise type_problem(what, "a list", value)
    return value


def an_object(value: Json, what: str) -> dict[str, Json]:
    """Return a value that should be an object.

    Raises:
        EvaluationError: The value is of another kind.
    """
    if type(value) is not dict:
        raise type_problem(what, "an object", value)
    return value


def a_text(value: Json, what: str) -> str:
    """Return a value that should be text.

    Raises:
        EvaluationError: The value is of another kind.
    """
    if type(value) is not str:
        raise type_problem(what, "text", value)
    return value


def an_integer(value: Json, what: str) -> int:
    """Return a value that should be an integer.

    Raises:
        EvaluationError: The value is of another kind.
    """
    if type(value) is not int:
        raise type_problem(what, "an integer", value)
    return value


def _texts(frame: Frame, value: Json, what: str) -> list[str]:
    items = a_list(value, what)
    frame.pay(len(items))
    return [a_text(item, f"an item of {what}") for item in items]


def _numbers(frame: Frame, value: Json, what: str) -> list[float]:
    items = a_list(value, what)
    frame.pay(len(items))
    for item in items:
        if not is_number(item):
            raise type_problem(f"an item of {what}", "a number", item)
    return cast("list[float]", items)


def _len(_frame: Frame, value: Json) -> Json:
    match value:
        case str() | list() | dict():
            return len(value)
        case _:
            raise type_problem("len(..)", "text, a list or an object", value)


def _sum(frame: Frame, values: Json) -> Json:
    # From left to right, as `a + b + ..`: Python's own sum(..) rounds differently from version to version.
    return result(functools.reduce(operator.add, _numbers(frame, values, "sum(..)"), 0))


def _avg(frame: Frame, values: Json) -> Json:
    numbers = _numbers(frame, values, "avg(..)")
    if not numbers:
        raise EvaluationError("empty-list", "avg(..) of an empty list")
    # The same sum as sum(..), divided once: avg(xs) is sum(xs) / len(xs) to the last bit.
    return number(functools.reduce(operator.add, numbers) / len(numbers))


def _extreme(what: str, goes_before: Callable[[Any, Any], bool]) -> Apply:
    # Python's own comparison: the kinds of the keys have been checked, and compound keys are lists.
    def apply(frame: Frame, *values: Json, keys: list[Json] | None = None, is_compound: bool = False) -> Json:
        items = a_list(values[0], what) if len(values) == 1 else list(values)
        if not items:
            raise EvaluationError("empty-list", f"{what} of an empty list")
        order = items if keys is None else keys
        frame.pay(len(order))
        _check_keys(frame, order, what, 1, is_compound=is_compound)
        # Only a strictly better key replaces the best one, so of equal ones the first stays, as in Python.
        best = 0
        for position in range(1, len(order)):
            if goes_before(order[position], order[best]):
                best = position
        chosen = items[best]
        if keys is None and type(chosen) is int and any(type(item) is float for item in items):
            return float(chosen)  # an integer only from integers
        return chosen

    return apply


def _check_order(items: Sequence[Json], what: str) -> None:
    """Refuse what has no order: all numbers or all text is wanted."""
    # Booleans are neither: Python would sort them among the numbers.
    numbers = sum(map(is_number, items))
    texts = sum(type(item) is str for item in items)
    if len(items) in {numbers, texts} or _are_moments(items):
        return
    odd = (
        next(item for item in items if not is_number(item) and type(item) is not str)
        if numbers + texts < len(items)
        else None
    )
    if odd is None and None not in items:
        raise EvaluationError("type-error", f"{what} takes all numbers or all text, found both")
    raise type_problem(what, "all numbers or all text", odd)


def _are_moments(items: Sequence[object]) -> bool:
    """Whether items are dates, all of one kind that has an order; times with and without an offset have none."""
    kind = type(items[0])
    if kind not in dates.KINDS or any(type(item) is not kind for item in items):
        return False
    bare = [item.tzinfo is None for item in items if isinstance(item, datetime)]
    if any(bare) and not all(bare):
        raise dates.mixed_offsets()
    return True


def _check_keys(frame: Frame, keys: list[Json], what: str, times: int, *, is_compound: bool) -> None:
    """Refuse keys that have no order, and pay for the texts among them, each looked at so many times.

    Args:
        frame: Pays.
        keys: The keys; compound ones are lists of one length.
        what: The function, for messages.
        times: How often each key is looked at.
        is_compound: Whether the lambda is written as a list: only then each key is one, and its parts are compared in turn.
    """
    if not is_compound:
        _check_order(keys, what)
        _pay_texts(frame, keys, times)
        return
    for column in zip(*cast("list[list[Json]]", keys), strict=True):
        frame.pay(len(column))
        # Booleans have an order here, since `key=lambda x: (not x.urgent, x.due)` is how Python says "urgent ones first".
        if any(type(part) is not bool for part in column):
            _check_order(column, f"a part of the key of {what}")
            _pay_texts(frame, column, times)


def _pay_texts(frame: Frame, items: Sequence[Json], times: int) -> None:
    """Count the characters of a list of texts, each looked at so many times, as far as the texts are long: short ones are paid for as items."""
    if items and type(items[0]) is str:
        characters = sum(map(len, cast("Sequence[str]", items)))
        frame.pay(max(characters // CHARACTERS_A_UNIT - len(items), 0) * times)


def _rounds(items: Sequence[Json]) -> int:
    """Return the work for each item of a sorted list."""
    # A sort compares each item about log2(n) times, and a comparison counts as a quarter of an operation.
    return max(len(items).bit_length() // 4, 1)


def _sorted_in_pieces(places: list[int], key: Callable[[int], Any], *, reverse: bool) -> list[int]:
    """Return the places in the order of their keys, equal ones in the order that they had.

    One call that sorts a million items holds Python's lock for a second, and every other thread waits. Sorted pieces first, it is some short
    calls, and one that only merges: Python's sort finds the pieces.
    """
    if len(places) <= SORTED_AT_ONCE_MAX:
        return sorted(places, key=key, reverse=reverse)
    pieces = [
        sorted(places[start : start + SORTED_AT_ONCE_MAX], key=key, reverse=reverse)
        for start in range(0, len(places), SORTED_AT_ONCE_MAX)
    ]
    return sorted([place for piece in pieces for place in piece], key=key, reverse=reverse)


def _sorted(
    frame: Frame,
    values: Json,
    *,
    keys: list[Json] | None = None,
    reverse: Json = False,
    is_compound: bool = False,
) -> Json:
    items = a_list(values, "sorted(..)")
    frame.pay(len(items) * _rounds(items))
    if type(reverse) is not bool:
        raise type_problem("reverse=", "a boolean", reverse)
    order = items if keys is None else keys
    _check_keys(frame, order, "sorted(..)", _rounds(order), is_compound=is_compound)
    # Positions are sorted instead of pairs of key and item, since the items themselves need no order.
    places = _sorted_in_pieces(list(range(len(items))), cast("list[Any]", order).__getitem__, reverse=reverse)
    return [items[place] for place in places]


def _abs(_frame: Frame, value: Json) -> Json:
    if not is_number(value):
        raise type_problem("abs(..)", "a number", value)
    return result(abs(cast("float", value)))


def _round(_frame: Frame, value: Json, digits: Json = None) -> Json:
    if not is_number(value):
        raise type_problem("round(..)", "a number", value)
    numeric = cast("float", value)
    if digits is None:
        return integer(round(numeric))
    # `round(5, -10**9)` would compute a power of ten with a billion digits.
    places = max(min(an_integer(digits, "round(..)'s second argument"), 400), -400)
    try:
        return number(float(round(numeric, places)))
    except OverflowError:
        raise EvaluationError("overflow", "the result is too large for a number") from None


def _reversed(frame: Frame, values: Json) -> Json:
    items = a_list(values, "reversed(..)")
    frame.pay(len(items))
    return items[::-1]


def _range(frame: Frame, *bounds: Json) -> Json:
    numbers = [an_integer(bound, "range(..)") for bound in bounds]
    if len(numbers) == 3 and numbers[2] == 0:
        raise EvaluationError("bad-value", "the step of range(..) cannot be 0")
    span = range(*numbers)
    # Paid before the list is made, as everywhere: `range(10**18)` fails at once.
    frame.pay_items(_length(span))
    return list(span)


def _length(span: range) -> int:
    try:
        return len(span)
    except OverflowError:
        return 2**63


def _any(frame: Frame, values: Json) -> Json:
    items = a_list(values, "any(..)")
    frame.pay(len(items))
    return any(items)


def _all(frame: Frame, values: Json) -> Json:
    items = a_list(values, "all(..)")
    frame.pay(len(items))
    return all(items)


def _zip(frame: Frame, *values: Json) -> Json:
    lists = [a_list(value, "zip(..)") for value in values]
    # Each row is a list of its own, so it counts beside its items.
    frame.pay_items(min(map(len, lists)) * (len(lists) + 1))
    return [list(row) for row in zip(*lists, strict=False)]


def _enumerate(frame: Frame, values: Json, start: Json = 0) -> Json:
    items, first = a_list(values, "enumerate(..)"), an_integer(start, "enumerate(..)'s second argument")
    frame.pay(3 * len(items))
    # The last position decides whether all of them are 64-bit integers.
    integer(first + len(items))
    return [[position, item] for position, item in enumerate(items, first)]


def text_of(frame: Frame, value: Json) -> str:
    """Return a value as it stands in a text: text as it is, everything else as canonical JSON.

    Raises:
        EvaluationError: The text is too long, or the value too deep.
    """
    if type(value) is str:
        return value
    if type(value) is list or type(value) is dict:
        frame.pay(weigh(value, frame.work))
    try:
        text = canonical(value).decode()
    except ValueError as error:
        # Only a value that has no canonical form can have a date in it, so other values are not looked through.
        if (without := dates.plain(value)) is not value:
            return text_of(frame, without)
        raise EvaluationError("limit-exceeded", str(error)) from None
    frame.pay_text(len(text))
    return text


def _int(_frame: Frame, value: Json) -> Json:
    match value:
        case bool() | int() | float():
            return integer(int(value))
        case str():
            # The length is asked first: Python takes quadratic time to read many digits.
            if len(value) > 400 or not _INTEGER_TEXT.fullmatch(value):
                raise EvaluationError("bad-value", f"int(..) cannot read {dates.quoted(value)}")
            return integer(int(value))
        case _:
            raise type_problem("int(..)", "a number, text or a boolean", value)


def _float(_frame: Frame, value: Json) -> Json:
    match value:
        case bool() | int() | float():
            return number(float(value))
        case str():
            try:
                # To Python `inf` and `nan` are numbers; `number` refuses them.
                return number(float(value))
            except ValueError:
                raise EvaluationError("bad-value", f"float(..) cannot read {dates.quoted(value)}") from None
        case _:
            raise type_problem("float(..)", "a number, text or a boolean", value)


def _bool(_frame: Frame, value: Json) -> Json:
    return bool(value)


_INTEGER_TEXT = late_pattern(r"\s*[+-]?\d+(?:_\d+)*\s*")


def _keys(frame: Frame, value: Json) -> Json:
    fields = an_object(value, "keys(..)")
    frame.pay(len(fields))
    return cast("list[Json]", _sorted_keys(frame, fields))


def _sorted_keys(frame: Frame, fields: dict[str, Json]) -> list[str]:
    # An object that was computed has its keys in any order, and long ones perhaps.
    if len(fields) > 1:
        keys = list(fields)
        _pay_texts(frame, cast("Sequence[Json]", keys), _rounds(cast("Sequence[Json]", keys)))
    return sorted(fields)


def _values(frame: Frame, value: Json) -> Json:
    fields = an_object(value, "values(..)")
    frame.pay(2 * len(fields))
    # By key and not as written: stored values have sorted keys, so a replay has no other order.
    return [fields[key] for key in _sorted_keys(frame, fields)]


def _items(frame: Frame, value: Json) -> Json:
    fields = an_object(value, "items(..)")
    frame.pay(3 * len(fields))
    return [[key, fields[key]] for key in _sorted_keys(frame, fields)]


def _flatten(frame: Frame, values: Json) -> Json:
    lists = [a_list(part, "an item of flatten(..)") for part in a_list(values, "flatten(..)")]
    frame.pay(len(lists))
    frame.pay_items(sum(map(len, lists)))
    return [item for part in lists for item in part]


def _distinct(frame: Frame, values: Json) -> Json:
    return _first_of_each(frame, a_list(values, "distinct(..)"), None)


def _unique_by(frame: Frame, values: Json, *, keys: list[Json] | None = None, **_: object) -> Json:
    return _first_of_each(frame, a_list(values, "unique_by(..)"), keys)


def _first_of_each(frame: Frame, items: list[Json], keys: list[Json] | None) -> Json:
    """Return the items without those whose key an earlier one has; an item without a key is its own."""
    frame.pay(len(items))
    kept: list[Json] = []
    # Comparing each pair would be quadratic; only values with equal signs are compared.
    alike: dict[object, list[Json]] = {}
    for item, key in zip(items, items if keys is None else keys, strict=True):
        seen = alike.setdefault(_sign(frame, key), [])
        if not any(equal(frame, key, other) for other in seen):
            seen.append(key)
            kept.append(item)
    return kept


def _sign(frame: Frame, value: Json) -> object:
    """Return something that can be hashed and is the same for equal values."""
    match value:
        # Python takes True for 1, also as the key of a dict.
        case bool():
            return ("boolean", value)
        case list():
            frame.pay(len(value))
            return ("list", *(_sign(frame, part) for part in value))
        case dict():
            frame.pay(2 * len(value))
            return ("object", *((key, _sign(frame, value[key])) for key in sorted(value)))
        # 1 and 1.0 hash alike in Python, and they are equal here, too.
        case _:
            return value


def _group_by(frame: Frame, values: Json, *, keys: list[Json] | None = None, **_: object) -> Json:
    return cast("Json", _groups(frame, a_list(values, "group_by(..)"), keys, "group_by(..)"))


def _count_by(frame: Frame, values: Json, *, keys: list[Json] | None = None, **_: object) -> Json:
    groups = _groups(frame, a_list(values, "count_by(..)"), keys, "count_by(..)")
    return {key: len(group) for key, group in groups.items()}


def _groups(frame: Frame, items: list[Json], keys: list[Json] | None, what: str) -> dict[str, list[Json]]:
    """Return the items of each key, in the order that they had; groups stand in the order of their first items."""
    frame.pay(2 * len(items))
    groups: dict[str, list[Json]] = {}
    kind: type[object] | None = None
    for item, key in zip(items, items if keys is None else keys, strict=True):
        # One kind only: as names of fields, 1 and "1" would be one group.
        kind = kind or type(key)
        if type(key) is not kind and key is not None:
            message = f"{what} takes keys of one kind, found {kind_of(key)} beside others; str(..) makes text of them"
            raise EvaluationError("type-error", message)
        groups.setdefault(_group_name(frame, key, what), []).append(item)
    return groups


def _group_name(frame: Frame, key: Json, what: str) -> str:
    """Return the name of the field that has the group of a key."""
    if type(key) is str:
        frame.pay(len(key) // CHARACTERS_A_UNIT)
        return key
    if type(key) is int or type(key) is bool or dates.is_moment(key):
        return text_of(frame, key)
    # A float has many spellings for one number, and null is mostly forgotten data.
    raise type_problem(f"a key of {what}", "text, an integer or a boolean", key)


# --- Numbers as text, and regular expressions


_FORM: Final = late_pattern(
    r"(?:(?P<fill>.)?[<>^=])?(?P<sign>[-+ ])?(?P<zero>0)?(?P<width>[0-9]{1,4})?(?P<group>[,_])?(?:\.(?P<digits>[0-9]{1,3}))?"
    r"(?P<kind>[bdeEfFgGosxX%])?",
    re.DOTALL,
)


def check_form(form: str) -> None:
    """Refuse what is no form of numbers and text such as `,.2f`. Raises: EvaluationError."""
    # The forms that mean the same in every version of Python and in every locale.
    found = _FORM.fullmatch(form) if len(form) <= 20 else None
    if (
        found is None
        or int(found["width"] or 0) > FORM_WIDTH_MAX
        or int(found["digits"] or 0) > FORM_DIGITS_MAX
    ):
        raise EvaluationError(
            "bad-value",
            f"format(..) cannot read the form {dates.quoted(form)}; write it as in ',.2f', '08d' or '<20'",
        )


def _format(frame: Frame, value: Json, form: Json) -> Json:
    text = a_text(form, "format(..)'s second argument")
    moment: object = value
    if isinstance(moment, date):
        frame.pay(len(text))
        return dates.formatted(moment, text)
    if not is_number(value) and type(value) is not str:
        raise type_problem("format(..)", "a number, text or a date", value)
    check_form(text)
    # How long the text will be is known only once it is made, so the longest one is paid for.
    frame.pay_text(FORM_WIDTH_MAX + (len(value) if isinstance(value, str) else 0))
    try:
        return format(value, text)
    except ValueError:  # `.2f` of text, `d` of a float
        message = f"format(..) has no form {dates.quoted(text)} for {kind_of(value)}"
        raise EvaluationError("bad-value", message) from None


def _matching(what: str, *, at_start: bool) -> Apply:
    def apply(frame: Frame, pattern: Json, text: Json) -> Json:
        return patterns.first_match(frame, what, a_text(pattern, what), a_text(text, what), at_start=at_start)

    return apply


def _findall(frame: Frame, pattern: Json, text: Json) -> Json:
    return patterns.all_matches(frame, a_text(pattern, "findall(..)"), a_text(text, "findall(..)"))


# --- Paths: what `get` follows


_PATH: Final = late_pattern(r"(?:^|\.)([^.\[\]]+)|\[(-?[0-9]{1,18})\]")


def path_of(path: Json) -> list[str | int]:
    """Return the fields and positions of a path: `"a.b[0]"`, `"a.0"`, or a list such as `["a.b", 0]`.

    Raises:
        EvaluationError: It is no path.
    """
    parts: list[str | int] = []
    if isinstance(path, str):
        parts = _parts_of(path)
    elif isinstance(path, list):
        for part in path[: PATH_PARTS_MAX + 1]:
            if type(part) is not str and type(part) is not int:
                raise type_problem("a part of the path of get(..)", "text or an integer", part)
            parts.append(part)
    else:
        raise type_problem("the path of get(..)", "text or a list", path)
    if not 1 <= len(parts) <= PATH_PARTS_MAX:
        raise EvaluationError("bad-value", f"the path of get(..) has 1 to {PATH_PARTS_MAX} parts")
    return parts


def _parts_of(path: str) -> list[str | int]:
    parts: list[str | int] = []
    at = 0
    while at < len(path) and len(parts) <= PATH_PARTS_MAX:
        found = _PATH.match(path, at)
        if found is None:
            message = (
                f'get(..) cannot read the path {dates.quoted(path)}; write it as in "a.b[0]", or as a list'
            )
            raise EvaluationError("bad-value", message)
        parts.append(found[1] if found[2] is None else int(found[2]))
        at = found.end()
    return parts


def position_of(part: str | int) -> int | None:
    """Return the position in a list that a part of a path is: `a.0` is `a[0]`."""
    if type(part) is int:
        return part
    text = cast("str", part)
    # 18 digits fit into 64 bits, and no list is that long.
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def _get(frame: Frame, value: Json, path: Json, default: Json = None) -> Json:
    if type(path) is str:
        frame.pay_text(len(path))
    for part in path_of(path):
        frame.pay(1)
        match value:
            case dict() if isinstance(part, str):
                value = value.get(part)
            case list() if (position := position_of(part)) is not None:
                value = value[position] if -len(value) <= position < len(value) else None
            case _:
                return default
    # As of `first`, null counts as absent: tools say "nothing" in both ways.
    return default if value is None else value


def joined(frame: Frame, values: Json, separator: Json = "") -> Json:
    """Return the texts of a list with a separator between them.

    Args:
        frame: Pays.
        values: A list of texts.
        separator: The text between two of them.

    Raises:
        EvaluationError: A value is no text, or the result is too long.
    """
    parts, between = _texts(frame, values, "join(..)"), a_text(separator, "join(..)'s second argument")
    frame.pay_text(sum(map(len, parts)) + len(between) * max(len(parts) - 1, 0))
    return between.join(parts)


def _elsewhere(_frame: Frame, *_values: Json) -> Json:
    raise EvaluationError("type-error", "this function is evaluated where it stands")


FUNCTIONS: dict[str, Function] = {
    "len": Function("len(x: text | list | object) -> integer", 1, 1, _len),
    "sum": Function("sum(xs: list[number]) -> number", 1, 1, _sum, generators=True),
    "min": Function(
        "min(xs: list[T], key=lambda x: ..) -> T; min(a, b, ..)",
        1,
        None,
        _extreme("min(..)", operator.lt),
        ("key",),
        True,
    ),
    "max": Function(
        "max(xs: list[T], key=lambda x: ..) -> T; max(a, b, ..)",
        1,
        None,
        _extreme("max(..)", operator.gt),
        ("key",),
        True,
    ),
    "avg": Function("avg(xs: list[number]) -> number", 1, 1, _avg, generators=True),
    "abs": Function("abs(x: number) -> number", 1, 1, _abs),
    "round": Function(
        "round(x: number) -> integer; round(x: number, digits: integer) -> number", 1, 2, _round
    ),
    "sorted": Function(
        "sorted(xs: list[T], key=lambda x: .., reverse=False) -> list[T]",
        1,
        1,
        _sorted,
        ("key", "reverse"),
        True,
    ),
    "reversed": Function("reversed(xs: list[T]) -> list[T]", 1, 1, _reversed),
    "range": Function("range(stop: integer) -> list[integer]; range(start, stop, step=1)", 1, 3, _range),
    "any": Function("any(xs: list) -> boolean", 1, 1, _any, generators=True),
    "all": Function("all(xs: list) -> boolean", 1, 1, _all, generators=True),
    "zip": Function("zip(xs: list[A], ys: list[B], ..) -> list[[A, B, ..]]", 1, None, _zip, generators=True),
    "enumerate": Function(
        "enumerate(xs: list[T], start: integer = 0) -> list[[integer, T]]", 1, 2, _enumerate, generators=True
    ),
    "str": Function("str(x) -> text", 1, 1, text_of),
    "int": Function("int(x: number | text | boolean) -> integer", 1, 1, _int),
    "float": Function("float(x: number | text | boolean) -> number", 1, 1, _float),
    "bool": Function("bool(x) -> boolean", 1, 1, _bool),
    "keys": Function("keys(x: object) -> list[text]", 1, 1, _keys),
    "values": Function("values(x: object[T]) -> list[T]", 1, 1, _values),
    "items": Function("items(x: object[T]) -> list[[text, T]]", 1, 1, _items),
    "flatten": Function("flatten(xs: list[list[T]]) -> list[T]", 1, 1, _flatten, generators=True),
    "distinct": Function("distinct(xs: list[T]) -> list[T]", 1, 1, _distinct, generators=True),
    "join": Function('join(xs: list[text], sep: text = "") -> text', 1, 2, joined, generators=True),
    "first": Function("first(a, b, ..) -> the first that is there and not null", 1, None, _elsewhere),
    "secret": Function(
        'secret("NAME") -> text, only as the whole of an argument of a tool', 1, 1, _elsewhere
    ),
    "group_by": Function(
        "group_by(xs: list[T], key=lambda x: ..) -> object[list[T]]", 1, 1, _group_by, ("key",), True, 2
    ),
    "count_by": Function(
        "count_by(xs: list, key=lambda x: ..) -> object[integer]", 1, 1, _count_by, ("key",), True, 2
    ),
    "unique_by": Function(
        "unique_by(xs: list[T], key=lambda x: ..) -> list[T]", 1, 1, _unique_by, ("key",), True, 2
    ),
    "get": Function('get(x, path: text | list, default=None) -> what is at "a.b[0]"', 2, 3, _get, since=2),
    "format": Function("format(x: number | text | date, form: text) -> text", 2, 2, _format, since=2),
    "match": Function(
        "match(pattern: text, x: text) -> {text, ..groups} | None, from the start",
        2,
        2,
        _matching("match(..)", at_start=True),
        since=2,
    ),
    "search": Function(
        "search(pattern: text, x: text) -> {text, ..groups} | None, anywhere",
        2,
        2,
        _matching("search(..)", at_start=False),
        since=2,
    ),
    "findall": Function("findall(pattern: text, x: text) -> list", 2, 2, _findall, since=2),
    "date": Function(
        "date(x: text | datetime) -> date; date(year, month, day)", 1, 3, date_functions.make_date, since=2
    ),
    "datetime": Function(
        "datetime(x: text | date, zone: text = none) -> datetime; datetime(year, month, day, hour=0, ..)",
        1,
        7,
        date_functions.make_datetime,
        since=2,
    ),
    "timedelta": Function(
        "timedelta(days=0, hours=0, ..) -> timedelta; timedelta(x: text) -> timedelta",
        0,
        1,
        date_functions.make_timedelta,
        ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds"),
        since=2,
    ),
}


# --- The methods of text and of dates


def _method(name: str, call: Callable[..., Json], *kinds: str) -> Apply:
    """Return the implementation of a method of text whose arguments have the given kinds."""
    what = f".{name}(..)"

    def apply(frame: Frame, base: Json, *arguments: Json) -> Json:
        text = a_text(base, what)
        frame.pay_text(len(text))
        # Arguments that are left out have Python's own defaults.
        for argument, kind in zip(arguments, kinds, strict=False):
            if kind == "text":
                a_text(argument, what)
            elif kind == "integer":
                an_integer(argument, what)
            elif argument is not None or kind != "text or null":
                a_text(argument, what)
        try:
            return call(frame, text, *arguments)
        except ValueError as error:  # an empty separator
            raise EvaluationError("bad-value", f"{what}: {error}") from None

    return apply


def _plain(call: Callable[..., Json]) -> Callable[..., Json]:
    """Return a method whose work is paid for by the length of its text."""

    def run(_frame: Frame, text: str, *arguments: Json) -> Json:
        return call(text, *arguments)

    return run


def _strip(frame: Frame, text: str, characters: str | None = None) -> Json:
    if characters is None or len(characters) <= STRIPPED_DISTINCT_MAX:
        return text.strip(characters)
    # Python looks through all the characters for each one of the text: a million of each would be hours in one call.
    frame.pay_text(len(characters))
    distinct = set(characters)
    if len(distinct) <= STRIPPED_DISTINCT_MAX:
        return text.strip("".join(distinct))
    start = next((at for at, one in enumerate(text) if one not in distinct), len(text))
    end = next((len(text) - at for at, one in enumerate(reversed(text)) if one not in distinct), 0)
    frame.pay(start + len(text) - end)
    return text[start:end]


def _longer(call: Callable[[str], str]) -> Callable[..., Json]:
    """Return a change of case, which can make a text up to three times longer."""

    def changed(frame: Frame, text: str) -> Json:
        frame.pay_text(3 * len(text) if not text.isascii() else len(text))
        return call(text)

    return changed


def _replace(frame: Frame, text: str, old: str, new: str, count: int = -1) -> Json:
    # Counted first, so that the length of the result is paid for before the text is made.
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    frame.pay_text(len(text) + times * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def _split(frame: Frame, text: str, separator: str | None = None, count: int = -1) -> Json:
    # At most one part more than a list may have: enough to refuse the result, and no more memory than that.
    parts = text.split(separator, count if 0 <= count <= ITEMS_MAX else ITEMS_MAX)
    frame.pay_items(len(parts))
    return cast("list[Json]", parts)


def _splitlines(frame: Frame, text: str) -> Json:
    lines = text.splitlines()
    frame.pay_items(len(lines))
    return cast("list[Json]", lines)


def _join_method(frame: Frame, base: Json, values: Json) -> Json:
    return joined(frame, values, a_text(base, ".join(..)"))


def _of_text(signature: str, call: Callable[..., Json], *kinds: str, least: int | None = None) -> Function:
    """Return a method of text.

    Args:
        signature: How it is written, with types.
        call: What it does.
        kinds: The kinds of its arguments.
        least: Fewest arguments; `None`: all of them.
    """
    name = signature[1 : signature.index("(")]
    return Function(
        signature, len(kinds) if least is None else least, len(kinds), _method(name, call, *kinds)
    )


METHODS: dict[str, Function] = {
    "lower": _of_text(".lower() -> text", _longer(str.lower)),
    "upper": _of_text(".upper() -> text", _longer(str.upper)),
    "title": _of_text(".title() -> text", _longer(str.title)),
    "strip": _of_text(".strip(chars: text = whitespace) -> text", _strip, "text or null", least=0),
    "split": _of_text(
        ".split(sep: text = whitespace, most: integer = -1) -> list[text]",
        _split,
        "text or null",
        "integer",
        least=0,
    ),
    "splitlines": _of_text(".splitlines() -> list[text]", _splitlines),
    "replace": _of_text(
        ".replace(old: text, new: text, most: integer = -1) -> text",
        _replace,
        "text",
        "text",
        "integer",
        least=2,
    ),
    "startswith": _of_text(".startswith(prefix: text) -> boolean", _plain(str.startswith), "text"),
    "endswith": _of_text(".endswith(suffix: text) -> boolean", _plain(str.endswith), "text"),
    "join": Function(".join(xs: list[text]) -> text", 1, 1, _join_method, generators=True),
    "count": _of_text(".count(part: text) -> integer", _plain(str.count), "text"),
    "find": _of_text(".find(part: text) -> integer", _plain(str.find), "text"),
    **{
        name: Function(signature, least, least, apply, since=2, of="date")
        for name, signature, least, apply in (
            ("isoformat", ".isoformat() -> text", 0, date_functions.isoformat),
            ("strftime", ".strftime(form: text) -> text", 1, date_functions.strftime),
            ("weekday", ".weekday() -> integer, Monday is 0", 0, date_functions.weekday),
            ("isoweekday", ".isoweekday() -> integer, Monday is 1", 0, date_functions.isoweekday),
            ("date", ".date() -> date", 0, date_functions.date_of),
            ("astimezone", ".astimezone(zone: text) -> datetime", 1, date_functions.astimezone),
            ("timestamp", ".timestamp() -> number", 0, date_functions.timestamp),
            ("total_seconds", ".total_seconds() -> number", 0, date_functions.total_seconds),
        )
    },
}
