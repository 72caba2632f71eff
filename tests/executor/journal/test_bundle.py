"""Bundles: one file that replays anywhere, and in which no byte can be changed unseen."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import replace

import fickle_tools
import pytest
from firmplan import Engine, InputRejected, RunNotFound, tool
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.journal import bundle
from firmplan.executor.journal.bundle import read_bundle, write_bundle
from firmplan.executor.journal.records import GENESIS, chain
from firmplan.plans.values import digest
from firmplan.testing import ScriptedTool
from public import call, plan, within

LARGE = plan(
    call("one", "add", args={"a": 1, "b": "${inputs.n}"}),
    {"id": "long", "set": "${'é' * 20000}"},
    call("said", "echo", args={"text": "${long}"}),
    call("two", "add", args={"a": "${one}", "b": "${len(said)}"}),
    output="${two}",
    inputs={"n": {"type": "integer"}},
)
SECRET = "s3cr3t-value-that-nobody-may-read"


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="pure")
def echo(text: str) -> str:
    """Say again."""
    return text


async def exported(path, tools, what, *, store="memory:", **options):
    async with Engine(tools, store=store) as engine:
        run = await engine.run(what, **options)
        return run, await engine.export(run.id, path)


def test_a_bundle_replays_without_tools_and_store(tmp_path, monkeypatch):
    """On a machine that has neither the tools nor the store it replays to the same digest, and leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "elsewhere" / "run.bundle"
    path.parent.mkdir()
    run, written = within(exported(path, [add, echo], LARGE, inputs={"n": 2}))
    assert written == path

    async def main():
        return await Engine([]).replay(path), await Engine([]).replay(str(path))

    again, by_name = within(main())
    assert (again.digest, again.output, dict(again.steps)) == (run.digest, run.output, dict(run.steps))
    assert by_name == again
    assert list(tmp_path.iterdir()) == [path.parent]


def test_the_same_run_gives_the_same_bytes(tmp_path):
    """A bundle says nothing of when or where it was exported."""

    async def main():
        async with Engine([add, echo], store="memory:") as engine:
            run = await engine.run(LARGE, inputs={"n": 2})
            one = await engine.export(run.id, tmp_path / "a")
            other = await engine.export(run.id, tmp_path / "b")
            return one.read_bytes(), other.read_bytes()

    one, other = within(main())
    assert one == other


def test_every_flipped_byte_is_found(tmp_path):
    """Whatever bit of whatever byte is flipped, the bundle is refused."""
    small = plan(call("one", "add", args={"a": 1, "b": 2}), output="${one}")
    _, path = within(exported(tmp_path / "r", [add], small))
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            data[at] ^= bit
            with pytest.raises(InputRejected):
                read_bundle(bytes(data), "r")
            data[at] ^= bit
    read_bundle(bytes(data), "r")


def test_the_refusal_names_the_place(tmp_path):
    """A changed result, header or line is told by its line and record."""
    _, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))
    lines = path.read_bytes().split(b"\n")
    changed = [
        (1, lines[1].replace(b'"n":2', b'"n":3'), r"line 2 \(header\)"),
        (2, lines[2].replace("é".encode(), b"ee", 1), r"line 3 \(value\)"),
        (5, lines[5].replace(b"succeeded", b"failed", 1) + b" ", "line 6 is not as it was written"),
    ]
    for at, line, told in changed:
        assert line != lines[at]
        with pytest.raises(InputRejected, match=told):
            read_bundle(b"\n".join([*lines[:at], line, *lines[at + 1 :]]), "r")
    record = next(at for at, line in enumerate(lines) if b'"$json":3' in line)
    told = rf"line {record + 1} \(journal record \d+\) does not match its checksum"
    with pytest.raises(InputRejected, match=told):
        read_bundle(
            b"\n".join(
                [*lines[:record], lines[record].replace(b'"$json":3', b'"$json":4'), *lines[record + 1 :]]
            ),
            "r",
        )


