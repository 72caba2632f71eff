"""A saved plan that no pattern finds, but whose words are near: a model fills its typed inputs, or says that it does not fit."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from firmplan import Plan, Planner, PlanningFailed, SavedPlan, check, tool
from firmplan.planner import Use
from firmplan.planner.drafting.adapting import NO_FIT, near_template
from firmplan.planner.drafting.prompt import adapting_messages
from firmplan.planner.request import PlanRequest
from firmplan.plans.format.saved import template_digest
from firmplan.testing import Empty, HttpError, Refusal, ScriptedModel, Slow, Text, Truncated, unmarked
from firmplan.tools import Toolset


@tool(effect="read")
def weather(city: str, days: int = 1) -> float:
    """Temperature in a city."""
    return 1.0


@tool(effect="write")
def send(text: str) -> str:
    """Send a text."""
    return text


TOOLS = [weather, send]
TEXT = {"type": "string"}
PLACE = {"$ref": "#/types/Place"}


def template(name, task, tool_name="weather", **inputs):
    declared = inputs or {
        "city": {**TEXT, "description": "Where"},
        "days": {"type": "integer", "minimum": 1, "default": 3},
    }
    args = {"city": "${inputs.city}"} if "city" in declared else {"city": "Rome"}
    if "days" in declared:
        args["days"] = "${inputs.days}"
    return SavedPlan(
        name,
        Plan.model_validate(
            {
                "firmplan": 1,
                "task": task,
                "inputs": declared,
                "steps": [{"id": "w", "tool": tool_name, "args": args}],
                "output": "${w}",
            }
        ),
    )


WARM = template("warm", "Tell how warm the weather in {city} is over {days} days")
OTHER = template("ships", "Count the ships in the harbour of {city}")
TASK = "How warm is the weather going to be in Bonn, in days to come? Five of them."
FILLED = {"reasoning": "It is the same.", "fits": True, "inputs": {"city": "Bonn", "days": 5}}
NOT = {"reasoning": "It asks for more.", "fits": False, "inputs": {}}
GOOD = {
    "firmplan": 1,
    "task": TASK,
    "steps": [{"id": "x", "tool": "weather", "args": {"city": "Bonn"}}],
    "output": "${x}",
}


def planning(script, task=TASK, *, saved=(OTHER, WARM), inputs=None, tools=TOOLS, **options):
    """Return what came of a planning, the requests, and the uses of saved plans."""
    uses = []

    async def main():
        async with ScriptedModel(script) as model:
            heard = options.pop("heard", None)
            planner = Planner("m", base_url=model.base_url, **{"timeout": 5, **options})
            try:
                found = await planner.plan(
                    task, tools, inputs=inputs, saved=saved, used=uses.append, heard=heard
                )
            except PlanningFailed as failure:
                found = failure
            return found, model.requests

    return *asyncio.run(main()), uses


def defaults(planned):
    return {name: schema.get("default") for name, schema in planned.plan.inputs.items()}


def test_a_match_in_doubt_is_put_to_the_model():
    """A text that is longer than the template's may be another task: the model says whether it is, or writes a plan."""
    warm = template("warm", "Weather in {city}", city={**TEXT, "default": "Rome"})
    task = "Weather in Bonn and the nearest harbour"
    planned, requests, uses = planning([NOT, GOOD], task, saved=[OTHER, warm])
    assert [attempt.source for attempt in planned.attempts] == ["saved:warm", "adapted:warm", "model"]
    assert planned.attempts[0].error == "the input 'city' would take 5 words, but its default has 1"
    assert (planned.source, len(requests)) == ("model", 2)
    assert uses == [Use("warm", template_digest(warm.plan), "model")]
    filled = {"reasoning": "It is the same.", "fits": True, "inputs": {"city": "San Remo"}}
    planned, requests, _ = planning([filled], "Weather in San Remo", saved=[warm])
    assert (defaults(planned), planned.source, len(requests)) == ({"city": "San Remo"}, "adapted:warm", 1)
    planned, requests, _ = planning([], "Weather in Bonn", saved=[warm])
    assert (planned.inputs, planned.source, requests) == ({"city": "Bonn"}, "saved:warm", [])


