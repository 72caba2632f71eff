"""What is read back from a store is what was written: saved plans, results for reuse, kept plans of planners, artifacts.

Rows are changed in real SQLite files and PostgreSQL tables, beside the open engine. Journals and headers: `test_tampering.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg
import pytest
import structlog.testing
from firmplan import Artifact, Context, Engine, Planner, PlanningFailed, StoreError, tool
from firmplan.executor.stores.reuse_log import INLINE_BYTES_MAX, read_result, write_result
from firmplan.executor.stores.store import Reusable
from firmplan.plans.values import digest
from firmplan.testing import ScriptedModel
from public import call, plan

PAY = plan(call("pay", "pay", args={"amount": 7}), output="${pay}")


# A global that a tool mutates counts by its initial value. A list that the tool reaches through `self` would count by its content, and no call
# would be reused.
PRICED = []


class Store:
    """A store whose tables a test changes."""

    def __init__(self, where, is_shared):
        self.where = where
        self.is_shared = is_shared
        self.paid = []
        PRICED.clear()
        self.priced = PRICED

    def engine(self, **settings):
        @tool(effect="write", resource="bank", idempotent=True)
        def pay(amount: int) -> int:
            """Pay."""
            self.paid.append(amount)
            return amount

        @tool(effect="pure", version="1", fingerprint_extra="price")
        def price(of: str) -> int:
            """Look up a price."""
            PRICED.append(of)
            return 700

        return Engine([pay, price], store=self.where, **settings)

    def sql(self, statement, *values):
        """Run a statement of SQLite's, with its tables' names."""
        if not self.is_shared:
            with closing(sqlite3.connect(self.where, isolation_level=None)) as db:
                return db.execute(statement, values).fetchall()
        for table in ("plans", "reusable", "reuse_log", "reuse_keys", "stored_values", "codes", "calls"):
            statement = statement.replace(f" {table} ", f" firmplan_{table} ")
        with psycopg.connect(self.where, autocommit=True) as db:
            found = db.execute(statement.replace("?", "%s"), values, binary=True)
            return found.fetchall() if found.description else []


@contextmanager
def captured():
    """What is logged meanwhile; afterwards the log is what it was: nobody has configured it."""
    with structlog.testing.capture_logs() as log:
        yield log
    structlog.reset_defaults()


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    if request.param == "file":
        return Store(str(tmp_path / "s.db"), is_shared=False)
    return Store(request.getfixturevalue("postgres_url"), is_shared=True)


def damages(engine):
    return [each.message for each in engine.check_store_sync().damages]


def test_a_saved_plan_that_was_changed_does_not_run(store):
    """By name and by digest it is refused; the list leaves it out; `store check` names it; saving it again mends that."""
    with store.engine() as engine:
        digest = engine.save_plan_sync("pay", PAY).plan.digest
        assert engine.run_sync(engine.find_plan_sync(digest)).output == 7
        assert engine.check_store_sync().ok
        store.sql("UPDATE plans SET plan=replace(plan, '7', '999') WHERE name=?", "pay")
        for look in (
            lambda: engine.find_plan_sync(digest),
            lambda: engine.find_plan_sync("pay"),
        ):
            with pytest.raises(
                StoreError, match=r"the saved plan 'pay' is not as it was saved.*plans save pay FILE"
            ):
                look()
        with captured() as log:
            assert engine.list_plans_sync() == []
            assert engine.plan_uses_sync() == {}
        assert [
            (each["log_level"], each["plan"]) for each in log if each["event"] == "altered plan passed over"
        ] == [("warning", "pay")]
        assert engine.find_altered_plans_sync().keys() == {"pay"}
        outer = {"firmplan": 1, "steps": [{"id": "a", "plan": digest, "args": {}}]}
        with pytest.raises(StoreError, match="not as it was saved"):
            engine.run_sync(outer)
        assert [each.split(":")[0] for each in damages(engine)] == [
            "the saved plan 'pay' is not as it was saved"
        ]
        engine.save_plan_sync("pay", PAY)
        assert engine.run_sync(engine.find_plan_sync(digest)).output == 7
        assert engine.check_store_sync().ok
    assert store.paid == [7, 7]


def test_a_saved_plan_that_was_changed_stops_no_other_task(store):
    """It answers no task itself: a planner is asked, or there is none. Other saved plans answer theirs."""
    with store.engine() as engine:
        engine.save_plan_sync("pay", {**PAY, "task": "Pay seven"})
        engine.save_plan_sync("other", {**PAY, "task": "Pay as always"})
        store.sql("UPDATE plans SET plan=replace(plan, '7', '999') WHERE name=?", "pay")
        with captured() as log:
            assert engine.run_sync("Pay as always").output == 7
        assert [each["plan"] for each in log if each["event"] == "altered plan passed over"] == ["pay"]
        with pytest.raises(PlanningFailed, match="no saved plan answers"):
            engine.run_sync("Pay seven")
    assert store.paid == [7]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE plans SET digest='sha256:' || repeat('0', 64) WHERE name='task'",
        "UPDATE plans SET name='other' WHERE name='task'",
        "UPDATE plans SET plan=replace(plan, 'Pay seven', 'Pay eight') WHERE name='task'",
        "UPDATE plans SET plan='[' WHERE name='task'",
        "UPDATE plans SET plan='{}' WHERE name='task'",
    ],
)
def test_any_change_of_a_saved_plan_is_found(store, change):
    """Its words, which its digest leaves out and by which it answers tasks, its name, its digest, its shape."""
    with store.engine() as engine:
        engine.save_plan_sync("task", {**PAY, "task": "Pay seven"})
        store.sql(change.replace("repeat('0', 64)", f"'{64 * '0'}'"))
        engine.save_plan_sync("sound", PAY)
        assert [each.name for each in engine.list_plans_sync()] == ["sound"]
        (why,) = engine.find_altered_plans_sync().values()
        assert "is not as it was saved" in why
        assert len(damages(engine)) == 1


def test_a_result_that_was_changed_is_not_reused(store):
    """It is a miss, told by the log and by explain, and found by `store check`; the new result mends it."""
    look = plan(call("cost", "price", args={"of": "tea"}), output="${cost}")
    with store.engine() as engine:
        assert engine.run_sync(look).output == 700
        assert engine.run_sync(look).steps["cost"].reused
        assert len(store.priced) == 1
        change_results(store, b"700", b"900")
        (told,) = damages(engine)
        assert "the result of step 'cost' of run" in told
        with captured() as log:
            again = engine.run_sync(look)
        assert (again.output, again.steps["cost"].reused, len(store.priced)) == (700, False, 2)
        (told,) = [line for line in log if line["event"] == "altered result not reused"]
        assert (told["log_level"], told["of_step"]) == ("warning", "cost")
        why = engine.explain_sync(again.id, "cost")
        assert (why.because, why.source[1]) == ("altered", "cost")
        assert "was changed in the store" in str(why)
        assert engine.run_sync(look).steps["cost"].reused
        assert engine.check_store_sync().ok


def change_results(store, old, new):
    """Change some bytes of each stored result."""
    for number, results in store.sql("SELECT number, results FROM reuse_log "):
        assert re.search(old, results)
        store.sql("UPDATE reuse_log SET results=? WHERE number=?", re.sub(old, new, results), number)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"1(\d+\.\d+),\{", rb"2\1,{"), (b'\\["[^"]+"', b'["another"'), (b'"cost"', b'"another"'), (rb",\{\},\{\}\]", b',{"a":1},{}]'),
        (rb"\{\}\]", b"{"), (b"700", b"{"), (b"\tsha256:....", b"\tsha256:0000"), (b"^....", b"0000"), (b"\t", b""), (b"[^\t]+$", b""), (b".+", b"")
    ],
    ids=["time", "run", "step", "epochs", "environment", "output", "key", "digest", "no tabs", "no output", "nothing"],
)  # fmt: skip
def test_any_change_of_a_result_is_found(store, old, new):
    """Each part is covered; what is no JSON any more is a miss, too."""
    look = plan(call("cost", "price", args={"of": "tea"}), output="${cost}")
    with store.engine() as engine:
        engine.run_sync(look)
        change_results(store, old, new)
        assert len(damages(engine)) == 1
    with store.engine() as engine:
        run = engine.run_sync(look)
        assert (run.output, run.steps["cost"].reused) == (700, False)


def test_a_result_of_another_key_does_not_stand_for_a_call(store):
    """Also where the index was changed: the line of a result names its key."""
    look = plan(call("a", "price", args={"of": "tea"}), call("b", "price", args={"of": "milk"}))
    with store.engine() as engine:
        engine.run_sync(look)
        keys = [key for (key,) in store.sql("SELECT prefix FROM reuse_keys ORDER BY prefix")]
        assert len(keys) == 2
        store.sql("UPDATE reuse_keys SET prefix=prefix+1")
        assert not any(step.reused for step in engine.run_sync(look).steps.values())
        ((results,),) = store.sql("SELECT results FROM reuse_log WHERE number=1")
        one, other = re.findall(b"sha256:[0-9a-f]{64}", results)
        swapped = results.replace(one, b"x").replace(other, one).replace(b"x", other)
        store.sql("UPDATE reuse_log SET results=? ", swapped)
        assert len(damages(engine)) == 4
        assert not any(step.reused for step in engine.run_sync(look).steps.values())


def leave_as_before(store, made):
    """Have a result stand in the store as versions without a reuse log have left it, instead of in that."""
    epochs, env = (json.dumps(dict(part)).encode() for part in (made.epochs, made.env))
    head = f"{made.key}\n{made.run_id}\n{made.step}\n{made.created!r}\n".encode()
    row_digest = hashlib.sha256(b"%b%b\n%b\n%b" % (head, epochs, env, made.output)).digest()
    row = (made.key, made.run_id, made.step, made.output, made.created, epochs, env, row_digest)
    for table in ("reuse_log", "reuse_keys"):
        store.sql(f"DELETE FROM {table} WHERE 1=1")
    columns = "key, run_id, step, output, created, epochs, env, row_digest"
    store.sql(f"INSERT INTO reusable ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)


def left_before(store, look):
    """Make a result, and have it stand as before."""
    with store.engine() as engine:
        engine.run_sync(look)
    (results,) = store.sql("SELECT results FROM reuse_log ORDER BY number DESC")[0]
    leave_as_before(store, read_result(results, lambda _: None))


def test_a_result_that_an_older_version_has_left_is_reused(store):
    """It is counted, and goes by age and size as any; if it was changed, the call is made again."""
    look = plan(call("cost", "price", args={"of": "tea"}), output="${cost}")
    left_before(store, look)
    with store.engine() as engine:
        assert engine.cache_stats_sync().results == 1
        assert engine.run_sync(look).steps["cost"].reused
        engine.run_sync(plan(call("cost", "price", args={"of": "milk"})))
        stats = engine.cache_stats_sync()
        assert stats.results == 2
        assert stats.oldest < stats.newest
        assert engine.shrink_cache_sync(max_bytes=stats.bytes - 1) == 1
        assert store.sql("SELECT count(*) FROM reusable ") == [(0,)]
        assert not engine.run_sync(look).steps["cost"].reused
    left_before(store, look)
    store.sql("UPDATE reusable SET output=? ", b"900")
    with store.engine() as engine:
        assert len(damages(engine)) == 1
        run = engine.run_sync(look)
        assert (run.output, run.steps["cost"].reused) == (700, False)
        assert engine.run_sync(look).steps["cost"].reused


def test_a_plan_kept_for_the_planner_that_was_changed_is_planned_anew(store):
    """It saves a planning and is no promise: a miss, told by the log; the task's new plan takes its place."""
    draft = json.dumps(PAY)

    with ScriptedModel([draft, draft]) as model:
        planner = Planner(model="m", base_url=model.base_url, api_key="k")
        with store.engine(planner=planner) as engine:
            assert engine.run_sync("pay seven").output == 7
            assert engine.run_sync("pay seven").output == 7
            assert len(model.requests) == 1
            assert store.sql(
                "SELECT count(*) FROM plans WHERE name LIKE '~%'"
                if not store.is_shared
                else "SELECT count(*) FROM plans WHERE left(name, 1)='~'"
            ) == [(1,)]
            store.sql("UPDATE plans SET plan=replace(plan, '7', '999') WHERE 1=1")
            assert len(damages(engine)) == 1
            with captured() as log:
                assert engine.run_sync("pay seven").output == 7
            assert [line["event"] for line in log if line["log_level"] == "warning"] == ["kept plan refused"]
            assert len(model.requests) == 2
            assert engine.check_store_sync().ok
    assert store.paid == [7, 7, 7]


