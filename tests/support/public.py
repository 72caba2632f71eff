"""What black-box tests share: plans as dicts, engines on real files. Knows public names only."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from firmplan import Engine, Run

T = TypeVar("T")

UNSET: Any = object()
LIMIT_S = 60.0  # a test that waits longer has found a deadlock


def plan(*steps: Mapping[str, Any], output: Any = UNSET, **keys: Any) -> dict[str, Any]:
    """Return a plan of some steps."""
    made = {"firmplan": 1, "steps": [dict(step) for step in steps], **keys}
    return made if output is UNSET else {**made, "output": output}


def call(step: str, tool: str, *, args: Mapping[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """Return a step that calls a tool."""
    return {"id": step, "tool": tool, "args": dict(args or {}), **keys}


def once(
    tools: Any, what: Any, store: Path | str, *, engine: Mapping[str, Any] | None = None, **options: Any
) -> Run:
    """Run a plan in an engine of its own, on a store of that path, and close the engine."""

    async def go() -> Run:
        async with Engine(tools, store=store, **(engine or {})) as opened:
            return await opened.run(what, **options)

    return within(go())


def within(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, in a loop of its own, within the limit."""
    returned: list[T] = []  # not by the task: asyncio would write it as text, however large it is

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            returned.append(await work)

    asyncio.run(limited())
    return returned[0]


def statuses(run: Run) -> dict[str, str]:
    """Return path -> status, in the run's order."""
    return {path: step.status for path, step in run.steps.items()}
