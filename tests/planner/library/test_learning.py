"""A good plan becomes a template: its task's words become typed inputs, and nothing else changes."""

from __future__ import annotations

import string
from typing import Literal

import pytest
from firmplan import InputRejected, Plan, Toolset, check, tool
from firmplan.planner.library.learning import learn
from firmplan.planner.library.pattern import TaskPattern
from hypothesis import given
from hypothesis import strategies as st


@tool(effect="read")
def weather(city: str, days: int = 1, unit: Literal["celsius", "kelvin"] = "celsius") -> float:
    """Temperature in a city."""
    return 1.0


TOOLS = Toolset([weather])


def plan_of(task, steps, **rest):
    return Plan.model_validate({"firmplan": 1, "task": task, "steps": steps, **rest})


def call(id_="w", **args):
    return {"id": id_, "tool": "weather", "args": args}


def test_what_the_task_names_becomes_typed_inputs():
    """Texts, numbers and options of an enum, each with its parameter's type and its value as default."""
    plan = plan_of(
        "Tell the weather in Rome for 3 days in kelvin", [call(city="Rome", days=3, unit="kelvin")]
    )
    learned = learn(plan, tools=TOOLS)
    assert learned.plan.task == "Tell the weather in {city} for {days} days in {unit}"
    assert learned.plan.inputs == {
        "unit": {"type": "string", "enum": ["celsius", "kelvin"], "default": "kelvin"},
        "city": {"type": "string", "default": "Rome"},
        "days": {"type": "integer", "default": 3},
    }
    assert learned.plan.steps[0].args == {
        "city": "${inputs.city}",
        "days": "${inputs.days}",
        "unit": "${inputs.unit}",
    }
    assert check(learned.plan, TOOLS).ok
    assert TaskPattern.of(learned.plan).match("tell the weather in Oslo for 5 days in celsius") == {
        "city": "Oslo",
        "days": 5,
        "unit": "celsius",
    }


def test_the_same_value_is_the_same_input_everywhere():
    """In other calls, in texts around holes, in quoted literals inside them; `why` is left as it is."""
    plan = plan_of(
        "Compare Rome and Oslo today",
        [
            {**call("a", city="Rome"), "why": "Rome first"},
            call("b", city="Oslo"),
            {"id": "c", "set": "${'Rome' if a > b else 'Oslo'}"},
            {"id": "d", "ask": {"prompt": "In Rome: ${a}. Is ${c == 'Rome'} right? $${Rome}"}},
        ],
        output={"a": "Rome"},
    )
    learned = learn(plan).plan
    assert learned.task == "Compare {city} and {city_2} today"
    steps = learned.to_dict()["steps"]
    assert steps[0]["why"] == "Rome first"
    assert steps[2]["set"] == "${inputs.city if a > b else inputs.city_2}"
    assert steps[3]["ask"]["prompt"] == "In ${inputs.city}: ${a}. Is ${c == inputs.city} right? $${Rome}"
    assert learned.output == {"a": "${inputs.city}"}


def test_what_cannot_be_lifted_everywhere_stays():
    """A template that still said `Rome` somewhere would lie about Oslo."""
    plan = plan_of("Greet the people of Rome", [call(city="Rome"), {"id": "t", "set": "${'Hello Rome!'}"}])
    learned = learn(plan)
    assert (learned.plan.task, learned.plan.inputs, learned.kept) == (
        "Greet the people of Rome",
        {},
        ("Rome",),
    )
    plan = plan_of(
        "The 3 warmest of Rome", [call(city="Rome", days=3), {"id": "t", "set": "${[1, 2, 3][:3]}"}]
    )
    assert learn(plan).plan.task == "The 3 warmest of {city}"


def test_inputs_that_the_plan_has_become_holes():
    """By the values of the run, which become their defaults."""
    plan = plan_of(
        "Tell the weather in Bonn",
        [call(city="${inputs.where}")],
        inputs={"where": {"type": "string", "default": "Rome"}},
    )
    learned = learn(plan, {"where": "Bonn"}).plan
    assert learned.task == "Tell the weather in {where}"
    assert learned.inputs == {"where": {"type": "string", "default": "Bonn"}}


def test_what_a_run_was_given_beside_its_words_is_left_out():
    """It is the caller's data, and no default of a template that planners are shown: the plan's own default stays."""
    plan = plan_of(
        "Tell the weather in Bonn",
        [call(city="${inputs.where}"), call("b", city="${inputs.page}"), call("c", city="${inputs.other}")],
        inputs={
            "where": {"type": "string"},
            "page": {"type": "string"},
            "other": {"type": "string", "default": "Rome"},
        },
    )
    learned = learn(plan, {"where": "Bonn", "page": "what somebody wrote", "other": "this too"}).plan
    assert learned.inputs == {
        "where": {"type": "string", "default": "Bonn"},
        "page": {"type": "string"},
        "other": {"type": "string", "default": "Rome"},
    }


