"""Tools that leave large values and artifacts, and a process that dies while it deletes the run `r` of a store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from firmplan import Artifact, Context, Engine, tool
from firmplan.executor.stores.sqlite_store import SqliteStore

SIZE = 200_000


@tool(effect="read")
def stretch(of: str) -> str:
    """Make a value that stands out of line."""
    return of * SIZE


@tool(effect="pure", version="1")
def save(of: str, *, ctx: Context) -> Artifact:
    """Make an artifact."""
    return ctx.save(of.encode() * SIZE, name="file")


@tool(effect="write", approval="always", resource="bank")
def pay() -> int:
    """Pay."""
    return 1


@tool(effect="read")
def fail(of: str) -> str:
    """Fail."""
    raise ValueError(of)


TOOLS = [stretch, save, pay, fail]


def delete_and_die(store: str, at: int) -> None:
    """Delete the run, and die at its so-manieth instant: before a statement that writes, or before or after work on another connection."""
    count = 0
    is_armed = False

    def tick() -> None:
        nonlocal count
        count += is_armed
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sql, apart = SqliteStore._sql, SqliteStore._on_file

    def counted(self: SqliteStore, statement: str, values: Any = ()) -> Any:
        if statement.startswith(("DELETE", "UPDATE", "COMMIT", "BEGIN")):
            tick()
        return sql(self, statement, values)

    async def counted_apart(self: SqliteStore, work: Callable[[], Any]) -> Any:
        tick()
        found = await apart(self, work)
        tick()
        return found

    SqliteStore._sql, SqliteStore._on_file = counted, counted_apart  # type: ignore[method-assign]
    engine = Engine(TOOLS, store=store)
    engine.list_runs_sync()
    is_armed = True
    engine.delete_sync("r")
