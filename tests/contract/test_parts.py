"""Laws of values in parts: larger than memory should hold, in every store; whole or not there, and collected like every value."""

from __future__ import annotations

import os

import pytest
from appending import with_store
from firmplan.executor.stores import parts
from firmplan.executor.stores.parts import DamagedValue, find_pieces, keep_pieces, write_file
from firmplan.executor.stores.store import read_values
from firmplan.plans.values import digest

WHOLE = b"0123456789" * 3 + b"x"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 8)


async def pieces_of(*pieces):
    for piece in pieces:
        yield piece


async def kept(store, *pieces, at=1.0):
    return await keep_pieces(store, pieces_of(*pieces), lambda: at)


async def whole_of(store, name):
    found = await find_pieces(store, name)
    return None if found is None else [piece async for piece in found]


def test_bytes_come_back_a_part_at_a_time(make_store, tmp_path):
    """Whatever the pieces were; one part or none is a plain value. Equal bytes have one digest, whichever way they are kept."""

    async def law(store):
        assert await kept(store, WHOLE[:3], WHOLE[3:20], b"", WHOLE[20:]) == (digest(WHOLE), len(WHOLE))
        assert await whole_of(store, digest(WHOLE)) == [WHOLE[at : at + 8] for at in range(0, len(WHOLE), 8)]
        assert await read_values(store, [digest(WHOLE)]) == {digest(WHOLE): WHOLE}
        assert await store.find_values([digest(WHOLE)]) == {}
        for small in (b"", b"12345678"):
            assert await kept(store, small) == (digest(small), len(small))
            assert await store.find_values([digest(small)]) == {digest(small): small}
        assert await whole_of(store, digest(b"none")) is None
        path = tmp_path / "out"
        assert await write_file(await find_pieces(store, digest(WHOLE)), path) == len(WHOLE)
        assert path.read_bytes() == WHOLE
        assert os.name != "posix" or path.stat().st_mode & 0o77 == 0

    with_store(make_store, law)


def test_there_is_no_value_without_all_its_parts(make_store):
    """Whoever stops in the middle leaves parts that nothing names: they are no value, and the collection removes them."""

    async def broken():
        yield WHOLE
        raise ValueError

    async def law(store):
        with pytest.raises(ValueError):
            await keep_pieces(store, broken(), lambda: 1.0)
        assert await whole_of(store, digest(WHOLE)) is None
        removed = await store.prune_values(saved_before=2.0)
        assert removed.bytes > 0
        assert await store.find_values([digest(WHOLE[:8])]) == {}

    with_store(make_store, law)


def test_parts_stay_as_long_as_their_value_is_named(make_store):
    """The collection counts the bytes of the parts; a value that shares parts keeps them."""

    async def law(store):
        await kept(store, WHOLE, at=1.0)
        other = WHOLE[:16] + b"another end"
        await kept(store, other, at=100.0)
        assert (await store.prune_values(saved_before=50.0)).bytes == len(WHOLE) - 16
        assert await whole_of(store, digest(WHOLE)) is None
        assert b"".join(await whole_of(store, digest(other))) == other
        assert (await store.prune_values(saved_before=200.0)).bytes == len(other)
        assert await store.find_parts([digest(other)]) == {}

    with_store(make_store, law)


def test_a_part_that_is_missing_is_noticed(make_store, tmp_path):
    """No file appears, and the check of the store names the value."""

    async def law(store):
        await store.add_value(digest(b"abc"), b"abc", 1.0)
        await store.add_parts(digest(b"abcdef"), 6, [digest(b"abc"), digest(b"def")], 1.0)
        path = tmp_path / "none"
        with pytest.raises(DamagedValue, match="lacks a part"):
            await write_file(await find_pieces(store, digest(b"abcdef")), path)
        assert list(tmp_path.glob("*none*")) == []
        assert any("lacks a part" in each for each in await store.find_damage())
        await store.add_parts(digest(b"other"), 3, [digest(b"abc")], 1.0)
        with pytest.raises(DamagedValue, match="another digest"):
            await whole_of(store, digest(b"other"))

    with_store(make_store, law)
