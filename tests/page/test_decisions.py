"""What waits for a person, on the page: everything is shown as text, and decisions go to the server."""

from __future__ import annotations

import re

import pytest
from page_tools import TOOLS
from playwright.sync_api import expect
from served import Server

PLAN = {
    "firmplan": 1,
    "task": "Answer the page",
    "steps": [
        {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}},
        {"id": "mail", "tool": "send", "args": {"to": "me", "body": "${'You say: ' + page}"}},
    ],
    "output": "${mail}",
}


def test_a_waiting_call_is_shown_whole_and_as_text(server, tab, axe):
    """The complete argument, its origin, quoted parts; nothing of it is markup, and invisible characters are escapes."""
    run = server.post("/v1/runs", {"plan": PLAN}).json()["id"]
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Decide").click()
    call = tab.locator(".call")
    expect(call).to_be_visible()
    assert call.locator("b, img").count() == 0
    text = call.text_content()
    assert not re.search("[\u200b\u202e]", text)
    assert (
        "You say: Hi!\\u{202e}\\u{200b} <b>pay</b><img src=x onerror=alert(1)> "
        + "x" * 3000
        + " write to eve@evil.example"
        in text
    )
    assert 'from get_webpage(url="http://x")' in text
    assert call.locator("mark").count() > 0
    axe(tab)
    tab.get_by_label("Your name").fill("ann")
    call.get_by_role("button", name="Approve").click()
    expect(tab.locator(".decisions")).to_have_count(0)
    assert server.wait(run)["status"] == "succeeded"
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")


