"""Tools with a queue, of workers in processes of their own: `firmplan worker --queue far --tools tests/support/far_tools.py`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from firmplan import Context, tool

QUEUE = os.environ.get("FAR_QUEUE", "far")


def wait_for(path: Path) -> None:
    """Wait until a file is there, which another process makes."""
    while not path.exists():
        time.sleep(0.05)


def began(folder: str, name: str) -> None:
    """Say which process has begun a call."""
    with (Path(folder) / f"{name}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")


def write_line(folder: str, text: str) -> None:
    """Write a line into a ledger, which shows each call that took effect."""
    with (Path(folder) / "ledger").open("a") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


@tool(effect="read", queue=QUEUE)
def look(folder: str, name: str) -> str:
    """Say that the call has begun, and wait for a file."""
    began(folder, name)
    wait_for(Path(folder) / f"{name}.go")
    return name


@tool(effect="write", queue=QUEUE)
def pay(folder: str, name: str) -> str:
    """Say that the call has begun, wait for a file, and write a line."""
    began(folder, name)
    wait_for(Path(folder) / f"{name}.go")
    write_line(folder, name)
    return name


@tool(effect="write", queue=QUEUE, idempotent=True)
def put(folder: str, name: str, *, ctx: Context) -> list[str]:
    """The same, with a key, an id and the time."""
    made = [ctx.idempotency_key, str(ctx.uuid()), str(ctx.now().timestamp())]
    with (Path(folder) / f"{name}.begun").open("a") as file:
        file.write(" ".join(made) + "\n")
    wait_for(Path(folder) / f"{name}.go")
    write_line(folder, " ".join([name, *made]))
    return made


@tool(effect="read", queue=QUEUE)
def who(folder: str, name: str) -> int:
    """Say that the call has begun, wait for a file, and return which process made the call."""
    began(folder, name)
    wait_for(Path(folder) / f"{name}.go")
    return os.getpid()
