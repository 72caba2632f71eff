"""Laws of expressions over generated ones: Python is the oracle of values, evaluation that of types."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections import Counter
from datetime import date, timedelta
from functools import reduce
from typing import Any

import pytest
from firmplan.plans.expressions.evaluate import compile_node, fold
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.infer import infer
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.expressions.template import read_expression
from firmplan.plans.expressions.unparse import unparse
from firmplan.plans.reports.errors import EvaluationError
from firmplan.plans.types.types import (
    BOOLEAN,
    INTEGER,
    NULL,
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
    union,
)
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

NAMES: dict[str, Any] = {
    "i": 7,
    "j": -3,
    "f": 2.5,
    "t": "Hello, World",
    "s": "lo",
    "yes": True,
    "xs": [3, 1, 2],
    "ts": ["b", "a", "b"],
    "o": {"n": 4, "t": "x"},
    "day": "2026-01-31",
}
TYPES: dict[str, Type] = {
    "i": INTEGER,
    "j": INTEGER,
    "f": NUMBER,
    "t": TEXT,
    "s": TEXT,
    "yes": BOOLEAN,
    "xs": ListType(INTEGER),
    "ts": ListType(TEXT),
    "o": ObjectType({"n": Property(INTEGER), "t": Property(TEXT)}),
    "day": TEXT,
}


class Fields(dict[str, Any]):
    """Python's stand-in for an object: fields by dot."""

    __getattr__ = dict.__getitem__


PYTHON: dict[str, Any] = {
    **NAMES,
    "o": Fields(NAMES["o"]),
    "__builtins__": {"__import__": __import__},  # `strftime` imports
    "len": len,
    "abs": abs,
    "sum": lambda values: reduce(lambda a, b: a + b, values, 0),  # before 3.12's compensated sum
    "sorted": sorted,
    "min": min,
    "max": max,
    "any": any,
    "all": all,
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "round": round,
    "reversed": lambda values: values[::-1],
    "range": lambda *bounds: list(range(*bounds)),
    "zip": lambda *lists: [list(row) for row in zip(*lists, strict=False)],
    "enumerate": lambda values: [list(pair) for pair in enumerate(values)],
    "keys": sorted,
    "values": lambda fields: [fields[key] for key in sorted(fields)],
    "count_by": Counter,
    "unique_by": lambda values, key: list({key(value): value for value in reversed(values)}.values())[::-1],
    "get": lambda fields, name, default: fields.get(name, default),
    "format": format,
    "findall": re.findall,
    "search": re.search,
    "date": lambda *of: date.fromisoformat(of[0]) if len(of) == 1 else date(*of),
    "timedelta": timedelta,
}


