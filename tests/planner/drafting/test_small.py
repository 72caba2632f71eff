"""The small profile: a short prompt, an answer held to a small schema, and a plan like any other after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Literal

import firmplan
import pytest
from firmplan import ConfigError, Engine, Planner, PlanningFailed, Toolset, tool
from firmplan.planner import SavedPlan
from firmplan.planner.drafting.conversation import REQUESTS_MAX
from firmplan.planner.drafting.drafting import tokens_of
from firmplan.planner.drafting.small import STEPS_MAX, TOOLS_MAX, plan_of, small_answer, small_form_of
from firmplan.planner.evaluate.task_set import TaskSet
from firmplan.planner.request import PlanRequest
from firmplan.plans import Plan
from firmplan.testing import HttpError, ScriptedModel, Text
from firmplan.tools.types.schemas import Checker

Size = Literal["small", "large"]
EVALS = Path(firmplan.__file__).parent / "examples" / "evals"
SIMPLE = TaskSet.load(EVALS / "simple" / "simple.yaml")
FACTS = SIMPLE.tasks[0].tools
SHOP = next(each for each in SIMPLE.tasks if each.id == "s1").tools


def call(id_, name, /, **args):
    return {"id": id_, "tool": name, "args": args}


def short(*steps, output):
    return {"calls": len(steps), "steps": [*steps], "output": output}


def planned(script, task="What is the population of Oslo?", tools=FACTS, **options):
    """Return what a planning in the small profile ends with, and its requests."""

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, profile="small", **options.pop("planner", {}))
            try:
                found = await planner.plan(task, tools, **options)
            except PlanningFailed as failure:
                found = failure
            return found, model.requests

    return asyncio.run(main())


def run(script, task, tools=FACTS, **inputs):
    """Return the output of a task that a small model plans and an engine runs."""

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, profile="small")
            async with Engine(tools, planner=planner, store="memory:") as engine:
                done = await engine.run(task, inputs=inputs)
                assert done.status == "succeeded", done.errors
                return done.output

    return asyncio.run(main())


def settled(answer, tools=FACTS):
    """Return the plan that an answer stands for; it passes its check."""
    request = PlanRequest("x", Toolset.of(tools), {})
    plan, problems = plan_of(answer, request)
    assert problems == ()
    report = request.check_here(plan)
    assert report.ok, report.problems
    return plan


OSLO = short(call("a", "city", name="Oslo"), output="${a.population}")
FAULTY = short(call("a", "city", name="Oslo"), output="${a.peopl}")


# --- the request


@pytest.mark.parametrize("task", SIMPLE.tasks, ids=lambda task: task.id)
def test_the_prompt_and_the_schema_are_small(task):
    """A task over three tools takes less than 1,500 tokens, counted as `plans prompt` counts them, and six tenths of the full profile's."""
    small, full = (
        Planner("m", base_url="http://127.0.0.1:1/v1", profile=profile).preview(task.task, task.tools)
        for profile in ("small", "full")
    )
    assert small.prompt_tokens < 1_500
    assert small.prompt_tokens < 0.6 * full.prompt_tokens
    assert small.schema_tokens < 650


