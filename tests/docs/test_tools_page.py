"""The law of docs/TOOLS.md: its code runs and prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "TOOLS.md"
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_the_pages_code_prints_what_it_says(tmp_path):
    """Each block of Python is followed by its exact output."""
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("```python")
    for index, (code, expected) in enumerate(blocks):
        printed = io.StringIO()
        source = tmp_path / f"block_{index}.py"
        source.write_text(code)
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(source), "exec"), {"__name__": f"tools_page_{index}"})
        assert printed.getvalue() == expected


def test_the_page_names_every_keyword_of_tool():
    """The table of keywords is whole."""
    import inspect

    from firmplan import tool

    text = PAGE.read_text()
    for name in list(inspect.signature(tool).parameters)[1:]:
        assert f"`{name}`" in text
