"""Forms made from schemas: what the fields are, what leaves the page, and where faults are shown. Each answer goes to a real server."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel
from playwright.sync_api import expect
from served import Server

PERSON = {
    "type": "object",
    "description": "Who it is for",
    "properties": {
        "name": {"type": "string", "minLength": 3, "description": "As in the \u202e passport"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name"],
}
RETURNS = {
    "type": "object",
    "properties": {
        "person": {"$ref": "#/types/Person"},
        "class": {"enum": ["first", "second"]},
        "window": {"type": "boolean", "default": True},
        "number": {"type": "integer", "description": "Number of the account"},
        "price": {"type": "number", "maximum": 99.5},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "stops": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "seat": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "with": {
            "anyOf": [
                {"title": "A dog", "type": "object", "properties": {"kilos": {"type": "number"}}},
                {"title": "Nothing", "const": "nothing"},
            ]
        },
        "codes": {"type": "object", "additionalProperties": {"type": "integer"}},
        "anything": {},
        "note": {"type": "string"},
    },
    "required": [
        "person",
        "class",
        "window",
        "number",
        "price",
        "day",
        "at",
        "stops",
        "seat",
        "with",
        "codes",
        "anything",
    ],
}
ASKS = {
    "firmplan": 1,
    "task": "Book a seat",
    "types": {"Person": PERSON},
    "steps": [{"id": "seat", "ask_person": "Which seat?", "returns": RETURNS}],
    "output": "${seat}",
}


def asked(server, returns=RETURNS):
    """Submit a plan that asks; return the run's id."""
    step = {**ASKS["steps"][0], "returns": returns}
    run = server.post("/v1/runs", {"plan": {**ASKS, "steps": [step]}}).json()["id"]
    server.wait(run, "waiting")
    return run


def open_form(server, tab, run):
    """Open a run's page; return the form of its question."""
    tab.goto(f"{server.url}/#/runs/{run}?tab=decisions")
    tab.get_by_label("Your name").fill("ann")
    form = tab.get_by_role("group", name="Your answer").first
    expect(form).to_be_visible()
    return form


def field_of(tab, control):
    """The errors of the field that has this control."""
    return tab.locator(".form-field", has=control).locator(".form-errors").last


def fill(form):
    form.get_by_role("textbox", name="name", exact=True).fill("Ada")
    form.get_by_label("class").select_option("second")
    # More than a number of JavaScript holds: it leaves the page digit for digit.
    form.get_by_label("number", exact=True).fill("9007199254740993")
    form.get_by_label("price").fill("4.0")
    form.get_by_label("day").fill("2026-12-24")
    form.get_by_label("at", exact=True).fill("2026-12-24T18:30:00")
    form.get_by_label("stops 1").fill("Rome")
    form.get_by_role("button", name="Add an item to stops").click()
    form.get_by_label("stops 2").fill("Oslo")
    form.get_by_label("seat is null").check()
    form.get_by_label("Kind").select_option("A dog")
    form.get_by_label("kilos").fill("7.5")
    form.get_by_role("button", name="Add an entry to codes").click()
    form.get_by_label("Key").fill("a b")
    form.get_by_label("Value").fill("3")
    form.get_by_label("anything").fill('{"x": [1, null]}')


def test_each_kind_of_field_gives_its_value(server, tab, axe):
    """Objects, menus, yes or no, numbers to the digit, dates, lists, null, alternatives, maps and JSON; optional fields are left out."""
    run = asked(server)
    form = open_form(server, tab, run)
    # Descriptions are shown, as text in which nothing is invisible; so are limits and defaults.
    expect(form).to_contain_text("As in the \\u{202e} passport")
    expect(form).to_contain_text("0 to 150")
    expect(form).to_contain_text("default true")
    expect(form.get_by_label("yes")).to_be_checked()
    fill(form)
    axe(tab)
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")
    raw = server.get(f"/v1/runs/{run}").text
    assert '"number":9007199254740993' in raw.replace(" ", "")
    assert '"price":4.0' in raw.replace(" ", "")
    output = json.loads(raw)["output"]
    assert output.pop("at").startswith("2026-12-24T18:30:00")
    assert output == {
        "person": {"name": "Ada"},
        "class": "second",
        "window": True,
        "number": 9007199254740993,
        "price": 4.0,
        "day": "2026-12-24",
        "stops": ["Rome", "Oslo"],
        "seat": None,
        "with": {"kilos": 7.5},
        "codes": {"a b": 3},
        "anything": {"x": [1, None]},
    }
    assert json.loads(raw)["steps"]["seat"]["decision"]["by"] == "ann"


