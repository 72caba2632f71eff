"""Fakes for tests of plans, tools and agents: public, and tested themselves.

    from firmplan.testing import ScriptedModel, run_plan

Every name is imported on first use: a test that needs no HTTP server loads none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fake_clock import FakeClock
    from .memory_store import MemoryStore
    from .run_plan import run_plan
    from .scripted_model import ScriptedModel
    from .scripted_tool import ScriptedTool

_HOME = {
    "FakeClock": "fake_clock",
    "MemoryStore": "memory_store",
    "ScriptedModel": "scripted_model",
    "ScriptedTool": "scripted_tool",
    "run_plan": "run_plan",
}

__all__ = ["FakeClock", "MemoryStore", "ScriptedModel", "ScriptedTool", "run_plan"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any public name
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'firmplan.testing' has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
