"""`firmplan mcp --http`: a real process, asked by the official client over streamable HTTP, and by hand where a client would not do it."""

from __future__ import annotations

import asyncio
import signal
import time

import anyio
import httpx2
import pytest
from firmplan import Engine, Toolset
from mcp import MCPError
from mcp.types import ElicitResult, ToolListChangedNotification
from mcp_client import at_address, over_http

TOOLS = """
import asyncio
import time
from pathlib import Path

from firmplan import Context, tool

@tool(effect="read")
def work(seconds: float, *, ctx: Context) -> float:
    \"\"\"Work for a time.\"\"\"
    Path("working").touch()
    ctx.progress(0.5, "half way")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
    return seconds

@tool(effect="read")
async def hold_up(seconds: float) -> float:
    \"\"\"Work for a time, and let nothing else of the process run, once it is told.\"\"\"
    Path("working").touch()
    while not Path("told").exists():
        await asyncio.sleep(0.005)
    time.sleep(seconds)
    await asyncio.sleep(seconds)
    return seconds

@tool(effect="write", approval="always")
def mail(to: str) -> str:
    \"\"\"Send a mail.\"\"\"
    with Path("sent").open("a") as sent:
        sent.write(to + "\\n")
    return f"sent to {to}"
"""
ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
PATIENCE_S = 30.0
MAIL = {"firmplan": 1, "steps": [{"id": "m", "tool": "mail", "args": {"to": "ann"}}], "output": "${m}"}


def working(seconds, tool="work"):
    return {
        "firmplan": 1,
        "steps": [
            {"id": "a", "tool": tool, "args": {"seconds": seconds}},
            {"id": "b", "set": 1, "after": ["a"]},
        ],
        "output": "${a}",
    }


@pytest.fixture
def place(home):
    (home / "tools.py").write_text(TOOLS)
    return home


WORDS = ("--tools", "tools.py")
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
ACCEPTS = {"Accept": "application/json, text/event-stream"}


async def appears(path):
    with anyio.fail_after(PATIENCE_S):
        while not path.exists():  # noqa: ASYNC110  # another process makes it
            await anyio.sleep(0.02)


async def status_of(client, run_id, *wanted):
    with anyio.fail_after(PATIENCE_S):
        while True:
            found = (await client.call_tool("get_run", {"run_id": run_id})).structured_content
            if found.get("status") in wanted:
                return found["status"]
            await anyio.sleep(0.05)


@ERAS
def test_a_client_runs_hears_and_decides(place, mode):
    """Progress, a question to the client's user, and a notice of a plan that another process saved: all as over stdio."""
    told = []
    noticed = anyio.Event()

    async def note(progress, total, message):
        told.append((progress, total, message))

    async def elicit(_context, _params):
        return ElicitResult(action="accept", content={"decision": "approve"})

    async def hear(message):
        if isinstance(message, ToolListChangedNotification):
            noticed.set()

    def save():
        with Engine(Toolset.load(str(place / "tools.py")), store=place / "firmplan.db") as engine:
            engine.save_plan_sync("post", MAIL)

    async def work(url):
        async with at_address(url, mode=mode, elicitation_callback=elicit, message_handler=hear) as client:
            done = await client.call_tool("run_plan", {"plan": working(0.4)}, progress_callback=note)
            sent = await client.call_tool("run_plan", {"plan": MAIL})
            before = {each.name for each in (await client.list_tools()).tools}
            if mode == "legacy":
                await anyio.to_thread.run_sync(save)
                with anyio.fail_after(PATIENCE_S):
                    await noticed.wait()
            else:
                async with client.listen(tools_list_changed=True) as events:
                    await anyio.to_thread.run_sync(save)
                    with anyio.fail_after(PATIENCE_S):
                        await anext(aiter(events))
            after = {each.name for each in (await client.list_tools()).tools}
            return done.structured_content["output"], sent.structured_content["output"], after - before

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(work(url)) == (0.4, "sent to ann", {"plan_post"})
    assert any(number >= 0.5 and message == "a: half way" for number, _, message in told)


