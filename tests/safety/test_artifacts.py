"""Bytes by digest: made in one step, read in another, in any process, after a restart, and by whoever has the run."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from firmplan import Engine, InputRejected, StoreError, ToolError
from firmplan.executor.stores.garbage import find_unused, remove_unused
from firmplan.executor.stores.sqlite_store import SqliteSql
from firmplan.tools import Artifact, Context, Toolset, tool

CHILD_TOOLS = list(Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py"))


@tool(effect="read", version=1)
def write_text(text: str, *, ctx: Context) -> Artifact:
    """Keep a text."""
    return ctx.save(text.encode(), name="text.txt")


@tool(effect="read", version=1)
def read_text(file: Artifact, *, ctx: Context) -> str:
    """Read a text."""
    return ctx.open(file).decode()


@tool(effect="write", approval="always", version=1, resource="box")
def send(files: list[Artifact], *, ctx: Context) -> int:
    """Use bytes after a person said so."""
    return sum(len(ctx.open(file)) for file in files)


@tool(effect="read", version=1)
def fail_after_saving(*, ctx: Context) -> Artifact:
    """Save, and fail."""
    ctx.save(b"never kept")
    raise ToolError("no")


TOOLS = [write_text, read_text, send, fail_after_saving, *CHILD_TOOLS]

PASSED_ON = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "write_text", "args": {"text": "hello"}},
        {"id": "b", "tool": "read_text", "args": {"file": "${a}"}},
    ],
    "output": {"file": "${a}", "text": "${b}"},
}
WAITS = {
    "firmplan": 1,
    "steps": [
        {"id": "a", "tool": "write_text", "args": {"text": "hello"}},
        {"id": "big", "tool": "make_bytes", "args": {"size": 100_000}},
        {"id": "n", "tool": "send", "args": {"files": ["${a}", "${big}"]}},
    ],
    "output": "${n}",
}


def rows(store):
    """Return what the store keeps as bytes, by digest."""
    with closing(sqlite3.connect(store)) as db, db:
        return dict(db.execute("SELECT digest, data FROM stored_values").fetchall())


def test_bytes_pass_between_steps_and_to_the_caller(tmp_path):
    """`engine.read_artifact` takes what the output holds."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(PASSED_ON)
        assert run.output["text"] == "hello"
        file = run.output["file"]
        assert (file["media_type"], file["size"], file["name"]) == ("text/plain", 5, "text.txt")
        assert engine.read_artifact_sync(file) == b"hello"
        assert engine.read_artifact_sync(Artifact(**file)) == b"hello"


def test_bytes_outlive_the_process(tmp_path):
    """A run that waited for a person goes on in another engine, with the bytes of before."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(WAITS)
        assert run.status == "waiting"
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        engine.approve_sync(run.id, "n", by="me")
        assert engine.resume_sync(run.id).output == 100_005


def test_a_replay_reads_no_bytes(tmp_path):
    """Only digests flow: it holds when the bytes are gone, and they are missed only where they are read."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(PASSED_ON)
        with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
            db.execute("DELETE FROM stored_values")
        assert engine.replay_sync(run.id).digest == run.digest
        with pytest.raises(InputRejected, match="not in the store"):
            engine.read_artifact_sync(run.output["file"])
        forked = engine.fork_sync(run.id, at="b")
        assert forked.errors[0].code == "no-artifact"


def test_equal_bytes_are_kept_once(tmp_path):
    """Over steps, runs and saved inputs."""
    steps = [{"id": f"s{n}", "tool": "make_bytes", "args": {"size": 5000}} for n in range(4)]
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        for _ in range(3):
            run = engine.run_sync({"firmplan": 1, "steps": steps, "output": "${s0}"}, reuse="off")
        data = engine.read_artifact_sync(run.output)
        assert engine.save_artifact_sync(data).digest == run.output["digest"]
    assert list(rows(tmp_path / "s.db").values()) == [data]


def test_a_failed_call_keeps_nothing(tmp_path):
    """Bytes become durable with the result, or not at all."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "fail_after_saving"}]}
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        assert engine.run_sync(plan).status == "failed"
    assert rows(tmp_path / "s.db") == {}


def test_changed_bytes_are_noticed(tmp_path):
    """By the caller and by a tool."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(PASSED_ON)
        with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
            db.execute("UPDATE stored_values SET data=x'00'")
        with pytest.raises(StoreError, match="changed"):
            engine.read_artifact_sync(run.output["file"])
        assert engine.fork_sync(run.id, at="b").errors[0].code == "no-artifact"


def test_a_file_is_an_input(tmp_path):
    """`save_artifact` takes bytes or a path; a run takes the artifact."""
    path = tmp_path / "letter.txt"
    path.write_text("dear")
    plan = {
        "firmplan": 1,
        "inputs": {"file": Artifact.model_json_schema()},
        "steps": [{"id": "b", "tool": "read_text", "args": {"file": "${inputs.file}"}}],
        "output": "${b}",
    }
    with Engine(TOOLS, store="memory:") as engine:
        artifact = engine.save_artifact_sync(path)
        assert (artifact.name, artifact.media_type) == ("letter.txt", "text/plain")
        assert engine.run_sync(plan, inputs={"file": artifact.model_dump()}).output == "dear"
        with pytest.raises(InputRejected, match="letter2"):
            engine.save_artifact_sync(tmp_path / "letter2.txt")
        with pytest.raises(InputRejected, match="digest"):
            engine.read_artifact_sync({"size": 3})


