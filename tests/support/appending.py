"""Putting things into a store as the thread of commits does."""

from __future__ import annotations

import asyncio

from firmplan.executor.stores.store import Batch, Leavings, Store


async def append(store: Store, batch: Batch) -> None:
    """Append a batch on a thread that may wait. Raises: StoreError."""
    (fault,) = await asyncio.to_thread(store.append, [batch])
    if fault is not None:
        raise fault


async def leave(store: Store, left: Leavings) -> None:
    """Add what calls leave, with no records beside it. Raises: StoreError."""
    await append(store, Batch("r", 0, 1, (), b"", {}, "running", "", 0.0, left=left))
