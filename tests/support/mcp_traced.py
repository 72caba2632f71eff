"""An MCP server over HTTP whose tool says by which trace it was called: `python mcp_traced.py FOLDER PORT`."""

from __future__ import annotations

import json
import sys

import mcp.types as t
import uvicorn
from mcp.server.lowlevel import Server


async def tools(_ctx, _params):
    return t.ListToolsResult(
        tools=[
            t.Tool(
                name="trace",
                input_schema={"type": "object"},
                annotations=t.ToolAnnotations(read_only_hint=True),
            )
        ]
    )


async def call(ctx, params):
    meta = params.meta or {}
    found = [HEADERS.get("tools/call"), dict(meta).get("traceparent")]
    return t.CallToolResult(content=[t.TextContent(type="text", text=json.dumps(found))])


HEADERS: dict[str, str] = {}


def noting(app):
    """Note the header `traceparent` of each request by the method of its message."""

    async def noted(scope, receive, send):
        async def heard():
            message = await receive()
            body = message.get("body", b"")
            if b"tools/call" in body:
                HEADERS["tools/call"] = {
                    name.decode(): value.decode() for name, value in scope["headers"]
                }.get("traceparent")
            return message

        await app(scope, heard, send)

    return noted


server = Server("traced", on_list_tools=tools, on_call_tool=call)
uvicorn.run(noting(server.streamable_http_app()), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
