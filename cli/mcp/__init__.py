"""firmplan as an MCP server: its own tools, the saved plans as tools, and what a call tells the client and asks the person meanwhile.

The folder knows the engine and the SDK's server; tools from other MCP servers are made in `tools/mcp/`. Begin with `tools.py`, then
`calls.py` (progress and cancels) and `questions.py` (what is asked through the client).
"""

from .transports import serve_stdio

__all__ = ["serve_stdio"]
