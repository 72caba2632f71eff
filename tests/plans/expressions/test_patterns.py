"""`match`, `search`, `findall` and `format`: values, types, faults, and that no pattern and no text takes long."""

from __future__ import annotations

import re
from typing import Any

import pytest
from firmplan import check
from firmplan.plans.expressions import patterns
from firmplan.plans.expressions.evaluate import compile_node
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.functions import FORM_DIGITS_MAX, FORM_WIDTH_MAX
from firmplan.plans.expressions.infer import infer
from firmplan.plans.expressions.operators import WORK_MAX
from firmplan.plans.expressions.patterns import PATTERN_CHARACTERS_MAX
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.reports.errors import EvaluationError
from firmplan.plans.types.show import type_text
from firmplan.plans.types.types import INTEGER, NULL, NUMBER, TEXT, UNKNOWN, ObjectType, Type, union, widened
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

SCOPE: dict[str, Any] = {
    "t": "See INV-12 and INV-9 (ärger) by ann@example.org",
    "n": 7,
    "x": 1234.5,
    "nothing": None,
    "p": "(a+)+$",
    "lines": "one #a\ntwo #b\n",
}
TYPES: dict[str, Type] = {
    "t": TEXT,
    "n": INTEGER,
    "x": NUMBER,
    "either": union(INTEGER, TEXT),
    "maybe": union(TEXT, NULL),
    "u": UNKNOWN,
    "inputs": ObjectType({}),
}


def value(text: str, **scope: Any) -> Any:
    """Return what an expression hands out."""
    return compile_node(parse(text))({**SCOPE, **scope})


VALUES: dict[str, Any] = {
    'match("See", t)': {"text": "See"},
    'match("INV", t)': None,
    r'search(r"INV-(?P<number>\d+)", t)': {"text": "INV-12", "number": "12"},
    r'search(r"(?P<user>[a-z]+)@(?P<host>[a-z.]+)", t).host': "example.org",
    r'search(r"\d(?P<more>\d)?(?P<none>x)?", "a 1")': {"text": "1", "more": "", "none": ""},
    r'search(r"(?P<text>\d)\d", t)': {"text": "1"},  # a group may have the name
    r'search("(?i)inv", t).text': "INV",
    r'search(r"ä(?P<rest>\w+)", t).rest': "rger",
    r'search("é", t) is None': True,
    r'first(search(r"#(?P<id>\d+)", t).id, "none")': "none",
    r'[w for w in t.split() if match("[a-z]+$", w)]': ["and", "by"],
    r'"yes" if match("", t) else "no"': "yes",  # an object, also of an empty match
    r'findall(r"INV-\d+", t)': ["INV-12", "INV-9"],
    r'findall(r"INV-(\d+)", t)': ["12", "9"],
    r'findall(r"INV-(?P<n>\d+)", t)': ["12", "9"],
    r'findall(r"([A-Z]+)-(\d+)|(@)", t)': [["INV", "12", ""], ["INV", "9", ""], ["", "", "@"]],
    r'findall("x*", "axb")': re.findall("x*", "axb")[:1] + ["x"] + [""] * 2,
    r'findall("q", t)': [],
    r"findall(r'.', 'äöé')": ["ä", "ö", "é"],
    r'[m for line in lines.splitlines() for m in findall(r"#\w", line)]': ["#a", "#b"],
    'search(p, "a" * 30 + "!")': None,
    'format(x, ",.2f")': "1,234.50",
    'format(n, "05d")': "00007",
    'format(n, ".1f")': "7.0",
    'format(-n, "+d")': "-7",
    'format(0.256, ".1%")': "25.6%",
    'format(255, "x")': "ff",
    'format(1234567, "_d")': "1_234_567",
    'format(x, "e")': "1.234500e+03",
    'format(x, "")': "1234.5",
    'format("ab", "*^6")': "**ab**",
    'format("abcdef", ".3s")': "abc",
    'format(n, ">4") + "|" + format("é", "<3") + "|"': "   7|é  |",
}


@pytest.mark.parametrize("text", VALUES)
def test_value(text: str) -> None:
    """An expression has its value, also spelled anew."""
    assert value(text) == VALUES[text]
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    assert parse_formula(formula.canonical)[0].evaluate(SCOPE) == VALUES[text]


