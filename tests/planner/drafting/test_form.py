"""The schema that a model is shown is made for its tools, as far as there is room, and binds nobody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import jsonschema_rs
from firmplan import tool
from firmplan.planner.drafting.form import FORM_BYTES_MAX, changes_answer, plan_answer
from firmplan.plans.values import canonical


@dataclass
class Place:
    """A place."""

    name: str
    near: list[str]


@tool(effect="read")
def weather(city: str, place: Place | None = None, unit: Literal["c", "f"] = "c") -> float:
    """Temperature in a city."""
    return 1.0


@tool(effect="read", trust="untrusted", resource="web")
def fetched() -> str:
    """Read a page."""
    return ""


@tool(effect="write", resource="mail")
def sent(to: str) -> str:
    """Send a mail."""
    return to


def many(count, stem="tool"):
    def numbered(number):
        def call(city: str, day: int = 1) -> str:
            """Do something."""
            return city

        call.__name__ = f"{stem}_{number}"
        return tool(call)

    return [numbered(number) for number in range(count)]


def plan_of(**step):
    return {"firmplan": 1, "steps": [{"id": "a", **step}]}


def test_tools_and_arguments_are_spelled_out():
    """Names are constants, arguments typed, and any value may be an expression."""
    answer, form = plan_answer([weather])
    assert form == "typed"
    validator = jsonschema_rs.Draft202012Validator(answer.wire_schema)
    good = [
        plan_of(tool="weather", args={"city": "Rome"}),
        plan_of(tool="weather", args={"city": "${inputs.city}", "unit": "${inputs.unit}"}),
        plan_of(tool="weather", args={"city": "Rome", "place": {"name": "x", "near": "${list}"}}),
        plan_of(set=[1, 2]),
        plan_of(ask={"prompt": "?"}),
        {"reasoning": "..", **plan_of(plan="saved", args={"x": 1})},
    ]
    bad = [
        plan_of(tool="wether", args={"city": "Rome"}),
        plan_of(tool="weather", args={}),
        plan_of(tool="weather", args={"city": 7}),
        plan_of(set=1, tool="weather"),
        plan_of(cry="?"),
    ]
    assert [validator.is_valid(plan) for plan in good] == [True] * len(good)
    assert [validator.is_valid(plan) for plan in bad] == [False] * len(bad)


def test_a_large_toolset_gets_names_and_a_huge_one_nothing():
    """The first form for which there is room."""
    forms = [plan_answer(each) for each in (many(2), many(60), many(300, stem="t" * 60))]
    assert [form for _, form in forms] == ["typed", "named", "plain"]
    assert all(len(canonical(answer.wire_schema)) <= FORM_BYTES_MAX for answer, _ in forms)
    assert plan_answer([])[1] == plan_answer(many(3), simplest=True)[1] == "plain"


def test_reasoning_comes_first():
    """There is room to think before the first step."""
    for answer, _ in (plan_answer([weather]), plan_answer([]), changes_answer([weather])):
        assert next(iter(answer.wire_schema["properties"])) == "reasoning"


def test_what_grammars_do_not_take_is_not_shown():
    """No patterns, no formats; references lead to what is there."""
    schema = plan_answer([weather])[0].wire_schema
    text = json.dumps(schema)
    assert '"pattern"' not in text
    assert '"format"' not in text
    assert "%20" not in text


def test_every_action_that_models_are_told_of_may_be_written():
    """An endorsement is only offered where the prompt tells of it: with untrusted results, and writes that must not get them."""
    assert {"ask", "set", "plan", "agent", "ask_person", "fail"} <= actions([weather])
    assert "endorse" not in actions([weather])
    assert "endorse" in actions([fetched, sent])


def actions(tools):
    schema = plan_answer(tools)[0].shown_schema
    return {name for step in schema["properties"]["steps"]["items"]["anyOf"] for name in step["properties"]}