def test_a_near_plan_is_filled_in():
    """One small request, typed by the plan's inputs; its values are their defaults, and old ones stand for what is left out."""
    planned, requests, uses = planning([FILLED])
    assert defaults(planned) == {"city": "Bonn", "days": 5}
    assert (planned.inputs, planned.source) == ({}, "adapted:warm")
    assert planned.plan.steps == WARM.plan.steps
    assert check(planned.plan, TOOLS).ok
    (request,) = requests
    asked = request["tools"][0]["function"]["parameters"]["properties"]
    assert list(asked) == ["reasoning", "fits", "inputs"]
    assert asked["inputs"]["properties"]["days"]["minimum"] == 1
    (attempt,) = planned.attempts
    assert (attempt.source, attempt.approach, attempt.ok) == ("adapted:warm", "adapt", True)
    assert planned.usage == attempt.usage
    assert uses == [Use("warm", template_digest(WARM.plan), "answered")]
    left_out = {**FILLED, "inputs": {"city": "Bonn", "days": None}}
    assert defaults(planning([left_out])[0]) == {"city": "Bonn", "days": 3}
    as_text = {**FILLED, "inputs": json.dumps(FILLED["inputs"])}
    assert defaults(planning([as_text])[0]) == {"city": "Bonn", "days": 5}


def test_what_does_not_fit_is_planned_anew():
    """The model's no leads to a whole plan, and is a use that was no hit."""
    planned, requests, uses = planning([NOT, GOOD])
    assert (planned.source, planned.plan) == ("model", Plan.model_validate(GOOD))
    assert len(requests) == 2
    assert planned.attempts[0].error == NO_FIT
    assert planned.usage.requests == 2
    assert uses == [Use("warm", template_digest(WARM.plan), "model")]


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({"days": 5}, "'city' is missing"),
        ({"city": "Bonn", "days": "5"}, "input 'days'"),
        ({"city": "Bonn", "days": 0}, "input 'days'"),
        ({"city": None}, "input 'city'"),
        ({"city": "Bonn", "wind": True}, "no input 'wind'"),
    ],
)
def test_values_are_held_to_the_inputs_schemas(inputs, why):
    """Missing, of another type, out of bounds, unknown: the plan is written anew, and the attempt says why."""
    planned, requests, uses = planning([{**FILLED, "inputs": inputs}, GOOD])
    assert (planned.source, len(requests)) == ("model", 2)
    assert why in planned.attempts[0].error
    assert [use.outcome for use in uses] == ["model"]


@pytest.mark.parametrize(
    "answer",
    [
        Text("It fits."),
        Empty(),
        Truncated(FILLED),
        Refusal("Not this."),
        HttpError(500, "", {"retry-after-ms": "1"}),
        {"fits": "yes"},
        {"fits": True, "inputs": "Bonn"},
        Slow(FILLED, 60),
    ],
)
def test_no_answer_is_no_verdict(answer):
    """Whatever goes wrong, a plan is written, and the saved plan is not blamed."""
    planned, requests, uses = planning([answer, GOOD], timeout=2 if isinstance(answer, Slow) else 60)
    assert (planned.source, len(requests), uses) == ("model", 2, [])
    assert planned.attempts[0].error


def test_a_whole_plan_in_answer_is_the_first_draft():
    """No request is spent; with faults it is repaired, and it is heard while it is written."""
    planned, requests, uses = planning([GOOD])
    assert (planned.source, len(requests), uses) == ("model", 1, [])
    bad = {**GOOD, "steps": [{"id": "x", "tool": "wether", "args": {}}]}
    planned, requests, _ = planning([bad, GOOD])
    assert (planned.source, len(requests)) == ("model", 2)
    heard = []
    planning([GOOD], heard=heard.append)
    assert [len(plan.steps) for plan in heard] == [1]


def test_the_same_task_is_not_asked_about_twice():
    """What was filled in is kept like a plan that was written: the same task gives the same plan, without a request."""

    class Kept(dict):
        async def find(self, key, /):
            return self.get(key)

        async def keep(self, key, plan, /):
            self[key] = plan

    cache = Kept()

    async def main():
        async with ScriptedModel([FILLED]) as model:
            planner = Planner("m", base_url=model.base_url)
            return [await planner.plan(TASK, TOOLS, saved=[WARM], cache=cache) for _ in range(2)]

    first, second = asyncio.run(main())
    assert (first.source, second.source) == ("adapted:warm", "reused")
    assert first.plan.digest == second.plan.digest


