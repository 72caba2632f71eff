"""Two runs side by side, and what can be done with a run: fork, replay, retry, export."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_comparison_on_a_phone(server, tab, axe, scheme):
    first, second = ended(server, a=1), ended(server, a=2)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(f"{server.url}/#/compare/{first}/{second}")
    expect(tab.locator(".node.diff-changed").first).to_be_visible()
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
