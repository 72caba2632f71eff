"""Saved plans, tasks that are planned before they run, and schedules, on the page."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel
from page_tools import TOOLS
from playwright.sync_api import expect
from served import Server

PLAN = {
    "firmplan": 1,
    "task": "Pay <b>somebody</b>",
    "types": {"Who": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    "inputs": {
        "who": {"$ref": "#/types/Who"},
        "account": {"type": "integer", "minimum": 1, "description": "Where it is from"},
        "urgent": {"type": "boolean", "default": False},
        "today": {"type": "string", "x-given": "today"},
    },
    "steps": [
        {"id": "total", "tool": "add", "args": {"a": "${inputs.account}", "b": 1}},
        {"id": "said", "set": "${inputs.who.name} gets ${total}"},
        {"id": "noted", "set": {"urgent": "${inputs.urgent}", "today": "${inputs.today}"}},
    ],
    "output": "${said}",
}
DRAFT = {
    "firmplan": 1,
    "inputs": {"who": {"type": "string"}},
    "steps": [
        {"id": "total", "tool": "add", "args": {"a": 1, "b": 2}},
        {"id": "twice", "tool": "add", "args": {"a": "${total}", "b": "${total}"}},
        {"id": "mail", "tool": "send", "args": {"to": "${inputs.who}", "body": "${str(twice)}"}},
    ],
    "output": "${mail}",
}


def planner(request):
    """Plan one task, ask about another."""
    if "Ask" in request["messages"][-1]["content"]:
        returns = {"type": "string"}
        return {"firmplan": 1, "steps": [], "question": {"text": "Which one?", "returns": returns}}
    return DRAFT


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    """A server with a planner whose model writes slowly enough to be watched."""
    with ScriptedModel(planner, seconds_per_chunk=0.1) as model:
        env = {"FIRMPLAN_MODEL": "m", "FIRMPLAN_BASE_URL": model.base_url}
        with Server(tmp_path_factory.mktemp("planning"), tools=TOOLS, **env) as running:
            assert running.url, running.said
            running.model = model
            yield running


@pytest.fixture
def desk(tmp_path):
    """A server with an empty store."""
    with Server(tmp_path, tools=TOOLS) as running:
        assert running.url, running.said
        yield running


def save(server, name, plan=PLAN):
    answer = server.client.put(f"/v1/plans/{name}", json=plan)
    assert answer.status_code == 200, answer.text


def test_a_saved_plan_is_run_from_a_form_of_its_inputs(desk, tab, axe):
    """References to types, defaults, what the clock gives; a fault that the server finds stands at its field; then the run is shown."""
    tab.expected_faults = ("422",)
    save(desk, "payment")
    tab.goto(desk.url)
    expect(tab.get_by_role("heading", level=1)).to_have_text("Runs")
    tab.keyboard.press("g")
    tab.keyboard.press("p")
    expect(tab.get_by_role("list", name="Saved plans")).to_contain_text("Pay <b>somebody</b>")
    axe(tab)
    tab.get_by_role("link", name="payment").click()
    form = tab.get_by_role("group", name="The inputs")
    expect(form).to_contain_text("Where it is from")
    expect(form.get_by_label("no", exact=True)).to_be_checked()
    expect(tab.locator(".node[data-step=total]")).to_be_visible()
    form.get_by_label("account").fill("0")
    form.get_by_label("name").fill("Ada")
    axe(tab)
    form.get_by_role("button", name="Run this plan").click()
    expect(form.locator(".form-errors", has_text="at least 1")).to_be_visible()
    expect(form.get_by_label("account")).to_be_focused()
    form.get_by_label("account").fill("41")
    form.get_by_role("button", name="Run this plan").click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")
    run = desk.get(f"/v1/runs/{tab.url.rpartition('/')[2]}").json()
    assert run["output"] == "Ada gets 42"
    assert {**run["inputs"], "today": ""} == {
        "who": {"name": "Ada"},
        "account": 41,
        "urgent": False,
        "today": "",
    }


def test_a_plan_without_inputs_is_one_click(desk, tab):
    save(
        desk,
        "plain",
        {"firmplan": 1, "steps": [{"id": "x", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${x}"},
    )
    tab.goto(f"{desk.url}/#/plans/plain")
    tab.get_by_role("button", name="Run this plan").click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")


def test_versions_of_a_plan_are_listed_and_restored(desk, tab, axe):
    """The present plan, earlier ones, deletions; what is restored takes the place of the plan that is shown, and of no other."""
    tab.expected_faults = ("404", "412")
    other = {**PLAN, "task": "Pay twice"}
    save(desk, "payment")
    save(desk, "payment", other)
    tab.goto(f"{desk.url}/#/plans/payment?tab=history")
    versions = tab.get_by_role("list", name="Versions").get_by_role("listitem")
    expect(versions).to_have_count(2)
    expect(versions.first).to_contain_text("the present plan")
    axe(tab)
    tab.get_by_role("button", name="Restore version 1").click()
    expect(versions).to_have_count(3)
    assert desk.get("/v1/plans/payment").json()["task"] == PLAN["task"]
    # Somebody else saves: the page must not replace what it does not show.
    save(desk, "payment", {**PLAN, "task": "Pay thrice"})
    tab.get_by_role("button", name="Restore version 2").click()
    expect(tab.get_by_role("alert").filter(has_text="payment")).to_be_visible()
    assert desk.get("/v1/plans/payment").json()["task"] == "Pay thrice"
    desk.client.delete("/v1/plans/payment")
    tab.reload()
    expect(tab.get_by_text("deleted")).to_be_visible()
    tab.get_by_role("button", name="Restore version 2").click()
    expect(tab.get_by_role("button", name="Run this plan")).to_be_visible()
    assert desk.get("/v1/plans/payment").json()["task"] == "Pay twice"


def test_a_schedule_is_made_paused_and_resumed(desk, tab, axe):
    """The plan's inputs are a part of the form; the line has the next time; pausing and resuming are one click."""
    tab.expected_faults = ("422", "412")
    save(desk, "payment")
    tab.goto(f"{desk.url}/#/plans/payment")
    expect(tab.get_by_text("No schedule runs this plan.")).to_be_visible()
    tab.get_by_role("button", name="Add a schedule").click()
    form = tab.get_by_role("dialog")
    form.get_by_label("Kind").select_option("by cron")
    form.get_by_label("cron").fill("61 * * * *")
    form.get_by_label("tz").fill("Europe/Berlin")
    form.get_by_label("account").fill("7")
    form.get_by_role("textbox", name="name").last.fill("Ada")
    axe(tab)
    form.get_by_role("button", name="Make the schedule").click()
    expect(form.locator(".problem, .form-errors", has_text="cron").first).to_be_visible()
    form.get_by_label("cron").fill("0 8 * * 1-5")
    form.get_by_role("button", name="Make the schedule").click()
    expect(tab.get_by_role("dialog")).to_have_count(0)
    line = tab.get_by_role("row", name="payment")
    expect(line).to_contain_text("0 8 * * 1-5 (Europe/Berlin)")
    made = desk.get("/v1/schedules/payment").json()
    assert made["inputs"] == {"who": {"name": "Ada"}, "account": 7, "urgent": False}
    tab.get_by_role("button", name="Pause payment").click()
    expect(line).to_contain_text("paused")
    assert desk.get("/v1/schedules/payment").json()["paused"]
    tab.goto(f"{desk.url}/#/plans")
    axe(tab)
    tab.get_by_role("button", name="Resume payment").click()
    expect(tab.get_by_role("button", name="Pause payment")).to_be_visible()
    assert not desk.get("/v1/schedules/payment").json()["paused"]


