"""A plan that is known from before is neither checked nor compiled again, and a plan of which anything differs is both."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson
import psycopg
import pytest
import structlog.testing
from appending import emptied
from firmplan import Engine, Plan, PlanRejected, Policy, Secret, Toolset, tool
from firmplan.executor.journal import header as headers
from firmplan.executor.journal import known_plans
from firmplan.executor.journal.header import Header, program_key
from firmplan.executor.journal.known_plans import STEPS_MIN
from firmplan.executor.journal.toolset_lock import ToolsetLock
from firmplan.executor.lru_cache import IdentityCache, LruCache
from firmplan.executor.stores import sqlite_file
from firmplan.plans.limits import LIMITS
from public import call, plan

COUNT = STEPS_MIN + 10


@tool(effect="pure", version="1")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(effect="write", resource="mail", version="1", idempotent=True)
def send(text: str, to: str = "me") -> str:
    """Send."""
    return text


def large(count=COUNT, *more, **keys):
    steps = [call("s0", "add", args={"a": "${inputs.n}", "b": 1})]
    steps += [call(f"s{i}", "add", args={"a": f"${{s{i - 1}}}", "b": i}) for i in range(1, count)]
    keys = {"inputs": {"n": {"type": "integer"}}, "output": f"${{s{count - 1}}}"} | keys
    return plan(*steps, *more, **keys)


def in_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(**given):
        asyncio.run(test(**given))

    return run


class Counted:
    """How often plans were checked and compiled."""

    def __init__(self):
        self.checks = self.programs = 0

    def taken(self):
        found = self.checks, self.programs
        self.checks = self.programs = 0
        return found


@pytest.fixture
def counted(monkeypatch):
    made = Counted()

    def check(*args, **keys):
        made.checks += 1
        return real_check(*args, **keys)

    def compiled(*args, **keys):
        made.programs += 1
        return real_compile(*args, **keys)

    from firmplan import run_planner

    real_check, real_compile = run_planner.check_draft, headers.compile_plan
    monkeypatch.setattr(run_planner, "check_draft", check)
    monkeypatch.setattr(headers, "compile_plan", compiled)
    return made


@pytest.fixture
def new_process(monkeypatch):
    """Forgets what this process knows of plans and programs."""

    def forget():
        monkeypatch.setattr(headers, "_PROGRAMS", LruCache())
        monkeypatch.setattr(headers, "_PLANS", LruCache())
        for name in ("_TEXTS", "_READ", "_WRITTEN", "_NAMES"):
            monkeypatch.setattr(headers, name, IdentityCache(8))

    forget()
    return forget


async def ran(store, given=None, tools=(add, send), n=1, save=None, run_id=None, **settings):
    async with Engine(list(tools), store=store, **settings) as engine:
        if save is not None:
            await engine.save_plan("part", save)
        return await engine.run(
            large() if given is None else given, inputs={"n": n}, reuse="off", run_id=run_id
        )


CHILD = """
import asyncio, json, sys
sys.path[:0] = sys.argv[1].split(':') + [sys.argv[4]]
from firmplan import Engine, run_planner
from firmplan.executor.journal import header
import test_known_plans as t
seen = {"checks": 0, "programs": 0}
def counting(module, name, key):
    real = getattr(module, name)
    def counted(*args, **keys):
        seen[key] += 1
        return real(*args, **keys)
    setattr(module, name, counted)
counting(run_planner, "check_draft", "checks")
counting(header, "compile_plan", "programs")
async def main():
    run = await t.ran(sys.argv[2], n=int(sys.argv[3]))
    print(json.dumps({**seen, "output": run.output, "digest": run.digest, "plan": run.plan.digest}))
