"""Warnings that foretell a failure reach the model, once, and never cost the plan that passed; other warnings do not."""

from __future__ import annotations

import asyncio
from typing import NotRequired, TypedDict

import pytest
from firmplan import Planner, tool
from firmplan.testing import HttpError, ScriptedModel, Text


class Person(TypedDict):
    """A person, perhaps with a nickname."""

    name: str
    nick: NotRequired[str | None]


@tool(effect="read")
def person(number: int) -> Person:
    """Find a person."""
    return {"name": "Ann"}


@tool(effect="read")
def count(text: str) -> int:
    """Count the letters of a text."""
    return len(text)


@tool(effect="write")
def greet(name: str) -> str:
    """Send a greeting."""
    return name


FIND = {"id": "p", "tool": "person", "args": {"number": 1}}


def plan_of(*steps, output="${p.name}"):
    return {"firmplan": 1, "steps": [FIND, *steps], "output": output}


BARE = plan_of({"id": "g", "tool": "greet", "args": {"name": "${p.nick}"}}, output="${g}")
SURE = {"id": "g", "tool": "greet", "args": {"name": "${first(p.nick, p.name)}"}}


def planned(script, **options):
    async def main():
        async with ScriptedModel(script) as model:
            found = await Planner("m", base_url=model.base_url, **options).plan(
                "Greet", [person, count, greet]
            )
            return found, [request["messages"][-1]["content"] for request in model.requests]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("plan", "mended", "place"),
    [
        (BARE, {"changes": [SURE]}, "$.steps[1].args.name"),
        (
            plan_of(output={"as": "${p.nick}"}),
            {"changes": [], "output": {"as": "${first(p.nick, '')}"}},
            "$.output.as",
        ),
    ],
)
def test_a_value_that_may_be_absent_is_told_and_mended(plan, mended, place):
    """In an argument of a write, and in the output."""
    found, asked = planned([plan, mended])
    assert len(asked) == 2
    assert asked[1].startswith("The plan passes its check, but")
    assert f"- [maybe-missing] at {place}: " in asked[1]
    assert "first(p.nick" in str(found.plan.to_dict())


@pytest.mark.parametrize(
    "plan",
    [
        plan_of({"id": "n", "tool": "count", "args": {"text": "${p.nick}"}}, output="${n}"),
        plan_of({"id": "unused", "set": 1}),
        plan_of(
            {"id": "g", "when": "${p.name == 'Ann'}", "tool": "greet", "args": {"name": "Ann"}}, output="${g}"
        ),
    ],
)
def test_other_warnings_are_noise(plan):
    """A read that may fail changes nothing; an unused step does no harm; a skipped step gives null, as the plan says."""
    found, asked = planned([plan])
    assert len(asked) == 1
    assert found.attempts[-1].problems


@pytest.mark.parametrize(
    "answer",
    [{"changes": []}, Text("It is meant."), HttpError(401), {"changes": [{"id": "g", "tool": "nope"}]}, BARE],
)
def test_the_plan_that_passed_stands(answer):
    """Whatever comes of the question: agreement, prose, an error, a worse plan, the same plan. It is asked once."""
    found, asked = planned([BARE, answer])
    assert found.plan.steps[1].args == {"name": "${p.nick}"}
    assert len(asked) == 2


def test_no_question_where_no_repair_is_left():
    assert len(planned([BARE], max_repairs=0)[1]) == 1


def test_the_warnings_go_along_with_faults():
    """One repair mends both, and nothing more is asked."""
    faulty = {**BARE, "steps": [*BARE["steps"], {"id": "x", "tool": "nope"}]}
    _, asked = planned([faulty, {"changes": [], "remove": ["x"]}])
    assert len(asked) == 2
    assert "[unknown-tool]" in asked[1]
    assert "[maybe-missing] at $.steps[1].args.name" in asked[1]


def test_a_repair_renames_an_input():
    """Changes are merged, as the model is told; null takes the old name away."""
    uses = {"id": "n", "tool": "count", "args": {"text": "${inputs.word}"}}
    draft = {**plan_of(uses, {"id": "m", "set": 1}), "inputs": {"world": {"type": "string", "default": "hi"}}}
    renamed = {"changes": [], "inputs": {"world": None, "word": {"type": "string", "default": "hi"}}}
    found, asked = planned([draft, renamed])
    assert "null takes an input away" in asked[1]
    assert list(found.plan.inputs) == ["word"]
