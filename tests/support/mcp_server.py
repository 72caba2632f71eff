"""An MCP server made with the official package, as a process: `python mcp_server.py [folder] [port]`.

Its tools answer in every way that there is. Into the folder goes what it lived through: that it ended, that a call was
cancelled. With a port it serves streamable HTTP on loopback, else stdin and stdout.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

import mcp.types as t
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
VERSION = os.environ.get("SERVER_VERSION", "1.2")
WORD = {"type": "object", "properties": {"text": {"type": "string", "description": "What\n to  say."}}}
ANY = {"type": "object"}
READ = t.ToolAnnotations(read_only_hint=True)
CELSIUS = {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
if VERSION == "2":
    CITY["properties"]["country"] = {"type": "string"}


def tool(name, schema=ANY, **more):
    return t.Tool(name=name, input_schema=schema, **more)


TOOLS = [
    tool("weather", CITY, description="The weather\n\n of a city.", output_schema=CELSIUS, annotations=READ),
    tool("pid", annotations=READ),
    tool("say", WORD, description="Say it.", annotations=READ),
    tool("parts", annotations=READ),
    tool("work", annotations=READ),
    tool("nothing", annotations=READ),
    tool("structured", annotations=READ),
    tool("ask", annotations=READ),
    tool("environment", annotations=READ),
    tool("fail", annotations=READ),
    tool("refuse"),
    tool("misfit", output_schema=CELSIUS),
    tool("pay", WORD),
    tool("put", WORD, annotations=t.ToolAnnotations(idempotent_hint=True)),
    tool("die", WORD),
    tool("die-reading", annotations=READ),
    tool("sleep"),
    tool("9 lives!", WORD, annotations=READ),
]


def said(text):
    return t.CallToolResult(content=[t.TextContent(type="text", text=text)])


def parts():
    picture = t.ImageContent(type="image", data=base64.b64encode(b"PNG").decode(), mime_type="image/png")
    blob = t.BlobResourceContents(
        uri="file:///a/b.bin", blob=base64.b64encode(b"bin").decode(), mime_type="x/y"
    )
    text = t.TextResourceContents(uri="file:///c.txt", text="inside", mime_type="text/plain")
    link = t.ResourceLink(type="resource_link", uri="https://example.org/d", name="d")
    held = [t.EmbeddedResource(type="resource", resource=each) for each in (blob, text)]
    words = t.TextContent(type="text", text='{"not": "read"}')
    return t.CallToolResult(content=[words, picture, *held, link])


async def call(ctx, params):  # noqa: C901, PLR0911, PLR0912  # one answer for each tool
    args = params.arguments or {}
    match params.name:
        case "weather":
            return t.CallToolResult(content=[], structured_content={"celsius": float(len(args["city"]))})
        case "pid":
            return said(str(os.getpid()))
        case "say" | "9 lives!":
            return said(args.get("text", ""))
        case "parts":
            return parts()
        case "work":
            await ctx.session.report_progress(1, 4, "a\nquarter")
            return said("worked")
        case "nothing":
            return t.CallToolResult(content=[])
        case "structured":
            return t.CallToolResult(content=[], structured_content={"a": [1]})
        case "ask":
            return t.InputRequiredResult(
                input_requests={"roots": t.ListRootsRequest()}, result_type="input_required"
            )
        case "environment":
            return said(" ".join(sorted(os.environ)))
        case "fail":
            return t.CallToolResult(
                content=[t.TextContent(type="text", text="no\x1b[31m such city")], is_error=True
            )
        case "refuse":
            raise t_error(t.INVALID_PARAMS, "not like this")
        case "misfit":
            return t.CallToolResult(content=[], structured_content={"celsius": "warm"})
        case "pay" | "put":
            return said(str((ctx.meta or {}).get("firmplan/idempotency-key")))
        case "die" | "die-reading":
            is_first = not (FOLDER / "died").exists()
            (FOLDER / "died").touch()
            if is_first:
                os._exit(3)
            return said("alive")
        case "sleep":
            try:
                (FOLDER / "asleep").touch()
                await asyncio.sleep(60)
            except BaseException:
                (FOLDER / "cancelled").touch()
                raise
    raise t_error(t.METHOD_NOT_FOUND, "no such tool")


def t_error(code, message):
    from mcp import MCPError

    return MCPError(code, message)


async def tools(_ctx, _params):
    return t.ListToolsResult(tools=TOOLS)


async def serve():
    server = Server("weather station", version=VERSION, on_list_tools=tools, on_call_tool=call)
    if len(sys.argv) > 2:
        import uvicorn

        app = server.streamable_http_app(session_idle_timeout=None)
        await uvicorn.Server(
            uvicorn.Config(app, port=int(sys.argv[2]), log_level="warning", timeout_graceful_shutdown=1)
        ).serve()
    else:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    (FOLDER / "ended").touch()


if __name__ == "__main__":
    asyncio.run(serve())
