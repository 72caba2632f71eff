"""A dry run shows what would be sent, word for word, and sends nothing."""

from __future__ import annotations

import asyncio

from firmplan import Plan, Planner, SavedPlan, tool
from firmplan.planner.drafting.drafting import tokens_of
from firmplan.testing import ScriptedModel
from tool_catalogue import catalogue


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


GOOD = {"firmplan": 1, "task": "Warmth of {a}", "inputs": {"a": {"type": "string"}}, "steps": []}
GOOD["steps"] = [{"id": "w", "tool": "weather", "args": {"city": "${inputs.a}"}}]
NOTHING = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}
SAVED = SavedPlan("warmth", Plan.model_validate(GOOD))


def test_what_is_shown_is_what_is_sent():
    """Messages and schema of the preview are those of the request."""

    async def main():
        async with ScriptedModel([GOOD]) as model:
            planner = Planner("m", base_url=model.base_url)
            given = {"inputs": {"a": "x"}, "saved": [SAVED]}
            preview = planner.preview("Tell the warmth", [weather], **given)
            assert model.requests == []
            await planner.plan("Tell the warmth", [weather], **given)
            return preview, model.requests[0]

    preview, request = asyncio.run(main())
    assert [message.to_dict() for message in preview.messages] == request["messages"]
    shown = request["tools"][0]["function"]["parameters"]
    assert shown["properties"] == preview.schema["properties"]
    assert (preview.form, preview.tools, preview.examples) == ("typed", ("weather",), ("warmth",))
    assert preview.model.startswith("m at http://127.0.0.1")


def test_a_task_that_is_answered_says_so(monkeypatch):
    """And where no model is configured there is none to name."""
    monkeypatch.delenv("FIRMPLAN_MODEL", raising=False)
    preview = Planner().preview("warmth of Rome", [weather], saved=[SAVED])
    assert (preview.answered_by, preview.model) == ("saved:warmth", None)


def test_a_choice_of_tools_is_shown_as_it_is_sent():
    """Of many tools the small request comes first, word for word, with its tokens; it says what comes after it, too."""
    tools = catalogue()

    async def main():
        async with ScriptedModel([{"reasoning": "..", "tools": ["find_invoice"]}, NOTHING]) as model:
            planner = Planner("m", base_url=model.base_url)
            preview = planner.preview("Find the bill of Acme", tools)
            await planner.plan("Find the bill of Acme", tools)
            return preview, model.requests[0]

    preview, request = asyncio.run(main())
    assert [message.to_dict() for message in preview.choice.messages] == request["messages"]
    assert request["tools"][0]["function"]["parameters"]["properties"] == preview.choice.schema["properties"]
    told = preview.to_dict()["choice"]
    assert told["tokens"] == preview.choice.tokens > 4_000
    assert len(preview.tools) == 30
    assert Planner(choose_over=None).preview("x", tools).choice is None
    assert Planner().preview("x", [weather]).to_dict()["choice"] is None


def test_a_saved_plan_that_is_near_is_asked_about_as_it_is_shown():
    """Word for word; and not where that is turned off."""
    task = "What is the warmth of the air in Bonn?"
    saved = [SavedPlan("warmth", Plan.model_validate({**GOOD, "task": "Warmth of the air in {a}"}))]

    async def main():
        async with ScriptedModel([{"reasoning": "..", "fits": True, "inputs": {"a": "Bonn"}}]) as model:
            planner = Planner("m", base_url=model.base_url)
            preview = planner.preview(task, [weather], saved=saved)
            await planner.plan(task, [weather], saved=saved)
            return preview, model.requests

    preview, (request,) = asyncio.run(main())
    assert [message.to_dict() for message in preview.filling.messages] == request["messages"]
    shown = request["tools"][0]["function"]["parameters"]["properties"]
    assert shown == preview.filling.schema["properties"]
    assert preview.to_dict()["filling"]["tokens"] > 400
    assert Planner(adapt=False).preview(task, [weather], saved=saved).filling is None


def test_tokens_are_counted_about_right():
    """Against counts of a common tokeniser, within a fifth."""
    prose = "The quick brown fox jumps over the lazy dog, and then it sleeps for 12 hours. " * 10
    assert abs(tokens_of(prose) - 190) <= 38
    assert tokens_of("") == 0
