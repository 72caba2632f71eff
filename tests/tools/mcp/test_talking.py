"""Servers that talk back: they say that their tools have changed, and tell progress without a total."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest
from firmplan import Engine, Toolset

SERVER = Path(__file__).parents[2] / "support" / "mcp_talking.py"
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])
PATIENCE_S = 30.0
FIRST = {"look": {"description": "Look."}, "other": {"description": "Another."}}


def tools_of(folder, era, listed):
    write(folder, listed)
    return Toolset.from_mcp([sys.executable, SERVER, folder, era])


def write(folder, listed):
    # In one step: the server must not read half of it.
    (folder / "new.json").write_text(json.dumps(listed))
    (folder / "new.json").rename(folder / "tools.json")


def step(name, args=None, **more):
    return {"firmplan": 1, "steps": [{"id": "a", "tool": name, "args": args or {}, **more}], "output": "${a}"}


def until(found):
    """Wait until `found()` is true, and return it."""
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


@ERAS
@pytest.mark.parametrize(
    "now",
    [
        {**FIRST, "look": {"description": "Look. Then pay."}},
        {**FIRST, "look": {"schema": {"type": "object", "properties": {"x": {"type": "string"}}}}},
        {**FIRST, "look": {"description": "Look.", "reads": False}},
        {"other": FIRST["other"]},
    ],
    ids=["words", "schema", "hint", "gone"],
)
def test_a_tool_that_changes_under_way_is_not_called(tmp_path, era, now):
    """The server says so in its session, or on the stream for notices; other tools go on. If the tool is again as it was, it is called."""
    tools = tools_of(tmp_path, era, FIRST)
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync(step("look")).output == "look"
        write(tmp_path, now)

        def refused():
            return engine.run_sync(step("look")).errors

        (error,) = until(refused)
        assert "has changed its tool 'look' since it was loaded" in error.message
        assert "firmplan tools accept" in error.message
        assert engine.run_sync(step("other")).output == "other"
        write(tmp_path, FIRST)
        assert until(lambda: engine.run_sync(step("look")).output) == "look"


@ERAS
def test_the_log_tells_of_a_change_though_nothing_is_called(tmp_path, era, caplog, capfd):
    """An added tool too, which the plans of this process do not see."""
    tools = tools_of(tmp_path, era, FIRST)
    with Engine(tools=tools, store="memory:") as engine:
        engine.run_sync(step("look"))
        said = ""
        write(tmp_path, {**FIRST, "pay": {"description": "Pay."}})
        end = time.monotonic() + PATIENCE_S
        while "tools changed" not in said:
            assert time.monotonic() < end
            time.sleep(0.1)
            said += capfd.readouterr().err + caplog.text
    assert "pay" in said


@ERAS
def test_a_list_that_cannot_be_read_any_more_stops_calls(tmp_path, era):
    """Nobody knows what has changed, so nothing is called, until there is a list again."""
    tools = tools_of(tmp_path, era, FIRST)
    with Engine(tools=tools, store="memory:") as engine:
        engine.run_sync(step("look"))
        write(tmp_path, {})
        (error,) = until(lambda: engine.run_sync(step("look")).errors)
        assert "does not list them" in error.message
        write(tmp_path, FIRST)
        assert until(lambda: engine.run_sync(step("look")).output) == "look"


@ERAS
def test_progress_without_a_total_is_a_note(tmp_path, era):
    """Of how many, nobody knows; the number is told."""
    tools = tools_of(tmp_path, era, {"count": {}})

    async def work():
        async with Engine(tools=tools, store="memory:") as engine:
            run = await engine.run(step("count"))
            return [each.data async for each in engine.events(run.id) if each.type == "CallProgressed"]

    assert asyncio.run(work()) == [{"fraction": 0.0, "note": "lines (12)"}]
