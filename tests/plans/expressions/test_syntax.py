"""What the language refuses, each with its exact code: nothing of Python comes in that is not on the list."""

from __future__ import annotations

import pytest
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.reports.errors import EvaluationError

BAD = [
    # ways into Python
    "x.__class__",
    "x.__class__.__bases__[0]",
    "''.__class__",
    "[].__class__.__mro__",
    "(lambda: 0).__globals__",
    "__import__('os')",
    "eval('1')",
    "exec('1')",
    "open('f')",
    "getattr(x, 'y')",
    "x.format(y)",
    "'{0.__class__}'.format(x)",
    "x.format_map(y)",
    "x.encode()",
    "x.mro()",
    "print(1)",
    "type(x)",
    # constructs
    "y := 1",
    "(y := 1)",
    "{1, 2}",
    "{x for x in xs}",
    "{*xs}",
    "[*xs]",
    "f(*xs)",
    "sum(*xs)",
    "{**d}",
    "sorted(xs, **d)",
    "(1, 2)",
    "1, 2",
    "()",
    "(1,)",
    "x[1, 2]",
    "f'{x}'",
    "F'x'",
    "rf'x'",
    "b'x'",
    "'''x'''",
    '"""x"""',
    "await x",
    "yield x",
    "(yield)",
    "lambda x: x",
    "[lambda x: x]",
    "(x for x in xs)",
    "[x async for x in xs]",
    "x = 1",
    "x; y",
    "import os",
    "x if y",
    "...",
    "1j",
    "x # remark",
    "~x",
    "x @ y",
    "x & y",
    "x | y",
    "x ^ y",
    "x << 1",
    "x >> 1",
    "!x",
    "x && y",
    "x || y",
    "x ? y : z",
    "x?.y",
    "x -> y",
    "`x`",
    "x \\\n y",
    "$x",
    "x is y",
    "x is 1",
    "x is True",
    "x <> y",
    # names and targets
    "[sum for sum in xs]",
    "[item for item in xs]",
    "[inputs for inputs in xs]",
    "sorted(xs, key=lambda len: 1)",
    "[x for x.y in xs]",
    "[x for x[0] in xs]",
    "[x for [x, y] in xs]",
    "[x for (x, (y, z)) in xs]",
    "[x for x, in xs]",
    "[x for *x, y in xs]",
    "[1 for x in xs for y in z for z in xs]",
    "len",
    "[len]",
    "sum.x",
    # calls
    "sorted(xs, key=len)",
    "sorted(xs, key=lambda a, b: a)",
    "sorted(xs, key=lambda: 1)",
    "sorted(xs, key=lambda x=1: x)",
    "sorted(xs, key=lambda *x: x)",
    "sum(xs, key=lambda x: x)",
    "max(xs, default=0)",
    "len(xs, ys)",
    "len()",
    "sum(1, 2)",
    "reversed(x for x in xs)",
    "range()",
    "xs[0](1)",
    "x.nope()",
    "d.items()",
    "d.get('a')",
    "xs.append(1)",
    "t.strip(chars='x')",
    "secret(name)",
    "secret()",
    "secret('A') + 'x'",
    "[secret('A')]",
    # spelling
    "",
    "  ",
    "1 +",
    "(1",
    "1)",
    "[1}",
    "'a",
    '"a',
    r"'\q'",
    r"'\777'",
    r"'\x4'",
    r"'\ud800'",
    r"'\N{no such name}'",
    "1if x else y",
    "0xfg",
    "007",
    "1__0",
    "1_",
    "9223372036854775808",
    "9" * 5_000,
    "0x" + "f" * 5_000,
    "-9223372036854775809",
    "1e400",
    "x.class",
    "x.from",
    "x..y",
    "x.1",
    "\uff4cen(x)",
    "x\u00a0+ 1",
    "x\x00",
    "'\x00' + 1",
    # constants that have no value
    "1 / 0",
    "[1][1]",
    "{'a': 1}.b",
    "True + 1",
    "'a' + 1",
    "-'a'",
    "sum(['a'])",
    "int('x')",
    "1e308 * 10",
    "10 ** 400",
    "10 ** 10 ** 10",
    "9223372036854775807 + 1",
    "xs[1 / 0]",
    "x if 1 / 0 else y",
    "True or 1 / 0",
    "first(1 / 0, 2)",
    "first([][0])",
    "[x / 0 for x in [1]]",
    "(1).real",
    "{1: 2}",
    "[].x",
    "avg([])",
    "sorted([1, 'a'])",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_expr(text: str) -> None:
    """It is refused as `bad-expr` with a message, and evaluating it anyway gives a fault and not a value."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert [fault.code for fault in faults] == ["bad-expr"]
    assert faults[0].message
    assert 0 <= faults[0].start < faults[0].end <= len(text) + 3
    if "x if 1" not in text and "True or" not in text:
        with pytest.raises(EvaluationError):
            formula.evaluate({"x": {}, "y": 1, "xs": [1], "d": {}, "t": "", "f": 1, "name": "A"})


HINTS = {
    "unique(xs)": "distinct(xs)",
    "lower(x)": "x.lower(..)",
    "sumn(xs)": "did you mean 'sum'?",
    "now()": "expressions have no clock",
    "xs.append(1)": "xs + [x]",
    "d.get('a')": 'get(x, "field", default)',
    "x && y": "a and b",
    "x ? y : z": "a if condition else b",
    "f'{x}'": "str(x)",
    "x = 1": "==",
    "x is y": "==",
    "(1, 2)": "[a, b]",
    "{1, 2}": "distinct",
    "x.class": 'x["class"]',
    "sorted(xs, key=len)": "key=lambda x",
    "[sum for sum in xs]": "another name",
}


@pytest.mark.parametrize("text", HINTS)
def test_hint(text: str) -> None:
    """What people bring from Python and elsewhere is refused with what to write instead."""
    (fault,) = parse_formula(f"${{{text}}}")[1]
    assert HINTS[text] in fault.hint


LIMITS = [
    "'a' * 10 ** 9",
    "['a'] * 10 ** 9",
    "range(10 ** 9)",
    "range(2 ** 62)",
    "[x for x in range(3000) for y in range(3000)]",
    "[['a' * 10 ** 7] * 10 ** 6]",
    "sum(x * y for x in range(10000) for y in range(10000))",
    "join(['a' * 10 ** 6] * 10 ** 3)",
    "str([['ab'] * 1000] * 10000)",
    "((" * 40 + "1" + "))" * 40,
    "[" * 61 + "]" * 61,
    "-" * 200 + "x",
    "-" * 15_000 + "x",
    "not " * 4_000 + "x",
    "+".join(["x"] * 200),
    "x" + ".y" * 150,
    "x" + "[0]" * 150,
    " if x else ".join(["x"] * 150),
    "x" * 20_001,
    "'" + "a" * 20_001 + "'",
    "[" + ",".join(["x"] * 10_001) + "]",
    "x +" + " " * 20_001 + "1",
]


@pytest.mark.parametrize("text", LIMITS, ids=[text[:20] for text in LIMITS])
def test_limit_exceeded(text: str) -> None:
    """What is too long, too deep, too large or too much work is refused at check, whatever it would give."""
    _, faults = parse_formula(f"${{{text}}}")
    assert {fault.code for fault in faults} == {"limit-exceeded"}


def test_a_long_expression_must_fit_in_canonical_spelling() -> None:
    """What is short enough only without its canonical spaces is refused, so that a plan written out can be read again."""
    _, faults = parse_formula("${[" + ",".join(["1"] * 9_000) + "]}")
    assert [fault.code for fault in faults] == ["limit-exceeded"]
    assert "spaces" in faults[0].message


def test_no_string_takes_long_to_read() -> None:
    """Strings made to be read again and again are read in one pass: each of these would take minutes if that were not so."""
    for piece in (
        "${",
        "$${",
        '${"',
        "${'\\q",
        "${[}",
        "${(",
        "${x",
        "}",
        "{{",
        "$a.",
        "${x[",
        "${'}'",
        "${\\",
    ):
        parse_formula(piece * 20_000)
