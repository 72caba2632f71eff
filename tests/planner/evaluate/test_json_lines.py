"""Sets of function calling are read as people have them, and faulty lines are told by their numbers."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError
from firmplan.planner.evaluate.expected_calls import ExpectedCall, MadeCall, are_expected
from firmplan.planner.evaluate.task_set import TaskSet

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
LINE = {
    "id": "rome",
    "task": "The weather in Rome",
    "tools": [WEATHER],
    "calls": [{"name": "weather", "arguments": {"city": "Rome"}}],
}
BFCL = {
    "id": "simple_0",
    "question": [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Area of a triangle, base 10, height 5"},
        ]
    ],
    "function": [
        {
            "name": "geometry.area",
            "description": "Area of a triangle.",
            "parameters": {
                "type": "dict",
                "properties": {
                    "base": {"type": "float"},
                    "height": {"type": "integer"},
                    "unit": {"type": "any"},
                    "points": {"type": "tuple", "items": {"type": "integer"}},
                },
                "required": ["base", "height"],
            },
        }
    ],
}
TRUTH = [{"geometry.area": {"base": [10], "height": [5], "unit": ["units", ""], "points": [""]}}]


def written(tmp_path, *lines, name="set.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines))
    return TaskSet.load(path)


def expected(task):
    return task.expected.calls


def test_a_line_is_a_task_with_its_tools_and_calls(tmp_path):
    """Tools are fakes that give what the line says and record their calls; a new set of them knows nothing of the last one's calls."""
    results = [{"name": "weather", "arguments": {"city": "Rome"}, "result": {"celsius": 21}}]
    (task,) = written(tmp_path, {**LINE, "results": results}, "").tasks
    assert (task.id, task.task, task.expected.tools) == ("rome", "The weather in Rome", ("weather",))
    assert expected(task) == (ExpectedCall.exact("weather", {"city": "Rome"}),)
    fakes = task.fakes()
    tool = fakes.tools.get("weather")
    assert tool.description == "The weather of a city."
    assert asyncio.run(tool.source(city="Rome")) == {"celsius": 21}
    assert asyncio.run(tool.source(city="Oslo")) is None
    assert fakes.calls == [MadeCall("weather", {"city": "Rome"}), MadeCall("weather", {"city": "Oslo"})]
    assert task.fakes().calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"calls": [{"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
        {
            "calls": [
                {
                    "type": "function",
                    "id": "c",
                    "function": {"name": "weather", "arguments": {"city": "Rome"}},
                }
            ]
        },
        {"expected_calls": LINE["calls"], "calls": None},
        {"tools": None, "functions": [WEATHER["function"]]},
        {"tools": None, "function": WEATHER["function"]},
        {"task": None, "prompt": "The weather in Rome"},
        {"task": None, "question": [{"role": "user", "content": "The weather in Rome"}]},
        {
            "task": None,
            "calls": None,
            "messages": [
                {"role": "system", "content": "You help."},
                {"role": "user", "content": "The weather in Rome"},
                {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": '{"celsius": 3}'},
                {"role": "assistant", "content": "3 degrees"},
            ],
            "parallel_tool_calls": False,
        },
    ],
)
def test_every_accepted_form_is_the_same_task(tmp_path, changes):
    """OpenAI's and BFCL's names of keys, arguments as text, fine-tuning sets."""
    line = {key: value for key, value in {**LINE, **changes}.items() if value is not None}
    (task,) = written(tmp_path, line).tasks
    assert (task.task, task.tools.names) == ("The weather in Rome", ("weather",))
    assert expected(task) == (ExpectedCall.exact("weather", {"city": "Rome"}),)
    if "messages" in line:
        assert asyncio.run(task.fakes().tools.get("weather").source(city="Rome")) == {"celsius": 3}


def test_the_files_of_bfcl_are_read_as_they_are(tmp_path):
    """JSON lines that are called `.json`, Python's names of types, answers in a folder beside them."""
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "possible_answer" / "simple.json").write_text(
        "\n".join(json.dumps({"id": id_, "ground_truth": TRUTH}) for id_ in ("simple_0", "simple_1"))
    )
    found = written(tmp_path, BFCL, {**BFCL, "id": "simple_1"}, name="simple.json")
    task = found.tasks[0]
    assert task.task == "Area of a triangle, base 10, height 5"
    properties = task.tools.get("geometry.area").parameters["properties"]
    assert [properties[name].get("type") for name in ("base", "height", "unit", "points")] == [
        "number",
        "integer",
        None,
        "array",
    ]
    (call,) = expected(task)
    assert call.fits(MadeCall("geometry.area", {"base": 10.0, "height": 5}))
    assert call.fits(MadeCall("geometry.area", {"base": 10, "height": 5, "unit": "Units"}))
    assert not call.fits(MadeCall("geometry.area", {"base": 10, "height": 5, "unit": "miles"}))
    assert not call.fits(MadeCall("geometry.area", {"base": 10}))


