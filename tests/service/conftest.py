"""One real server for a module's tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from served import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for a module's tests."""
    with Server(tmp_path_factory.mktemp("served")) as running:
        assert running.url, running.said
        yield running


@pytest.fixture(scope="session")
def http_tools():
    """The folder of the programs that test the API from outside; in CI they have to be there."""
    found = Path(sys.prefix) / "http" / "bin"
    if not (found / "st").exists() and not os.environ.get("CI"):
        pytest.skip("the programs that test the HTTP API are not installed here: make .venv/http/.installed")
    return found
