"""EXPRESSIONS.md tells the truth: its tables are compared with the code, its expressions evaluated and typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import firmplan
import pytest
from firmplan.executor.limits import RUN_WORK_MAX
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.functions import FUNCTIONS, METHODS
from firmplan.plans.expressions.infer import infer
from firmplan.plans.expressions.lexical import BRACKETS_MAX, EXPRESSION_LENGTH_MAX
from firmplan.plans.expressions.operators import CHARACTERS_MAX, ITEMS_MAX, WORK_MAX
from firmplan.plans.expressions.syntax import EXPRESSION_DEPTH_MAX
from firmplan.plans.reports.errors import EvaluationError
from firmplan.plans.types.show import type_text
from firmplan.plans.types.types import (
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
from firmplan.plans.values import canonical

PAGE = (Path(firmplan.__file__).parent / "docs" / "EXPRESSIONS.md").read_text(encoding="utf-8")
WEATHER = ObjectType(
    {
        "text": Property(TEXT),
        "celsius": Property(NUMBER),
        "note": Property(union(TEXT, NULL)),
        "more": Property(TEXT, required=False),
    }
)
SCOPE: dict[str, Type] = {
    "n": INTEGER,
    "ns": ListType(INTEGER),
    "w": WEATHER,
    "ws": ListType(WEATHER),
    "anything": UNKNOWN,
    "inputs": ObjectType({}),
}
VALUES: dict[str, Any] = {
    "n": 3,
    "ns": [1, 2],
    "w": {"text": "mild", "celsius": 20.0, "note": None},
    "ws": [],
    "anything": "x",
    "inputs": {},
}


def rows(head: str) -> list[list[str]]:
    """Return the rows of the tables with this head: the contents of each cell, without its ticks."""
    found: list[list[str]] = []
    for table in re.findall(rf"^{re.escape(head)}\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for line in table.splitlines():
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            found.append([cell.strip().replace("\\|", "|").strip("`") for cell in cells])
    assert found, head
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [(row[1], row[2]) for kind in ("function", "method") for row in rows(f"| {kind} | example | gives |") if row[1]]
    + [(row[0], row[1]) for row in rows("| expression | here | why |")],
)  # fmt: skip
def test_value(text: str, value: str) -> None:
    """An expression of the page has the value that the page gives."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    assert canonical(formula.evaluate({})).decode() == value
    json.loads(value)


def test_every_function_is_listed() -> None:
    """The tables have every function and method, as the code writes its signature."""
    assert [row[0] for row in rows("| function | example | gives |")] == [
        f.signature for f in FUNCTIONS.values()
    ]
    assert [row[0] for row in rows("| method | example | gives |")] == [f.signature for f in METHODS.values()]


@pytest.mark.parametrize(("text", "type_"), rows("| expression | type |"))
def test_type(text: str, type_: str) -> None:
    """An expression of the page has the type that the page gives."""
    inferred = infer(parse_formula(f"${{{text}}}")[0], SCOPE)
    assert (type_text(widened(inferred.type)), inferred.problems) == (type_, [])


@pytest.mark.parametrize(("text", "code"), [row[:2] for row in rows("| expression | code | why |")])
def test_code(text: str, code: str) -> None:
    """An expression of the page has the one problem that the page gives."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert [fault.code for fault in (*faults, *infer(formula, SCOPE).problems)] == [code]


@pytest.mark.parametrize(("text", "code"), rows("| expression | fault |"))
def test_fault(text: str, code: str) -> None:
    """An expression of the page fails in a run as the page says, and not at check."""
    formula, faults = parse_formula(f"${{{text}}}")
    assert faults == []
    with pytest.raises(EvaluationError) as caught:
        formula.evaluate(VALUES)
    assert caught.value.code == code


def test_bounds() -> None:
    """The bounds are the code's."""
    bounds = [int(row[0]) for row in rows("| bound | of |")]
    assert bounds == [
        EXPRESSION_LENGTH_MAX,
        BRACKETS_MAX,
        EXPRESSION_DEPTH_MAX,
        ITEMS_MAX,
        CHARACTERS_MAX,
        WORK_MAX,
        RUN_WORK_MAX,
    ]


@pytest.mark.parametrize(("written", "spelled"), rows("| written | spelled |"))
def test_spelling(written: str, spelled: str) -> None:
    """An expression of the page is spelled as the page says."""
    assert parse_formula(f"${{{written}}}")[0].canonical == f"${{{spelled}}}"
