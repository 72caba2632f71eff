"""No draft drops a write in silence: it is made again, or the plan says what it leaves out. The model is scripted, and asked over HTTP."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Planner, PlanningFailed, Tool, tool
from firmplan.planner.drafting.left_out import texts_in
from firmplan.testing import ScriptedModel
from firmplan.tools import Model

TASK = "Sum up example.org and mail it to Mia"
SENT: list[str] = []


@tool(effect="read", trust="untrusted")
def fetch(url: str) -> str:
    """Fetch a page."""
    return "Tides rise."


@tool(effect="write", resource="mail")
def send_mail(to: str, body: str) -> str:
    """Send a mail."""
    SENT.append(to)
    return "sent"


@tool(effect="write", resource="log", allow_untrusted=("text",))
def note(text: str) -> str:
    """Note a text."""
    return "noted"


TOOLS = [fetch, send_mail, note]
PAGE = {"id": "page", "tool": "fetch", "args": {"url": "example.org"}}
SHORT = {"id": "short", "ask": {"prompt": "Sum up: ${page}"}}
MAIL = {"id": "mail", "tool": "send_mail", "args": {"to": "mia@example.org", "body": "${short}"}}
UNSAFE = {"firmplan": 1, "steps": [PAGE, SHORT, MAIL], "output": "${short}"}
SILENT = {"firmplan": 1, "steps": [PAGE, SHORT], "output": "${short}"}
WHY = "send_mail: Mia gets no mail, since the body takes no untrusted values"


def planned(script, tools=TOOLS, **options):
    async def main():
        async with ScriptedModel(script) as model:
            try:
                found = await Planner("m", base_url=model.base_url, **options).plan(TASK, list(tools))
            except PlanningFailed as failure:
                found = failure
            return found, model.requests

    return asyncio.run(main())


def asked(request):
    return request["messages"][-1]["content"]


def test_a_repair_that_drops_a_write_in_silence_is_asked_about_it():
    """The message names the write, its step and both ways out; a plan that then says what it leaves out is taken."""
    found, requests = planned([UNSAFE, SILENT, {**SILENT, "left_out": [WHY]}])
    assert found.plan.left_out == (WHY,)
    assert "unsafe-flow" in asked(requests[1])
    assert "expected the write 'send_mail' of an earlier draft (step 'mail')" in asked(requests[2])
    assert "make the call again" in asked(requests[2])
    assert "left_out" in asked(requests[2])
    assert [attempt.faults[0].path for attempt in found.attempts[:2]][1] == "$.left_out"


def test_a_repair_that_says_so_or_makes_the_write_another_way_is_asked_nothing():
    """By a text in `left_out` that names the tool or the step, or by the call itself with clean arguments."""
    for said in ([WHY], "The step mail is not made: nobody approves it."):
        found, requests = planned([UNSAFE, {**SILENT, "left_out": said}])
        assert (len(requests), found.plan.left_out) == (2, (said if isinstance(said, str) else WHY,))
    clean = {
        **UNSAFE,
        "steps": [PAGE, SHORT, {**MAIL, "args": {"to": "mia@example.org", "body": "It is done."}}],
    }
    found, requests = planned([UNSAFE, clean])
    assert (len(requests), found.plan.left_out) == (2, ())


def test_changes_to_a_draft_may_say_what_is_left_out_and_take_it_back():
    """Where only the faulty steps are asked for, `left_out` is one of the parts that may change."""
    removed = {"changes": [], "remove": ["mail"], "left_out": [WHY]}
    found, requests = planned([UNSAFE, removed])
    assert [step.id for step in found.plan.steps] == ["page", "short"]
    assert found.plan.left_out == (WHY,)
    assert "left_out" in requests[1]["tools"][0]["function"]["parameters"]["properties"]
    back = {"changes": [{**MAIL, "args": {"to": "mia@example.org", "body": "done"}}], "left_out": []}
    found, _ = planned([{**UNSAFE, "left_out": [WHY]}, back])
    assert ([step.id for step in found.plan.steps], found.plan.left_out) == (["page", "short", "mail"], ())


def test_a_model_that_says_nothing_when_asked_is_spoken_for():
    """Firmplan writes the sentence, so that the run shows it; no planning fails for it."""
    found, requests = planned([UNSAFE, SILENT, SILENT])
    assert len(requests) == 3
    (said,) = found.plan.left_out
    assert said.startswith("send_mail: an earlier draft called it (step 'mail')")
    found, requests = planned([UNSAFE, SILENT], max_repairs=1)
    assert (len(requests), len(found.plan.left_out)) == (2, 1)


def test_each_call_counts_and_a_list_of_calls_counts_as_all():
    """Of two mails neither is dropped; one step with `for_each` may stand for both; a tool that only looks alike is no excuse."""
    two = {**UNSAFE, "steps": [PAGE, SHORT, MAIL, {**MAIL, "id": "other"}]}
    clean = {**MAIL, "args": {"to": "mia@example.org", "body": "done"}}
    one = {**UNSAFE, "steps": [PAGE, SHORT, clean]}
    _, requests = planned([two, one, {**one, "left_out": ["send_mail: only Mia is known"]}])
    assert "(step 'other')" in asked(requests[2])
    listed = {**clean, "for_each": ["a@example.org"], "args": {"to": "${item}", "body": "done"}}
    _, requests = planned([two, {**one, "steps": [PAGE, SHORT, listed]}])
    assert len(requests) == 2
    _, requests = planned(
        [UNSAFE, {**SILENT, "left_out": ["resend_mail: nothing"]}, {**SILENT, "left_out": [WHY]}]
    )
    assert len(requests) == 3


def test_writes_of_inner_plans_and_agents_count():
    """Wherever a draft makes the write."""
    inner = {"steps": [MAIL | {"args": {"to": "x", "body": "${nope}"}}]}
    for step, more in (
        ({"id": "p", "plan": "tell"}, {"plans": {"tell": inner}}),
        ({"id": "a", "agent": {"goal": "Tell ${nope}", "tools": ["send_mail"]}}, {}),
    ):
        found, requests = planned([{**SILENT, "steps": [PAGE, SHORT, step], **more}, SILENT, SILENT])
        assert (len(requests), len(found.plan.left_out)) == (3, 1)


@pytest.mark.parametrize("said", ["none", "", [], ["None."], None, "[]"])
def test_a_field_that_says_nothing_is_none(said):
    """Models fill in a field that they have no use for."""
    found, requests = planned([{**SILENT, "left_out": said}])
    assert (len(requests), found.plan.left_out) == (1, ())


def test_what_is_no_text_goes_to_the_check():
    """A wrong kind is a fault like any other."""
    assert texts_in({"a": 1}) == {"a": 1}
    _, requests = planned([{**SILENT, "left_out": [{"tool": "send_mail"}]}, SILENT])
    assert "$.left_out[0]" in asked(requests[1])


def test_the_form_of_a_draft_asks_for_what_it_leaves_out():
    """As its last field; the prompt says what belongs there."""
    _, (request,) = planned([SILENT])
    properties = request["tools"][0]["function"]["parameters"]["properties"]
    assert list(properties)[-1] == "left_out"
    assert "`left_out`" in request["messages"][0]["content"]


def test_a_run_of_a_task_shows_what_its_plan_left_out():
    """From the model's words to the run: it succeeded, nobody was written to, and it says so."""

    async def main():
        script = [UNSAFE, {**SILENT, "left_out": [WHY]}, "Tides rise."]
        async with ScriptedModel(script) as model:
            endpoint = Model("m", base_url=model.base_url)
            async with Engine(
                TOOLS,
                store="memory:",
                planner=Planner("m", base_url=model.base_url),
                models={"default": endpoint},
            ) as engine:
                return await engine.run(TASK)

    run = asyncio.run(main())
    assert (run.status, run.left_out, SENT) == ("succeeded", (WHY,), [])


def test_a_choice_without_a_writing_tool_gets_the_nearest_ones():
    """A prompt without a writing tool would make a plan that does less than the task."""
    others = [
        Tool.from_callable(
            lambda **_: None,
            name=f"look_{number:02}",
            parameters={"type": "object", "properties": {}},
            returns={"type": "string"},
            effect="read",
        )
        for number in range(40)
    ]
    choice = {"reasoning": "Only reading.", "tools": ["look_01"]}
    good = {"firmplan": 1, "steps": [{"id": "a", "tool": "look_01"}], "output": "${a}"}
    for script, options in (([choice, good], {}), ([good], {"choose_over": None})):
        _, requests = planned(script, [*others, send_mail, note], **options)
        shown = asked(requests[-1]).partition("# Task")[0]
        assert "- send_mail(" in shown
        assert "look_01(" in shown
