"""An application that says what came, and documents that describe it."""

from __future__ import annotations

import pytest
from firmplan import Toolset
from http_app import Echo, Hosted
from openapi_calls import call, document, operation


@pytest.fixture
def echo():
    """An application that says what came, with its address as `url`."""
    app = Echo()
    with Hosted(app) as hosted:
        app.url = hosted.url
        yield app


@pytest.fixture
def called(echo):
    """Return what came for a call of an operation with these parts."""

    def run(args, *, path="/x", method="get", settings=None, **parts):
        made = document({path: {method: operation(**parts)}})
        tools = Toolset.from_openapi(made, base_url=echo.url, **(settings or {}))
        run = call(tools, args)
        assert run.status == "succeeded", run.errors
        return run.output

    return run
