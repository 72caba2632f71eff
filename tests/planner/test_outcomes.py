"""A planning may end in something else than a plan: the task cannot be done, or the planner asks the user first, and plans on with the answer."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import Cannot, Engine, InputRejected, Planner, PlanningFailed, Question, tool
from firmplan.testing import ScriptedModel

PAID: list[str] = []


@tool(effect="read")
def accounts() -> list[str]:
    """Return the accounts."""
    return ["current", "savings"]


TASK = "Show the account"
ASKS = {
    "firmplan": 1,
    "steps": [],
    "question": {"text": "Which one?", "returns": {"type": "string", "enum": ["current", "savings"]}},
}
PLAN = {
    "firmplan": 1,
    "inputs": {"which": {"type": "string", "default": "savings"}},
    "steps": [{"id": "every", "tool": "accounts"}],
    "output": "${[a for a in every if a == inputs.which][0]}",
}


def planned(script, answers=()):
    """Return (what came of a planning, the bodies of the requests)."""

    async def main():
        async with ScriptedModel([json.dumps(each) for each in script]) as model:
            planner = Planner("scripted", base_url=model.base_url, api_key="x")
            try:
                found = await planner.plan(TASK, [accounts], answers=answers)
            except PlanningFailed as failed:
                found = failed
            return found, list(model.requests)

    return asyncio.run(main())


# --- the planner


def test_a_task_that_cannot_be_done_ends_with_the_reason():
    failed, requests = planned([{"firmplan": 1, "steps": [], "cannot": "No tool opens an account."}])
    assert failed.outcome == Cannot("No tool opens an account.")
    assert "cannot be done: No tool opens an account." in failed.message
    assert len(requests) == 1
    assert failed.attempts[-1].usage.requests == 1


@pytest.mark.parametrize(
    ("said", "returns"),
    [
        ({"text": "Which one?", "returns": {"type": "integer"}}, {"type": "integer"}),
        ({"text": " Which one? "}, {"type": "string"}),
        ("Which one?", {"type": "string"}),
        ({"text": "Which one?", "returns": {"type": "no such type"}}, {"type": "string"}),
    ],
)
def test_a_question_ends_the_planning(said, returns):
    failed, requests = planned([{"firmplan": 1, "steps": [], "question": said}])
    assert failed.outcome == Question("Which one?", returns)
    assert len(requests) == 1


def test_a_draft_with_steps_is_a_plan_whatever_else_it_says():
    found, _ = planned([{**PLAN, "cannot": "none", "question": {"text": ""}}])
    assert found.plan.steps[0].id == "every"


@pytest.mark.parametrize("more", [{"cannot": ""}, {"cannot": 3}, {"question": {}}, {"question": [1]}, {}])
def test_a_draft_without_steps_that_says_nothing_is_sent_back(more):
    found, requests = planned([{"firmplan": 1, "steps": [], "output": "${nothing}", **more}, PLAN])
    assert found.plan.steps[0].id == "every"
    assert len(requests) == 2


def test_the_answer_stands_in_the_next_prompt():
    found, requests = planned([PLAN], answers=[("Which one?", "savings")])
    assert found.source == "model"
    assert '- Which one? -> "savings"' in requests[0]["messages"][-1]["content"]


def test_a_planner_does_not_ask_for_ever():
    failed, _ = planned([ASKS], answers=[("Which one?", "savings")] * 3)
    assert failed.outcome is None
    assert "asks again after 3 answers" in failed.message


# --- the engine


def engine_test(script, work, **options):
    async def main():
        async with ScriptedModel([json.dumps(each) for each in script]) as model:
            planner = Planner("scripted", base_url=model.base_url, api_key="x")
            async with Engine([accounts], planner=planner, **{"store": "memory:", **options}) as engine:
                return await work(engine, model)

    return asyncio.run(main())


def test_a_run_waits_for_the_answer_and_is_planned_on():
    async def work(engine, model):
        run = await engine.run(TASK)
        assert (run.status, run.plan, run.question["text"]) == ("waiting", None, "Which one?")
        assert run.usage["planning"]["model_calls"] == 1
        again = await engine.resume(run.id)  # nobody has answered
        assert (again.status, len(model.requests)) == ("waiting", 1)
        for bad in ("other", 3, None):
            with pytest.raises(InputRejected, match="does not fit"):
                await engine.answer(run.id, None, bad, by="joe")
        run = await engine.answer(run.id, None, "savings", by="joe")
        assert run.question is None
        await engine.answer(run.id, None, "savings", by="joe")  # a client that repeats itself
        with pytest.raises(InputRejected) as refused:
            await engine.answer(run.id, None, "current", by="joe")
        assert refused.value.code == "decided"
        run = await engine.resume(run.id)
        assert (run.status, run.output) == ("succeeded", "savings")
        assert run.usage["planning"]["model_calls"] == 2
        assert '- Which one? -> "savings"' in model.requests[1]["messages"][-1]["content"]
        with pytest.raises(InputRejected):
            await engine.answer(run.id, None, "savings", by="joe")

    engine_test([ASKS, PLAN], work)


def test_a_question_outlives_the_process(tmp_path):
    async def first(engine, _):
        return (await engine.run(TASK)).id

    async def answered(engine, _):
        assert (await engine.get(run)).question["text"] == "Which one?"
        await engine.answer(run, None, "savings", by="joe")

    async def second(engine, _):
        return (await engine.resume(run)).output

    store = tmp_path / "s.db"
    run = engine_test([ASKS], first, store=store)
    engine_test([], answered, store=store)
    assert engine_test([PLAN], second, store=store) == "savings"


def test_a_waiting_task_can_be_cancelled():
    async def work(engine, _):
        run = await engine.run(TASK)
        run = await engine.cancel(run.id)
        assert run.status == "cancelled"
        with pytest.raises(InputRejected):
            await engine.answer(run.id, None, "savings", by="joe")

    engine_test([ASKS], work)


def test_a_run_whose_task_cannot_be_done_has_failed():
    async def work(engine, _):
        with pytest.raises(PlanningFailed) as failed:
            await engine.run(TASK, run_id="run_cannot")
        assert failed.value.outcome == Cannot("No such tool.")
        run = await engine.get("run_cannot")
        assert (run.status, run.errors[0].code) == ("failed", "planning-failed")
        assert "No such tool." in run.errors[0].message

    engine_test([{"firmplan": 1, "steps": [], "cannot": "No such tool."}], work)


def test_a_plan_without_a_run_asks_as_an_error():
    async def work(engine, _):
        with pytest.raises(PlanningFailed) as asked:
            await engine.plan(TASK)
        assert asked.value.outcome == Question("Which one?", ASKS["question"]["returns"])

    engine_test([ASKS], work)
