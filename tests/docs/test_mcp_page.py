"""The page on MCP: its tables are held against the code."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from firmplan.cli.commands.host import MCP_WAIT_S
from firmplan.cli.mcp.saved_plans import PLANS_MAX
from firmplan.cli.mcp.tools import TOOLS
from firmplan.tools.declaration import ToolSettings
from firmplan.tools.mcp import listing as mcp_listing
from firmplan.tools.mcp import session as mcp_target
from firmplan.tools.mcp import tools as mcp_tools

PAGE = (Path(firmplan.__file__).parent / "docs" / "MCP.md").read_text(encoding="utf-8")


def table(head):
    """Return the names in backquotes in the first cells of a table's rows."""
    rows = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_every_keyword_is_told():
    own = set(mcp_tools.McpSettings.__annotations__) - set(ToolSettings.__annotations__)
    assert set(table("keyword")) == own


def test_every_tool_that_is_served_is_told():
    assert set(table("tool")) == {"plan_NAME", *TOOLS}


def test_bounds_are_as_told():
    """In the words of the page."""
    for told in (
        f"At most {mcp_listing.TOOLS_MAX:,} tools on {mcp_listing.PAGES_MAX} pages",
        f"{mcp_listing.SCHEMA_BYTES_MAX // 1024} KiB a schema",
        f"{mcp_target.MESSAGE_BYTES_MAX // 1024**2} MiB an answer over HTTP",
        f"at most {mcp_listing.DESCRIPTION_CHARACTERS_MAX:,} characters",
        f"The first {PLANS_MAX} by name",
        f"A call waits {MCP_WAIT_S:g} seconds at most",
        f'`"{mcp_tools.CONNECT_TIMEOUT}"`',
    ):
        assert told in PAGE, told
    assert mcp_tools.TIMEOUT == "5m"
    assert "five minutes a call" in PAGE
