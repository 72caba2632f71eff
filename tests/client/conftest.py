"""One real server for a module's tests, and both clients with one face."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from firmplan import AsyncClient, Client
from served import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for a module's tests."""
    with Server(tmp_path_factory.mktemp("served"), "--rate", "10000") as running:
        assert running.url, running.said
        yield running


class InLoop:
    """An `AsyncClient` whose coroutines are run to their end, so that one test is about both clients."""

    def __init__(self, *words, **options):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*words, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*words, **options):
            found = method(*words, **options)
            if inspect.isasyncgen(found):
                return self._iterate(found)
            return self._runner.run(found)

        return call

    def _iterate(self, found):
        async def one():
            return await anext(found)

        while True:
            try:
                value = self._runner.run(one())
            except StopAsyncIteration:
                return
            yield value

    def close(self):
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture(params=["blocking", "in a loop"])
def connect(request):
    """Return a client of either kind."""
    made = []

    def open_one(url, **options):
        made.append((Client if request.param == "blocking" else InLoop)(url, **options))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


@pytest.fixture
def client(connect, server):
    """A client of the module's server."""
    return connect(server.url)
