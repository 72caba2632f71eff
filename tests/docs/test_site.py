"""The pages as a site: the navigation names pages that are there, blocks can be read, and every table says what its columns are. `make site` looks at links and anchors."""

from __future__ import annotations

import ast
import json
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import firmplan
import yaml

ROOT = Path(firmplan.__file__).parent
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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


def test_every_block_can_be_read():
    """Programs compile and documents parse, also those that no other test carries out."""
    readers = {
        "python": compiled,
        "json": read_json,
        "jsonl": read_json,
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
    }
    faults = []
    for page in PAGES:
        if page.name in {"API.md", "RECIPES.md"}:
            continue  # signatures that are made from the code; lines that a test puts into modules
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            try:
                readers.get(kind, str)(text)
            except (SyntaxError, ValueError, yaml.YAMLError) as error:
                faults.append(f"{page.relative_to(ROOT)}: {error}\n{text}")
    assert faults == []


def compiled(text):
    """Compile a program; parts of one may await, and stand inside a function or a table of which the page shows no more."""
    compile(textwrap.dedent(text), "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def read_json(text):
    """Read a document, or one a line; `..` stands for what the page leaves out, `…` for what another test compares with anything."""
    if "…" in text:
        return
    try:
        json.loads(text.replace("..", ""))
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


def test_no_header_of_a_table_is_empty():
    """A reader, and a screen reader, learns from each header cell what its column is."""
    empty = [
        f"{page.relative_to(ROOT)}: {head}"
        for page in PAGES
        for head in HEAD.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
        if not all(cell.strip() for cell in re.split(r"(?<!\\)\|", head[1:-1]))
    ]
    assert empty == []
