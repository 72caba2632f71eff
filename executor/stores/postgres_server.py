"""A store's two connections to its server: one that commits, and one that looks things up, so that no look waits for a disk.

What one has committed the other sees, durable or not: it is visible before it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .postgres_copy import copy_into
from .postgres_link import PostgresLink, Query, Values, rows
from .postgres_tables import bring_up, find_format, find_rot
from .url import PostgresUrl


class PostgresServer:
    """The server that a URL names."""

    is_read_only = False  # whoever may not write there is told by the server, write by write

    def __init__(self, url: str) -> None:
        self._url = PostgresUrl.of(url)
        self.name = self._url.name
        self._main = PostgresLink(self._url, "firmplan-store")
        self._side = PostgresLink(self._url, "firmplan-store-look")

    async def open(self) -> None:
        """Connect, and make the tables where there are none. Raises: StoreError."""
        if self._main.is_open:
            return
        await self._main.open(lambda db: bring_up(db, self.name))
        try:
            await self._side.open()
        except BaseException:
            await self._main.close()
            raise

    async def close(self) -> None:
        """Disconnect; idempotent."""
        await self._main.close()
        await self._side.close()

    async def expect_writable(self) -> None:
        """See `Store.expect_writable`."""

    async def find_format(self) -> int | None:
        """Return the format of what is there, without making anything; `None`: there is no store. Raises: StoreError."""
        link = PostgresLink(self._url, "firmplan-store-format")
        await link.open()
        try:
            return await link.call(find_format)
        finally:
            await link.close()

    async def find_damage(self) -> Sequence[str]:
        """See `Store.find_damage`."""
        return await self._side.call(find_rot)

    async def copy_to(self, path: Path) -> None:
        """See `Store.copy_to`: the copy is a store in one SQLite file."""
        await copy_into(self._url, path)

    async def _look(self, statement: Query, values: Values = ()) -> list[tuple[Any, ...]]:
        return await self._side.call(lambda db: rows(db, statement, values))