@ERAS
def test_a_cancelled_call_cancels_its_run(place, mode):
    """By a notification within a session, and by closing the stream where there is none."""

    async def work(url):
        async with at_address(url, mode=mode) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "run_plan", {"plan": working(30), "run_id": "r"})
                await appears(place / "working")
                group.cancel_scope.cancel()
            return await status_of(client, "r", "cancelled")

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(work(url)) == "cancelled"


def test_a_lost_connection_within_a_session_cancels_nothing(place):
    """The protocol says so: only the notification cancels. The run goes on, and ends."""

    async def work(url):
        async with httpx2.AsyncClient(headers=ACCEPTS) as http:
            hello = await http.post(url, json=HELLO)
            session = {"mcp-session-id": hello.headers["mcp-session-id"]}
            await http.post(
                url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session
            )
            params = {"name": "run_plan", "arguments": {"plan": working(1), "run_id": "r"}}
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            with anyio.move_on_after(0.5):
                await http.post(url, json=call, headers=session)
        async with at_address(url) as client:
            return await status_of(client, "r", "succeeded", "cancelled", "failed")

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(work(url)) == "succeeded"


def test_another_clients_request_of_the_same_id_is_not_cancelled(place):
    """Ids of requests are each session's own."""

    async def open_session(http, url):
        hello = await http.post(url, json=HELLO)
        return {"mcp-session-id": hello.headers["mcp-session-id"]}

    async def work(url):
        async with httpx2.AsyncClient(headers=ACCEPTS, timeout=60) as http:
            ours, theirs = await open_session(http, url), await open_session(http, url)
            params = {"name": "run_plan", "arguments": {"plan": working(1), "run_id": "r"}}
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: http.post(url, json=call, headers=ours))
                await appears(place / "working")
                await http.post(url, json=cancel, headers=theirs)
        async with at_address(url) as client:
            return await status_of(client, "r", "succeeded", "cancelled", "failed")

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(work(url)) == "succeeded"


# --- who may ask


def test_keys_are_asked_for_and_own_their_sessions(place):
    """Without a key, and with a wrong one: 401. A session of one key is unknown to another, and so is the state of a question."""
    seen = {}

    async def work(url):
        async with httpx2.AsyncClient(headers=ACCEPTS) as http:
            seen["none"] = (await http.post(url, json=HELLO)).status_code
            seen["wrong"] = (
                await http.post(url, json=HELLO, headers={"Authorization": "Bearer three"})
            ).status_code
            one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
            hello = await http.post(url, json=HELLO, headers=one)
            session = {"mcp-session-id": hello.headers["mcp-session-id"]}
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            seen["own"] = (await http.post(url, json=ping, headers=one | session)).status_code
            seen["theirs"] = (await http.post(url, json=ping, headers=two | session)).status_code
        async with at_address(url, key="one", mode="2026-07-28", elicitation_callback=_never) as client:
            given = {"plan": MAIL, "run_id": "a"}
            first = await client.session.call_tool("run_plan", given, allow_input_required=True)
        answer = {"question": ElicitResult(action="accept", content={"decision": "approve"})}
        async with at_address(url, key="two", mode="2026-07-28", elicitation_callback=_never) as client:
            with pytest.raises(MCPError, match="requestState"):
                await client.session.call_tool(
                    "run_plan", given, request_state=first.request_state, input_responses=answer
                )
        async with at_address(url, key="one", mode="2026-07-28", elicitation_callback=_never) as client:
            return await client.session.call_tool(
                "run_plan", given, request_state=first.request_state, input_responses=answer
            )

    with over_http(place, *WORDS, keys="one,two") as (_, url):
        done = asyncio.run(work(url))
    assert seen == {"none": 401, "wrong": 401, "own": 200, "theirs": 404}
    assert done.structured_content["output"] == "sent to ann"


