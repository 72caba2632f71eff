"""`docs/AGENTS.md`: every block is carried out, in the order of the page, and prints what the page shows."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import firmplan

PAGE = Path(firmplan.__file__).parent / "docs" / "AGENTS.md"


def test_the_page_works_as_it_says(monkeypatch, tmp_path):
    """Blocks of one page share their names; a block of text is what the program before it prints."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    # A module that pydantic finds: its generic classes are kept where they were written.
    module = ModuleType("agents_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = vars(module)
    said = None
    page = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert {block[1] for block in blocks} == {"python", "text"}
    for block in blocks:
        if block[1] == "text":
            assert said == block[2]
            continue
        # On the lines of the page, so that fingerprints find the code of functions, and failures say where they are.
        text = "\n" * page.count("\n", 0, block.start(2)) + block[2]
        with redirect_stdout(StringIO()) as out:
            exec(compile(text, PAGE, "exec", dont_inherit=True), names)  # our own page
        said = out.getvalue()