def _texts(*templates: str, **parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions made by putting generated parts into templates; `#n`, `#t`, `#b`, `#x`, `#y`, `#d`, `#p` mark the places."""

    def fill(template: str) -> st.SearchStrategy[str]:
        pieces = template.split("#")
        made = [st.just(pieces[0])]
        for piece in pieces[1:]:
            made += [parts[piece[0]], st.just(piece[1:])]
        return st.tuples(*made).map("".join)

    return st.one_of([fill(template) for template in templates])


def _wrapped(text: str) -> str:
    return text if text.isalnum() else f"({text})"


def _grow(level: int, *, wrapped: bool) -> dict[str, st.SearchStrategy[str]]:
    """Expressions of each kind: `n` numbers, `t` text, `b` booleans, `x` lists of numbers, `y` lists of text, `d` dates, `p` timedeltas."""
    if level == 0:
        return {
            "n": st.sampled_from(["i", "j", "f", "o.n", "0", "1", "2", "2.0", "-5", "0.1", "10", "xs[0]"]),
            "t": st.sampled_from(["t", "s", "o.t", "''", "'a'", "'o, '", 'o["t"]', "t[1]"]),
            "b": st.sampled_from(["yes", "True", "False"]),
            "x": st.sampled_from(["xs", "[]", "[1, 2.5]", "[i, j]", "range(4)"]),
            "y": st.sampled_from(["ts", "['a']", "[t, s]"]),
            "d": st.sampled_from(["date(day)", "date(2024, 2, 29)", "date('1999-12-31')"]),
            "p": st.sampled_from(["timedelta(days=1)", "timedelta(hours=36, days=-1)", "timedelta(0)"]),
        }
    deep = _grow(level - 1, wrapped=wrapped)
    if wrapped:
        deep = {kind: parts.map(_wrapped) for kind, parts in deep.items()}
    shared = {"c": deep["b"], **deep}
    return {
        "n": _texts(
            "#n + #n", "#n - #n", "#n * #n", "#n / #n", "#n // #n", "#n % #n", "(#n) ** 2", "-#n", "+(#n)", "(#n + #n) * #n",
            "#n - (#n - #n)", "#n / (#n * #n)", "-(#n) ** 2", "(-#n) ** 3", "abs(#n)", "len(#t)", "len(#x)", "sum(#x)", "sum(x * #n for x in #x)",
            "min(#x, key=lambda x: -x)", "#n if #c else #n", "#t.count(#t)", "#t.find(#t)", "(#x)[#n]", "round(#n)", "int(#n)", "float(#n)",
            "max(#n, 0.5)" if level > 1 else "#n", "(#x)[0]", "#n or #n", "#n and #n", "(#d).day", "(#d).weekday()", "(#d - #d).days",
            "(#p).total_seconds()", "#p / #p", "#p // #p", "get(o, 'n', #n)", **shared,
        ),
        "t": _texts(
            "#t + #t", "(#t) * 2", "#t if #c else #t", "(#t).lower()", "(#t).replace(#t, #t)", "(#t)[1:]", "(#t)[::-1]", "', '.join(#y)",
            "str(#t)", "(#y)[0]", "#t or #t", "(#t).strip()", "max(#y, key=lambda y: len(y))", "str(#d)", "(#d).isoformat()",
            "(#d).strftime('%d.%m.%Y, %a %b %j')", "format(#n, ',.2f')", "format(#t, '>9')", "format(#d, '%A')", **shared,
        ),
        "b": _texts(
            "#n < #n", "#n == #n", "#n != #n < #n", "#n <= #n", "#t in #t", "#n in #x", "#t not in #y", "not #b", "#b and #b", "#b or not #b",
            "(#t).startswith(#t)", "any(#x)", "all(x > #n for x in #x)", "bool(#t)", "#t is None", "#t is not None", "#b if #b else #b",
            "not (#b and #b)", "(not #b) == (#b)", "#x == #x", "(#n < #n) == (#b)", "#t < #t", "#d < #d", "#d == #d", "#p >= #p", "bool(#p)",
            "search('l+o', #t) is None", "#d in [#d, #d]", **shared,
        ),
        "x": _texts(
            "#x + #x", "[#n, #n]", "[x + #n for x in #x]", "[x for x in #x if x > #n]", "sorted(#x)", "sorted(#x, key=lambda x: -x, reverse=#b)",
            "reversed(#x)", "(#x)[1:]", "[x * y for x in #x for y in #x]", "[p + q for p, q in zip(#x, #x)]", "[len(y) for y in #y]",
            "[k * v for k, v in enumerate(#x)]", "#x if #c else #x", "[xs for xs in #x]", "sorted(#x, key=lambda x: (x > #n, -x), reverse=#b)",
            "unique_by(#x, key=lambda x: x % 2)", "values(count_by(#y))", "[d.year for d in sorted([#d, #d])]", **shared,
        ),
        "y": _texts("#y + #y", "[#t, #t]", "[y + #t for y in #y]", "(#t).split(',')", "sorted(#y)", "[y for y in #y if y in #t]",
            "findall('[a-m]', #t)", "keys(count_by(#y))", "sorted(#y, key=lambda y: (len(y), y))", **shared),
        "d": _texts("#d + #p", "#p + #d", "#d - #p", "#d if #c else #d", "max(#d, #d)", "min([#d, #d])", "date(str(#d))", "#d + timedelta(days=#n)", **shared),
        "p": _texts("#d - #d", "#p + #p", "#p - #p", "-(#p)", "#p * #n", "#p / #n", "#p % #p", "#p or #p", "timedelta(minutes=#n, hours=1)", **shared),
    }  # fmt: skip


def _is_python(text: str) -> bool:
    """Whether the parts put together are an expression: some, such as `x if a if b else c else d`, are not."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def _expressions(*, wrapped: bool) -> st.SearchStrategy[str]:
    kinds = [strategy for level in (1, 2, 3) for strategy in _grow(level, wrapped=wrapped).values()]
    return st.one_of(kinds).filter(_is_python)


EXPRESSIONS = _expressions(wrapped=False)
"""Parts stand beside one another as they are: what belongs to what is up to precedence, and kinds may mix."""

TYPED = _expressions(wrapped=True)
"""Parts are wrapped, so that kinds stay as the templates have them: a boolean never meets a number."""


def _handed_out(value: Any) -> Any:
    """Return a value of Python as an expression hands it out: dates as ISO text; of timedeltas, what reads as one."""
    return value.isoformat() if isinstance(value, date) else value


OURS = {"overflow", "not-finite", "limit-exceeded"}  # bounds that Python has not


def _like(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same, kinds included; minus zero is zero."""
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(_like, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def _pythons(text: str) -> Any:
    """Return Python's own value, or `EvaluationError` if it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # `"a" is None` is odd, and an expression
        code = compile(text, "oracle", "eval")
    try:
        return eval(code, dict(PYTHON))
    except (ZeroDivisionError, IndexError, ValueError, OverflowError, TypeError):
        return EvaluationError


@examples(400)
@given(TYPED)
def test_evaluation_agrees_with_python(text: str) -> None:
    """An expression has Python's value, or faults where Python raises; only our own bounds make a difference."""
    run = compile_node(parse(text))
    theirs = _pythons(text)
    try:
        ours = run(NAMES)
    except EvaluationError as fault:
        assert theirs is EvaluationError or fault.code in OURS, str(fault)  # noqa: PT017
        return
    if isinstance(theirs, timedelta):
        assert compile_node(parse(f"timedelta(x) == ({text})"))({**NAMES, "x": ours}) is True
        assert compile_node(parse("timedelta(x).total_seconds()"))({"x": ours}) == theirs.total_seconds()
        return
    theirs = _handed_out(theirs)
    if isinstance(theirs, float) and not math.isfinite(theirs):
        return
    if text.count("max(") or text.count(", key=") or theirs is EvaluationError:
        # `max(1, 0.5)` is 1.0 here: an integer comes only from integers.
        assert theirs is not EvaluationError
        assert ours == theirs or isinstance(theirs, list)
        return
    assert _like(ours, theirs), (ours, theirs)


@examples(300)
@given(EXPRESSIONS)
def test_canonical_spelling(text: str) -> None:
    """Spelling is idempotent, gives the same tree again, and so keeps every value."""
    node = parse(text)
    spelled = unparse(node)
    again = parse(spelled)
    assert unparse(again) == spelled
    assert _shape(again) == _shape(node)


def _shape(node: Any) -> Any:
    """Return a tree without places."""
    if isinstance(node, tuple):
        return tuple(map(_shape, node))
    fields = getattr(type(node), "__dataclass_fields__", None)
    if fields is None:
        return repr(node)
    return type(node).__name__, [
        _shape(getattr(node, name)) for name in fields if name not in {"start", "end"}
    ]


@examples(300)
@given(EXPRESSIONS)
def test_folding_keeps_meaning(text: str) -> None:
    """The folded expression has the value of the expression; a fault of a constant part is told, or passed over where it is."""
    node = parse(text)
    folded, faults, _ = fold(node)
    try:
        value = repr(compile_node(node)(NAMES))
    except EvaluationError:
        with pytest.raises(EvaluationError):
            compile_node(folded)(NAMES)
        return
    try:
        assert repr(compile_node(folded)(NAMES)) == value
    except EvaluationError:
        assert faults


def _has(value: Any, of: Type) -> bool:
    return any(_is(value, member) for member in members(of))


def _is(value: Any, member: Any) -> bool:
    match member:
        case Unknown():
            return True
        case Scalar():
            kinds = {bool: ("boolean",), int: ("integer", "number"), float: ("number",), str: ("string",)}
            only = member.only is None or any(
                type(one) is type(value) and one == value for one in member.only
            )
            return member.kind in kinds.get(type(value), ("null",)) and only
        case ListType(item=item):
            return isinstance(value, list) and all(_has(part, item) for part in value)
        case ObjectType(fields=fields, extra=extra):
            return isinstance(value, dict) and all(
                _has(part, fields[key].type if key in fields else extra or UNKNOWN)
                for key, part in value.items()
            )


@examples(400)
@given(EXPRESSIONS)
def test_types_are_sound(text: str) -> None:
    """If inference finds no error, the value has the inferred type; and no operand is of a wrong type unless that was foretold."""
    formula, faults = parse_formula(f"${{{text}}}")
    inferred = infer(formula, TYPES)
    if any(fault.code in {"bad-expr", "limit-exceeded"} for fault in (*faults, *inferred.problems)):
        return
    try:
        value = formula.evaluate(NAMES)
    except EvaluationError as fault:
        foretold = any(found.code == "unchecked-type" for found in inferred.problems)
        assert fault.code != "type-error" or foretold, str(fault)  # noqa: PT017
        return
    assert _has(value, inferred.type), (value, inferred.type)


SOUP = st.lists(
    st.sampled_from(
        [*"()[]{}.,:+-*/%<>=!'\"\\$#@&|^~?; \n\x00\u2028é٣", "${", "$${", "x", "y", "x.y", "1", "2.5", "'a'", "{{", "}}", "len(", "first(", "secret(",
         " if ", " else ", " for ", " in ", " not ", "lambda x:", "key=", "None", "True", "**", "//", ":=", "f'", "\ud800", "__class__", "1e9", "0x"]
    ),
    max_size=24,
)  # fmt: skip


@examples(600)
@given(SOUP)
def test_any_text_is_read_or_refused(parts: list[str]) -> None:
    """No string makes reading, spelling, inference or evaluation raise what they do not document; spelling is idempotent."""
    text = "".join(parts)
    for value in (text, f"${{{text}}}", {"k": [f"a ${{{text}}} b"]}):
        formula, faults = parse_formula(value)
        assert {fault.code for fault in faults} <= {"bad-expr", "limit-exceeded", "suspicious-text"}
        again, faults_again = parse_formula(formula.canonical)
        assert again.canonical == formula.canonical
        assert [fault.code for fault in faults_again] == [fault.code for fault in faults]
        infer(formula, {"x": UNKNOWN, "inputs": ObjectType({})})
        try:
            formula.evaluate({"x": {"y": 1}, "y": [1]})
        except EvaluationError as fault:
            assert str(fault)  # noqa: PT017


def test_the_cache_of_readings_changes_nothing() -> None:
    """A reading that was remembered equals one that is made anew."""
    for text in ("i + 1", "1 / 0", "first(i, j)", "secret('A')"):
        first, again = parse_formula(f"${{{text}}}"), parse_formula(f"${{{text}}}")
        assert first[1] == again[1]
        assert read_expression(text) == read_expression(text)


def test_nullable_types_are_part_of_the_law() -> None:
    """The oracle of types tells null from its absence."""
    assert _has(None, union(TEXT, NULL))
    assert not _has(None, TEXT)
