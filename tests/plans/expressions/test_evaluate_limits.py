"""An expression ends within a bounded time and in bounded memory: what everything in it costs, and where it stops."""

from __future__ import annotations

from typing import Any

import pytest
from firmplan.plans.expressions import operators as frame
from firmplan.plans.expressions.evaluate import evaluate_closed
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.operators import (
    CHARACTERS_A_UNIT,
    CHARACTERS_MAX,
    ITEMS_MAX,
    WORK_MAX,
    Frame,
    checked,
    weigh,
)
from firmplan.plans.expressions.syntax import parse
from firmplan.plans.reports.errors import EvaluationError

TEN: list[Any] = list(range(10))
SCOPE: dict[str, Any] = {
    "xs": TEN,
    "ys": list(TEN),
    "many": list(range(300)),
    "rows": [[n, n] for n in TEN],
    "ws": [f"w{n}" for n in TEN],
    "d": {f"k{n}": n for n in TEN},
    "e": {f"k{n}": n for n in TEN},
    "t": "abcd" * 40,
    "u": "äbcd" * 40,
    "lines": "a\n" * 40,
    "n": 10,
    "nested": {"a": [1, 2, 3], "b": {"c": [4, 5]}},
}

WORK: dict[str, int] = {
    "[x for x in xs]": 30,
    "[x + 1 for x in xs]": 50,
    "[x for x in xs if x > 100]": 40,
    "[x for x in xs if x > 4]": 50,
    "[x for x in xs for y in ys]": 310,
    "[x for x in xs for y in ys if x == y]": 430,
    "{w: 1 for w in ws}": 40,
    '{w: w for w in ws if w != "w1"}': 67,
    "[a + b for a, b in rows]": 50,
    "sum(x for x in xs)": 40,
    "sum(xs)": 10,
    "avg(xs)": 10,
    "min(xs)": 10,
    "max(xs)": 10,
    "min(xs, key=lambda x: -x)": 40,
    "max(xs, key=lambda x: 0 - x)": 50,
    "sorted(xs)": 10,
    "sorted(xs, key=lambda x: -x)": 40,
    "sorted(xs, reverse=True)": 10,
    "sorted(many)": 600,
    "reversed(xs)": 10,
    "range(n)": 10,
    "range(0, n, 2)": 5,
    "any([x > 100 for x in xs])": 60,
    "any(xs)": 10,
    "all(xs)": 10,
    "zip(xs, ys)": 30,
    "zip(xs, ys, ws)": 40,
    "enumerate(xs)": 30,
    "str(xs)": 12,
    "str(nested)": 10,
    "str(n)": 0,
    "str(t)": 0,
    "keys(d)": 10,
    "values(d)": 20,
    "items(d)": 30,
    "flatten(rows)": 30,
    "distinct(xs)": 10,
    "distinct(rows)": 30,
    "distinct([d, e])": 52,
    "group_by(xs)": 20,
    "group_by(ws, key=lambda w: w)": 40,
    "count_by(xs)": 20,
    "unique_by(xs)": 10,
    "unique_by(rows, key=lambda r: r)": 50,
    "sorted(rows, key=lambda r: [r[0], 1])": 90,
    "min(rows, key=lambda r: (r[0], r[1]))": 110,
    'get(nested, "b.c[1]")': 3,
    "join(ws)": 11,
    "join(ws[:0], t)": 0,
    'join(ws, "________________")': 20,
    "t + t": 20,
    "xs + ys": 20,
    "t * n": 100,
    "xs * n": 100,
    "n * xs": 100,
    "t * (0 - n)": 0,
    "xs * (0 - n)": 0,
    "xs == ys": 10,
    "rows == rows": 30,
    "d == e": 10,
    "3 in xs": 10,
    "[3, 3] in rows": 18,
    '"zz" in t': 10,
    '"k3" in d': 0,
    "t[1:3]": 10,
    "xs[1:5]": 4,
    "xs[::2]": 5,
    "t.lower()": 20,
    "u.lower()": 40,
    "u.upper()": 40,
    "t.strip()": 10,
    't.split("b")': 51,
    "lines.splitlines()": 45,
    't.replace("a", "________________")': 57,
    't.replace("a", "________________", 2)': 21,
    't.startswith("a")': 10,
    't.endswith("a")': 10,
    't.count("b")': 10,
    't.find("d")': 10,
    '"________________".join(ws)': 20,
    "n + 1": 0,
    "xs[3]": 0,
    "len(xs)": 0,
    "xs if n > 3 else ys": 0,
}
"""Expression -> the values and characters (sixteen count as one) that it visits or makes, with ten items in each list.

The numbers are what is paid, not a law of nature: whoever changes a weight changes its row. That a row falls to less
than the items it visits would let a plan compute without end.
"""


