"""What an endpoint can do is found out by asking it, once in each way."""

from __future__ import annotations

import asyncio

from firmplan.testing import HttpError, Refusal, ScriptedModel, Text
from firmplan.tools import Model
from firmplan.tools.models.completion import probe

GOOD = {"word": "seven", "numbers": [7, 8]}


def probed(script):
    async def main():
        async with ScriptedModel(script) as model:
            return await probe(Model("m", model.base_url).resolve()), model.requests

    return asyncio.run(main())


def test_every_mode_is_asked_once():
    """In order; each with its own form."""
    found, requests = probed(lambda _: GOOD)
    assert [(each.mode, each.works) for each in found] == [
        ("TOOLS", True), ("JSON_SCHEMA", True), ("JSON", True), ("MD_JSON", True)
    ]  # fmt: skip
    assert ["tools" in request for request in requests] == [True, False, False, False]


def test_what_does_not_work_says_why():
    """A server that only takes schemas, one that talks, one that declines."""
    script = [HttpError(400, "tools need --jinja"), GOOD, Text("Seven!"), Refusal("No.")]
    found, requests = probed(script)
    assert [each.works for each in found] == [False, True, False, False]
    assert "--jinja" in found[0].found
    assert "no JSON" in found[2].found
    assert "declines" in found[3].found
    assert len(requests) == 4