FAULTS = {
    'match("(", t + "x")': "bad-value",
    'search("(?=a)", t + "x")': "bad-value",
    'search("(?<!a)b", t + "x")': "bad-value",
    r'search(r"(a)\1", t + "x")': "bad-value",
    'search("a{1001}", t + "x")': "bad-value",
    'search("((a{100}){100}){100}", t + "x")': "bad-value",
    'search("(" * 400 + ")" * 400 + "{2}" * 60, t)': "bad-value",
    "match(n, t)": "type-error",
    "match(t, n)": "type-error",
    "search(t, nothing)": "null-value",
    "findall([], t)": "type-error",
    'format(x, "d")': "bad-value",
    'format(n, "%Y")': "bad-value",
    'format(n, "s")': "bad-value",
    'format(t, ".2f")': "bad-value",
    'format(t, ",")': "bad-value",
    'format(n, "n")': "bad-value",
    'format(n, "{}")': "bad-value",
    'format(n, "c")': "bad-value",
    'format(n, "9999999999d")': "bad-value",
    'format(n, ".200f")': "bad-value",
    'format(n, "1001d")': "bad-value",
    'format(True, "d")': "type-error",
    'format(nothing, "d")': "null-value",
    "format(n, n)": "type-error",
    'format([], "")': "type-error",
}


@pytest.mark.parametrize("text", FAULTS)
def test_fault(text: str) -> None:
    """Whatever cannot be read or written is a fault of the expression, in words that do not depend on RE2's."""
    with pytest.raises(EvaluationError) as caught:
        value(text)
    assert caught.value.code == FAULTS[text], str(caught.value)
    assert len(str(caught.value)) < 300


FOUND = {
    r'search(r"(?P<id>\d+)", t)': ("{text, id} or null", []),
    r'search(r"(?P<id>\d+)", t).id': ("text", ["maybe-missing"]),
    r'first(search(r"(?P<id>\d+)", t).id, "")': ("text", []),
    r'search(r"(?P<id>\d+)", t).no': ("no value", ["unknown-field"]),
    "search(t, t)": ("{text, ..} or null", []),
    "search(t, maybe)": ("{text, ..} or null", ["maybe-missing"]),
    "search(t, u)": ("{text, ..} or null", ["unchecked-type"]),
    "search(t, n)": ("no value", ["bad-expr"]),
    'search("(", t)': ("no value", ["bad-expr"]),
    'findall("a", t)': ("list of text", []),
    'findall("(a)", t)': ("list of text", []),
    'findall("(a)(b)", t)': ("list of list of text", []),
    "findall(t, t)": ("list of (text or list of text)", []),
    'match("a", t) is not None': ("boolean", []),
    'format(n, ",.2f")': ("text", []),
    "format(n, t)": ("text", []),
    'format(either, "d")': ("text", []),
    'format(u, "d")': ("text", ["unchecked-type"]),
    'format(t, "d")': ("no value", ["bad-expr"]),
    'format(n, "%d.%m")': ("no value", ["bad-expr"]),
    'format(maybe, "<3")': ("text", ["maybe-missing"]),
    'format(date(t), "%d")': ("text", []),
    'format(date(t), "%Q")': ("no value", ["bad-expr"]),
    "format(n)": ("no value", ["bad-expr"]),
}


@pytest.mark.parametrize("text", FOUND)
def test_type(text: str) -> None:
    """The check knows the fields of a pattern that is written out, and refuses a wrong one, and a wrong form."""
    formula, faults = parse_formula(f"${{{text}}}")
    inferred = infer(formula, TYPES)
    found = type_text(widened(inferred.type)), [each.code for each in (*faults, *inferred.problems)]
    assert found == FOUND[text]


def test_a_wrong_pattern_is_explained_at_check() -> None:
    """RE2's own words are shown to who writes the plan; they are not journaled."""
    formula, faults = parse_formula('${search("(?=a)b", t)}')
    (problem,) = [*faults, *infer(formula, TYPES).problems]
    assert "invalid perl operator: (?=" in problem.message
    assert "look-arounds" in problem.hint
    with pytest.raises(EvaluationError) as caught:
        value('search("(?=a)b", t)')
    assert "perl" not in str(caught.value)


