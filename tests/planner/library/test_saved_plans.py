"""Saved plans are the planner that needs no model: a task of their pattern is answered by them, inputs from the words."""

from __future__ import annotations

import asyncio
import re

import pytest
from firmplan import ConfigError, Engine, InputRejected, Plan, Planner, PlanningFailed, SavedPlan, tool
from firmplan.planner.library.pattern import TaskPattern, unquoted
from hypothesis import given
from hypothesis import strategies as st


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


TEXT = {"type": "string"}


def plan_of(task, tool="weather", **inputs):
    """Return a plan that answers tasks of a pattern and uses every input."""
    shown = {name: f"${{inputs.{name}}}" for name in inputs}
    steps = [{"id": "here", "tool": tool, "args": {"city": "Rome"}}]
    return Plan.model_validate(
        {
            "firmplan": 1,
            "task": task,
            "inputs": inputs,
            "steps": steps,
            "output": {**shown, "here": "${here}"},
        }
    )


def plan_with(library, task, monkeypatch=None, **options):
    return asyncio.run(Planner(library=library).plan(task, [weather], **options))


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    for name in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


COMPARE = plan_of("Compare the weather in {a} and {b}", a=TEXT, b=TEXT)


def matched(task, pattern, **inputs):
    return TaskPattern.of(plan_of(pattern, **inputs)).match(task)


@pytest.mark.parametrize(
    "task",
    [
        "Compare the weather in Rome and Oslo",
        "compare  the WEATHER in Rome\n and Oslo.",
        " Compare the weather in 'Rome' and “Oslo”?",
    ],
)
def test_case_space_quotes_and_the_last_mark_do_not_matter(task):
    """A person's way of writing the same task is the same task."""
    planned = plan_with([COMPARE], task)
    assert planned.inputs == {"a": "Rome", "b": "Oslo"}
    assert planned.plan == COMPARE
    assert planned.source == "saved:Compare the weather in {a} and {b}"
    assert planned.usage.requests == 0


@pytest.mark.parametrize(
    ("schema", "words", "value"),
    [
        (TEXT, "New York", "New York"),
        ({"type": "integer"}, "1,200", 1200),
        ({"type": "integer"}, "-3", -3),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "number"}, "3", 3),
        ({"type": "boolean"}, "Yes", True),
        ({"type": "boolean"}, "off", False),
        ({"enum": ["Low", "High", 3]}, "high", "High"),
        ({"enum": ["Low", "High", 3]}, "3", 3),
        ({"const": "Now"}, "now", "Now"),
        ({"type": "array", "items": TEXT}, "Rome, Oslo and New York", ["Rome", "Oslo", "New York"]),
        ({"type": "array", "items": TEXT}, "Rome, Oslo, and Bonn", ["Rome", "Oslo", "Bonn"]),
        ({"type": "array", "items": {"type": "integer"}}, "1, 2 & 3", [1, 2, 3]),
        ({"type": "array"}, '["a and b"]', ["a and b"]),
        ({"type": ["integer", "null"]}, "7", 7),
        ({"anyOf": [TEXT, {"type": "integer"}]}, "7", 7),
        ({"type": "object"}, '{"x": 1}', {"x": 1}),
    ],
)
def test_words_become_values_of_the_inputs_type(schema, words, value):
    """Each type is read from words in its own way, and only from words that are of it."""
    assert matched(f"Take {words} now", "Take {x} now", x=schema) == {"x": value}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer"}, "2.5"),
        ({"type": "integer"}, "three"),
        ({"type": "integer"}, "9" * 19),
        ({"type": "number"}, "1e"),
        ({"type": "boolean"}, "maybe"),
        ({"enum": ["Low"]}, "Lower"),
        ({"type": "array", "items": {"type": "integer"}}, "1, two"),
        ({"type": "array", "items": {"type": "object"}}, "a, b"),
        ({"type": "object"}, "thing"),
        ({"type": "null"}, "null"),
    ],
)
def test_words_of_another_type_do_not_fit(schema, words):
    """A hole takes no words that its input cannot be read from."""
    assert matched(f"Take {words} now", "Take {x} now", x=schema) is None


def test_types_of_the_plan_are_followed():
    """An input's schema may be a reference to the plan's types."""
    plan = COMPARE.model_copy(
        update={
            "task": "Sort by {a}",
            "inputs": {"a": {"$ref": "#/types/Key"}},
            "types": {"Key": {"enum": ["Name", "Age"]}},
        }
    )
    assert TaskPattern.of(plan).match("sort by AGE") == {"a": "Age"}


