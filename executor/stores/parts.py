"""Values that are larger than memory should hold: kept in parts, written and read a part at a time.

Each part is a stored value of its own, under its own digest, so that equal parts are stored once and a changed one is noticed. What makes the value
visible under its digest is one row that lists the parts, which is written last: a process that dies before it leaves parts that nothing names, and
the next collection of unused bytes removes them. Whoever holds a digest need not know which way its bytes are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final

from ...errors import StoreError
from ...plans.values import digest
from ...tools.private_file import replacing
from .store import Store

PART_BYTES: Final = (
    4 * 1024 * 1024
)  # of a part, which is in memory two or three times: here, in the driver, in the database


class DamagedValue(StoreError):  # noqa: N818  # it says what was found
    """The bytes of a digest are other bytes, or not all there."""


async def keep_pieces(
    store: Store, pieces: AsyncIterator[bytes], now: Callable[[], float]
) -> tuple[str, int]:
    """Keep the bytes that some pieces make together; return their digest and their number. They are durable then.

    Where large values are kept outside the database, the pieces pass through a temporary file: an object's digest has to be known before it is written.

    Args:
        store: The store.
        pieces: The bytes, in pieces of any size.
        now: The time, since which nothing else need name them yet.

    Raises:
        StoreError: The medium fails.
    """
    if store.keeps_objects:
        with await asyncio.to_thread(tempfile.TemporaryFile) as spooled:
            async for piece in pieces:
                await asyncio.to_thread(spooled.write, piece)
            await asyncio.to_thread(spooled.seek, 0)
            return await keep_file(store, spooled, now)
    whole, size, parts, last = hashlib.sha256(), 0, list[str](), b""
    async for part in _regrouped(pieces):
        size += len(part)
        # The last part waits: if it is the only one, it is the value.
        if last:
            parts.append(await _keep_part(store, last, now()))
        await asyncio.to_thread(whole.update, part)
        last = part
    name = f"sha256:{whole.hexdigest()}"
    if not parts:
        await store.add_value(name, last, now())
        return name, size
    parts.append(await _keep_part(store, last, now()))
    await store.add_parts(name, size, parts, now())
    return name, size


async def keep_file(store: Store, file: BinaryIO, now: Callable[[], float]) -> tuple[str, int]:
    """As `keep_pieces`, the bytes of a file that is open at its beginning.

    Args:
        store: The store.
        file: A file that is open at its beginning.
        now: As of `keep_pieces`.

    Raises:
        StoreError: The medium fails, or the file is changed meanwhile.
        OSError: The file cannot be read.
    """
    if not store.keeps_objects:
        return await keep_pieces(store, pieces_of_file(file), now)
    whole, size, last = hashlib.sha256(), 0, b""
    async for last in pieces_of_file(file):
        size += len(last)
        await asyncio.to_thread(whole.update, last)
    name = f"sha256:{whole.hexdigest()}"
    if size <= PART_BYTES:
        await store.add_value(name, last, now())
        return name, size
    await asyncio.to_thread(file.seek, 0)
    await store.add_pieces(name, size, pieces_of_file(file), now())
    return name, size


async def _keep_part(store: Store, part: bytes, at: float) -> str:
    name = await asyncio.to_thread(digest, part)
    await store.add_value(name, part, at)
    return name


async def _regrouped(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same bytes in pieces of `PART_BYTES`; the last one is shorter, and never empty unless there is nothing at all."""
    held = bytearray()
    async for piece in pieces:
        if not held and len(piece) == PART_BYTES:  # of a file: no copy is needed
            yield piece
            continue
        held += piece
        while len(held) >= PART_BYTES:
            with memoryview(held) as view:
                part = bytes(view[:PART_BYTES])
            del held[:PART_BYTES]
            yield part
    if held:
        yield bytes(held)


async def pieces_of_file(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file that is open, a part at a time, read on a thread."""
    while piece := await asyncio.to_thread(file.read, PART_BYTES):
        yield piece


async def find_pieces(store: Store, name: str) -> AsyncGenerator[bytes] | None:
    """Return the bytes of a digest, a part at a time; `None`: the store does not have them. Before the last part all are compared with the digest.

    The generator raises `DamagedValue` if the bytes were changed, or are removed while it runs.
    """
    if (whole := (await store.find_values([name])).get(name)) is not None:
        return _one(store, name, whole)
    if (parts := (await store.find_parts([name])).get(name)) is not None:
        return _parts(store, name, parts)
    pieces = await store.find_object(name)
    return None if pieces is None else _compared(store, name, pieces)


async def _compared(store: Store, name: str, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same pieces, the last one only if all are the bytes of the digest."""
    whole, last = hashlib.sha256(), b""
    try:
        async for piece in pieces:
            await asyncio.to_thread(whole.update, piece)
            if last:
                yield last
            last = piece
    finally:
        await pieces.aclose()
    if f"sha256:{whole.hexdigest()}" != name:
        raise DamagedValue(
            f"the value {name} was changed where the store {store.name} keeps it: its bytes have another digest"
        )
    if last:
        yield last


async def _one(store: Store, name: str, data: bytes) -> AsyncGenerator[bytes]:
    await _expect(store, name, data)
    if data:
        yield data


async def _parts(store: Store, name: str, parts: tuple[str, ...]) -> AsyncGenerator[bytes]:
    whole = hashlib.sha256()
    for at, part in enumerate(parts):
        data = (await store.find_values([part])).get(part)
        if data is None:
            raise DamagedValue(
                f"the value {name} lacks a part in the store {store.name}: it was removed meanwhile"
            )
        await _expect(store, part, data)
        await asyncio.to_thread(whole.update, data)
        if at == len(parts) - 1 and f"sha256:{whole.hexdigest()}" != name:
            raise DamagedValue(
                f"the value {name} was changed in the store {store.name}: its parts have another digest"
            )
        yield data


async def _expect(store: Store, name: str, data: bytes) -> None:
    if await asyncio.to_thread(digest, data) != name:
        raise DamagedValue(
            f"the value {name} was changed in the store {store.name}: its bytes have another digest"
        )


async def write_file(pieces: AsyncIterator[bytes], path: Path) -> int:
    """Write bytes to a file that only its owner can read, and return their number. There is either the whole file or none.

    Raises:
        OSError: It cannot be written.
    """
    size = 0
    with replacing(path) as file:
        async for piece in pieces:
            size += await asyncio.to_thread(file.write, piece)
    return size
