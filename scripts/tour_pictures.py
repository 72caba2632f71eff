"""Take the pictures of docs/tutorial/tour.md: `python scripts/tour_pictures.py`.

The support desk of the tutorial is built from the text of its page, served as the page says, and looked at with Chromium: whoever follows the tutorial sees
the same. Nothing checks the pictures byte by byte: fonts differ between machines.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from firmplan import Client
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "tutorial" / "tour"
sys.path.insert(0, str(ROOT / "tests" / "support"))

from page_run import PageRun  # noqa: E402  # only there since the line above


def main() -> int:
    """Build the support desk, and take all pictures."""
    browser = next(path for path in map(shutil.which, ("chromium", "google-chrome")) if path)
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        PageRun(Path(folder)) as desk,
        sync_playwright() as playwright,
    ):
        desk.carry_out((ROOT / "docs" / "tutorial" / "triage.md").read_text(encoding="utf-8"))
        url = f"http://127.0.0.1:{desk.ports['8000']}"
        with Client(url, key=desk.env["DESK"]) as client:
            run = client.run("answer-urgent")
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        take(tab, url, desk.env["LEA"], run.id)
        chromium.close()
    return 0


def take(tab: Page, url: str, key: str, run: str) -> None:
    """Take each picture, in the order of the tour."""

    def picture(name: str, address: str | None = None) -> None:
        if address is not None:
            tab.goto(f"{url}/{address}")
        tab.wait_for_timeout(1_200)  # the layout comes from a worker, and the graph moves to its place
        tab.screenshot(path=PICTURES / f"{name}.png")

    picture("key", "")
    tab.get_by_label("Key", exact=True).fill(key)
    tab.keyboard.press("Enter")
    picture("runs")
    picture("run", f"#/runs/{run}")
    picture("prompt", f"#/runs/{run}?step=replies%5B0%5D%2Fdraft")
    picture("why", f"#/runs/{run}?step=kinds%5B0%5D&part=why")
    picture("decision", "#/decisions")
    tab.get_by_role("button", name="Approve").first.click()
    tab.wait_for_timeout(1_000)
    picture("done", f"#/runs/{run}?step=replies%5B0%5D%2Fmail&part=output")
    picture("plan", "#/plans/answer-urgent")


if __name__ == "__main__":
    raise SystemExit(main())
