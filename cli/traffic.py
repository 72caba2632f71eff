"""`traffic`: another command, with the traffic of models written to a file, or answered from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typer.main import get_command

from ..errors import InputRejected
from ..tools.models.recorder import recording
from . import screen
from .app import app

SERVER = "firmplan.testing.scripted_model"
"""Serves a recording; its first line says where. A process of its own: the command line knows no test fake."""

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
    """Have models of this process answer from a recording, which another process serves."""
    if not file.is_file():
        raise InputRejected(f"expected a recording, found no file at {file}: check the path")
    server = subprocess.Popen(  # noqa: S603  # this Python, a module of ours, the user's file
        [sys.executable, "-m", SERVER, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    before = {name: os.environ.get(name) for name in ("FIRMPLAN_BASE_URL", "FIRMPLAN_MODEL")}
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        base_url = server.stdout.readline().strip()
        if not base_url:
            said = server.stderr.read().strip().rpartition("\n")[2]
            raise InputRejected(f"expected a recording, found {file}: {said}")
        os.environ["FIRMPLAN_BASE_URL"] = base_url
        os.environ.setdefault("FIRMPLAN_MODEL", REPLAYED_MODEL)
        yield
    finally:
        server.terminate()
        server.communicate()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
