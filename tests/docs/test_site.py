"""The pages as a site: the navigation names pages that are there, and every table says what its columns are. `make site` looks at links and anchors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import firmplan

ROOT = Path(firmplan.__file__).parent
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"^(\|.*\|)\n\|(?: *:?-+:? *\|)+$", re.MULTILINE)
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def test_the_navigation_names_pages_once():
    """Each is there. A page that the navigation does not name stands at the end of the reference."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from build_site import navigation_faults
    finally:
        sys.path.pop(0)
    assert navigation_faults() == []


def test_no_header_of_a_table_is_empty():
    """A reader, and a screen reader, learns from each header cell what its column is."""
    empty = [
        f"{page.relative_to(ROOT)}: {head}"
        for page in PAGES
        for head in HEAD.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
        if not all(cell.strip() for cell in re.split(r"(?<!\\)\|", head[1:-1]))
    ]
    assert empty == []
