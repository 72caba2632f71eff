"""Large values and artifacts as objects outside the database (`objects.py`): which digest is which object, for `sql_store.py`.

A row of `stored_objects` makes a digest known; it is written in the commit of the first record that names it, after its object is complete. So nobody sees half
an object: a process that dies in between leaves one without a row, which a collection removes a day later. Each upload has a key of its own: an
engine may then store a value anew while another one removes it, and neither touches the other's object.

A row has what the garbage collection needs to know of the bytes, the digests that they name, so that it reads no object. It also has the place, so that
an engine with another setting, or with none, still reads what is there. Rejected: one key for each digest, without rows. To remove one safely, all engines would have to agree.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from ...errors import StoreError
from ...plans.values import digest as digest_of
from .garbage import naming
from .objects import READ_BYTES, MissingObject, Objects
from .parts import keep_pieces
from .store import Batch, Reusable, ReuseEntries, Store, StoredObject

if TYPE_CHECKING:
    from .sql_store import Outlives, Sql

T = TypeVar("T")

OBJECT_BYTES_MIN: Final = (
    1024 * 1024
)  # smaller values stay in the database: an object costs a request, to write it and for each reader
UPLOADS_MAX: Final = 8  # objects of one commit that are sent at a time
COLUMNS: Final = "digest, size, place, object, named"
_FIND: Final = f"SELECT {COLUMNS} FROM @stored_objects WHERE digest IN [:digests]"
_ALL: Final = f"SELECT {COLUMNS} FROM @stored_objects ORDER BY digest"
_ADD_FOLDER: Final = (
    "INSERT INTO @object_folders (place, folder) VALUES (:place, :folder) ON CONFLICT DO NOTHING"
)
_STORED: Final = """
    SELECT digest FROM @stored_objects WHERE digest IN [:digests] UNION SELECT digest FROM @stored_values WHERE digest IN [:digests]
"""
# Whoever names what is there already stores nothing. So that no collection removes it before it is named, it counts as saved now.
_MARK: Final = f"""
    INSERT INTO @saved_values (digest, saved) SELECT digest, CAST(:at AS double precision) FROM ({_STORED}) AS stored WHERE 1=1
    ON CONFLICT (digest) DO UPDATE SET saved=excluded.saved
