"""What a step may do: tools made of Python functions, sets of them, and the context that they are handed."""

from .context import Context, Used
from .declaration import ToolOptions
from .failures import is_interruption
from .tool import Tool, make_tool, tool
from .toolset import Toolset

__all__ = ["Context", "Tool", "ToolOptions", "Toolset", "Used", "is_interruption", "make_tool", "tool"]
