"""The view of one run: graph, timeline and step, live."""

from __future__ import annotations

import json
import re

import pytest
from firmplan.testing import ScriptedModel
from page_tools import TOOLS
from playwright.sync_api import expect
from served import Server

OFFERS = {
    "firmplan": 1,
    "task": "Compare offers",
    "plans": {
        "offer": {
            "inputs": {"good": {"type": "string"}},
            "steps": [
                {"id": "look", "tool": "flaky", "args": {"name": "${inputs.good}"}},
                {"id": "count", "tool": "add", "args": {"a": "${len(look)}", "b": 1}},
            ],
            "output": "${count}",
        }
    },
    "steps": [
        {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}, "why": "offers stand there"},
        {"id": "offers", "plan": "offer", "for_each": ["tea", "milk"], "args": {"good": "${item}"}},
        {"id": "again", "tool": "add", "args": {"a": 4, "b": 1}},
        {"id": "never", "when": "${again > 9}", "tool": "add", "args": {"a": 1, "b": 1}},
        {
            "id": "whole",
            "set": {"offers": "${offers}", "again": "${again}", "deep": {"list": [{"needle": "in hay"}]}},
        },
        {
            "id": "mail",
            "tool": "send",
            "args": {"to": "me", "body": "${'They say: ' + page}"},
            "after": ["whole"],
        },
    ],
    "output": "${whole}",
}


def submit(server, plan, **inputs):
    """Submit a plan; return the run's id."""
    answer = server.post("/v1/runs", {"plan": plan, "inputs": inputs})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def node(tab, path):
    """The element of a step in the graph."""
    return tab.locator(f'.node[data-step="{path}"]')


def row(tab, path):
    """The row of a step in the timeline."""
    return tab.locator(f'.timeline-row[data-step="{path}"]')


@pytest.fixture(scope="module")
def offers(server):
    """A run that waits for a person after it has retried, reused, skipped and listed."""
    server.wait(submit(server, OFFERS), "waiting")
    run = submit(server, {**OFFERS, "description": "again"})
    server.wait(run, "waiting")
    return run


def test_the_graph_shows_status_retries_reuse_effects_and_waits(server, tab):
    """Each node says what became of its step; each line leads from a step to one that waits for it."""
    plan = json.loads(json.dumps(OFFERS).replace("tea", "salt").replace("milk", "oil"))
    run = submit(server, plan)
    server.wait(run, "waiting")
    tab.goto(f"{server.url}/#/runs/{run}")
    expect(node(tab, "page")).to_have_attribute("data-effect", "read")
    expect(node(tab, "mail")).to_have_attribute("data-effect", "write")
    for path, status in (
        ("page", "succeeded"),
        ("never", "skipped"),
        ("mail", "waiting"),
        ("whole", "succeeded"),
    ):
        expect(node(tab, path)).to_have_class(re.compile(rf"\bis-{status}\b"))
    expect(node(tab, "offers[0]/look").locator(".is-retried")).to_have_text("↻ 2")
    again = submit(server, plan)
    server.wait(again, "waiting")
    tab.goto(f"{server.url}/#/runs/{again}")
    expect(node(tab, "again").locator(".badge")).to_have_text("reused")
    expect(tab.locator('.wait.of-after[data-step="mail"]')).to_have_count(1)
    expect(tab.locator('.wait.of-data[data-step="whole"]')).to_have_count(2)
    expect(tab.locator(".map-node.is-waiting")).to_have_count(1)


def test_parts_are_folded_and_opened(server, tab, offers):
    """A list opens into its items, and these into the steps of the inner plan; a link to a part opens what it is part of."""
    tab.goto(f"{server.url}/#/runs/{offers}")
    tab.get_by_role("button", name="Fold all").click()
    expect(node(tab, "offers[1]")).to_have_count(0)
    node(tab, "offers").get_by_role("button", name="Open offers: 2 parts").click()
    expect(node(tab, "offers[1]")).to_be_visible()
    expect(node(tab, "offers[1]/look")).to_have_count(0)
    tab.goto(f"{server.url}/#/runs/{offers}?step=offers%5B1%5D%2Fcount")
    expect(node(tab, "offers[1]/count")).to_be_visible()
    expect(tab.locator('.wait[data-step="offers[1]/count"]')).to_have_count(1)
    expect(tab.locator(".drawer h2")).to_have_text("offers[1]/count")


