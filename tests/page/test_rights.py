"""What the key of a tab may do: who decides is the key's name, and what it may not do is refused on the page, with the reason."""

from __future__ import annotations

import pytest
from firmplan import Engine
from page_tools import TOOLS
from playwright.sync_api import expect
from served import MAIL, Server

SCOPES = ("read", "submit", "approve")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A server, and the keys of its store by the names of their owners."""
    folder = tmp_path_factory.mktemp("keys")
    store = str(folder / "keys.db")
    with Engine([], store=store) as engine:
        made = {
            "ann": engine.add_key_sync("ann", scopes=SCOPES).text,
            "bob": engine.add_key_sync("bob", scopes=["read", "approve"]).text,
            "eve": engine.add_key_sync("eve", scopes=["read"]).text,
        }
    with Server(folder, "--store", store, tools=TOOLS) as running:
        assert running.url, running.said
        running.keys = made
        running.client.headers["Authorization"] = f"Bearer {made['ann']}"
        yield running


def enter(server, tab, name, address=""):
    """Open the page with the key of a person."""
    tab.expected_faults = ("401",)
    tab.goto(f"{server.url}/{address}")
    tab.get_by_label("Key", exact=True).fill(server.keys[name])
    tab.get_by_role("button", name="Use it").click()
    expect(tab.get_by_role("button", name="Key set")).to_be_visible()


def waiting(server):
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(run, "waiting")
    return run


def test_a_key_with_a_name_decides_by_it(keys, tab):
    """There is no field for a name; a name that an earlier visitor of the browser typed is not sent."""
    run = waiting(keys)
    tab.add_init_script("localStorage.setItem('firmplan.name', 'somebody else')")
    enter(keys, tab, "bob", f"#/runs/{run}?tab=decisions")
    expect(tab.get_by_text("You decide as bob")).to_be_visible()
    expect(tab.get_by_label("Your name")).to_have_count(0)
    tab.get_by_role("button", name="Approve").click()
    assert keys.wait(run)["steps"]["mail"]["decision"]["by"] == "bob"


def test_what_a_key_may_not_do_is_refused_with_the_reason(keys, tab, axe):
    """The buttons stay in their place, say why, and send nothing; they work with a key that has the scope."""
    run = waiting(keys)
    sent = []
    tab.on("request", lambda asked: sent.append(asked.url) if asked.method != "GET" else None)
    enter(keys, tab, "eve", f"#/runs/{run}?tab=decisions")
    for name, scope in (("Approve", "approve"), ("Edit", "approve"), ("Deny", "approve"), ("Fork", "submit")):
        button = tab.get_by_role("button", name=name, exact=True)
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_have_attribute(
            "title",
            f"The key of eve has no scope '{scope}': ask whoever runs this server for a key that has it.",
        )
    axe(tab)
    tab.locator(".call").focus()
    tab.keyboard.press("a")
    expect(tab.get_by_role("alert").filter(has_text="The key of eve has no scope 'approve'")).to_be_visible()
    tab.get_by_role("button", name="Cancel").click(force=True)
    expect(tab.get_by_role("alert").filter(has_text="no scope 'submit'")).to_be_visible()
    tab.goto(f"{keys.url}/#/runs")
    tab.get_by_label("A task in words").fill("Do something")
    tab.get_by_label("A task in words").press("Enter")
    expect(tab.get_by_role("button", name="Run", exact=True)).to_have_attribute("aria-disabled", "true")
    expect(tab).to_have_url(f"{keys.url}/#/runs")
    assert sent == []
    assert keys.get(f"/v1/runs/{run}").json()["status"] == "waiting"


def test_whoever_submitted_a_run_is_told_that_another_has_to_approve(keys, tab):
    """Denying is allowed, approving is not; the page knows it before the server says so."""
    run = waiting(keys)
    enter(keys, tab, "ann", f"#/runs/{run}?tab=decisions")
    approve = tab.get_by_role("button", name="Approve")
    expect(approve).to_have_attribute(
        "title", "The key of ann submitted this run, so somebody else has to approve its calls."
    )
    tab.get_by_role("button", name="Deny").click()
    tab.get_by_role("dialog").get_by_role("button", name="Deny").click()
    assert keys.wait(run)["steps"]["mail"]["decision"] == {
        **keys.get(f"/v1/runs/{run}").json()["steps"]["mail"]["decision"],
        "decision": "denied",
        "by": "ann",
    }
