"""The list of runs: searched, filtered, paged, and several cancelled together."""

from __future__ import annotations

import pytest
from page_tools import TOOLS
from playwright.sync_api import expect
from served import MAIL, PLAN, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: the list of others would be in the way."""
    with Server(tmp_path_factory.mktemp("listed"), tools=TOOLS) as running:
        for number in range(60):
            running.post("/v1/runs", {"plan": PLAN, "inputs": {"a": number}})
        running.client.put("/v1/plans/letters", json={**MAIL, "task": "Write a letter"})
        for _ in range(3):
            run = running.post("/v1/runs", {"plan_name": "letters"}).json()["id"]
            running.wait(run, "waiting")
        yield running


def titles(tab):
    """The lines of the list."""
    return tab.locator(".run-line")


def test_runs_are_found_by_text_status_plan_and_time(server, tab, axe):
    """Each filter is in the address: a filtered list is a link, and survives a reload."""
    tab.goto(server.url)
    expect(titles(tab)).to_have_count(50)
    axe(tab)
    tab.keyboard.press("/")
    tab.keyboard.type("LETTER")
    expect(titles(tab)).to_have_count(3)
    expect(tab).to_have_url(f"{server.url}/#/runs?text=LETTER")
    tab.reload()
    expect(titles(tab)).to_have_count(3)
    tab.get_by_label("Status").select_option("succeeded")
    expect(tab.get_by_text("No run fits the filter.")).to_be_visible()
    tab.get_by_role("button", name="Clear").click()
    expect(titles(tab)).to_have_count(50)
    tab.get_by_label("Plan: the name").fill("letters")
    tab.get_by_label("Plan: the name").press("Enter")
    expect(titles(tab)).to_have_count(3)
    tab.get_by_label("Cost at least").fill("0.01")
    tab.get_by_label("Cost at least").press("Enter")
    expect(tab.get_by_text("No run fits the filter.")).to_be_visible()
    tab.go_back()
    tab.get_by_label("Time").select_option("1h")
    expect(titles(tab)).to_have_count(3)
    tab.get_by_label("Time").select_option("dates")
    tab.get_by_label("To", exact=True).fill("2020-01-01T00:00")
    tab.get_by_label("To", exact=True).press("Enter")
    expect(tab.get_by_text("No run fits the filter.")).to_be_visible()
    axe(tab)
    tab.go_back()
    expect(titles(tab)).to_have_count(3)


def test_older_runs_are_on_the_next_page(server, tab):
    """A page has 50 runs; the next one follows without a gap, and the back button returns."""
    tab.goto(server.url)
    expect(titles(tab)).to_have_count(50)
    newer = tab.locator(".run-title code").all_text_contents()
    tab.get_by_role("button", name="Older").click()
    expect(titles(tab)).to_have_count(13)
    older = tab.locator(".run-title code").all_text_contents()
    assert len({*newer, *older}) == 63
    tab.go_back()
    expect(titles(tab)).to_have_count(50)


def test_several_runs_are_cancelled_together(server, tab):
    """Those that are chosen, after a question; the others go on waiting."""
    tab.goto(f"{server.url}/#/runs?text=letter")
    expect(titles(tab)).to_have_count(3)
    ids = tab.locator(".run-title code").all_text_contents()
    tab.get_by_label(f"Choose {ids[0]}").check()
    tab.get_by_label(f"Choose {ids[1]}").check()
    tab.get_by_role("button", name="Cancel 2").click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("button", name="Keep them").click()
    expect(tab.locator(".status.is-cancelled")).to_have_count(0)
    tab.get_by_role("button", name="Cancel 2").click()
    dialog.get_by_role("button", name="Cancel 2 runs").click()
    expect(tab.locator(".status.is-cancelled")).to_have_count(2)
    assert [server.get(f"/v1/runs/{run}").json()["status"] for run in ids] == [
        "cancelled",
        "cancelled",
        "waiting",
    ]
    expect(tab.get_by_role("checkbox")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_list_on_a_phone(server, tab, axe, scheme):
    """Nothing is wider than the screen."""
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(server.url)
    expect(titles(tab)).to_have_count(50)
    axe(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