def test_only_near_plans_are_asked_about():
    """Few shared words, a plan that does not pass its check, given inputs that it does not take, and `adapt=False` cost nothing."""
    far = "Is it warm?"
    for options in (
        {"task": far},
        {"saved": [template("warm", WARM.plan.task, "wether")]},
        {"inputs": {"town": "Bonn"}},
        {"adapt": False},
        {"task": f"{TASK} {'Background. ' * 200}"},
        {"saved": []},
    ):
        draft = GOOD if "inputs" not in options else {**GOOD, "inputs": {"town": TEXT}}
        planned, requests, uses = planning([draft], **options)
        assert (planned.source, len(requests), uses) == ("model", 1, []), options
    order = PlanRequest(
        TASK, Toolset(TOOLS), {}, (OTHER, WARM, template("cold", "Tell how cold the weather is"))
    )
    assert near_template(order) == WARM


def test_given_inputs_are_not_asked_for_and_go_first():
    """The model is told neither their values nor to fill them."""
    planned, (request,), _ = planning(
        [{**FILLED, "inputs": {"days": 5, "city": "Rome"}}], inputs={"city": "Atlantis"}
    )
    assert planned.inputs == {"city": "Atlantis"}
    assert defaults(planned) == {"city": None, "days": 5}
    assert "Atlantis" not in json.dumps(request)
    assert list(request["tools"][0]["function"]["parameters"]["properties"]["inputs"]["properties"]) == [
        "days"
    ]


def test_named_types_are_shown_with_their_fields():
    """An input's schema may refer to the plan's types: the model sees what they are, and its answer is held to them."""
    place = {"type": "object", "properties": {"city": TEXT}, "required": ["city"]}
    plan = {
        **WARM.plan.to_dict(),
        "task": "Tell how warm the weather of {place} is",
        "types": {"Place": place},
        "inputs": {"place": PLACE},
        "steps": [{"id": "w", "tool": "weather", "args": {"city": "${inputs.place.city}"}}],
    }
    saved = [SavedPlan("place", Plan.model_validate(plan))]
    answer = {"reasoning": ".", "fits": True, "inputs": {"place": {"city": "Bonn"}}}
    planned, (request,), _ = planning([answer], saved=saved)
    assert defaults(planned) == {"place": {"city": "Bonn"}}
    schema = request["tools"][0]["function"]["parameters"]
    assert schema["properties"]["inputs"]["properties"]["place"] == {"$ref": "#/$defs/Place"}
    assert schema["$defs"]["Place"]["properties"] == {"city": TEXT}
    assert "- place: {city: text}" in request["messages"][1]["content"]
    wrong = {**answer, "inputs": {"place": {"town": "Bonn"}}}
    assert planning([wrong, GOOD], saved=saved)[0].source == "model"


def test_the_prompt_says_what_the_plan_does():
    """Its task, the effects of what it calls, its inputs with types and defaults; and its examples are answers as asked for."""
    plan = {**WARM.plan.to_dict(), "description": "Looks\nit up."}
    inner = {"steps": [{"id": "s", "tool": "send", "args": {"text": "warm"}}]}
    plan["plans"] = {"tell": inner}
    plan["steps"] = [*plan["steps"], {"id": "t", "plan": "tell"}]
    _, (request, _), _ = planning([NOT, GOOD], saved=[SavedPlan("warm", Plan.model_validate(plan))])
    shown = request["messages"][1]["content"]
    assert re.search(r"<form-(\d+)>\n.*\n</form-\1>\n\n# Task", shown, re.DOTALL), "the saved plan is data"
    form, _, task = unmarked(shown).partition("\n\n# Task\n\n")
    assert task == TASK
    assert form.splitlines() == [
        "# Form",
        "",
        "Tell how warm the weather in {city} is over {days} days",
        "It says of itself: Looks it up.",
        "It calls: send [write], weather [read]",
        "- city: text (Where)",
        "- days: integer, default 3",
    ]
    system = adapting_messages("x", "y")[0].content
    answers = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", system, re.DOTALL)]
    assert [list(each) for each in answers] == [["reasoning", "fits", "inputs"]] * 2


def test_a_saved_plan_that_fails_its_check_is_a_use_too():
    """Its pattern is the task's, and it cannot be used: no hit."""
    broken = template("broken", "Tell the weather of {city}", "wether", city=TEXT)
    planned, _, uses = planning([GOOD], "Tell the weather of Bonn", saved=[broken])
    assert planned.source == "model"
    assert uses == [Use("broken", template_digest(broken.plan), "check")]
    answered = template("sound", "Tell the weather of {city}", city=TEXT)
    planned, requests, uses = planning([], "Tell the weather of Bonn", saved=[broken, answered])
    assert (planned.source, requests) == ("saved:sound", [])
    assert [(use.name, use.outcome) for use in uses] == [("broken", "check"), ("sound", "answered")]
