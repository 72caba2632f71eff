"""One real server for a module's tests."""

from __future__ import annotations

import pytest
from served import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for a module's tests."""
    with Server(tmp_path_factory.mktemp("served")) as running:
        assert running.url, running.said
        yield running
