"""The frame of the page: its policy, its files, addresses and history, the key, themes, the keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from served import PLAN


def submit(server, plan=PLAN, **inputs):
    """Submit a plan; return the run's id."""
    answer = server.post("/v1/runs", {"plan": plan, "inputs": inputs or {"a": 1}})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_the_page_and_its_files_need_no_key_and_say_what_they_are(locked):
    """The document and its files are sent to anybody, with a policy that admits only them; nothing else is in that folder."""
    del locked.client.headers["Authorization"]
    try:
        document = locked.get("/")
        assert document.status_code == 200
        policy = document.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in document.text
        assert "<style" not in document.text
        for name, media_type in (
            ("app.js", "text/javascript"),
            ("style.css", "text/css"),
            ("icon.svg", "image/svg+xml"),
        ):
            found = locked.get(f"/page/{name}")
            assert found.headers["content-type"].startswith(media_type)
            again = locked.get(f"/page/{name}", headers={"If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for name in ("..%2Findex.html", "%2e%2e%2findex.html", "package.json", "", "app.js/x"):
            assert locked.get(f"/page/{name}").status_code == 404
        assert locked.client.head("/page/app.js").status_code == 200
        assert locked.get("/v1/runs").status_code == 401
    finally:
        locked.client.headers["Authorization"] = f"Bearer {locked.key}"


def test_links_the_back_button_and_old_addresses_lead_to_views(server, tab):
    """A run is a link; the back button returns to the list; the address of earlier versions, `#RUN`, still leads to the run."""
    run = submit(server)
    server.wait(run)
    tab.goto(server.url)
    tab.get_by_role("link", name=run).click()
    expect(tab).to_have_url(f"{server.url}/#/runs/{run}")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Add 1 and 2")
    expect(tab).to_have_title(f"{run} · firmplan")
    tab.go_back()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Runs")
    tab.goto(f"{server.url}/#{run}")
    expect(tab.get_by_role("heading", level=1)).to_have_text("Add 1 and 2")
    tab.goto(f"{server.url}/#/nowhere/at/all")
    expect(tab.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    tab.expected_faults = ("404",)
    tab.goto(f"{server.url}/#/runs/none")
    expect(tab.get_by_role("alert").first).to_contain_text("none")


def test_the_key_is_asked_for_and_survives_a_reload(locked, tab):
    """Without a key the page asks for one; it stays in the session storage of the tab, and goes out with the event stream too."""
    tab.expected_faults = ("401",)
    run = submit(locked)
    locked.wait(run)
    tab.goto(f"{locked.url}/#/runs/{run}")
    tab.get_by_label("Key", exact=True).fill("wrong")
    tab.get_by_role("button", name="Use it").click()
    expect(tab.get_by_text("does not know this one")).to_be_visible()
    tab.get_by_label("Key", exact=True).fill(locked.key)
    tab.get_by_role("button", name="Use it").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Add 1 and 2")
    tab.reload()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Add 1 and 2")
    assert tab.evaluate("Object.values(localStorage).join()").find(locked.key) < 0
    assert locked.key not in tab.url


def test_everything_has_a_key(server, tab):
    """Help, views and theme by keys alone; no key acts while somebody types."""
    tab.goto(server.url)
    expect(tab.get_by_role("heading", level=1)).to_have_text("Runs")
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog")).to_contain_text("Go to Runs")
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog")).to_have_count(0)
    tab.keyboard.press("t")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    tab.get_by_label("A task in words").fill("")
    tab.get_by_label("A task in words").press("t")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    tab.reload()
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1360)])
def test_axe_finds_nothing_in_the_frame(server, tab, axe, scheme, width):
    """Light and dark, wide and as wide as a phone: nothing of WCAG is broken, and nothing is wider than the screen."""
    run = submit(server)
    server.wait(run)
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    for address in ("", f"#/runs/{run}", f"#/runs/{run}?tab=output", f"#/runs/{run}?tab=plan"):
        tab.goto(f"{server.url}/{address}")
        expect(tab.get_by_role("heading", level=1)).not_to_have_text(run)
        tab.wait_for_load_state("networkidle") if not address else None
        axe(tab)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.keyboard.press("?")
    axe(tab)
