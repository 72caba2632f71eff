"""Waiting for what another process does, and tests that are coroutines."""

from __future__ import annotations

import asyncio
import functools
import inspect

PATIENCE_S = 60.0


def in_loop(test):
    """Return a test whose coroutine runs in an event loop of its own."""

    @functools.wraps(test)
    def run(**given):
        asyncio.run(test(**given))

    return run


async def until(look, holds=bool):
    """Return what `look` finds, once it is as wanted; `look` may be a coroutine function. Fails after a minute."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = look()
                if inspect.isawaitable(found):
                    found = await found
                if holds(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited for a minute; the last look found {found!r}") from None
