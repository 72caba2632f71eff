"""`diff`: two runs aligned by step path, where they part, and why."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from firmplan import Engine, RunNotFound, ToolError, tool
from firmplan.testing import MemoryStore, ScriptedModel, ScriptedTool
from hypothesis import given
from public import call, plan, within
from pydantic import BaseModel
from seeds import examples
from small_plans import RECORDER, RECORDING_TOOLS, Recorder, small_plans

FORECAST = plan(
    call("oslo", "weather", args={"city": "${inputs.a}"}),
    call("rome", "weather", args={"city": "Rome"}),
    {"id": "warmer", "set": "${oslo if oslo.celsius > rome.celsius else rome}"},
    {"id": "each", "tool": "weather", "for_each": "${[warmer.city, inputs.a]}", "args": {"city": "${item}"}},
    {"id": "cold", "set": "${oslo.celsius}", "when": "${oslo.celsius < 0}"},
    output="${warmer.city}",
    inputs={"a": {"type": "string"}},
)


class Weather(BaseModel):
    """A city's weather."""

    city: str
    celsius: int


def weather(**degrees):
    @tool(effect="pure", version=json.dumps(degrees))
    def weather(city: str) -> Weather:
        """Say how warm it is."""
        return Weather(city=city, celsius=degrees.get(city, 10))

    return weather


def compared(*runs, **engine):
    """Run plans one after the other on one store, and compare the last two."""

    async def main():
        store = MemoryStore()
        await store.open()
        ids = [
            (await Engine(tools, store=store, **engine).run(steps, run_id=f"r{at}", **options)).id
            for at, (tools, steps, options) in enumerate(runs)
        ]
        found = await Engine([], store=store).diff(*ids[-2:])
        await store.close()
        return found

    return within(main())


def test_equal_runs_do_not_differ():
    """Nothing differs, however one was computed and the other reused."""
    one = ([weather(Rome=20)], FORECAST, {"inputs": {"a": "Oslo"}})
    found = compared(one, one)
    assert not found
    assert found.first is None
    assert found.changed == ()
    assert {step.change for step in found.steps} == {"same"}
    assert found.steps[0].reused == (False, True)
    assert str(found).startswith("r0 and r1 are the same: 5 steps")


def test_another_input_is_followed_through_the_plan():
    """The first divergence is where the input enters; later steps name the step that it came from."""
    tools = [weather(Rome=20, Cairo=30)]
    found = compared(
        (tools, FORECAST, {"inputs": {"a": "Oslo"}}), (tools, FORECAST, {"inputs": {"a": "Cairo"}})
    )
    assert found.first.step == "oslo"
    why = {step.step: step.why for step in found.changed}
    assert why["oslo"] == "it depends on an input that differs"
    assert why["warmer"] == "it depends on 'oslo', which differs"
    assert why["each"] == "it depends on 'warmer', which differs"
    assert "rome" not in why
    assert [str(each) for each in found.inputs] == ['a: "Oslo" -> "Cairo"']
    assert [str(each) for each in found.output] == ['"Rome" -> "Cairo"']
    assert [str(each) for each in found.steps[0].output] == [
        "celsius: 10 -> 30",
        'city: "Oslo" -> "Cairo"',
    ]
    assert [str(each) for each in found.steps[0].args] == ['city: "Oslo" -> "Cairo"']
    text = str(found)
    assert "r0 -> r1: 3 of 5 steps differ" in text
    assert "first divergence: step 'oslo': it depends on an input that differs" in text
    assert "~ oslo  output.celsius: 10 -> 30" in text


def test_a_changed_tool_is_the_reason():
    """Same call, other code: the tool is named."""
    found = compared(
        ([weather(Rome=20)], FORECAST, {"inputs": {"a": "Oslo"}}),
        ([weather(Rome=5)], FORECAST, {"inputs": {"a": "Oslo"}}),
    )
    assert (found.first.step, found.first.why) == ("rome", "the tool 'weather' was changed between the runs")


def test_a_changed_plan_is_told():
    """Steps that only one plan has, and one that says otherwise."""
    other = {**FORECAST, "steps": [dict(step) for step in FORECAST["steps"][:-1]]}
    other["steps"][1] = call("rome", "weather", args={"city": "Bari"})
    other["steps"].insert(1, {"id": "new", "set": 1})
    tools = [weather(Rome=20, Bari=25)]
    found = compared((tools, FORECAST, {"inputs": {"a": "Oslo"}}), (tools, other, {"inputs": {"a": "Oslo"}}))
    changes = {step.step: (step.change, step.why) for step in found.changed}
    assert changes["new"] == ("only_b", "the other plan has no such step")
    assert changes["cold"] == ("only_a", "the other plan has no such step")
    assert changes["rome"] == ("changed", "the plan is different here")
    assert [step.step for step in found.steps][:3] == ["oslo", "new", "rome"]
    assert found.first.step == "new"
    assert "rome.args.city" in str(found.plan)
    assert {change["name"] for change in found.to_dict()["plan"]} >= {"new", "rome", "cold"}


