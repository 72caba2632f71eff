"""A large value is in memory a few times, not twelve; and it is what it was, whatever way it was written and read.

The memory is the peak of a fresh process, as the system counts it, beyond what a small run took there before.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from firmplan import Engine, StoreError, Tool, Toolset, tool
from firmplan.executor.stores.sqlite_store import LARGE_BYTES
from public import call, plan

MIB = 1024 * 1024
SIZE = 63 * MIB
TIMES_MAX = 4
TEXT = {"type": "string"}
PLANS = {
    "returned": plan(call("a", "make", args={"n": SIZE}), output="${len(a)}"),
    "passed on": plan(
        call("a", "make", args={"n": SIZE}), call("b", "size", args={"x": "${a}"}), output="${b}"
    ),
    "returned as output": plan(call("a", "make", args={"n": SIZE}), output="${a}"),
    "input": plan(call("b", "size", args={"x": "${inputs.x}"}), inputs={"x": TEXT}, output="${b}"),
    "input and output": plan(call("b", "echo", args={"x": "${inputs.x}"}), inputs={"x": TEXT}, output="${b}"),
}


@tool(effect="pure", version="1")
def make(n: int) -> str:
    """Make a text."""
    return "x" * n


@tool(effect="pure", version="1")
def size(x: str) -> int:
    """Return the length of a text."""
    return len(x)


@tool(effect="pure", version="1")
def echo(x: str) -> str:
    """Return what was given."""
    return x


TOOLS = [make, size, echo]
CHILD = """
import sys
from firmplan import Engine
from safety.test_large_values import PLANS, SIZE, TOOLS, peak
small = {**PLANS["returned"], "steps": [{"id": "a", "tool": "make", "args": {"n": 10}}]}
plan = PLANS[sys.argv[1]]
with Engine(TOOLS, store=sys.argv[2]) as engine:
    engine.run_sync(small)
    before = peak()
    run = engine.run_sync(plan, inputs={"x": "y" * SIZE} if "inputs" in plan else None)
    run.raise_for_status()
    assert SIZE in (run.output, len(str(run.output)))
