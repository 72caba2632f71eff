"""Replay is strict and offline; the journal is a chain in which no byte changes unseen."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from typing import Any

import orjson
import pytest
from firmplan import Engine, tool
from firmplan.errors import Diverged, InputRejected, RunNotFound, StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.journal.records import chain
from firmplan.testing import ScriptedTool
from public import call, plan
from rig import Rig, plan_of, statuses

PLAN = plan_of(
    {"id": "base", "set": "${inputs.n + 1}"},
    {"id": "seen", "tool": "look", "for_each": "${[base, base + 1]}", "args": {"x": "${item}"}},
    {"id": "gone", "set": 1, "when": "${base > 100}"},
    {"id": "sent", "tool": "send", "args": {"text": "${seen}"}},
    {"id": "bad", "tool": "fail", "on_error": {"value": 0}},
    output="${sent}",
    inputs={"n": {"type": "integer"}},
)
LARGE = "x" * 40_000


def look(x: int) -> Any:
    return {"x": x, "text": LARGE}


def tools():
    return [
        ScriptedTool("look", look, effect="read", resource="box"),
        ScriptedTool("send", ["sent"], effect="write", resource="mail"),
        ScriptedTool("fail", [ValueError("no")], effect="read", resource="box"),
    ]


@pytest.fixture
def store(tmp_path):
    """The file of a store with one finished run, `r`."""
    path = str(tmp_path / "s.db")

    async def main():
        async with Rig(tools(), path) as rig:
            run = await rig.run(PLAN, "r", inputs={"n": 1})
            assert run.status == "succeeded", run.errors

    asyncio.run(main())
    return path


def in_store(path, law, *tools):
    async def main():
        async with Rig(tools, path) as rig:
            return await law(rig)

    return asyncio.run(main())


async def replayed(rig, run_id="r", *, keep=False):
    return await rig.execution.replays.replay(run_id, keep=keep)


def test_a_replay_equals_the_run_without_tools_and_without_network(store, monkeypatch):
    """Nothing is called: not even a socket can be made."""

    def refuse(*args, **kwargs):
        raise AssertionError("a replay opened a socket")

    original = in_store(store, lambda rig: rig.execution.archive.get("r"))

    async def law(rig):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        return await replayed(rig)

    again = in_store(store, law)
    assert again.digest == original.digest
    assert again.steps == original.steps
    assert again.output == original.output
    assert again.id == "r"


def test_a_replay_stores_nothing_unless_it_is_kept(store):
    """Kept, it is a run with a parent, and replays itself."""

    async def law(rig):
        await replayed(rig)
        assert len(await rig.store.list_runs(status=None, limit=9, before=None)) == 1
        kept = await replayed(rig, keep=True)
        original = await rig.execution.archive.get("r")
        assert (kept.parent, kept.digest, kept.steps) == ("r", original.digest, original.steps)
        assert kept.id != "r"
        again = await replayed(rig, kept.id, keep=True)
        assert (again.parent, again.digest) == (kept.id, original.digest)
        assert (await rig.resume(kept.id)).digest == original.digest

    in_store(store, law)


def test_a_replay_of_what_is_not_there_says_so(store):
    """RunNotFound names the run."""
    with pytest.raises(RunNotFound, match="'nope'"):
        in_store(store, lambda rig: replayed(rig, "nope"))


def test_an_unfinished_run_replays_as_far_as_it_went(store):
    """It is not called again, and stays unfinished."""
    plan = plan_of({"id": "p", "tool": "send", "args": {"text": 1}}, output="${p}")
    asking = ScriptedTool("send", ["x"], effect="write", approval="always")

    async def law(rig):
        await rig.run(plan, "w")
        run = await replayed(rig, "w")
        assert (run.status, statuses(run), asking.calls) == ("waiting", {"p": "waiting:approval"}, [])

    in_store(store, law, asking)


def change_header(path, change):
    with sqlite3.connect(path) as db:
        header = orjson.loads(db.execute("SELECT header FROM headers WHERE run_id='r'").fetchone()[0])
        change(header)
        db.execute("UPDATE headers SET header=? WHERE run_id='r'", (orjson.dumps(header),))
    db.close()


def change_journal(path, change, *, is_chained=True):
    """Change the journal's lines; `is_chained`: by someone who makes the chain fit again."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT lines FROM journal WHERE run_id='r' ORDER BY first_seq").fetchall()
        lines = [line for (joined,) in rows for line in joined.split(b"\n")]
        lines = change(lines) or lines
        head = chain(bytes(32), lines)
        db.execute("DELETE FROM journal WHERE run_id='r'")
        db.execute("INSERT INTO journal VALUES ('r', 1, ?, ?)", (b"\n".join(lines), head))
        if is_chained:
            db.execute("UPDATE runs SET head=?, last_seq=? WHERE id='r'", (head, len(lines)))
    db.close()