def test_bytes_of_an_artifact_that_were_changed_reach_no_tool(store):
    """The tool is told that they are others; `store check` names the value, whether or not a journal does."""
    sizes = []

    @tool(effect="pure", version="1")
    def size_of(file: Artifact, *, ctx: Context) -> int:
        """Count bytes."""
        sizes.append(len(ctx.open(file)))
        return sizes[-1]

    look = plan(call("n", "size_of", args={"file": "${inputs.file}"}), inputs={"file": {"type": "object"}})
    with Engine([size_of], store=store.where) as engine:
        file = engine.save_artifact_sync(b"123")
        store.sql("UPDATE stored_values SET data=? ", b"12345")
        assert damages(engine) == [f"the value {file.digest} is not as it was written"]
        with pytest.raises(StoreError, match="was changed in the store"):
            engine.read_artifact_sync(file)
        run = engine.run_sync(look, inputs={"file": file.model_dump()})
        assert run.errors[0].code == "no-artifact"
    assert sizes == []


def test_the_parts_of_a_fingerprint_that_were_changed_give_no_reason(store):
    """Explain tells no change that only an edited row speaks of."""
    look = plan(call("cost", "price", args={"of": "${inputs.of}"}), inputs={"of": {"type": "string"}})
    with store.engine() as engine:
        engine.run_sync(look, inputs={"of": "tea"})
        run = engine.run_sync(look, inputs={"of": "milk"})
        first = str(engine.explain_sync(run.id, "cost"))
        assert 'args.of was "tea", now "milk"' in first
        store.sql("UPDATE codes SET parts=? ", b'{"version":"9"}')
        assert str(engine.explain_sync(run.id, "cost")) == first


