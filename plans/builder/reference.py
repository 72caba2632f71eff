"""References to values that a run will have, and the expressions that Python's operators make of them.

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
from typing import Any, Final, NoReturn, TypeAlias, cast

from typing_extensions import override

from ..reports.nearest import did_you_mean, listing
from ..types.read import read_schema
from ..types.types import ListType, ObjectType, Type, members, union

MARK = "\u2063"
"""An invisible separator on both sides of a reference in text, until the text becomes part of the plan."""

_HOLE = re.compile(rf"(\$*)\$\{{{MARK}(.*?){MARK}\}}", re.DOTALL)

LAMBDA, CONDITION, OR, AND, NOT, COMPARISON, SUM, PRODUCT, SIGN, POWER, PRIMARY = range(11)
"""How tightly an expression binds, loosest first, as in Python."""

_Operator: TypeAlias = "Callable[[Reference, object], Reference]"


def _operator(
    sign: str, strength: int, *, left: int | None = None, right: int | None = None
) -> tuple[_Operator, _Operator]:
    """Return the methods of a binary operator and of its reflection.

    Args:
        sign: The operator in the plan's language.
        strength: How tightly it binds.
        left: How tightly its left operand must bind to need no brackets; by default as tightly as itself.
        right: The same of its right operand; by default more tightly, since operators group from the left.
    """
    least_left = strength if left is None else left
    least_right = strength + 1 if right is None else right

    def joined(one: object, other: object) -> Reference:
        return Reference(f"{operand(one, least_left)} {sign} {operand(other, least_right)}", strength)

    def reflected(self: Reference, other: object) -> Reference:
        return joined(other, self)

    return joined, reflected


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
        # Python asks objects for names such as `__len__` and `_repr_html_`, and none of these is a field.
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

    __add__, __radd__ = _operator("+", SUM)
    __sub__, __rsub__ = _operator("-", SUM)
    __mul__, __rmul__ = _operator("*", PRODUCT)
    __truediv__, __rtruediv__ = _operator("/", PRODUCT)
    __floordiv__, __rfloordiv__ = _operator("//", PRODUCT)
    __mod__, __rmod__ = _operator("%", PRODUCT)
    __pow__, __rpow__ = _operator("**", POWER, left=PRIMARY, right=SIGN)
    __and__, __rand__ = _operator("and", AND, right=AND)
    __or__, __ror__ = _operator("or", OR, right=OR)
    # Python's `a < b < c` is a chain, so a comparison inside a comparison always gets brackets.
    __lt__ = _operator("<", COMPARISON, left=SUM, right=SUM)[0]
    __le__ = _operator("<=", COMPARISON, left=SUM, right=SUM)[0]
    __gt__ = _operator(">", COMPARISON, left=SUM, right=SUM)[0]
    __ge__ = _operator(">=", COMPARISON, left=SUM, right=SUM)[0]

    def __neg__(self) -> Reference:
        return Reference(f"-{self._as(SIGN)}", SIGN)

    def __abs__(self) -> Reference:
        return Reference(f"abs({self._text})")

    def __round__(self, digits: int | None = None) -> Reference:
        return Reference(f"round({self._text})" if digits is None else f"round({self._text}, {digits})")

    @override
    def __eq__(self, other: object) -> Reference:  # type: ignore[override]  # builds an expression, as query builders do
        return _equal(self, other)

    @override
    def __ne__(self, other: object) -> Reference:  # type: ignore[override]  # the same
        return _unequal(self, other)

    def __invert__(self) -> Reference:
        return Reference(f"not {self._as(NOT)}", NOT)

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> NoReturn:
        raise self._no_value(
            "branch on it",
            "use when= for a step, p.either(condition, a, b) for a value, and & | ~ for 'and', 'or', 'not'",
        )

    def __len__(self) -> NoReturn:
        raise self._no_value("count it", "write p.fn.len(x)")

    def __iter__(self) -> NoReturn:
        raise self._no_value("walk over it", "use p.each(items, lambda item: ..), or for_each= and p.item")

    def __contains__(self, other: object) -> NoReturn:
        raise self._no_value("search it", 'write p.expr(f"{x} in {items}")')

    def __int__(self) -> NoReturn:
        raise self._no_value("make an integer of it", "write p.fn.int(x)")

    def __float__(self) -> NoReturn:
        raise self._no_value("make a number of it", "write p.fn.float(x)")

    def _no_value(self, what: str, instead: str) -> TypeError:
        return TypeError(
            f"'{self._text}' has no value until the plan runs, so Python cannot {what}: {instead}"
        )

    @override
    def __format__(self, spec: str) -> str:
        if spec:
            raise self._no_value(f"format it as {spec!r}", "write p.fn.round(x, 2)")
        return str(self)

    @override
    def __str__(self) -> str:
        return f"${{{MARK}{self._text}{MARK}}}"

    @override
    def __repr__(self) -> str:
        return f"<reference {self._text}>"


_equal = _operator("==", COMPARISON, left=SUM, right=SUM)[0]
_unequal = _operator("!=", COMPARISON, left=SUM, right=SUM)[0]


class Functions:
    """The functions of the language by their names: `p.fn.len(places)`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Reference]:
        from ..expressions.functions import FUNCTIONS  # noqa: PLC0415  # the table is only needed here

        if name not in FUNCTIONS:
            guess = did_you_mean(name, FUNCTIONS, f"there are {listing(FUNCTIONS, 40)}")
            raise AttributeError(f"no function '{name}': {guess}")

        def call(*arguments: object, **named: object) -> Reference:
            words = [f"{word}={operand(value)}" for word, value in named.items()]
            return Reference(f"{name}({', '.join([*filter(None, [_list(arguments)]), *words])})")

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
    """Return dates, enums, models and dataclasses as JSON; other values stay as they are, and the check reports them."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python  # noqa: PLC0415  # rare

    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        return value


@dataclass(frozen=True, slots=True)
class Known:
    """The schema of a value, or of the value that it is a part of; enough for editors to complete field names.

    Attributes:
        schema: JSON Schema of the step's or input's value.
        types: The types that the schema may name.
        is_list: Whether that value is a list of such values, since its step has a `for_each`.
        way: The keys that lead from that value to this one.
    """

    schema: Mapping[str, Any]
    types: Mapping[str, Any]
    is_list: bool = False
    way: tuple[str | int, ...] = ()

    def part(self, key: object) -> Known | None:
        """Return the schema of a part; `None`: it is unknown."""
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


class Handles(Mapping[str, Reference]):
    """References by name to the steps or inputs of a plan: `p.steps.weather`, or `p.steps["weather"]` where the name is also a method's."""

    __slots__ = ("_names", "_of", "_what")

    def __init__(self, what: str, names: Iterable[str], of: Callable[[str], Reference]) -> None:
        """Take the names in the plan's order.

        Args:
            what: `step` or `input`, for messages.
            names: The names.
            of: Makes a reference of a name.
        """
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
