"""The types of expressions, and what inference says of their operands, to the code."""

from __future__ import annotations

from typing import Any

import pytest
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.function_types import FUNCTION_TYPES, METHOD_TYPES
from firmplan.plans.expressions.functions import FUNCTIONS, METHODS
from firmplan.plans.expressions.infer import infer
from firmplan.plans.types.show import type_text
from firmplan.plans.types.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Type,
    union,
    widened,
)

WEATHER = ObjectType(
    {
        "text": Property(TEXT),
        "celsius": Property(NUMBER),
        "n": Property(INTEGER),
        "note": Property(TEXT, required=False),
        "maybe": Property(union(TEXT, NULL)),
        "tags": Property(ListType(TEXT)),
    }
)
SCOPE: dict[str, Type] = {
    "w": WEATHER,
    "ws": ListType(WEATHER),
    "maybe_w": union(WEATHER, NULL),
    "xs": ListType(INTEGER),
    "ns": ListType(union(INTEGER, NULL)),
    "d": ObjectType({}, NUMBER),
    "open": ObjectType({}, UNKNOWN),
    "s": UNKNOWN,
    "ss": ListType(UNKNOWN),
    "u": union(INTEGER, TEXT),
    "either": union(WEATHER, TEXT),
    "b": BOOLEAN,
    "nul": NULL,
    "broken": NEVER,
    "inputs": ObjectType({"city": Property(TEXT), "count": Property(INTEGER), "any": Property(UNKNOWN)}),
    "item": INTEGER,
    "index": INTEGER,
    "prev": union(INTEGER, NULL),
}


def found(text: str) -> tuple[str, list[str]]:
    """Return the type of an expression, known values left out, and the codes of all faults."""
    formula, faults = parse_formula(f"${{{text}}}")
    inferred = infer(formula, SCOPE)
    return type_text(widened(inferred.type)), [fault.code for fault in (*faults, *inferred.problems)]


