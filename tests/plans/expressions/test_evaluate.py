"""What expressions mean: vectors of text, scope and value, kept for ever."""

from __future__ import annotations

from typing import Any

import pytest
from firmplan.plans.expressions.evaluate import compile_node
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.reports.errors import SKIPPED, EvaluationError, RefersToSkipped

SCOPE: dict[str, Any] = {
    "w": {"text": "mild", "celsius": 20.5, "tags": ["a", "b"], "count": 3, "no": None, "key with space": 1},
    "ws": [{"n": 2, "t": "b"}, {"n": 1, "t": "c"}, {"n": 2, "t": "a"}],
    "xs": [3, 1, 2],
    "fs": [0.5, 2, 1],
    "d": {"b": 2, "a": 1},
    "n": 7,
    "f": 2.0,
    "t": "Hello World",
    "yes": True,
    "nothing": None,
    "empty": [],
    "inputs": {"city": "Rome", "k": 2},
    "item": {"x": [1, 2]},
    "index": 4,
    "gone": SKIPPED,
}

VALUES: dict[str, Any] = {
    # paths
    "w.text": "mild",
    'w["text"]': "mild",
    "w['key with space']": 1,
    "w.count": 3,
    "ws[0].n": 2,
    "ws[-1]['t']": "a",
    "xs[1:]": [1, 2],
    "xs[::-1]": [2, 1, 3],
    "t[0]": "H",
    "t[-5:]": "World",
    "inputs.city": "Rome",
    "d[inputs.city if False else 'a']": 1,
    "item.x[index - 4]": 1,
    # literals
    "[1, 1.0, 'a', None, True, {'k': [1]}]": [1, 1.0, "a", None, True, {"k": [1]}],
    "'a' 'b'": "ab",
    r"'\n\x41\u00e9\'\\'": "\nA\u00e9'\\",
    r"r'\n'": "\\n",
    "0xff + 0b11 + 0o17 + 1_000": 1273,
    "1e3": 1000.0,
    "-9223372036854775808": -(2**63),
    "9223372036854775807": 2**63 - 1,
    "-0.0": 0.0,
    # operators keep kinds apart
    "n + 1": 8,
    "n + 1.0": 8.0,
    "n / 7": 1.0,
    "n // 2": 3,
    "-n // 2": -4,
    "n // 2.0": 3.0,
    "-n % 3": 2,
    "n % -3": -2,
    "n ** 2": 49,
    "n ** 1": 7,
    "n ** 0": 1,
    "2 ** n": 128.0,
    "2 ** -1": 0.5,
    "f ** 2": 4.0,
    "-2 ** 2": -4,
    "2 ** 3 ** 0": 2.0,  # the exponent is not written as an integer
    "t + '!'": "Hello World!",
    "xs + [4]": [3, 1, 2, 4],
    "'ab' * 2": "abab",
    "2 * [0]": [0, 0],
    "'ab' * -1": "",
    # comparisons
    "True == 1": False,
    "1 == 1.0": True,
    "[1, {'a': 2}] == [1.0, {'a': 2.0}]": True,
    "[True] == [1]": False,
    "xs == xs[1:]": False,
    "xs[1:] == xs": False,
    "d == {'a': 1}": False,
    "{'a': 1, 'b': 3} == d": False,
    "[d] == [{'b': 2.0, 'a': 1}]": True,
    "1 < 2 < 3": True,
    "3 > n > 1": False,
    "1 < n < 3": False,
    "1 < 3 > 2 == 2": True,
    "1 < n < 9 != 9": False,
    "'a' < 'b'": True,
    "2 in xs": True,
    "True in [1]": False,
    "'b' in d": True,
    "'lo W' in t": True,
    "nothing is None": True,
    "n is not None": True,
    "5 not in xs": True,
    # truth
    "n and t": "Hello World",
    "0 or '' or []": [],
    "nothing or 'x'": "x",
    "n or t": 7,
    "'' or n or t": 7,
    "0 and t": 0,
    "n and empty and t": [],
    "not empty": True,
    "1 if empty else 2": 2,
    # comprehensions
    "[x * 2 for x in xs if x > 1]": [6, 4],
    "[x + y for x in [1, 2] for y in [10, 20] if x != y]": [11, 21, 12, 22],
    "[[y for y in range(x)] for x in xs]": [[0, 1, 2], [0], [0, 1]],
    "{k: v + 1 for k, v in items(d)}": {"a": 2, "b": 3},
    "[k for (k, v) in items(d)]": ["a", "b"],
    "sum(x for x in xs)": 6,
    "[xs for xs in xs]": [3, 1, 2],  # the first iterable is evaluated outside
    "[n for n in xs] + [n]": [3, 1, 2, 7],  # loop names hide, and only inside
    "[x for x in [x for x in xs]]": [3, 1, 2],
    # functions
    "len(t) + len(xs) + len(d)": 16,
    "sum([])": 0,
    "sum(fs)": 3.5,
    "avg(xs)": 2.0,
    "min(xs)": 1,
    "max(1, 2.5)": 2.5,
    "min(1, 2.5)": 1.0,
    "max('a', 'b')": "b",
    "max(ws, key=lambda x: x.n).t": "b",
    "min(3, -5, key=lambda x: abs(x))": 3,
    "abs(-3)": 3,
    "round(2.5)": 2,
    "round(2.567, 1)": 2.6,
    "round(7, 1)": 7.0,
    "sorted(xs)": [1, 2, 3],
    "sorted(xs, reverse=True)": [3, 2, 1],
    "[w.t for w in sorted(ws, key=lambda x: x.n)]": ["c", "b", "a"],
    "[w.t for w in sorted(ws, key=lambda x: x.n, reverse=True)]": ["b", "a", "c"],
    "reversed(xs)": [2, 1, 3],
    "range(3)": [0, 1, 2],
    "range(5, 0, -2)": [5, 3, 1],
    "any(x > 2 for x in xs)": True,
    "all([])": True,
    "zip(xs, 'a b c'.split())": [[3, "a"], [1, "b"], [2, "c"]],
    "enumerate(xs, 1)": [[1, 3], [2, 1], [3, 2]],
    "str(f) + str(n) + str('x') + str({'b': 1, 'a': [None]})": '2.07x{"a":[null],"b":1}',
    "int('-12') + int(2.9) + int(True)": -9,
    "float('1.5') + float(1)": 2.5,
    "bool('')": False,
    "keys(d)": ["a", "b"],
    "values(d)": [1, 2],
    "items(d)": [["a", 1], ["b", 2]],
    "flatten([[1], [], [[2]]])": [1, [2]],
    "distinct([2, 1, 2.0, True, 1])": [2, 1, True],
    "join(w.tags)": "ab",
    "join(w.tags, '-')": "a-b",
    # methods of text
    "t.lower() + t.upper() + t.title()": "hello worldHELLO WORLDHello World",
    "'  x '.strip() + 'xxaxx'.strip('x')": "xa",
    "'a,b,,c'.split(',')": ["a", "b", "", "c"],
    "'a b c'.split(None, 1)": ["a", "b c"],
    r"'a\nb'.splitlines()": ["a", "b"],
    "t.replace('l', 'L', 2)": "HeLLo World",
    "t.replace('l', 'L', 0)": "Hello World",
    "'a b'.split(None, 0)": ["a b"],
    "'a b'.split(' ', -1)": ["a", "b"],
    "t.startswith('He') and t.endswith('ld')": True,
    "', '.join(str(x) for x in xs)": "3, 1, 2",
    "t.count('o') + t.find('W') + t.find('q')": 7,
    # first
    "first(w.absent, w.no, 5)": 5,
    "first(xs[9], 1)": 1,
    "first(nothing, w.no)": None,
    "first(gone.x, 2)": 2,
    "first(gone, nothing)": None,
    "first(first(gone), 3)": 3,
    "first(prev, 0)": 0,
    "first([][0], 2)": 2,
}


