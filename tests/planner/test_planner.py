"""A planner gets a checked plan out of a model, or says why not: real HTTP, real clients, every way of failing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from firmplan import ConfigError, InputRejected, Plan, Planner, PlanningFailed, SavedPlan, tool
from firmplan.planner.drafting.conversation import REQUESTS_MAX
from firmplan.testing import HttpError, Refusal, ScriptedModel, Slow, Text, Truncated
from firmplan.tools import Model

AT_ONCE = {"retry-after-ms": "1"}


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


GOOD = {
    "firmplan": 1,
    "task": "Compare two cities",
    "inputs": {"a": {"type": "string", "default": "Rome"}},
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}"}},
        {"id": "wb", "tool": "weather", "args": {"city": "Oslo"}},
    ],
    "output": "${max(wa, wb)}",
}
BAD = {**GOOD, "steps": [{"id": "wa", "tool": "wether", "args": {"city": "${inputs.b}"}}], "output": "${wa}"}


def plan(script, task="Compare Rome and Oslo", *, tools=(weather,), inputs=None, saved=(), **options):
    """Return (what came of a planning, the requests); `options` are the planner's."""

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, **{"timeout": 5, **options})
            try:
                return await planner.plan(task, tools, inputs=inputs, saved=saved), model.requests
            except PlanningFailed as failure:
                return failure, model.requests

    return asyncio.run(main())


def last_words(request):
    return request["messages"][-1]["content"]


def test_a_good_draft_is_the_plan():
    """A plan in the format comes through as it is; one request is made, and counted."""
    planned, requests = plan([GOOD])
    assert planned.plan == Plan.model_validate(GOOD)
    assert (planned.source, planned.inputs, len(requests)) == ("model", {}, 1)
    assert planned.usage.requests == 1
    assert planned.usage.prompt_tokens > 0
    assert [attempt.ok for attempt in planned.attempts] == [True]


@pytest.mark.parametrize("mode", [None, "tools", "json_schema", "json", "md_json"])
def test_every_mode_brings_the_plan(mode):
    """However structure is asked for, the same plan comes of it."""
    assert plan([GOOD], mode=mode)[0].plan == Plan.model_validate(GOOD)


@pytest.mark.parametrize(
    "answer",
    [
        {"reasoning": "First Rome, then Oslo.", **GOOD},
        {"plan": GOOD},
        {"reasoning": "..", "plan": json.dumps(GOOD)},
        {**GOOD, "steps": json.dumps(GOOD["steps"])},
        {**GOOD, "types": None, "steps": [{**step, "ask": None, "when": None} for step in GOOD["steps"]]},
        {key: part for key, part in GOOD.items() if key != "firmplan"},
        Text(f"Here is the plan:\n```json\n{json.dumps(GOOD)}\n```\nIt compares both."),
    ],
)
def test_what_models_add_for_the_wires_sake_is_taken_off(answer):
    """Reasoning, wrappers, nulls for unused keys, JSON in strings and in prose are no faults."""
    assert plan([answer])[0].plan == Plan.model_validate(GOOD)


def test_the_task_is_kept_where_the_draft_has_none():
    """The words that a plan was made of stay with it."""
    draft = {key: part for key, part in GOOD.items() if key != "task"}
    assert plan([draft], "Compare Rome and Oslo ")[0].plan.task == "Compare Rome and Oslo"


def test_a_set_of_null_is_an_action():
    """Nulls are taken off where they stand for keys not used, and nowhere else."""
    draft = {"firmplan": 1, "steps": [{"id": "n", "set": None, "tool": None}], "output": "${n}"}
    assert plan([draft])[0].plan.steps[0].set is None


def test_faults_go_back_with_places_and_hints():
    """A bad draft is repaired: the model sees its draft, each fault's code, place and hint, and nothing older."""
    planned, requests = plan([BAD, BAD, GOOD])
    assert planned.plan == Plan.model_validate(GOOD)
    first, second, third = planned.attempts
    assert [each.code for each in first.faults] == ["unknown-tool", "unknown-ref"]
    assert (first.number, second.number, third.number, third.ok) == (1, 2, 3, True)
    assert json.loads(requests[1]["messages"][-2]["content"]) == BAD
    words = last_words(requests[1])
    for part in (
        "[unknown-tool] at $.steps[0].tool",
        "did you mean 'weather'",
        "[unknown-ref] at $.steps[0].args.city",
    ):
        assert part in words
    assert len(requests[2]["messages"]) == len(requests[1]["messages"])


def test_endless_bad_drafts_end():
    """After `max_repairs` rounds every attempt is handed over with its problems, and the message says what to do."""
    failure, requests = plan([BAD] * 20, max_repairs=2)
    assert len(requests) == len(failure.attempts) == 3
    assert all(attempt.faults for attempt in failure.attempts)
    for words in ("3 drafts", "unknown-tool", "did you mean 'weather'", "max_repairs"):
        assert words in str(failure)


