"""The law of docs/GUARDS.md: its code prints what the page says, and each key of a guard is on the page."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import firmplan
from firmplan.plans.checker import ask
from firmplan.tools.guards.personal_data import NATIONAL_IDS

PAGE = (Path(firmplan.__file__).parent / "docs" / "GUARDS.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_the_pages_code_prints_what_it_says(tmp_path):
    """Each block of Python is followed by its exact output."""
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python")
    for index, (code, expected) in enumerate(blocks):
        printed = io.StringIO()
        source = tmp_path / f"block_{index}.py"
        source.write_text(code)
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(source), "exec"), {"__name__": f"guards_page_{index}"})
        assert printed.getvalue() == expected


def test_the_page_has_every_key_and_kind():
    """What a guard may say is what the page tells."""
    for key in (*ask.CONDITIONS, *ask.PERSONAL_DATA, *ask.TOXICITY):
        assert re.search(rf"[`\"]{key}[`\"]", PAGE), key
    countries = {each.country for each in NATIONAL_IDS}
    assert f"of {len(countries)} countries" in PAGE
