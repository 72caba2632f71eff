"""Of many tools a small prompt chooses; whatever comes of it, planning goes on, and a plan that needs others gets them."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Plan, Planner, PlanningFailed, SavedPlan, Tool
from firmplan.planner.drafting.prompt import choosing_messages
from firmplan.planner.drafting.signatures import choice_lines
from firmplan.planner.drafting.tool_choice import (
    ALWAYS_SHOWN,
    CANDIDATES_CHARACTERS_MAX,
    candidates,
    choose_tools,
    tools_in,
)
from firmplan.planner.request import CHOOSE_OVER
from firmplan.testing import Empty, HttpError, Refusal, ScriptedModel, Slow, Text, Truncated
from firmplan.tools import Model
from firmplan.tools.models.recorder import recording
from tool_catalogue import OTHER_WORDS, catalogue

AT_ONCE = {"retry-after-ms": "1"}
TASK = "Who is off next week?"
TOOLS = catalogue()


def plan_with(*names, **args):
    steps = [{"id": f"s{number}", "tool": name, "args": args} for number, name in enumerate(names)]
    return {"firmplan": 1, "task": TASK, "steps": steps, "output": "${s0}"}


GOOD = plan_with("list_vacation", page="1")
CHOICE = {"reasoning": "Whoever is off is on vacation.", "tools": ["list_vacation", "find_employee"]}


def planning(script, tools=TOOLS, task=TASK, **options):
    """Return what came of a planning, and the requests."""

    async def main():
        async with ScriptedModel(script) as model:
            heard, saved = options.pop("heard", None), options.pop("saved", ())
            planner = Planner("m", base_url=model.base_url, **{"timeout": 5, **options})
            try:
                return await planner.plan(task, tools, heard=heard, saved=saved), model.requests
            except PlanningFailed as failure:
                return failure, model.requests

    return asyncio.run(main())


def shown(request):
    """Return the names of the tools that a request for a plan lists."""
    lines = request["messages"][1]["content"].partition("# Task")[0].splitlines()
    return [line.removeprefix("- ").partition("(")[0] for line in lines if line.startswith("- ")]


def test_the_model_chooses_and_sees_what_it_chose():
    """One small request, names as an enum; then the plan, with the tools chosen and those that words point to."""
    planned, (first, second) = planning([CHOICE, GOOD])
    assert planned.plan == Plan.model_validate(GOOD)
    assert "list_vacation" not in [tool.name for tool in choose_tools(TASK, TOOLS)], "words alone miss it"
    sure = [tool.name for tool in choose_tools(TASK, TOOLS, ALWAYS_SHOWN)]
    assert shown(second) == sorted({*CHOICE["tools"], *sure})
    asked = first["tools"][0]["function"]["parameters"]["properties"]
    assert list(asked) == ["reasoning", "tools"], "room to reason comes first"
    assert asked["tools"]["items"]["enum"] == sorted(tool.name for tool in TOOLS)


def test_the_choice_is_an_attempt_and_costs():
    """It stands among the attempts with its words, and its tokens and request are in the usage."""
    planned, _ = planning([CHOICE, GOOD])
    choice, draft = planned.attempts
    assert (choice.source, choice.approach, choice.error, choice.ok) == ("choice", "choose", None, False)
    assert json.loads(choice.text) == CHOICE
    assert (draft.number, draft.source, draft.ok) == (2, "model", True)
    assert planned.usage == choice.usage + draft.usage
    assert planned.usage.requests == 2


def test_small_toolsets_are_shown_whole():
    """Up to twenty tools no request is made but for the plan; and none where it is turned off."""
    needed = next(each for each in TOOLS if each.name == "list_vacation")
    assert len(planning([GOOD], [*TOOLS[:19], needed])[1]) == 1
    one, (request,) = planning([GOOD], choose_over=None)
    assert one.plan == Plan.model_validate(GOOD)
    assert len(shown(request)) == 30
    assert len(planning([CHOICE, GOOD], [*TOOLS[:9], needed], choose_over=9)[1]) == 2
    for wrong in (-1, True, "20"):
        with pytest.raises(ConfigError, match="choose_over"):
            Planner(choose_over=wrong)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"reasoning": "None.", "tools": []}, "names no tool"),
        ({"tools": ["list_holidays", 7]}, "names no tool"),
        ({"tools": "whichever"}, "names no tool"),
        ({}, "names no tool"),
        (Text("I would take list_vacation."), "no JSON"),
        (Text('["list_vacation"]'), "does not fit"),
        (Empty(), "empty"),
        (Truncated(CHOICE), "cut off"),
        (Refusal("Not this."), "declined"),
        (HttpError(500, "", AT_ONCE), "500"),
        (HttpError(429, "", {"retry-after": "3600"}), "429"),
        (HttpError(401), "401"),
        (Slow(CHOICE, 60), "within"),
    ],
)
def test_no_answer_is_no_end(answer, why):
    """Nothing chosen, unknown names, prose, a refusal, a broken endpoint: words choose, and the plan is asked for."""
    planned, requests = planning([answer, GOOD], timeout=2 if isinstance(answer, Slow) else 60)
    assert planned.plan == Plan.model_validate(GOOD)
    assert len(requests) == 2
    assert len(shown(requests[1])) == 30
    assert why in planned.attempts[0].error
    assert [attempt.source for attempt in planned.attempts] == ["choice", "model"]


def test_names_that_are_not_listed_are_passed_over():
    """Of an answer with some known names these count; a list in a string of JSON is read, and so is what is put around a name."""
    for tools in (
        ["nobody", "list_vacation"],
        '["list_vacation"]',
        ["`list_vacation`"],
        ["list_vacation(page)"],
        ["List_Vacation: List vacation days of staff."],
    ):
        _, (_, second) = planning([{"tools": tools}, GOOD])
        assert "list_vacation" in shown(second)
        assert len(shown(second)) <= 1 + ALWAYS_SHOWN


def test_a_whole_plan_in_answer_is_the_first_draft():
    """In the format as it is, or wrapped: no request is spent; with faults it is repaired, and it is heard."""
    for answer in (GOOD, {"plan": GOOD}):
        planned, requests = planning([answer])
        assert (planned.plan, len(requests)) == (Plan.model_validate(GOOD), 1)
        assert [attempt.source for attempt in planned.attempts] == ["model"]
    bad = plan_with("list_vacations", page="1")
    planned, requests = planning([bad, GOOD])
    assert (planned.plan, len(requests)) == (Plan.model_validate(GOOD), 2)
    assert "did you mean 'list_vacation'" in requests[1]["messages"][-1]["content"]
    heard = []
    planning([GOOD], heard=heard.append)
    assert [len(plan.steps) for plan in heard] == [1]


def test_a_draft_that_uses_others_is_shown_more():
    """A tool that was not chosen is shown once a draft uses it with faults, with its like and all that words point to."""
    bad = plan_with("find_invoice", "count_vacations", number=7)
    good = plan_with("find_invoice", words="x")
    planned, (_, second, third) = planning([CHOICE, bad, good])
    assert planned.plan == Plan.model_validate(good)
    assert not {"find_invoice", "count_vacation"} & set(shown(second))
    assert {"find_invoice", "count_vacation", *CHOICE["tools"]} <= set(shown(third))
    assert 30 <= len(shown(third)) <= 60
    words = [request["messages"][1]["content"] for request in (second, third)]
    assert f"These are {len(shown(second))} of 240 tools" in words[0], (
        "the model is told how to ask for others"
    )
    assert f"These are {len(shown(third))} of 240 tools" in words[1]
    assert (
        "you will be shown those that are like it"
        not in planning([GOOD], TOOLS[:20])[1][0]["messages"][1]["content"]
    )
    same = planning([CHOICE, plan_with("list_vacation", number=7), GOOD])[1]
    assert shown(same[1]) == shown(same[2]), "faults of the tools shown widen nothing"


def test_choosing_counts_among_the_requests():
    """Twelve requests end a planning, the choice among them; a broken endpoint is asked for a choice only once."""
    failure, requests = planning(
        [CHOICE, *(plan_with(f"nope{number}") for number in range(20))], max_repairs=50
    )
    assert isinstance(failure, PlanningFailed)
    assert len(requests) == 12
    failure, requests = planning([HttpError(500, "", AT_ONCE)] * 20)
    assert "500" in str(failure)
    assert len(requests) == 1 + 3


def test_a_model_that_cannot_be_asked_is_not_asked_twice_beside_the_plan():
    """Where the question about a saved plan found nobody there, no tools are asked for: the requests are the plan's."""
    saved = [SavedPlan("near", Plan.model_validate({**GOOD, "task": "Who is off next month?"}))]
    planned, requests = planning([HttpError(503), GOOD], saved=saved)
    assert planned.plan == Plan.model_validate(GOOD)
    assert [attempt.source for attempt in planned.attempts] == ["adapted:near", "model"]
    assert len(requests) == 2