def test_no_planning_sends_more_requests_than_its_bound():
    """However many repairs are allowed, twelve requests end it, retries of the transport included."""
    bad = [
        {**BAD, "steps": [{"id": "wa", "tool": f"wether{number}", "args": {"city": "Rome"}}]}
        for number in range(20)
    ]  # another fault each time
    failure, requests = plan(bad, max_repairs=50)
    assert len(requests) == REQUESTS_MAX
    assert len(failure.attempts) == REQUESTS_MAX + 1
    assert "asked as often as is allowed" in str(failure)
    refused = HttpError(500, "", AT_ONCE)
    replies = [reply for each in bad[:9] for reply in (refused, refused, each)]
    assert len(plan(replies, max_repairs=50)[1]) == REQUESTS_MAX


def test_a_fault_that_comes_back_after_the_simplest_question_ends_a_planning():
    """Whatever repairs are left: draft, repair, the whole plan anew, the simplest schema; then no more is spent."""
    failure, requests = plan([BAD] * 20, max_repairs=50)
    assert [attempt.approach for attempt in failure.attempts] == ["draft", "whole", "whole", "simple"]
    assert len(requests) == 4


def test_answers_that_are_no_plan_are_asked_for_again():
    """Prose, an empty object, a list and a truncated answer each get another try, told why."""
    planned, requests = plan([Text("I would check the weather."), {"steps": "none"}, Truncated(GOOD), GOOD])
    assert planned.plan == Plan.model_validate(GOOD)
    assert [bool(attempt.error) for attempt in planned.attempts] == [True, False, True, False]
    assert "no JSON" in last_words(requests[1])
    assert "[bad-shape]" in last_words(requests[2])
    assert "cut off" in last_words(requests[3])


def test_endless_truncation_says_so():
    """The last attempt's error is the message's, with what to do about it."""
    failure, _ = plan([Truncated(GOOD)] * 9)
    assert "cut off" in str(failure)
    assert "split the task" in str(failure)
    assert len(failure.attempts) == 4


@pytest.mark.parametrize(
    ("script", "asked", "words"),
    [
        ([HttpError(401, "no such key")], 1, ["401", "set OPENAI_API_KEY", "no such key"]),
        ([HttpError(404)], 1, ["no model 'm'"]),
        ([Refusal("Not this.")], 1, ["declined", "Not this.", "other words"]),
        ([HttpError(429, "", AT_ONCE)] * 9, 3, ["429", "another key"]),
        ([HttpError(500, "", AT_ONCE)] * 9, 3, ["500", "try again later"]),
        ([BAD, HttpError(401)], 2, ["401", "unknown-tool"]),
    ],
)
def test_a_model_that_cannot_answer_is_a_failure_that_says_what_to_do(script, asked, words):
    """Wrong key, no such model, refusal, limits, faults of the server: one message, every attempt."""
    failure, requests = plan(script)
    assert isinstance(failure, PlanningFailed)
    assert len(requests) == asked
    assert failure.attempts[-1].error
    for word in words:
        assert word in str(failure)


def test_what_may_pass_is_tried_again():
    """A limit and a fault of the server do not count as drafts."""
    planned, requests = plan([HttpError(429, "", AT_ONCE), HttpError(503, "", AT_ONCE), GOOD])
    assert (len(requests), len(planned.attempts)) == (3, 1)


def test_an_unreachable_endpoint_is_named():
    """The address is in the message, and where to set it; nearest saved tasks too."""
    planner = Planner("m", base_url="http://127.0.0.1:9/v1", timeout=0.2)
    saved = [SavedPlan("compare", Plan.model_validate({**GOOD, "task": "Compare all cities"}))]
    with pytest.raises(PlanningFailed, match=r"127\.0\.0\.1:9/v1.*FIRMPLAN_BASE_URL") as caught:
        asyncio.run(planner.plan("Compare some cities", [weather], saved=saved))
    assert "Compare all cities  (compare)" in str(caught.value)


def test_silence_ends_within_ten_timeouts():
    """A model that never answers costs at most ten times the timeout of a request."""
    failure, requests = plan([Slow(GOOD, 60)] * 20, timeout=0.1)
    assert isinstance(failure, PlanningFailed)
    assert len(requests) <= 3
    assert "timeout" in str(failure)


def test_text_only_endpoints_will_do():
    """An endpoint that refuses tools and formats is asked in words; what works is remembered."""

    def endpoint(request):
        if "tools" in request or "response_format" in request:
            return HttpError(400, "unsupported parameter")
        return GOOD

    async def main():
        async with ScriptedModel(endpoint) as model:
            planner = Planner("m", base_url=model.base_url)
            for _ in range(2):
                await planner.plan("x", [weather])
            return len(model.requests)

    assert asyncio.run(main()) == 5