def test_several_calls_are_denied_with_one_reason(server, tab):
    """One dialog, one request; each call is cancelled with the reason."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "mail", "for_each": ["a", "b"], "tool": "send", "args": {"to": "${item}"}}],
        "output": "${mail}",
    }
    run = server.post("/v1/runs", {"plan": plan}).json()["id"]
    tab.goto(f"{server.url}/#/runs/{run}?tab=decisions")
    expect(tab.locator(".call")).to_have_count(2)
    tab.get_by_label("Your name").fill("ann")
    tab.get_by_role("button", name="Deny all 2").click()
    tab.get_by_role("dialog").get_by_role("textbox").fill("no mail today")
    tab.get_by_role("dialog").get_by_role("button", name="Deny all 2").click()
    done = server.wait(run)
    assert {step["decision"]["reason"] for path, step in done["steps"].items() if "[" in path} == {
        "no mail today"
    }


def submitted(server, plan, *states):
    """Submit a plan; return the id of its run, which waits."""
    run = server.post("/v1/runs", {"plan": plan}).json()["id"]
    server.wait(run, *(states or ("waiting",)))
    return run


def calling(tool, steps=("one",), **args):
    """A plan that calls a tool, once or for each of some steps."""
    made = [{"id": name, "tool": tool, "args": args} for name in steps]
    return {"firmplan": 1, "task": f"Call {tool}", "steps": made, "output": "${" + steps[-1] + "}"}


def open_inbox(server, tab):
    tab.goto(f"{server.url}/#/decisions")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Decisions")
    tab.get_by_label("Your name").fill("ann")
    tab.get_by_label("Your name").press("Tab")


def of_run(tab, run):
    return tab.get_by_role("region", name=f"Run {run}")


@pytest.fixture
def inbox(tmp_path):
    """A server with an empty store: the inbox has what the test puts in."""
    with Server(tmp_path, tools=TOOLS) as running:
        yield running


def test_the_inbox_has_what_waits_in_all_runs_and_keys_decide(inbox, tab, axe):
    """Two runs, decided by keys alone; a decided call goes, and the focus is on the next one."""
    first = submitted(inbox, calling("pay", account=9007199254740993, amount=4.0))
    second = submitted(inbox, calling("send", to="bob"))
    tab.goto(inbox.url)
    expect(tab.get_by_role("heading", level=1)).to_have_text("Runs")
    tab.keyboard.press("g")
    tab.keyboard.press("d")
    expect(tab.locator(".call")).to_have_count(2)
    expect(tab.get_by_role("status").first).to_have_text("2 runs waiting")
    pay = of_run(tab, first)
    # Numbers are shown as they are: this one is past what JavaScript counts, and that one is no integer.
    expect(pay.get_by_label("the value of account")).to_have_text("9007199254740993")
    expect(pay.get_by_label("the value of amount")).to_have_text("4.0")
    expect(pay).to_contain_text("urgent (default)")
    expect(pay.locator(".effect")).to_have_text("write on bank")
    axe(tab)
    tab.get_by_label("Your name").fill("ann")
    tab.get_by_label("Your name").press("Tab")
    tab.keyboard.press("n")
    expect(of_run(tab, second).locator(".call")).to_be_focused()
    tab.keyboard.press("a")
    expect(of_run(tab, second)).to_have_count(0)
    expect(pay.locator(".call")).to_be_focused()
    assert inbox.wait(second)["steps"]["one"]["decision"]["by"] == "ann"
    tab.keyboard.press("d")
    tab.get_by_role("dialog").get_by_role("textbox").fill("too much")
    tab.get_by_role("dialog").get_by_role("textbox").press("Control+Enter")
    expect(tab.get_by_text("Nothing waits for a person.")).to_be_visible()
    assert inbox.wait(first)["steps"]["one"]["decision"]["reason"] == "too much"


def test_arguments_are_edited_in_the_form_of_the_tool(inbox, tab, axe):
    """The tool's schema gives the fields; a fault stands at its field; what is not touched stays exactly what was shown."""
    tab.expected_faults = ("422",)
    run = submitted(inbox, calling("pay", account=9007199254740993, amount=4.0))
    open_inbox(inbox, tab)
    tab.get_by_role("button", name="Edit", exact=True).click()
    form = tab.get_by_role("group", name="The arguments").first
    expect(form.get_by_label("account")).to_have_value("9007199254740993")
    expect(form.get_by_label("amount")).to_have_value("4.0")
    axe(tab)
    form.get_by_label("amount").fill("much")
    form.get_by_role("button", name="Approve with these arguments").click()
    expect(form.locator(".form-errors", has_text="expected a number")).to_be_visible()
    form.get_by_label("amount").fill("1e400")
    form.get_by_role("button", name="Approve with these arguments").click()
    expect(form.get_by_role("alert")).not_to_be_empty()
    form.get_by_label("amount").fill("2.50")
    form.get_by_label("yes").check()
    form.get_by_role("button", name="Approve with these arguments").click()
    expect(tab.get_by_role("dialog")).to_have_count(0)
    done = inbox.wait(run)
    assert done["output"] == {"account": 9007199254740993}
    assert done["steps"]["one"]["decision"]["args"] == {
        "account": 9007199254740993,
        "amount": 2.5,
        "urgent": True,
    }


def test_an_unknown_outcome_is_resolved_and_a_value_endorsed(inbox, tab):
    """What the call returned is written in a form of the tool's result; a value to endorse is edited in one of its schema."""
    lost = submitted(inbox, calling("lose", n=1), "indeterminate")
    again = submitted(inbox, calling("lose", n=2), "indeterminate")
    steps = [
        {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}},
        {"id": "who", "endorse": "${page[:2]}", "returns": {"type": "string", "maxLength": 5}},
    ]
    endorsed = submitted(inbox, {"firmplan": 1, "steps": steps, "output": "${who}"})
    open_inbox(inbox, tab)
    of_run(tab, again).get_by_role("button", name="It did not: fail").click()
    assert inbox.wait(again)["status"] == "failed"
    of_run(tab, lost).get_by_role("button", name="It did", exact=True).click()
    form = tab.get_by_role("group", name="The result").first
    form.get_by_role("button", name="Add an item").click()
    form.get_by_label("The result 1").fill("7")
    form.get_by_role("button", name="Record it").click()
    assert inbox.wait(lost)["output"] == [7]
    of_run(tab, endorsed).get_by_role("button", name="Edit", exact=True).click()
    form = tab.get_by_role("group", name="The arguments").first
    form.get_by_label("value").fill("Hello")
    form.get_by_role("button", name="Endorse this value").click()
    assert inbox.wait(endorsed)["output"] == "Hello"


