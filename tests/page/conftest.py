"""The page in a real browser: a server process, and Debian's Chromium without a window."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
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


class Browser:
    """A Chromium that starts with the first test that needs it, with one profile, which each test leaves empty.

    A new profile for each test would take more time than the tests: two processes, which read and compile the page anew.
    """

    def __init__(self):
        self._left = ExitStack()
        self._profile = None

    def profile(self):
        """Return the profile; it has one more tab, which keeps its process."""
        if self._profile is None:
            found = next((path for path in map(shutil.which, BROWSERS) if path), None)
            if found is None:
                if os.environ.get("CI"):
                    pytest.fail(MISSING)
                pytest.skip(MISSING)
            from playwright.sync_api import expect, sync_playwright

            expect.set_options(timeout=SHOWN_MS)
            playwright = self._left.enter_context(sync_playwright())
            # Root, as which CI runs, has no sandbox.
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            self._left.callback(browser.close)
            self._profile = browser.new_context(
                viewport={"width": 1360, "height": 860}, reduced_motion="reduce"
            )
            self._profile.new_page()
        return self._profile

    def close(self):
        """End the browser, if it has started."""
        self._profile = None
        self._left.close()


BROWSER = pytest.StashKey[Browser]()


def pytest_configure(config):
    config.stash[BROWSER] = Browser()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """End the browser after the last test of this folder: Playwright keeps an event loop on the thread while it runs, so that no other test could have one."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            item.config.stash[BROWSER].close()


@pytest.fixture(scope="session")
def browser(pytestconfig):
    """The browser of this process of tests."""
    yield pytestconfig.stash[BROWSER]
    pytestconfig.stash[BROWSER].close()


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
def tab(browser):
    """An empty tab of an empty profile. The test fails if the page has an error, breaks its policy, or asks another site for anything."""
    profile = browser.profile()
    profile.grant_permissions(["clipboard-read", "clipboard-write"])
    page = profile.new_page()
    faults, hosts = [], set()
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
    page.expected_faults = ()  # parts of messages that a test expects
    yield page
    shown = urlsplit(page.url).netloc
    session = profile.new_cdp_session(page)
    for host in hosts - {""}:
        session.send("Storage.clearDataForOrigin", {"origin": f"http://{host}", "storageTypes": "all"})
    page.close()
    profile.clear_permissions()
    profile.clear_cookies()
    assert profile.pages[1:] == []  # no window of a test is left
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
