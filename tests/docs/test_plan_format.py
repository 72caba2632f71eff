"""PLAN_FORMAT.md tells the truth: its tables are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import firmplan
import pytest
from firmplan.plans.edit.patch import Operation
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.functions import FUNCTIONS, METHODS
from firmplan.plans.plan import (
    Agent,
    AgentStep,
    Ask,
    AskPersonStep,
    AskStep,
    EndorseStep,
    FailStep,
    PlanForStep,
    PlanStep,
    SetStep,
    ToolStep,
    WaitStep,
)
from firmplan.plans.plan import Plan as Model
from firmplan.plans.types.assignable import assignability_problems
from firmplan.plans.types.read import read_schema

PAGE = (Path(firmplan.__file__).parent / "docs" / "PLAN_FORMAT.md").read_text(encoding="utf-8")


def table(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with a cell."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found is not None, first
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in found[1].splitlines()]


def code(cell: str) -> str:
    assert cell.startswith("`"), cell
    return cell.strip("`")


def keys(*models) -> set[str]:
    return {name for model in models for name in model.model_fields}


@pytest.mark.parametrize(
    ("head", "known"),
    [
        ("key of a plan", keys(Model)),
        (
            "key of a step",
            keys(
                ToolStep,
                AskStep,
                SetStep,
                PlanStep,
                AgentStep,
                PlanForStep,
                AskPersonStep,
                EndorseStep,
                FailStep,
                WaitStep,
            ),
        ),
        ("key of `ask`", keys(Ask)),
        ("key of `agent`", keys(Agent)),
    ],
)
def test_the_tables_of_keys_are_complete(head, known):
    rows = [code(row[0]) for row in table(head)]
    assert sorted(rows) == sorted(known)


SCOPE = {"x": 3, "name": "Ada", "list": [1, 2]}


@pytest.mark.parametrize(("text", "value"), table("text"))
def test_texts_have_the_values_that_the_page_says(text, value):
    formula, faults = parse_formula(json.loads(code(text)))
    assert not [fault for fault in faults if fault.code != "suspicious-text"]
    assert formula.evaluate(SCOPE) == json.loads(code(value))


@pytest.mark.parametrize(("expression", "value"), table("expression"))
def test_expressions_have_the_values_that_the_page_says(expression, value):
    """Kinds included: `4` is not `4.0`."""
    formula, faults = parse_formula(f"${{{code(expression)}}}")
    assert not faults
    assert json.dumps(formula.evaluate(SCOPE)) == json.dumps(json.loads(code(value)))


def test_every_function_and_method_is_on_the_page():
    named = {name for row in table("function") for name in re.findall(r"`(\w+)\(", row[0])}
    assert sorted(named) == sorted(FUNCTIONS)
    methods = re.findall(r"^On (?:text|dates): (.*)$", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"`\.(\w+)\(", "".join(methods))) == sorted(METHODS)


@pytest.mark.parametrize(("source", "target", "finding"), table("from"))
def test_types_fit_as_the_page_says(source, target, finding):
    (source_type, _), (target_type, _) = (read_schema(json.loads(code(cell))) for cell in (source, target))
    found = [fault.code for fault in assignability_problems(source_type, target_type)]
    assert found == ([] if finding == "fits" else [code(finding)])


def test_every_operation_of_patches_is_on_the_page():
    rows = [re.search(r'"op": "(\w+)"', row[0]) for row in table("operation")]
    known = [model.model_fields["op"].default for model in Operation.__args__]
    assert sorted(row[1] for row in rows if row) == sorted(known)


def test_links_within_the_page_lead_somewhere():
    heads = {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    anchors = heads | set(re.findall(r'<a id="([\w-]+)">', PAGE))
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
