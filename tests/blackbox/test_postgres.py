"""`Engine(store="postgresql://..")`, from outside: all that an engine does, and what it says where the store cannot be used."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback

import pytest
from firmplan import Artifact, ConfigError, Context, Engine, FirmplanError, StoreError, tool

pytestmark = pytest.mark.postgres
SECRET = "s3cr3t-Pa55"
CALLS = []


@tool(effect="pure")
def double(n: int) -> int:
    """Double a number."""
    CALLS.append("double")
    return 2 * n


@tool(effect="read", reuse_for="1h", resource="shop")
def price(item: str) -> float:
    """Look up a price."""
    CALLS.append("price")
    return float(len(item))


@tool(effect="write", approval="always", resource="shop")
def buy(item: str, *, ctx: Context) -> str:
    """Buy something."""
    CALLS.append(f"buy {ctx.idempotency_key[:15]}")
    return f"bought {item}"


PLAN = {
    "firmplan": 1,
    "inputs": {"what": {"type": "string"}, "n": {"type": "integer", "default": 2}},
    "steps": [
        {"id": "cost", "tool": "price", "args": {"item": "${inputs.what}"}},
        {"id": "twice", "tool": "double", "for_each": "${range(inputs.n)}", "args": {"n": "${item}"}},
        {"id": "bought", "tool": "buy", "args": {"item": "${inputs.what}"}, "after": ["twice"]},
    ],
    "output": {"cost": "${cost}", "twice": "${twice}", "bought": "${bought}"},
}


@pytest.fixture(autouse=True)
def _calls():
    CALLS.clear()


def test_a_run_waits_is_approved_replayed_explained_forked_and_exported(postgres_url, tmp_path, monkeypatch):
    """The main road, from one engine to the next; nothing is written on this machine's disk."""
    monkeypatch.chdir(tmp_path)
    with Engine([double, price, buy], store=postgres_url) as engine:
        run = engine.run_sync(PLAN, inputs={"what": "tea"}, run_id="first")
        assert run.status == "waiting"
    with Engine([double, price, buy], store=postgres_url) as engine:
        engine.approve_sync("first", "bought", by="me")
        run = engine.resume_sync("first")
        assert run.output == {"cost": 3.0, "twice": [0, 2], "bought": "bought tea"}
        assert len(CALLS) == 4
        assert engine.replay_sync("first").digest == run.digest
        assert engine.verify_sync("first")
        CALLS.clear()
        again = engine.run_sync(PLAN, inputs={"what": "tea"})
        assert (again.steps["twice[1]"].reused, CALLS) == (True, ["price"]), "a write is open on the shop"
        assert "the first call of 'price'" in str(engine.explain_sync("first", "cost"))
        assert "the resource 'shop' was written" in str(engine.explain_sync(again.id, "cost"))
        fork = engine.fork_sync("first", inputs={"what": "milk"})
        assert engine.wait_sync(fork.id).steps["twice"].reused
        assert engine.diff_sync("first", fork.id)
        assert [each.id for each in engine.list_runs_sync().runs][-1] == "first"
        bundle = engine.export_sync("first", tmp_path / "first.bundle")
    with Engine([], store="memory:") as elsewhere:
        assert elsewhere.replay_sync(bundle).digest == run.digest
    assert [path.name for path in tmp_path.iterdir()] == ["first.bundle"]


def test_saved_plans_artifacts_events_and_care(postgres_url, tmp_path):
    """What else a store is asked for."""
    with Engine([double], store=postgres_url) as engine:
        plan = {
            "firmplan": 1,
            "task": "Double it",
            "steps": [{"id": "a", "tool": "double", "args": {"n": 4}}],
            "output": "${a}",
        }
        engine.save_plan_sync("doubling", plan)
        run = engine.run_sync("Double it")
        assert run.output == 8

        async def types():
            return [event.type async for event in engine.events(run.id)]

        async def listed():
            async with Engine([double], store=postgres_url) as other:
                return [event.type async for event in other.events(run.id)]

        assert asyncio.run(listed())[-1] == "RunFinished"
        large = bytes(range(256)) * 100_000
        artifact = engine.save_artifact_sync(large, name="large")
        assert isinstance(artifact, Artifact)
        assert engine.check_store_sync().ok
        assert engine.check_store_sync().runs == 1
        copied = engine.backup_store_sync(tmp_path / "copy.db")
    with Engine([double], store=copied) as copy:
        assert copy.replay_sync(run.id).digest == run.digest
        assert copy.check_store_sync().ok


