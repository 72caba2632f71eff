"""A plan is heard while it is written: its first steps can start before the rest is there, and the end is the same."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from firmplan import Planner, PlanningFailed, tool
from firmplan.planner.drafting.streaming import PlanStreamParser
from firmplan.testing import Cut, Drip, Empty, HttpError, Refusal, ScriptedModel, Text, Truncated
from hypothesis import given
from hypothesis import strategies as st


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


def call(number, city="Rome"):
    return {"id": f"s{number}", "tool": "weather", "args": {"city": city}}


STEPS = [call(number, f"City number {number}") for number in range(12)]
GOOD = {"firmplan": 1, "steps": [*STEPS, {"id": "most", "set": "${max(s0, s1, s11)}"}], "output": "${most}"}
BAD = {**GOOD, "steps": [*STEPS[:3], {"id": "x", "tool": "wether", "args": {}}, *GOOD["steps"][3:]]}


def heard(script, *, inputs=None, **options):
    """Return what came of a streamed planning, its beginnings as lists of ids, and the requests."""
    beginnings = []

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, **{"timeout": 5, **options})
            try:
                found = await planner.plan(
                    "x",
                    [weather],
                    inputs=inputs,
                    heard=lambda plan: beginnings.append([s.id for s in plan.steps]),
                )
            except PlanningFailed as failure:
                found = failure
            return found, model.requests

    return *asyncio.run(main()), beginnings


def told(script, **options):
    """Return what came of the same planning without anybody listening."""

    async def main():
        async with ScriptedModel(script) as model:
            return await Planner("m", base_url=model.base_url, **options).plan("x", [weather])

    return asyncio.run(main())


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "md_json"])
def test_beginnings_grow_step_by_step_and_the_plan_is_the_same(mode):
    """Each longer by one step, in every mode; plan, digest and usage are those of a planning that nobody heard."""
    found, requests, beginnings = heard([GOOD], mode=mode)
    assert beginnings == [[step["id"] for step in GOOD["steps"][:count]] for count in range(1, 14)]
    plain = told([GOOD], mode=mode)
    assert (found.plan, found.plan.digest) == (plain.plan, plain.plan.digest)
    assert found.usage == plain.usage
    assert requests[0]["stream"] is True


def test_the_first_step_is_heard_early():
    """Before a quarter of the plan's text has come, on a plan of twelve steps or more."""
    text = json.dumps(GOOD)
    beginning = PlanStreamParser()
    first = next(index for index, mark in enumerate(text) if beginning.take(mark))
    assert first < len(text) / 4


def test_nothing_is_heard_that_does_not_pass():
    """Beginnings end where a fault is; what refers to what is not there yet waits for it."""
    found, requests, beginnings = heard([BAD, {"changes": [], "remove": ["x"]}])
    sound = [["s0"], ["s0", "s1"], ["s0", "s1", "s2"]]
    assert beginnings[:-1] == sound, "nothing past the fault, and nothing twice"
    assert beginnings[-1] == [step["id"] for step in GOOD["steps"]], "a repair is heard too"
    assert len(found.plan.steps) == 13
    assert requests[1]["stream"] is True
    ahead = {"firmplan": 1, "steps": [{"id": "a", "set": "${b}"}, {"id": "b", "set": 1}], "output": "${a}"}
    assert heard([ahead])[2] == [["a", "b"]]


