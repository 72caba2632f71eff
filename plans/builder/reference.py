"""A reference to a value that a run will have, and the expressions that Python's operators make of it.

Attribute access, indexing, slices, arithmetic, comparisons, `&` `|` `~` (for `and` `or` `not`) and calls of text methods give further
references; each is the text of an expression and how tightly it binds, so that parentheses come out right. A reference has
no value while a plan is built: whatever in Python would need one (`if`, `for`, `len`, `in`) is a `TypeError` that says
what to write instead.

In an f-string a reference stands as `${..}`, with an invisible mark on either side of the expression. By the marks a `$` before it
stays text (`f"costs ${price}"`, where `$${` would be an escape), and `p.expr(f"len({places})")` gets back the expression.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, cast

from typing_extensions import override

from ..nearest import did_you_mean, listing
from ..types.read import read_schema
from ..types.types import ListType, ObjectType, Type, members, union

MARK = "\u2063"
"""Invisible separator: stands on both sides of a reference in text until the text becomes part of the plan."""

_HOLE = re.compile(rf"(\$*)\$\{{{MARK}(.*?){MARK}\}}", re.DOTALL)

LAMBDA, CONDITION, OR, AND, NOT, COMPARISON, SUM, PRODUCT, SIGN, POWER, PRIMARY = range(11)
"""How tightly an expression binds, loosest first, as in Python."""

_NO_VALUE = "'{text}' has no value until the plan runs, so Python cannot {what}"


class Reference:
    """An expression over values that a run will have; every attribute of it is a field of the value."""

    __slots__ = ("_known", "_method", "_step", "_strength", "_text")

    def __init__(
        self,
        text: str,
        strength: int = PRIMARY,
        step: str | None = None,
        *,
        method: bool = False,
        known: Known | None = None,
    ) -> None:
        self._text: Final = text
        self._strength: Final = strength
        self._step: Final = step
        self._method: Final = method
        self._known: Final = known

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_"):
            raise AttributeError(f"a field whose name begins with '_' is written [{name!r}]")
        if keyword.iskeyword(name):
            return self[name]
        return Reference(
            f"{self._as(PRIMARY)}.{name}", PRIMARY, self._step, method=True, known=self._part(name)
        )

    def __getitem__(self, key: object) -> Reference:
        return Reference(f"{self._as(PRIMARY)}[{_index(key)}]", PRIMARY, self._step, known=self._part(key))

    def __call__(self, *arguments: object) -> Reference:
        """Call a method of text: `name.upper()`."""
        if not self._method:
            raise TypeError(
                f"'{self._text}' cannot be called: functions are p.fn.len(x), methods of text are x.upper()"
            )
        return Reference(f"{self._text}({_list(arguments)})")

    def _part(self, key: object) -> Known | None:
        return None if self._known is None else self._known.part(key)

    @override
    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(self._known.fields() if self._known is not None else ())]

    def _as(self, least: int) -> str:
        return self._text if self._strength >= least else f"({self._text})"

    def __add__(self, other: object) -> Reference:
        return _binary(self, "+", other, SUM)

    def __radd__(self, other: object) -> Reference:
        return _binary(other, "+", self, SUM)

    def __sub__(self, other: object) -> Reference:
        return _binary(self, "-", other, SUM)

    def __rsub__(self, other: object) -> Reference:
        return _binary(other, "-", self, SUM)

    def __mul__(self, other: object) -> Reference:
        return _binary(self, "*", other, PRODUCT)

    def __rmul__(self, other: object) -> Reference:
        return _binary(other, "*", self, PRODUCT)

    def __truediv__(self, other: object) -> Reference:
        return _binary(self, "/", other, PRODUCT)

    def __rtruediv__(self, other: object) -> Reference:
        return _binary(other, "/", self, PRODUCT)

    def __floordiv__(self, other: object) -> Reference:
        return _binary(self, "//", other, PRODUCT)

    def __rfloordiv__(self, other: object) -> Reference:
        return _binary(other, "//", self, PRODUCT)

    def __mod__(self, other: object) -> Reference:
        return _binary(self, "%", other, PRODUCT)

    def __rmod__(self, other: object) -> Reference:
        return _binary(other, "%", self, PRODUCT)

    def __pow__(self, other: object) -> Reference:
        return Reference(f"{self._as(PRIMARY)} ** {operand(other, SIGN)}", POWER)

    def __rpow__(self, other: object) -> Reference:
        return Reference(f"{operand(other, PRIMARY)} ** {self._as(SIGN)}", POWER)

    def __neg__(self) -> Reference:
        return Reference(f"-{self._as(SIGN)}", SIGN)

    def __abs__(self) -> Reference:
        return Reference(f"abs({self._text})")

    def __round__(self, digits: int | None = None) -> Reference:
        return Reference(f"round({self._text})" if digits is None else f"round({self._text}, {digits})")

    @override
    def __eq__(self, other: object) -> Reference:  # type: ignore[override]  # builds an expression, as query builders do
        return _compare(self, "==", other)

    @override
    def __ne__(self, other: object) -> Reference:  # type: ignore[override]  # the same
        return _compare(self, "!=", other)

    def __lt__(self, other: object) -> Reference:
        return _compare(self, "<", other)

    def __le__(self, other: object) -> Reference:
        return _compare(self, "<=", other)

    def __gt__(self, other: object) -> Reference:
        return _compare(self, ">", other)

    def __ge__(self, other: object) -> Reference:
        return _compare(self, ">=", other)

    def __and__(self, other: object) -> Reference:
        return Reference(f"{self._as(AND)} and {operand(other, AND)}", AND)

    def __rand__(self, other: object) -> Reference:
        return Reference(f"{operand(other, AND)} and {self._as(AND)}", AND)

    def __or__(self, other: object) -> Reference:
        return Reference(f"{self._as(OR)} or {operand(other, OR)}", OR)

    def __ror__(self, other: object) -> Reference:
        return Reference(f"{operand(other, OR)} or {self._as(OR)}", OR)

    def __invert__(self) -> Reference:
        return Reference(f"not {self._as(NOT)}", NOT)

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            _NO_VALUE.format(text=self._text, what="branch on it")
            + ": use when= for a step, p.either(condition, a, b) for a value, and & | ~ for 'and', 'or', 'not'"
        )

    def __len__(self) -> NoReturn:
        raise TypeError(_NO_VALUE.format(text=self._text, what="count it") + ": write p.fn.len(x)")

    def __iter__(self) -> NoReturn:
        raise TypeError(
            _NO_VALUE.format(text=self._text, what="walk over it")
            + ": use p.each(items, lambda item: ..), or for_each= and p.item"
        )

    def __contains__(self, other: object) -> NoReturn:
        raise TypeError(
            _NO_VALUE.format(text=self._text, what="search it") + ': write p.expr(f"{x} in {items}")'
        )

    def __int__(self) -> NoReturn:
        raise TypeError(
            _NO_VALUE.format(text=self._text, what="make an integer of it") + ": write p.fn.int(x)"
        )

    def __float__(self) -> NoReturn:
        raise TypeError(
            _NO_VALUE.format(text=self._text, what="make a number of it") + ": write p.fn.float(x)"
        )

    @override
    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError(
                _NO_VALUE.format(text=self._text, what=f"format it as {spec!r}") + ": write p.fn.round(x, 2)"
            )
        return str(self)

    @override
    def __str__(self) -> str:
        return f"${{{MARK}{self._text}{MARK}}}"

    @override
    def __repr__(self) -> str:
        return f"<reference {self._text}>"


class Functions:
    """The functions of the language by their names: `p.fn.len(places)`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Reference]:
        from ..expressions.functions import FUNCTIONS  # noqa: PLC0415  # the table is only needed here
        from ..nearest import did_you_mean, listing  # noqa: PLC0415  # for the message

        if name not in FUNCTIONS:
            guess = did_you_mean(name, FUNCTIONS, f"there are {listing(FUNCTIONS, 40)}")
            raise AttributeError(f"no function '{name}': {guess}")

        def call(*arguments: object) -> Reference:
            return Reference(f"{name}({_list(arguments)})")

        return call


