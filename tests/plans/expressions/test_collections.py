"""`group_by`, `count_by`, `unique_by`, `get`, and keys of several values: what they give, their types, their faults."""

from __future__ import annotations

from typing import Any

import pytest
from firmplan.errors import PlanRejected
from firmplan.plans.expressions.evaluate import compile_node
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.functions import PATH_PARTS_MAX
from firmplan.plans.expressions.infer import infer
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.plan import Plan
from firmplan.plans.program.compile import compile_plan
from firmplan.plans.reports.errors import EvaluationError
from firmplan.plans.types.show import type_text
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
    Type,
    union,
    widened,
)
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

ROWS = [
    {"team": "b", "n": 2, "x": 1.5, "ok": True, "on": None, "tags": ["p"]},
    {"team": "a", "n": 2, "x": 0.5, "ok": False, "on": "mon", "tags": []},
    {"team": "b", "n": 1, "x": 2.5, "ok": False, "on": "tue", "tags": ["q"]},
    {"team": "a", "n": 1, "x": 0.5, "ok": True, "on": None, "tags": []},
]
SCOPE: dict[str, Any] = {"rows": ROWS, "ts": ["b", "a", "b"], "ns": [3, 1, 3], "j": {"a": {"b": [7, None]}}}
ROW = ObjectType(
    {
        "team": Property(TEXT),
        "n": Property(INTEGER),
        "x": Property(NUMBER),
        "ok": Property(BOOLEAN),
        "on": Property(union(TEXT, NULL)),
        "tags": Property(ListType(TEXT)),
        "more": Property(INTEGER, required=False),
    }
)
TYPES: dict[str, Type] = {
    "rows": ListType(ROW),
    "row": ROW,
    "maybe": union(ROW, NULL),
    "ts": ListType(TEXT),
    "ns": ListType(INTEGER),
    "j": UNKNOWN,
    "d": ObjectType({}, NUMBER),
    "inputs": ObjectType({}),
}


def at(*places: int) -> list[Any]:
    """Return the rows in these places."""
    return [ROWS[place] for place in places]


VALUES: dict[str, Any] = {
    "group_by(rows, key=lambda r: r.team)": {"b": at(0, 2), "a": at(1, 3)},
    "group_by(rows, key=lambda r: r.n)": {"2": at(0, 1), "1": at(2, 3)},
    "group_by(rows, key=lambda r: r.ok)": {"true": at(0, 3), "false": at(1, 2)},
    "group_by(ts)": {"b": ["b", "b"], "a": ["a"]},
    "group_by(t + t for t in ts)": {"bb": ["bb", "bb"], "aa": ["aa"]},
    "group_by([])": {},
    "[[k, len(v)] for k, v in items(group_by(rows, key=lambda r: r.team))]": [["a", 2], ["b", 2]],
    "count_by(ts)": {"b": 2, "a": 1},
    "count_by(rows, key=lambda r: r.n * 10)": {"20": 2, "10": 2},
    "unique_by(rows, key=lambda r: r.team)": at(0, 1),
    "unique_by(rows, key=lambda r: [r.n, r.team])": at(0, 1, 2, 3),
    "unique_by(rows, key=lambda r: r.on)": at(0, 1, 2),
    "unique_by([1, True, 1.0, '1'], key=lambda x: x)": [1, True, "1"],
    "unique_by(ns)": [3, 1],
    "sorted(rows, key=lambda r: (r.team, -r.n))": at(1, 3, 0, 2),
    "sorted(rows, key=lambda r: [r.x, r.ok])": at(1, 3, 0, 2),
    "sorted(rows, key=lambda r: (not r.ok, r.team))": at(3, 0, 1, 2),
    "sorted(rows, key=lambda r: (r.n,), reverse=True)": at(0, 1, 2, 3),
    "sorted(rows, key=lambda r: [1, 'x'])": at(0, 1, 2, 3),
    "sorted([], key=lambda r: [r, r])": [],
    "min(rows, key=lambda r: (r.x, r.n))": ROWS[3],
    "max(rows, key=lambda r: (r.ok, r.x))": ROWS[0],
    "max([3, 1], key=lambda x: [0])": 3,
    'get(j, "a.b[0]")': 7,
    'get(j, "a.b.0")': 7,
    'get(j, "a.b[-2]", 1)': 7,
    'get(j, "a.b[1]", "none")': "none",
    'get(j, "a.b[2]", "none")': "none",
    'get(j, "a.c")': None,
    'get(j, "a.b.c", 0)': 0,
    'get(j, "[0]", 0)': 0,
    'get(rows, "[0].team", "")': "b",
    'get(rows, "9.team", "")': "",
    'get(rows, [0, "tags", 0], "")': "p",
    'get({"a.b": {"c d": 1}}, ["a.b", "c d"])': 1,
    'get({"7": 1}, "7")': 1,
    'get({"c d": 1}, "c d")': 1,
    'get("text", "a", 0)': 0,
}


