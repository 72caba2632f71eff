"""Repair asks for as little as will do, takes more, and does not ask the same way for ever."""

from __future__ import annotations

import asyncio
import json

from firmplan import Plan, Planner, PlanningFailed, tool
from firmplan.testing import ScriptedModel, Text


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


def call(id_, city, name="weather"):
    return {"id": id_, "tool": name, "args": {"city": city}}


GOOD = {
    "firmplan": 1,
    "task": "x",
    "steps": [call("a", "Rome"), call("b", "Oslo"), call("c", "Bonn"), {"id": "d", "set": "${a + b + c}"}],
    "output": "${d}",
}
SLIP = call("b", "Oslo", "wether")
BAD = {**GOOD, "steps": [GOOD["steps"][0], SLIP, *GOOD["steps"][2:]]}


def planned(script, **options):
    async def main():
        async with ScriptedModel(script) as model:
            try:
                found = await Planner("m", base_url=model.base_url, **options).plan("x", [weather])
            except PlanningFailed as failure:
                found = failure
            return found, model.requests

    return asyncio.run(main())


def asked(request):
    return request["messages"][-1]["content"]


def properties(request):
    return request["tools"][0]["function"]["parameters"]["properties"]


def test_only_the_faulty_steps_are_asked_for_again():
    """The model is asked for changes; what it does not name stays."""
    found, requests = planned([BAD, {"changes": [call("b", "Oslo")]}])
    assert found.plan == Plan.model_validate(GOOD)
    assert [attempt.approach for attempt in found.attempts] == ["draft", "steps"]
    assert "only the steps that change" in asked(requests[1])
    assert "changes" in properties(requests[1])
    assert "steps" in properties(requests[0])


def test_a_whole_plan_is_taken_where_steps_were_asked_for():
    """As it is in the format; and so are the faulty steps where a plan's steps stand."""
    assert planned([BAD, GOOD])[0].plan == Plan.model_validate(GOOD)
    assert planned([BAD, {"plan": GOOD}])[0].plan == Plan.model_validate(GOOD)
    partial = {"firmplan": 1, "steps": [call("b", "Oslo")]}
    assert planned([BAD, partial])[0].plan == Plan.model_validate(GOOD)


def test_steps_alone_are_changes_where_they_make_no_plan_of_their_own():
    """A step that refers to the others cannot be the whole plan."""
    bad = {**GOOD, "steps": [*GOOD["steps"][:3], {"id": "d", "set": "${a + b + cc}"}]}
    found, _ = planned([bad, {"steps": [{"id": "d", "set": "${a + b + c}"}]}])
    assert found.plan == Plan.model_validate(GOOD)


def test_changes_add_remove_and_change_what_stands_beside_the_steps():
    """New steps stand before the next old one; inputs are added by name; the output is set."""
    change = {
        "changes": [call("n", "${inputs.city}"), call("b", "Oslo"), {"id": "e", "set": "${a + b + n}"}],
        "remove": ["c", "d"],
        "inputs": {"city": {"type": "string", "default": "Bern"}},
        "output": "${e}",
    }
    found, _ = planned([BAD, change])
    assert [step.id for step in found.plan.steps] == ["a", "n", "b", "e"]
    assert list(found.plan.inputs) == ["city"]
    assert found.plan.output == "${e}"


def test_faults_after_changes_are_told_against_the_changed_draft():
    """The model sees the draft as it stands, so that places are right."""
    found, requests = planned([BAD, {"changes": [call("b", 7)]}, {"changes": [call("b", "Oslo")]}])
    assert found.plan == Plan.model_validate(GOOD)
    shown = json.loads(requests[2]["messages"][-2]["content"])
    assert shown["steps"][1] == call("b", 7)
    assert "$.steps[1].args.city" in asked(requests[2])


def test_the_same_fault_twice_changes_the_approach():
    """Steps, then the whole plan anew, then the same in the simplest schema, then an end."""
    failure, requests = planned([BAD] * 9)
    assert [attempt.approach for attempt in failure.attempts] == ["draft", "steps", "whole", "simple"]
    assert "in another way" in asked(requests[2])
    tools = [properties(request).get("steps", {}).get("items") for request in requests]
    assert "anyOf" in tools[0]
    assert tools[1] is None
    assert "anyOf" in tools[2]
    assert tools[3]["properties"]["tool"] == {"type": "string"}
    assert len(requests) == 4


def test_other_faults_are_progress():
    """A fault that did not come back does not change the approach."""
    other = {**GOOD, "steps": [call("a", "Rome"), call("b", 7), *GOOD["steps"][2:]]}
    found, _ = planned([BAD, other, GOOD])
    assert [attempt.approach for attempt in found.attempts] == ["draft", "steps", "steps"]


def test_most_steps_at_fault_means_the_whole_plan():
    """Likewise faults of the plan as such, small plans, and steps without ids."""
    every = {**GOOD, "steps": [call(each, "x", "wether") for each in "abc"]}
    for bad in (every, {**GOOD, "more": 1}, {**GOOD, "steps": [SLIP]}, {**BAD, "steps": [*BAD["steps"], {}]}):
        found, requests = planned([bad, GOOD])
        assert found.attempts[1].approach == "whole"
        assert "whole plan again" in asked(requests[1])


def test_prose_twice_ends_in_the_simplest_form():
    """What cannot be read twice the same way is asked for more simply."""
    failure, requests = planned([Text("no")] * 9, mode="tools")
    assert properties(requests[3])["steps"]["items"]["properties"]["tool"] == {"type": "string"}
    assert len(failure.attempts) == 4
