"""Laws of values outside the database, at each kind of place and in each kind of store: same digests, whole or not there, collected like every value."""

from __future__ import annotations

import asyncio
import os

import pytest
from appending import append, batch_of, claimed, leave, with_store
from firmplan import ConfigError, StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.stores import parts
from firmplan.executor.stores.objects import Objects
from firmplan.executor.stores.parts import DamagedValue, find_pieces, keep_file, keep_pieces
from firmplan.executor.stores.store import Reusable, ReuseEntries, read_values
from firmplan.plans.values import digest
from s3_server import KEY, SECRET, S3Server

SMALL, LARGE = b"small", b"0123456789" * 20
WHOLE = os.urandom(1024) * 18 * 1024  # more than two chunks of an upload


@pytest.fixture(scope="module")
def server():
    with S3Server("bucket") as running:
        yield running


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request, tmp_path, monkeypatch):
    """A place that nobody has used."""
    if request.param == "folder":
        return Objects.at(tmp_path / "some folder")
    if request.param == "memory":
        from obstore.store import MemoryStore as MemoryPlace

        return Objects("memory:", MemoryPlace())
    server = request.getfixturevalue("server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Objects.at(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def make_kept(make_store, place, monkeypatch):
    """As `make_store`; values of 100 bytes and more are kept at the place."""
    monkeypatch.setattr(parts, "PART_BYTES", 150)

    def make():
        store = make_store()
        store.objects.target, store.objects.bytes_min = place, 100
        return store

    return make


async def keys_at(place, folder=""):
    """Return all keys at a place, with their bytes."""
    keys = [each.key async for each in place.list(folder)] if folder else []
    return {key: await place.get(key) for key in keys}


async def folder_of(store):
    found = await store.look(lambda sql: sql.rows("SELECT folder FROM @object_folders"))
    return found[0][0]


async def pieces_of(*pieces):
    for piece in pieces:
        yield piece


async def whole_of(store, name):
    found = await find_pieces(store, name)
    return None if found is None else b"".join([piece async for piece in found])


# --- the place


def test_a_place_gives_back_what_it_has(place):
    """Whole or a part at a time; what is removed is gone, and twice is no fault."""

    async def main():
        await place.check()
        await asyncio.to_thread(place.put, "f/a", SMALL)
        await asyncio.to_thread(place.put, "f/b/c.d", WHOLE)
        await asyncio.to_thread(place.put, "g/a", b"")
        assert await place.get("f/a") == place.get_here("f/a") == SMALL
        read = [piece async for piece in place.stream("f/b/c.d")]
        assert len(read) > 2 or place.name == "memory:"
        assert b"".join(read) == WHOLE
        found = [each async for each in place.list("f")]
        assert {each.key: each.size for each in found} == {"f/a": len(SMALL), "f/b/c.d": len(WHOLE)}
        await place.remove(["f/a", "f/b/c.d", "f/none"])
        await place.remove(["f/a"])
        assert [each async for each in place.list("f")] == []
        for reads in (place.get("f/a"), anext(place.stream("f/a")), asyncio.to_thread(place.get_here, "f/a")):
            with pytest.raises(StoreError, match="there is no object f/a at"):
                await reads

    asyncio.run(main())


def test_an_upload_is_whole_or_not_there(place):
    """Whoever yields its pieces may raise at any time: the error comes as it is, and no object is left."""

    class StoppedError(Exception):
        pass

    async def broken():
        yield WHOLE
        raise StoppedError

    async def main():
        await place.put_pieces("f/a", pieces_of(WHOLE[:7], WHOLE[7:]))
        assert await place.get("f/a") == WHOLE
        with pytest.raises(StoppedError):
            await place.put_pieces("f/b", broken())
        assert [each.key async for each in place.list("f")] == ["f/a"]

    asyncio.run(main())


# --- a store that uses it


def test_values_have_the_same_digests_wherever_they_are(make_kept, place):
    """Small ones stay in the database, large ones are objects: saved by a caller, in the records of a run, and as a result for reuse."""

    async def law(store):
        saved, recorded, output = LARGE, b"record " * 50, b'"' + b"o" * 300 + b'"'
        await store.add_value(digest(saved), saved, 1.0)
        await store.add_value(digest(SMALL), SMALL, 1.0)
        row = await claimed(store)
        values = {digest(recorded): recorded, digest(SMALL): SMALL}
        await append(store, batch_of(row, b"1", values=values))
        result = Reusable("sha256:" + "a" * 64, "r", "s", output, 1.0)
        await leave(store, ReuseEntries([], [result]))
        names = [digest(each) for each in (saved, recorded, SMALL)]
        assert await read_values(store, names) == dict(zip(names, (saved, recorded, SMALL), strict=True))
        assert (await store.find_reusable([result.key]))[result.key].output == output
        for each in (saved, recorded, SMALL):
            assert await whole_of(store, digest(each)) == each
        kept = (await keys_at(place, await folder_of(store))).values()
        assert {saved, recorded} <= set(kept) <= {saved, recorded, output}
        assert await store.find_damage() == []
        # What is there is not stored again.
        await append(store, batch_of(await store.find_run("r"), b"2", values={digest(saved): saved}))
        assert len(await keys_at(place, await folder_of(store))) == len(kept)

    with_store(make_kept, law)


def test_files_of_any_size_pass_a_part_at_a_time(make_kept, place, tmp_path):
    """As pieces and as a file; bytes that change in between leave nothing, and are told."""

    async def law(store):
        path = tmp_path / "file"
        for data in (b"", SMALL, LARGE, WHOLE[:70_000]):
            path.write_bytes(data)
            with path.open("rb") as file:
                assert await keep_file(store, file, lambda: 1.0) == (digest(data), len(data))
            assert await keep_pieces(store, pieces_of(data[:3], data[3:]), lambda: 1.0) == (
                digest(data),
                len(data),
            )
            assert await whole_of(store, digest(data)) == data
        assert len(await keys_at(place, await folder_of(store))) == 2
        with pytest.raises(StoreError, match="was changed while it was stored"):
            await store.add_pieces(digest(b"other"), 5, pieces_of(WHOLE), 1.0)
        assert await whole_of(store, digest(b"other")) is None
        assert len(await keys_at(place, await folder_of(store))) == 2

    with_store(make_kept, law)


def test_what_nothing_names_is_removed_with_its_object(make_kept, place):
    """Also what stands only in the text of another object stays; an object without a row goes once it is old."""

    async def law(store):
        inner, outer = b"inner " * 40, b""
        outer = b'{"pad":"' + b"p" * 200 + b'","digest":"' + digest(inner).encode() + b'"}'
        row = await claimed(store)
        named = b'{"$value":"' + digest(outer).encode() + b'"}'
        await append(store, batch_of(row, named, values={digest(outer): outer, digest(inner): inner}))
        await store.add_value(digest(LARGE), LARGE, 5.0)
        folder = await folder_of(store)
        await asyncio.to_thread(place.put, f"{folder}/orphan", b"x")
        assert (await store.prune_values(saved_before=4.0)).values == 0
        pruned = await store.prune_values(saved_before=6.0)
        assert (pruned.values, pruned.bytes) == (1, len(LARGE))
        assert {inner, outer, b"x"} == set((await keys_at(place, folder)).values())
        later = [each.written async for each in place.list(folder)]
        assert (await store.prune_values(saved_before=max(later) + 1)).values == 1
        assert {inner, outer} == set((await keys_at(place, folder)).values())
        removed = await store.delete_run("r", ["running"])
        assert removed.named == {digest(inner), digest(outer)}
        assert (await store.prune_values(saved_before=6.0, among=removed.named)).values == 2
        assert await keys_at(place, folder) == {}
        assert await whole_of(store, digest(outer)) is None

    with_store(make_kept, law)


def test_an_object_that_is_gone_or_was_changed_is_noticed(make_kept, place):
    """Whoever reads it is told, and so is whoever checks the store."""

    async def law(store):
        await store.add_value(digest(LARGE), LARGE, 1.0)
        ((key, _),) = (await keys_at(place, await folder_of(store))).items()
        await asyncio.to_thread(place.put, key, LARGE[:-1] + b"x")
        with pytest.raises(StoreError, match="bytes have another digest"):
            await read_values(store, [digest(LARGE)])
        with pytest.raises(DamagedValue):
            await whole_of(store, digest(LARGE))
        assert len(await store.find_damage()) == 1
        await place.remove([key])
        with pytest.raises(StoreError, match="there is no object"):
            await read_values(store, [digest(LARGE)])
        (told,) = await store.find_damage()
        assert told == f"the value {digest(LARGE)} is gone: there is no object {key} at {place.name}"

    with_store(make_kept, law)


def test_a_backup_is_complete_by_itself(make_kept, place, tmp_path):
    """It has the bytes of all objects, and knows of no place, so that its own collection removes nothing there."""

    async def law(store):
        data = WHOLE[:70_000]
        await store.add_value(digest(LARGE), LARGE, 1.0)
        await keep_pieces(store, pieces_of(data), lambda: 1.0)
        folder = await folder_of(store)
        await store.copy_to(tmp_path / "copy.db")
        copy = SqliteStore(tmp_path / "copy.db")
        await copy.open()
        assert [await whole_of(copy, digest(each)) for each in (LARGE, data)] == [LARGE, data]
        assert await copy.find_damage() == []
        assert (await copy.prune_values(saved_before=2.0)).values > 1
        await copy.close()
        assert len(await keys_at(place, folder)) == 2

    with_store(make_kept, law)


# --- the server's faults


@pytest.fixture
def at_server(server, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def told_by(where):
    """Return what is told of a place that cannot be used."""

    async def main():
        with pytest.raises(StoreError) as told:
            await Objects.at(where).check()
        return told.value.message

    return asyncio.run(main())


def test_what_is_wrong_with_a_bucket_is_told(at_server, monkeypatch):
    """No bucket, a wrong key, no server: each with what to do, and without a secret."""
    assert "there is no such bucket: make it" in told_by("s3://missing/p")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")
    message = told_by("s3://bucket/p")
    assert "look at AWS_ACCESS_KEY_ID" in message
    assert SECRET not in message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("firmplan.executor.stores.objects.TRIES_MAX", 0)
    assert "nothing answers there: look at AWS_ENDPOINT_URL" in told_by("s3://bucket/p")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", at_server.environment["AWS_ENDPOINT_URL"])
    assert "no credentials: set AWS_ACCESS_KEY_ID" in told_by("s3://bucket/p")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("gs://bucket", "expected s3://bucket/prefix or a folder, found 'gs://bucket'"),
        ("s3://", "expected s3://bucket/prefix, found 's3:'"),
        ("s3://Bucket/p", "a bucket has 3 to 63 small letters"),
        ("", "found nothing"),
    ],
)
def test_what_is_no_place_is_told(wrong, told):
    """When the setting is read."""
    with pytest.raises(ConfigError, match=told):
        Objects.at(wrong)


