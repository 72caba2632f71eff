"""Two runs side by side, and what can be done with a run: fork, replay, retry, export, cancel, resume."""

from __future__ import annotations

from contextlib import suppress

import httpx2
import pytest
from page_tools import TOOLS
from playwright.sync_api import expect
from served import Server

PLAN = {
    "firmplan": 1,
    "task": "Add twice",
    "inputs": {"a": {"type": "integer", "minimum": 0}},
    "steps": [
        {"id": "total", "tool": "add", "args": {"a": "${inputs.a}", "b": 1}},
        {"id": "fixed", "tool": "add", "args": {"a": 1, "b": 1}},
        {"id": "twice", "tool": "add", "args": {"a": "${total}", "b": "${total}"}},
    ],
    "output": "${[twice, fixed]}",
}
FAILS = {"firmplan": 1, "steps": [{"id": "x", "fail": "no"}]}


BITES = """

import os
from pathlib import Path


@tool(effect="read", resource="dog")
def bite() -> int:
    'Kill the process, unless told otherwise.'
    if not Path("cured").exists():
        os._exit(9)
    return 7
"""

SHOWN_S = 60.0


def ended(server, plan=PLAN, **inputs):
    run = server.post("/v1/runs", {"plan": plan, "inputs": inputs}).json()["id"]
    server.wait(run)
    return run


def shown_run(tab):
    return tab.url.rpartition("/")[2]


def test_a_run_is_forked_with_another_value_and_compared(server, tab, axe):
    """Choose the step, give it a value; the fork is compared with its parent on both graphs, step by step."""
    run = ended(server, a=1)
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Fork", exact=True).click()
    dialog = tab.get_by_role("dialog")
    axe(tab)
    dialog.get_by_role("button", name="Give Give a step another value").click()
    dialog.get_by_label("step", exact=True).select_option("total")
    dialog.get_by_label("value").last.fill("20")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    expect(tab.get_by_role("dialog")).to_have_count(0)
    expect(tab.locator(".run-header")).to_contain_text(f"from {run}")
    fork = shown_run(tab)
    assert server.wait(fork)["output"] == [40, 2]
    tab.get_by_role("button", name="Compare").click()
    expect(tab.get_by_role("dialog").get_by_role("textbox")).to_have_value(run)
    tab.get_by_role("dialog").get_by_role("button", name="Compare").click()
    expect(tab).to_have_url(f"{server.url}/#/compare/{run}/{fork}")
    expect(tab.get_by_role("status").first).to_contain_text("2 of 3 steps differ, first total")
    for side in ("first", "second"):
        graph = tab.locator(f"section[aria-label$='{side}']")
        expect(graph.locator(".node[data-step=total].diff-changed")).to_be_visible()
        expect(graph.locator(".node[data-step=fixed].diff-same")).to_be_visible()
    total = tab.locator("[data-diff=twice]")
    expect(total.get_by_role("group", name="Value")).to_contain_text("440")
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_inputs_of_a_fork_are_edited_and_faults_shown(server, tab):
    tab.expected_faults = ("422",)
    run = ended(server, a=1)
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Fork", exact=True).click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("button", name="Give Other inputs").click()
    dialog.get_by_label("a", exact=True).fill("-1")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    expect(dialog.locator(".form-errors", has_text="at least 0")).to_be_visible()
    dialog.get_by_label("a", exact=True).fill("5")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    expect(tab.locator(".run-header")).to_contain_text(f"from {run}")
    assert server.wait(shown_run(tab))["output"] == [12, 2]


def test_a_run_is_replayed_exported_and_retried(server, tab):
    """A replay calls nothing; the file is the run's bundle; a retry is a new run."""
    run = ended(server, a=1)
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Replay").click()
    expect(tab.get_by_role("status").filter(has_text="The replay gave the same")).to_be_visible()
    with tab.expect_download() as coming:
        tab.get_by_role("button", name="Export").click()
    assert coming.value.suggested_filename == f"{run}.bundle"
    assert coming.value.path().read_bytes() == server.get(f"/v1/runs/{run}/export").content
    failed = ended(server, FAILS)
    tab.goto(f"{server.url}/#/runs/{failed}")
    tab.get_by_role("button", name="Retry").click()
    expect(tab.locator(".run-header")).to_contain_text(f"from {failed}")


def test_a_run_is_cancelled_on_its_page(server, tab):
    """The status changes in place, and the buttons are those of a run that has ended."""
    steps = [{"id": "mail", "tool": "send", "args": {"to": "bob"}}]
    run = server.post("/v1/runs", {"plan": {"firmplan": 1, "steps": steps}}).json()["id"]
    server.wait(run, "waiting")
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Cancel", exact=True).click()
    expect(tab.locator(".run-header .status")).to_have_text("cancelled")
    expect(tab.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
    expect(tab.get_by_role("button", name="Retry", exact=True)).to_be_visible()
    assert server.get(f"/v1/runs/{run}").json()["status"] == "cancelled"


def test_a_parked_run_is_resumed_on_its_page(tmp_path, tab, axe):
    """It has killed three servers; the page of the fourth says so, and the button lets it go on."""
    plan = {"firmplan": 1, "steps": [{"id": "b", "tool": "bite"}], "output": "${b}"}
    with Server(tmp_path, tools=TOOLS + BITES) as first:
        with suppress(httpx2.TransportError):  # it may die before it answers
            first.post("/v1/runs", {"plan": plan})
        assert first.process.wait(SHOWN_S) == 9
    for _ in range(2):
        with Server(tmp_path, tools=TOOLS + BITES) as next_one:
            assert next_one.process.wait(SHOWN_S) == 9
    with Server(tmp_path, tools=TOOLS + BITES) as server:
        (run,) = [each["id"] for each in server.get("/v1/runs").json()["runs"]]
        server.wait(run, "parked")
        tab.goto(f"{server.url}/#/runs/{run}")
        expect(tab.locator(".run-header .status")).to_have_text("parked")
        expect(tab.locator(".run-header .problem")).to_contain_text("died 3 times in a row")
        axe(tab)
        (tmp_path / "cured").touch()
        tab.get_by_role("button", name="Resume", exact=True).click()
        expect(tab.locator(".run-header .status")).to_have_text("succeeded")
        expect(tab.get_by_role("button", name="Resume", exact=True)).to_have_count(0)
        assert server.wait(run)["output"] == 7


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_a_step_is_run_again_by_a_fork_and_axe_finds_nothing_in_its_dialog(server, tab, axe, scheme, width):
    """The step is chosen from the plan's, and inputs are edited beside it."""
    run = ended(server, a=1)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(f"{server.url}/#/runs/{run}")
    tab.get_by_role("button", name="Fork", exact=True).click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Run this step again (optional)").select_option("twice")
    dialog.get_by_role("button", name="Give Give a step another value").click()
    dialog.get_by_label("step", exact=True).select_option("fixed")
    dialog.get_by_label("value").last.fill("20")
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    expect(tab.locator(".run-header")).to_contain_text(f"from {run}")
    done = server.wait(shown_run(tab))
    assert done["output"] == [4, 20]
    assert (done["steps"]["total"]["reused"], done["steps"]["twice"]["reused"]) == (True, False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_comparison_on_a_phone(server, tab, axe, scheme):
    first, second = ended(server, a=1), ended(server, a=2)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(f"{server.url}/#/compare/{first}/{second}")
    expect(tab.locator(".node.diff-changed").first).to_be_visible()
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