def operand(value: object, least: int = CONDITION) -> str:
    """Return a reference, or a value of Python, as part of an expression that binds at least as tightly as `least`."""
    if isinstance(value, Reference):
        return value._as(least)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # same module
    text, strength = _literal(value)
    return text if strength >= least else f"({text})"


def expression(text: str) -> str:
    """Return the text of an expression in which references stood as in an f-string."""
    return _HOLE.sub(lambda hole: f"{hole[1]}{_in_brackets(hole[2])}", text)


def in_plan(value: object) -> Any:  # noqa: ANN401  # any JSON
    """Return a value of Python as a plan has it: references as `${..}`, wherever they stand."""
    match value:
        case Reference():
            return f"${{{expression_of(value)}}}"
        case str():
            return _HOLE.sub(_hole, str.__str__(value))
        case Mapping():
            entries = cast("Mapping[object, object]", value).items()
            return {
                in_plan(name) if isinstance(name, str) else name: in_plan(inner) for name, inner in entries
            }
        case list() | tuple():
            return [in_plan(inner) for inner in cast("list[object]", value)]
        case None | bool() | int() | float():
            return value
        case _:
            return _jsonable(value)


def expression_of(reference: Reference) -> str:
    """Return the text of a reference."""
    return reference._text  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # same module


def step_of(reference: Reference) -> str | None:
    """Return the id of the step that a reference leads to; `None` for computed expressions, inputs and items."""
    return reference._step  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # same module


def literal_text(value: object) -> Any:  # noqa: ANN401  # any JSON
    """Return a value whose text means itself: `${` is escaped."""
    match value:
        case str():
            return value.replace("${", "$${")
        case Mapping():
            return {
                name: literal_text(inner) for name, inner in cast("Mapping[object, object]", value).items()
            }
        case list() | tuple():
            return [literal_text(inner) for inner in cast("list[object]", value)]
        case _:
            return value


def _hole(found: re.Match[str]) -> str:
    dollars = found[1]
    return (f'${{"{dollars}"}}' if dollars else "") + f"${{{found[2]}}}"


