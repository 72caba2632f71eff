"""What a step may do: tools made of Python functions, sets of them, and the context that a call is handed.

The folder knows plans only as signatures (names, types, effects), and knows no run, no journal and no planner. Begin with `tool.py`, then
`toolset.py`. `fingerprint/` makes the digest that decides reuse, `models/` asks language models, `mcp/` takes tools from MCP servers,
`openapi/` from OpenAPI documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use
from .context import Context, Used
from .declaration import ToolSettings
from .resources import Resource, resource
from .tool import Tool, make_tool, tool
from .toolset import Toolset

if TYPE_CHECKING:
    from .agents.agent import agent
    from .agents.conversation import Message, Reply
    from .artifact import Artifact
    from .codecs.codec import codec
    from .codecs.demands import Columns, Shape
    from .codecs.preview import ArtifactPreview, PreviewColumn
    from .fingerprint.lint import lint
    from .models.models import Model, ModelError, ModelReply, ModelRequest, Models, Usage, ask_request
    from .secret import Secret

# Their modules load more than a tool needs.
__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "agents.agent": ("agent",),
        "artifact": ("Artifact",),
        "codecs.codec": ("codec",),
        "codecs.demands": ("Columns", "Shape"),
        "agents.conversation": ("Message", "Reply"),
        "codecs.preview": ("ArtifactPreview", "PreviewColumn"),
        "fingerprint.lint": ("lint",),
        "models.models": (
            "Model",
            "ModelError",
            "ModelReply",
            "ModelRequest",
            "Models",
            "Usage",
            "ask_request",
        ),
        "secret": ("Secret",),
    },
)

__all__ = [
    "Artifact",
    "ArtifactPreview",
    "Columns",
    "Context",
    "Message",
    "Model",
    "ModelError",
    "ModelReply",
    "ModelRequest",
    "Models",
    "PreviewColumn",
    "Reply",
    "Resource",
    "Secret",
    "Shape",
    "Tool",
    "ToolSettings",
    "Toolset",
    "Usage",
    "Used",
    "agent",
    "ask_request",
    "codec",
    "lint",
    "make_tool",
    "resource",
    "tool",
]
