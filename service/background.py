"""Work that a server does again and again beside its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import StoreError
from ..tools.logbook import open_log

ROUND_S: Final = 1.0
"""Seconds between two rounds."""
QUIET_ROUNDS: Final = 60
"""Rounds that fail in a row after which another line is logged."""


async def repeat(work: Callable[[], Awaitable[object]], trouble: str) -> None:
    """Do some work each second until the task is cancelled; a round that fails is logged, and the next one tries again.

    Args:
        work: One round.
        trouble: The words of the log line when a round fails.
    """
    failed = 0
    while True:
        await asyncio.sleep(ROUND_S)
        try:
            await work()
            failed = 0
        except Exception as fault:  # noqa: BLE001  # nobody awaits the task, so the log is the only place for it
            # A store that is away for an hour is not worth 3,600 lines.
            if failed % QUIET_ROUNDS == 0:
                if isinstance(fault, StoreError):
                    open_log().warning(trouble, error=str(fault))
                else:
                    open_log().exception(trouble)
            failed += 1
