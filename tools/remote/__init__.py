"""What models, MCP servers and OpenAPI servers share: calls that leave this process, and tools that somebody else describes.

The folder knows neither of these kinds of server. Begin with `provided.py`, which makes a tool of what a provider says of it.
"""
