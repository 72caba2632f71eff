"""Tools that write to a ledger outside of every store: a file beside a copy of this module, in which each line is on the disk before a call goes on.

A line is `CALL KIND TOOL N KEY PROCESS`: `attempt` when a call begins, `effect` when the world has changed, `repeat` when the world refuses a key that it
has seen, `ask` when somebody asks what became of a key. So blind repeats and calls that go on after they were given up can be told from the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from firmplan import Context, tool

LEDGER = Path(__file__).with_name("ledger")
PAUSE_S = 0.1  # before an effect and after it, so that processes die there, too


class Line(NamedTuple):
    """A line of the ledger; `call` is the same in all lines of one call."""

    call: str
    kind: str
    tool: str
    n: int
    key: str
    process: int


def read_ledger(path: Path = LEDGER) -> list[Line]:
    """Return the lines in their order."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Line(call, kind, name, int(n), key, int(pid)) for call, kind, name, n, key, pid in lines]


def _add(call: str, kind: str, name: str, n: int, key: str, *, once: bool = False) -> None:
    """Add a line; with `once`, the effect of a key that has had one already is a `repeat`."""
    file = os.open(LEDGER, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        if once:
            fcntl.flock(file, fcntl.LOCK_EX)  # released with the file, also by a process that dies
            if _has_effect(key):
                kind = "repeat"
        os.write(file, f"{call} {kind} {name} {n} {key} {os.getpid()}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


def _has_effect(key: str) -> bool:
    return f" {key} ".encode() in b"".join(
        line for line in LEDGER.read_bytes().splitlines() if b" effect " in line
    )


def _write(name: str, n: int, key: str, *, once: bool = False) -> int:
    call = uuid4().hex
    _add(call, "attempt", name, n, key)
    time.sleep(PAUSE_S)
    _add(call, "effect", name, n, key, once=once)
    time.sleep(PAUSE_S)
    return n + 1


def _find_effect(key: str, args: dict[str, int]) -> int | None:
    """Tell what a call under a key returned, if it took place."""
    _add("-", "ask", "-", args["n"], key)
    return args["n"] + 1 if _has_effect(key) else None


@tool(effect="read", resource="world", version=1)
async def look(n: int) -> int:
    """Look something up, for up to half a second."""
    await asyncio.sleep(0.1 * (n % 6))
    return n


@tool(effect="write", resource="keyed", idempotent=True, version=1)
def keyed(n: int, ctx: Context) -> int:
    """Write to a service that takes notice of each key once."""
    return _write("keyed", n, ctx.idempotency_key, once=True)


@tool(effect="write", resource="asked", reconcile=_find_effect, version=1)
def asked(n: int, ctx: Context) -> int:
    """Write to a service that can be asked what became of a key."""
    return _write("asked", n, ctx.idempotency_key)


@tool(effect="write", resource="apart", reconcile=_find_effect, isolation="process", version=1)
def apart(n: int, ctx: Context) -> int:
    """Do the same in a process of the tool's own."""
    return _write("apart", n, ctx.idempotency_key)


@tool(effect="write", resource="once", version=1)
def once(n: int, ctx: Context) -> int:
    """Write to a service that can neither be asked nor told twice."""
    return _write("once", n, ctx.idempotency_key)


@tool(effect="write", resource="signed", approval="always", version=1)
def signed(n: int, ctx: Context) -> int:
    """Do the same once a person has agreed."""
    return _write("signed", n, ctx.idempotency_key)


TOOLS = [look, keyed, asked, apart, once, signed]