def test_a_task_shows_its_plan_while_it_is_written_and_runs_only_when_told(planning, tab, axe):
    """The graph grows with the draft; then comes the check; nothing has run; the form of its inputs runs it without asking the model again."""
    tab.goto(planning.url)
    tab.get_by_label("A task in words").fill("Add 1 and 2, and mail the double")
    tab.get_by_role("button", name="Plan first").click()
    # A part of the plan is there while the model still writes.
    expect(tab.locator(".node[data-step=total]")).to_be_visible(timeout=15_000)
    expect(tab.get_by_role("status").filter(has_text="being written")).to_be_visible()
    expect(tab.get_by_text("The plan passes its check")).to_have_count(0)
    expect(tab.get_by_text("The plan passes its check")).to_be_visible(timeout=20_000)
    expect(
        tab.get_by_text(
            "A run makes at most 3 calls, 0 of them to models. Its longest chain is total → twice → mail."
        )
    ).to_be_visible()
    expect(tab.locator(".node[data-step=mail]")).to_be_visible()
    assert planning.get("/v1/runs").json()["runs"] == []
    axe(tab)
    asked = len(planning.model.requests)
    tab.get_by_role("group", name="The inputs").get_by_label("who").fill("ann")
    tab.get_by_role("button", name="Run this plan").click()
    expect(tab.locator(".run-header .status")).to_have_text("waiting")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Add 1 and 2, and mail the double")
    assert len(planning.model.requests) == asked


def test_a_planned_task_is_saved(planning, tab):
    """Under a new name only; the page of the saved plan follows."""
    tab.expected_faults = ("412",)
    taken = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}
    save(planning, "taken", taken)
    tab.goto(f"{planning.url}/#/task?words=Add+and+mail")
    expect(tab.get_by_text("The plan passes its check")).to_be_visible(timeout=20_000)
    tab.get_by_role("button", name="Save this plan").click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("textbox", name="name").fill("taken")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("taken")
    dialog.get_by_role("textbox", name="name").fill("adding")
    dialog.get_by_role("button", name="Save", exact=True).click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("adding")
    assert planning.get("/v1/plans/adding").json()["steps"] == json.loads(json.dumps(DRAFT["steps"]))
    assert planning.get("/v1/plans/taken").json()["steps"][0]["id"] == "x"


def test_a_question_in_the_place_of_a_plan_leads_to_a_run(planning, tab, axe):
    """Without a run nobody can answer: the page says what the planner asks, and offers the run in which it is answered."""
    tab.goto(f"{planning.url}/#/task?words=Ask+me")
    problem = tab.get_by_role("alert").filter(has_text="Which one?")
    expect(problem).to_be_visible(timeout=15_000)
    axe(tab)
    problem.get_by_role("button", name="Run the task all the same").click()
    expect(tab.get_by_text("The planner asks a question")).to_be_visible(timeout=15_000)


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_axe_finds_nothing_on_the_pages_of_plans(server, tab, axe, scheme, width):
    save(server, "payment")
    schedule = {"plan": "payment", "every": "1h", "inputs": {"who": {"name": "Ada"}, "account": 1}}
    server.client.put("/v1/schedules/hourly", json=schedule)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    for address in ("plans", "plans/payment", "plans/payment?tab=json", "plans/payment?tab=history"):
        tab.goto(f"{server.url}/#/{address}")
        expect(tab.get_by_role("row", name="hourly")).to_be_visible()
        axe(tab)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
