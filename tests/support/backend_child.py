"""A worker in a process of its own, to be killed: `python backend_child.py STORE QUEUE`.

It says a line once it is in the middle of its first call.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from firmplan import Engine, tool
from queue_backend import QueueBackend


@tool(effect="pure", version="1")
async def say(word: str) -> str:
    """Say a word."""
    return word


@tool(effect="read", version="1")
async def hang(word: str) -> str:
    """Say that it is here, and wait."""
    print(word, flush=True)  # noqa: T201  # what the test reads
    await asyncio.Event().wait()
    return word


async def main() -> None:
    """Work until the process is killed."""
    store, queue = sys.argv[1:]
    async with Engine([say, hang], store=store, backend=QueueBackend(Path(queue))) as engine:
        await engine.work(slots=1)


if __name__ == "__main__":
    asyncio.run(main())