def test_megabytes_pass_through_everything(tmp_path):
    """40 MiB, made in a child, doubled in another, read here."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "a", "tool": "make_zeros", "args": {"size": 40 * 1024 * 1024}},
            {"id": "b", "tool": "twice", "args": {"file": "${a}"}},
        ],
        "output": "${b}",
    }

    async def main():
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            run = await engine.run(plan)
            return len(await engine.read_artifact(run.output))

    assert asyncio.run(main()) == 80 * 1024 * 1024


@tool(effect="read", version=1)
def save_two(text: str, *, ctx: Context) -> Artifact:
    """Save two, and return the second."""
    ctx.save(f"draft of {text}".encode())
    return ctx.save(text.encode())


def test_bytes_that_nothing_refers_to_are_removed(tmp_path):
    """What runs, forks, saved inputs and waiting calls name stays; a run replays and travels as before."""
    store = tmp_path / "s.db"
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "save_two", "args": {"text": "letter"}}],
        "output": "${a}",
    }
    with Engine([*TOOLS, save_two], store=store) as engine:
        run = engine.run_sync(plan)
        waiting = engine.run_sync(WAITS)
        saved = engine.save_artifact_sync(b"for later")
        large = engine.run_sync(
            {"firmplan": 1, "steps": [{"id": "x", "set": "${'y' * 50000}"}], "output": "${x}"}
        )
        before = rows(store)
        pruned = engine.prune_artifacts_sync()
        assert (pruned.values, pruned.bytes) == (1, len("draft of letter"))
        assert set(before.values()) - set(rows(store).values()) == {b"draft of letter"}
        assert engine.read_artifact_sync(run.output) == b"letter"
        assert engine.read_artifact_sync(saved) == b"for later"
        engine.export_sync(run.id, tmp_path / "run.bundle")
        assert engine.replay_sync(tmp_path / "run.bundle").digest == run.digest
        assert engine.replay_sync(large.id).digest == large.digest
        engine.approve_sync(waiting.id, "n", by="me")
        assert engine.resume_sync(waiting.id).output == 100_005


def test_a_changed_folder_does_not_mislead_the_removal(tmp_path, monkeypatch):
    """A store by a relative name is the file that was opened, wherever a tool has gone since."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Engine([save_two], store="s.db") as engine:
        engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "tool": "save_two", "args": {"text": "x"}}]})
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert engine.prune_artifacts_sync().values == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_bytes_that_come_into_use_while_others_are_looked_for_stay(tmp_path):
    """Found unused, then written and named again before they are removed: by a run, and by a caller."""
    store = tmp_path / "s.db"
    with Engine([*TOOLS, save_two], store=store) as engine:
        for text in ("one", "two", "three"):
            engine.run_sync(
                {
                    "firmplan": 1,
                    "steps": [{"id": "a", "tool": "save_two", "args": {"text": text}}],
                    "output": "${a}",
                }
            )
        with closing(sqlite3.connect(store, isolation_level=None)) as db:
            unused = find_unused(SqliteSql(db), 0.0)
            assert len(unused.digests) == 3
            run = engine.run_sync(
                {
                    "firmplan": 1,
                    "steps": [{"id": "a", "tool": "write_text", "args": {"text": "draft of one"}}],
                    "output": "${a}",
                }
            )
            saved = engine.save_artifact_sync(b"draft of two")
            assert remove_unused(SqliteSql(db), unused)[0].values == 1
        assert engine.read_artifact_sync(run.output) == b"draft of one"
        assert engine.read_artifact_sync(saved) == b"draft of two"


def test_removing_beside_engines_that_write_loses_nothing(tmp_path):
    """While runs make, drop and make again the same few bytes, others remove what is unused, over and over."""
    store = tmp_path / "s.db"

    async def main():
        async with Engine([*TOOLS, save_two], store=store) as engine, Engine([], store=store) as other:
            removed, is_done = 0, False

            async def remove():
                nonlocal removed
                while not is_done:
                    removed += (await other.prune_artifacts()).values

            removing = asyncio.create_task(remove())
            for n in range(60):
                name, text = ("write_text", f"draft of {n // 2}") if n % 2 else ("save_two", str(n // 2))
                step = {"id": "a", "tool": name, "args": {"text": text}}
                read = {"id": "b", "tool": "read_text", "args": {"file": "${a}"}}
                plan = {"firmplan": 1, "steps": [step, read]}
                run = await engine.run({**plan, "output": "${a}"}, reuse="off")
                assert run.status == "succeeded", run.errors
                assert await engine.read_artifact(run.output) == text.encode()
            is_done = True
            await removing
            return removed

    assert asyncio.run(main()) > 0


@pytest.mark.parametrize("data", [5, "text", None, ["a"]], ids=repr)
def test_only_bytes_are_kept(data):
    """A number is no size of an artifact, and text has to be encoded: the step fails and says so."""

    @tool(effect="read", version=1)
    def save(*, ctx: Context) -> Artifact:
        """Keep something."""
        return ctx.save(data)

    with Engine([save], store="memory:") as engine:
        run = engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "tool": "save"}]})
    (error,) = run.errors
    assert (error.code, "expected bytes, found" in error.message) == ("tool-error", True)