def test_faults_are_shown_at_their_fields(server, tab, axe):
    """What the page sees by itself before it sends, and what only the server sees; the first faulty field gets the focus."""
    tab.expected_faults = ("422",)
    run = asked(server)
    form = open_form(server, tab, run)
    form.get_by_role("button", name="Answer", exact=True).click()
    number = form.get_by_label("number", exact=True)
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(number).to_have_accessible_description(
        "Number of the account integer expected an integer, found none"
    )
    expect(form.get_by_label("class")).to_be_focused()
    fill(form)
    form.get_by_role("textbox", name="name", exact=True).fill("A")
    form.get_by_label("age").fill("200")
    form.get_by_label("price").fill("1e9")
    form.get_by_role("button", name="Answer", exact=True).click()
    name = form.get_by_role("textbox", name="name", exact=True)
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_be_focused()
    expect(field_of(tab, tab.get_by_role("textbox", name="name", exact=True))).to_contain_text("at least 3")
    age = field_of(tab, tab.get_by_label("age"))
    expect(age).to_contain_text("found 200")
    expect(field_of(tab, tab.get_by_label("price"))).to_contain_text("99.5")
    axe(tab)
    assert server.get(f"/v1/runs/{run}").json()["status"] == "waiting"
    # What was filled in is still there; the faults go with the next keystroke, and the answer is sent by keys alone.
    form.get_by_label("age").fill("20")
    expect(age).to_be_empty()
    form.get_by_label("price").fill("1")
    name.fill("Ada")
    name.press("Control+Enter")
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")


def test_any_value_can_be_written_as_json(server, tab):
    """The fields as JSON and back; JSON that is none is said to be none; what the server refuses is shown."""
    tab.expected_faults = ("422",)
    run = asked(server)
    form = open_form(server, tab, run)
    fill(form)
    form.get_by_role("button", name="Edit as JSON").click()
    text = form.get_by_label("Your answer, as JSON")
    value = json.loads(text.input_value())
    assert value["number"] == 9007199254740993
    text.fill("{")
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("expected JSON")
    text.fill(json.dumps({**value, "person": {"name": "Bob", "age": -1}}))
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("$.value.person.age")
    form.get_by_role("button", name="Edit in fields").click()
    expect(form.get_by_role("textbox", name="name", exact=True)).to_have_value("Bob")
    form.get_by_label("age").fill("30")
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")
    assert server.get(f"/v1/runs/{run}").json()["output"]["person"] == {"name": "Bob", "age": 30}


@pytest.mark.parametrize(
    ("returns", "filled", "answer"),
    [
        ({"type": "string"}, "<b>hi</b>\n two", "<b>hi</b>\n two"),
        ({"type": "integer", "default": 7}, None, 7),
        ({"type": ["string", "integer"]}, "3", "3"),
        ({"type": "array", "items": {"type": "integer"}, "default": [1, 2]}, None, [1, 2]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
    ],
    ids=["text", "default", "two-types", "list", "object"],
)
def test_a_question_may_want_a_single_value(server, tab, returns, filled, answer):
    """A schema that is no object gives one field; its default stands in it."""
    run = asked(server, returns)
    form = open_form(server, tab, run)
    if filled is not None:
        form.get_by_label("Your answer").last.fill(filled)
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded")
    assert server.get(f"/v1/runs/{run}").json()["output"] == answer


def test_a_form_stays_as_it_is_while_the_run_moves(server, tab):
    """Events of other steps change nothing of a form in which somebody types, and do not take the focus."""
    steps = [
        {"id": "slow", "for_each": [0.4, 0.4, 0.4], "tool": "nap", "args": {"seconds": "${item}"}},
        {"id": "who", "ask_person": "Who?", "returns": {"type": "string"}},
    ]
    run = server.post("/v1/runs", {"plan": {"firmplan": 1, "steps": steps, "output": "${who}"}}).json()["id"]
    form = open_form(server, tab, run)
    field = form.get_by_label("Your answer").last
    field.press_sequentially("ann and bob", delay=80)
    expect(tab.locator(".run-header")).to_contain_text("3 calls")
    expect(field).to_have_value("ann and bob")
    expect(field).to_be_focused()


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    """A server whose planner asks how many, and then plans with the answer."""

    def answer(request):
        said = request["messages"][-1]["content"]
        if "What the user answered" not in said:
            returns = {
                "type": "object",
                "properties": {"count": {"type": "integer", "maximum": 5}},
                "required": ["count"],
            }
            return {"firmplan": 1, "steps": [], "question": {"text": "How <b>many</b>?", "returns": returns}}
        return {"firmplan": 1, "steps": [{"id": "x", "set": 3}], "output": "${x}"}

    with ScriptedModel(answer) as model:
        env = {"FIRMPLAN_MODEL": "m", "FIRMPLAN_BASE_URL": model.base_url}
        with Server(tmp_path_factory.mktemp("planning"), **env) as running:
            assert running.url, running.said
            yield running


def test_the_question_of_the_planner_is_answered_on_the_page(planning, tab, axe):
    """The question stands on the page of the run with a form; the task is planned on with the answer, and runs."""
    tab.expected_faults = ("422",)
    tab.goto(planning.url)
    tab.get_by_label("A task in words").fill("Buy apples")
    tab.get_by_role("button", name="Run").click()
    expect(tab.get_by_text("The planner asks a question")).to_be_visible(timeout=15_000)
    tab.get_by_role("button", name="Decide").click()
    expect(tab.get_by_label("the question")).to_have_text("How <b>many</b>?")
    tab.get_by_label("Your name").fill("ann")
    form = tab.get_by_role("group", name="Your answer").first
    form.get_by_label("count").fill("6")
    axe(tab)
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(form.locator(".form-errors").last).to_contain_text("found 6")
    form.get_by_label("count").fill("4")
    form.get_by_role("button", name="Answer", exact=True).click()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded", timeout=15_000)
    expect(form).to_have_count(0)