@pytest.mark.parametrize("lost", [0, 1, 2, 3, 5, -2, -3])
def test_lost_doubled_and_swapped_lines_are_found(tmp_path, lost):
    """Whole lines cannot be taken out, repeated or moved either."""
    _, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))
    lines = path.read_bytes().split(b"\n")
    at = lost % len(lines)
    without = lines[:at] + lines[at + 1 :]
    doubled = lines[: at + 1] + lines[at:]
    swapped = list(lines)
    swapped[at], swapped[at - 1] = swapped[at - 1], swapped[at]
    for other in (without, doubled, swapped, lines[:-1], lines[: len(lines) // 2], [*lines, b""]):
        with pytest.raises(InputRejected):
            read_bundle(b"\n".join(other), "r")


def test_secrets_stand_as_their_names(tmp_path):
    """A secret handed to a tool, and one that a tool reads, are not in the bundle."""
    login = ScriptedTool("login", lambda key: f"{key[:0]}in", effect="read")
    steps = plan(call("in", "login", args={"key": "${secret('KEY')}"}) | {"id": "entry"})

    async def main():
        async with Engine([login], store="memory:", secrets={"KEY": SECRET}) as engine:
            run = await engine.run(steps)
            assert run.status == "succeeded"
            return await engine.export(run.id, tmp_path / "r")

    data = within(main()).read_bytes()
    assert SECRET.encode() not in data
    assert b"KEY" in data


@pytest.mark.parametrize("status", ["waiting", "failed", "cancelled"])
def test_runs_that_did_not_succeed_travel_too(tmp_path, status):
    """A run that waits, failed or was cancelled replays from a bundle to the same snapshot."""
    sending = ScriptedTool("send", lambda to: to, effect="write", approval="always")
    breaking = ScriptedTool("break", lambda: 1 // 0, effect="pure")
    step = call("x", "break") if status == "failed" else call("x", "send", args={"to": "me"})

    async def main():
        async with Engine([sending, breaking], store="memory:") as engine:
            run = await engine.run(plan(step))
            if status == "cancelled":
                run = await engine.cancel(run.id)
            path = await engine.export(run.id, tmp_path / "r")
        return run, await Engine([]).replay(path)

    run, again = within(main())
    assert run.status == status
    assert again == run


def test_a_fork_travels_without_its_parent(tmp_path):
    """What a fork has of its parent stands in its own journal."""

    async def main():
        async with Engine([add, echo], store="memory:") as engine:
            first = await engine.run(LARGE, inputs={"n": 2})
            fork = await engine.fork(first.id, at="two")
            path = await engine.export(fork.id, tmp_path / "r")
        return fork, await Engine([]).replay(path)

    fork, again = within(main())
    assert (again.digest, again.parent) == (fork.digest, fork.parent)


def test_a_kept_replay_of_a_bundle_is_a_run_of_the_store(tmp_path):
    """It has the bundle's run as its parent, and replays from the store as well; large values are kept."""
    run, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))

    async def main():
        async with Engine([], store=tmp_path / "other.db") as engine:
            kept = await engine.replay(path, keep=True)
            return kept, await engine.replay(kept.id), await engine.get(kept.id)

    kept, again, got = within(main())
    assert kept.id != run.id
    assert {each.digest for each in (kept, again, got)} == {run.digest}
    assert {each.parent for each in (kept, again, got)} == {run.id}
    assert kept.steps["said"].output == run.steps["said"].output


def test_artifacts_travel_with_their_bytes(tmp_path):
    """The bytes that a run made are in its bundle, and in the store that keeps the replay."""
    steps = plan(
        call("s", "saved", args={"text": "line one\nline two \x00"}),
        call("o", "opened", args={"what": "${s}"}),
        output="${s}",
    )
    run, path = within(exported(tmp_path / "r", [fickle_tools.saved, fickle_tools.opened], steps))

    async def main():
        async with Engine([], store="memory:") as engine:
            kept = await engine.replay(path, keep=True)
            assert kept.digest == run.digest
            return await engine.read_artifact(kept.output)

    assert within(main()) == b"line one\nline two \x00"


def test_what_is_no_bundle_is_refused_in_a_sentence(tmp_path):
    """A missing file, a folder, another file, a newer format, an unknown run: each has its message."""
    other = tmp_path / "plan.json"
    other.write_text("{}")

    async def replayed(what):
        async with Engine([], store="memory:") as engine:
            return await engine.replay(what)

    for what, error, told in (
        (tmp_path / "none", InputRejected, "there is no bundle"),
        (str(tmp_path), InputRejected, "there is no bundle"),
        (other, InputRejected, "expected a bundle of firmplan"),
        ("nope", RunNotFound, "there is no run 'nope'"),
        ("x" * 5000, RunNotFound, "there is no run"),
    ):
        with pytest.raises(error, match=told):
            within(replayed(what))


def test_a_bundle_of_a_newer_format_says_so(tmp_path):
    """Checksums right, format unknown: the message is to upgrade, not that it was damaged."""
    data = bundle._line("bundle", b'{"firmplan_bundle":2}')
    with pytest.raises(InputRejected, match="a bundle of format 2; this firmplan reads 1: upgrade firmplan"):
        read_bundle(data + bundle._end(1, data), "r")


def forged(parts):
    """Return a bundle of these parts, whose sums are all right."""
    body = b"".join(bundle._line(kind, data) for kind, data in parts)
    return body + bundle._end(len(parts), body)


@pytest.fixture
def parts(tmp_path):
    """Kind and data of the lines of a bundle, without the last."""
    _, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))
    found = list(bundle._checked_lines(path.read_bytes(), "r"))[:-1]
    assert forged(found) == path.read_bytes()
    return found