def diverged(path):
    with pytest.raises(Diverged) as raised:
        in_store(path, replayed)
    return raised.value


def test_changed_inputs_diverge_at_the_first_step_that_shows_it(store):
    """Step and field are named, with what was recorded and what comes out now."""
    change_header(store, lambda header: header["inputs"].update(n=5))
    fault = diverged(store)
    assert (fault.step, fault.field) == ("base", "output")
    assert fault.expected != fault.found


def test_a_changed_plan_diverges(store):
    """Arguments, values, conditions, output: whatever was changed."""

    def step(header, name):
        return next(step for step in header["plan"]["steps"] if step["id"] == name)

    change_header(store, lambda header: step(header, "seen")["args"].update(x="${item + 1}"))
    fault = diverged(store)
    assert (fault.step, fault.field) == ("seen[0]", "args")


def test_a_changed_condition_diverges(store):
    """A step that was skipped would run now."""

    def change(header):
        next(step for step in header["plan"]["steps"] if step["id"] == "gone")["when"] = "${base < 100}"

    change_header(store, change)
    assert (diverged(store).step, diverged(store).field) == ("gone", "status")


def test_a_changed_output_diverges_at_the_run(store):
    """The run's digest covers the plan."""
    change_header(store, lambda header: header["plan"].update(output="${base}"))
    assert (diverged(store).step, diverged(store).field) == ("", "digest")


def test_a_changed_result_diverges_downstream(store):
    """A forged journal with a fitting chain is still found out by what followed from it."""

    def change(lines):
        return [line.replace(b'{"$json":"sent"}', b'{"$json":"forged"}') for line in lines]

    change_journal(store, change)
    fault = diverged(store)
    assert (fault.step, fault.field) == ("", "digest")


def test_changed_arguments_diverge(store):
    """What was called with is recomputed and compared."""

    def change(lines):
        changed = []
        for line in lines:
            record = orjson.loads(line)
            if record["type"] == "CallStarted" and record["step"] == "sent":
                record["args"] = "sha256:" + "0" * 64
            changed.append(orjson.dumps(record))
        return changed

    change_journal(store, change)
    assert (diverged(store).step, diverged(store).field) == ("sent", "args")


def renumbered(lines):
    return [orjson.dumps({**orjson.loads(line), "n": place}) for place, line in enumerate(lines, 1)]


@pytest.mark.parametrize("is_renumbered", [True, False])
def test_a_lost_event_is_found_out(store, is_renumbered):
    """Wherever it was, also where someone made chain and numbers fit again."""
    whole: list[bytes] = []
    change_journal(store, whole.extend)
    for missing in range(len(whole)):
        if is_renumbered and b'"CallStarted","step":"bad"' in whole[missing]:
            continue  # a call may also fail before it starts, so nothing follows from this one
        rest = whole[:missing] + whole[missing + 1 :]
        change_journal(store, lambda _, rest=rest: renumbered(rest) if is_renumbered else rest)
        try:
            in_store(store, replayed)
        except (Diverged, StoreError):
            continue
        pytest.fail(f"event {missing} is not missed: {whole[missing]!r}")
    change_journal(store, lambda _: whole)
    in_store(store, replayed)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace(b'"sent"', b'"forged"') for line in lines],
        lambda lines: lines[:-1],
        lambda lines: [*lines[:3], *lines[4:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:-1], b"not json"],
    ],
    ids=["changed", "cut", "lost", "swapped", "garbage"],
)
def test_a_journal_changed_outside_firmplan_is_a_store_error(store, change):
    """The chain does not fit; the message names the run; others of the store are whole."""
    change_journal(store, change, is_chained=False)

    async def law(rig):
        for use in (replayed(rig), rig.execution.archive.get("r")):
            with pytest.raises(StoreError, match=r"run r|journal record"):
                await use
        assert (await rig.run(PLAN, "s", inputs={"n": 2})).status == "succeeded"

    in_store(store, law, *tools())