def work_of(text: str, scope: dict[str, Any]) -> int:
    """Return what an evaluation has paid."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    whole = formula.leaves[0].whole
    assert whole is not None
    assert whole.parsed.node is not None
    budget = Frame(scope)
    evaluate_closed(whole.parsed.node, budget)
    return WORK_MAX - budget.work


@pytest.mark.parametrize("text", WORK)
def test_what_is_visited_or_made_is_paid_for(text: str) -> None:
    """Comprehensions by round and clause, conditions and keys included; functions, methods and operators by items and characters."""
    assert work_of(text, SCOPE) == WORK[text]


def code_of(text: str, **scope: Any) -> str:
    """Return the code of the fault that an evaluation ends with."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    with pytest.raises(EvaluationError) as caught:
        formula.evaluate(scope)
    return caught.value.code


def test_work_ends_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as the bound is done, and one more is not; every evaluation begins anew."""
    monkeypatch.setattr(frame, "WORK_MAX", 30)
    formula = parse_formula("${[x for x in xs]}")[0]
    for _ in range(3):
        assert formula.evaluate({"xs": TEN}) == TEN
    monkeypatch.setattr(frame, "WORK_MAX", 29)
    with pytest.raises(
        EvaluationError, match="takes more than 29 operations; divide it among steps"
    ) as caught:
        formula.evaluate({"xs": TEN})
    assert caught.value.code == "limit-exceeded"


def test_constant_parts_share_one_budget() -> None:
    """What one part of an expression has paid is not there for the next: a plan of constants is bounded as well."""
    parts = [parse(text) for text in ("[x for x in [1, 2, 3]]", "[x for x in [1, 2]]")]
    budget = Frame({})
    budget.work = 15
    for node, left in zip(parts, (6, 0), strict=True):
        evaluate_closed(node, budget)
        assert budget.work == left
    with pytest.raises(EvaluationError, match="divide it among steps"):
        evaluate_closed(parts[1], budget)
    faults = parse_formula("${len([x for x in range(900000)]) + len([x for x in range(900000)])}")[1]
    assert [fault.code for fault in faults] == ["limit-exceeded"]


def test_a_frame_has_no_more_than_its_work() -> None:
    """The bound itself, to the unit."""
    budget = Frame({})
    budget.pay(WORK_MAX)
    with pytest.raises(EvaluationError, match=f"more than {WORK_MAX} operations"):
        budget.pay(1)


def test_a_list_has_no_more_items_than_its_bound() -> None:
    """Refused before it is made, and its items are work."""
    budget = Frame({})
    budget.pay_items(ITEMS_MAX)
    assert budget.work == WORK_MAX - ITEMS_MAX
    with pytest.raises(
        EvaluationError, match=f"a list of {ITEMS_MAX + 1} items; .* at most {ITEMS_MAX}"
    ) as caught:
        Frame({}).pay_items(ITEMS_MAX + 1)
    assert caught.value.code == "limit-exceeded"
    assert len(parse_formula("${range(n)}")[0].evaluate({"n": ITEMS_MAX})) == ITEMS_MAX  # type: ignore[arg-type]
    assert code_of("range(n)", n=ITEMS_MAX + 1) == "limit-exceeded"


def test_a_text_has_no_more_characters_than_its_bound() -> None:
    """Refused before it is made, and its characters are work."""
    budget = Frame({})
    budget.pay_text(CHARACTERS_MAX)
    assert budget.work == WORK_MAX - CHARACTERS_MAX // CHARACTERS_A_UNIT
    with pytest.raises(
        EvaluationError, match=f"a text of {CHARACTERS_MAX + 1} characters; .* at most {CHARACTERS_MAX}"
    ):
        Frame({}).pay_text(CHARACTERS_MAX + 1)
    assert code_of("t * n", t="abcd", n=CHARACTERS_MAX // 4 + 1) == "limit-exceeded"


def test_a_result_unfolds_to_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are shared in memory count as often as they stand in the value; texts by their length."""
    monkeypatch.setattr(frame, "WORK_MAX", 100)
    assert checked([0] * 99) == [0] * 99
    assert checked({str(n): 0 for n in range(99)}) == {str(n): 0 for n in range(99)}
    assert checked("x" * 10_000) == "x" * 10_000
    row = [0] * 9
    assert checked([row] * 9) == [row] * 9
    for large in ([0] * 100, {str(n): 0 for n in range(100)}, [row] * 10, ["x" * 160] * 10):
        with pytest.raises(
            EvaluationError, match="a value of more than 100 parts; divide it among steps"
        ) as caught:
            checked(large)  # type: ignore[arg-type]
        assert caught.value.code == "limit-exceeded"


