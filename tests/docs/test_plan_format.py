"""PLAN_FORMAT.md tells the truth: its plans are checked, its tables compared, its code run."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import firmplan
import pytest
import yaml
from firmplan import Plan, check
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
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PLANS = [(info.partition(" ")[2], text) for info, text in BLOCKS if info.startswith("yaml")]


def table(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with a cell."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found is not None, first
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in found[1].splitlines()]


def code(cell: str) -> str:
    assert cell.startswith("`"), cell
    return cell.strip("`")


def run_blocks() -> tuple[list[str], dict]:
    namespace: dict = {"__name__": "plan_format"}
    said = []
    for info, text in BLOCKS:
        if info == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, "PLAN_FORMAT.md", "exec"), namespace)
            said.append(out.getvalue())
    return said, namespace


SAID, NAMESPACE = run_blocks()


def test_python_blocks_print_what_the_page_says():
    """Each Python block that prints is followed by exactly what it prints."""
    assert [text for text in SAID if text] == [text for info, text in BLOCKS if info == "text"]


def test_every_block_is_of_a_kind_that_is_tested():
    assert {info.partition(" ")[0] for info, _ in BLOCKS} == {"python", "text", "yaml"}


@pytest.mark.parametrize(("fault", "text"), PLANS)
def test_every_plan_is_checked(fault, text):
    """A plan on the page is without faults and warnings of use, or has exactly the fault that its block names."""
    raw = {"firmplan": 1, **yaml.safe_load(text)}
    report = check(raw, NAMESPACE["TOOLS"])
    assert [problem.code for problem in report.errors] == ([fault] if fault else []), str(report)
    unused = [
        problem
        for problem in report.problems
        if problem.code in ("unused-step", "unused-input", "suspicious-text")
    ]
    assert fault or not unused, str(report)
    assert Plan.model_validate(raw).to_dict() == raw


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