def test_a_smaller_model_may_be_asked(monkeypatch):
    """Small questions go to it, by name or by the environment; the plan is the planner's model's."""

    def asked(**options):
        planned, requests = planning([CHOICE, GOOD], **options)
        assert planned.plan == Plan.model_validate(GOOD)
        return [request["model"] for request in requests]

    assert asked() == ["m", "m"]
    assert asked(small_model="tiny") == ["tiny", "m"]
    monkeypatch.setenv("FIRMPLAN_SMALL_MODEL", "small")
    assert asked() == ["small", "m"]
    assert asked(small_model="tiny") == ["tiny", "m"]


def test_a_small_model_may_live_elsewhere():
    """At an endpoint of its own; one that is not there costs a request, and no plan."""

    async def main(small_url=None):
        async with ScriptedModel([GOOD]) as model, ScriptedModel([CHOICE]) as other:
            small = Model("tiny", small_url or other.base_url)
            planner = Planner("m", base_url=model.base_url, small_model=small)
            planned = await planner.plan(TASK, TOOLS)
            return len(planned.attempts), [len(each.requests) for each in (model, other)]

    assert asyncio.run(main()) == (2, [1, 1])
    assert asyncio.run(main("http://127.0.0.1:9/v1")) == (2, [1, 0])


def test_small_questions_are_recorded_and_replayed(tmp_path):
    """Like every exchange with a model: the same planning comes of the recording, each question finding its own answer."""
    saved = [SavedPlan("near", Plan.model_validate({**GOOD, "task": "Who is off next month?"}))]
    declined = {"reasoning": "It is about a week.", "fits": False, "inputs": {}}
    path = tmp_path / "calls.jsonl"
    with recording(path):
        live, asked = planning([declined, CHOICE, GOOD], saved=saved)
    again, replayed = planning(path, saved=saved)
    assert len(path.read_text().splitlines()) == 1 + 3
    assert [attempt.source for attempt in live.attempts] == ["adapted:near", "choice", "model"]
    assert (again.plan, again.usage, replayed) == (live.plan, live.usage, asked)