def test_a_journal_that_is_not_the_one_of_its_bundle_is_refused_although_all_sums_are_right(parts):
    """Its length, its head and the numbers of its records each have to fit."""
    about = json.loads(parts[0][1])
    lines = [data for kind, data in parts if kind == "journal"]
    others = [part for part in parts[1:] if part[0] != "journal"]

    def with_journal(lines, **changes):
        told = {**about, "records": len(lines), "head": chain(GENESIS, lines).hex(), **changes}
        first = ("bundle", json.dumps(told).encode())
        return forged([first, *others, *(("journal", line) for line in lines)])

    assert list(read_bundle(with_journal(lines), "r").lines) == lines
    renumbered = [line.replace(b'{"n":%d,' % n, b'{"n":%d,' % (n + 1), 1) for n, line in enumerate(lines, 1)]
    for wrong in (
        with_journal(lines, records=len(lines) + 1),
        with_journal(lines, records=len(lines) - 1),
        with_journal(lines[:-1], records=len(lines)),
        with_journal(lines, head=chain(GENESIS, lines[:-1]).hex()),
        with_journal([*lines, lines[-1]]),
        with_journal([*lines[:-2], lines[-1]]),
        with_journal([lines[1], lines[0], *lines[2:]]),
        with_journal(lines[1:]),
        with_journal(renumbered),
    ):
        with pytest.raises(InputRejected, match="its journal does not match its hash chain"):
            read_bundle(wrong, "r")


def test_lines_in_a_wrong_place_are_refused_although_all_sums_are_right(parts):
    """A bundle begins with what it is, has one header, and its kinds come in their order."""
    first, header, value, *journal = parts
    assert (first[0], header[0], value[0], journal[0][0]) == ("bundle", "header", "value", "journal")
    for wrong, line in (
        ([header, value, *journal], 1),
        ([value, *journal], 1),
        ([header, first, value, *journal], 1),
        ([first, first, header, value, *journal], 2),
        ([first, header, header, value, *journal], 3),
        ([first, value, header, *journal], 3),
        ([first, header, *journal, value], len(journal) + 3),
        ([first, header, value, ("decision", b"{}"), *journal], 5),
    ):
        with pytest.raises(InputRejected, match=rf"line {line} \(.*\) stands in a wrong place"):
            read_bundle(forged(wrong), "r")
    with pytest.raises(InputRejected, match="its first lines do not say what a bundle says"):
        read_bundle(forged([first, value, *journal]), "r")
    with pytest.raises(InputRejected, match=r"line 2 .* is of a kind that this firmplan does not know"):
        read_bundle(forged([first, ("strange", b"1"), header, value, *journal]), "r")


