"""kill -9 at every instant between an upload to a bucket or a folder and the record that names it; `make sweep` tries all of them, the tests some."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from firmplan import Engine, RunNotFound
from forked import is_killed, start
from object_child import PLAN, World, run_child, tools_of
from s3_server import S3Server
from seeds import seeds

TICKS_MIN, TICKS_MAX = 20, 60
"""How many instants the run has: fewer where the machine is quick, since more records share a commit. What is past the last one does not kill."""
IN_A_FILE = 15  # while a file is being written
PLACES = ("bucket", "folder")


@pytest.fixture(scope="module")
def bucket():
    """The server of all cases, which have a prefix each."""
    with S3Server("bucket") as server:
        yield server


class Place:
    """Where the objects of one case are.

    Attributes:
        url: As `Engine(artifacts=..)` takes it.
        environment: The variables that lead there.
    """

    def __init__(self, kind, bucket, folder):
        self.url = f"s3://bucket/{folder.name}" if kind == "bucket" else str(folder / "objects")
        self.environment = bucket.environment if kind == "bucket" else {}
        self._bucket = bucket
        self._prefix = f"{folder.name}/"

    def objects(self):
        """Return the bytes of all objects, by key; of a folder, of all files that are there."""
        if self.environment:
            found = self._bucket.objects["bucket"].items()
            return {
                key.removeprefix(self._prefix): data
                for key, (data, _) in found
                if key.startswith(self._prefix)
            }
        root = Path(self.url)
        return {str(each.relative_to(root)): each.read_bytes() for each in root.rglob("*") if each.is_file()}


@pytest.fixture
def place(request, bucket, tmp_path, monkeypatch):
    """A new place of a kind."""
    made = Place(request.param, bucket, tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def kill(folder, place, kill_at):
    """Run the plan in a process that dies; return whether it did."""
    args = (str(folder / "s.db"), place.url, str(folder / "effects"), kill_at, place.environment)
    return is_killed(start(run_child, *args))


async def go_on(folder, place):
    """Finish the run here, look at the store, and collect; return the run, and the objects that the store names then."""
    world = World(folder / "effects")
    async with Engine(tools_of(world), store=folder / "s.db", artifacts=place.url) as engine:
        try:
            run = await engine.resume("run")
        except RunNotFound:
            run = await engine.run(PLAN, run_id="run")
        report = await engine.check_store()
        assert report.ok, str(report)  # it reads every object that a record names
        await engine.prune_artifacts()
        rows = await engine._opened.execution._store.objects.rows()
        assert (await engine.replay("run")).digest == run.digest
        return run, {row.key: row.digest for row in rows}


@pytest.mark.sweep
@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("kill_at", sorted({0, IN_A_FILE, *seeds(TICKS_MAX, sampled=2)}))
def test_a_process_killed_around_an_upload_leaves_no_name_without_its_value(
    tmp_path, place, kill_at, monkeypatch
):
    """The run goes on to the same end; what a record names is there, once; and a collection removes the rest, a file that was being written included."""
    is_dead = kill(tmp_path, place, kill_at)
    assert is_dead or kill_at == 0 or kill_at > TICKS_MIN
    world = World(tmp_path / "effects")
    if kill_at == 0:
        ticks = int(world.lived.read_text())
        assert TICKS_MIN < ticks < TICKS_MAX, f"the sweep tries every instant that the run has: {ticks}"
    # As if a day had passed since the process died.
    monkeypatch.setattr("firmplan.executor.runs.store_care.SAVED_S", -60.0)
    run, named = asyncio.run(go_on(tmp_path, place))
    assert run.status == "succeeded"
    one, two, sent, count = run.output
    assert (one["digest"], count) == (two["digest"], 3)
    assert {(int(size), int(length)) for _, _, _, size, length in world.lines()} == {
        (one["size"], sent - one["size"])
    }
    assert len({key for _, key in world.effects("send")}) == 1
    assert set(Counter(named.values()).values()) == {1}, "no value is there twice"
    found = place.objects()
    assert set(found) == set(named), "what nothing names is gone"
    for key, digest in named.items():
        assert f"sha256:{hashlib.sha256(found[key]).hexdigest()}" == digest