# --- what cannot be


def faults_of(store):
    """Return what is said, and the whole of it with what caused it, where an engine of that store is used."""
    with pytest.raises((StoreError, ConfigError)) as raised, Engine([], store=store) as engine:
        engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}]})
    return str(raised.value), "".join(traceback.format_exception(raised.value))


CASES = {
    "wrong host": ("postgresql://firmplan:{secret}@no-such-host.invalid/db", "the host's name is not known"),
    "wrong port": ("postgresql://firmplan:{secret}@127.0.0.1:1/db", "is the server running there"),
    "no socket": ("postgresql://firmplan:{secret}@/db?host=/nowhere", "is the server running on this machine"),
    "no such database": ("postgresql://firmplan:{secret}@127.0.0.1:{port}/nothing", 'database "nothing" does not exist: make it'),
    "wrong password": ("postgresql://firmplan:wrong-{secret}@127.0.0.1:{port}/postgres", "give the right password"),
    "no such user": ("postgresql://nobody:{secret}@127.0.0.1:{port}/postgres", "give the right password"),
    "bad port": ("postgresql://firmplan:{secret}@127.0.0.1:x/postgres", "invalid integer value"),
    "bad escape": ("postgresql://firmplan:{secret}%zz@127.0.0.1/postgres", "is no such URL"),
    "slash in the password": ("postgresql://firmplan:pa/{secret}@127.0.0.1:{port}/postgres", "is no such URL"),
    "bad option": ("postgresql://firmplan:{secret}@127.0.0.1:{port}/postgres?colour=red", "is no such URL"),
    "secret as an option": ("postgresql://127.0.0.1:{port}/nothing?user=firmplan&password={secret}", "nothing"),
    "other server": ("mysql://firmplan:{secret}@127.0.0.1/db", "this version has no store of that kind"),
    "driver in the scheme": ("postgresql+psycopg://firmplan:{secret}@127.0.0.1/db", "expected a path"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_store_that_cannot_be_used_is_told_with_what_to_do_and_without_its_password(
    cluster, case, caplog, monkeypatch
):
    """Neither in the message, nor in what caused it, nor in any log."""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    caplog.set_level(logging.DEBUG)
    where, words = CASES[case]
    told, whole = faults_of(where.format(secret=SECRET, port=cluster.port))
    assert words in told
    assert told.lower().count("is the server running") <= 1
    for text in (told, whole, caplog.text):
        assert SECRET not in text
        assert "s3cr3t" not in text


def test_an_unfinished_password_is_hidden_too(cluster):
    """The user forgot to spell an `@` as %40, and a `#`: what was meant is not shown."""
    told, whole = faults_of(f"postgresql://firmplan:one@two#three@127.0.0.1:{cluster.port}/postgres")
    for part in ("one", "two", "three"):
        assert part not in told, told
        assert f"{part}@" not in whole.replace("test_an_unfinished", "")


def test_without_the_library_it_says_how_to_install_it(monkeypatch):
    """Before anything is tried."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr("firmplan.executor.stores.location.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'firmplan\[postgres\]'") as raised:
        Engine([], store=f"postgresql://me:{SECRET}@host/db")
    assert "postgresql://me@host/db" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_the_name_of_a_store_has_no_password(postgres_url):
    """In what a check of it says, and where a run is not found."""
    with Engine([], store=postgres_url) as engine:
        report = engine.check_store_sync()
        assert report.store.startswith("postgresql://firmplan@127.0.0.1:")
        with pytest.raises(FirmplanError, match="postgresql://firmplan@") as raised:
            engine.get_sync("nothing")
    assert SECRET not in f"{raised.value}{report}{report.to_dict()}{engine!r}{vars(engine)!r}"


def test_a_password_may_come_from_the_environment(cluster, monkeypatch):
    """As for every client of PostgreSQL."""
    monkeypatch.setitem(os.environ, "PGPASSWORD", SECRET)
    with Engine(
        [], store=f"postgresql://firmplan@127.0.0.1:{cluster.port}/postgres?options=-csearch_path%3Denv"
    ) as engine:
        assert (
            engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}).output == 1
        )


def test_the_other_spelling_of_the_scheme_is_the_same_store(postgres_url):
    """`postgres://` is what some hosters give out."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "set": 1}], "output": "${a}"}
    with Engine([], store=postgres_url) as engine:
        engine.run_sync(plan, run_id="r")
    with Engine([], store=postgres_url.replace("postgresql://", "postgres://")) as engine:
        assert engine.get_sync("r").output == 1
