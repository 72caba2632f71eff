"""Bytes by digest: made in one step, read in another, in any process, after a restart, and by whoever has the run."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from firmplan import Engine, InputRejected, StoreError, ToolError
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
    with sqlite3.connect(store) as db:
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
        with sqlite3.connect(tmp_path / "s.db") as db:
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
        with sqlite3.connect(tmp_path / "s.db") as db:
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