def test_given_inputs_must_be_declared_before_a_step_is_heard():
    """A beginning that does not take them is none that may run."""
    late = {
        "firmplan": 1,
        "steps": [call(0), call(1, "${inputs.city}")],
        "inputs": {"city": {"type": "string"}},
        "output": "${s1}",
    }
    assert heard([late], inputs={"city": "Rome"})[2] == [["s0", "s1"]]
    early = {key: late[key] for key in ("firmplan", "inputs", "steps", "output")}
    assert heard([early], inputs={"city": "Rome"})[2] == [["s0"], ["s0", "s1"]]


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ([HttpError(400, "stream is not supported"), GOOD], 2),
        ([HttpError(503, "", {"retry-after-ms": "1"}), GOOD], 2),
        ([Cut(GOOD, 0.5), GOOD], 2),
        ([Truncated(GOOD), GOOD], 2),
        ([Empty(), GOOD], 2),
        ([Text("Hm."), GOOD], 2),
        ([Text(f"Here it is: {json.dumps(GOOD)} Enjoy."), GOOD], 1),
        ([Text(json.dumps(json.dumps(GOOD)))], 1),
    ],
)
def test_streams_that_go_wrong_end_well(script, requests):
    """An endpoint that does not stream is asked without; a stream that breaks is begun anew."""
    found, sent, _ = heard(script)
    assert found.plan.digest == told([GOOD]).plan.digest
    assert len(sent) == requests


@pytest.mark.parametrize(
    "wrapped", [{"plan": GOOD}, {"reasoning": "{", "answer": GOOD}, {**GOOD, "reasoning": "[\\"}]
)
def test_a_plan_in_an_object_around_it_is_heard(wrapped):
    """Step by step, like any other."""
    found, requests, beginnings = heard([wrapped])
    assert found.plan.digest == told([GOOD]).plan.digest
    assert len(requests) == 1
    assert [len(each) for each in beginnings] == list(range(1, 14))


def test_changes_are_heard_up_to_the_first_fault_that_is_left():
    """The draft's own steps stand before and between those that come."""
    faulty = {
        **GOOD,
        "steps": [
            {**step, "tool": "wether"} if step["id"] in ("s3", "s7") else step for step in GOOD["steps"]
        ],
    }
    found, requests, beginnings = heard([faulty, {"changes": [call(3), call(7)]}])
    assert len(requests) == 2
    assert [len(each) for each in beginnings] == [1, 2, 3, 7, 13]
    assert found.plan.steps[3].args == {"city": "Rome"}


def test_long_plans_are_not_checked_step_by_step():
    """What listening costs grows with the plan, and not with its square."""
    plan = {**GOOD, "steps": [call(number) for number in range(150)], "output": "${s149}"}
    found, _, beginnings = heard([plan])
    counts = [len(each) for each in beginnings]
    assert counts[:32] == list(range(1, 33))
    assert len(counts) < 90
    assert max(after - before for before, after in pairwise(counts)) <= 5
    assert len(found.plan.steps) == 150


def test_what_listens_may_fail():
    """Its failure is not taken for the model's."""

    async def main():
        async with ScriptedModel([GOOD]) as model:
            planner = Planner("m", base_url=model.base_url)
            with pytest.raises(ZeroDivisionError):
                await planner.plan("Compare", [weather], heard=lambda _: 1 / 0)
            return len(model.requests)

    assert asyncio.run(main()) == 1


def test_what_is_no_answer_is_a_failure_as_ever():
    """A refusal, a body that never ends."""
    assert "declined" in str(heard([Refusal("No.")])[0])
    assert "within 0.3 s" in str(heard([Drip("x", 0.02)] * 9, timeout=0.3)[0])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\{}[],: é', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text('ab":{', max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.integers(1, 7),
    st.sampled_from([None, 1]),
)
def test_a_beginning_reads_what_the_whole_says(value, size, indent):
    """Whatever stands in it, in whatever pieces it comes: the head and the steps, each once complete."""
    plan = {
        "reasoning": value,
        "inputs": {"x": value},
        "steps": [{"id": "a", "set": value}, {"id": "b"}],
        "output": value,
    }
    text = f"So: {json.dumps(plan, indent=indent, ensure_ascii=False)} Done."
    beginning = PlanStreamParser()
    for start in range(0, len(text), size):
        beginning.take(text[start : start + size])
    assert beginning.steps == plan["steps"]
    assert beginning.head == {key: part for key, part in plan.items() if key != "steps"}
    assert "output" not in beginning.draft()
