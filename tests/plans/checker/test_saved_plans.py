"""What a check says of the saved plans that a plan leads to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from firmplan import Plan, check

RUNS = {"firmplan": 1, "steps": [{"id": "a", "plan": "sub"}], "output": "${a}"}
SUB = {"firmplan": 1, "steps": [{"id": "s", "set": 1}], "output": "${s}"}


def told(plan: Any, plans: dict[str, Any], tools: Sequence[Any] = ()) -> list[tuple[str, str, str]]:
    """Return code, path and message of each error."""
    return [(one.code, one.path, one.message) for one in check(plan, tools, plans=plans).errors]


def runs(name: str) -> dict[str, Any]:
    return {"firmplan": 1, "steps": [{"id": "s", "plan": name}], "output": "${s}"}


@pytest.mark.parametrize("saved", [SUB, Plan.model_validate(SUB)])
def test_a_saved_plan_is_given_as_a_plan_or_as_a_dict(saved: Any) -> None:
    """By its name, or by its digest under whatever name."""
    assert told(RUNS, {"sub": saved}) == []
    by_digest = {**RUNS, "steps": [{"id": "a", "plan": Plan.model_validate(SUB).digest}]}
    assert told(by_digest, {"other": Plan.model_validate(SUB)}) == []


@pytest.mark.parametrize(
    ("saved", "code", "message"),
    [
        ({"steps": 5}, "bad-shape", "in a saved plan, at $.steps: expected a list of steps at $.steps, found the integer 5"),
        ({**SUB, "stpes": []}, "bad-shape", "in a saved plan, at $.stpes: unknown key 'stpes'"),
        ({**SUB, "steps": [{"id": "s", "sett": 1}]}, "bad-shape", "in a saved plan, at $.steps[0]"),
        ({**SUB, "output": "${z}"}, "unknown-ref", "in a saved plan, at $.output: 'z' is neither"),
    ],
)  # fmt: skip
def test_a_faulty_saved_plan_is_a_fault_of_the_step_that_runs_it(saved: Any, code: str, message: str) -> None:
    """Of its shape as well as of what it says."""
    assert (code, "$.steps[0].plan", True) in [
        (found, path, said.startswith(message)) for found, path, said in told(RUNS, {"sub": saved})
    ]


def test_saved_plans_that_run_themselves_are_named() -> None:
    """The circle is told by the names under which the plans were saved."""
    [(code, path, message)] = told(runs("x"), {"x": runs("y"), "y": runs("x")})
    assert (code, path) == ("recursive-plan", "$.steps[0].plan")
    assert message.endswith("a plan runs itself: x -> y -> x")
    [(_, _, message)] = told({**runs("in"), "plans": {"in": {"steps": [{"id": "s", "plan": "in"}]}}}, {})
    assert message == "a plan runs itself: in -> in"


def test_the_nearest_saved_plan_is_named() -> None:
    """Also if the plan has none of its own."""
    [problem] = check(RUNS, [], plans={"subs": SUB}).errors
    assert (problem.code, problem.hint) == ("unknown-plan", "did you mean 'subs'?")


def test_saved_plans_are_looked_up_by_a_function() -> None:
    """A function of the name gives the plan, or nothing."""
    assert check(RUNS, [], plans={"sub": Plan.model_validate(SUB)}.get).ok
    assert [one.code for one in check(RUNS, [], plans=lambda name: None).errors] == [
        "unknown-plan"
    ]  # whatever the name