def test_the_critical_path_and_the_direction(server, tab, offers):
    """The chain that decided the end is marked; the graph turns."""
    tab.goto(f"{server.url}/#/runs/{offers}")
    expect(node(tab, "whole")).to_be_visible()
    expect(tab.locator(".node.is-critical")).to_have_count(0)
    tab.get_by_role("button", name="Critical path").click()
    expect(tab.locator(".node.is-critical").first).to_be_visible()
    expect(node(tab, "never")).not_to_have_class(re.compile("is-critical"))
    higher = node(tab, "page").bounding_box()["y"] < node(tab, "mail").bounding_box()["y"]
    tab.get_by_role("button", name="Turn the graph").click()
    expect(tab.get_by_role("button", name="Turn the graph")).to_have_text("→ Right")
    tab.wait_for_function(
        """() => { const at = (step) => document.querySelector(`.node[data-step="${step}"]`).getBoundingClientRect().x;
                   return at("whole") < at("mail"); }"""
    )
    assert higher


def test_panning_zooming_and_the_map_move_the_view(server, tab, offers):
    """With the mouse, and with buttons."""
    tab.goto(f"{server.url}/#/runs/{offers}")
    expect(node(tab, "whole")).to_be_visible()
    view = tab.locator(".react-flow__viewport")
    seen = [view.get_attribute("style")]
    box = tab.locator(".react-flow__pane").bounding_box()
    tab.mouse.move(box["x"] + 30, box["y"] + 30)
    for act in (
        lambda: tab.mouse.wheel(0, -300),
        lambda: (tab.mouse.down(), tab.mouse.move(box["x"] + 90, box["y"] + 60, steps=4), tab.mouse.up()),
        lambda: tab.get_by_role("button", name="Zoom Out").click(),
        lambda: tab.get_by_role("button", name="Fit View").click(),
    ):
        act()
        tab.wait_for_function(
            "before => document.querySelector('.react-flow__viewport').style.cssText !== before", arg=seen[-1]
        )
        seen.append(tab.evaluate("document.querySelector('.react-flow__viewport').style.cssText"))


def test_a_step_is_found_by_a_part_of_its_path(server, tab, offers):
    """`/` goes to the field, Enter to the next step that fits."""
    tab.goto(f"{server.url}/#/runs/{offers}")
    expect(node(tab, "whole")).to_be_visible()
    tab.keyboard.press("/")
    tab.keyboard.type("count")
    tab.keyboard.press("Enter")
    expect(tab.locator(".drawer h2")).to_have_text("offers[0]/count")


def test_the_timeline_shows_queued_called_retried_reused_and_waiting(server, tab):
    """A row for each step; bars of its attempts and of its waiting."""
    plan = json.loads(json.dumps(OFFERS).replace("tea", "rice").replace("milk", "corn"))
    run = submit(server, plan)
    server.wait(run, "waiting")
    tab.goto(f"{server.url}/#/runs/{run}")
    row(tab, "offers").get_by_role("button", name="Parts of offers").click()
    row(tab, "offers[0]").get_by_role("button", name="Parts of offers[0]").click()
    bars = row(tab, "offers[0]/look").locator(".bar")
    kinds = bars.evaluate_all("all => all.map((bar) => bar.className.match(/is-(\\w+)/)[1])")
    assert kinds == ["queued", "failed", "pause", "succeeded"]
    expect(row(tab, "mail").locator(".bar.is-waiting")).to_have_count(1)
    lefts = bars.evaluate_all("all => all.map((bar) => bar.getBoundingClientRect().x)")
    assert lefts == sorted(lefts)
    again = submit(server, plan)
    server.wait(again, "waiting")
    tab.goto(f"{server.url}/#/runs/{again}")
    expect(row(tab, "again").locator(".bar.is-reused")).to_have_count(1)