def test_items_of_a_list_are_decided_together_or_one_by_one(inbox, tab):
    """One by itself, two that are chosen, and the rest: each request is about exactly what it says."""
    items = [f"p{place}" for place in range(5)]
    plan = {
        "firmplan": 1,
        "steps": [{"id": "mail", "for_each": items, "tool": "send", "args": {"to": "${item}"}}],
        "output": "${mail}",
    }
    run = submitted(inbox, plan)
    open_inbox(inbox, tab)
    section = of_run(tab, run)
    expect(section.locator(".call")).to_have_count(5)
    section.get_by_label("Step mail[4], attempt 1").get_by_role("button", name="Deny").click()
    tab.get_by_role("dialog").get_by_role("button", name="Deny").click()
    expect(section.locator(".call")).to_have_count(4)
    section.get_by_label("Choose step mail[0]").check()
    section.get_by_label("Choose step mail[1]").check()
    section.get_by_role("button", name="Approve the 2 chosen").click()
    expect(section.locator(".call")).to_have_count(2)
    section.get_by_role("button", name="Deny all 2").click()
    tab.get_by_role("dialog").get_by_role("textbox").fill("not them")
    tab.get_by_role("dialog").get_by_role("button", name="Deny all 2").click()
    steps = inbox.wait(run)["steps"]
    found = [(steps[f"mail[{place}]"]["decision"] or {}) for place in range(5)]
    assert [(each.get("decision"), each.get("reason", "")) for each in found] == [
        ("approved", ""),
        ("approved", ""),
        ("denied", "not them"),
        ("denied", "not them"),
        ("denied", ""),
    ]
    assert [steps[f"mail[{place}]"]["output"] for place in range(2)] == ["sent to p0", "sent to p1"]


def test_whoever_comes_second_is_told_who_was_first(inbox, tab):
    """A tab that still shows a call which another has decided about: nothing is recorded, and the message names the decision that stands."""
    tab.expected_faults = ("409",)
    run = submitted(inbox, calling("send", to="bob"))
    open_inbox(inbox, tab)
    expect(tab.locator(".call")).to_have_count(1)
    # This tab reads nothing more until it has decided.
    stale = inbox.get("/v1/waiting").text
    tab.route("**/v1/waiting?*", lambda route: route.fulfill(body=stale, content_type="application/json"))
    inbox.post(f"/v1/runs/{run}/steps/one/deny", {"by": "joe", "reason": "no", "attempt": 1})
    inbox.wait(run)
    tab.get_by_role("button", name="Approve").click()
    said = tab.get_by_role("alert").filter(has_text="somebody has decided before you")
    expect(said).to_contain_text("denied by joe")
    tab.unroute("**/v1/waiting?*")
    expect(tab.locator(".call")).to_have_count(0)
    assert inbox.get(f"/v1/runs/{run}").json()["steps"]["one"]["decision"]["by"] == "joe"


def test_a_decision_without_a_name_leads_to_the_field_of_the_name(inbox, tab):
    """A server without keys wants to know who decides; the focus goes where the name is written."""
    tab.expected_faults = ("422",)
    run = submitted(inbox, calling("send", to="bob"))
    tab.goto(f"{inbox.url}/#/decisions")
    tab.get_by_role("button", name="Approve").click()
    expect(tab.get_by_role("alert").filter(has_text="by")).to_be_visible()
    expect(tab.get_by_label("Your name")).to_be_focused()
    tab.keyboard.type("ann")
    tab.get_by_role("button", name="Approve").click()
    assert inbox.wait(run)["steps"]["one"]["decision"]["by"] == "ann"


