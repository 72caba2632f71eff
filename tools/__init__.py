"""What a step may do: tools made of Python functions, sets of them, and the context that they are handed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agent import agent  # at once: a module of the same name would hide it later
from .context import Context, Used
from .declaration import ToolOptions, ToolSettings
from .failures import is_interruption
from .fingerprint.lint import Remark, lint
from .tool import Tool, make_tool, tool
from .toolset import Toolset

if TYPE_CHECKING:
    from .artifact import Artifact, Blobs
    from .fingerprint.fingerprint import Fingerprint, fingerprint_of
    from .models.models import (
        Message,
        Model,
        ModelError,
        ModelReply,
        ModelRequest,
        Models,
        Usage,
        ask_request,
    )
    from .models.recorder import recording

_LATER = {
    "Artifact": "artifact",
    "Blobs": "artifact",
    "Fingerprint": "fingerprint.fingerprint",
    "Message": "models.models",
    "Model": "models.models",
    "ModelError": "models.models",
    "ModelReply": "models.models",
    "ModelRequest": "models.models",
    "Models": "models.models",
    "Usage": "models.models",
    "ask_request": "models.models",
    "fingerprint_of": "fingerprint.fingerprint",
    "recording": "models.recorder",
}
"""Names whose modules load more than a tool needs: imported when first asked for."""

__all__ = [
    "Artifact",
    "Blobs",
    "Context",
    "Fingerprint",
    "Message",
    "Model",
    "ModelError",
    "ModelReply",
    "ModelRequest",
    "Models",
    "Remark",
    "Tool",
    "ToolOptions",
    "ToolSettings",
    "Toolset",
    "Usage",
    "Used",
    "agent",
    "ask_request",
    "fingerprint_of",
    "is_interruption",
    "lint",
    "make_tool",
    "recording",
    "tool",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public name
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
