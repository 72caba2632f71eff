"""Fakes for tests of programs that use firmplan, golden tests, and the pytest plugin.

It knows every other folder, and no other folder knows it; the fakes speak real HTTP and use the real store. Begin at `scripted_model.py`
(a model from a script), `fakes.py` (clock and store) and `golden.py` (recorded runs as tests). Each public name is imported on first use:
a test that needs a store loads no HTTP server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..tools.models.marks import unmarked
    from .assertions import assert_same_run, assert_step
    from .fakes import FakeClock, MemoryStore, run_plan
    from .recorded import RecordedRun, read_recorded
    from .replies import (
        Body,
        Cut,
        Drip,
        Empty,
        Faulted,
        HttpError,
        Paced,
        Raw,
        Refusal,
        Slow,
        Text,
        ToolCall,
        ToolCalls,
        Truncated,
    )
    from .scripted_model import ScriptedModel
    from .scripted_tool import Held, ScriptedTool

_HOME = {
    "FakeClock": "fakes",
    "Held": "scripted_tool",
    "MemoryStore": "fakes",
    "RecordedRun": "recorded",
    "ScriptedModel": "scripted_model",
    "ScriptedTool": "scripted_tool",
    "assert_same_run": "assertions",
    "assert_step": "assertions",
    "read_recorded": "recorded",
    "run_plan": "fakes",
    "unmarked": "..tools.models.marks",
}
"""Public name -> the module that has it; the replies of a scripted model are in `replies`."""

__all__ = [
    "Body",
    "Cut",
    "Drip",
    "Empty",
    "FakeClock",
    "Faulted",
    "Held",
    "HttpError",
    "MemoryStore",
    "Paced",
    "Raw",
    "RecordedRun",
    "Refusal",
    "ScriptedModel",
    "ScriptedTool",
    "Slow",
    "Text",
    "ToolCall",
    "ToolCalls",
    "Truncated",
    "assert_same_run",
    "assert_step",
    "read_recorded",
    "run_plan",
    "unmarked",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public name
    if name not in __all__:
        raise AttributeError(f"module 'firmplan.testing' has no attribute {name!r}")
    home = _HOME.get(name, "replies")
    value = getattr(import_module(home if home.startswith(".") else f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