def test_bad_lines_are_told_together_by_number(tmp_path):
    """Each with what was expected and found; the good lines between them do not hide the others."""
    lines = [
        "not JSON",
        LINE,
        [1],
        {**LINE, "id": "b", "taks": "x"},
        {**LINE, "id": "c", "tools": [{"name": ""}]},
        {**LINE, "id": "d", "calls": [{"weather": {"city": "Rome"}}]},
        {**LINE, "id": "e", "calls": [{"name": "weather", "arguments": "{"}]},
        {**LINE},
        {key: value for key, value in LINE.items() if key != "tools"},
        {
            **LINE,
            "id": "f",
            "tools": [{**WEATHER["function"], "parameters": {"properties": {"a": {"type": "strin"}}}}],
        },
    ]
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, *lines)
    told = str(caught.value).splitlines()
    for line, number, words in (
        (0, 1, "found no JSON"),
        (1, 3, "expected one JSON object, found [1]"),
        (2, 4, "unknown key 'taks'; did you mean 'task'"),
        (3, 5, "'tools'[0]: expected"),
        (4, 6, "'calls'[0]: expected"),
        (5, 7, "arguments: expected JSON"),
        (6, 8, "found 'rome' again"),
        (7, 9, "expected the tools under one of tools, functions, function, found none of them"),
        (8, 10, "weather"),
    ):
        assert f"set.jsonl: line {number}: " in told[line]
        assert words in told[line]
    with pytest.raises(ConfigError, match="and 5 more"):
        written(tmp_path, *["{"] * 15)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            {**BFCL, "question": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]},
            "one turn, found 2",
        ),
        ({**LINE, "question": "again"}, "found task, question"),
        ({**LINE, "results": 3}, "'results'"),
        ({**LINE, "results": [{"name": "weather"}]}, r"'results'\[0\]"),
        ({**LINE, "inputs": []}, "'inputs' and 'expect'"),
        ({**LINE, "expect": {"answers": 1}}, "task 'rome'.*did you mean 'answer'"),
        ({**LINE, "task": " "}, "'task': expected a text"),
        ({**LINE, "calls": {}}, "'calls': expected a list"),
    ],
)
def test_what_a_set_cannot_say_is_refused(tmp_path, line, words):
    """Dialogues, two tasks in a line, values of other shapes."""
    with pytest.raises(ConfigError, match=words):
        written(tmp_path, line)


def test_a_file_without_a_task_is_no_set(tmp_path):
    """Whatever its name."""
    with pytest.raises(ConfigError, match="found none"):
        written(tmp_path, "", "")
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        TaskSet.load(tmp_path / "none.jsonl")


def call(tool="f", **args):
    return MadeCall(tool, args)


@pytest.mark.parametrize(
    ("made", "wanted", "is_right"),
    [
        ([], [], True),
        ([call(a=1)], [], False),
        ([], [{"a": [1]}], False),
        ([call(a=2), call(a=1)], [{"a": [1]}, {"a": [2]}], True),
        ([call(a=1), call(a=1)], [{"a": [1]}, {"a": [2]}], False),
        # The first call fits both; only the pairing that gives it the second one is complete.
        ([call(a=1), call(a=2)], [{"a": [1, 2]}, {"a": [1]}], True),
        ([call(a=2), call(a=1)], [{"a": [1, 2]}, {"a": [1]}], True),
        ([call(a=True)], [{"a": [1]}], False),
        ([call(a=1)], [{"a": [True]}], False),
        ([call(a="New York, NY")], [{"a": ["new york ny"]}], True),
        ([call(a={"x": 1})], [{"a": [{"x": [1, 2]}]}], True),
        ([call(a={"x": 3})], [{"a": [{"x": [1, 2]}]}], False),
        ([call(a=[1, 2])], [{"a": [[1, 2]]}], True),
        ([call(a=[2, 1])], [{"a": [[1, 2]]}], False),
        ([call(a=1, b=2)], [{"a": [1]}], False),
        ([call("g", a=1)], [{"a": [1]}], False),
    ],
)
def test_calls_are_right_if_each_is_one_that_is_expected(made, wanted, is_right):
    """In any order; none twice for one, none missing, none too many."""
    assert are_expected(made, [ExpectedCall.of_options("f", each) for each in wanted]) is is_right


def test_exact_calls_are_exact():
    """Unlike in BFCL, whose texts are compared without case and punctuation."""
    exact = ExpectedCall.exact("f", {"a": "Rome", "n": {"x": 1}})
    assert exact.fits(call(a="Rome", n={"x": 1.0}))
    assert not exact.fits(call(a="rome", n={"x": 1}))
    assert not exact.fits(call(a="Rome"))
    assert not exact.fits(call(a="Rome", n={"x": 1, "y": 2}))
