"""An MCP server that talks back, as a process: `python mcp_talking.py FOLDER ERA`. ERA is `legacy` (with a handshake) or `modern`.

Its tools stand in `FOLDER/tools.json`, and it says when they have changed. `count` tells its progress without a total. `book` and `pay` ask
the user who calls; what they did stands in `FOLDER/done`, a line each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import mcp.types as t
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged

FOLDER, ERA = Path(sys.argv[1]), sys.argv[2]
LIST = FOLDER / "tools.json"
SESSIONS = []
BUS = InMemorySubscriptionBus()
SEATS = {
    "type": "object",
    "properties": {"seats": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["seats"],
}


async def tools(ctx, _params):
    SESSIONS[:] = [ctx.session]
    listed = []
    for name, said in json.loads(LIST.read_text()).items():
        hints = t.ToolAnnotations(read_only_hint=True) if said.get("reads", True) else None
        schema = said.get("schema", {"type": "object"})
        words = said.get("description", "")
        listed.append(t.Tool(name=name, description=words, input_schema=schema, annotations=hints))
    return t.ListToolsResult(tools=listed)


def said(text, *, is_error=False):
    return t.CallToolResult(content=[t.TextContent(type="text", text=text)], is_error=is_error)


def done(line):
    with (FOLDER / "done").open("a") as file:
        file.write(line + "\n")


async def asked(ctx, params, key, message, schema):
    """Return the user's answer, or the question in the place of the tool's result."""
    if ERA == "legacy":
        return await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    responses = params.input_responses or {}
    if key in responses:
        return responses[key]
    form = t.ElicitRequestFormParams(message=message, requested_schema=schema)
    return t.InputRequiredResult(
        input_requests={key: t.ElicitRequest(params=form)}, request_state=f"for {key}"
    )


async def call(ctx, params):  # noqa: PLR0911  # one answer for each tool
    match params.name:
        case "count":
            await ctx.session.report_progress(12, None, "lines")
            return said("counted")
        case "book" | "pay":
            answer = await asked(ctx, params, "seats", "How many\u202e seats?", SEATS)
            if isinstance(answer, t.InputRequiredResult):
                return answer
            if ERA == "modern" and params.request_state != "for seats":
                return said(f"a state of nobody: {params.request_state}", is_error=True)
            if answer.action != "accept":
                done(f"{params.name} {answer.action}")
                return said("nothing booked", is_error=True)
            done(f"{params.name} {answer.content['seats']}")
            return said(f"{answer.content['seats']} seats for {answer.content.get('name')}")
        case "default":
            answer = await asked(ctx, params, "seats", "How many seats?", SEATS)
            done("default")
            return said("booked one") if answer.action != "accept" else said("booked more")
        case "endless":
            return t.InputRequiredResult(
                input_requests={
                    "again": t.ElicitRequest(
                        params=t.ElicitRequestFormParams(message="Again?", requested_schema=SEATS)
                    )
                }
            )
    return said(params.name)


async def watch():
    known = LIST.read_text()
    while True:
        await asyncio.sleep(0.05)
        if (now := LIST.read_text()) not in (known, ""):
            known = now
            await BUS.publish(ToolsListChanged())
            for session in SESSIONS:
                await session.send_tool_list_changed()


async def main():
    server = Server(
        "talking",
        version="1",
        on_list_tools=tools,
        on_call_tool=call,
        on_subscriptions_listen=ListenHandler(BUS),
    )
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    watching = asyncio.create_task(watch())
    async with stdio_server() as (incoming, outgoing):
        if ERA == "legacy":
            await serve_loop(server, incoming, outgoing, lifespan_state={}, init_options=options)
        else:
            await server.run(incoming, outgoing, options)
    watching.cancel()


asyncio.run(main())