TYPES = {
    # paths
    "w.text": "text",
    "w['celsius']": "number",
    "ws[0].n": "integer",
    "ws[-1:]": "list of {text, celsius, n, note?, maybe, tags}",
    "w.text[0]": "text",
    "w.tags[item]": "text",
    "inputs.city": "text",
    "inputs['count']": "integer",
    "w.maybe": "text or null",
    "s": "a value of unknown type",
    # numbers keep their kind
    "w.n + 1": "integer",
    "w.n + 1.0": "number",
    "w.n * w.celsius": "number",
    "w.n / 1": "number",
    "w.n // 2": "integer",
    "w.n % 2": "integer",
    "w.celsius // 1": "number",
    "w.n ** 2": "integer",
    "w.n ** -1": "number",
    "w.n ** w.n": "number",
    "w.celsius ** 2": "number",
    "-w.n": "integer",
    "+w.celsius": "number",
    "abs(w.n)": "integer",
    "round(w.celsius)": "integer",
    "round(w.n, 1)": "number",
    "int(w.text)": "integer",
    "float(w.n)": "number",
    "sum(xs)": "integer",
    "sum([])": "integer",
    "sum([x / 2 for x in xs])": "number",
    "avg(xs)": "number",
    "min(xs)": "integer",
    "max(w.n, 1)": "integer",
    "max(w.n, w.celsius)": "number",
    "min(w.text, 'a')": "text",
    # text and lists
    "w.text + 'x'": "text",
    "w.text * 2": "text",
    "xs + [1]": "list of integer",
    "xs + w.tags": "list of (integer or text)",
    "xs * item": "list of integer",
    "[w.n, w.text][1]": "text",
    "[w.n, w.text][index]": "integer or text",
    "{'a': w.n, 'b': [w.text]}.b": "list of text",
    "{inputs.city: w.n}": "object",
    # comparisons and truth
    "w.n == w.text": "boolean",
    "1 < w.n < w.celsius": "boolean",
    "w.text < 'b'": "boolean",
    "w.text in w": "boolean",
    "nul in xs": "boolean",
    "w.maybe is None": "boolean",
    "not w.maybe": "boolean",
    "w.maybe or 'x'": "text",
    "w.maybe and 1": "text or integer or null",
    "w.n or w.text": "integer or text",
    "1 if w.tags else 'a'": "integer or text",
    "bool(s)": "boolean",
    # comprehensions
    "[x.celsius for x in ws]": "list of number",
    "[x.n for x in ws if x.tags]": "list of integer",
    "[x + y for x, y in zip(xs, xs)]": "list of integer",
    "[i + len(t) for i, t in enumerate(w.tags)]": "list of integer",
    "[k + '!' for k, v in items(d)]": "list of text",
    "[v + 1 for k, v in items(d)]": "list of number",
    "[v.n for i, (v) in [[1, w]]]": "list of integer",
    "sorted([[x.text, x.n] for x in ws], key=lambda p: p[1])[0][0]": "text",
    "[x + 1 for x in []]": "an empty list",
    # functions
    "len(w) + len(xs) + len('a')": "integer",
    "sorted(ws, key=lambda x: x.celsius)[0].text": "text",
    "max(ws, key=lambda x: x.n).text": "text",
    "reversed(xs)": "list of integer",
    "range(w.n)": "list of integer",
    "any(x > 1 for x in xs)": "boolean",
    "all(ws)": "boolean",
    "str(s)": "text",
    "keys(w)": "list of text",
    "values(d)": "list of number",
    "flatten([[w.n], xs])": "list of integer",
    "distinct(w.tags)": "list of text",
    "join(w.tags, ', ')": "text",
    "', '.join(w.tags)": "text",
    "w.text.split(',')": "list of text",
    "w.text.count('a') + w.text.find('b')": "integer",
    "w.text.startswith('a')": "boolean",
    "w.text.upper().strip('X').title()": "text",
    # first
    "first(w.note, 'x')": "text",
    "first(w.note, w.maybe)": "text or null",
    "first(maybe_w.n, 0)": "integer",
    "first(prev, 0) + 1": "integer",
    "first(first(w.note, w.maybe), 'x')": "text",
    # what is broken already is not complained of again
    "broken.x[0] + 1": "no value",
    "[x.y for x in broken]": "an empty list",
    "broken < 1": "boolean",
}  # fmt: skip


@pytest.mark.parametrize("text", TYPES)
def test_type(text: str) -> None:
    """An expression has this type, and nothing is said of it."""
    assert found(text) == (TYPES[text], [])


