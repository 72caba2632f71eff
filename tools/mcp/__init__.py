"""MCP servers as sources of tools: how a server is reached, its tools listed, called, and their results read.

The folder gives ordinary tools to `Toolset.from_mcp`; it does not know plans or runs. Begin with `tools.py` and `session.py`.
"""
