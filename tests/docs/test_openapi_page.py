"""The page on OpenAPI: its tables are held against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import firmplan
from firmplan import Toolset
from firmplan.tools.declaration import ToolSettings
from firmplan.tools.openapi import document, operation, pages, schemas, server, tools

PAGE = (Path(firmplan.__file__).parent / "docs" / "OPENAPI.md").read_text(encoding="utf-8")


def test_every_keyword_is_told():
    rows = PAGE.partition("| keyword |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    own = set(tools.OpenApiSettings.__annotations__) - set(ToolSettings.__annotations__)
    named = {
        name
        for name, each in inspect.signature(Toolset.from_openapi).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    assert told == own | named


def test_every_key_of_pages_is_told():
    section = PAGE.partition("## Pages")[2].partition("\n## ")[0]
    for name in pages.Pages.__dataclass_fields__:
        assert re.search(rf'[`"]{name}[`"]', section), name
    assert f"pages of one call ({pages.PAGES_MAX})" in section


def test_bounds_are_as_told():
    """In the words of the page."""
    for told in (
        f"A document has at most {document.DOCUMENT_BYTES_MAX // 1024**2} MiB ({document.YAML_BYTES_MAX // 1024**2} MiB in YAML)",
        f"{document.OPERATIONS_MAX:,} operations",
        f"up to {schemas.RESULT_BYTES_MAX // 1024} KiB",
        f"at most {operation.DESCRIPTION_CHARACTERS_MAX:,} characters",
        f"more than {server.RESPONSE_BYTES_MAX // 1024**2} MiB",
        f"one line of at most {server.SAID_CHARACTERS_MAX} characters",
        f"than {server.RETRY_AFTER_S_MAX:g} seconds",
    ):
        assert told in PAGE, told
    assert tools.TIMEOUT == "1m"
    assert "one minute a call" in PAGE
