"""Prompts begin with what does not change, byte for byte, so that an endpoint that has read one of them need not read it again."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from os.path import commonprefix

from firmplan import Engine, Model, Planner, agent, tool
from firmplan.testing import ScriptedModel

PLAN = {"firmplan": 1, "steps": [{"id": "n", "set": 3}], "output": "${n}"}
BAD = {"firmplan": 1, "steps": [{"id": "n", "set": "${nothing}"}], "output": "${n}"}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@tool(effect="read")
def weather(city: str) -> float:
    """Tell the weather."""
    return float(len(city))


@agent(examples=[{"input": "My card was charged twice", "output": "billing"}])
def classify(ticket: str) -> str:
    """Decide the queue of this support ticket.

    ${ticket}
    """


def asked(plan, tools=(), answer=lambda _: {"n": 1}):
    """Return the requests of a run."""

    async def main():
        async with ScriptedModel(answer) as model:
            spec = {"default": Model("m", model.base_url, "k")}
            async with Engine(list(tools), store="memory:", models=spec) as engine:
                assert (await engine.run(plan)).status == "succeeded"
                return model.requests

    return asyncio.run(main())


def planned(tasks, answer):
    async def main():
        async with ScriptedModel(answer) as model:
            planner = Planner(Model("m", model.base_url, "k"), adapt=False)
            for task in tasks:
                await planner.plan(task, [weather])
            return model.requests

    return asyncio.run(main())


def rest_of(request):
    """Return all of a request but its messages."""
    return {name: value for name, value in request.items() if name != "messages"}


def shared(first, second):
    """Return the messages that two requests share, and the part that the first other message shares."""
    assert rest_of(first) == rest_of(second)
    same = [a for a, b in zip(first["messages"], second["messages"], strict=False) if a == b]
    differing = len(same)
    assert second["messages"][:differing] == same
    if differing == len(first["messages"]):
        return same, ""
    texts = [each["messages"][differing]["content"] for each in (first, second)]
    return same, commonprefix(texts)  # noqa: RUF071  # character by character is what is wanted


def test_items_of_a_prompt_share_all_that_is_not_theirs():
    """System message, examples and schema, and the author's words up to the first value."""
    ask = {
        "prompt": "Rate the tone of this text: ${item}",
        "system": "You rate texts. " * 20,
        "examples": [{"input": "Nice!", "output": {"n": 5}}],
        "returns": NUMBER,
    }
    plan = {"firmplan": 1, "steps": [{"id": "a", "ask": ask, "for_each": ["one", "two", "three"]}]}
    for first, second in pairwise(asked(plan)):
        same, begun = shared(first, second)
        assert [each["role"] for each in same] == ["system", "user", "assistant"]
        assert begun.startswith("Rate the tone of this text: <item-")


def test_calls_of_an_agent_share_all_but_their_arguments():
    """Its note about data, its examples, and its docstring up to the first parameter."""
    steps = [
        {"id": "c", "tool": "classify", "args": {"ticket": "${item}"}, "for_each": ["Where is it?", "Thanks"]}
    ]
    first, second = asked({"firmplan": 1, "steps": steps}, [classify], lambda _: "billing")
    same, begun = shared(first, second)
    assert [each["role"] for each in same] == ["system", "user", "assistant"]
    assert begun.startswith("Decide the queue of this support ticket.")


def test_drafts_share_everything_up_to_the_task():
    """Rules, examples, schema and the signatures of the tools; the task comes last."""
    first, second = planned(["Compare Rome and Oslo", "How warm is Rome?"], lambda _: PLAN)
    same, begun = shared(first, second)
    assert [each["role"] for each in same] == ["system"]
    assert "weather(city: text)" in begun
    assert second["messages"][-1]["content"].removeprefix(begun).startswith("How warm is Rome?")


def test_a_repair_begins_with_all_of_its_draft():
    """So that only the fault is new."""
    answers = iter([BAD, PLAN])
    first, second = planned(["Compare Rome and Oslo"], lambda _: next(answers))
    count = len(first["messages"])
    assert json.dumps(second["messages"][:count]) == json.dumps(first["messages"])
    assert len(second["messages"]) > count


def test_cached_tokens_are_counted_and_shown():
    """As the endpoint reports them, in the usage of the run and of its planning."""

    def answer(request):
        is_draft = "weather(city" in str(request["messages"])
        text = json.dumps({"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "Hi"}}], "output": "${a}"})
        counts = {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
        message = {"role": "assistant", "content": text if is_draft else "hello"}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts}

    async def main():
        async with ScriptedModel(answer) as model:
            spec = Model("m", model.base_url, "k")
            options = {"models": {"default": spec}, "planner": Planner(spec, adapt=False)}
            async with Engine([weather], store="memory:", **options) as engine:
                run = await engine.run("Say hi")
                return run, await engine.replay(run.id)

    run, again = asyncio.run(main())
    assert run.status == "succeeded"
    assert run.usage["cached_tokens"] == 64
    assert run.usage["planning"]["cached_tokens"] == 64
    assert again.usage["cached_tokens"] == 64