"""
_NAME: Final = "UPDATE @stored_objects SET named=:named WHERE digest=:digest AND length(named)=0"


class Tables(Protocol):
    """What a store does for its objects."""

    name: str

    async def look(self, work: Callable[[Sql], T]) -> T:
        """Do work that only reads."""
        ...

    async def change(self, work: Callable[[Sql], T], *, outlives: Outlives = "power") -> T:
        """Do some work in one transaction."""
        ...

    def change_here(self, work: Callable[[Sql], T]) -> T:
        """As `change`, on the thread that asks."""
        ...


class ObjectValues:
    """The values of one store that are kept as objects.

    Args:
        tables: The store.

    Attributes:
        target: Where new large values go; `None`: into the database.
        bytes_min: The size from which on they do.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.target: Objects | None = None
        self.bytes_min = OBJECT_BYTES_MIN
        self._folder = ""
        self._places: dict[str, Objects] = {}

    # --- writing

    def moved(self, batch: Batch) -> Batch | StoreError:
        """Return a batch whose large values are objects, which are written when this returns; or why that failed. The caller waits."""
        large = {name: data for name, data in batch.values.items() if len(data) >= self.bytes_min}
        results: Sequence[Reusable] = batch.reuse.results if batch.reuse is not None else ()
        outputs: dict[str, bytes] = {
            digest_of(each.output): each.output for each in results if len(each.output) >= self.bytes_min
        }
        if not large and not outputs:
            return batch
        try:
            objects = self._put_all({**large, **outputs}, batch.updated)
        except StoreError as fault:
            return fault
        # What was there already is named, too, so that it is not stored in the database.
        left = {name: data for name, data in batch.values.items() if name not in large}
        reuse = batch.reuse
        if reuse is not None and outputs:
            reuse = ReuseEntries(reuse.calls, reuse.results, reuse.codes, objects)
        return replace(batch, values=left, objects={name: objects[name] for name in large}, reuse=reuse)

    def _put_all(self, values: Mapping[str, bytes], at: float) -> dict[str, StoredObject | None]:
        """Write values as objects; return for each its row, or `None`: it is stored already."""
        target = self._target()
        named = {name: naming(data) for name, data in values.items()}
        known = self._tables.change_here(lambda sql: self._known(sql, named, at))
        made = {
            name: None if name in known else self._row(name, len(data), named[name])
            for name, data in values.items()
        }
        rows = [row for row in made.values() if row is not None]
        if len(rows) == 1:
            _put(target, values, rows[0])
        elif rows:
            with ThreadPoolExecutor(min(UPLOADS_MAX, len(rows))) as threads:
                list(threads.map(partial(_put, target, values), rows))
        return made

    async def add(self, name: str, data: bytes, at: float) -> None:
        """Keep a value that a caller saves.

        Args:
            name: Its digest.
            data: Its bytes.
            at: Since when nothing else need name it, in Unix seconds.
        """
        made = await asyncio.to_thread(self._put_all, {name: data}, at)
        await self._add_row(made[name], at)

    async def add_pieces(self, name: str, size: int, pieces: AsyncIterator[bytes], at: float) -> None:
        """Keep a value of any size, a part at a time.

        Raises:
            StoreError: The pieces are other bytes than the digest says, or the place fails; then there is no object.
        """
        known = await self._tables.change(lambda sql: self._known(sql, {name: b""}, at))
        if name not in known:
            row = self._row(name, size, b"")
            await self._target().put_pieces(row.key, _compared(name, pieces))
            await self._add_row(row, at)

    async def _add_row(self, row: StoredObject | None, at: float) -> None:
        if row is None:
            return

        def work(sql: Sql) -> None:
            sql.insert("stored_objects", COLUMNS, [row.to_row()], key="digest")
            sql.insert(
                "saved_values", "digest, saved", [(row.digest, float(at))], key="digest", replaces=True
            )

        await self._tables.change(work)

    def _known(self, sql: Sql, named: Mapping[str, bytes], at: float) -> frozenset[str]:
        """Return which values are stored already, and will stay for a while, in a transaction."""
        if not self._folder:
            # A folder of the store's own: several stores may have one bucket and prefix, and none removes what is another's.
            place = {"place": self._target().name, "folder": secrets.token_hex(8)}
            sql.change(_ADD_FOLDER, place)
            found = sql.rows("SELECT folder FROM @object_folders WHERE place=:place", place)
            self._folder = str(found[0][0])
        digests = {"digests": sorted(named)}
        sql.change(_MARK, {**digests, "at": float(at)})
        for name, digests_in in sorted(named.items()):
            if digests_in:  # it was saved as a file before, which nobody reads for digests
                sql.change(_NAME, {"named": digests_in, "digest": name})
        return frozenset(name for (name,) in sql.rows(_STORED, digests))

    def _row(self, name: str, size: int, named: bytes) -> StoredObject:
        digits = name.removeprefix("sha256:")
        key = f"{self._folder}/{digits[:2]}/{digits}.{secrets.token_hex(4)}"
        return StoredObject(name, size, self._target().name, key, named)

    def _target(self) -> Objects:
        assert self.target is not None
        return self.target

    # --- reading

    async def rows(self, digests: Iterable[str] | None = None) -> Sequence[StoredObject]:
        """Return the rows of some digests that have one; `None`: all rows."""
        values: dict[str, object] = {} if digests is None else {"digests": sorted(set(digests))}
        found = await self._tables.look(lambda sql: sql.rows(_ALL if digests is None else _FIND, values))
        return [StoredObject.from_row(row) for row in found]

    async def is_used(self) -> bool:
        """Whether the store has ever kept an object."""
        return bool(await self._tables.look(lambda sql: sql.rows("SELECT 1 FROM @object_folders LIMIT 1")))

    async def find(self, digests: Iterable[str], bytes_max: int) -> dict[str, bytes]:
        """Return values that are no larger than that."""
        rows = [row for row in await self.rows(digests) if row.size <= bytes_max]
        found = await asyncio.gather(*(self._place(row.place).get(row.key) for row in rows))
        return {row.digest: data for row, data in zip(rows, found, strict=True)}

    async def find_pieces(self, name: str) -> AsyncGenerator[bytes] | None:
        """Return a value, a part at a time, as it is there: nobody has compared it with its digest; `None`: it is no object."""
        rows = await self.rows([name])
        return self._place(rows[0].place).stream(rows[0].key) if rows else None

    def read_here(self, sql: Sql, name: str) -> bytes | None:
        """Return a value while the caller waits; `None`: it is no object, or the object is gone."""
        rows = [StoredObject.from_row(row) for row in sql.rows(_FIND, {"digests": [name]})]
        try:
            return self._place(rows[0].place).get_here(rows[0].key) if rows else None
        except MissingObject:
            return None

    def _place(self, name: str) -> Objects:
        """Return a place that a row names: the one of the setting, or one from before."""
        if self.target is not None and self.target.name == name:
            return self.target
        if name not in self._places:
            self._places[name] = Objects(name)
        return self._places[name]

    # --- care

    async def find_damage(self) -> list[str]:
        """Return what is wrong with the objects, each of which is read. A place that cannot be reached raises `StoreError`."""
        found: list[str] = []
        for row in await self.rows():
            whole = hashlib.sha256()
            try:
                async for piece in self._place(row.place).stream(row.key):
                    await asyncio.to_thread(whole.update, piece)
            except MissingObject:
                found.append(f"the value {row.digest} is gone: there is no object {row.key} at {row.place}")
                continue
            if f"sha256:{whole.hexdigest()}" != row.digest:
                found.append(
                    f"the value {row.digest} is not as it was written (object {row.key} at {row.place})"
                )
        return found

    async def copy_into(self, copy: Store) -> None:
        """Put the bytes of all objects into a copy of the store, which has their rows, so that it is complete by itself. Raises: StoreError."""
        tables = cast("Tables", copy)
        others = ObjectValues(tables)
        for row in await others.rows():
            pieces = self._place(row.place).stream(row.key)
            try:
                if row.named or row.size <= READ_BYTES:
                    # Its text is read for what it names, and texts in parts are not.
                    await copy.add_value(row.digest, b"".join([piece async for piece in pieces]), 0.0)
                else:
                    await keep_pieces(copy, pieces, lambda: 0.0)
            except MissingObject:
                if await self.rows([row.digest]):  # else it was removed meanwhile, since nothing named it
                    raise

        def forget(sql: Sql) -> None:
            sql.change("DELETE FROM @stored_objects")
            sql.change("DELETE FROM @object_folders")

        await tables.change(forget)

    async def remove(self, gone: Iterable[tuple[str, str]]) -> None:
        """Remove objects, by place and key, whose rows are gone. Raises: StoreError: a later sweep removes what is left."""
        by_place: dict[str, list[str]] = {}
        for place, key in gone:
            by_place.setdefault(place, []).append(key)
        for place, keys in sorted(by_place.items()):
            await self._place(place).remove(keys)

    async def sweep(self, written_before: float) -> tuple[int, int]:
        """Remove objects without a row that were written before then, in Unix seconds; return how many, and their size.

        Those are of processes that died during an upload, and of engines that stored one value at the same moment.
        """
        count = size = 0
        for place, folder in await self._tables.look(
            lambda sql: sql.rows("SELECT place, folder FROM @object_folders ORDER BY place")
        ):
            unfinished, unfinished_size = await self._place(place).remove_unfinished(folder, written_before)
            count, size = count + unfinished, size + unfinished_size
            old = [each async for each in self._place(place).list(folder) if each.written < written_before]
            named = {row.key for row in await self.rows() if row.place == place} if old else set[str]()
            left = [each for each in old if each.key not in named]
            await self._place(place).remove([each.key for each in left])
            count += len(left)
            size += sum(each.size for each in left)
        return count, size


def _put(target: Objects, values: Mapping[str, bytes], row: StoredObject) -> None:
    target.put(row.key, values[row.digest])


async def _compared(name: str, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same pieces, and raise at their end if they are not the bytes of a digest: the upload is then given up."""
    whole = hashlib.sha256()
    async for piece in pieces:
        await asyncio.to_thread(whole.update, piece)
        yield piece
    if f"sha256:{whole.hexdigest()}" != name:
        raise StoreError(f"the value {name} was changed while it was stored: its bytes have another digest")


async def complete_copy(objects: ObjectValues, copy: Store) -> None:
    """Put the bytes that are outside a store into its copy, a store that nobody else uses. Raises: StoreError."""
    if not await objects.is_used():
        return
    await copy.open()
    try:
        await objects.copy_into(copy)
    finally:
        await copy.close()
