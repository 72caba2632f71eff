"""OpenAPI documents as sources of tools: the document, its operations, their requests, the server that is called, and its answers.

The folder makes ordinary tools for `Toolset.from_openapi`. It knows no plan and no run. Begin with `tools.py`, then `operation.py`.
"""
