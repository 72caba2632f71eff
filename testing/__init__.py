"""Fakes for tests of programs that use firmplan, golden tests, and the pytest plugin.

It knows every other folder, and no other folder knows it; the fakes speak real HTTP and use the real store. Begin at `scripted_model.py`
(a model from a script), `fakes.py` (clock and store) and `golden.py` (recorded runs as tests). Each public name is imported on first use:
a test that needs a store loads no HTTP server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

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

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        ".tools.models.marks": ("unmarked",),
        "assertions": ("assert_same_run", "assert_step"),
        "fakes": ("FakeClock", "MemoryStore", "run_plan"),
        "recorded": ("RecordedRun", "read_recorded"),
        "replies": (
            *(
                "Body",
                "Cut",
                "Drip",
                "Empty",
                "Faulted",
                "HttpError",
                "Paced",
                "Raw",
                "Refusal",
                "Slow",
                "Text",
            ),
            *("ToolCall", "ToolCalls", "Truncated"),
        ),
        "scripted_model": ("ScriptedModel",),
        "scripted_tool": ("Held", "ScriptedTool"),
    },
)

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