@pytest.mark.parametrize("text", VALUES)
def test_value(text: str) -> None:
    """An expression has this value, of exactly this kind, and nothing is wrong with it."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    assert repr(formula.evaluate(SCOPE)) == repr(VALUES[text])


FAULTS = {
    "n / (n - 7)": "division-by-zero",
    "n % 0.0 + f": "division-by-zero",
    "n // (n - 7)": "division-by-zero",
    "f // (n - 7)": "division-by-zero",
    "(n - 7) ** -1": "division-by-zero",
    "xs[3]": "index-out-of-range",
    "w.nope": "absent-field",
    "d['z']": "absent-field",
    "prev": "absent-field",
    "nothing.x": "null-value",
    "nothing + n": "null-value",
    "yes + n": "type-error",
    "-yes": "type-error",
    "+yes": "type-error",
    "+t": "type-error",
    "abs(t)": "type-error",
    "abs(yes)": "type-error",
    "round(t)": "type-error",
    "round(n, f)": "type-error",
    "len(n)": "type-error",
    "int(xs)": "type-error",
    "float(d)": "type-error",
    "n in n": "type-error",
    "n in t": "type-error",
    "n in d": "type-error",
    "xs[t:]": "type-error",
    "n[1:]": "type-error",
    "n[0]": "type-error",
    "keys(xs)": "type-error",
    "join(xs)": "type-error",
    "join(w.tags, n)": "type-error",
    "t.count(n)": "type-error",
    "t.split(n)": "type-error",
    "n.lower()": "type-error",
    "range(t)": "type-error",
    "range(0, 5, n - 7)": "bad-value",
    "xs[::n - 7]": "bad-value",
    "xs + t": "type-error",
    "xs - xs": "type-error",
    "xs * f": "type-error",
    "t < nothing": "null-value",
    "flatten(xs)": "type-error",
    "zip(xs, t)": "type-error",
    "enumerate(xs, t)": "type-error",
    "enumerate(xs, 9223372036854775806)": "overflow",
    "sorted(xs, reverse=n)": "type-error",
    "[a for a, b in xs]": "type-error",
    "[a for a, b, c in items(d)]": "bad-value",
    "sum([yes, n])": "type-error",
    "t < n": "type-error",
    "sorted([t, n])": "type-error",
    "sorted([yes, yes])": "type-error",
    "[x for x in t]": "type-error",
    "[x for x in d]": "type-error",
    "[a for a, b in [xs]]": "bad-value",
    "xs[t]": "type-error",
    "xs[yes]": "type-error",
    "xs[True]": "type-error",
    "sorted(n, key=lambda x: x)": "type-error",
    "max(t, key=lambda x: x)": "type-error",
    "d[n]": "type-error",
    "{n: 1}": "type-error",
    "t[f]": "type-error",
    "range(n, f)": "type-error",
    "min(empty)": "empty-list",
    "max(empty)": "empty-list",
    "avg(empty)": "empty-list",
    "n * 9223372036854775807": "overflow",
    "n ** 64": "overflow",
    "f * 1e308 * 1e308": "not-finite",
    "f ** 1e9": "overflow",
    "(-f) ** 0.5": "not-finite",
    "float(t + 'nan')": "bad-value",
    "float('nan' + t[0:0])": "not-finite",
    "int(t)": "bad-value",
    "t.split(t[0:0])": "bad-value",
    "[x for x in range(2000 * n) for y in range(2000)]": "limit-exceeded",
    "t * 100000000": "limit-exceeded",
    "range(n * 1000000)": "limit-exceeded",
    "[xs * 300000] * 300000": "limit-exceeded",
    "[[t * 1000] * 1000] * (n * 1000)": "limit-exceeded",
}


@pytest.mark.parametrize("text", FAULTS)
def test_run_time_fault(text: str) -> None:
    """An evaluation that has no value ends with this fault, however much work it asked for."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    with pytest.raises(EvaluationError) as caught:
        formula.evaluate(SCOPE)
    assert caught.value.code == FAULTS[text]