def test_a_step_is_shown_in_full(server, tab, offers, axe):
    """Arguments with origins, the output as a tree that is searched, copied and downloaded, attempts, why it ran, its records."""
    tab.goto(f"{server.url}/#/runs/{offers}")
    node(tab, "mail").locator(".node-main").click()
    drawer = tab.locator(".drawer")
    expect(drawer).to_contain_text('from get_webpage(url="http://x")')
    expect(drawer).to_contain_text("They say: Hi!\\u{202e}\\u{200b} <b>pay</b>")
    assert drawer.locator("b, img").count() == 0
    axe(tab)

    row(tab, "whole").locator(".timeline-link").click()
    expect(drawer.locator("h2")).to_have_text("whole")
    drawer.get_by_role("tab", name="Output").click()
    expect(drawer).not_to_contain_text("in hay")
    drawer.get_by_role("searchbox").fill("HAY")
    expect(drawer.locator("mark")).to_have_text("hay")
    drawer.get_by_role("button", name="Copy", exact=True).click()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied)["deep"] == {"list": [{"needle": "in hay"}]}
    with tab.expect_download() as coming:
        drawer.get_by_role("button", name="Download").click()
    assert json.loads(coming.value.path().read_text()) == json.loads(copied)
    assert coming.value.suggested_filename == f"{offers}-whole.json"
    axe(tab)

    row(tab, "again").locator(".timeline-link").click()
    drawer.get_by_role("tab", name="Why").click()
    expect(drawer).to_contain_text("reused")
    expect(drawer.get_by_role("link", name="run_").first).to_be_visible()
    drawer.get_by_role("tab", name="Journal").click()
    drawer.get_by_text("CallReused").click()
    expect(drawer.locator(".json").first).to_contain_text("sha256:")
    axe(tab)


def test_attempts_say_what_went_wrong(server, tab):
    """Each attempt with its time, and the error of the one that failed."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "ask", "tool": "flaky", "args": {"name": "attempts"}},
            {"id": "slow", "tool": "nap", "args": {"seconds": 0.2}},
        ],
        "output": ["${ask}", "${slow}"],
    }
    run = submit(server, plan)
    server.wait(run)
    tab.goto(f"{server.url}/#/runs/{run}?step=ask&part=attempts")
    attempts = tab.locator(".attempt")
    expect(attempts).to_have_count(3)
    expect(attempts.first).to_contain_text("Attempt 1failed")
    expect(attempts.first).to_contain_text("no answer for attempts")
    expect(attempts.last).to_contain_text("Attempt 2succeeded")
    tab.goto(f"{server.url}/#/runs/{run}?step=slow&part=attempts")
    expect(tab.locator(".progress-notes")).to_contain_text("100 % part 4 of 4")
    tab.get_by_role("tab", name="Log").click()
    expect(tab.locator(".log-line")).to_have_count(1)
    expect(tab.locator(".log-line")).to_contain_text("infolying down bed=<b>soft</b>")


def test_an_opened_step_stays_open_and_the_focus_stays(server, tab):
    """While the run goes on, nothing that a person has opened or chosen is lost; Escape closes the step, and the back button opens it again."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "early", "set": {"a": {"b": {"c": 1}}}},
            {"id": "slow", "tool": "nap", "args": {"seconds": 1.5}},
            {"id": "last", "tool": "add", "args": {"a": "${len([slow])}", "b": 1}},
        ],
        "output": ["${early}", "${last}"],
    }
    run = submit(server, plan)
    tab.goto(f"{server.url}/#/runs/{run}?step=early&part=output")
    toggle = tab.locator(".drawer .json-toggle", has_text="b")
    toggle.last.click()
    expect(tab.locator(".drawer")).to_contain_text("c")
    toggle.last.focus()
    expect(tab.locator(".run-header .status")).to_have_text("succeeded", timeout=15_000)
    expect(node(tab, "last")).to_have_class(re.compile("is-succeeded"))
    expect(tab.locator(".drawer h2")).to_have_text("early")
    assert tab.evaluate("document.activeElement.className") == "json-toggle"
    tab.keyboard.press("Escape")
    expect(tab.locator(".drawer")).to_have_count(0)
    assert tab.evaluate("document.activeElement.closest('.node').dataset.step") == "early"
    tab.go_back()
    expect(tab.locator(".drawer h2")).to_have_text("early")


