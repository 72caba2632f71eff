"""What happens during a call of `firmplan mcp`: progress, cancels, notices of changed tools, questions to the client's user.

Each law holds for both eras of the protocol: with a handshake, and, since 2026-07-28, without sessions.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import anyio
import pytest
from firmplan import Engine, Plan, Toolset
from mcp import Client, MCPError
from mcp.types import ElicitResult, ToolListChangedNotification
from mcp_client import served

TOOLS = """
import time
from pathlib import Path

from firmplan import Context, tool

@tool(effect="read")
def work(seconds: float, *, ctx: Context) -> float:
    \"\"\"Work for a time, and tell how far it is.\"\"\"
    Path("working").touch()
    ctx.progress(0.5, "half\\u202e way")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
    return seconds

@tool(effect="write", resource="mail")
def slow_mail(to: str, seconds: float) -> str:
    \"\"\"Send a mail, slowly.\"\"\"
    Path("working").touch()
    time.sleep(seconds)
    with Path("sent").open("a") as sent:
        sent.write(to + "\\n")
    return f"sent to {to}"

@tool(effect="write", resource="mail", approval="always")
def mail(to: str, body: str = "Hello") -> str:
    \"\"\"Send a mail.\"\"\"
    with Path("sent").open("a") as sent:
        sent.write(to + "\\n")
    return f"sent to {to}"

@tool(effect="read", results="warn")
def lie() -> int:
    \"\"\"Return what it does not declare.\"\"\"
    return "text"
"""
ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
PATIENCE_S = 30.0
TALKING = Path(__file__).parents[1] / "support" / "mcp_talking.py"
SLOW = {
    "firmplan": 1,
    "steps": [
        {"id": "one", "tool": "work", "args": {"seconds": 30}},
        {"id": "two", "tool": "slow_mail", "after": ["one"], "args": {"to": "ann", "seconds": 0}},
    ],
}
MAIL = {"firmplan": 1, "steps": [{"id": "m", "tool": "mail", "args": {"to": "ann"}}], "output": "${m}"}
NAME = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
ASK = {
    "firmplan": 1,
    "steps": [
        {
            "id": "colour",
            "ask_person": "Which colour?",
            "returns": {"type": "string", "enum": ["red", "blue"]},
        },
        {"id": "who", "ask_person": "Who?", "returns": NAME, "after": ["colour"]},
    ],
    "output": "${colour + ' ' + who.name}",
}


@pytest.fixture
def place(home):
    """A folder with these tools."""
    (home / "tools.py").write_text(TOOLS)
    return home


def save(place, name, plan):
    """Save a plan as another process does."""

    async def work():
        async with Engine(Toolset.load(str(place / "tools.py")), store=place / "firmplan.db") as engine:
            await engine.save_plan(name, plan)

    asyncio.run(work())


async def appears(path):
    with anyio.fail_after(PATIENCE_S):
        while not path.exists():  # noqa: ASYNC110  # another process makes it
            await anyio.sleep(0.02)


async def status_of(client, run_id, *wanted):
    """Wait until a run has one of these statuses, and return it."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            found = (await client.call_tool("get_run", {"run_id": run_id})).structured_content
            if found.get("status") in wanted:
                return found
            await anyio.sleep(0.05)


def client_of(place, mode, *words, **options):
    return Client(served(place, "--tools", "tools.py", *words), mode=mode, cache=None, **options)


# --- progress


@ERAS
def test_progress_of_a_tool_reaches_the_client(place, mode):
    """`ctx.progress` and ended steps, of so many steps; it only grows, and the note is on one line without invisible characters."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "one", "set": 1},
            {"id": "two", "tool": "work", "args": {"seconds": 0.6}, "after": ["one"]},
        ],
        "output": "${two}",
    }
    told = []

    async def note(progress, total, message):
        told.append((progress, total, message))

    async def work():
        async with client_of(place, mode) as client:
            return await client.call_tool("run_plan", {"plan": plan}, progress_callback=note)

    assert asyncio.run(work()).structured_content["output"] == 0.6
    numbers = [each[0] for each in told]
    assert numbers == sorted(set(numbers))
    assert {each[1] for each in told} == {2.0}
    assert any(1.5 <= number < 1.6 and message == "two: half way" for number, _, message in told)


def test_a_plan_with_lists_has_no_total(place):
    """Nobody knows how many steps end; items are counted as they do."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "each", "for_each": [0.2, 0.4], "tool": "work", "args": {"seconds": "${item}"}}],
    }
    told = []

    async def note(progress, total, message):
        told.append((progress, total, message))

    async def work():
        async with client_of(place, "legacy") as client:
            await client.call_tool("run_plan", {"plan": plan}, progress_callback=note)

    asyncio.run(work())
    assert {each[1] for each in told} == {None}
    assert any("each[" in each[2] for each in told)