@pytest.mark.parametrize(
    "text",
    [
        "gone",
        "gone.x",
        "n if yes else gone",
        "[x for x in xs if gone]",
        "first(gone)",
        "first(gone, gone.x)",
        "first(first(gone))",
        "first(gone, first(gone))",
        "first(first(gone), gone)",
    ],
)
def test_reference_to_a_skipped_step(text: str) -> None:
    """A reference outside `first` leads to the skip, also where it would not be evaluated; so does a `first` with nothing left."""
    formula, _ = parse_formula(f"${{{text}}}")
    with pytest.raises(RefersToSkipped) as caught:
        formula.evaluate(SCOPE)
    assert caught.value.step == "gone"


@pytest.mark.parametrize("text", ["gone", "gone.x", "gone + 1", "[gone]", "n if yes else gone"])
def test_the_evaluator_hands_no_skipped_value_on(text: str) -> None:
    """Whoever evaluates without asking first what was skipped is told, where it is reached; elsewhere it does no harm."""
    node = parse(text)
    evaluate = compile_node(node)
    if text.startswith("n if"):
        assert evaluate(SCOPE) == 7
        return
    with pytest.raises((RefersToSkipped, EvaluationError)) as caught:
        evaluate(SCOPE)
    assert text == "gone.x" or isinstance(caught.value, RefersToSkipped)


def test_first_passes_over_whole_arguments() -> None:
    """An argument that mentions a skipped step is passed over, whichever way its condition goes."""
    formula, _ = parse_formula("${first(n if yes else gone, 'other')}")
    assert formula.evaluate(SCOPE) == "other"


def test_values_of_the_scope_are_untouched() -> None:
    """Evaluation changes nothing that it is given."""
    before = repr(SCOPE)
    for text in VALUES:
        parse_formula(f"${{{text}}}")[0].evaluate(SCOPE)
    assert repr(SCOPE) == before