@pytest.mark.parametrize("text", VALUES)
def test_value(text: str) -> None:
    """An expression has its value, also when it is spelled anew."""
    assert compile_node(parse(text))(SCOPE) == VALUES[text]
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    spelled = parse_formula(formula.canonical)[0]
    assert (spelled.canonical, spelled.evaluate(SCOPE)) == (formula.canonical, VALUES[text])


FAULTS = {
    "group_by(rows, key=lambda r: r.on)": "null-value",
    "group_by(rows, key=lambda r: r.x)": "type-error",
    "count_by(rows, key=lambda r: r.tags)": "type-error",
    "group_by([1, '1'])": "type-error",
    "group_by([1, True])": "type-error",
    "group_by(j)": "type-error",
    "sorted(rows, key=lambda r: [r.team if r.ok else r.n])": "type-error",
    "sorted(rows, key=lambda r: [r.on])": "null-value",
    "sorted(rows, key=lambda r: [r.tags])": "type-error",
    "sorted(rows, key=lambda r: [r.n if r.ok else True])": "type-error",
    "sorted(rows, key=lambda r: r.tags)": "type-error",  # as in version 1: the lambda is not written as a list
    "sorted(rows, key=lambda r: r.ok)": "type-error",
    'get(j, "a..b")': "bad-value",
    'get(j, "")': "bad-value",
    'get(j, "a[x]")': "bad-value",
    "get(j, [])": "bad-value",
    'get(j, "a." * 5000 + "a")': "bad-value",
    'get(j, "a[" + "9" * 30 + "]")': "bad-value",
    "get(j, 1)": "type-error",
    "get(j, [1.5])": "type-error",
    "get(j, [True])": "type-error",
    'get(j, "a" * 20000000)': "limit-exceeded",
}


@pytest.mark.parametrize("text", FAULTS)
def test_fault(text: str) -> None:
    """An expression without a value says why."""
    with pytest.raises(EvaluationError) as caught:
        compile_node(parse(text))(SCOPE)
    assert caught.value.code == FAULTS[text], str(caught.value)


FOUND = {
    "group_by(rows, key=lambda r: r.team)": ("object", []),
    "group_by(rows, key=lambda r: r.n)[j]": ("list of {team, n, x, ok, on, tags, more?}", ["unchecked-type", "maybe-missing"]),
    "count_by(ts)": ("object", []),
    "unique_by(rows, key=lambda r: r.tags)": ("list of {team, n, x, ok, on, tags, more?}", []),
    "group_by(rows, key=lambda r: r.on)": ("object", ["maybe-missing"]),
    "group_by(rows, key=lambda r: r.x)": ("object", ["unchecked-type"]),
    "group_by(rows, key=lambda r: r.tags)": ("no value", ["bad-expr"]),
    "group_by(rows)": ("no value", ["bad-expr"]),
    "group_by(rows, key=lambda r: r.tema)": ("no value", ["unknown-field"]),
    "group_by(row)": ("no value", ["bad-expr"]),
    "sorted(rows, key=lambda r: (r.team, -r.n))": ("list of {team, n, x, ok, on, tags, more?}", []),
    "sorted(rows, key=lambda r: (r.ok, r.on))": ("list of {team, n, x, ok, on, tags, more?}", ["maybe-missing"]),
    "sorted(rows, key=lambda r: [r.tags])": ("no value", ["bad-expr"]),
    "sorted(rows, key=lambda r: [r.team, r.nn])": ("no value", ["unknown-field"]),
    "sorted(rows, key=lambda r: r.tags)": ("no value", ["bad-expr"]),
    "sorted(rows, key=lambda r: r.ok)": ("no value", ["bad-expr"]),
    "min(rows, key=lambda r: [r.n]).team": ("text", []),
    'get(row, "team")': ("text or null", []),
    'get(row, "team", "")': ("text", []),
    'get(row, "more", 0)': ("integer", []),
    'get(maybe, "on", "")': ("text", []),
    'get(row, "tags[0]", 1)': ("text or integer", []),
    'get(rows, [0, "n"], 0)': ("integer", []),
    'get(rows, "0.n", 0.5)': ("number", []),
    'get(j, "a.b", 0)': ("a value of unknown type", []),
    'get(d, "whatever", 0)': ("number", []),
    "get(row, row.team, 0)": ("a value of unknown type", []),
    'get(row, "tema", 0)': ("no value", ["unknown-field"]),
    'get(row, "team.x", 0)': ("no value", ["unknown-field"]),
    'get(row, "a..b", 0)': ("no value", ["bad-expr"]),
    "get(row, 1, 0)": ("no value", ["bad-expr"]),
    "get(row)": ("no value", ["bad-expr"]),
    "group_by(rows, reverse=True)": ("no value", ["bad-expr"]),
    "group_by(rows, lambda r: r.team)": ("no value", ["bad-expr"]),
}  # fmt: skip


