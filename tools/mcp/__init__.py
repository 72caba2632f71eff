"""MCP servers as sources of tools: sessions with a server, its listing, calls of its tools, and their results.

The folder makes ordinary tools for `Toolset.from_mcp`. It knows no plan and no run, and `cli/` serves firmplan itself by MCP. Begin with
`tools.py`, then `session.py`.
"""