def test_the_prompt_is_small_and_lists_each_tool_on_a_line():
    """Names and one sentence each; the examples are answers in the form that is asked for, of tools that they list."""
    system, user = choosing_messages(TASK, TOOLS)
    assert f"# Task\n\n{TASK}" in user.content
    assert "- approve_invoice: Approve one of the invoices that suppliers sent us that waits for it.\n" in (
        user.content
    )
    listed = {line[2:].partition(":")[0] for line in system.content.splitlines() if line.startswith("- ")}
    answers = [json.loads(part.partition("```")[0]) for part in system.content.split("```json\n")[1:]]
    assert len(answers) == 2
    for answer in answers:
        assert list(answer) == ["reasoning", "tools"]
        assert set(answer["tools"]) <= listed


def test_a_long_task_is_cut_for_the_choice_only():
    """A task may be a document; its beginning says what is asked."""
    task = f"Who is off next week? {'Background. ' * 5_000}"
    _, (first, second) = planning([CHOICE, GOOD], task=task)
    assert 8_000 < len(first["messages"][1]["content"].partition("# Task")[2]) < 8_100
    assert second["messages"][1]["content"].endswith(task.strip())


def test_what_does_not_fit_is_left_out_by_words():
    """A list past its length keeps the tools nearest to the task; a long description is cut to its first sentence."""
    many = [
        Tool.from_callable(
            lambda **_: None,
            name=f"{each.name}_{n}",
            parameters={"type": "object", "properties": {}},
            returns=None,
            description="Word. " * 300,
            effect="read",
        )
        for n in range(9)
        for each in TOOLS
    ]
    listed = candidates("Approve an invoice", many)
    assert sum(len(line) + 1 for line in choice_lines(listed)) <= CANDIDATES_CHARACTERS_MAX
    assert {f"approve_invoice_{n}" for n in range(9)} <= {each.name for each in listed}
    assert choice_lines(many[:1])[0] == "- list_invoice_0: Word."


def test_tools_are_found_in_any_draft():
    """In steps, agents and inner plans; shapes that are none are passed over."""
    draft = {
        "steps": [{"tool": "a"}, {"agent": {"tools": ["b", 3]}}, {"tool": None}, "x"],
        "plans": {"inner": {"steps": [{"tool": "c"}]}},
    }
    assert sorted(tools_in(draft)) == ["a", "b", "c"]
    assert tools_in(None) == []


def test_the_choice_can_be_made_where_words_do_not_help():
    """All that such a task needs is among the candidates, of which words alone would show a fifth: the ceiling of a good choice."""
    assert len(TOOLS) > CHOOSE_OVER
    for task, names in OTHER_WORDS.items():
        assert set(names) <= {tool.name for tool in candidates(task, TOOLS)}


def small(count, words=0, parameters=1):
    """Return tools with so many parameters and words of description."""
    properties = {f"parameter_{number}": {"type": "integer"} for number in range(parameters)}
    return [
        Tool.from_callable(
            lambda **_: 1,
            name=f"t{number}",
            parameters={"type": "object", "properties": properties},
            returns={"type": "integer"},
            description=" ".join(f"word{number}{each}" for each in range(words)),
            effect="read",
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("tools", "requests"),
    [
        (small(55), 1),
        (small(25, words=60, parameters=4), 2),
        (small(61), 2),
        (small(20, words=60, parameters=4), 1),
    ],
)
def test_tools_are_chosen_where_that_saves_tokens(tools, requests):
    """A list of small tools is shown whole, though there are many; of large ones, and of more than a prompt may have, a model chooses."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "t1", "args": {}}], "output": "${a}"}
    choice = {"reasoning": "..", "tools": ["t1"]}
    _, sent = planning([choice, plan][-requests:], tools, "Do it")
    assert len(sent) == requests
    assert "t1" in shown(sent[-1])
    if requests == 1:
        assert len(shown(sent[0])) == len(tools)
        return
    whole = Planner("m", choose_over=None).preview("Do it", tools[:60])
    chosen = sum(len(message["content"]) for request in sent for message in request["messages"])
    chosen += sum(len(json.dumps(request["tools"])) for request in sent)
    assert len(tools) > 60 or chosen < 4 * (whole.prompt_tokens + whole.schema_tokens)