def test_a_changed_value_is_a_store_error(store):
    """Large values stand beside the journal, under their digest."""
    with sqlite3.connect(store) as db:
        assert db.execute("SELECT count(*) FROM stored_values").fetchone()[0] > 0
        db.execute("UPDATE stored_values SET data=CAST(replace(CAST(data AS TEXT), 'xxx', 'yyy') AS BLOB)")
    db.close()
    with pytest.raises(StoreError, match="changed in the store"):
        in_store(store, replayed)


def test_a_missing_value_is_a_store_error(store):
    """The message names it."""
    with sqlite3.connect(store) as db:
        db.execute("DELETE FROM stored_values")
    db.close()
    with pytest.raises(StoreError, match="sha256:"):
        in_store(store, replayed)


def test_a_run_that_was_never_planned_cannot_be_replayed():
    """There is nothing to replay."""

    async def main():
        from dataclasses import replace

        from firmplan.executor import Header, ToolsetLock

        async with Rig([], SqliteStore(":memory:")) as rig:
            header = replace(Header(None, {}, "", ToolsetLock(())), task="words")
            await rig.execution.submissions.submit(header, run_id="t")
            with pytest.raises(InputRejected, match="no plan"):
                await replayed(rig, "t")

    asyncio.run(main())


def test_a_run_is_shown_from_its_journal_as_it_was(store):
    """A snapshot from another process equals the live one."""

    async def live(rig):
        return await rig.run(PLAN, "s", inputs={"n": 3})

    shown = in_store(store, live, *tools())
    again = in_store(store, lambda rig: rig.execution.archive.get("s"))
    assert again == shown


def test_a_kept_replay_of_an_unfinished_run_never_goes_on():
    """It tells what had happened. Were it driven, it would make the writes that its parent makes."""
    paid: list[int] = []

    @tool(effect="write", approval="always")
    def pay(x: int) -> int:
        """Pay."""
        paid.append(x)
        return x

    async def main():
        async with Engine([pay], store="memory:") as engine:
            await engine.run(plan(call("p", "pay", args={"x": 1}), output="${p}"), run_id="r")
            kept = await engine.replay("r", keep=True)
            assert (kept.status, kept.parent, kept.is_replay) == ("waiting", "r", True)
            for going_on in (
                engine.resume(kept.id),
                engine.approve(kept.id, "p", by="ann"),
                engine.deny(kept.id, "p", by="ann", reason="no"),
                engine.cancel(kept.id),
                engine.resume(kept.id, budget={"steps": 9}),
            ):
                with pytest.raises(InputRejected, match="is a replay of run r that was kept"):
                    await going_on
            await engine.approve("r", "p", by="ann")
            assert (await engine.resume("r")).output == 1
            assert (await engine.get(kept.id)).status == "waiting"
            assert (await engine.fork(kept.id)).status == "waiting"
        assert paid == [1]

    asyncio.run(main())


def test_nobody_takes_over_a_kept_replay_of_a_run_under_way(tmp_path):
    """A run whose process died is taken over, once: its kept replay stays as it was."""
    begun = asyncio.Event()
    paid: list[int] = []

    @tool(effect="read")
    async def look() -> int:
        """Look, for ever at first."""
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(60)
        return 1

    @tool(effect="write")
    def pay(x: int) -> int:
        """Pay."""
        paid.append(x)
        return x

    steps = plan(call("l", "look"), call("p", "pay", args={"x": "${l}"}), output="${p}")

    async def main():
        async with Engine([look, pay], store=tmp_path / "s.db") as engine:
            await engine.submit(steps, run_id="r")
            await begun.wait()
            kept = await engine.replay("r", keep=True)
        async with Engine([look, pay], store=tmp_path / "s.db", recover=True) as engine:
            assert (await engine.wait("r")).status == "succeeded"
            assert (await engine.wait(kept.id)).status == kept.status
        assert paid == [1]

    asyncio.run(main())