def test_a_store_of_format_1_is_brought_up(store):
    """Its saved plans run, compared by their own digest; its results have none, so that they are made anew, and explain says so."""
    look = plan(call("cost", "price", args={"of": "tea"}), output="${cost}")
    with store.engine() as engine:
        digest = engine.save_plan_sync("pay", PAY).plan.digest
    left_before(store, look)
    if store.is_shared:
        store.sql("ALTER TABLE firmplan_reusable DROP COLUMN row_digest")
        store.sql("ALTER TABLE firmplan_plans DROP COLUMN row_digest")
        store.sql("UPDATE firmplan_store SET format=1")
    else:
        store.sql("ALTER TABLE reusable DROP COLUMN row_digest")
        store.sql("ALTER TABLE plans DROP COLUMN row_digest")
        store.sql("PRAGMA user_version=1")
    with store.engine() as engine:
        assert engine.check_store_sync().ok
        assert engine.find_plan_sync(digest) is not None
        run = engine.run_sync(look)
        assert not run.steps["cost"].reused
        assert "format 1" in str(engine.explain_sync(run.id, "cost"))
        assert engine.run_sync(look).steps["cost"].reused
        store.sql("UPDATE plans SET plan=replace(plan, '7', '999') WHERE name=?", "pay")
        with pytest.raises(StoreError, match="not as it was saved"):
            engine.find_plan_sync("pay")


