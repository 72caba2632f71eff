"""The page in a real browser: a server process, and Debian's Chromium without a window."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest
from page_tools import TOOLS
from served import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium is installed here (looked for chromium, chromium-browser and google-chrome): scripts/chromium installs it"
KEY = "a-key-of-the-page"
SHOWN_MS = 20_000  # a machine under load gets some patience
# Playwright comes with the extra `dev`; in CI it has to be there.
collect_ignore_glob = [] if find_spec("playwright") or os.environ.get("CI") else ["test_*.py"]


@pytest.fixture(scope="module")
def chromium():
    """One browser for the tests of a module; each test has a profile of its own (`tab`).

    Playwright keeps an event loop on the thread while it runs, so that no other test could have one: it ends with the module.
    """
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SHOWN_MS)

    with sync_playwright() as playwright:
        # Root, as which CI runs, has no sandbox.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose tools sleep, fail, read what is untrusted, and write."""
    with Server(tmp_path_factory.mktemp("served"), tools=TOOLS) as running:
        assert running.url, running.said
        yield running


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server that wants a key."""
    with Server(tmp_path_factory.mktemp("locked"), tools=TOOLS, FIRMPLAN_API_KEYS=KEY) as running:
        assert running.url, running.said
        running.key = KEY
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture
def tab(chromium):
    """An empty tab. The test fails if the page has an error, breaks its policy, or asks another site for anything."""
    context = chromium.new_context(viewport={"width": 1360, "height": 860}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    faults, hosts = [], set()
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    page.expected_faults = ()  # parts of messages that a test expects
    yield page
    shown = urlsplit(page.url).netloc
    context.close()
    assert [each for each in faults if not any(part in each for part in page.expected_faults)] == []
    assert hosts - {shown, ""} == set()


@pytest.fixture
def axe():
    """A function that fails if the shown page breaks a rule of WCAG that axe knows."""
    from axe_playwright_python.sync_playwright import Axe

    def check(page):
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()

    return check
