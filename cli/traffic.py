"""`traffic`: another command, with the traffic of models written to a file, or answered from it."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typer.main import get_command

from ..errors import InputRejected
from ..testing import ScriptedModel
from ..tools.recorder import recording
from . import screen
from .app import app

REPLAYED_MODEL = "recorded"
"""What the model is called where none is named: a recording answers for any."""


def traffic_command(file: Path, words: Sequence[str], *, replay: bool) -> int:
    """Run a command with its model traffic recorded, or replayed; return its exit code."""
    command = [word for word in words if word != "--"]
    if not command or command[0] == "traffic":
        raise InputRejected('expected a command to record, as in: traffic calls.jsonl run "task", found none')
    if replay:
        with _replayed(file):
            return _run(command)
    with recording(file) as recorder:
        code = _run(command)
    if "--json" not in command:
        screen.note(f"recorded to {recorder.path}; answer from it with `firmplan traffic --replay {file} ..`")
    return code


def _run(words: list[str]) -> int:
    return int(get_command(app).main(words, standalone_mode=False) or 0)


@contextmanager
def _replayed(file: Path) -> Generator[None]:
    """Have models of this process answer from a recording."""
    try:
        model = ScriptedModel(file)
    except (OSError, ValueError) as fault:
        raise InputRejected(f"expected a recording, found {file}: {fault}") from fault
    before = dict(os.environ)
    with model:
        os.environ["FIRMPLAN_BASE_URL"] = model.base_url
        os.environ.setdefault("FIRMPLAN_MODEL", REPLAYED_MODEL)
        try:
            yield
        finally:
            for name in ("FIRMPLAN_BASE_URL", "FIRMPLAN_MODEL"):
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]
