"""An MCP server whose tools stand in a file, as a process: `python mcp_changing.py FILE`. Each call answers with the tool's name.

It speaks the protocol in its own words, since the library takes a second to import and the tests start some hundred of these. The
library's own servers stand in `mcp_server.py` and `mcp_hostile.py`.
"""

from __future__ import annotations

import json
import sys

with open(sys.argv[1]) as file:  # noqa: PTH123  # pathlib is a third of the time this process takes to start
    LISTED = json.load(file)


def listed(name, said):
    tool = {
        "name": name,
        "description": said.get("description", ""),
        "inputSchema": said.get("schema", {"type": "object"}),
    }
    return {**tool, "annotations": {"readOnlyHint": True}} if said.get("reads", True) else tool


def answer(method, params):
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": LISTED.get("name", "station"), "version": "1"},
            }
        case "tools/list":
            return {"tools": [listed(name, said) for name, said in LISTED["tools"].items()]}
        case "tools/call":
            return {"content": [{"type": "text", "text": params["name"]}], "isError": False}
        case "ping":
            return {}
        case _:
            return None


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked or "method" not in asked:
        continue
    result = answer(asked["method"], asked.get("params"))
    said = {"result": result} if result is not None else {"error": {"code": -32601, "message": "unknown"}}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said}) + "\n")
    sys.stdout.flush()