def test_given_inputs_are_told_by_name_and_type_only():
    """The model declares them; their values stay here."""
    inputs = {"city": "Atlantis", "days": 3, "tags": ["x"]}
    draft = {
        **GOOD,
        "inputs": {"city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}},
        "steps": [{"id": "w", "tool": "weather", "args": {"city": "${inputs.city}"}}],
        "output": ["${w}", "${inputs.days}", "${inputs.tags}"],
    }
    planned, requests = plan(
        [{**GOOD, "inputs": {**GOOD["inputs"], "days": {"type": "string"}}}, draft], inputs=inputs
    )
    assert planned.inputs == inputs
    assert planned.plan.inputs["days"] == {"type": "integer"}
    assert '- "days": {"type":"integer"}' in last_words(requests[0])
    assert "Atlantis" not in json.dumps(requests)
    faults = {(each.code, each.path) for each in planned.attempts[0].faults if each.code == "bad-input"}
    assert ("bad-input", "$.inputs.days") in faults
    assert ("bad-input", "$.inputs") in faults


def test_the_library_is_asked_before_the_model():
    """A saved plan that fits costs no request; where none fits the model is asked."""
    saved = [SavedPlan("compare", Plan.model_validate({**GOOD, "task": "Compare {a} and Oslo"}))]
    planned, requests = plan([GOOD], "compare Bonn and Oslo", saved=saved)
    assert (planned.source, planned.inputs, len(requests)) == ("saved:compare", {"a": "Bonn"}, 0)
    planned, requests = plan([GOOD], "compare Bonn with Oslo", saved=saved)
    assert (planned.source, len(requests)) == ("model", 1)


def test_plans_may_name_saved_plans():
    """A `plan` step's name is looked up among the saved plans."""
    inner = SavedPlan("compare", Plan.model_validate(GOOD))
    outer = {
        "firmplan": 1,
        "steps": [{"id": "both", "plan": "compare", "args": {"a": "Bonn"}}],
        "output": "${both}",
    }
    assert plan([outer], saved=[inner])[0].source == "model"


def test_a_failure_survives_being_sent():
    """Failures are pickled and written as JSON with their attempts."""
    failure, _ = plan([BAD] * 9, max_repairs=0)
    assert failure.attempts[0].to_dict()["problems"][0]["code"] == "unknown-tool"
    assert "unknown-tool" in str(failure.attempts[0])


def test_settings_are_checked_where_they_are_written():
    """Each wrong setting is a ConfigError; a task is words, and inputs are JSON."""
    for options in (
        {"model": 3},
        {"model": ["m"]},
        {"base_url": 3},
        {"max_repairs": -1},
        {"max_repairs": True},
        {"timeout": 0},
        {"timeout": "x"},
        {"mode": "tool"},
        {"small_model": ""},
        {"small_model": 3},
    ):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Planner(**options)
    for task in ("", "  ", 3):
        with pytest.raises(InputRejected, match="expected a task"):
            asyncio.run(Planner().plan(task))
    with pytest.raises(InputRejected, match="must be JSON"):
        asyncio.run(Planner().plan("x", inputs={"a": float("nan")}))


def test_the_endpoint_is_what_was_said():
    """The engine's other model calls fall back to it; nothing said is nothing."""
    assert Planner().endpoint is None
    assert Planner("m", base_url="http://x/v1").endpoint == Model("m", "http://x/v1")


def test_a_judge_has_the_last_word_on_what_a_check_found():
    """An engine that takes a fault for a warning gets the plan that it would run, saved or drafted."""

    def lenient(report):
        return replace(report, problems=tuple(replace(each, severity="warning") for each in report.problems))

    async def main():
        async with ScriptedModel([BAD]) as model:
            planner = Planner("m", base_url=model.base_url)
            drafted = await planner.plan("x", [weather], judge=lenient)
            saved = [SavedPlan("bad", Plan.model_validate({**BAD, "task": "x"}))]
            return drafted.source, (await planner.plan("x", [weather], saved=saved, judge=lenient)).source

    assert asyncio.run(main()) == ("model", "saved:bad")


def test_a_plan_that_is_to_run_at_once_needs_every_input():
    """An input without a value is sent back where the plan is to run with what is given, and only there."""
    lacking = {**GOOD, "inputs": {"a": {"type": "string"}}}
    assert plan([lacking])[0].plan.inputs == lacking["inputs"]

    async def main():
        async with ScriptedModel([lacking, GOOD]) as model:
            planned = await Planner("m", base_url=model.base_url).plan("x", [weather], complete=True)
            return planned.attempts[0].faults, last_words(model.requests[1])

    (fault,), words = asyncio.run(main())
    assert (fault.code, fault.path) == ("bad-input", "$.inputs.a")
    assert "default taken from the task's words" in words
