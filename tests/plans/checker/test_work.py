"""The work of a whole check is bounded, and the bound is a property of the plan: not of what a process remembers, nor of who asks first."""

from __future__ import annotations

import pytest
from firmplan.plans import Limits, Plan, check
from firmplan.plans.expressions.template import read_expression
from firmplan.plans.types.error_count import ERRORS_MAX

THOUSAND = "${len('a' * 16000)}"  # 16 characters of a text are one operation


def plan(*values, **keys):
    steps = [{"id": f"s{number}", "set": value} for number, value in enumerate(values)]
    return {
        "firmplan": 1,
        "steps": steps,
        "output": [f"${{s{number}}}" for number in range(len(steps))],
        **keys,
    }


def places(given, work_max, **options):
    report = check(given, limits=Limits(work_max=work_max), **options)
    return [(found.code, found.path) for found in report.errors]


@pytest.mark.parametrize("long", [False, True], ids=["remembered", "not remembered"])
def test_a_known_value_costs_what_it_cost_the_first_time(long):
    """Short expressions are read once for a process, long ones each time; a plan as an object keeps what was read of it."""
    value = THOUSAND if not long else "${len('a' * 16000) + " + " + ".join(["0"] * 80) + "}"
    given = Plan.model_validate(plan(value, value))
    assert given.digest
    for _ in range(2):
        assert places(given, 2000) == []
        assert places(given, 1999) == [("limit-exceeded", "$.steps[1].set")]
        assert places(given.to_dict(), 1999) == [("limit-exceeded", "$.steps[1].set")]


def test_a_check_that_was_cut_short_leaves_nothing_behind():
    """The expression is worked out in full for the next check, which allows it."""
    given = Plan.model_validate(plan("${len(range(777777))}"))
    assert places(given, 10) == [("limit-exceeded", "$.steps[0].set")]
    assert check(given).ok
    assert check(given).inferred["s0"]


def test_saved_plans_and_inner_plans_count():
    """Whatever the plan runs is a part of its check; the problem of a saved plan stands where it is named."""
    saved = Plan.model_validate(plan(THOUSAND))
    runs_saved = {"firmplan": 1, "steps": [{"id": "a", "plan": "kept"}], "output": "${a}"}
    assert places(runs_saved, 1000, plans={"kept": saved}) == []
    assert places(runs_saved, 999, plans={"kept": saved}) == [("limit-exceeded", "$.steps[0].plan")]
    inner = {**runs_saved, "plans": {"kept": {"steps": [{"id": "x", "set": THOUSAND}], "output": "${x}"}}}
    assert places(inner, 999) == [("limit-exceeded", "$.plans.kept.steps[0].set")]


def test_every_place_of_an_expression_counts():
    """Conditions, lists, prompts and outputs are as dear as values."""
    for keys in ({"when": "${len('a' * 16000) > 1}"}, {"for_each": "${[len('a' * 16000)]}"}):
        given = plan(1)
        given["steps"][0] |= keys
        assert places(given, 1002) == []  # a list of one is two values to look at
        assert places(given, 999)[0][0] == "limit-exceeded"
    assert places({**plan(1), "output": {"a": "${s0}", "b": THOUSAND}}, 999) == [
        ("limit-exceeded", "$.output.b")
    ]


def test_reading_an_expression_works_out_nothing():
    """So whoever counts the work comes before whoever spends it."""
    read = read_expression("len([str(x) for x in range(700000)]) + len(range(2))")
    assert read.folding(1_000).work > 1_000
    assert read.folding().work > 1_000_000
    assert read.folding(1_000) is read.folding()


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_alternatives_that_multiply_are_not_listed(word):
    """Each level of the value doubles the errors; beyond a bound the fault is told as one."""
    lists = {"type": "array", "items": {"$ref": "#/types/A"}}
    types = {"A": {word: [lists, {**lists, "maxItems": 9}]}}

    def fault(depth):
        value = 1
        for _ in range(depth):
            value = [value]
        (found,) = check(plan(1, types=types, inputs={"q": {"$ref": "#/types/A", "default": value}})).errors
        return found

    assert "fits none of the alternatives" not in fault(3).message
    assert fault(60).code == "bad-input"
    assert "fits none of the alternatives" in fault(60).message


def test_a_long_list_of_faults_is_still_told_in_detail():
    """Many wrong items are no alternatives that multiply."""
    numbers = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    values = ["x"] * (2 * ERRORS_MAX)
    report = check(plan(1, inputs={"q": {**numbers, "default": values}}))
    assert {found.path for found in report.errors} >= {"$.inputs.q.default[0]", "$.inputs.q.default[1]"}
