"""The README's first screen, and the links and commands of all pages."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan

ROOT = Path(firmplan.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FIRST_SCREEN_LINES = 60


def test_make_commands_are_recipes():
    """What the README tells to make is there to be made, and stands on its first screen."""
    recipes = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"make (\w+)", "".join(text for kind, text in BLOCKS if kind == "sh"))
    assert named == ["demo", "test"]
    assert set(re.findall(r"`make (\w+)`", README)) | set(named) <= set(recipes)
    first_screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_first_plan_is_short():
    """The first screen's plan, with its tool and its run, takes fewer than 15 lines."""
    first = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) < 15


def test_links_lead_somewhere():
    """Every relative link of the README and of the docs names a file."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        assert [target for target in targets if not (page.parent / target).exists()] == [], page.name


def test_commands_exist():
    """Every command that a README or a page tells to type is one of the command line's."""
    known = re.findall(
        r"^## (\w+)$", (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    for page in [
        ROOT / "README.md",
        *(ROOT / "examples").glob("*/README.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]:
        typed = re.findall(
            r"^(?:    |\$ )firmplan (\w+)|`firmplan (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert {first or second for first, second in typed} <= set(known), page