# --- cancel


@ERAS
def test_a_cancelled_call_cancels_its_run(place, mode):
    """As a person would: nothing new starts. The run says that it was cancelled."""

    async def work():
        async with client_of(place, mode) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "run_plan", {"plan": SLOW, "run_id": "r"})
                await appears(place / "working")
                group.cancel_scope.cancel()
            return await status_of(client, "r", "cancelled")

    found = asyncio.run(work())
    assert found["steps"]["two"]["status"] == "cancelled"
    assert not (place / "sent").exists()


def test_a_client_that_times_out_cancels_too(place):
    """The SDK's client sends the same notification when its patience ends."""

    async def work():
        async with client_of(place, "legacy") as client:
            with pytest.raises(MCPError, match=r"(?i)time"):
                await client.call_tool("run_plan", {"plan": SLOW, "run_id": "r"}, read_timeout_seconds=1)
            return await status_of(client, "r", "cancelled")

    assert asyncio.run(work())["status"] == "cancelled"


def test_a_write_under_way_ends_before_the_cancel(place):
    """It is waited for and recorded; the step after it does not start."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "one", "tool": "slow_mail", "args": {"to": "ann", "seconds": 1}},
            {"id": "two", "tool": "slow_mail", "args": {"to": "bob", "seconds": 0}},
        ],
    }

    async def work():
        async with client_of(place, "legacy") as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "run_plan", {"plan": plan, "run_id": "r"})
                await appears(place / "working")
                group.cancel_scope.cancel()
            return await status_of(client, "r", "cancelled")

    steps = asyncio.run(work())["steps"]
    assert (steps["one"]["status"], steps["two"]["status"]) == ("succeeded", "cancelled")
    assert (place / "sent").read_text() == "ann\n"


@ERAS
def test_a_cancelled_wait_leaves_the_run(place, mode):
    """`wait_run` moves no run: whoever started it decides about it."""
    short = {"firmplan": 1, "steps": [{"id": "a", "tool": "work", "args": {"seconds": 1}}], "output": "${a}"}

    async def work():
        async with client_of(place, mode, "--wait", "0.2") as client:
            await client.call_tool("run_plan", {"plan": short, "run_id": "r"})
            with anyio.move_on_after(0.1):
                await client.call_tool("wait_run", {"run_id": "r"})
            return await status_of(client, "r", "succeeded", "cancelled")

    assert asyncio.run(work())["status"] == "succeeded"


# --- tools that change


def test_a_handshake_says_that_tools_change_and_a_notice_comes(place):
    """Another process saves a plan in the store; the client hears of it and finds the tool."""

    async def work():
        heard = anyio.Event()

        async def hear(message):
            if isinstance(message, ToolListChangedNotification):
                heard.set()

        async with client_of(place, "legacy", message_handler=hear) as client:
            assert client.server_capabilities.tools.list_changed is True
            before = {each.name for each in (await client.list_tools()).tools}
            await anyio.to_thread.run_sync(save, place, "post", MAIL)
            with anyio.fail_after(PATIENCE_S):
                await heard.wait()
            return {each.name for each in (await client.list_tools()).tools} - before

    assert asyncio.run(work()) == {"plan_post"}


def test_without_sessions_a_listener_is_told(place):
    """By the stream of `subscriptions/listen`; a replaced plan counts too."""
    save(place, "post", MAIL)

    async def work():
        async with client_of(place, "2026-07-28") as client:
            found = {each.name: each for each in (await client.list_tools()).tools}
            async with client.listen(tools_list_changed=True) as events:
                assert events.honored.tools_list_changed is True
                other = {**MAIL, "inputs": {"who": {"type": "string", "default": "ann"}}}
                await anyio.to_thread.run_sync(save, place, "post", other)
                with anyio.fail_after(PATIENCE_S):
                    await anext(aiter(events))
            now = {each.name: each for each in (await client.list_tools()).tools}
            return found["plan_post"].input_schema, now["plan_post"].input_schema

    before, after = asyncio.run(work())
    assert (list(before["properties"]), list(after["properties"])) == ([], ["who"])


# --- output schemas


def test_the_output_schema_of_a_plan_is_the_type_of_its_output(place):
    """Inferred by the check, with named types; the client validates each answer by it."""
    plan = {
        "firmplan": 1,
        "types": {
            "Note": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        },
        "inputs": {"note": {"$ref": "#/types/Note"}},
        "steps": [{"id": "a", "tool": "work", "args": {"seconds": 0}}],
        "output": {"note": "${inputs.note}", "took": "${a}"},
    }
    save(place, "noted", plan)

    async def work():
        async with client_of(place, "legacy") as client:
            tools = {each.name: each for each in (await client.list_tools()).tools}
            answer = await client.call_tool("plan_noted", {"note": {"text": "hi"}})
            return tools["plan_noted"].output_schema, answer

    schema, answer = asyncio.run(work())
    assert answer.structured_content["output"] == {"note": {"text": "hi"}, "took": 0.0}
    made, null = schema["properties"]["output"]["anyOf"]
    assert (made["properties"]["took"], null) == ({"type": "number"}, {"type": "null"})
    assert json.dumps(schema).count('"text"') >= 1


def test_an_output_that_does_not_fit_stands_beside_the_schema(place):
    """Where a tool's results are not enforced, the answer fits its schema all the same, and nothing is lost."""
    save(place, "lying", {"firmplan": 1, "steps": [{"id": "a", "tool": "lie"}], "output": "${a}"})

    async def work():
        async with client_of(place, "legacy") as client:
            await client.list_tools()
            return await client.call_tool("plan_lying", {})

    told = asyncio.run(work()).structured_content
    assert (told["status"], told["output"], told["output_unfit"]) == ("succeeded", None, "text")