def _in_brackets(text: str) -> str:
    return text if re.fullmatch(r"[\w.]+", text) else f"({text})"


def _binary(left: object, sign: str, right: object, strength: int) -> Reference:
    return Reference(f"{operand(left, strength)} {sign} {operand(right, strength + 1)}", strength)


def _compare(left: object, sign: str, right: object) -> Reference:
    # Python's `a < b < c` is a chain, so comparisons inside comparisons always stand in brackets.
    return Reference(f"{operand(left, SUM)} {sign} {operand(right, SUM)}", COMPARISON)


def _index(key: object) -> str:
    if isinstance(key, slice):
        ends = cast("Any", key)
        start, stop, step = ends.start, ends.stop, ends.step
        low, high = ("" if part is None else operand(part) for part in (start, stop))
        return f"{low}:{high}" if step is None else f"{low}:{high}:{operand(step)}"
    return operand(key)


def _list(values: tuple[object, ...]) -> str:
    return ", ".join(operand(value) for value in values)


def _literal(value: object) -> tuple[str, int]:
    match value:
        case None | bool():
            return repr(value), PRIMARY
        case str():
            return _text(str.__str__(value)), PRIMARY
        case int() | float():
            return repr(value), PRIMARY if value >= 0 else SIGN
        case list() | tuple():
            return f"[{_list(tuple(cast('list[object]', value)))}]", PRIMARY
        case dict():
            entries = cast("dict[object, object]", value).items()
            return "{" + ", ".join(
                f"{operand(name)}: {operand(inner)}" for name, inner in entries
            ) + "}", PRIMARY
        case _:
            raise TypeError(f"expected JSON or a reference in an expression, found a {type(value).__name__}")


def _text(value: str) -> str:
    """Return text as a literal; references in it (an f-string as an operand) are joined in."""
    parts: list[str] = []
    at = 0
    for hole in _HOLE.finditer(value):
        before = value[at : hole.start()] + hole[1]
        if before:
            parts.append(json.dumps(before, ensure_ascii=False))
        parts.append(f"str({hole[2]})")
        at = hole.end()
    if not parts:
        return json.dumps(value, ensure_ascii=False)
    if at < len(value):
        parts.append(json.dumps(value[at:], ensure_ascii=False))
    return f"({' + '.join(parts)})"


def _jsonable(value: object) -> object:
    """Return dates, enums, models and dataclasses as JSON has them; what has no such form as it is, for the check to name."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415  # rare

    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        return value


# --- What is known of a value that a run will have: enough for an editor to complete the names of its fields.


@dataclass(frozen=True, slots=True)
class Known:
    """A value's schema, or that of the value it is a part of.

    Attributes:
        schema: JSON Schema of the whole.
        types: The types that it may name.
        is_list: Whether the whole is a list of such values, since its step has a `for_each`.
        way: The keys that lead from the whole to the value.
    """

    schema: Mapping[str, Any]
    types: Mapping[str, Any]
    is_list: bool = False
    way: tuple[str | int, ...] = ()

    def part(self, key: object) -> Known | None:
        """Return what is known of a part; `None`: nothing."""
        return replace(self, way=(*self.way, key)) if isinstance(key, str | int) else None

    def fields(self) -> list[str]:
        """Return the names of the value's fields."""
        found, _ = read_schema(self.schema, self.types)
        found = ListType(found) if self.is_list else found
        for key in self.way:
            found = union(*[part for part in _parts(found, key) if part is not None])
        return list(dict.fromkeys(name for one in members(found) for name in _names(one)))


def _parts(of: Type, key: str | int) -> list[Type | None]:
    if isinstance(key, int):
        return [one.item for one in members(of) if isinstance(one, ListType)]
    objects = [one for one in members(of) if isinstance(one, ObjectType)]
    return [one.fields[key].type if key in one.fields else one.extra for one in objects]


def _names(of: Type) -> list[str]:
    return list(of.fields) if isinstance(of, ObjectType) else []


# --- References by name: `p.steps.weather`, or `p.steps["weather"]` where a name is also a method's.


class Handles(Mapping[str, Reference]):
    """The steps, or the inputs, of a plan that is being built; editors complete their names."""

    __slots__ = ("_names", "_of", "_what")

    def __init__(self, what: str, names: Iterable[str], of: Callable[[str], Reference]) -> None:
        """Take the names, in the plan's order, and what makes a reference of one."""
        self._what = what
        self._names = dict.fromkeys(names)
        self._of = of

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as missing:
            raise AttributeError(missing.args[0]) from None

    @override
    def __getitem__(self, name: str) -> Reference:
        if name not in self._names:
            hint = did_you_mean(name, self._names)
            raise KeyError(
                f"expected a {self._what} of the plan ({listing(self._names)}), found '{name}'"
                + (f": {hint}" if hint else "")
            )
        return self._of(name)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @override
    def __len__(self) -> int:
        return len(self._names)

    @override
    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names]

    @override
    def __repr__(self) -> str:
        return f"<{self._what}s {listing(self._names)}>"
