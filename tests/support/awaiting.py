"""A model that stops near the end of its plan until a step of the plan has run: it can only end if steps start early."""

from __future__ import annotations

import asyncio
import time

from firmplan.testing import Paced

PATIENCE_S = 30.0
TOOLS = '''
from pathlib import Path

from firmplan import tool


@tool(effect="read")
def look(number: int) -> int:
    """Look at something."""
    Path("looked").touch()
    return number
'''
PLAN = {
    "firmplan": 1,
    "steps": [{"id": f"s{number}", "tool": "look", "args": {"number": number}} for number in range(6)],
    "output": "${s0 + s5}",
}


def awaiting(marker):
    """Return the reply, and a list that gets to hold whether the marker was there before the plan was."""
    was_there = []

    async def pace(share):
        if share > 0.9 and not was_there:
            until = time.monotonic() + PATIENCE_S
            while not marker.exists() and time.monotonic() < until:  # noqa: ASYNC110  # a process of its own makes it
                await asyncio.sleep(0.01)
            was_there.append(marker.exists())

    return Paced(PLAN, pace), was_there