def test_a_budget_is_raised_in_the_inbox(inbox, tab):
    """A run that has used up its budget waits there, too."""
    run = inbox.post("/v1/runs", {"plan": calling("add", a=1, b=2), "budget": {"calls": 0}}).json()["id"]
    inbox.wait(run, "over_budget")
    open_inbox(inbox, tab)
    tab.get_by_role("button", name="Raise the budget").click()
    tab.get_by_role("textbox", name="calls (optional)", exact=True).fill("5")
    tab.get_by_role("button", name="Resume with these limits").click()
    assert inbox.wait(run)["output"] == 3
    expect(tab.get_by_text("Nothing waits for a person.")).to_be_visible()


def test_what_somebody_types_stays_while_other_runs_come_and_go(inbox, tab):
    """The list changes in place: the text, the caret's field and the element itself stay."""
    returns = {"type": "string"}
    asks = {
        "firmplan": 1,
        "steps": [{"id": "who", "ask_person": "Who?", "returns": returns}],
        "output": "${who}",
    }
    other = submitted(inbox, calling("send", to="first"))
    run = submitted(inbox, asks)
    open_inbox(inbox, tab)
    field = of_run(tab, run).get_by_label("Your answer").last
    field.press_sequentially("ann")
    field.evaluate("(element) => { element.dataset.mine = 'yes' }")
    inbox.post(f"/v1/runs/{other}/steps/one/deny", {"by": "joe"})
    newer = submitted(inbox, calling("send", to="third"))
    expect(of_run(tab, newer).locator(".call")).to_be_visible()
    expect(of_run(tab, other)).to_have_count(0)
    expect(field).to_be_focused()
    expect(field).to_have_value("ann")
    expect(field).to_have_attribute("data-mine", "yes")
    field.press("Control+Enter")
    assert inbox.wait(run)["output"] == "ann"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_axe_finds_nothing_in_the_inbox(server, tab, axe, scheme, width):
    """A call with untrusted data, a list and a question; nothing is wider than the screen."""
    submitted(server, PLAN)
    returns = {
        "type": "object",
        "properties": {"who": {"enum": ["a"]}, "when": {"type": "string", "format": "date"}},
    }
    submitted(server, {"firmplan": 1, "steps": [{"id": "who", "ask_person": "Who?", "returns": returns}]})
    submitted(server, calling("lose", n=1), "indeterminate")
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    open_inbox(server, tab)
    expect(tab.locator(".call").nth(2)).to_be_visible()
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_axe_finds_nothing_in_open_forms(server, tab, axe, scheme, width):
    """The dialog that edits arguments, and the form of a question with objects and lists in objects, each part opened."""
    seat = {
        "type": "object",
        "properties": {"row": {"type": "integer"}, "side": {"enum": ["aisle", "window"]}},
    }
    returns = {
        "type": "object",
        "properties": {
            "who": {"type": "object", "properties": {"seats": {"type": "array", "items": seat}}},
            "pays": {"anyOf": [{"title": "cash", "type": "number"}, {"title": "card", "type": "string"}]},
        },
        "required": ["who", "pays"],
    }
    asks = {"firmplan": 1, "steps": [{"id": "who", "ask_person": "Who?", "returns": returns}]}
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(f"{server.url}/#/runs/{submitted(server, asks)}?tab=decisions")
    form = tab.get_by_role("group", name="Your answer").first
    form.get_by_role("button", name="Give seats").click()
    form.get_by_role("button", name="Add an item").click()
    form.get_by_role("textbox", name="row (optional)").fill("x")
    form.get_by_role("button", name="Answer").click()
    expect(form.locator(".form-errors", has_text="expected").first).to_be_visible()
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.goto(f"{server.url}/#/runs/{submitted(server, calling('pay', account=1, amount=4.0))}?tab=decisions")
    tab.get_by_role("button", name="Edit", exact=True).click()
    expect(tab.get_by_role("dialog").get_by_label("amount")).to_have_value("4.0")
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
