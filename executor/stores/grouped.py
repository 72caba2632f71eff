"""Appends of all runs, committed in groups with one group in flight: what arrives meanwhile forms the next.

A commit costs a wait for a disk or a server, however much it holds. How a group is committed is the store's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ...errors import StoreError
from .store import Batch

Faults = Sequence[StoreError | None]


class GroupedAppends:
    """What `Store.append` and `Store.append_here` do.

    Args:
        commit: Commits a group on the store's thread, and returns what was wrong with each batch.
        commit_here: The same, after what was asked before, while whoever asks waits.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Batch]], Awaitable[Faults]],
        commit_here: Callable[[Sequence[Batch]], Faults],
    ) -> None:
        self._commit = commit
        self._commit_here = commit_here
        self._pending: list[tuple[Batch, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def append(self, batch: Batch) -> None:
        """Append with the next group. Raises: StoreError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((batch, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await done

    def append_here(self, batch: Batch) -> None:
        """Append before returning. The store's thread takes its work in order: what is being committed comes first. Raises: StoreError."""
        group, self._pending = self._pending, []
        batches = [*(waiting for waiting, _ in group), batch]
        faults: Faults
        try:
            faults = self._commit_here(batches)
        except StoreError as fault:
            faults = [fault] * len(batches)
        _settle(group, faults[:-1])
        if (own := faults[-1]) is not None:
            raise own

    async def wait(self) -> None:
        """Wait until nothing is pending."""
        if self._flusher is not None and not self._flusher.done():
            await asyncio.wait([self._flusher])

    async def _flush(self) -> None:
        while self._pending:
            group, self._pending = self._pending, []
            _settle(group, await self._faults_of([batch for batch, _ in group]))

    async def _faults_of(self, batches: Sequence[Batch]) -> Faults:
        """Commit a group; return what was wrong with each batch."""
        try:
            return await self._commit(batches)
        except StoreError as fault:
            return [fault] * len(batches)


def _settle(group: Sequence[tuple[Batch, asyncio.Future[None]]], faults: Faults) -> None:
    """Tell whoever waits for the batches of a group what came of them."""
    for (_, done), fault in zip(group, faults, strict=True):
        if done.cancelled():
            continue
        if fault is None:
            done.set_result(None)
        else:
            done.set_exception(fault)