def test_a_step_that_was_only_renamed_is_one_step():
    """Its items, too, and what refers to it is no other step for it; what differs beside that is told as ever."""
    other = json.loads(
        json.dumps(FORECAST)
        .replace('"oslo"', '"north"')
        .replace("oslo", "north")
        .replace('"warmer"', '"best"')
        .replace("warmer", "best")
        .replace('"each"', '"all_of"')
    )
    assert other["steps"][3]["for_each"] == "${[best.city, inputs.a]}"
    tools = [weather(Rome=20)]
    found = compared((tools, FORECAST, {"inputs": {"a": "Oslo"}}), (tools, other, {"inputs": {"a": "Oslo"}}))
    assert found.changed == ()
    assert found.first is None
    assert {step.step: step.renamed_from for step in found.steps if step.renamed_from} == {
        "north": "oslo",
        "best": "warmer",
        "all_of": "each",
        "all_of[0]": "each[0]",
        "all_of[1]": "each[1]",
    }
    assert [str(change) for change in found.plan.changes if change.kind != "changed"] == [
        "= north  oslo -> north",
        "= best  warmer -> best",
        "= all_of  each -> all_of",
    ]
    assert "was <code>each[0]</code>" in found.to_html()
    found = compared((tools, FORECAST, {"inputs": {"a": "Oslo"}}), (tools, other, {"inputs": {"a": "Bari"}}))
    assert found.first.step == "north"
    assert "~ north (was oslo)  output.city: " in str(found)
    assert found.first.why == "it depends on an input that differs"


def test_items_are_aligned_by_index():
    """Of a list's step the first differing part is the first divergence."""
    each = plan(
        {"id": "e", "tool": "weather", "for_each": "${inputs.l}", "args": {"city": "${item}"}},
        inputs={"l": {"type": "array", "items": {"type": "string"}}},
        output="${e}",
    )
    tools = [weather()]
    found = compared(
        (tools, each, {"inputs": {"l": ["a", "b"]}}), (tools, each, {"inputs": {"l": ["a", "c", "d"]}})
    )
    assert {step.step: step.change for step in found.steps} == {
        "e": "changed",
        "e[0]": "same",
        "e[1]": "changed",
        "e[2]": "only_b",
    }
    assert found.first.step == "e[1]"
    assert found.changed[-1].why == "only run r1 came to this part of 'e'"


def test_a_read_that_found_the_world_changed_and_a_failure():
    """The same call of a read came out differently; a status is a difference too."""
    answers = [1, 2]
    reading = ScriptedTool("look", lambda: answers.pop(0), effect="read")
    steps = plan(call("l", "look"), output="${l}")
    found = compared(([reading], steps, {}), ([reading], steps, {}))
    assert found.first.why == "the same call of 'look' found the world changed"

    moods = [None, ToolError("no")]

    def moody():
        """Fail the second time."""
        if (mood := moods.pop(0)) is not None:
            raise mood
        return 1

    failing = ScriptedTool("look", moody, effect="read")
    found = compared(([failing], steps, {}), ([failing], steps, {}))
    assert found.status == ("succeeded", "failed")
    assert found.first.status == ("succeeded", "failed")
    assert "status: succeeded -> failed" in str(found)


def test_a_step_that_has_not_ended_says_so():
    """What one of the runs still waits for tells nothing of the world."""
    pay = ScriptedTool("pay", [1], effect="write", approval="always")
    paid = ScriptedTool("pay", [1], effect="write")
    steps = plan(call("p", "pay"), output="${p}")
    found = compared(([paid], steps, {}), ([pay], steps, {}))
    assert found.first.why == "it has not ended in run r1, where it is waiting"


def test_a_pure_tool_that_is_not():
    """The same call of a pure tool came out differently: that is the tool's fault, and `verify` is named."""
    numbers = [1, 2]
    lying = ScriptedTool("roll", lambda: numbers.pop(0), effect="pure", version="1")
    steps = plan(call("r", "roll"), output="${r}")
    found = compared(([lying], steps, {"reuse": "off"}), ([lying], steps, {"reuse": "off"}))
    assert "`firmplan verify` checks whether it is deterministic" in found.first.why


def test_a_model_that_answers_otherwise():
    """The same prompt, another answer: neither the plan nor an input is blamed; tokens are told."""
    steps = plan({"id": "p", "ask": {"prompt": "Say something"}}, output="${p}")

    async def main():
        async with ScriptedModel(["one", "other"]) as model:
            models = {"default": {"name": "m", "base_url": model.base_url, "api_key": "k"}}
            async with Engine([], store="memory:", models=models) as engine:
                await engine.run(steps, run_id="a")
                await engine.run(steps, run_id="b", reuse="off")
                return await engine.diff("a", "b")

    found = within(main())
    assert found.first.why == "the model answered otherwise to the same prompt"
    assert "model_calls 1 -> 1" in str(found)


