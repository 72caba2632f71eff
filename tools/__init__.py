"""What a step may do: tools made of Python functions, sets of them, and the context that a call is handed.

The folder knows plans only as signatures (names, types, effects), and knows no run, no journal and no planner. Begin with `tool.py`, then
`toolset.py`. `fingerprint/` makes the digest that decides reuse, `models/` asks language models, `mcp/` takes tools from MCP servers,
`openapi/` from OpenAPI documents.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agent import agent  # first: a module of the same name would hide it later
from .context import Context, Used
from .declaration import ToolSettings
from .tool import Tool, make_tool, tool
from .toolset import Toolset

if TYPE_CHECKING:
    from .artifact import Artifact
    from .fingerprint.lint import lint
    from .models.models import Model, ModelError, ModelReply, ModelRequest, Models, Usage, ask_request
    from .secret import Secret

_LATER = {
    "Artifact": "artifact",
    "Secret": "secret",
    "lint": "fingerprint.lint",
    **dict.fromkeys(
        ("Model", "ModelError", "ModelReply", "ModelRequest", "Models", "Usage", "ask_request"),
        "models.models",
    ),
}
"""Names whose modules load more than a tool needs: imported when first used."""

__all__ = [
    "Artifact",
    "Context",
    "Model",
    "ModelError",
    "ModelReply",
    "ModelRequest",
    "Models",
    "Secret",
    "Tool",
    "ToolSettings",
    "Toolset",
    "Usage",
    "Used",
    "agent",
    "ask_request",
    "lint",
    "make_tool",
    "tool",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public name
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