def test_a_hole_takes_as_few_words_as_will_do():
    """Where several splits would do, the first hole is the shortest; a split that does not fit is passed over."""
    assert matched("From A to B to C", "From {x} to {y}", x=TEXT, y=TEXT) == {"x": "A", "y": "B to C"}
    assert matched("Pay 3 to 4 people 5", "Pay {x} people {n}", x=TEXT, n={"type": "integer"}) == {
        "x": "3 to 4",
        "n": 5,
    }
    assert matched("Pay x to 3 and y to 4", "Pay {x} to {n}", x=TEXT, n={"type": "integer"}) == {
        "x": "x to 3 and y",
        "n": 4,
    }
    assert matched("Ping Rome, then Rome", "Ping {x}, then {x}", x=TEXT) == {"x": "Rome"}
    assert matched("Ping Rome, then Oslo", "Ping {x}, then {x}", x=TEXT) is None


def test_braces_that_name_no_input_are_text():
    """Only inputs are holes; two holes that nothing tells apart are no pattern."""
    assert matched("Fill {form} with 3", "Fill {form} with {n}", n={"type": "integer"}) == {"n": 3}
    assert TaskPattern.of(plan_of("Join {a}{b}", a=TEXT, b=TEXT)) is None
    assert TaskPattern.of(Plan.model_validate({"firmplan": 1, "steps": []})) is None


def test_long_tasks_cost_no_time():
    """A hostile task of many delimiters is answered at once; past a bound patterns are not asked."""
    holes = {name: {"type": "integer"} for name in "abcdef"}
    pattern = TaskPattern.of(plan_of(" x ".join(f"{{{name}}}" for name in holes), **holes))
    assert pattern.match("1 x " * 480 + "one") is None
    assert pattern.match("1 x " * 4800) is None


LEARNT = {"a": {**TEXT, "default": "Rome"}, "b": {**TEXT, "default": "New York"}}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Oslo with San Remo", {"a": "Oslo", "b": "San Remo"}),
        ("Oslo with Bonn and tell the warmer", None),
        ("San Remo with Oslo", None),
        ("Oslo with Bonn with Rome", None),
    ],
)
def test_a_hole_takes_no_more_words_than_its_default(words, found):
    """Text that goes on is another task; so is one that can be read in two ways."""
    assert (
        matched(f"Compare the weather of {words}", "Compare the weather of {a} with {b}", **LEARNT) == found
    )
    two = {"a": {**TEXT, "default": "one two three"}, "b": {**TEXT, "default": "one two three"}}
    assert matched("Go from A to B to C", "Go from {a} to {b}", **two) is None
    assert matched("Go from A to C", "Go from {a} to {b}", **two) == {"a": "A", "b": "C"}


def test_a_match_in_doubt_is_told_where_no_model_is():
    """It is an attempt that says which input would take too much."""
    saved = plan_of("Compare the weather of {a} with {b}", **LEARNT)
    with pytest.raises(PlanningFailed, match="'b' would take 5 words, but its default has 2"):
        plan_with([SavedPlan("compare", saved)], "Compare the weather of Oslo with Bonn and tell the warmer")


def test_a_pattern_that_is_all_hole_answers_nothing():
    """It would answer every task."""
    for task in ("{x}", "{x}, {y}!", "{n}"):
        plan = plan_of(task, x=TEXT, y=TEXT, n={"type": "integer"})
        assert TaskPattern.of(plan) is None
        with pytest.raises(PlanningFailed):
            plan_with([SavedPlan("all", plan)], "7")
        with Engine([weather], store="memory:") as engine, pytest.raises(InputRejected, match="only holes"):
            engine.save_plan_sync("all", plan)


def test_a_template_that_has_lost_a_hole_answers_nothing():
    """Two inputs of one default, of which one has the holes of both: learnt so before, refused where it is saved now."""
    eight = {"type": "integer", "default": 8}
    plan = plan_of("Take {a} men and {a} women", a=eight, b=eight)
    assert TaskPattern.of(plan) is None
    with Engine([weather], store="memory:") as engine, pytest.raises(InputRejected, match="a hole for 'b'"):
        engine.save_plan_sync("take", plan)


def test_the_more_specific_pattern_wins():
    """Most words of its own, then a type over free text, then the name: the same on every machine."""
    plans = [
        SavedPlan("b", plan_of("Show {what}", what=TEXT)),
        SavedPlan("a", plan_of("Show {what}", what=TEXT)),
        SavedPlan("c", plan_of("Show invoice {n}", n=TEXT)),
        SavedPlan("d", plan_of("Show invoice {n}", n={"type": "integer"})),
        SavedPlan("e", plan_of("Show invoice 7")),
    ]
    tasks = ["show x", "show invoice x", "show invoice 6", "show invoice 7"]
    sources = [plan_with(plans, task).source for task in tasks]
    assert sources == ["saved:a", "saved:c", "saved:d", "saved:e"]


def test_given_inputs_fill_the_rest():
    """What is given goes before the words; the pattern itself, holes and all, takes everything from what is given."""
    plan = plan_of("Greet {name}", name=TEXT, times={"type": "integer"}, mood={**TEXT, "default": "gay"})
    planned = plan_with([plan], "greet Ada", inputs={"times": 2.0})
    assert planned.inputs == {"name": "Ada", "times": 2, "mood": "gay"}
    assert plan_with([plan], "Greet {name}", inputs={"name": "Bo", "times": 1}).inputs["name"] == "Bo"
    assert plan_with([plan], "greet Ada", inputs={"times": 1, "name": "Bo"}).inputs["name"] == "Bo"