def test_a_plan_without_an_output_gives_null(place):
    save(place, "quiet", {"firmplan": 1, "steps": [{"id": "a", "set": 1}]})

    async def work():
        async with client_of(place, "legacy") as client:
            (tool,) = [each for each in (await client.list_tools()).tools if each.name == "plan_quiet"]
            answer = await client.call_tool("plan_quiet", {})
            return tool.output_schema, answer.structured_content

    schema, told = asyncio.run(work())
    assert (schema["properties"]["output"]["type"], told["output"]) == ("null", None)


# --- questions


def answering(*answers, seen):
    left = list(answers)

    async def elicit(_context, params):
        seen.append(params)
        return left.pop(0)

    return elicit


def accept(**content):
    return ElicitResult(action="accept", content=content)


@ERAS
def test_the_clients_user_approves_and_denies(place, mode):
    """The person sees the call with every argument, defaults too; the decision is recorded under the client's name."""
    seen = []

    async def work():
        answers = answering(accept(decision="approve"), accept(decision="deny", reason="no"), seen=seen)
        async with client_of(place, mode, elicitation_callback=answers) as client:
            done = await client.call_tool("run_plan", {"plan": MAIL, "run_id": "a"})
            denied = await client.call_tool("run_plan", {"plan": MAIL, "run_id": "b"})
            return done, denied, await client.call_tool("get_run", {"run_id": "b"})

    done, denied, run = asyncio.run(work())
    assert (done.structured_content["status"], done.structured_content["output"]) == (
        "succeeded",
        "sent to ann",
    )
    assert denied.is_error
    assert (place / "sent").read_text() == "ann\n"
    assert run.structured_content["steps"]["m"]["decision"]["by"] == "the user of mcp"
    assert run.structured_content["steps"]["m"]["decision"]["reason"] == "no"
    for word in ("mail", "ann", "body", "Hello", "run a"):
        assert word in seen[0].message
    assert seen[0].requested_schema["properties"]["decision"]["enum"] == ["approve", "deny"]


@ERAS
def test_questions_of_a_plan_are_asked(place, mode):
    """One value is one field, a flat object is a form of its fields; each answer leads to the next question."""
    seen = []
    answers = answering(accept(answer="blue"), accept(name="Ann", age=3), seen=seen)

    async def work():
        async with client_of(place, mode, elicitation_callback=answers) as client:
            return await client.call_tool("run_plan", {"plan": ASK})

    assert asyncio.run(work()).structured_content["output"] == "blue Ann"
    assert seen[0].requested_schema["properties"]["answer"]["enum"] == ["red", "blue"]
    assert set(seen[1].requested_schema["properties"]) == {"name", "age"}


