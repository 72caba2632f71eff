"""Tools of workers in processes of their own: `firmplan worker --tools tests/support/fleet_tools.py`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from firmplan import tool


@tool(effect="read")
async def hold(folder: str, name: str) -> str:
    """Say which process has begun, by a file, and wait for a file `go`."""
    with (Path(folder) / f"{name}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not (Path(folder) / f"{name}.go").exists():  # noqa: ASYNC110  # the test makes it, in another process
        await asyncio.sleep(0.05)
    return name


@tool(effect="write")
def note(folder: str, text: str) -> str:
    """Write a line into a ledger, which shows each call that took effect."""
    with (Path(folder) / "ledger").open("a") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    return text


@tool(effect="write", approval="always")
def pay(amount: int) -> int:
    """Wait for a person."""
    return amount
