"""Slips that people and models make in expressions: each is told with what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from firmplan import check

WEATHER = {"id": "w", "tool": "weather", "args": {"city": "Rome"}}
TEXTS = {"type": "array", "items": {"type": "string"}}
INPUTS = {"n": {"type": "integer"}, "t": {"type": "string"}, "xs": TEXTS}


@pytest.mark.parametrize(
    ("expression", "code", "hint"),
    [
        ("{w.celsius}", "bad-expr", "one pair of braces is enough: ${w.celsius}"),
        ("[{w.celsius}]", "bad-expr", "write a list: [a, b]; distinct(..) drops what is twice"),
        ("weather.celsius", "unknown-ref", "it is a tool; refer to the step that calls it, write: w"),
        ("w[celsius]", "unknown-ref", "write: w.celsius"),
        ("W.celsius", "unknown-ref", "did you mean 'w'?"),
        ("TRUE", "unknown-ref", "write: True"),
        ("NULL", "unknown-ref", "write: None"),
        ("inputs.t.length", "unknown-field", "write: len(inputs.t)"),
        ("inputs.xs.len", "unknown-field", "write: len(inputs.xs)"),
        ("w.size", "unknown-field", "write: len(w)"),
        ("inputs.xs.size()", "bad-expr", "write: len(x)"),
        ("inputs.t.trim()", "bad-expr", "write: x.strip()"),
        ("inputs.xs.count('a')", "bad-expr", "write: len([x for x in inputs.xs if x == 'a'])"),
        ("contains(inputs.t, 'a')", "bad-expr", "write: x in xs"),
        ("w?.celsius", "bad-expr", "write: first(x.field, otherwise)"),
        ("inputs.n ?? 1", "bad-expr", "write: first(a, b)"),
        ("inputs.n > 1 ? 2 : 3", "bad-expr", "write: a if condition else b"),
        ("inputs.t | upper", "bad-expr", "there are no filters: call a function, as in len(x), or a method of text, as in x.upper()"),
        ("inputs.n || 1", "bad-expr", "write: a or b"),
        ("inputs.n > 1 AND inputs.n < 3", "bad-expr", "write: and"),
        ("inputs.n ≤ 3", "bad-expr", "write: a <= b"),
        ("inputs.n \u2212 3", "bad-expr", "write: a - b"),
        ("“a”", "bad-expr", 'write: "text"'),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_its_cure(expression: str, code: str, hint: str, tools: Sequence[Any]) -> None:
    """The hint says what to write, for the place where the slip stands."""
    steps = [WEATHER, {"id": "a", "set": f"${{{expression}}}"}]
    report = check({"firmplan": 1, "inputs": INPUTS, "steps": steps, "output": "${a}"}, tools)
    assert [(problem.code, problem.hint) for problem in report.errors] == [(code, hint)]


def test_a_tool_is_told_apart_from_a_step_in_every_template(tools: Sequence[Any]) -> None:
    """Also in arguments, and in inner plans, the step that calls the tool is named."""
    inner = {"steps": [{**WEATHER, "id": "inside"}], "output": "${weather.text}"}
    steps = [
        WEATHER,
        {"id": "c", "tool": "cities", "args": {"country": "${weather.text}"}},
        {"id": "p", "plan": "in"},
    ]
    plan = {"firmplan": 1, "steps": steps, "plans": {"in": inner}, "output": "${[w, c, p]}"}
    said = "it is a tool; refer to the step that calls it, write: "
    assert {problem.path: problem.hint for problem in check(plan, tools).errors} == {
        "$.steps[1].args.country": f"{said}w",
        "$.plans.in.output": f"{said}inside",
    }
