"""Plans and texts made to hurt: there is always a report, and the work grows like the plan, not faster.

Work is counted, not timed: calls of functions, which every loop of the check makes for each thing it looks at.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import pytest
from firmplan import Plan, PlanRejected, check
from firmplan.plans.limits import LIMITS, Limits
from firmplan.testing import run_plan

SMALL, TIMES = 120, 4
GROWTH_MAX = 1.6 * TIMES


def calls_of(work):
    """Return how many calls of functions, Python's and C's, some work makes."""
    count = 0

    def counted(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def plan(*steps, **keys):
    return {"firmplan": 1, "steps": list(steps), **keys}


def step(value, name="s", **keys):
    return {"id": name, "set": value, **keys}


def numbered(count, **keys):
    return {f"k{number}": value for number in range(count) for value in keys.values()}


def each(count, make):
    return plan(*[make(number) for number in range(count)])


TEXT = {"type": "string"}
SHAPES = {
    "a chain": lambda n: each(n, lambda i: step(f"${{s{i - 1} + 1}}" if i else 1, f"s{i}")),
    "a circle": lambda n: each(n, lambda i: step(f"${{s{(i + 1) % n}}}", f"s{i}")),
    "many circles": lambda n: each(n, lambda i: step(f"${{s{i ^ 1}}}", f"s{i}")),
    "one that all need": lambda n: each(n, lambda i: step("${s0}" if i else 1, f"s{i}")),
    "one that needs all": lambda n: plan(*each(n, lambda i: step(i, f"s{i}"))["steps"], step([f"${{s{i}}}" for i in range(n)], "all")),
    "plain text": lambda n: plan(step("x" * n * 50)),
    "dollars": lambda n: plan(step("$" * n)),
    "open holes": lambda n: plan(step("${" * n)),
    "holes with spaces": lambda n: plan(step("${ a a a" * n)),
    "quotes that open": lambda n: plan(step("${'" * n)),
    "braces": lambda n: plan(step("{{a" * n + "{{" * n)),
    "dots": lambda n: plan(step("$a" + ".a" * n)),
    "references in one text": lambda n: plan(step(1, "a"), step("${a}" * n)),
    "faulty references in one text": lambda n: plan(step("${b}" * n)),
    "faulty fields": lambda n: plan(step({"x": 1}, "a"), step([f"${{a.y{i}}}" for i in range(n)])),
    "no expressions": lambda n: plan(step(["${1+}"] * n)),
    "unknown tools": lambda n: each(n, lambda i: {"id": f"s{i}", "tool": f"t{i}"}),
    "unknown keys": lambda n: each(n, lambda i: step(1, f"s{i}", **{f"k{i}": 2})),
    "keys in one step": lambda n: plan({**step(1), **numbered(n, v=2)}),
    "no actions": lambda n: each(n, lambda i: {"id": f"s{i}"}),
    "texts as steps": lambda n: plan(*["x"] * n),
    "one id": lambda n: plan(*[step(1)] * n),
    "bad ids": lambda n: each(n, lambda i: step(1, f"S{i}")),
    "after what is not there": lambda n: plan(step(1, after=[f"t{i}" for i in range(n)])),
    "a wide object": lambda n: plan(step(numbered(n, v=1), "a"), step("${a}", "b"), step("${b.k1}", "c")),
    "lists in lists": lambda n: each(n, lambda i: step(f"${{[s{i - 1}, s{i - 1}]}}" if i else 1, f"s{i}")),
    "alternatives": lambda n: each(n, lambda i: step(f"${{s{i - 1} if inputs.b else [s{i - 1}]}}" if i else 1, f"s{i}")) | {"inputs": {"b": {"type": "boolean"}}},
    "an enum": lambda n: plan(step("${inputs.a}"), inputs={"a": {"enum": [f"v{i}" for i in range(n)], "default": "v1"}}),
    "inputs": lambda n: plan(step(1), inputs=numbered(n, v=TEXT)),
    "all of": lambda n: plan(step("${inputs.a}"), inputs={"a": {"allOf": [{"properties": {f"p{i}": TEXT}, "additionalProperties": True} for i in range(n)]}}),
    "definitions in a circle": lambda n: plan(step("${inputs.a}"), inputs={"a": {"$ref": "#/$defs/k0", "$defs": {f"k{i}": {"type": "array", "items": {"$ref": f"#/$defs/k{(i + 1) % n}"}} for i in range(n)}}}),
    "numbers that are none": lambda n: plan(step([float("nan")] * n)),
    "surrogates": lambda n: plan(step(["\ud800"] * n)),
    "huge integers": lambda n: plan(step([2**64] * n)),
    "objects of Python": lambda n: plan(step([object()] * n)),
    "deep in Python": lambda n: plan(step(nested(n))),
    "deep JSON": lambda n: '{"firmplan":1,"steps":[{"id":"a","set":' + "[" * n + "]" * n + "}]}",
    "open JSON": lambda n: '{"firmplan":1,"steps":' + "[" * n,
    "digits": lambda n: '{"firmplan":1,"steps":[{"id":"a","set":' + "9" * n + "}]}",
    "an exponent": lambda n: '{"firmplan":1,"steps":[{"id":"a","set":1e' + "4" * n + "}]}",
    "keys twice": lambda n: '{"firmplan":1,' + '"a":1,' * n + '"steps":[]}',
    "deep YAML": lambda n: "steps: " + "[" * n,
    "deep YAML blocks": lambda n: "".join(" " * i + "a:\n" for i in range(n)),
    "YAML aliases": lambda n: "firmplan: 1\nsteps: []\nx: &a [1]\ny: [" + "*a," * n + "]",
    "a YAML bomb": lambda n: "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, n)),
    "YAML documents": lambda n: "--- a\n" * n,
    "YAML dashes": lambda n: "- " * n,
    "lines to find": lambda n: json.dumps(each(n, lambda i: {"id": f"s{i}", "tool": f"t{i}"}), indent=1),
}  # fmt: skip


BOUNDED = {
    "inputs of inner plans": lambda n: each(n // 10, lambda i: {"id": f"s{i}", "plan": "p"}) | {"plans": {"p": {"inputs": numbered(n // 10, v=TEXT), "steps": []}}},
    "plans in plans": lambda n: plan({"id": "a", "plan": "p0"}, plans={f"p{i}": {"steps": [{"id": "a", "plan": f"p{i + 1}"}, {"id": "b", "plan": f"p{i + 1}"}]} for i in range(n // 10)}),
}  # fmt: skip


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_like_the_plan(shape, tools):
    """Four times the plan makes four times the calls, give or take; and the report can be told."""
    check(SHAPES[shape](50), tools)  # what is loaded and remembered once is not counted
    small, large = (calls_of(partial(check, SHAPES[shape](count), tools)) for count in (SMALL, SMALL * TIMES))
    assert large <= GROWTH_MAX * small + 2_000, f"{small} calls, then {large}"
    report = check(SHAPES[shape](SMALL), tools)
    assert str(report)
    assert json.dumps([problem.to_dict() for problem in report.problems])


@pytest.mark.parametrize("shape", BOUNDED)
def test_what_multiplies_is_bounded(shape):
    """Where parts of a plan multiply with one another, the work stays under a bound."""
    assert calls_of(partial(check, BOUNDED[shape](5_000))) < 2_000_000


def test_named_types_that_rest_on_one_another_are_bounded():
    """Each of many types rests on all that follow: past a bound of work they are refused."""
    types = {f"T{number}": {"$ref": f"#/types/T{number + 1}"} for number in range(400)}
    report = check(plan(step(1), types=types), limits=Limits(named_parts_max=5_000))
    assert "limit-exceeded" in {problem.code for problem in report.errors}
    assert "Limits.named_parts_max" in report.errors[0].hint


def test_keys_do_not_multiply_with_the_strings_below_them():
    """A long key would stand in the path of every fault below it."""
    report = check(plan(step({"k" * 10_000: [["${nosuch}"] * 1_000]})))
    assert [problem.code for problem in report.errors] == ["limit-exceeded"]


@pytest.mark.parametrize("name", ["i" * 5_000, "I" * 5_000])
def test_names_do_not_multiply_with_the_faults_that_list_them(name):
    """A message shows the beginning of a very long name."""
    inner = {"p": {"inputs": {name: TEXT}, "steps": [step(1)], "output": "${s}"}}
    made = each(20, lambda i: {"id": f"s{i}", "plan": "p", "args": {"z": 1}}) | {"plans": inner}
    report = check(made)
    assert all(len(problem.message) < 1_000 for problem in report.problems if problem.code == "unknown-arg")


def test_missing_arguments_of_one_step_are_told_together_past_a_number():
    inner = {"p": {"inputs": numbered(1_000, v=TEXT), "steps": []}}
    report = check(plan({"id": "a", "plan": "p"}, plans=inner))
    (found,) = [problem for problem in report.errors if problem.code == "missing-arg"]
    assert found.path == "$.steps[0].args"
    assert "1000 arguments" in found.message


TOO_MUCH = {
    "text_bytes_max": ('{"firmplan": 1, "steps": []}', Limits(text_bytes_max=10)),
    "steps_max": (plan(step(1, "a"), step(2, "b")), Limits(steps_max=1)),
    "nesting_max": (
        plan(
            {"id": "a", "plan": "p"},
            plans={"p": {"steps": [{"id": "a", "plan": "q"}]}, "q": {"steps": [step(1)]}},
        ),
        Limits(nesting_max=1),
    ),
    "named_parts_max": (
        plan(step(1), types={"T": {"$ref": "#/types/U"}, "U": {"type": "object", "properties": {"a": TEXT}}}),
        Limits(named_parts_max=1),
    ),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_limit_says_what_it_is_and_how_to_raise_it(what):
    given, limits = TOO_MUCH[what]
    assert "limit-exceeded" not in {problem.code for problem in check(given).problems}
    (found, *_) = [
        problem for problem in check(given, limits=limits).errors if problem.code == "limit-exceeded"
    ]
    assert f"Limits.{what}" in found.hint + found.message
    assert str(getattr(limits, what)) in found.message


def test_default_limits_admit_what_the_contract_says():
    assert LIMITS.steps_max == 200_000
    assert LIMITS.text_bytes_max == 64 * 1024 * 1024


@pytest.mark.parametrize(
    "given", [None, 3, [], "", "x", b"\xff", {"firmplan": 2, "steps": []}, object(), "\ud800"]
)
def test_running_anything_else_is_a_rejected_plan(given):
    """What is no plan is `PlanRejected` by whoever would run it, never another error."""
    assert not check(given).ok
    if isinstance(given, dict):
        with pytest.raises(PlanRejected):
            run_plan(given, [])
        with pytest.raises(ValueError, match="firmplan"):
            Plan.model_validate(given)
