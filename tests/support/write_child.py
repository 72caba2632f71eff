"""A process that dies in the middle of a write, and the server which that write acts on: it does nothing twice under one idempotency key."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from firmplan import Context, Engine, Tool, tool

PLAN: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "seen", "tool": "look", "args": {"x": 4}},
        {"id": "paid", "tool": "pay", "args": {"x": "${seen}"}},
        {"id": "told", "tool": "look", "args": {"x": "${paid}"}},
        {"id": "other", "tool": "look", "args": {"x": 1}},
    ],
    "output": "${told}",
}


class Server:
    """What a write acts on: a file with one line a call, `KEY AMOUNT TIME`; equal keys act once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def calls(self) -> list[list[str]]:
        """Return the calls, in order."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def effects(self) -> int:
        """Return how often money has moved."""
        return len({key for key, *_ in self.calls()})

    def tools(self, *, dies: bool = False, **options: Any) -> list[Tool]:
        """Return a write and a read; the write kills its process once it has acted, if it is to."""

        @tool(resource="till", version=1, **options)
        def pay(x: int, *, ctx: Context) -> int:
            """Pay."""
            with self.path.open("a") as file:
                file.write(f"{ctx.idempotency_key} {x} {ctx.now().timestamp()}\n")
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        @tool(effect="read", resource="none", version=1)
        def look(x: int) -> int:
            """Look."""
            return x + 1

        return [pay, look]


def run_and_die(store: str, path: str, options: dict[str, Any]) -> None:
    """Run the plan as `one` until its write kills this process."""
    with Engine(Server(Path(path)).tools(dies=True, **options), store=store) as engine:
        engine.run_sync(PLAN, run_id="one")
