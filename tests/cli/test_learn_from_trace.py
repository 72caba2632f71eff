"""`firmplan learn`: a trace in, a plan and its proof out; the exit code says how far both can be relied on."""

from __future__ import annotations

import json

import pytest
from agent_traces import chat

WORDS = ("--tools", "tools.py")


@pytest.fixture
def trace_file(home):
    def write(messages, name="trace.jsonl"):
        (home / name).write_text("".join(json.dumps(each) + "\n" for each in messages), encoding="utf-8")
        return name

    return write


def test_a_trace_becomes_a_plan_that_runs(firmplan, home, trace_file):
    """The plan that is written runs with the real tools; the report stands on stdout, and names the plan's file on stderr."""
    messages = chat(
        "Add 40 and 2, then halve it", ("add", {"a": 40, "b": 2}, 42), ("half", {"n": 42}, 21), answer="21"
    )
    done = firmplan("learn", "--trace", trace_file(messages), *WORDS, "--output", "plan.yaml")
    assert done.code == 0
    assert "the plan makes the 2 calls of the trace" in done.out
    assert "half.n = ${add}  [result]" in done.out
    assert "written to plan.yaml" in done.err
    run = firmplan("run", "plan.yaml", *WORDS, "--input", "a=6", "--json").document
    assert run["output"] == "4"


def test_json_is_one_document(firmplan, trace_file):
    """`--json` has plan, origins, remarks and the proof."""
    messages = chat("Add 40 and 2", ("add", {"a": 40, "b": 2}, 42), answer="42")
    found = firmplan("learn", "--trace", trace_file(messages), *WORDS, "--json").document
    assert found["ok"]
    assert found["rehearsals"][0]["made"] == 1
    assert {each["kind"] for each in found["origins"]} == {"input", "expression"}
    assert found["plan"]["steps"][0]["tool"] == "add"


def test_without_a_file_the_plan_is_printed(firmplan, trace_file):
    """The plan stands on stdout, the report beside it."""
    done = firmplan(
        "learn", "--trace", trace_file(chat("Add 40 and 2", ("add", {"a": 40, "b": 2}, 42))), *WORDS
    )
    assert json.loads(done.out)["output"] == "${add}"
    assert "the plan makes the 1 call of the trace" in done.err


def test_a_tool_that_is_missing_is_a_fault_of_the_plan(firmplan, trace_file):
    """The plan is proposed and rehearsed, and the check says what is missing: exit code 2."""
    messages = chat(
        "Add 40 and 2", ("add", {"a": 40, "b": 2}, 42), ("publish", {"value": 42}, "ok"), answer="ok"
    )
    done = firmplan("learn", "--trace", trace_file(messages), *WORDS, "--json")
    assert done.code == 2
    assert [each["code"] for each in done.document["problems"] if each["severity"] == "error"] == [
        "unknown-tool"
    ]
    assert done.document["rehearsals"][0]["ok"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found an empty file"),
        ('{"role": "user", "content": "x"}\n{"role": }\n{"role": "user"}\n', "line 2, column 10"),
        ('[{"role": "user",\n "content": oops}]', "line 2, column 13"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[1, 2]", "$[0]: expected an object, found int"),
        ('[{"role": "wizard", "content": "x"}]', "$[0]: expected a message with a role"),
        ('{"hello": 1}', "an object with hello"),
        ('[{"role": "user", "content": "x"}]', "no call of a tool"),
        ('[{"role": "assistant", "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]}]', "$[0].tool_calls[0]: expected a call with the name of a tool"),
        ('{"resourceSpans": [{"scopeSpans": 3}]}', "$.resourceSpans[0].scopeSpans: expected a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_with_its_place(firmplan, home, text, said):
    """Every bad file is an error of the command, with file, line or path."""
    (home / "bad.json").write_text(text, encoding="utf-8")
    done = firmplan("learn", "--trace", "bad.json", *WORDS)
    assert done.code == 2
    assert "bad.json" in done.err
    assert said in done.err