print((peak() - before) / SIZE)
"""


def peak():
    """The most memory that this process has had."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not tell the peak of memory"
)
@pytest.mark.parametrize("name", list(PLANS))
def test_a_value_of_63_mebibytes_takes_less_than_four_times_its_size(name, tmp_path):
    """As a result, as an argument, as an output and as an input: the text of the caller, who has it as well, counts."""
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "support")])}
    words = [sys.executable, "-c", CHILD, name, tmp_path / "s.db"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < TIMES_MAX


LARGE = 'ä"\\\n' + "z\U0001f600" * LARGE_BYTES
ECHO = PLANS["input and output"]
OLD = Path(__file__).parents[1] / "vectors" / "journals" / "0.3" / "store.sqlite"


@pytest.mark.parametrize("is_old", [False, True])
def test_a_large_value_is_what_it_was(tmp_path, is_old):
    """With characters of all kinds, in a new store, which takes it in portions, and in one of format 1, which cannot: run, replay, reuse, bundle, check."""
    path = tmp_path / "s.db"
    if is_old:
        shutil.copyfile(OLD, path)
    with Engine(TOOLS, store=path) as engine:
        run = engine.run_sync(ECHO, inputs={"x": LARGE})
        assert (run.output, run.steps["b"].reused) == (LARGE, False)
        again = engine.run_sync(ECHO, inputs={"x": LARGE})
        assert (again.output, again.steps["b"].reused, again.digest) == (LARGE, True, run.digest)
        bundle = engine.export_sync(run.id, tmp_path / "r.bundle")
        assert engine.replay_sync(bundle).digest == run.digest
    with Engine(TOOLS, store=path) as engine:
        assert engine.replay_sync(run.id).output == LARGE
        assert engine.get_sync(run.id).inputs == {"x": LARGE}
        assert engine.check_store_sync().ok
        assert engine.explain_sync(run.id, "b").because == "first"
        assert engine.delete_sync(run.id).runs == (run.id,)
        assert engine.get_sync(again.id).output == LARGE


def test_a_large_header_that_was_changed_is_found(tmp_path):
    """Also by the engine that has just written it, and holds it in memory as long as the run has not ended."""
    waits = plan(call("a", "pay", args={"x": "${len(inputs.x)}"}), inputs={"x": TEXT})

    @tool(effect="write", approval="always", resource="bank")
    def pay(x: int) -> int:
        """Pay."""
        return x

    with Engine([pay], store=tmp_path / "s.db") as engine:
        engine.run_sync(waits, inputs={"x": LARGE}, run_id="r")
        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as db:
            (header,) = db.execute("SELECT header FROM headers").fetchone()
            changed = header.replace(b"z", b"y", 1)
            assert changed != header
            db.execute("UPDATE headers SET header=?", (changed,))
        with pytest.raises(StoreError, match="header of run r is not the one"):
            engine.replay_sync("r")
        assert not engine.check_store_sync().ok


def copied(x: str) -> str:
    return x[:1] + x[1:]


def passing(change):
    """Return a tool that passes on what `change` makes of its text."""

    @tool(effect="pure", version="1")
    async def pass_on(x: str, n: int) -> str:
        """Pass a text on."""
        return change(x)

    return pass_on


@pytest.mark.parametrize("name", ["text", "one more"])
def test_a_text_that_tools_pass_on_is_recorded_as_a_copy_of_it_is(tmp_path, name):
    """The engine knows a text that it gave to a tool by identity; the records of the run do not differ by that."""
    steps = [call("s0", "pass_on", args={"x": "${inputs.x}", "n": 0})]
    steps += [call(f"s{n}", "pass_on", args={"x": f"${{s{n - 1}}}", "n": n}) for n in range(1, 4)]
    steps.append(call("both", "join", args={"x": ["${s1}", "${s3}", "${s2}"]}))
    made = plan(*steps, inputs={"x": TEXT}, output="${len(both)}")
    text = LARGE if name == "text" else "x" * (64 * 1024 - 1)

    @tool(effect="pure", version="1")
    def join(x: list[str]) -> str:
        """Join."""
        return x[1]

    found = []
    for change in (lambda x: x, copied):
        pass_on = passing(change)
        path = tmp_path / f"{len(found)}.db"
        with Engine([pass_on, join], store=path) as engine:
            run = engine.run_sync(made, inputs={"x": text}, run_id="r")
            assert (run.output, engine.replay_sync(run.id).digest) == (len(text), run.digest)
            events = [
                (each.type, each.step, {**each.data, "started": 0, "key": ""})
                for each in engine.events_sync("r")
            ]
        with closing(sqlite3.connect(path)) as db:
            stored = db.execute("SELECT digest, length(data) FROM stored_values ORDER BY digest").fetchall()
        found.append((run.digest, [each for each in events if each[0] == "CallMade"], stored))
    assert len(found[0][1]) == 4
    assert found[0] == found[1]
    assert len(found[0][2]) == 1, "stored once"


@pytest.mark.parametrize("returns", [TEXT, None, {"type": "object"}])
def test_what_a_tool_does_to_large_arguments_reaches_nobody_else(returns):
    """It shares texts, which cannot be changed, and nothing else."""

    def spoil(given):
        given["text"] = "spoilt"
        given["list"].append(1)
        return "done" if returns != {"type": "object"} else given

    spoiling = Tool.from_callable(
        spoil,
        name="spoil",
        parameters={"type": "object", "properties": {"given": {"type": "object"}}},
        returns=returns,
        effect="pure",
        version="1",
    )
    made = plan(
        {"id": "v", "set": {"text": "${inputs.x}", "list": []}},
        call("a", "spoil", args={"given": "${v}"}),
        {"id": "after", "set": "${[len(v.text), len(v.list)]}", "after": ["a"]},
        inputs={"x": TEXT},
        output="${after}",
    )
    with Engine(Toolset([spoiling]), store="memory:") as engine:
        run = engine.run_sync(made, inputs={"x": LARGE})
        assert run.output == [len(LARGE), 0]
        assert engine.replay_sync(run.id).digest == run.digest