def test_a_result_round_trips_and_its_line_has_fixed_bytes():
    """They are as the page of the format says; a change of them would refuse every stored result."""
    made = Reusable("sha256:k", "r", "s[0]", b'{"a":1}', 2, {"box": 3}, {"HOME": None})
    told = b'sha256:k\t["r","s[0]",2.0,{"box":3},{"HOME":null}]\t{"$json":{"a":1}}'
    line = write_result(made)
    assert line.text == hashlib.sha256(told).hexdigest().encode() + b"\t" + told
    assert read_result(line.text, lambda _: None) == made
    large = replace(made, output=b'"%b"' % (b"x" * INLINE_BYTES_MAX))
    line = write_result(large)
    name = digest(large.output)
    assert line.value == (name, large.output)
    assert line.text.endswith(b'\t{"$value":"%b","bytes":16386}' % name.encode())
    assert read_result(line.text, {name: large.output}.get) == large
    for lost in ({}, {name: b"other"}):
        assert read_result(line.text, lost.get).refused == "altered"


def test_a_row_of_an_older_version_is_read():
    """Its digest has a fixed value."""
    made = Reusable("sha256:k", "r", "s[0]", b'{"a":1}', 2, {"box": 3}, {"HOME": None})
    row = ("sha256:k", "r", "s[0]", b'{"a":1}', 2.0, b'{"box":3}', b'{"HOME":null}')
    text = b'sha256:k\nr\ns[0]\n2.0\n{"box":3}\n{"HOME":null}\n{"a":1}'
    assert Reusable.from_row((*row, hashlib.sha256(text).digest())) == made
    assert Reusable.from_row((*row, b"x")).refused == "altered"
    assert Reusable.from_row((*row, b"")).refused == "no-digest"
