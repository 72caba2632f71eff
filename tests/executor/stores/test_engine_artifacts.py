"""`Engine(artifacts=..)`: artifacts and large values of runs in a bucket; everything that reads them works as without."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from firmplan import Artifact, ConfigError, Context, Engine, StoreError, tool
from s3_server import SECRET, S3Server

SIZE = 18 * 1024 * 1024  # three chunks of an upload, five parts of a download


@pytest.fixture
def bucket(monkeypatch):
    with S3Server("bucket") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@tool(effect="pure")
def make(size: int, *, ctx: Context) -> Artifact:
    """Save a large file."""
    path = Path(ctx.env("FOLDER")) / "made"
    path.write_bytes(os.urandom(1024) * (size // 1024))
    return ctx.save_file(path, name="made.bin")


@tool(effect="pure")
def measure(of: Artifact, *, ctx: Context) -> int:
    """Read it."""
    with ctx.open_file(of) as file:
        return len(file.read())


@tool(effect="pure")
def text(size: int) -> str:
    """Return a large text."""
    return "x" * size


PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "made", "tool": "make", "args": {"size": SIZE}},
        {"id": "bytes", "tool": "measure", "args": {"of": "${made}"}},
        {"id": "long", "tool": "text", "args": {"size": 3_000_000}},
    ],
    "output": "${[made, bytes, len(long)]}",
}


def test_runs_keep_their_large_values_in_a_bucket(bucket, tmp_path, monkeypatch):
    """The database stays small; a second run reuses, and replay, bundle, download, check, backup and prune know where the bytes are."""
    monkeypatch.setenv("FOLDER", str(tmp_path))
    store = tmp_path / "s.db"

    async def main():
        async with Engine([make, measure, text], store=store, artifacts="s3://bucket/team") as engine:
            run = await engine.run(PLAN)
            made, size, length = run.output
            assert (size, length) == (SIZE, 3_000_000)
            assert bucket.requests["POST begin"] == bucket.requests["POST upload"] == 1
            assert bucket.uploads == {}
            assert all(key.startswith("team/") for key in bucket.objects["bucket"])
            assert {len(data) for data, _ in bucket.objects["bucket"].values()} == {SIZE, 3_000_002}
            count = len(bucket.objects["bucket"])
            again = await engine.run(PLAN)
            assert again.digest == run.digest
            assert all(step.reused for step in again.steps.values())
            assert len(bucket.objects["bucket"]) == count
        assert store.stat().st_size < 1_000_000
        # An engine without the setting reads what is there.
        async with Engine([], store=store) as engine:
            artifact = Artifact(**made)
            path = await engine.download_artifact(artifact, tmp_path / "got")
            assert path.read_bytes() == (tmp_path / "made").read_bytes()
            assert len([piece async for piece in engine.stream_artifact(artifact)]) > 2
            assert (await engine.replay(run.id)).digest == run.digest
            bundle = await engine.export(run.id, tmp_path / "run.bundle")
            assert (await engine.replay(bundle)).digest == run.digest
            assert (await engine.check_store()).ok
            copy = await engine.backup_store(tmp_path / "copy.db")
        server_objects = dict(bucket.objects["bucket"])
        bucket.objects["bucket"].clear()
        async with Engine([], store=copy) as engine:
            assert (await engine.check_store()).ok
            assert (await engine.download_artifact(artifact, tmp_path / "again")).stat().st_size == SIZE
            assert (await engine.replay(run.id)).digest == run.digest
        async with Engine([], store=store) as engine:
            report = await engine.check_store()
            assert "is gone: there is no object" in str(report)
            with pytest.raises(StoreError, match="there is no object"):
                await engine.download_artifact(artifact, tmp_path / "none")
            assert not (tmp_path / "none").exists()
            bucket.objects["bucket"].update(server_objects)
            assert (await engine.check_store()).ok
            # Runs and results name them; then nothing does.
            for each in (run, again):
                await engine.delete(each.id)
            assert set(bucket.objects["bucket"]) == set(server_objects)
            await engine.shrink_cache(max_bytes=0)
            monkeypatch.setattr("firmplan.executor.runs.store_care.SAVED_S", -60.0)
            assert (await engine.prune_artifacts()).bytes >= SIZE
            assert bucket.objects["bucket"] == {}

    asyncio.run(main())


def test_a_place_that_cannot_be_used_is_told_when_the_engine_opens(bucket, tmp_path):
    """Before any run; a setting that is none when the engine is made."""

    async def main():
        with pytest.raises(StoreError, match="there is no such bucket: make it") as told:
            async with Engine([], store=tmp_path / "s.db", artifacts="s3://missing/p"):
                pass
        assert SECRET not in told.value.message

    asyncio.run(main())
    for wrong, said in (
        ("gs://b", "expected s3://bucket/prefix or a folder"),
        (3, "found 3"),
        ("", "found nothing"),
    ):
        with pytest.raises(ConfigError, match=said):
            Engine([], store=tmp_path / "s.db", artifacts=wrong)