@ERAS
def test_a_question_of_another_server_reaches_the_clients_user(place, mode):
    """A tool of an MCP server asks; firmplan, a client there and a server here, hands the question on, and the answer back."""
    (place / "tools.json").write_text(json.dumps({"book": {}}))
    command = [sys.executable, str(TALKING), str(place), "legacy" if mode == "legacy" else "modern"]
    (place / "tools.py").write_text(
        f"from firmplan import Toolset\nbooking = Toolset.from_mcp({command!r})\n"
    )
    plan = {"firmplan": 1, "steps": [{"id": "b", "tool": "book"}], "output": "${b}"}
    seen = []
    answers = answering(accept(seats=2, name="Ann"), seen=seen)

    async def work():
        async with client_of(place, mode, elicitation_callback=answers) as client:
            return await client.call_tool("run_plan", {"plan": plan})

    assert asyncio.run(work()).structured_content["output"] == "2 seats for Ann"
    assert "How many seats?" in seen[0].message
    assert set(seen[0].requested_schema["properties"]) == {"seats", "name"}


@ERAS
@pytest.mark.parametrize("answer", [ElicitResult(action="decline"), ElicitResult(action="cancel"), accept()])
def test_who_does_not_decide_leaves_the_run_waiting(place, mode, answer):
    """With the commands that decide; nothing was sent."""
    seen = []

    async def work():
        async with client_of(place, mode, elicitation_callback=answering(answer, seen=seen)) as client:
            return await client.call_tool("run_plan", {"plan": MAIL})

    told = asyncio.run(work()).structured_content
    assert (told["status"], len(seen)) == ("waiting", 1)
    assert "firmplan approve" in told["advice"]
    assert not (place / "sent").exists()


@ERAS
def test_an_answer_that_does_not_fit_is_told(place, mode):
    """The run still waits, and the words say why the answer was not taken."""

    async def work():
        answers = answering(accept(answer="green"), seen=[])
        async with client_of(place, mode, elicitation_callback=answers) as client:
            return await client.call_tool("run_plan", {"plan": ASK})

    answer = asyncio.run(work())
    assert answer.structured_content["status"] == "waiting"
    assert "The answer of the person was not taken" in answer.content[0].text


def test_a_client_without_forms_and_a_server_told_not_to_ask_get_advice(place):
    """As before; no error comes of it."""
    seen = []

    async def work():
        async with client_of(place, "legacy") as client:
            plain = await client.call_tool("run_plan", {"plan": MAIL})
        options = {"elicitation_callback": answering(seen=seen)}
        async with client_of(place, "legacy", "--no-elicit", **options) as client:
            return plain, await client.call_tool("run_plan", {"plan": MAIL})

    for answer in asyncio.run(work()):
        assert answer.structured_content["status"] == "waiting"
        assert "firmplan approve" in answer.structured_content["advice"]
    assert seen == []


def test_a_call_that_is_too_long_to_show_is_not_asked(place):
    """A person has to see every argument, so nothing is cut: the command line shows it."""
    long = {"firmplan": 1, "steps": [{"id": "m", "tool": "mail", "args": {"to": "x" * 30_000}}]}
    seen = []

    async def work():
        async with client_of(place, "legacy", elicitation_callback=answering(seen=seen)) as client:
            return await client.call_tool("run_plan", {"plan": long})

    assert asyncio.run(work()).structured_content["status"] == "waiting"
    assert seen == []


def test_the_state_of_a_question_can_not_be_forged(place):
    """It is sealed: a client that makes one up gets an error, and decides nothing."""
    forged = json.dumps(
        {"run": "a", "asked": {"step": "m", "attempt": 1, "is_decision": True, "is_wrapped": False}}
    )

    async def work():
        async with client_of(place, "2026-07-28") as client:
            await client.call_tool("run_plan", {"plan": MAIL, "run_id": "a"})
            with pytest.raises(Exception, match="requestState"):
                await client.session.call_tool(
                    "run_plan",
                    {"plan": MAIL, "run_id": "a"},
                    request_state=forged,
                    input_responses={"question": accept(decision="approve")},
                )
            return await client.call_tool("get_run", {"run_id": "a"})

    assert asyncio.run(work()).structured_content["status"] == "waiting"
    assert not (place / "sent").exists()


def test_a_revision_changes_with_the_visible_plans_alone(place):
    """Saved, replaced; a plan that a planner keeps for itself is none of them. Asking reads no plan."""

    async def work():
        async with Engine([], store=place / "r.db") as engine:
            found = [await engine.plans_revision()]
            for plan in (Plan.model_validate(ASK), Plan.model_validate({**ASK, "output": "${colour}"})):
                await engine.save_plan("p", plan)
                found.append(await engine.plans_revision())
            found.append(await engine.plans_revision())
            return found

    first, saved, replaced, again = asyncio.run(work())
    assert len({first, saved, replaced}) == 3
    assert again == replaced