@pytest.mark.parametrize("text", FOUND)
def test_type(text: str) -> None:
    """The check knows the type, and what is wrong."""
    formula, faults = parse_formula(f"${{{text}}}")
    inferred = infer(formula, TYPES)
    found = type_text(widened(inferred.type)), [each.code for each in (*faults, *inferred.problems)]
    assert found == FOUND[text]


def test_a_wrong_name_in_a_path_has_the_nearest_as_its_hint() -> None:
    """`get` is for what may be missing; what the type cannot have is a slip."""
    (problem,) = infer(parse_formula('${get(row, "tema", 0)}')[0], TYPES).problems
    assert (problem.hint, "'tema'" in problem.message) == ("did you mean 'team'?", True)


def test_hints_lead_from_other_languages() -> None:
    """Methods and names of Python and JavaScript are told in the words of this language."""
    hints = {
        "row.get('n', 0)": 'write: get(x, "field", default)',
        "groupby(rows)": "write: group_by(xs, key=lambda x: x.field)",
        "Counter(ts)": "write: count_by(xs, key=lambda x: x.field)",
    }
    assert {text: parse_formula(f"${{{text}}}")[1][0].hint for text in hints} == hints


def test_a_run_of_version_1_has_no_key_of_several_values() -> None:
    """New forms are refused where the language is older, as new functions are."""
    plan = Plan.model_validate(
        {"firmplan": 1, "steps": [{"id": "a", "set": "${sorted([[1]], key=lambda x: (x[0], 2))}"}, {"id": "b", "set": "${count_by(a)}"}]}
    )  # fmt: skip
    assert compile_plan(plan, [], language=2)
    with pytest.raises(PlanRejected) as caught:
        compile_plan(plan, [], language=1)
    found = [(each.path, each.message) for each in caught.value.report.problems]
    assert found == [
        ("$.steps[0].set", "there is no form 'key=lambda x: [..]'"),
        ("$.steps[1].set", "there is no function 'count_by'"),
    ]


def test_the_parts_of_a_path_have_a_limit() -> None:
    """As many parts as the limit are followed, and one more is a fault, written as text and as a list."""
    deep: Any = 7
    for _ in range(PATH_PARTS_MAX):
        deep = {"a": deep}
    dots = ".".join(["a"] * PATH_PARTS_MAX)
    run = compile_node(parse("get(deep, path)"))
    assert run({"deep": deep, "path": dots}) == run({"deep": deep, "path": dots.split(".")}) == 7  # type: ignore[dict-item]
    for path in (f"{dots}.a", [*dots.split("."), "a"]):
        with pytest.raises(EvaluationError, match=f"1 to {PATH_PARTS_MAX} parts"):
            run({"deep": deep, "path": path})  # type: ignore[dict-item]


@examples(100)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), max_size=12), st.booleans())
def test_python_agrees(pairs: list[tuple[str, int]], reverse: bool) -> None:  # Hypothesis gives it
    """Python's own tuples, `setdefault` and `Counter` are the oracle."""
    scope: dict[str, Any] = {"xs": [list(pair) for pair in pairs], "r": reverse}

    def value(text: str) -> Any:
        return compile_node(parse(text))(scope)

    expected = sorted(scope["xs"], key=lambda x: (-x[1], x[0]), reverse=reverse)
    assert value("sorted(xs, key=lambda x: (-x[1], x[0]), reverse=r)") == expected
    groups: dict[str, list[Any]] = {}
    for pair in scope["xs"]:
        groups.setdefault(pair[0], []).append(pair)
    assert value("group_by(xs, key=lambda x: x[0])") == groups
    assert value("count_by(xs, key=lambda x: x[0])") == {key: len(group) for key, group in groups.items()}
    assert value("unique_by(xs, key=lambda x: x[0])") == [group[0] for group in groups.values()]
    if pairs:
        assert value("min(xs, key=lambda x: (x[1], x[0]))") == min(scope["xs"], key=lambda x: (x[1], x[0]))