@pytest.mark.parametrize(
    ("task", "args"),
    [(None, {"city": "Rome"}), ("Rome", {"city": "Rome"}), ("Rome please", {"city": "Rome"})],
)
def test_a_task_that_says_too_little_is_refused(task, args):
    """Its template would answer tasks that are not meant."""
    with pytest.raises(InputRejected):
        learn(plan_of(task, [call(**args)]))


WORDS = st.text(string.ascii_letters + "äß.-'\"{}$", min_size=1, max_size=8)


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS | st.integers(0, 99), min_size=1, max_size=3))
def test_a_template_answers_the_task_it_was_learnt_from(words, values):
    """With the values that were lifted; run with its defaults it is the plan that it was learnt from."""
    texts = [str(value) for value in values]
    task = " ".join(
        ["do", "this", *(part for pair in zip(words, [*texts, *words], strict=False) for part in pair)]
    )
    steps = [{"id": f"s{n}", "tool": "weather", "args": {"city": value}} for n, value in enumerate(values)]
    plan = plan_of(task, steps)
    try:
        learned = learn(plan)
    except InputRejected:
        return
    found = TaskPattern.of(learned.plan).match(task)
    defaults = {name: schema["default"] for name, schema in learned.plan.inputs.items()}
    assert found is not None
    assert {**defaults, **found} == defaults
    for before, after in zip(plan.steps, learned.plan.steps, strict=True):
        city = after.args["city"]
        name = next((name for name in defaults if city == f"${{inputs.{name}}}"), None)
        assert before.args["city"] == (city if name is None else defaults[name])


def plan_with_inputs(task, *named, args=None):
    """Return a plan whose inputs have these defaults, each the city of a step."""
    inputs = {
        name: {"type": {str: "string", int: "integer", float: "number"}[type(value)], "default": value}
        for name, value in named
    }
    steps = [call(f"s{n}", city=f"${{inputs.{name}}}") for n, name in enumerate(inputs)]
    extra = [call(f"a{n}", city=value) for n, value in enumerate(args or [])]
    return plan_of(task, [*steps, *extra], inputs=inputs)


WORK = "If 8 men or 20 women do it in 25 days, how long do 9 men and 8 women take"


def test_inputs_of_one_default_have_holes_of_their_own():
    """By the words beside their places: with one hole for both, the women of the second team would stay 8."""
    named = [("women_now", 8), ("men", 8), ("women_then", 20), ("days", 25), ("men_now", 9)]
    learned = learn(plan_with_inputs(WORK, *named)).plan
    assert learned.task == (
        "If {men} men or {women_then} women do it in {days} days, how long do {men_now} men and {women_now} women take"
    )
    task = "If 7 men or 21 women do it in 25 days, how long do 9 men and 6 women take"
    found = {"men": 7, "women_then": 21, "days": 25, "men_now": 9, "women_now": 6}
    assert TaskPattern.of(learned).match(task) == found


@pytest.mark.parametrize(
    ("task", "named", "args"),
    [
        ("Tell the weather in Rome today", [("city", "Rome"), ("place", "Rome")], ()),
        ("Compare the weather in Rome with that in Rome today", [("in_x", "Rome"), ("in_y", "Rome")], ()),
        (WORK, [("a", 8), ("b", 20), ("c", 9), ("d", 8)], ()),
        ("Tell the weather in Rome today", [("city", "Rome")], ["${'Hello Rome!'}"]),
        ("Fly to New York today please", [("state", "York")], ["New York"]),
    ],
    ids=["one place", "one word beside both", "no word of a name beside", "a literal", "a part of another"],
)
def test_a_template_that_would_lose_an_input_is_refused(task, named, args):
    """Else its default would answer, without a word, where the task says another value."""
    with pytest.raises(InputRejected, match=r"expected a |write a reference"):
        learn(plan_with_inputs(task, *named, args=args[:1] if args else None))


def test_defaults_of_other_types_are_one_where_words_say_them_alike():
    """8, 8.0 and "8" are all `8` in a task: each input has a hole of its own, or there is no template."""
    task = "If 8 men work with 8 girls, how much do they do"

    def teams(kind, default):
        inputs = {"men": {"type": "integer", "default": 8}, "girls": {"type": kind, "default": default}}
        steps = [{"id": "a", "tool": "work", "args": {"m": "${inputs.men}", "g": "${inputs.girls}"}}]
        return Plan.model_validate(
            {"firmplan": 1, "task": task, "inputs": inputs, "steps": steps, "output": "${a}"}
        )

    learned = learn(teams("number", 8.0)).plan
    assert learned.task == "If {men} men work with {girls} girls, how much do they do"
    found = TaskPattern.of(learned).match("If 9 men work with 9.5 girls, how much do they do")
    assert found == {"men": 9, "girls": 9.5}
    with pytest.raises(InputRejected, match="have the same default"):
        learn(teams("string", "8"))