def test_sub_plans_are_compared_inside():
    """The first divergence lies in the inner step that differs."""
    steps = plan(
        {"id": "out", "plan": "inner", "args": {"n": 1}},
        plans={
            "inner": {
                "inputs": {"n": {"type": "integer"}},
                "steps": [call("one", "look"), {"id": "two", "set": "${one + inputs.n}"}],
                "output": "${two}",
            }
        },
        output="${out}",
    )
    answers = [1, 2]
    reading = ScriptedTool("look", lambda: answers.pop(0), effect="read", returns={"type": "integer"})
    found = compared(([reading], steps, {}), ([reading], steps, {}))
    assert found.first.step == "out/one"
    assert {step.step for step in found.changed} == {"out", "out/one", "out/two"}


def test_a_run_never_differs_from_its_replay():
    """Law: whatever the plan, a kept replay is the same run."""

    @examples(40)
    @given(steps=small_plans())
    def law(steps):
        async def main():
            RECORDER.set(Recorder())
            async with Engine(RECORDING_TOOLS, store="memory:") as engine:
                run = await engine.run(steps, inputs={"n": 4})
                kept = await engine.replay(run.id, keep=True)
                found = await engine.diff(run.id, kept.id)
                assert not found, str(found)
                assert json.dumps(found.to_dict())

        within(main())

    law()


def test_a_value_that_a_fork_gave_is_the_reason():
    """Nothing was called there in one of the runs, which says little; that the value was given says all."""

    async def main():
        async with Engine([weather(Rome=20)], store="memory:") as engine:
            await engine.run(FORECAST, inputs={"a": "Oslo"}, run_id="one")
            fork = await engine.fork("one", set={"oslo": {"city": "Oslo", "celsius": 30}})
            return await engine.diff("one", fork.id)

    found = within(main())
    assert (found.first.step, found.first.why) == ("oslo", "a fork gave it its value")
    assert found.output[0].after == "Oslo"


def test_unknown_runs_are_refused():
    """A run that is not there has no diff."""

    async def main():
        async with Engine([weather()], store="memory:") as engine:
            await engine.run(FORECAST, inputs={"a": "Oslo"}, run_id="a")
            with pytest.raises(RunNotFound):
                await engine.diff("a", "nope")
            with pytest.raises(RunNotFound):
                await engine.diff("nope", "a")

    within(main())


def test_the_sync_twin_compares():
    """Programs without an event loop have it too."""
    with Engine([weather()], store="memory:") as engine:
        run = engine.run_sync(FORECAST, inputs={"a": "Oslo"})
        assert not engine.diff_sync(run.id, run.id)


class Page(HTMLParser):
    """Reads a page: its texts, and whether every tag is closed by its own."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.texts += [value for _, value in attrs if value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_tells_all_and_trusts_nothing():
    """Every step, place and reason is there as text; what tools said is never markup, and nothing is loaded or run."""
    evil = "<script>alert(1)</script>\"'&"
    before, after = (
        compared(([weather()], FORECAST, {"inputs": {"a": a}}), ([weather()], FORECAST, {"inputs": {"a": b}}))
        for a, b in (("Oslo", evil), ("Oslo", "Oslo"))
    )
    page = Page(before.to_html())
    assert page.open == []
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "a", "form"})
    text = " ".join(page.texts)
    assert json.dumps(evil) in text
    for step in before.steps:
        assert step.step in page.texts
        assert step.why in text
    assert "default-src 'none'" in text
    assert "the same: " in " ".join(Page(after.to_html()).texts)


def test_tokens_are_told_by_step():
    """What a model step used, in both runs; of a list its sum; of a step that asked nothing 0."""
    steps = plan(
        {"id": "said", "ask": {"prompt": "Say ${inputs.word}"}},
        {"id": "each", "ask": {"prompt": "Say ${item}"}, "for_each": "${[inputs.word, 'b']}"},
        {"id": "size", "set": "${len(said)}"},
        inputs={"word": {"type": "string"}},
    )

    async def main():
        async with (
            ScriptedModel(lambda request: "word " * len(request["messages"][-1]["content"])) as model,
            Engine(
                [],
                store=MemoryStore(),
                models={"default": {"name": "m", "base_url": model.base_url, "api_key": "k"}},
            ) as engine,
        ):
            one = await engine.run(steps, inputs={"word": "a"})
            other = await engine.run(steps, inputs={"word": "aaaaaaaaaa"})
            return one, other, await engine.diff(one.id, other.id)

    one, other, found = within(main())
    by_step = {step.step: step.tokens for step in found.steps}
    assert by_step["said"][0] + by_step["each"][0] == one.usage["tokens"]
    assert by_step["said"][1] + by_step["each[0]"][1] == other.usage["tokens"]
    assert by_step["each"] == tuple(
        a + b for a, b in zip(by_step["each[0]"], by_step["each[1]"], strict=True)
    )
    assert by_step["size"] == (0, 0)
    assert f"tokens {by_step['said'][0]} -> {by_step['said'][1]}" in str(found)
    assert found.to_dict()["steps"][0]["tokens"] == list(by_step["said"])