def test_the_weight_of_a_value() -> None:
    """One for each part and for each sixteen characters; the count stops soon after the room is used up."""
    assert weigh(None, 10) == weigh(5, 10) == weigh("x" * 15, 10) == 1
    assert weigh("x" * 160, 10) == 11
    assert weigh([1, [2, "x" * 16]], 10) == 1 + 1 + (1 + 1 + 2)
    assert weigh({"a": {"b": 1}}, 10) == 3
    deep: Any = 0
    for _ in range(40):
        deep = [deep, deep]  # 2 ** 40 parts, if anybody counted them
    assert weigh(deep, 100) == 104
    assert weigh([[[0] * 5] * 5] * 5, 20) == 22


@pytest.mark.parametrize(
    ("text", "scope", "code"),
    [
        ("n ** 4000000000", {"n": 7}, "overflow"),
        ("n ** 65", {"n": -2}, "overflow"),
        ("range(low, high)", {"low": -(2**63), "high": 2**63 - 1}, "limit-exceeded"),
        ("int(t)", {"t": "1" * 401}, "bad-value"),
        ("int(t)", {"t": "1" * 400}, "overflow"),
        ("xs * n", {"xs": [1], "n": 2**62}, "limit-exceeded"),
        ("t * n", {"t": "a", "n": 2**62}, "limit-exceeded"),
        ("t.replace('a', t)", {"t": "a" * 5_000}, "limit-exceeded"),
        ("join(ws, t)", {"ws": ["a"] * 5_000, "t": "a" * 5_000}, "limit-exceeded"),
    ],
)
def test_what_would_take_without_end_is_not_begun(text: str, scope: dict[str, Any], code: str) -> None:
    """The size of what comes out is known before it is made."""
    assert code_of(text, **scope) == code


def test_what_nests_deeper_than_the_stack_is_a_fault() -> None:
    """Values of steps never do; whoever evaluates others gets a fault, and not Python's error."""
    one: Any = 1
    other: Any = 1
    for _ in range(100_000):
        one, other = [one], [other]
    assert code_of("one == other", one=one, other=other) == "limit-exceeded"
    assert code_of("[one]", one=one) == "limit-exceeded"
    with pytest.raises(EvaluationError, match="nested too deep"):
        evaluate_closed(parse("one == other"), Frame({"one": one, "other": other}))
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert code_of("str(deep)", deep=deep) == "limit-exceeded"


def test_numbers_at_the_edge_are_worked_out() -> None:
    """What the bounds leave is exact; a number of digits past all floats is no work."""
    assert parse_formula("${n ** 63}")[0].evaluate({"n": -2}) == -(2**63)
    assert parse_formula("${n ** 62}")[0].evaluate({"n": 2}) == 2**62
    assert parse_formula("${n ** 100}")[0].evaluate({"n": 1}) == 1
    assert parse_formula("${n ** 100}")[0].evaluate({"n": -1}) == 1
    assert parse_formula("${n ** 100}")[0].evaluate({"n": 0}) == 0
    assert parse_formula("${round(n, -4000000000)}")[0].evaluate({"n": 7}) == 0.0
    assert parse_formula("${round(x, 4000000000)}")[0].evaluate({"x": 2.5}) == 2.5