def test_a_named_key_approves_no_run_of_its_own(place):
    """Not through its user either, unless the key may; a key that may not do everything is refused."""

    def add(name, **more):
        with Engine([], store=place / "firmplan.db") as engine:
            return engine.add_key_sync(name, **more).text

    keys = {
        "own": add("ann", scopes=["admin"]),
        "trusted": add("bob", scopes=["admin"], may_approve_own=True),
        "reader": add("cay", scopes=["read"]),
        "tenant": add("dan", scopes=["admin"], tenant="acme"),
    }

    async def yes(_context, _params):
        return ElicitResult(action="accept", content={"decision": "approve"})

    async def work(url):
        found = {}
        for name in ("own", "trusted"):
            async with at_address(url, key=keys[name], mode="legacy", elicitation_callback=yes) as client:
                found[name] = (await client.call_tool("run_plan", {"plan": MAIL})).structured_content[
                    "status"
                ]
        async with httpx2.AsyncClient(headers=ACCEPTS) as http:
            for name in ("reader", "tenant"):
                headers = {"Authorization": f"Bearer {keys[name]}"}
                found[name] = (await http.post(url, json=HELLO, headers=headers)).status_code
        return found

    with over_http(place, *WORDS) as (_, url):
        found = asyncio.run(work(url))
    assert found == {"own": "waiting", "trusted": "succeeded", "reader": 403, "tenant": 403}


async def _never(_context, _params):
    raise AssertionError("asked")


def test_without_keys_other_names_and_other_sites_are_refused(place):
    """As by `firmplan serve`: a page that resolves its own name to this machine gets nothing."""

    async def work(url):
        async with httpx2.AsyncClient(headers=ACCEPTS) as http:
            host = await http.post(url, json=HELLO, headers={"Host": "evil.example"})
            origin = await http.post(url, json=HELLO, headers={"Origin": "https://evil.example"})
            large = await http.post(url, content=b"[" + b" " * (17 * 1024 * 1024) + b"]")
            other = await http.get(url.removesuffix("/mcp") + "/v1/runs")
            return host.status_code, origin.status_code, large.status_code, other.status_code

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(work(url)) == (421, 403, 413, 404)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0:0", "no API keys are set"),
        ("nonsense", "expected HOST:PORT"),
        ("127.0.0.1:70000", "expected HOST:PORT"),
        ("127.0.0.1:x", "expected HOST:PORT"),
    ],
)
def test_a_wrong_address_is_told(place, firmplan, address, words):
    answer = firmplan("mcp", *WORDS, "--http", address)
    assert (answer.code, words in answer.err) == (2, True)


def test_a_signal_answers_who_waits_and_ends_open_streams(place):
    """A call that waits for a run hears how it stands, however busy the server is; clients that listen do not delay the exit; the run is continued by the next server."""
    seen = {}
    busy_s = 0.8  # the library of the streams looks for the signal each half second

    async def work(url, server):
        async with (
            at_address(url, mode="legacy") as old,
            at_address(url, mode="2026-07-28") as new,
            new.listen(tools_list_changed=True),
        ):
            await old.list_tools()
            async with anyio.create_task_group() as group:

                async def call():
                    seen["answer"] = await old.call_tool(
                        "run_plan", {"plan": working(busy_s, "hold_up"), "run_id": "r"}
                    )

                group.start_soon(call)
                await appears(place / "working")
                begun = time.monotonic()
                (place / "told").touch()
                server.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(server.wait, 60) == 0
            seen["took"] = time.monotonic() - begun

    with over_http(place, *WORDS) as (server, url):
        asyncio.run(work(url, server))
    assert seen["answer"].structured_content["status"] == "running"
    assert seen["took"] < 10  # uvicorn would wait that long for streams that do not end

    async def again(url):
        async with at_address(url) as client:
            return await status_of(client, "r", "succeeded", "cancelled")

    with over_http(place, *WORDS) as (_, url):
        assert asyncio.run(again(url)) == "succeeded"