def test_the_plan_found_can_be_made_to_run_as_it_is():
    """`runnable` is the plan with the found inputs as defaults."""
    planned = plan_with([COMPARE], "Compare the weather in Rome and Oslo")
    assert {name: each["default"] for name, each in planned.runnable.inputs.items()} == {
        "a": "Rome",
        "b": "Oslo",
    }


def test_a_plan_that_lacks_an_input_comes_after_those_that_lack_none():
    """Whoever runs it is told what is missing; a complete one is better, however unspecific."""
    lacking = SavedPlan("lacking", plan_of("Pay all bills", budget={"type": "integer"}))
    assert plan_with([lacking], "pay all bills").inputs == {}
    whole = SavedPlan("whole", plan_of("Pay {what}", what=TEXT))
    assert plan_with([lacking, whole], "pay all bills").source == "saved:whole"


def test_a_saved_plan_that_does_not_pass_its_check_is_passed_over():
    """It is an attempt with its problems, and the next that fits answers."""
    broken = SavedPlan("broken", plan_of("Compare the weather in {a} and Oslo", tool="wether", a=TEXT))
    planned = plan_with([broken, SavedPlan("good", COMPARE)], "Compare the weather in Rome and Oslo")
    assert planned.source == "saved:good"
    with pytest.raises(PlanningFailed, match="did you mean 'weather'") as caught:
        plan_with([broken], "Compare the weather in Rome and Oslo")
    assert [attempt.source for attempt in caught.value.attempts] == ["saved:broken"]


def test_a_folder_is_a_library(tmp_path):
    """Files are plans by their names, read anew for each task; other files are left alone."""
    planner = Planner(library=tmp_path)
    (tmp_path / "notes.txt").write_text("not a plan")
    COMPARE.save(tmp_path / "compare.yaml")
    planned = asyncio.run(planner.plan("Compare the weather in Rome and Oslo", [weather]))
    assert planned.source == "saved:compare"
    plan_of("Say hi").save(tmp_path / "hi.json")
    assert [each.name for each in planner.library] == ["compare", "hi"]


def test_the_saved_argument_stands_beside_the_library():
    """An engine hands over the plans of its store."""
    saved = [SavedPlan("kept", COMPARE)]
    assert plan_with(None, "Compare the weather in Rome and Oslo", saved=saved).source == "saved:kept"


def test_without_a_model_the_error_names_the_nearest_tasks_and_the_settings():
    """Nothing fits and nobody can be asked: what is near, and how to configure a model."""
    library = [SavedPlan("compare", COMPARE), SavedPlan("bills", plan_of("Pay all bills"))]
    with pytest.raises(PlanningFailed) as caught:
        plan_with(library, "Compare the climate of Rome with that of Oslo")
    message = str(caught.value)
    for words in ("FIRMPLAN_MODEL", "FIRMPLAN_BASE_URL", "OPENAI_API_KEY", "{a} and {b}  (compare)"):
        assert words in message
    assert message.index("(compare)") < message.index("(bills)")
    with pytest.raises(PlanningFailed, match="No plans are saved"):
        plan_with(None, "Compare")


def test_a_library_that_is_none_is_said_at_once(tmp_path):
    """A missing folder, something else, and a file that is no plan are named."""
    with pytest.raises(ConfigError, match="found nothing at"):
        Planner(library=tmp_path / "missing")
    with pytest.raises(ConfigError, match="expected a folder"):
        Planner(library=[3])
    (tmp_path / "bad.json").write_text('{"firmplan": 1}')
    with pytest.raises(ConfigError, match=r"bad\.json holds no plan"):
        plan_with(tmp_path, "x")


WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=6)
PHRASES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@given(st.lists(PHRASES, min_size=1, max_size=5), PHRASES, PHRASES)
def test_what_a_pattern_finds_put_back_is_the_task(literals, first, second):
    """Filling a pattern's holes with what it found gives the task again, but for case, space and quotes."""
    text = " ".join([*literals, "{a}", literals[0], "{b}"])
    pattern = TaskPattern.of(plan_of(text, a=TEXT, b=TEXT))
    task = text.replace("{a}", first, 1).replace("{b}", second, 1)
    found = pattern.match(task)
    if found:
        again = pattern.text.replace("{a}", found["a"], 1).replace("{b}", found["b"], 1)
        assert squeezed(again) == squeezed(task)
    else:
        assert any(unquoted(part).strip(".!? ") == "" for part in (first, second))


def squeezed(text):
    """Return a text without what does not matter to a pattern."""
    return re.sub(r"[\s\"'`“”‘’«».!?]", "", text).casefold()  # noqa: RUF001  # the quotes that people type