CODES: dict[str, list[str]] = {
    # the head of a path
    "town": ["unknown-ref"],
    "steps.w.text": ["unknown-ref"],
    "inputs.town": ["unknown-ref"],
    "inputs['town']": ["unknown-ref"],
    "true": ["unknown-ref"],
    "first(town, 1)": ["unknown-ref"],
    "[x for y in xs]": ["unknown-ref"],
    "town.a + town.b": ["unknown-ref", "unknown-ref"],
    # any later part
    "w.celcius": ["unknown-field"],
    "w['celcius']": ["unknown-field"],
    "w.output.text": ["unknown-field"],
    "w[0]": ["unknown-field"],
    "w[w.n]": ["unknown-field"],
    "ws.text": ["unknown-field"],
    "ws['text']": ["unknown-field"],
    "ws[inputs.city]": ["unknown-field"],
    "xs.length": ["unknown-field"],
    "w.text.lower": ["unknown-field"],
    "w.n.x": ["unknown-field"],
    "w.n[0]": ["unknown-field"],
    "w[1:]": ["unknown-field"],
    "nul.x": ["unknown-field"],
    "inputs.city.x": ["unknown-field"],
    "first(w.nope, 1)": ["unknown-field"],
    # operands
    "w.text + 1": ["bad-expr"],
    "b + 1": ["bad-expr"],
    "-b": ["bad-expr"],
    "sum([b])": ["bad-expr"],
    "w.n < w.text": ["bad-expr"],
    "b < b": ["bad-expr"],
    "w < w": ["bad-expr"],
    "nul + 1": ["bad-expr"],
    "1 in w.text": ["bad-expr"],
    "1 in w.n": ["bad-expr"],
    "len(w.n)": ["bad-expr"],
    "sum(w.tags)": ["bad-expr"],
    "sorted(ws)": ["bad-expr"],
    "sorted(xs, key=lambda x: [[x]])": ["bad-expr"],
    "sorted(xs, reverse=w.n)": ["bad-expr"],
    "min(w.n, w.text)": ["bad-expr"],
    "min(b, b)": ["bad-expr"],
    "range(w.text)": ["bad-expr"],
    "keys(xs)": ["bad-expr"],
    "items(ws)": ["bad-expr"],
    "flatten(xs)": ["bad-expr"],
    "join(xs)": ["bad-expr"],
    "w.tags.join(',')": ["bad-expr"],
    "w.n.upper()": ["bad-expr"],
    "w.text.split(1)": ["bad-expr"],
    "[x for x in w]": ["bad-expr"],
    "[x for x in w.text]": ["bad-expr"],
    "[x for x, y in xs]": ["bad-expr"],
    "[x for x, y in zip(xs, xs, xs)]": ["bad-expr"],
    "{w.n: 1}": ["bad-expr"],
    "xs[b]": ["bad-expr"],
    "w.text[w.tags]": ["bad-expr"],
    "xs['a':]": ["bad-expr"],
    "'%s' % w.text": ["bad-expr"],
    "int(w)": ["bad-expr"],
    "float(xs)": ["bad-expr"],
    "(w.text + 1) + 1": ["bad-expr"],  # said once
    "w.n + (b + 1) + w.celcius": ["bad-expr", "unknown-field"],
    # null and absence
    "w.note": ["maybe-missing"],
    "w.maybe + 'x'": ["maybe-missing"],
    "w.maybe.upper()": ["maybe-missing"],
    "len(w.maybe)": ["maybe-missing"],
    "maybe_w.text": ["maybe-missing"],
    "maybe_w.note": ["maybe-missing"],
    "sum(ns)": ["maybe-missing"],
    "[x + 1 for x in ns]": ["maybe-missing"],
    "w.maybe < 'x'": ["maybe-missing"],
    "'x' in w.maybe": ["maybe-missing"],
    "prev + 1": ["maybe-missing"],
    "prev": ["maybe-missing"],
    "d.a": ["maybe-missing"],
    "d[inputs.city]": ["maybe-missing"],
    "w[inputs.city]": ["maybe-missing"],
    "first(w.note, w.note)": ["maybe-missing"],
    "first(w.note)": ["maybe-missing"],
    "w.note or 'x'": ["maybe-missing"],
    "w.maybe if w.maybe is not None else 'x'": [],  # no narrowing, and none needed
    # unknown
    "s + 1": ["unchecked-type"],
    "s.a": ["unchecked-type"],
    "s.a.b.c + s": ["unchecked-type"],
    "s[0]": ["unchecked-type"],
    "s[1:]": ["unchecked-type"],
    "s < 1": ["unchecked-type"],
    "1 in s": ["unchecked-type"],
    "-s": ["unchecked-type"],
    "len(s)": ["unchecked-type"],
    "sum(ss)": ["unchecked-type"],
    "sorted(ss)": ["unchecked-type"],
    "[x for x in s]": ["unchecked-type"],
    "s.upper()": ["unchecked-type"],
    "{s: 1}": ["unchecked-type"],
    "xs[s]": ["unchecked-type"],
    "s == 1": [],
    "not s": [],
    "s or 1": [],
    "[s]": [],
    "open.a": ["maybe-missing"],
    "open.a + 1": ["maybe-missing", "unchecked-type"],
    # unions: allowed if some member allows it
    "u + 1": ["unchecked-type"],
    "u < 1": ["unchecked-type"],
    "u.upper()": ["unchecked-type"],
    "either.text": ["maybe-missing"],
    "either.nope": ["unknown-field"],
    "u - 'a'": ["bad-expr"],
    # a number where an integer is wanted
    "xs[w.celsius]": ["unchecked-type"],
    "range(w.celsius)": ["unchecked-type"],
    "w.text * w.celsius": ["unchecked-type"],
}