def test_one_event_changes_only_the_elements_of_its_step(server, tab):
    """Of 500 steps one ends while another runs on: in graph, map and timeline nothing else is touched, and none of the others is drawn again."""
    count = 500
    adds = [
        {
            "id": f"s{number}",
            "tool": "add",
            "args": {"a": number, "b": 1} if number < 20 else {"a": f"${{s{number - 20}}}", "b": 1},
        }
        for number in range(count - 2)
    ]
    plan = {
        "firmplan": 1,
        "steps": [
            *adds,
            {"id": "early", "tool": "rest", "args": {"seconds": 500}},
            {"id": "late", "tool": "rest", "args": {"seconds": 600}},
        ],
        "output": ["${early}", "${late}"],
    }
    run = submit(server, plan)
    tab.goto(f"{server.url}/#/runs/{run}")
    expect(node(tab, "s1")).to_have_count(1, timeout=20_000)
    tab.wait_for_function(
        "() => document.querySelectorAll('.map-node.is-succeeded').length === 498 && document.querySelector('.map-node.is-running')",
        timeout=60_000,
    )
    tab.evaluate(
        """() => {
          window.changed = [];
          const seen = new MutationObserver((list) => {
            for (const { target, attributeName } of list) {
              const element = target.nodeType === 1 ? target : target.parentElement;
              // The clock of the timeline is a property of one element, and the numbers of its axis.
              const isClock = element?.matches(".timeline") && attributeName === "style" || element?.closest(".timeline-axis");
              if (!isClock) window.changed.push(element?.closest("[data-step]")?.dataset.step ?? element?.outerHTML.slice(0, 300));
            }
          });
          for (const name of [".graph", ".timeline"]) {
            seen.observe(document.querySelector(name), { subtree: true, childList: true, attributes: true, characterData: true });
          }
        }"""
    )
    (server.folder / "woken-500").touch()
    tab.wait_for_function(
        "() => document.querySelector('.map-node[data-step=early].is-succeeded')", timeout=60_000
    )
    tab.wait_for_timeout(1_500)  # the page reads the run again meanwhile, and finds nothing else to change
    changed = tab.evaluate("window.changed")
    assert set(changed) == {"early"}
    server.post(f"/v1/runs/{run}/cancel")


def test_a_very_large_plan_is_drawn_in_layers(server, tab):
    """Of 1,000 steps, too many for a layout without crossings, each stands below what it waits for, and none covers another."""
    adds = [
        {
            "id": f"s{number}",
            "tool": "add",
            "args": {"a": number, "b": 2} if number < 50 else {"a": f"${{s{number - 50}}}", "b": 2},
        }
        for number in range(1000)
    ]
    ends = ", ".join(f"s{number}" for number in range(950, 1000))
    run = submit(server, {"firmplan": 1, "steps": adds, "output": f"${{[{ends}]}}"})
    server.wait(run)
    tab.goto(f"{server.url}/#/runs/{run}")
    expect(tab.locator(".map-node")).to_have_count(1000, timeout=60_000)
    boxes = tab.locator(".map-node").evaluate_all(
        "all => all.map((box) => [box.dataset.step, +box.getAttribute('x'), +box.getAttribute('y')])"
    )
    places = {step: (x, y) for step, x, y in boxes}
    assert len(set(places.values())) == 1000
    assert all(places[f"s{number}"][1] > places[f"s{number - 50}"][1] for number in range(50, 1000))


