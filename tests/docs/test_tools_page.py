"""The law of docs/TOOLS.md: each keyword of `tool` is on the page."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "TOOLS.md"


def test_the_page_names_every_keyword_of_tool():
    """The table of keywords is whole."""
    import inspect

    from firmplan import tool

    text = PAGE.read_text()
    for name in list(inspect.signature(tool).parameters)[1:]:
        assert f"`{name}`" in text