asyncio.run(main())
"""


def child(path, store, n):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, os.pathsep.join(sys.path), str(store), str(n), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_new_process_neither_checks_nor_compiles(tmp_path):
    """The second process finds what the first one left; its run has the output and the digest of a run without a store that knows the plan."""
    here = __file__.rpartition("/")[0]
    first, again = child(here, tmp_path / "s.db", 1), child(here, tmp_path / "s.db", 2)
    fresh = child(here, tmp_path / "other.db", 2)
    assert (first["checks"], first["programs"]) == (1, 1)
    assert (again["checks"], again["programs"]) == (0, 0)
    assert (fresh["checks"], fresh["programs"]) == (1, 1)
    assert {**again, "checks": 1, "programs": 1} == fresh


def lines_of(store, run_id):
    with closing(sqlite3.connect(store)) as db:
        rows = db.execute("SELECT lines FROM journal WHERE run_id=? ORDER BY first_seq", (run_id,)).fetchall()
    return [json.loads(line) for (lines,) in rows for line in lines.split(b"\n")]


def without_times(lines):
    def bare(value):
        if isinstance(value, dict):
            return {key: bare(each) for key, each in value.items() if key not in ("at", "by", "header")}
        return [bare(each) for each in value] if isinstance(value, list) else value

    return [bare(line) for line in lines]


@in_loop
async def test_a_run_of_a_stored_program_is_a_run_of_a_fresh_one(tmp_path, counted, new_process):
    """Their journals have the same lines."""
    store, other = str(tmp_path / "s.db"), str(tmp_path / "o.db")
    given = large(
        COUNT,
        call(
            "m",
            "send",
            args={"text": "t ${s3} ${s4}"},
            when="${s5 > 2}",
            on_error="skip",
            after=[f"s{COUNT - 1}"],
        ),
    )
    await ran(store, given)
    counted.taken()
    new_process()
    stored = await ran(store, given, n=2, run_id="same")
    assert counted.taken() == (0, 0)
    new_process()
    fresh = await ran(other, given, n=2, run_id="same")
    assert counted.taken() == (1, 1)
    assert without_times(lines_of(store, stored.id)) == without_times(lines_of(other, fresh.id))


@tool(name="add", effect="pure", version="1")
def other_words(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(name="add", effect="read", resource="sums", version="1")
def reading(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(name="add", effect="pure", version="1", trust="untrusted")
def untrusted(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(name="send", effect="write", resource="mail", version="1", idempotent=True)
def wider(text: str, to: str = "me", copy: str = "") -> str:
    """Send."""
    return text


@tool(effect="pure")
def unused() -> int:
    """Nothing calls it."""
    return 1


DIFFERENCES: dict[str, dict[str, Any]] = {
    "the plan": {"given": large(COUNT, call("m", "add", args={"a": 1, "b": 1}))},
    "the prose of the plan": {"given": large(task="Count")},
    "what a tool says of itself": {"tools": [other_words, send]},
    "the effect of a tool": {"tools": [reading, send]},
    "the trust of a tool": {"tools": [untrusted, send]},
    "the parameters of a tool that the plan does not call": {"tools": [add, wider]},
    "another tool": {"tools": [add, send, unused]},
    "the default of trust": {"default_trust": "untrusted"},
    "the flow": {"flow": "warn"},
    "the default rules": {"flow": "strict"},
    "a policy": {"policies": [Policy("p", "send", "to", lambda value, labels: "allow")]},
    "the name of a secret": {"secrets": {"KEY": "x"}},
    "the places of a secret": {"secrets": {"TOKEN": Secret(env="TOKEN", tools=["send"])}},
    "any secret": {"secrets": "environment"},
}


@pytest.mark.parametrize("what", DIFFERENCES)
@in_loop
async def test_another_key_is_checked(what, tmp_path, counted):
    """Whatever of the key of a check differs, the plan is checked; then that is known, too."""
    store, settings = str(tmp_path / "s.db"), {"secrets": {"TOKEN": "x"}} | DIFFERENCES[what]
    await ran(store, secrets={"TOKEN": "x"})
    assert counted.taken()[0] == 1
    await ran(store, secrets={"TOKEN": "x"})
    assert counted.taken()[0] == 0
    await ran(store, **settings)
    assert counted.taken()[0] == 1, what
    await ran(store, **settings)
    assert counted.taken()[0] == 0, what


@in_loop
async def test_other_limits_and_another_version_are_checked(tmp_path, counted, monkeypatch):
    """So are other limits, and every change of the code that checks."""
    store = str(tmp_path / "s.db")
    await ran(store)
    counted.taken()
    from firmplan import run_planner

    with monkeypatch.context() as patch:
        patch.setattr(run_planner, "LIMITS", replace(LIMITS, nesting_max=31))
        await ran(store)
        assert counted.taken()[0] == 1
    with monkeypatch.context() as patch:
        patch.setattr(known_plans, "code_version", lambda: b"another")
        await ran(store)
        assert counted.taken()[0] == 1
    with monkeypatch.context() as patch:
        patch.setattr(known_plans, "code_version", lambda: None)  # of code that cannot be seen
        await ran(store)
        await ran(store)
        assert counted.taken()[0] == 2
    await ran(store)
    assert counted.taken()[0] == 0


def test_the_version_of_the_code_is_that_of_its_files(tmp_path, monkeypatch):
    """A file that has changed, or is new, is another version."""
    shutil.copytree(
        known_plans._PLANS.__path__[0], tmp_path / "plans", ignore=shutil.ignore_patterns("*.pyc")
    )
    monkeypatch.setattr(known_plans._PLANS, "__file__", str(tmp_path / "plans" / "__init__.py"))
    seen = []
    for change in (
        lambda: None,
        lambda: (tmp_path / "plans" / "checker" / "checker.py").write_text("x = 1\n"),
        lambda: (tmp_path / "plans" / "new.py").write_text(""),
        lambda: monkeypatch.setattr(known_plans._FIRMPLAN, "__version__", "99"),
    ):
        change()
        seen.append(known_plans.code_version.__wrapped__())
    assert len(set(seen)) == len(seen)
    shutil.rmtree(tmp_path / "plans")
    assert known_plans.code_version.__wrapped__() is None


@in_loop
async def test_a_saved_plan_that_changed_is_checked(tmp_path, counted, new_process):
    """The texts of the saved plans that a plan runs are in the key of its check and of its program."""
    store, given = str(tmp_path / "s.db"), large(COUNT, {"id": "p", "plan": "part", "args": {}})
    part = plan(call("x", "add", args={"a": 1, "b": 2}), output="${x}")
    first = await ran(store, given, save=part)
    counted.taken()
    new_process()
    again = await ran(store, given)
    assert counted.taken() == (0, 0)
    new_process()
    other = await ran(store, given, save={**part, "output": "${x + 1}"})
    assert counted.programs == 1
    assert counted.checks >= 1
    assert [run.steps["p"].output for run in (first, again, other)] == [3, 3, 4]


def test_the_key_of_a_program():
    """Plan, saved plans, lock, language, rules and what a patch made decide a program."""
    tools = Toolset([add, send])
    given, saved = Plan.model_validate(large()), Plan.model_validate(large(3))
    header = Header(given, {}, "", ToolsetLock.of([given], tools))
    fork = headers.Fork
    others = [
        replace(header, plan=Plan.model_validate(large(task="Count"))),
        replace(header, plans={"part": saved}),
        replace(header, plans={"other": saved}),
        replace(header, plans={"part": given}),
        replace(header, lock=ToolsetLock.of([given], Toolset([reading]))),
        replace(header, lock=ToolsetLock.of([given], Toolset([other_words]))),
        replace(header, language=header.language - 1),
        replace(header, rules=header.rules - 1),
        replace(header, fork=replace(fork(), controlled=("s1",))),
        replace(header, fork=replace(fork(), written=("s1",))),
    ]
    keys = [program_key(each) for each in (header, *others)]
    assert len(set(keys)) == len(keys)
    assert program_key(replace(header, seed="x", inputs={"n": 1}, budget={"steps": 1})) == keys[0]


def rows_of(store):
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT key, row_digest, data FROM known_plans ORDER BY length(data)").fetchall()


def change(store, statement, *values):
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute(statement, values)


@in_loop
async def test_a_row_that_was_changed_is_not_trusted(tmp_path, counted, new_process):
    """It is named in the log; the plan is checked and compiled anew, and the row is written anew."""
    store = str(tmp_path / "s.db")
    await ran(store)
    check, program = rows_of(store)
    changed = {
        "other data": ("UPDATE known_plans SET data=?", b'{"digest": "sha256:0"}'),
        "flags": ("UPDATE known_plans SET data=cast(replace(cast(data AS TEXT), '[[', '[[0,') AS BLOB)",),
        "swapped": ("UPDATE known_plans SET row_digest=?, data=? WHERE key=?", *program[1:], check[0]),
        "no digest": ("UPDATE known_plans SET row_digest=x''",),
    }
    for what, (statement, *values) in changed.items():
        change(store, statement, *values)
        counted.taken()
        new_process()
        with structlog.testing.capture_logs() as logs:
            run = await ran(store, n=2)
        structlog.reset_defaults()
        assert run.status == "succeeded"
        assert counted.taken() != (0, 0), what
        assert [each["event"] for each in logs].count("a kept check or program is not used") >= 1, what
        assert rows_of(store) == [check, program], what


@in_loop
async def test_facts_of_another_plan_are_not_used(tmp_path, counted, new_process):
    """Of a row whose digest fits, too: facts that are not of the plan are no program."""
    store = str(tmp_path / "s.db")
    await ran(store)
    _, (key, _, data) = rows_of(store)
    facts = orjson.loads(data)
    steps = facts["programs"][0]["steps"]
    for forged in (
        {**facts, "format": 99},
        {**facts, "programs": [{"order": None, "steps": steps[1:]}]},
        {**facts, "programs": []},
        {**facts, "touches": []},
        {key: value for key, value in facts.items() if key != "touches"},
        [1],
    ):
        written = orjson.dumps(forged)
        values = known_plans._digest_of(key, written), written, key
        change(store, "UPDATE known_plans SET row_digest=?, data=? WHERE key=?", *values)
        counted.taken()
        new_process()
        run = await ran(store, n=2)
        assert (run.status, counted.taken()) == ("succeeded", (0, 1))
        assert rows_of(store)[1][2] == data


@in_loop
async def test_a_plan_with_a_fault_is_never_known(tmp_path, counted):
    store, faulty = str(tmp_path / "s.db"), large(output="${nothing}")
    for _ in range(2):
        with pytest.raises(PlanRejected):
            await ran(store, faulty)
        assert counted.taken() == (1, 0)
    assert rows_of(store) == []


@in_loop
async def test_small_plans_leave_no_rows(tmp_path):
    store = str(tmp_path / "s.db")
    await ran(store, large(5))
    assert rows_of(store) == []


@in_loop
async def test_an_older_store_gets_the_table(tmp_path, counted):
    store = str(emptied(tmp_path / "s.db"))
    await ran(store)
    counted.taken()
    await ran(store)
    assert counted.taken()[0] == 0


@in_loop
async def test_a_run_that_is_resumed_elsewhere_is_not_compiled_again(tmp_path, counted, new_process):
    """Whoever takes a run over, or resumes it, finds its program."""
    store, given = str(tmp_path / "s.db"), large()
    async with Engine([add, send], store=store) as engine:
        waits = await engine.run(given, inputs={"n": 1}, budget={"steps": 3})
        assert waits.status != "succeeded"
    counted.taken()
    new_process()
    async with Engine([add, send], store=store) as engine:
        run = await engine.resume(waits.id, budget={"steps": 10_000})
        assert run.status == "succeeded"
        assert counted.taken() == (0, 0)
        fork = await engine.fork(run.id, at="s5")
        assert (fork.status, counted.taken()) == ("succeeded", (0, 0))


@pytest.mark.postgres
@in_loop
async def test_a_server_keeps_the_same(postgres_url, counted, new_process):
    """In PostgreSQL, too, a known plan is neither checked nor compiled, and a row that was changed is not trusted."""
    await ran(postgres_url)
    assert counted.taken() == (1, 1)
    new_process()
    run = await ran(postgres_url, n=2)
    assert (run.status, counted.taken()) == ("succeeded", (0, 0))
    with psycopg.connect(postgres_url, autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM firmplan_known_plans").fetchone() == (2,)
        db.execute("UPDATE firmplan_known_plans SET data=data || ' '::bytea")
    new_process()
    run = await ran(postgres_url, n=3)
    assert (run.status, counted.taken()) == ("succeeded", (1, 1))
    async with Engine([add], store=postgres_url) as engine:
        await engine.shrink_cache(max_age=0)
    with psycopg.connect(postgres_url) as db:
        assert db.execute("SELECT count(*) FROM firmplan_known_plans").fetchone() == (0,)


@in_loop
async def test_a_store_that_takes_no_writes_is_read(tmp_path, counted, new_process, monkeypatch):
    """A replay finds the program of its run in a store that cannot be written, and leaves nothing there."""
    store = str(tmp_path / "s.db")
    run = await ran(store)
    counted.taken()
    new_process()
    monkeypatch.setattr(sqlite_file, "why_read_only", lambda name: "a test says so")
    async with Engine([add, send], store=store) as engine:
        assert (await engine.replay(run.id)).digest == run.digest
    assert counted.taken() == (0, 0)
    assert len(rows_of(store)) == 2


@in_loop
async def test_rows_are_bounded_and_pruned(tmp_path, monkeypatch, counted):
    """The oldest go first; `shrink_cache` removes those that are older than results may be."""
    store = str(tmp_path / "s.db")
    monkeypatch.setattr(known_plans, "ROWS_MAX", 3)
    for number in range(4):
        await ran(store, large(task=str(number)))
    assert len(rows_of(store)) == 3
    monkeypatch.setattr(known_plans, "BYTES_MAX", 100)
    await ran(store, large(task="5"))
    assert sum(len(data) for _, _, data in rows_of(store)) <= 100
    async with Engine([add], store=store) as engine:
        await engine.shrink_cache(max_age=0)
    assert rows_of(store) == []
