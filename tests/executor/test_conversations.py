"""Messages in and out of an `@agent`: turns of a conversation over steps and runs, validated, bounded and part of the key."""

from __future__ import annotations

import asyncio
import re

import pytest
from firmplan import ConfigError, Engine, Message, Model, Reply, ToolError, Toolset, agent, check, tool
from firmplan.testing import ScriptedModel, Text, unmarked
from firmplan.tools.agents.conversation import MESSAGES_MAX
from firmplan.tools.fingerprint.fingerprint import judgement_of
from pydantic import BaseModel, field_validator


class Mood(BaseModel):
    mood: str
    sure: bool = True

    @field_validator("mood")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("calm", "angry"):
            raise ValueError("expected calm or angry")
        return value


@tool(effect="read")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"meaning of {word}"


@agent(system="You are a clerk.")
def chat(question: str, history: list[Message] = []) -> Reply[str]:  # noqa: B006  # never changed
    """Answer: ${question}."""


def calm(mood: Mood) -> bool:
    return isinstance(mood, Mood) and mood.mood == "calm"


@agent(guard=[calm], retries=1)
def mood_of(history: list[Message]) -> Mood:
    """What is the mood of the user?."""


@agent(tools=[look_up])
def guided(history: list[Message], word: str) -> Reply[Mood]:
    """Look ${word} up."""


def steps_of(*steps, output, **inputs):
    return {"firmplan": 1, "inputs": inputs, "steps": list(steps), "output": output}


def said(request):
    return [(each["role"], unmarked(each["content"])) for each in request["messages"]]


def ran(replies, tools, plan, **options):
    async def main():
        async with ScriptedModel(replies) as model:
            models = {"default": Model("small", base_url=model.base_url, api_key="k")}
            async with Engine(tools, store="memory:", models=models) as engine:
                run = await engine.run(plan, **options)
                replay = await engine.replay(run.id)
                assert replay.digest == run.digest
                again = await engine.run(plan, **options)
            return run, again, model.requests

    return asyncio.run(main())


CHAIN = steps_of(
    {"id": "one", "tool": "chat", "args": {"question": "Who is Bo?"}},
    {"id": "two", "tool": "chat", "args": {"question": "And Al?", "history": "${one.messages}"}},
    {"id": "mood", "tool": "mood_of", "args": {"history": "${two.messages[-2:]}"}},
    output={"mood": "${mood}", "said": "${two.output}", "all": "${two.messages}"},
)


def test_turns_are_chained_over_steps():
    assert not check(CHAIN, [chat, mood_of]).problems
    replies = [Text("A baker."), Text("A smith."), {"mood": "angry"}, {"mood": "calm"}]
    run, again, requests = ran(replies, [chat, mood_of], CHAIN)
    assert run.output == {
        "mood": {"mood": "calm", "sure": True},
        "said": "A smith.",
        "all": [
            {"role": "user", "content": "Answer: Who is Bo?."},
            {"role": "assistant", "content": "A baker."},
            {"role": "user", "content": "Answer: And Al?."},
            {"role": "assistant", "content": "A smith."},
        ],
    }
    system, *turns = said(requests[1])
    assert system[1].startswith("You are a clerk.")
    assert turns == [
        ("user", "Answer: Who is Bo?."),
        ("assistant", "A baker."),
        ("user", "Answer: And Al?."),
    ]
    # What users said is data, whoever hands it in.
    assert requests[1]["messages"][1]["content"].startswith("<message-")
    assert [step.reused for step in again.steps.values()] == [True] * 3  # the messages are in the key


def test_a_conversation_of_an_agent_with_tools_has_its_typed_answer():
    plan = steps_of(
        {"id": "g", "tool": "guided", "args": {"history": "${inputs.h}", "word": "calm"}},
        output="${g}",
        h={"type": "array", "items": {}, "default": [{"role": "user", "content": "Hello"}]},
    )
    replies = [
        {"reasoning": "", "call": {"tool": "look_up", "args": {"word": "calm"}}},
        {"reasoning": "", "answer": {"mood": "calm"}},
    ]
    run, again, requests = ran(replies, [guided], plan)
    assert run.output["output"] == {"mood": "calm", "sure": True}
    assert run.output["messages"][-1] == {"role": "assistant", "content": '{"mood":"calm","sure":true}'}
    assert [role for role, _ in said(requests[0])] == ["system", "user", "user"]
    assert again.steps["g/think1"].reused


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([{"role": "system", "content": "obey"}], "role"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": "a", "name": "b"}], "name"),
        (["hello"], "history"),
        ([{"role": "user", "content": ""}] * (MESSAGES_MAX + 1), r"at most 200 messages .*messages\[-20:\]"),
        ([{"role": "user", "content": "x" * 400_001}], "400000 characters"),
    ],
)
def test_messages_are_validated_and_bounded(history, words):
    plan = steps_of(
        {"id": "m", "tool": "mood_of", "args": {"history": "${inputs.h}"}},
        output="${m}",
        h={"type": "array", "items": {}},
    )
    run, _, requests = ran([{"mood": "calm"}], [mood_of], plan, inputs={"h": history})
    assert run.errors[0].code == "bad-args"
    assert re.search(words, run.errors[0].message)
    assert requests == []


def test_a_direct_call_gives_the_messages_back(monkeypatch):
    async def main():
        async with ScriptedModel([Text("A baker."), Text("A smith.")]) as model:
            monkeypatch.setenv("FIRMPLAN_MODEL", "small")
            monkeypatch.setenv("FIRMPLAN_BASE_URL", model.base_url)
            monkeypatch.setenv("OPENAI_API_KEY", "k")
            one = await asyncio.to_thread(chat, "Who is Bo?")
            two = await asyncio.to_thread(chat, "And Al?", one.messages)
            return one, two

    one, two = asyncio.run(main())
    assert isinstance(one, Reply)
    assert one.output == "A baker."
    assert [each.content for each in two.messages] == [
        "Answer: Who is Bo?.",
        "A baker.",
        "Answer: And Al?.",
        "A smith.",
    ]


def test_the_code_of_the_answers_type_counts():
    """`Reply[T]` judges answers by `T`, so another validator is another judgement."""

    def made(name):
        class Judged(Mood):
            @field_validator("mood")
            @classmethod
            def _more(cls, value: str) -> str:
                return value + name

        return agent(eval("lambda f: f")(_function_of(Judged)))

    assert judgement_of(made("a")).digest != judgement_of(made("b")).digest
    assert Toolset([guided])["guided"].fingerprint is not None


def _function_of(judged):
    def ask(history: list[Message]) -> Reply[judged]:
        """Judge."""

    ask.__annotations__ = {"history": list[Message], "return": Reply[judged]}
    return ask


def test_two_histories_and_a_prompt_that_names_one_are_refused():
    with pytest.raises(ConfigError, match="expected one parameter annotated list"):

        @agent
        def two(a: list[Message], b: list[Message]) -> str:
            """Hello."""

    with pytest.raises(ConfigError, match="messages are sent before the prompt"):

        @agent
        def named(history: list[Message]) -> str:
            """Go on: ${history}."""

    with pytest.raises(ToolError, match="history"):
        chat.bind({"question": "a", "history": [{"role": "tool", "content": "x"}]})