def test_the_first_request_holds_the_answer_to_the_tools():
    """It asks for `json_schema` with exactly the tools, their arguments in order, and no room for others; greedily."""
    found, (request,) = planned([OSLO])
    assert found.plan.steps[0].tool == "city"
    assert request["temperature"] == 0
    assert "tools" not in request
    schema = request["response_format"]["json_schema"]["schema"]
    assert request["response_format"]["type"] == "json_schema"
    *plans, cannot = schema["anyOf"]
    *calls, ask = schema["$defs"]["step"]["anyOf"]
    assert [each["properties"]["tool"]["const"] for each in calls] == ["calculate", "city", "search"]
    assert calls[1]["properties"]["args"] == {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    assert list(calls[1]["properties"]) == calls[1]["required"] == ["id", "tool", "args"]
    assert list(ask["properties"]) == ["id", "ask"]
    assert all(each["additionalProperties"] is False for each in (*plans, cannot, *calls, ask))
    # What it says of its calls binds it: as many steps, and no more.
    sizes = [each["properties"]["calls"]["const"] for each in plans]
    assert sizes == [each["properties"]["steps"]["minItems"] for each in plans] == [*range(1, STEPS_MAX + 1)]
    assert sizes == [each["properties"]["steps"]["maxItems"] for each in plans]
    accepts = Checker(schema).accepts
    assert accepts(OSLO)
    assert accepts({"cannot": "no tool does that"})
    for wrong in (
        {**OSLO, "calls": 2},
        short(call("a", "population", name="Oslo"), output="${a}"),
        short(call("a", "city", town="Oslo"), output="${a}"),
        {**OSLO, "inputs": {}},
        {"calls": 0, "steps": [], "output": "391"},
    ):
        assert not accepts(wrong)


def test_choices_and_kinds_of_arguments_are_in_the_schema():
    """Choices are listed, other kinds may be a reference too, and what may be null is as if it could not."""

    @tool(effect="read")
    def book(room: str, hours: int, colour: str | None = None, *, size: Size = "small") -> str:
        """Book."""
        return room

    items = small_answer([book]).wire_schema["$defs"]["step"]["anyOf"]
    args = items[0]["properties"]["args"]
    assert args["properties"] == {
        "room": {"type": "string"},
        "hours": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "colour": {"type": "string"},
        "size": {"enum": ["small", "large"]},
    }
    assert sorted(args["required"]) == ["hours", "room"]


def test_an_endpoint_without_schemas_is_asked_in_another_way():
    """The small profile prefers a schema and does not depend on it."""
    found, requests = planned([HttpError(400, "response_format is not supported"), OSLO])
    assert found.plan.output == "${a.population}"
    assert "response_format" in requests[0]
    assert "calls" in json.dumps(requests[1]["tools"][0]["function"]["parameters"])


def test_of_many_tools_a_few_are_shown():
    """The nearest by words, with a write among them."""

    def read(index):
        @tool(effect="read", name=f"look_{index}")
        def look(x: str) -> str:
            """Look at something."""
            return x

        return look

    @tool(effect="write")
    def send(to: str) -> str:
        """Send a letter."""
        return to

    preview = Planner("m", base_url="http://127.0.0.1:1/v1", profile="small").preview(
        "Look at seven", [*map(read, range(15)), send, *FACTS]
    )
    assert len(preview.tools) <= TOOLS_MAX + 1
    assert "send" in preview.tools


def test_the_profile_comes_from_the_argument_or_from_the_environment(monkeypatch):
    """The argument wins; another profile is refused, from the environment when it is used."""

    def schema(**options):
        return Planner("m", base_url="http://127.0.0.1:1/v1", **options).preview("x", FACTS).schema

    monkeypatch.setenv("FIRMPLAN_PROFILE", "small")
    assert schema() == schema(profile="small") != schema(profile="full")
    with pytest.raises(ConfigError, match="profile: expected 'full' or 'small', found 'tiny'"):
        Planner("m", profile="tiny")
    monkeypatch.setenv("FIRMPLAN_PROFILE", "tiny")
    with pytest.raises(ConfigError, match="FIRMPLAN_PROFILE: expected"):
        schema()


# --- the answer


def test_a_short_answer_becomes_a_plan_and_runs():
    """The two requests of the issue: arithmetic, and a question about a text that a tool returned."""
    assert (
        run([short(call("a", "calculate", expression="17 * 23"), output="${a}")], "What is 17 * 23?") == 391
    )
    summary = short(
        call("a", "search", query="bicycle"), {"id": "b", "ask": "Summarise: ${a[0].text}"}, output="${b}"
    )
    assert run([summary, Text("It began with Drais.")], "Summarise the first page about bicycles") == (
        "It began with Drais."
    )


def test_a_plan_in_the_full_format_is_read_as_it_is():
    """A model that knows the format may use it."""
    full = {
        "firmplan": 1,
        "steps": [
            {"id": "seen", "tool": "search", "args": {"query": "cities"}},
            {
                "id": "all",
                "after": ["seen"],
                "tool": "city",
                "for_each": ["Oslo", "Bern"],
                "args": {"name": "${item}"},
            },
            {"id": "sum", "set": "${sum([x.population for x in all])}"},
        ],
        "output": "${sum}",
    }
    renamed = json.loads(
        json.dumps(full).replace('"sum"', '"total"').replace("${sum}", "${total}").replace("all", "every")
    )
    assert planned([renamed])[0].plan == Plan.model_validate(
        {**renamed, "task": "What is the population of Oslo?"}
    )


@pytest.mark.parametrize(
    ("steps", "output", "wanted"),
    [
        # references without their braces, or in those of another language
        ([call("c", "calculate", expression="a.population - b.population")], "c", {"c": "${a.population} - ${b.population}", "output": "${c}"}),
        ([call("c", "calculate", expression="{{a.population}} * 2")], "${c}", {"c": "${a.population} * 2", "output": "${c}"}),
        ([call("c", "calculate", expression="$a.population + 1")], "${c.result}", {"c": "${a.population} + 1", "output": "${c}"}),
        # a number where a text has to be
        ([call("c", "calculate", expression="${a.population + b.population}")], "${c}", {"c": "${str(a.population + b.population)}", "output": "${c}"}),
        ([call("c", "calculate", expression="${a.population}")], "${c}", {"c": "${str(a.population)}", "output": "${c}"}),
        # the text of a formula
        ([], "a.population + b.population", {"output": "${a.population + b.population}"}),
        ([], "${a.population} - ${b.population}", {"output": "${(a.population) - (b.population)}"}),
        ([], "${2 * (${a.population} + ${b.population})}", {"output": "${2 * ((a.population) + (b.population))}"}),
        ([], "${a.population < b.population ? a.name : b.name}", {"output": "${a.name if a.population < b.population else b.name}"}),
        ([], "$a", {"output": "${a}"}),
        ([], "${steps.a.name} and ${b.name}", {"output": "${a.name} and ${b.name}"}),
        ([], "${a.population / b.population}", {"output": "${a.population / b.population}"}),
    ],
)  # fmt: skip
def test_what_small_models_mean_is_settled(steps, output, wanted):
    """References, numbers and formulas are read as they are meant, and the plan then passes its check."""
    both = [call("a", "city", name="Rome"), call("b", "city", name="Oslo")]
    plan = settled(short(*both, *steps, output=output))
    assert plan["output"] == wanted["output"]
    assert {step["id"]: step["args"]["expression"] for step in plan["steps"] if step["id"] == "c"} == {
        key: text for key, text in wanted.items() if key != "output"
    }


def test_a_call_inside_an_expression_is_a_step():
    """Models of code write calls where a value is wanted; calls of writes stay faults."""
    plan = settled(
        short(
            call("a", "product", name="toaster"), output="${a.price * exchange_rate('EUR', target=\"USD\")}"
        ),
        SHOP,
    )
    assert plan["steps"][1] == call("exchange_rate_1", "exchange_rate", source="EUR", target="USD")
    assert plan["output"] == "${a.price * exchange_rate_1}"
    plan = settled(short(output="max(product('lamp').price, product('kettle').price)"), SHOP)
    assert [step["args"] for step in plan["steps"]] == [{"name": "lamp"}, {"name": "kettle"}]

    @tool(effect="write")
    def send(text: str) -> str:
        """Send."""
        return text

    draft, _ = plan_of(short(output="${send('x')}"), PlanRequest("x", Toolset.of([send]), {}))
    assert draft["steps"] == []


def test_an_argument_that_is_called_a_field_is_the_argument():
    """`a.query` of a search is what it searched for; a list's `length` is the number of its items."""
    steps = [call("a", "exchange_rate", source="EUR", target="USD"), call("p", "product", name="lamp")]
    weather = next(each for each in SIMPLE.tasks if each.id == "o3").tools
    cities = [call("a", "weather", city="Riga"), call("b", "weather", city="Seville")]
    plan = settled(short(*cities, output="${a.celsius < b.celsius ? a.city : b.city}"), weather)
    assert plan["output"] == '${"Riga" if a.celsius < b.celsius else "Seville"}'
    assert settled(short(*steps, output="${p.name}"), SHOP)["output"] == "${p.name}"
    days = short(call("a", "meetings", date="2026-03-02"), output="${a.length}")
    assert settled(days, weather)["output"] == "${len(a)}"


def test_words_are_left_alone():
    """A text that only looks like a reference is a text: no earlier step has that field, or that name."""
    steps = [
        call("a", "search", query="a.m. and b.c"),
        call("b", "search", query="$5 for a.x, c.title and a $a note"),
    ]
    plan = settled(short(*steps, output="${a[0].title}: ${b[0].title}"))
    assert [step["args"]["query"] for step in plan["steps"]] == [
        "a.m. and b.c",
        "$5 for a.x, c.title and a $a note",
    ]


def test_numbers_in_texts_are_numbers_where_the_tool_wants_numbers():
    plan = settled(short(call("a", "order", number="1042"), output="${a.status}"), SHOP)
    assert plan["steps"][0]["args"] == {"number": 1042}


def test_calls_that_nothing_needs_are_dropped():
    """A search to be sure is no part of the plan; a write is, whatever becomes of its result."""
    extra = [call("s", "search", query="Oslo"), {"id": "q", "ask": "Is ${s} right?"}]
    plan = settled(short(*extra, call("a", "city", name="Oslo"), output="${a.population}"))
    assert [step["id"] for step in plan["steps"]] == ["a"]

    @tool(effect="write")
    def send(text: str) -> str:
        """Send."""
        return text

    kept = settled(
        short(call("a", "city", name="Oslo"), call("w", "send", text="${a.country}"), output=""),
        [*FACTS, send],
    )
    assert [step["id"] for step in kept["steps"]] == ["a", "w"]


def test_given_values_are_inputs_of_the_plan():
    """The model refers to them, and need not declare them."""
    steps = short(call("a", "city", name="${inputs.place}"), output="${a.country}")
    assert run([steps], "In which country is the place?", place="Bern") == "Switzerland"
    _, (request,) = planned([steps], "In which country is it?", inputs={"place": "Bern"})
    asked = request["messages"][-1]["content"]
    assert "${inputs.place}" in asked
    assert "Bern" not in asked


@pytest.mark.parametrize("answer", [[], 7, {}, {"steps": 1}, {"steps": [3, None, {"id": 4}], "output": {"a": [1]}}, {"steps": [{"id": "a", "tool": ["x"], "args": "${"}], "output": "${a"}])  # fmt: skip
def test_any_answer_is_read_without_a_crash(answer):
    """What is no plan has faults."""
    request = PlanRequest("x", FACTS, {})
    plan, problems = plan_of(answer, request)
    assert problems or not request.check_here(plan).ok


def test_a_huge_answer_is_read_as_it_is():
    """Settling is for plans of small models: text and steps beyond theirs are left to the check."""
    request = PlanRequest("x", FACTS, {})
    many = [call(f"s{index}", "city", name="${a.name}") for index in range(3_000)]
    plan, _ = plan_of(short(*many, output="a.name"), request)
    assert (len(plan["steps"]), plan["output"]) == (3_000, "a.name")
    for text in (
        " " * 300_000,
        "? : " * 90_000,
        "${" * 100_000,
        "}" * 100_000,
        "a.population - " * 20_000,
        "(" * 300,
    ):
        plan, _ = plan_of(short(call("a", "city", name=text), output=text + "${a.name}"), request)
        assert plan["steps"][0]["args"]["name"] == text


# --- faults


def test_one_fault_is_told_at_a_time():
    """The first step's, with the draft; the repaired plan is a plan."""
    bad = short(
        call("a", "city", nam="Oslo"), call("b", "city", name="${c.name}"), output="${a.peopl + b.population}"
    )
    found, requests = planned([bad, OSLO])
    assert found.plan.output == "${a.population}"
    assert [attempt.approach for attempt in found.attempts] == ["draft", "whole"]
    assert len(found.attempts[0].faults) > 1
    again = requests[1]["messages"]
    assert [each["role"] for each in again] == ["system", "user", "assistant", "user"]
    assert again[-1]["content"].count("\n- [") == 1
    assert "$.steps[0]" in again[-1]["content"]
    assert requests[0]["messages"] == again[:2], (
        "the beginning stays as it was, so that the endpoint's cache holds"
    )


def test_a_fault_that_comes_back_is_told_without_the_draft_and_then_ends_the_planning():
    """A model that sees its draft writes it again."""
    found, requests = planned([FAULTY] * 9, planner={"max_repairs": 8})
    assert isinstance(found, PlanningFailed)
    assert [attempt.approach for attempt in found.attempts] == ["draft", "whole", "simple", "simple"]
    assert [len(each["messages"]) for each in requests] == [2, 4, 3, 3]
    assert 'profile="full"' in str(found)
    assert len(requests) < REQUESTS_MAX


def test_an_output_of_the_models_own_is_a_fault():
    """It has seen no result, so that its number is a guess."""
    guess = short(call("a", "calculate", expression="17 * 23"), output="391")
    found, requests = planned([guess, short(call("a", "calculate", expression="17 * 23"), output="${a}")])
    assert found.plan.output == "${a}"
    assert "such as ${a}" in requests[1]["messages"][-1]["content"]


def test_prose_and_cut_answers_are_asked_for_again():
    found, requests = planned([Text("I would look it up."), OSLO])
    assert found.plan.output == "${a.population}"
    assert len(requests) == 2


def test_what_the_profile_cannot_do_ends_with_advice():
    """The model says so, and the message says which profile can do more."""
    found, _ = planned([{"cannot": "no tool sends letters"}], "Send a letter to each customer")
    assert isinstance(found, PlanningFailed)
    assert found.outcome.reason == "no tool sends letters"
    assert 'profile="full"' in str(found)


def test_a_write_that_a_repair_drops_is_named():
    """The form has no `left_out`, so that firmplan writes it."""

    @tool(effect="write")
    def send(text: str) -> str:
        """Send."""
        return text

    bad = short(call("a", "city", name="Oslo"), call("w", "send", txt="${a.country}"), output="${w}")
    found, _ = planned([bad, OSLO], "Send the country of Oslo", [*FACTS, send])
    assert found.plan.left_out[0].startswith("send: ")


# --- saved plans


SAVED = Plan.model_validate(
    {
        "firmplan": 1,
        "task": "How many people live in {place}?",
        "inputs": {"place": {"type": "string", "default": "Bern"}},
        "steps": [call("a", "city", name="${inputs.place}")],
        "output": "${a.population}",
    }
)


def test_the_nearest_saved_plan_comes_first():
    """By its pattern without a model; else the small question is asked before a draft, and held to a schema too."""
    library = [SavedPlan("people", SAVED)]
    found, requests = planned([], "How many people live in Rome?", planner={"library": library})
    assert (found.source, requests) == ("saved:people", [])
    task = "Say how many people live in the city of Lyon"
    found, requests = planned(
        [{"reasoning": "same", "fits": True, "inputs": {"place": "Lyon"}}], task, planner={"library": library}
    )
    assert found.source == "adapted:people"
    assert requests[0]["response_format"]["type"] == "json_schema"


def test_a_saved_plan_that_does_not_fit_is_an_example_in_the_small_form():
    """Its defaults stand for its inputs, as a small model would write them."""
    library = [SavedPlan("people", SAVED)]
    task = "How many people live in Lyon and Turin?"
    script = [{"reasoning": "two", "fits": False, "inputs": {}}, OSLO]
    _, requests = planned(script, task, planner={"library": library})
    shown = requests[1]["messages"][-1]["content"]
    assert (
        'Task: How many people live in Bern?\n{"calls": 1, "steps": [{"id": "a", "tool": "city", "args": {"name": "Bern"}}], "output": "${a.population}"}'
        in shown
    )
    assert tokens_of("".join(each["content"] for each in requests[1]["messages"])) < 1_500


def test_plans_that_the_small_form_has_no_words_for_are_no_examples():
    document = SAVED.to_dict()
    for change in ({"for_each": ["x"]}, {"when": "${True}"}, {"retries": 2}):
        steps = [{**document["steps"][0], **change}]
        assert small_form_of(Plan.model_validate({**document, "steps": steps})) is None
    computed = {**document, "output": "${inputs.place + a.country}"}
    assert small_form_of(Plan.model_validate(computed)) is None


def test_plans_of_the_two_profiles_are_kept_apart():
    """Other prompts may lead to other plans, so that the cache does not take one for the other."""
    kept = {}

    class Cache:
        async def find(self, key):
            return kept.get(key)

        async def keep(self, key, plan):
            kept[key] = plan

    async def main():
        task = "What is the population of Oslo?"
        async with ScriptedModel(
            [OSLO, {"firmplan": 1, "steps": OSLO["steps"], "output": OSLO["output"]}]
        ) as model:
            small = Planner("m", base_url=model.base_url, profile="small")
            full = Planner("m", base_url=model.base_url)
            every = [await each.plan(task, FACTS, cache=Cache()) for each in (small, small, full, full)]
            return [each.source for each in every]

    assert asyncio.run(main()) == ["model", "reused", "model", "reused"]
    assert len(kept) == 2
