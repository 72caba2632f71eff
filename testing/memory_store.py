"""A store that lives in this process and is gone with it: the real one, on a database in memory."""

from __future__ import annotations

from ..executor import SqliteStore


class MemoryStore(SqliteStore):
    """A store in memory; hand it to `Engine(store=..)`. Not a second implementation: it has every rule of the real one."""

    def __init__(self) -> None:
        super().__init__(":memory:")
