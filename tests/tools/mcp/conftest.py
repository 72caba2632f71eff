"""One MCP server at an address, for all tests that do not end it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcp_http import Served

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The weather station of `mcp_server.py`, over HTTP."""
    server = Served(SUPPORT / "mcp_server.py", tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
