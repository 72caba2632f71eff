"""The tutorial and the how-to pages do what they say: every block is carried out, in an empty folder, in the order of the page."""

from __future__ import annotations

from pathlib import Path

import firmplan
import pytest
from page_run import PageRun

DOCS = Path(firmplan.__file__).parent / "docs"
APPLICATIONS = [DOCS / "tutorial" / "report.md", DOCS / "tutorial" / "triage.md"]
HOW_TO = sorted(page for page in (DOCS / "howto").glob("*.md") if page.name != "README.md")


@pytest.mark.timeout(600)  # a dozen commands; the tests of a loaded machine get some patience
@pytest.mark.parametrize("page", [*APPLICATIONS, *HOW_TO], ids=lambda page: page.stem)
def test_the_page_works_as_it_says(page, tmp_path):
    """Its files are written, its programs and commands run, its servers serve, and each prints what the page shows."""
    with PageRun(tmp_path) as reader:
        reader.carry_out(page.read_text(encoding="utf-8"))


def test_a_page_that_says_something_else_fails(tmp_path):
    """The reader notices another output, and a block of which it does not know what to do."""
    with PageRun(tmp_path) as reader:
        with pytest.raises(AssertionError, match="the program above"):
            reader.carry_out("```python\nprint(1)\n```\n```text\n2\n```\n")
        with pytest.raises(AssertionError, match="expected a block that can be carried out"):
            reader.carry_out("```yaml\na: 1\n```\n")
