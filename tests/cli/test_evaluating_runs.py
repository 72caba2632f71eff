"""`eval` runs plans over fakes, patches those that fail, and compares them with a ReAct loop on the same tools and model."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import Body, HttpError, ScriptedModel, Text, ToolCall

FAKES = '''
from firmplan import ToolError, tool

BOOKED = []

@tool(effect="read")
def room_of(person: str) -> str:
    """The room of a person."""
    if person != "Ada":
        raise ToolError(f"nobody is called {person}", code="not-found")
    return "R1"

@tool(effect="write")
def book(room: str) -> int:
    """Book a room; return how many are booked."""
    BOOKED.append(room)
    return len(BOOKED)
'''
BOOK = {
    "steps": [
        {"id": "r", "tool": "room_of", "args": {"person": "Ada"}},
        {"id": "b", "tool": "book", "args": {"room": "${r}"}},
    ],
    "output": "${b}",
}
WRONG = {**BOOK, "steps": [{"id": "r", "tool": "room_of", "args": {"person": "ada"}}, BOOK["steps"][1]]}
TASK = {"id": "book", "task": "Book the room of Ada", "expect": {"answer": {"equals": 1}}}
PATCH = {"operations": [{"op": "set", "step": "r", "at": "args.person", "value": "Ada"}]}


def is_patching(request):
    return "A plan ran" in request["messages"][0]["content"]


def is_react(request):
    return request["messages"][0]["content"].startswith("You solve tasks with tools")


def looped(request):
    """Answer the turns of a ReAct loop: look the room up, book it, answer in words."""
    told = [each["content"] for each in request["messages"] if each["role"] == "tool"]
    if not told:
        return ToolCall("room_of", {"person": "Ada"})
    return ToolCall("book", {"room": told[0]}) if len(told) == 1 else Text(f"Done: {told[1]} room is booked.")


def answer(request):
    """Plan, patch or loop, as the request asks."""
    if is_react(request):
        return looped(request)
    if is_patching(request):
        return PATCH
    return {"firmplan": 1, **(WRONG if request["model"] == "careless" else BOOK)}


@pytest.fixture
def evaluated(firmplan, home):
    """Run `eval` on one task over fakes, against a scripted model."""
    (home / "fakes.py").write_text(FAKES)

    def run(*words, script=answer, group=None, **task):
        group = {"tools": "fakes.py", "fakes": True, "tasks": [{**TASK, **task}], **(group or {})}
        (home / "set.json").write_text(json.dumps({"eval": 1, "groups": [group]}))
        with ScriptedModel(script) as model:
            run.requests = model.requests
            return firmplan("eval", "set.json", "--base-url", model.base_url, "--model", "m", *words)

    return run


def test_a_plan_that_writes_is_run_over_fakes_that_begin_anew(evaluated):
    """Each run finds the fakes as their file begins: every sample books the first room."""
    document = evaluated("--run", "--samples", "3", "--json").document
    (summary,) = document["planners"]
    assert (summary["answer"], summary["answer_first"], summary["good"]) == (1, 1, 1)
    assert evaluated("--run", "--json", group={"fakes": False}).document["planners"][0]["answer"] == 0


def test_a_task_that_fails_at_first_is_right_after_a_patch(evaluated):
    """The first run fails, the patch cures it; without patches the task is wrong."""
    words = ("--model", "careless", "--task", "book", "--json")
    patched = evaluated("--replan", "1", *words).document["planners"][1]
    plain = evaluated("--run", *words).document["planners"][1]
    assert [patched[name] for name in ("answer_first", "answer", "patched", "rescued")] == [0, 1, 1, 1]
    assert [plain[name] for name in ("answer_first", "answer", "patched", "rescued")] == [0, 0, 0, 0]
    assert patched["run_tokens"] > plain["run_tokens"] == 0
    shown = evaluated("--replan", "1", "--model", "careless").out.splitlines()
    head = next(line for line in shown if "AFTER PATCHES" in line)
    assert head.index("RIGHT AT FIRST") < head.index("AFTER PATCHES")
    assert any(line.split()[:5] == ["careless", "0%", "100%", "1", "1"] for line in shown)


def test_tokens_are_compared_with_a_loop_on_the_same_tools(evaluated):
    """Prompts, output and requests of both, as the endpoint counts them, and their ratios; the loop books its own first room."""
    done = evaluated("--against", "react", "--json")
    (summary,) = done.document["planners"]
    (score,) = done.document["tasks"][0]["scores"]
    loop, against = score["react"], summary["against"]
    assert (loop["answer"], loop["turns"], loop["error"]) == (True, 3, None)
    assert [each["tool"] for each in loop["made"]] == ["room_of", "book"]
    assert (against["samples"], against["planned"]["right"], against["react"]["right"]) == (1, 1, 1)
    assert (against["planned"]["requests"], against["react"]["requests"]) == (1, 3)
    usage = score["usage"]
    assert against["planned"]["completion_tokens"] == usage["completion_tokens"] > 0
    assert against["output_ratio"] == usage["completion_tokens"] / loop["usage"]["completion_tokens"]
    assert against["prompt_ratio"] == usage["prompt_tokens"] / loop["usage"]["prompt_tokens"]
    turns = [each for each in evaluated.requests if is_react(each)]
    assert [tool["function"]["name"] for tool in turns[0]["tools"]] == ["book", "room_of"]
    assert turns[2]["messages"][3] == {"role": "tool", "tool_call_id": "call_1", "content": "R1"}
    shown = evaluated("--against", "react").out
    assert "OUTPUT RATIO" in shown
    assert f"{against['output_ratio']:.2f}" in shown


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (ToolCall("room_of", {"person": "Bob"}), "nobody is called Bob"),
        (ToolCall("room_of", {"who": "Ada"}), "unknown-arg"),
        (ToolCall("rooms", {}), "there is no tool 'rooms'"),
        (ToolCall("room_of", {"person": "${inputs.x}"}), "nobody is called ${inputs.x}"),
        (
            {"choices": [{"message": {"tool_calls": [{"function": {"name": "book", "arguments": "{"}}]}}]},
            "no JSON",
        ),
        (
            {"choices": [{"message": {"tool_calls": [{"function": {"name": "book", "arguments": "[]"}}]}}]},
            "no object",
        ),
    ],
)
def test_a_loop_reads_what_went_wrong(evaluated, turn, told):
    """As a message of the tool, and goes on; texts of arguments are no expressions."""

    def script(request):
        if not is_react(request):
            return answer(request)
        return turn if len(request["messages"]) == 2 else Text("I give up.")

    done = evaluated("--against", "react", "--json", script=script)
    assert told in evaluated.requests[-1]["messages"][-1]["content"]
    loop = done.document["tasks"][0]["scores"][0]["react"]
    assert (loop["answer"], loop["turns"], loop["output"]) == (False, 2, "I give up.")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (HttpError(400, "no tools here"), "model-rejected"),
        (Body('{"choices": []}'), "model-unavailable"),
        (Body("hm", "text/plain"), "model-unavailable"),
        (ToolCall("room_of", {"person": "Ada"}), "no answer in 20 turns"),
    ],
)
def test_a_loop_that_fails_is_told_and_harms_nothing(evaluated, reply, why):
    """An endpoint without tools, no completion, no end: the plan is measured all the same."""
    done = evaluated(
        "--against", "react", "--json", script=lambda request: reply if is_react(request) else answer(request)
    )
    (score,) = done.document["tasks"][0]["scores"]
    assert why in score["react"]["error"]
    assert (score["react"]["answer"], score["answer"]) == (False, True)


def test_a_loop_over_real_tools_writes_nothing(evaluated, home):
    """It is offered no tool that writes, and a call of one reaches nobody."""
    (home / "fakes.py").write_text(FAKES.replace("BOOKED.append(room)", "open('booked', 'w').close()"))
    evaluated("--against", "react", "--json", group={"fakes": False})
    assert "there is no tool 'book'" in evaluated.requests[-1]["messages"][-1]["content"]
    first = next(each for each in evaluated.requests if is_react(each))
    assert [each["function"]["name"] for each in first["tools"]] == ["room_of"]
    assert not (home / "booked").exists()


def test_a_price_that_is_not_known_is_none(evaluated, home, monkeypatch):
    """A part of a price is not the price: a run whose model has none costs `None`; no request costs nothing."""
    assert evaluated("--against", "react", "--json").document["planners"][0]["usd"] is None
    prices = {"prices": 1, "models": [{"model": "m", "input": 1, "output": 1}]}
    (home / "prices.json").write_text(json.dumps(prices))
    monkeypatch.setenv("FIRMPLAN_PRICES", str(home / "prices.json"))
    (priced,) = evaluated("--against", "react", "--json").document["planners"]
    assert priced["usd"] == pytest.approx(priced["tokens"] / 1_000_000)
    assert priced["run_usd"] == 0
    react = priced["against"]["react"]
    assert react["usd"] == pytest.approx((react["prompt_tokens"] + react["completion_tokens"]) / 1_000_000)


LINES = [
    {
        "id": "two",
        "task": "The weather in Rome and Oslo",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}},
                        "required": ["city"],
                    },
                },
            }
        ],
        "calls": [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")],
        "results": [
            {"name": "weather", "arguments": {"city": "Rome"}, "result": 21},
            {"name": "weather", "result": 4},
        ],
        "expect": {"answer": {"contains": [21, 4]}},
    }
]


def test_the_calls_of_a_function_calling_set_are_compared(firmplan, home):
    """Those that a run makes, whatever their order; the same for the loop."""
    (home / "set.jsonl").write_text("\n".join(json.dumps(each) for each in LINES))

    def script(request):
        if is_react(request):
            told = [each["content"] for each in request["messages"] if each["role"] == "tool"]
            return (
                Text(" and ".join(told))
                if len(told) == 2
                else ToolCall("weather", {"city": ("Rome", "Oslo")[len(told)]})
            )
        cities = ("Rome", "Oslo") if request["model"] == "good" else ("Rome",)
        steps = [{"id": city.lower(), "tool": "weather", "args": {"city": city}} for city in cities]
        return {"firmplan": 1, "steps": steps, "output": [f"${{{city.lower()}}}" for city in cities]}

    with ScriptedModel(script) as model:
        words = (
            "eval",
            "set.jsonl",
            "--base-url",
            model.base_url,
            "--model",
            "good",
            "--model",
            "bad",
            "--against",
            "react",
        )
        good, bad = firmplan(*words, "--json").document["planners"]
        shown = firmplan(*words)
    assert (good["calls"], good["good"], bad["calls"], bad["good"]) == (1, 1, 0, 0)
    assert good["against"]["react"]["right"] == 1
    assert "bad, two: another answer; other calls than expected" in shown.err
    assert "RETRIEVAL OF" in shown.out


def test_a_saved_plan_of_the_set_should_answer(firmplan, home):
    """The planner has the plans of the set's library, and its source is compared."""
    (home / "plans").mkdir()
    plan = {
        "firmplan": 1,
        "task": "Add 1 and 2",
        "steps": [{"id": "s", "tool": "add", "args": {"a": 1, "b": 2}}],
        "output": "${s}",
    }
    (home / "plans" / "three.json").write_text(json.dumps(plan))
    tasks = [
        {"id": "same", "task": "Add 1 and 2", "expect": {"plan": "three"}},
        {"id": "other", "task": "Make three with add", "expect": {"plan": "three"}},
    ]
    (home / "set.json").write_text(
        json.dumps({"eval": 1, "library": "plans", "groups": [{"tools": "tools.py", "tasks": tasks}]})
    )
    with ScriptedModel(lambda _: {key: value for key, value in plan.items() if key != "task"}) as model:
        document = firmplan(
            "eval", "set.json", "--base-url", model.base_url, "--model", "m", "--json"
        ).document
    scores = {each["task"]: each["scores"][0] for each in document["tasks"]}
    assert (scores["same"]["saved"], scores["other"]["saved"], scores["other"]["good"]) == (
        True,
        False,
        False,
    )
    assert document["planners"][0]["saved"] == 0.5
    assert {each["what"]: each["mrr"] for each in document["retrieval"]} == {"saved plans": 1}
