"""An MCP server whose tools stand in a file, as a process: `python mcp_changing.py FILE`. Each call answers with the tool's name."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import mcp.types as t
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

LISTED = json.loads(Path(sys.argv[1]).read_text())


async def tools(_ctx, _params):
    hints = t.ToolAnnotations(read_only_hint=True)
    listed = [
        t.Tool(
            name=name,
            description=said.get("description", ""),
            input_schema=said.get("schema", {"type": "object"}),
            annotations=hints if said.get("reads", True) else None,
        )
        for name, said in LISTED["tools"].items()
    ]
    return t.ListToolsResult(tools=listed)


async def call(_ctx, params):
    return t.CallToolResult(content=[t.TextContent(type="text", text=params.name)])


async def main():
    server = Server(LISTED.get("name", "station"), version="1", on_list_tools=tools, on_call_tool=call)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


asyncio.run(main())