def test_a_bundle_is_read_back_as_it_was_written(parts):
    """With decisions that no record holds yet, and bytes of artifacts; a header of a newer format says so."""
    found = read_bundle(forged(parts), "r")
    made = replace(found, decisions=(b'{"a":1}', b'{"b":2}'), blobs={digest(b"\x00\n"): b"\x00\n"})
    again = read_bundle(write_bundle(made), "r")
    assert (list(again.decisions), again.blobs) == (list(made.decisions), made.blobs)
    assert (again.row, again.lines, again.values) == (found.row, found.lines, found.values)
    newer = replace(found, row=replace(found.row, header={**found.row.header, "format": 99}))
    with pytest.raises(StoreError, match="a run header of format 99"):
        _ = newer.header


@pytest.mark.parametrize("lost", ["plan", "lock", "fork"])
def test_a_forged_header_is_refused_in_a_sentence(tmp_path, lost):
    """Checksums right, content wrong: no traceback of our own making."""
    _, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))
    found = read_bundle(path.read_bytes(), "r")
    header = {name: value for name, value in found.row.header.items() if name != lost}
    path.write_bytes(write_bundle(replace(found, row=replace(found.row, header=header))))
    with pytest.raises(InputRejected, match="has no header of a run"):
        within(Engine([]).replay(path))
    path.write_bytes(write_bundle(replace(found, values={})))
    with pytest.raises(InputRejected, match="lacks the value"):
        within(Engine([]).replay(path))


def test_export_of_a_changed_journal_is_refused(tmp_path):
    """A store whose journal was changed is found out at export, not on the other machine."""
    import sqlite3

    store = tmp_path / "s.db"

    async def main(work):
        async with Engine([add, echo], store=store) as engine:
            return await work(engine)

    run = within(main(lambda engine: engine.run(LARGE, inputs={"n": 2})))
    with closing(sqlite3.connect(store)) as db, db:
        db.execute(
            "UPDATE journal SET lines = CAST(replace(CAST(lines AS TEXT), 'CallStarted', 'CallStartee') AS BLOB)"
        )
    with pytest.raises(StoreError, match="hash chain"):
        within(main(lambda engine: engine.export(run.id, tmp_path / "r")))
    assert not (tmp_path / "r").exists()


def test_the_sync_twin_exports_and_replays(tmp_path):
    """Programs without an event loop have both."""
    with Engine([add, echo], store="memory:") as engine:
        run = engine.run_sync(LARGE, inputs={"n": 1})
        assert engine.replay_sync(engine.export_sync(run.id, tmp_path / "r")).digest == run.digest


def test_a_folder_that_is_not_there_is_told(tmp_path):
    """The message names the file and the reason; nothing half-written is left."""
    with pytest.raises(InputRejected, match="cannot be written"):
        within(exported(tmp_path / "no" / "r", [add, echo], LARGE, inputs={"n": 2}))
    assert list(tmp_path.iterdir()) == []


def test_the_lines_are_json(tmp_path):
    """A bundle can be read with any JSON reader, and says which run it holds."""
    run, path = within(exported(tmp_path / "r", [add, echo], LARGE, inputs={"n": 2}))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["data"]["run"] == run.id
    assert [line["kind"] for line in lines] == sorted(
        (line["kind"] for line in lines),
        key=["bundle", "header", "value", "blob", "journal", "decision", "end"].index,
    )


def test_a_run_in_memory_is_exported_while_it_is_open(tmp_path):
    """A bundle of an unfinished run holds the durable prefix, which replays."""
    gate = asyncio.Event()

    async def held(n: int) -> int:
        await gate.wait()
        return n

    slow = ScriptedTool("slow", held, effect="pure", version="1")

    async def main():
        async with Engine([slow], store=SqliteStore(":memory:")) as engine:
            run = await engine.submit(plan(call("s", "slow", args={"n": 1}), output="${s}"))
            path = await engine.export(run.id, tmp_path / "r")
            early = await Engine([]).replay(path)
            gate.set()
            done = await engine.wait(run.id)
        return early, done

    early, done = within(main())
    assert early.status in ("queued", "running")
    assert done.status == "succeeded"