def test_a_pattern_has_limits() -> None:
    """Characters of a pattern, and the memory that it takes compiled; as many as the limit are taken."""
    patterns.compiled("a" * PATTERN_CHARACTERS_MAX)
    for pattern in ("a" * (PATTERN_CHARACTERS_MAX + 1), r"(?:\pL{1,300}){3}", "(?:(?:a{100}){100}){100}"):
        with pytest.raises(patterns.PatternError):
            patterns.compiled(pattern)


def test_a_form_has_limits() -> None:
    """Width and digits up to the limit are written."""
    assert len(value(f'format(n, "{FORM_WIDTH_MAX}d")')) == FORM_WIDTH_MAX
    assert len(value(f'format(n, ".{FORM_DIGITS_MAX}f")')) == FORM_DIGITS_MAX + 2
    for form in (f"{FORM_WIDTH_MAX + 1}d", f".{FORM_DIGITS_MAX + 1}f"):
        with pytest.raises(EvaluationError, match="cannot read the form"):
            value(f'format(n, "{form}")')


@pytest.mark.parametrize(
    "text",
    [
        'search("(a+)+$", long + "!")',
        'search("(x+x+)+y", long)',
        'findall(".*b|a", long)',
        'findall("a", long)',
        'search("[a-z]*b?(?P<x>[a-z]{1,900})q", long)',
        "[search('a', long) for i in range(1000000)]",
        'findall("", long * 100)',
        'format("a" * 16777216, "<1000")',
    ],
)
def test_every_match_is_paid_for(text: str) -> None:
    """Of patterns and texts that are made to take long, the work is bounded before it is done, or linear in the text."""
    try:
        value(text, long="a" * 1_000_000)
    except EvaluationError as error:
        assert error.code == "limit-exceeded"  # noqa: PT017


def test_patterns_of_a_plan_are_work_of_its_check() -> None:
    """Compiling is paid for at check, a pattern whether it is right or not; a plan of too many is refused in time."""
    plan = {
        "firmplan": 1,
        "inputs": {"t": {"type": "string"}},
        "steps": [
            {"id": f"s{n}", "set": f'${{search("{"[a-z]{1,900}" * 2}{n}", inputs.t)}}'} for n in range(200)
        ],
    }
    assert [problem.code for problem in check(plan).problems if problem.severity == "error"] == [
        "limit-exceeded"
    ]
    assert check({**plan, "steps": plan["steps"][:20]}).ok  # type: ignore[index]
    assert patterns.work_of("a") < patterns.work_of("a{100}") < patterns.work_of(r"a{100}\pL")


def test_work_grows_with_the_text_and_the_pattern() -> None:
    """A longer text, a larger pattern and each further match of `findall` cost more."""
    from firmplan.plans.expressions.operators import Frame

    def work(pattern: str, text: str) -> int:
        frame = Frame({})
        patterns.all_matches(frame, pattern, text)
        return WORK_MAX - frame.work

    assert work("b", "a" * 1_000) < work("b", "a" * 10_000) < work("b{20}", "a" * 10_000)
    assert 20 * work("b", "a" * 1_000) < work("a", "a" * 1_000)


SYNTAX = st.sampled_from(
    [
        "a",
        "b",
        "[ab]",
        "(a)",
        "(?:ab)",
        "(a|b)",
        "a*",
        "b+?",
        "(?:a|ab)",
        "a?",
        r"\w",
        ".",
        "^",
        r"\b",
        "a{2}",
        "[^a]",
    ]
)


@examples(200)
@given(st.lists(SYNTAX, min_size=1, max_size=5).map("".join), st.text("ab \n", max_size=12))
def test_python_agrees(pattern: str, text: str) -> None:
    """Where both engines have the syntax, they match the same."""
    for name, theirs in (("match", re.match(pattern, text)), ("search", re.search(pattern, text))):
        ours = value(f"{name}(p, s)", p=pattern, s=text)
        assert (ours and ours["text"]) == (theirs and theirs.group())
    if not any(match == "" or isinstance(match, tuple) for match in re.findall(pattern, text)):
        assert value("findall(p, s)", p=pattern, s=text) == re.findall(pattern, text)