def test_a_commit_that_cannot_put_its_object_is_refused_alone(at_server, tmp_path, monkeypatch):
    """The others of its group stand, nothing of it is visible, and an upload that is tried again is one object."""

    async def law(store):
        store.objects.target, store.objects.bytes_min = Objects.at(f"s3://bucket/{tmp_path.name}"), 100
        rows = [await claimed(store, name) for name in "ab"]
        at_server.fails["PUT"] = 1
        await append(store, batch_of(rows[0], b"1", values={digest(LARGE): LARGE}))
        assert await whole_of(store, digest(LARGE)) == LARGE
        at_server.fails["PUT"] = 10**6
        other = LARGE * 2
        batches = [
            batch_of(await store.find_run("a"), b"2", values={digest(other): other}),
            batch_of(rows[1], b"1"),
        ]
        faults = await asyncio.to_thread(store.append, batches)
        at_server.fails.clear()
        assert "cannot be reached" in faults[0].message
        assert faults[1] is None
        assert await store.read_journal("a") == [b"1"]
        assert await whole_of(store, digest(other)) is None

    monkeypatch.setattr("firmplan.executor.stores.objects.TRIES_MAX", 1)
    with_store(lambda: SqliteStore(tmp_path / "s.db"), law)


def test_stores_with_one_place_leave_each_other_alone(at_server, tmp_path):
    """Each has a folder of its own there; a collection in one removes nothing of the other."""

    async def main():
        place = f"s3://bucket/{tmp_path.name}"
        stores = [SqliteStore(tmp_path / name) for name in ("a.db", "b.db")]
        for store in stores:
            store.objects.target, store.objects.bytes_min = Objects.at(place), 100
            await store.open()
            await store.add_value(digest(LARGE), LARGE, 1.0)
        assert (await stores[0].prune_values(saved_before=1e12)).values == 1
        assert await whole_of(stores[1], digest(LARGE)) == LARGE
        for store in stores:
            await store.close()
        # An engine that names no place reads what is there.
        plain = SqliteStore(tmp_path / "b.db")
        await plain.open()
        assert await whole_of(plain, digest(LARGE)) == LARGE
        await plain.close()

    asyncio.run(main())
