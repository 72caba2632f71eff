"""Every format of a trace is read into the same conversation; what is odd about a file is told."""

from __future__ import annotations

import json
from pathlib import Path

import firmplan
import pytest
from agent_traces import TOOLS, chat
from firmplan import InputRejected, learn_from_trace
from firmplan.planner.traces.reading import read_traces

VECTORS = Path(firmplan.__file__).parent / "tests" / "vectors" / "traces"
FILES = sorted(path.name for path in VECTORS.iterdir())


def calls_of(trace):
    return [(call.tool, call.turn, call.outcome) for call in trace.calls]


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_plan(name):
    """The same conversation as chat messages, requests, items of the Responses API, OTLP exports and spans: one plan."""
    expected = learn_from_trace(VECTORS / "chat.json", TOOLS)
    found = learn_from_trace(VECTORS / name, TOOLS)
    assert found.ok, str(found)
    assert found.plan.digest == expected.plan.digest
    assert found.plan.task == expected.plan.task


def test_what_a_file_holds_may_be_handed_over_as_it_is():
    """Messages, a request or a list of files need no file of their own."""
    messages = json.loads((VECTORS / "chat.json").read_text())
    (trace,) = read_traces(messages)
    assert calls_of(trace) == calls_of(read_traces({"model": "m", "messages": messages})[0])
    assert calls_of(trace) == [
        ("search_flights", 0, "returned"),
        ("book", 1, "returned"),
        ("send_mail", 2, "returned"),
    ]
    assert trace.answer.startswith("I booked")


def test_parallel_calls_are_one_turn():
    """Calls of one message do not know the results of one another; in spans, calls that overlap in time do not."""
    messages = chat("x", [("a", {}, "1"), ("b", {}, "2")], ("c", {}, "3"))
    assert [turn for _, turn, _ in calls_of(read_traces(messages)[0])] == [0, 0, 1]

    def span(name, start, end):
        told = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.arguments": "{}",
        }
        return {"name": f"execute_tool {name}", "start_time": start, "end_time": end, "attributes": told}

    spans = [span("c", 30, 40), span("a", 10, 20), span("b", 15, 25)]
    assert [(tool, turn) for tool, turn, _ in calls_of(read_traces(spans)[0])] == [
        ("a", 0),
        ("b", 0),
        ("c", 1),
    ]


def test_a_request_that_is_sent_twice_counts_once():
    """Retries of requests, and histories that are cut short, add no second call."""
    messages = chat("x", ("find_customer", {"name": "A"}, {"id": 1}), ("remind", {"invoice_id": 1}, "ok"))
    requests = [{"messages": messages[:end]} for end in (1, 3, 3, 5)]
    shortened = {"messages": [messages[0], *messages[3:]]}
    (trace,) = read_traces([*requests, shortened])
    assert [call.tool for call in trace.calls] == ["find_customer", "remind"]


def test_a_file_may_have_several_conversations(tmp_path):
    """One request with its whole history a line: a trace each, named by its number."""
    lines = [
        {"messages": chat(f"Find {name}", ("find_customer", {"name": name}, {"id": 1}))}
        for name in ("Ann", "Bob")
    ]
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [trace.name for trace in read_traces(path)] == [
        "both.jsonl, conversation 1",
        "both.jsonl, conversation 2",
    ]


def test_a_last_line_that_is_cut_off_is_passed_over(tmp_path):
    """The program that wrote it died: what it had written is learnt, and the report says so."""
    messages = chat("Find Ann", ("find_customer", {"name": "Ann"}, {"id": 1}), answer="1")
    path = tmp_path / "cut.jsonl"
    path.write_text("\n".join(map(json.dumps, messages))[:-12])
    (trace,) = read_traces(path)
    assert trace.remarks == ("cut.jsonl, line 4: the last line is cut off; it is ignored",)
    assert [call.tool for call in trace.calls] == ["find_customer"]


def test_spans_without_content_say_what_to_switch_on():
    """Instrumentations leave out arguments unless they are told to record them."""
    span = {
        "name": "execute_tool find_customer",
        "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find_customer"},
    }
    with pytest.raises(InputRejected, match="capturing of message content"):
        learn_from_trace([span], TOOLS, task="Find Ann")


def test_a_span_that_failed_is_a_failed_call():
    """Status or `error.type` of an `execute_tool` span tell a failure."""
    told = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "find_customer",
        "gen_ai.tool.call.arguments": '{"name": "Ann"}',
    }
    failed = {
        "name": "execute_tool",
        "start_time": 1,
        "end_time": 2,
        "attributes": {**told, "error.type": "timeout"},
    }
    good = {
        "name": "execute_tool",
        "start_time": 3,
        "end_time": 4,
        "attributes": {**told, "gen_ai.tool.call.result": '{"id": 7}'},
    }
    found = learn_from_trace([failed, good], TOOLS, task="Find Ann")
    assert found.ok
    assert [(each.kind, each.message) for each in found.remarks if each.kind == "failed"] == [
        ("failed", "the call of 'find_customer' failed: timeout; the agent called it again (the trace: $[1])")
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "empty list"),
        ({"messages": [3]}, r"messages\[0\]: expected a message or an item, found int"),
        ([{"role": "assistant", "tool_calls": {}}, {"role": "assistant", "tool_calls": 7}], r"\[1\].tool_calls: expected a list"),
        ([{"role": "assistant", "tool_calls": [7]}], r"tool_calls\[0\]: expected a call, found int"),
        ([{"name": "x", "attributes": 7}], "attributes: expected an object"),
        ([{"name": "x", "attributes": {}, "start_time": "noon"}], "expected a time"),
        ({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a", "attributes": [{"key": "k", "value": {"oddValue": 1}}]}]}]}]}, "expected a value of OTLP"),
        ([{"name": "chat", "attributes": {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "{"}}], "'gen_ai.input.messages': expected JSON"),
        ([{"type": "function_call", "call_id": ["x"], "name": "a"}], "call_id: expected text"),
        ({"x": float("nan")}, "expected JSON"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused_with_its_place(value, said):
    """Each fault names where it stands."""
    with pytest.raises(InputRejected, match=said):
        learn_from_trace(value, TOOLS)