@pytest.mark.parametrize("given", ["Oslo,Rome", "Oslo;Rome;Bonn", "Oslo, Rome"])
def test_a_comma_parts_words_of_a_text(given):
    """A list in the place of one word is not that one text; within a number a comma parts nothing."""
    inputs = {"city": {"type": "string", "default": "Lima"}, "sum": {"type": "string", "default": "900"}}
    pattern = TaskPattern.of(
        Plan.model_validate(
            {"firmplan": 1, "task": "Pay {sum} to {city} today", "inputs": inputs, "steps": []}
        )
    )
    assert pattern.match(f"Pay 800 to {given} today") is None
    assert pattern.match("Pay 1,300 to Oslo today") == {"sum": "1,300", "city": "Oslo"}


def test_numbers_are_found_by_place():
    """The `3` of `3.5`, `1,300` and `-3` is no 3; a number that a prompt still says is not lifted."""
    plan = plan_of("Walk 3.5 km, 1,300 steps, at -3 degrees for 3 days in Rome", [call(city="Rome", days=3)])
    assert learn(plan).plan.task == "Walk 3.5 km, 1,300 steps, at -3 degrees for {days} days in {city}"
    asked = {"id": "t", "ask": {"prompt": "Name 3 sights of Rome"}}
    plan = plan_of("Name the 3 best sights of Rome", [call(city="Rome", days=3), asked])
    assert learn(plan).plan.task == "Name the 3 best sights of {city}"
    plan = plan_of("Try 3 times to name the 3 best", [{**call(city="Rome", days=3), "retries": 3}])
    assert learn(plan).plan.inputs == {}


def test_a_part_of_a_longer_value_keeps_both():
    """With another city the plan would still say `York`."""
    plan = plan_of("Tell the weather in New York today", [call(city="New York"), call("b", city="York")])
    learned = learn(plan)
    assert (learned.plan.task, learned.plan.inputs) == ("Tell the weather in New York today", {})
    assert set(learned.kept) == {"New York", "York"}


TEXTS = st.lists(
    st.sampled_from(["Rome", "to", "New", "York", "in", "x1", "and"]), min_size=1, max_size=3
).map(" ".join)
VALUES = TEXTS | st.integers(-50, 50) | st.decimals(-9, 9, places=1).map(float)


@given(st.data())
def test_a_template_gives_exactly_the_values_of_a_sentence_or_is_no_hit(data):
    """Learnt from a sentence with distinct values, it never answers the same sentence with others wrongly."""
    count = data.draw(st.integers(1, 4))
    distinct = st.lists(VALUES, min_size=count, max_size=count, unique_by=str)
    words = data.draw(
        st.lists(st.sampled_from(["go", "in", "to", "and", "x1", "for"]), min_size=count, max_size=count)
    )
    values, others = data.draw(distinct), data.draw(distinct)
    is_input = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))

    def sentence(of):
        return (
            "Please do " + " ".join(f"{word} {value}" for word, value in zip(words, of, strict=True)) + " now"
        )

    named = [(f"i{n}", value) for n, value in enumerate(values) if is_input[n]]
    literals = [value for n, value in enumerate(values) if not is_input[n]]
    try:
        learned = learn(plan_with_inputs(sentence(values), *named, args=literals))
    except InputRejected:
        return
    places = [place for place in range(count) if is_input[place]]
    of = {name: place for (name, _), place in zip(named, places, strict=True)}
    of |= {each.name: values.index(each.value) for each in learned.lifted}
    found = TaskPattern.of(learned.plan).match(sentence(others))
    if found is None:
        return
    defaults = {name: schema["default"] for name, schema in learned.plan.inputs.items()}
    for name, value in {**defaults, **found}.items():
        assert value in (others[of[name]], str(others[of[name]]))
    for place, value in enumerate(values):
        assert place in of.values() or str(value) == str(others[place])


def test_what_a_plan_leaves_out_is_left_out_for_every_value():
    """The words that became holes are the inputs' names in `left_out`, too; other words stay, and so do parts of words."""
    plan = Plan.model_validate(
        {
            "firmplan": 1,
            "task": "Tell Rome the weather of Rome's twin Paris",
            "steps": [{"id": "w", "tool": "weather", "args": {"city": "Paris"}}],
            "output": "${w}",
            "left_out": ["send_mail: nobody in Paris is told, Parisians neither"],
        }
    )
    learned = learn(plan).plan
    assert learned.task == "Tell Rome the weather of Rome's twin {city}"
    assert learned.left_out == ("send_mail: nobody in {city} is told, Parisians neither",)
