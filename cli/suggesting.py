"""Commands to type next, ready to be copied: with the flags that this command was given, and nothing that holds without them."""

from __future__ import annotations

import shlex

from .config import COMMAND_LINE, Settings

MOVING = ("tools", "store", "model", "base_url", "concurrency")
"""Settings that a command needs which moves a run on."""
LOOKING = ("store",)
"""Settings that a command needs which looks at a run, or decides about it."""


def resume_line(run_id: str, settings: Settings) -> str:
    """Return the command that lets a run go on."""
    return f"firmplan resume {run_id}{flags_of(settings, MOVING)}"


def retry_line(run_id: str, settings: Settings) -> str:
    """Return the command that continues an ended run as a new run."""
    return f"firmplan retry {run_id}{flags_of(settings, MOVING)}"


def decision_line(word: str, run_id: str, step: str, wants: str, settings: Settings) -> str:
    """Return the command that decides about a step."""
    wanted = f" {wants}" if wants else ""
    return f"firmplan {word} {run_id} {shlex.quote(step)}{wanted}{flags_of(settings, LOOKING)}"


def flags_of(settings: Settings, names: tuple[str, ...] = LOOKING) -> str:
    """Return the flags among these that were given, each behind a space: what stands in the environment or the file holds by itself."""
    values = {
        "tools": settings.tools,
        "store": (settings.store_name,),
        "model": (settings.model,),
        "base_url": (settings.base_url,),
        "concurrency": (settings.concurrency,),
    }
    return "".join(
        f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name in names
        if settings.origin.get(name) == COMMAND_LINE
        for value in values[name]
    )