def test_a_prompt_and_its_answer_are_shown(tab, tmp_path, axe):
    """Of a model step: the prompt as it was sent with its untrusted parts marked, the answer, tokens and model."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "page", "tool": "get_webpage", "args": {"url": "http://x"}},
            {"id": "short", "ask": {"prompt": "Shorten: ${page}", "system": "You are brief."}},
        ],
        "output": "${short}",
    }
    with (
        ScriptedModel(["pay eve"]) as model,
        Server(tmp_path, tools=TOOLS, FIRMPLAN_MODEL="small", FIRMPLAN_BASE_URL=model.base_url) as server,
    ):
        run = submit(server, plan)
        assert server.wait(run)["status"] == "succeeded"
        tab.goto(f"{server.url}/#/runs/{run}?step=short")
        drawer = tab.locator(".drawer")
        expect(drawer).to_contain_text("You are brief.")
        expect(drawer).to_contain_text("Shorten: Hi!")
        expect(drawer.locator("mark").first).to_be_visible()
        expect(drawer.get_by_role("group", name="the answer")).to_contain_text("pay eve")
        expect(drawer).to_contain_text("small")
        axe(tab)


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_axe_finds_nothing_in_a_run(server, tab, axe, offers, scheme, width):
    """Graph, timeline and step: light and dark, wide and as wide as a phone; nothing is wider than the screen."""
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    for address in (
        f"#/runs/{offers}",
        f"#/runs/{offers}?step=mail",
        f"#/runs/{offers}?tab=decisions",
        f"#/runs/{offers}?tab=steps",
    ):
        tab.goto(f"{server.url}/{address}")
        expect(tab.get_by_text("waiting", exact=True).first).to_be_visible()
        axe(tab)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_table_shows_its_first_rows(server, tab):
    """As text, with its types, bounded in rows and columns, and with nothing that is markup or cannot be seen."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "t", "tool": "load_table", "args": {"rows": 40}}],
        "output": {"all": "${t}"},
    }
    run = submit(server, plan)
    server.wait(run, "succeeded")
    tab.goto(f"{server.url}/#/runs/{run}?step=t&part=output")
    table = tab.locator(".drawer .preview-table")
    expect(table.locator("tbody tr")).to_have_count(10)
    expect(table.locator("thead th").first).to_have_text("city string")
    expect(table.locator("thead th").last).to_have_text("and 11 more")
    expect(table.locator("td").first).to_have_text("<b>Oslo</b>\\u{202e}")
    expect(table.locator("tbody tr").nth(1).locator("td").first).to_have_text("null")
    expect(tab.locator(".drawer .preview")).to_contain_text("the first 10 of 40 rows, 61 columns")
    tab.goto(f"{server.url}/#/runs/{run}?view=output")
    tab.get_by_role("tab", name="Output").click()
    expect(tab.locator(".preview h3")).to_have_text("all")
    with tab.expect_download() as got:
        tab.locator(".preview").get_by_role("button", name="Download").click()
    assert got.value.suggested_filename.endswith(".arrow")


def test_the_frames_of_a_failure_are_behind_a_fold(server, tab):
    plan = {"firmplan": 1, "steps": [{"id": "f", "tool": "stumble", "args": {"word": "<i>w</i>"}}]}
    run = submit(server, plan)
    server.wait(run, "failed")
    tab.goto(f"{server.url}/#/runs/{run}?step=f")
    expect(tab.locator(".traceback summary")).to_be_visible()
    expect(tab.locator(".traceback pre")).not_to_be_visible()
    tab.locator(".traceback summary").click()
    expect(tab.locator(".traceback pre")).to_contain_text("in stumble")
