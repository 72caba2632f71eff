"""`on_words`: what models write is told while they write it, beside the run, and changes nothing of it."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from functools import wraps

import pytest
import structlog
from firmplan import ConfigError, Engine, Model, Words, agent, tool
from firmplan.executor.calls.words import PENDING_CHARACTERS_MAX, AnswerWords, WordsListeners
from firmplan.testing import HttpError, ScriptedModel, Text, ToolCall, ToolCalls
from pydantic import BaseModel


def in_loop(test):
    @wraps(test)
    def run(*args, **kwargs):
        return asyncio.run(test(*args, **kwargs))

    return run


class Note(BaseModel):
    text: str


@tool(effect="read")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"meaning of {word}"


@agent
def note(topic: str) -> Note:
    """Write a note about ${topic}."""


@agent(tools=[look_up])
def told(word: str) -> str:
    """Tell what ${word} means."""


@agent(tools=[look_up])
def noted(word: str) -> Note:
    """Note what ${word} means."""


def plan_of(tool_="note", **args):
    steps = [{"id": "n", "tool": tool_, "args": args or {"topic": "cats"}}]
    return {"firmplan": 1, "steps": steps, "output": "${n}"}


ASK = {"firmplan": 1, "steps": [{"id": "n", "ask": {"prompt": "Say something long."}}], "output": "${n}"}


async def ran(replies, plan, on_words, *, native=False, **options):
    async with ScriptedModel(replies) as model:
        models = {"default": Model("small", base_url=model.base_url, api_key="k", tool_calls=native)}
        async with Engine([note, told, noted], store="memory:", models=models, **options) as engine:
            return await engine.run(plan, on_words=on_words), model.requests


def answers(heard):
    """Return (step, number) -> the whole text of the answer, in the order in which they began."""
    found = defaultdict(str)
    for words in heard:
        found[words.step, words.answer] += words.text
    return dict(found)


@in_loop
async def test_the_words_of_an_answer_come_in_pieces_while_it_is_written():
    heard, asked = [], []
    run, requests = await ran([Text("one two three four")], ASK, heard.append)
    assert answers(heard) == {("n", 1): "one two three four"}
    assert heard[0] == Words("n", "", 1)  # an answer begins
    assert run.output == "one two three four"
    assert requests[0]["stream"] is True
    silent, asked = await ran([Text("one two three four")], ASK, None)
    assert "stream" not in asked[0]  # who does not listen pays nothing
    assert silent.digest == run.digest


@in_loop
async def test_an_answer_that_does_not_stand_is_void_when_the_next_begins():
    heard = []
    run, _ = await ran([{"txt": "no"}, {"text": "yes"}], plan_of(), heard.append)
    assert run.output == {"text": "yes"}
    assert list(answers(heard)) == [("n", 1), ("n", 2)]
    assert '"yes"' in answers(heard)["n", 2]
    assert next(words.text for words in heard if words.answer == 2) == ""


@in_loop
async def test_an_endpoint_that_does_not_stream_tells_the_answer_in_one_piece():
    def refusing(request):
        return HttpError(400, "stream is not supported") if request.get("stream") else Text("all at once")

    heard = []
    run, _ = await ran(refusing, ASK, heard.append)
    assert run.output == "all at once"
    assert list(answers(heard).values())[-1] == "all at once"


@in_loop
async def test_turns_of_an_agent_tell_what_they_answer_and_not_what_they_call():
    calls = [("look_up", {"word": "cat"}), ("look_up", {"word": "dog"})]
    heard = []
    run, _ = await ran(
        [ToolCalls(calls), Text("An animal.")], plan_of("told", word="cat"), heard.append, native=True
    )
    assert run.output == "An animal."
    assert list(run.steps) == [
        "n",
        "n/think0",
        "n/act0_0",
        "n/act0_1",
        "n/think1",
    ]  # a stream of several calls
    assert answers(heard)["n/think1", 1] == "An animal."
    assert "cat" not in answers(heard)["n/think0", 1].replace("reasoning", "")
    heard.clear()
    turns = [ToolCall("look_up", {"word": "cat"}), ToolCall("answer", {"text": "An animal."})]
    run, _ = await ran(turns, plan_of("noted", word="cat"), heard.append, native=True)
    assert run.output == {"text": "An animal."}
    assert "An animal." in answers(heard)["n/think1", 1]


@in_loop
async def test_a_coroutine_function_hears_on_the_loop_and_a_function_beside_it():
    threads = []

    async def on_loop(words):
        await asyncio.sleep(0)
        threads.append(threading.current_thread())

    await ran([Text("hello")], ASK, on_loop)
    assert set(threads) == {threading.main_thread()}
    threads.clear()
    await ran([Text("hello")], ASK, lambda _: threads.append(threading.current_thread()))
    assert threads
    assert threading.main_thread() not in threads


@in_loop
async def test_a_listener_that_raises_or_never_returns_harms_nothing():
    stuck = threading.Event()

    def broken(words):
        raise ValueError("no")

    with structlog.testing.capture_logs() as logs:
        run, _ = await ran([Text("fine")], ASK, broken)
    structlog.reset_defaults()
    assert run.output == "fine"
    assert [line["why"] for line in logs if "hears no more" in line["event"]] == [
        "it raised ValueError('no')"
    ]
    try:
        run, _ = await ran([Text("fine")], ASK, lambda _: stuck.wait())
        assert run.output == "fine"
    finally:
        stuck.set()
    with pytest.raises(ConfigError, match="expected a function that takes `Words`"):
        await ran([Text("fine")], ASK, "print")


@in_loop
async def test_a_listener_that_is_too_far_behind_hears_no_more():
    stuck, heard = threading.Event(), []

    def slow(words):
        stuck.wait()
        heard.append(words)

    listeners = WordsListeners()
    listener = listeners.add("run", slow)
    answer = listeners.of("run", "a", {})
    answer.begin()
    for _ in range(3):
        answer.hear("x" * (PENDING_CHARACTERS_MAX // 2))
    stuck.set()
    await listener.close()
    assert sum(len(words.text) for words in heard) <= PENDING_CHARACTERS_MAX
    assert listeners.is_empty
    structlog.reset_defaults()


@in_loop
async def test_the_beginning_of_an_answer_is_told_for_itself_however_far_a_listener_is_behind():
    heard = []

    async def hear(words):
        heard.append((words.text, words.answer))

    listeners = WordsListeners()
    listener = listeners.add("run", hear)
    answer = listeners.of("run", "a", {})
    for pieces in (["a", "b"], [], ["c"]):
        answer.begin()
        for piece in pieces:
            answer.hear(piece)
    await listener.close()
    assert heard == [("", 1), ("ab", 1), ("", 2), ("", 3), ("c", 3)]


def test_words_that_pile_up_are_joined_and_secrets_come_out_as_their_names():
    class Kept:
        def __init__(self):
            self.heard = []

        def next_answer(self, step):
            return 1

        def take(self, words):
            self.heard.append(words.text)

    kept = Kept()
    answer = AnswerWords([kept], "a", {"TOKEN": 'hunter"2'})
    answer.begin()
    for piece in ["my ", "hun", 'ter"', "2 and hun", "ger, hunter", '\\"2', " hunt"]:
        answer.hear(piece)
    answer.end("")
    text = "".join(kept.heard)
    assert "hunter" not in text
    assert text == 'my ${secret("TOKEN")} and hunger, ${secret("TOKEN")} hunt'


@in_loop
async def test_a_submitted_run_is_heard_until_it_ends_or_its_engine_closes():
    heard, asked, never = [], asyncio.Event(), asyncio.Event()

    async def hanging(request):
        asked.set()
        await never.wait()
        return Text("late")

    async with ScriptedModel([Text("once"), hanging]) as model:
        models = {"default": Model("small", base_url=model.base_url, api_key="k")}
        async with Engine([], store="memory:", models=models) as engine:
            run = await engine.submit(ASK, on_words=heard.append)
            await engine.wait(run.id)
            await engine.submit(ASK, reuse="off", on_words=heard.append)
            await asked.wait()
        never.set()
    assert answers(heard) == {("n", 1): "once"}


@in_loop
async def test_a_resumed_run_tells_its_words_and_a_reused_answer_none():
    heard = []
    async with ScriptedModel([Text("once")]) as model:
        models = {"default": Model("small", base_url=model.base_url, api_key="k")}
        async with Engine([], store="memory:", models=models) as engine:
            held = await engine.run(ASK, budget={"model_calls": 0}, on_words=heard.append)
            assert (held.status, heard) == ("over_budget", [])
            run = await engine.resume(held.id, budget={"model_calls": 1}, on_words=heard.append)
            assert answers(heard) == {("n", 1): "once"}
            heard.clear()
            again = await engine.run(ASK, on_words=heard.append)
            replay = await engine.replay(run.id)
    assert again.steps["n"].reused
    assert replay.digest == run.digest
    assert heard == []
