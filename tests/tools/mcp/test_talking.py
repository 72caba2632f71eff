"""Servers that talk back: they say that their tools have changed, and tell progress without a total."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from firmplan import Engine, InputRejected, Toolset
from stdio_servers import command

SERVER = Path(__file__).parents[2] / "support" / "mcp_talking.py"
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])
PATIENCE_S = 30.0
FIRST = {"look": {"description": "Look."}, "other": {"description": "Another."}}


def tools_of(folder, era, listed):
    write(folder, listed)
    return Toolset.from_mcp(command(SERVER, folder, era))


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


# --- questions


TOOLS = {"book": {}, "pay": {"reads": False}, "default": {"reads": False}, "endless": {}, "look": {}}
SEATS = {"seats": 3, "name": "Ann"}


@ERAS
@pytest.mark.parametrize("name", ["book", "pay"])
def test_a_question_of_a_server_waits_for_a_person(tmp_path, era, name):
    """Like `ask_person`: the run waits with the server's words, and the answer, which has to fit, goes with the next call."""
    tools = tools_of(tmp_path, era, TOOLS)
    with Engine(tools=tools, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(step(name))
        waits = run.steps["a"]
        assert (run.status, waits.status, waits.reason, waits.attempt) == (
            "waiting",
            "waiting",
            "question",
            2,
        )
        assert waits.args["question"].endswith("asks: How many seats?")  # the invisible character is gone
        assert waits.args["returns"]["required"] == ["seats"]
        (call,) = engine.waiting_sync(run.id).calls
        assert (call.about, call.tool, call.returns["required"]) == ("question", name, ["seats"])
        assert "How many seats?" in str(call)
        with pytest.raises(InputRejected, match="does not fit"):
            engine.answer_sync(run.id, "a", {"seats": "three"}, by="ann")
        with pytest.raises(InputRejected, match="asks a question"):
            engine.approve_sync(run.id, "a", by="ann")
        engine.answer_sync(run.id, "a", SEATS, by="ann")
        done = engine.resume_sync(run.id)
        assert (done.output, done.steps["a"].attempts) == ("3 seats for Ann", 2)
        assert done.steps["a"].decision == {"decision": "answered", "by": "ann"}
        same = engine.replay_sync(run.id)
        assert (same.status, same.digest) == ("succeeded", done.digest)
    assert (tmp_path / "done").read_text().splitlines()[-1] == f"{name} 3"
    assert [line for line in (tmp_path / "done").read_text().splitlines() if line.endswith(" 3")] == [
        f"{name} 3"
    ]


@ERAS
def test_a_question_survives_a_restart(tmp_path, era):
    """Another process of firmplan, and of the server, goes on with the answer."""
    with Engine(tools=tools_of(tmp_path, era, TOOLS), store=tmp_path / "s.db") as engine:
        run = engine.run_sync(step("pay"))
        assert run.status == "waiting"
    with Engine(tools=tools_of(tmp_path, era, TOOLS), store=tmp_path / "s.db") as engine:
        assert engine.get_sync(run.id).steps["a"].reason == "question"
        engine.answer_sync(run.id, "a", SEATS, by="ann")
        assert engine.resume_sync(run.id).output == "3 seats for Ann"


@ERAS
def test_who_refuses_to_answer_ends_the_step(tmp_path, era):
    """As with `ask_person`; a cancel ends the run. The server does nothing."""
    tools = tools_of(tmp_path, era, TOOLS)
    with Engine(tools=tools, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(step("pay"))
        engine.deny_sync(run.id, "a", by="ann", reason="no")
        assert engine.resume_sync(run.id).steps["a"].status == "cancelled"
        other = engine.run_sync(step("pay"))
        engine.cancel_sync(other.id)
        assert engine.get_sync(other.id).status == "cancelled"
    done = tmp_path / "done"
    assert not done.exists() or set(done.read_text().splitlines()) == {"pay cancel"}


def test_a_server_that_goes_on_without_the_answer_has_gone_on(tmp_path):
    """In a session: its result stands, and nothing is called twice."""
    tools = tools_of(tmp_path, "legacy", TOOLS)
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync(step("default")).output == "booked one"
    assert (tmp_path / "done").read_text() == "default\n"


def test_questions_without_end_fail_the_call(tmp_path):
    """After twenty a person is asked no more."""
    tools = tools_of(tmp_path, "modern", TOOLS)
    with Engine(tools=tools, store="memory:") as engine:
        run = engine.run_sync(step("endless"))
        count = 0
        while run.status == "waiting":
            engine.answer_sync(run.id, "a", {"seats": 1}, by="ann")
            run = engine.resume_sync(run.id)
            count += 1
    assert (run.status, run.errors[0].code, count) == ("failed", "question", 20)


@ERAS
def test_questions_of_calls_at_the_same_time_are_told_apart(tmp_path, era):
    """In a session they do not say whose they are, so that these calls are made again, each alone."""
    tools = tools_of(tmp_path, era, TOOLS)
    plan = {"firmplan": 1, "steps": [{"id": f"b{i}", "tool": "book"} for i in range(4)]}
    with Engine(tools=tools, store="memory:") as engine:
        run = engine.run_sync(plan)
        assert {each.reason for each in run.steps.values()} == {"question"}
        for i in range(4):
            engine.answer_sync(run.id, f"b{i}", {"seats": i}, by="ann")
        run = engine.resume_sync(run.id)
    assert [run.steps[f"b{i}"].output for i in range(4)] == [f"{i} seats for None" for i in range(4)]


def test_an_answered_call_is_never_reused(tmp_path):
    """Its result is made of the answer too."""
    tools = Toolset.from_mcp(
        command(SERVER, write(tmp_path, TOOLS) or tmp_path, "modern"),
        overrides={"book": {"reuse_for": "forever"}},
    )
    with Engine(tools=tools, store=tmp_path / "s.db") as engine:
        for seats in (1, 2):
            run = engine.run_sync(step("book"))
            assert run.status == "waiting"
            engine.answer_sync(run.id, "a", {"seats": seats}, by="ann")
            assert engine.resume_sync(run.id).output == f"{seats} seats for None"