@pytest.mark.parametrize("text", CODES)
def test_codes(text: str) -> None:
    """Inference says exactly this of an expression."""
    assert found(text)[1] == CODES[text]


HINTS = {
    "steps.w.text": "write: w",
    "w.output.text": "write: w",
    "w.celcius": "did you mean 'w.celsius'?",
    "city": "write: inputs.city",
    "input.city": "write: inputs.city",
    "inputs.cities": "did you mean 'city'?",
    "true": "write: True",
    "wss.text": "did you mean 'ws'?",
    "ws.text": "[x.text for x in ws]",
    "xs.length": "len(xs)",
    "w.text.lower": "w.text.lower(..)",
    "w[0]": "w.name",
    "[x for x in w]": "items(w)",
    "w.tags.join(', ')": "', '.join(w.tags)",
    "w.text + 1": "str(..)",
    "b + 1": "int(..)",
    "w.note": "first(w.note, ",
    # what has no type: whoever makes it is to give it one
    "s + 1": "give the tool that makes it a return type",
    "ss[0].x + 1": "give the tool that makes it a return type",
    "inputs.any + 1": "give the input a type",
    "inputs.any.x[0]": "give the input a type",
    "[x + 1 for x in inputs.any]": "give the input a type",
    "[x + 1 for x in ss]": "give what it comes from a type",
}


@pytest.mark.parametrize("text", HINTS)
def test_hint(text: str) -> None:
    """A common slip gets a hint that cures it."""
    formula, _ = parse_formula(f"${{{text}}}")
    assert HINTS[text] in infer(formula, SCOPE).problems[0].hint


@pytest.mark.parametrize("name", ["item", "index", "prev"])
def test_names_out_of_place(name: str) -> None:
    """`item`, `index` and `prev` are `unknown-ref` where they mean nothing, and the hint says where they do."""
    formula, _ = parse_formula(f"${{{name}}}")
    (fault,) = infer(formula, {"inputs": ObjectType({})}).problems
    assert fault.code == "unknown-ref"
    assert "only in a step with" in fault.message


def test_templates() -> None:
    """A template's type has its shape; each string with expressions has its own; faults say where in it they are."""
    value: Any = {"a": "${w.n}", "b": ["${w.text}", 2, "n: ${w.n}"], "c": "plain", "d": {"e": "${w.nope}"}}
    inferred = infer(parse_formula(value)[0], SCOPE)
    assert {inner: type_text(of) for inner, of in inferred.leaves.items()} == {
        ".a": "integer",
        ".b[0]": "text",
        ".b[2]": "text",
        ".d.e": "no value",
    }
    assert type_text(inferred.type) == "{a, b, c, d}"
    assert [(fault.code, fault.inner, fault.start, fault.end) for fault in inferred.problems] == [
        ("unknown-field", ".d.e", 2, 8)
    ]
    plain = infer(parse_formula({"a": [1]})[0], {})
    assert (type_text(plain.type), plain.leaves, plain.problems) == ("{a}", {}, [])


def test_suggestions_can_be_left_out() -> None:
    """Without suggestions the same faults are found, and no name is compared."""
    formula, _ = parse_formula("${wss + w.celcius + inputs.cty}")
    quick = infer(formula, SCOPE, suggestions=False).problems
    assert [fault.code for fault in quick] == [fault.code for fault in infer(formula, SCOPE).problems]
    assert not any("did you mean" in fault.hint for fault in quick)


def test_every_function_has_a_type() -> None:
    """The tables of what functions do and of what they give name the same functions; `first` and `secret` stand apart."""
    assert {*FUNCTION_TYPES, "first", "secret"} == set(FUNCTIONS)
    assert set(METHOD_TYPES) == set(METHODS)


def test_rows_stay_inside_inference() -> None:
    """The type of a list whose places are known equals, and hashes like, the list type that everybody else sees."""
    made = infer(parse_formula("${[w.n, w.text]}")[0], SCOPE).type
    assert made == ListType(union(INTEGER, TEXT))
    assert hash(made) == hash(ListType(union(INTEGER, TEXT)))
    assert ListType(union(INTEGER, TEXT)) == made
