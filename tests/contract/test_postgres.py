"""What a store in PostgreSQL keeps beyond what every store does: its tables, its server, its connections, its copies."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import psycopg
import pytest
from appending import append, leave, with_store
from firmplan.errors import StoreError
from firmplan.executor import SqliteStore
from firmplan.executor.journal.records import chain
from firmplan.executor.stores import garbage, postgres_connection, postgres_store, sql_store
from firmplan.executor.stores.location import POSTGRES_FORMAT
from firmplan.executor.stores.postgres_connection import DEADLOCKS_MAX
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.executor.stores.store import (
    EVERYTHING,
    Batch,
    CallRecord,
    DecisionKey,
    Pruned,
    Reusable,
    ReuseEntries,
    RunRow,
)
from firmplan.plans.values import digest

pytestmark = pytest.mark.postgres
DEAD = {"is_alive": lambda *_: False}
TABLES = [
    f"firmplan_{name}"
    for name in (
        "api_keys", "calls", "codes", "decided_attempts", "decisions", "due_runs", "headers", "journal", "known_plans", "learnt_types", "object_folders", "open_writes", "owners", "pinned_tools", "plan_texts", "plan_uses", "plan_versions", "plans", "rate_limits", "resources", "reusable",
        "reuse_keys", "reuse_log", "run_plans", "runs", "saved_values", "schedule_fires", "schedules", "spending", "store", "store_facts", "stored_objects", "stored_values", "unfit_attempts", "value_parts", "webhook_deliveries", "webhook_notices",
    )
]  # fmt: skip


def row_of(run_id="r", **fields):
    return replace(RunRow(run_id, "queued", "words", None, None, 1.0, 1.0, "", {"plan": None}), **fields)


def batch_of(row, *lines, **fields):
    made = Batch(row.id, row.epoch, row.last_seq + 1, lines, chain(row.head, lines), {}, "running", "", 2.0)
    return replace(made, **fields)


def after(row, batch):
    return replace(row, head=batch.head, last_seq=row.last_seq + len(batch.lines))


def on_stores(urls, law):
    """Run a law on open stores, one for each URL."""

    async def main():
        stores = [PostgresStore(url) for url in urls]
        for store in stores:
            await store.open()
        try:
            return await law(*stores)
        finally:
            for store in stores:
                await store.close()

    return asyncio.run(main())


def open_fault(url):
    async def main():
        store = PostgresStore(url)
        with pytest.raises(StoreError) as raised:
            await store.open()
        return str(raised.value)

    return asyncio.run(main())


async def claimed(store, run_id="r", owner="me", **fields):
    await store.create_run(row_of(run_id, **fields))
    return await store.claim(run_id, owner, **DEAD)


# --- tables


def tables_in(cluster, schema):
    found = cluster.sql(f"SELECT table_name FROM information_schema.tables WHERE table_schema='{schema}'")
    return sorted(name for (name,) in found)


def test_tables_are_made_in_the_schema_that_the_url_names(cluster):
    """All of them by names of their own, beside whatever else is there; a schema that is not there is made."""

    async def law(store):
        assert await store.create_run(row_of())

    on_stores([cluster.url("made_by_firmplan")], law)
    assert tables_in(cluster, "made_by_firmplan") == TABLES
    cluster.sql('CREATE SCHEMA "with others"; CREATE TABLE "with others".runs (mine int)')
    on_stores([cluster.url("%22with%5C%20others%22")], law)
    assert tables_in(cluster, "with others") == sorted([*TABLES, "runs"])


def test_a_new_store_may_be_opened_by_many_at_once(postgres_url):
    """Whoever comes first makes it."""

    async def main():
        stores = [PostgresStore(postgres_url) for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        assert [await store.create_run(row_of(f"r{n}")) for n, store in enumerate(stores)] == [True] * 8
        assert len(await stores[0].list_runs(status=None, limit=99, before=None)) == 8
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_a_newer_format_is_refused_and_left_alone(cluster, postgres_url):
    """The message says what to do."""

    async def law(store):
        assert await store.find_format() == POSTGRES_FORMAT

    on_stores([postgres_url], law)
    cluster.sql("UPDATE firmplan_store SET format=99", postgres_url)
    told = open_fault(postgres_url)
    assert f"has format 99; this firmplan reads up to {POSTGRES_FORMAT}: upgrade firmplan" in told
    assert cluster.sql("SELECT format FROM firmplan_store", postgres_url) == [(99,)]


def test_a_store_that_lost_a_table_is_refused(cluster, postgres_url):
    """The table is named."""

    async def law(store):
        return None

    on_stores([postgres_url], law)
    cluster.sql("DROP TABLE firmplan_headers", postgres_url)
    assert "has no table 'firmplan_headers'" in open_fault(postgres_url)


def test_an_older_store_gets_the_tables_that_were_added_since(cluster):
    """Beside the others, where a search path names another schema first."""

    async def decides(store):
        await store.create_run(row_of())
        return await store.add_decisions("r", {DecisionKey("s", 1, "call"): b"x"})

    assert on_stores([cluster.url("older")], decides) == {}
    cluster.sql(
        "DROP TABLE older.firmplan_decided_attempts; UPDATE older.firmplan_store SET format=1;"
        "ALTER TABLE older.firmplan_reusable DROP COLUMN row_digest; ALTER TABLE older.firmplan_plans DROP COLUMN row_digest;"
        "CREATE SCHEMA before"
    )
    assert on_stores([cluster.url("before,older")], decides) == {}
    assert tables_in(cluster, "older") == TABLES
    assert tables_in(cluster, "before") == []


def test_a_store_of_this_format_gets_a_table_that_was_added_to_it(cluster):
    """Without an upgrade; whoever may not make it is told who may."""

    async def pins(store):
        return await store.pin_tools("p", {"a": b"{}"}, 1.0)

    assert on_stores([cluster.url("added")], pins)
    cluster.sql(
        "DROP TABLE added.firmplan_pinned_tools; DROP INDEX added.firmplan_runs_by_status;"
        "ALTER TABLE added.firmplan_runs DROP COLUMN tenant"
    )
    weak = cluster.url("added", user="reader", password="reader")
    cluster.sql(
        "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA added TO reader;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA added TO reader"
    )
    assert "firmplan store upgrade" in open_fault(weak)
    assert on_stores([cluster.url("added")], pins)

    async def tenants(store):
        await store.create_run(row_of(tenant="acme"))
        return [
            row.tenant for row in await store.list_runs(status="queued", limit=9, before=None, tenant="acme")
        ]

    assert on_stores([cluster.url("added")], tenants) == ["acme"]
    assert tables_in(cluster, "added") == TABLES
    assert cluster.sql("SELECT to_regclass('added.firmplan_runs_by_status') IS NOT NULL") == [(True,)]


def test_an_old_server_is_refused(postgres_url, monkeypatch):
    """And nothing is made on it."""
    monkeypatch.setattr(postgres_connection, "SERVER_MIN", 990000)
    assert "expected at least 99: upgrade the server" in open_fault(postgres_url)


def test_a_database_that_cannot_keep_all_texts_is_refused(cluster):
    """It says how to make one that can."""
    cluster.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    told = open_fault(cluster.url(database="latin"))
    assert "keeps texts as LATIN1; expected UTF8" in told


def test_a_user_who_may_make_no_tables_is_told_what_to_do(cluster):
    """Where the tables are made already, such a user needs only the right to use them."""
    cluster.sql(
        "CREATE ROLE weak LOGIN PASSWORD 'weak'; CREATE SCHEMA closed; GRANT USAGE ON SCHEMA closed TO weak"
    )
    url = cluster.url("closed", user="weak", password="weak")
    told = open_fault(url)
    assert "the user weak may not make its tables in the schema closed" in told
    assert 'GRANT CREATE ON SCHEMA "closed" TO "weak"' in told
    assert "?options=-csearch_path%3DSCHEMA" in told
    assert "may not make its tables in the schema nowhere" in open_fault(
        cluster.url("nowhere", user="weak", password="weak")
    )

    async def law(store):
        assert await store.create_run(row_of())

    on_stores([cluster.url("closed")], law)
    cluster.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA closed TO weak")
    cluster.sql("GRANT USAGE ON ALL SEQUENCES IN SCHEMA closed TO weak")
    cluster.sql(
        "DROP INDEX closed.firmplan_runs_by_status"
    )  # such a user cannot make it, and needs it for speed only

    async def works(store):
        assert await store.find_run("r") == row_of()
        await store.add_decision("r", b"x")

    on_stores([url], works)


def test_a_server_that_takes_no_writes_says_so(cluster, postgres_url):
    """What is there can be looked at."""

    async def law(store):
        assert await store.create_run(row_of())

    on_stores([postgres_url], law)
    read_only = postgres_url + "%20-cdefault_transaction_read_only%3Don"

    async def reads(store):
        assert await store.find_run("r") == row_of()
        with pytest.raises(StoreError, match=r"takes no writes.*name the primary"):
            await store.create_run(row_of("s"))

    on_stores([read_only], reads)


# --- what is kept


def test_any_text_is_kept(postgres_url):
    """Also one with the character that PostgreSQL's texts cannot hold."""
    task = "a\0b \N{SNOWMAN} \U0001f600 'quoted' %s {x}"

    async def law(store):
        await store.create_run(row_of(task=task, header={"task": task}))
        assert await store.find_run("r") == row_of(task=task, header={"task": task})
        assert (await store.list_runs(status=None, limit=1, before=None))[0].task == task

    on_stores([postgres_url], law)


def test_a_journal_that_the_server_has_lost_the_end_of_is_not_gone_on_with(cluster, postgres_url):
    """As after a crash: an append that follows what is lost is refused, and says so; nobody else has the run."""

    async def law(store):
        row = await claimed(store)
        first = batch_of(row, b"one")
        await append(store, first)
        second = batch_of(after(row, first), b"two")
        await append(store, second)
        cluster.sql(
            "DELETE FROM firmplan_journal WHERE first_seq=2; UPDATE firmplan_runs SET last_seq=1",
            postgres_url,
        )
        with pytest.raises(StoreError, match=r"has 1 records.*record 3 was to follow: the store has lost"):
            await append(store, batch_of(after(after(row, first), second), b"three"))
        assert await store.read_journal("r") == [b"one"]

    on_stores([postgres_url], law)


def test_what_a_durable_commit_follows_is_durable(cluster, postgres_url):
    """Appends that waited for no disk, a plan that did, saved through another connection, then a crash: all of it is there."""

    async def write(store, other):
        row = await claimed(store)
        for n in range(50):
            batch = batch_of(row, b"line %d" % n)
            await append(store, batch)
            row = after(row, batch)
        await other.save_plan("p", "{}", "sha256:p", 1.0)
        cluster.stop("immediate")
        cluster.start()
        assert await store.read_journal("r") == [b"line %d" % n for n in range(50)]
        assert (await other.find_plan("p")).text == "{}"

    on_stores([postgres_url, postgres_url], write)


@pytest.mark.parametrize(
    ("setting", "durable"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_durable_is_what_the_server_asks_for_but_never_less_than_its_disk(cluster, setting, durable):
    """A database whose commits are set to wait for nothing, or for its standbys as well."""
    cluster.sql(f"CREATE DATABASE sync_{setting}")
    cluster.sql(f"ALTER DATABASE sync_{setting} SET synchronous_commit = {setting}")
    seen = []

    async def law(store):
        note = "SELECT current_setting('synchronous_commit')"
        await store._main.call(lambda db: seen.append(db.execute(note).fetchone()[0]))

        def work(db):
            with postgres_connection.in_transaction(db, is_durable=True):
                seen.append(db.execute(note).fetchone()[0])

        await store._main.call(work)
        await store._main.call(lambda db: seen.append(db.execute(note).fetchone()[0]))

    on_stores([cluster.url(database=f"sync_{setting}")], law)
    assert seen == ["off", durable, "off"]


# --- what a commit waits for

WATCHED = ("runs", "headers", "journal", "decisions", "saved_values", "plans")


def watch_commits(cluster, url):
    """Have the server note, while it commits, what each commit that changes a row waits for, and which transaction it is."""
    cluster.sql(
        "CREATE TABLE commits (number serial, level text, of bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO commits (level, of) VALUES (current_setting('synchronous_commit'), txid_current()); RETURN NULL; END $$;"
        + "".join(
            f"CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON firmplan_{table} "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();"
            for table in WATCHED
        ),
        url,
    )


def test_what_may_not_be_lost_waits_for_the_disk_at_its_commit(cluster, postgres_url):
    """Runs, claims, decisions, saved values and plans, and each group with one batch that has to last; other appends wait for nothing."""

    async def law(store):
        watch_commits(cluster, postgres_url)

        async def levels(doing):
            await doing
            noted = cluster.sql("SELECT DISTINCT level FROM commits", postgres_url)
            cluster.sql("TRUNCATE commits", postgres_url)
            return [level for (level,) in noted]

        key = DecisionKey("pay", 1, "")
        row, other = row_of(), row_of("s")
        for doing in (
            store.create_run(row),
            store.create_run(other),
            store.claim("r", "me", **DEAD),
            store.claim("s", "me", **DEAD),
            store.set_header("r", {"plan": 1}, "sha256:p", 1, "running", 2.0),
            store.add_decision("r", b"one"),
            store.add_decisions("r", {key: b"two"}),
            store.add_value("v", b"data", 1.0),
            store.save_plan("p", "{}", "sha256:p", 1.0),
        ):
            assert await levels(doing) == ["on"], doing
        row, other = [await store.find_run(each) for each in "rs"]
        plain, last = batch_of(row, b"one"), batch_of(other, b"one", is_synced=True)
        assert await levels(append(store, plain)) == ["off"]
        row = after(row, plain)
        assert await levels(asyncio.to_thread(store.append, [batch_of(row, b"two"), last])) == ["on"]
        assert await levels(append(store, batch_of(after(other, last), b"two"))) == ["off"]
        assert await levels(store.release({"s": 1})) == ["on"]

    on_stores([postgres_url], law)


def test_a_group_is_one_transaction(cluster, postgres_url):
    """What calls leave is committed with the records of all its batches, and not before."""

    async def law(store):
        rows = [await claimed(store, run_id) for run_id in "rs"]
        watch_commits(cluster, postgres_url)
        batches = [batch_of(row, b"one", opened={"w": "a"}, is_synced=True) for row in rows]
        assert await asyncio.to_thread(store.append, batches) == [None, None]
        assert cluster.sql("SELECT count(*), count(DISTINCT of) FROM commits", postgres_url) == [(4, 1)]

    on_stores([postgres_url], law)


@pytest.mark.parametrize("how", ["opened", "closed"])
def test_a_group_locks_the_resources_of_all_its_writes_in_the_order_of_names(postgres_url, how):
    """While it waits for the first one it holds none of the later ones, so that two groups wait for each other in no ring."""

    async def law(store):
        rows, names = [await claimed(store, run_id) for run_id in "rs"], ["b", "a"]
        batches = [batch_of(row, b"one", opened={"w": name}) for row, name in zip(rows, names, strict=True)]
        for batch in batches:
            await append(store, batch)
        more = [{"opened": {"x": name}} if how == "opened" else {"closed": ["w"]} for name in names]
        batches = [
            batch_of(after(row, batch), b"two", **fields)
            for row, batch, fields in zip(rows, batches, more, strict=True)
        ]
        locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type='Lock'"
        lock = "SELECT name FROM firmplan_resources WHERE name=%s FOR UPDATE NOWAIT"
        with (
            psycopg.connect(postgres_url) as other,
            psycopg.connect(postgres_url, autocommit=True) as watcher,
        ):
            other.execute(lock, ("a",))
            appending = asyncio.create_task(asyncio.to_thread(store.append, batches))
            while watcher.execute(locked).fetchone() == (0,):  # noqa: ASYNC110  # the server says when
                await asyncio.sleep(0.01)
            assert watcher.execute(lock, ("b",)).fetchall() == [("b",)]
        assert await appending == [None, None]

    on_stores([postgres_url], law)


# --- many at once


def test_one_of_many_claims_a_run(postgres_url):
    """Those that come at the same moment find it driven."""

    async def law(*stores):
        await stores[0].create_run(row_of())
        claims = [
            store.claim("r", f"o{n}", is_alive=lambda owner, beat: True) for n, store in enumerate(stores)
        ]
        rows = [row for row in await asyncio.gather(*claims) if row is not None]
        assert [(row.epoch, row.beat is not None) for row in rows] == [(1, True)]

    on_stores([postgres_url] * 6, law)


def test_an_append_that_the_server_gave_up_for_anothers_sake_is_tried_again(postgres_url):
    """It waits for what another session has, and that one for what the append has: it is there once, and counted once."""

    async def law(store):
        row = await claimed(store)
        first = batch_of(row, b"one", opened={"w": "a", "v": "b"})
        await append(store, first)
        await store._main.call(lambda db: db.execute("SET deadlock_timeout='300ms'"))
        touch = "UPDATE firmplan_resources SET epoch=epoch+1 WHERE name=%s"
        with psycopg.connect(postgres_url) as other:
            other.execute("SET deadlock_timeout='60s'")
            other.execute(touch, ("b",))
            appending = asyncio.create_task(
                append(store, batch_of(after(row, first), b"two", opened={"x": "a", "y": "b"}))
            )
            locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type='Lock'"
            with psycopg.connect(postgres_url, autocommit=True) as watcher:
                while watcher.execute(locked).fetchone() == (0,):  # noqa: ASYNC110  # the server says when
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(other.execute, touch, ("a",))
            assert not appending.done()
        await appending
        assert (await store.epochs(["a", "b"])).count == {"a": 3, "b": 3}
        assert await store.read_journal("r") == [b"one", b"two"]

    on_stores([postgres_url], law)


def test_what_the_server_gives_up_again_and_again_is_tried_so_often_and_then_told(postgres_url):
    """Each time in a transaction of its own; the store goes on afterwards."""
    states = []

    def give_up(db):
        states.append(db.info.transaction_status)
        db.execute("BEGIN")
        if len(states) < times:
            raise psycopg.errors.DeadlockDetected("given up for another's sake")
        db.execute("COMMIT")
        return "done"

    async def law(store):
        nonlocal times
        assert await store._main.call(give_up) == "done"
        assert states == [psycopg.pq.TransactionStatus.IDLE] * DEADLOCKS_MAX
        states.clear()
        times = DEADLOCKS_MAX + 1
        with pytest.raises(StoreError, match="given up for another's sake"):
            await store._main.call(give_up)
        assert states == [psycopg.pq.TransactionStatus.IDLE] * DEADLOCKS_MAX
        assert await store.create_run(row_of())

    times = DEADLOCKS_MAX
    on_stores([postgres_url], law)


@pytest.mark.parametrize("is_last_good", [True, False])
def test_a_removal_that_the_server_gives_up_is_tried_so_often_and_then_told(
    postgres_url, monkeypatch, is_last_good
):
    """As an append is; what is unused is found once."""
    tries, remove = [], sql_store.remove_unused

    def give_up(db, unused):
        tries.append(unused)
        if is_last_good and len(tries) == postgres_store.TRIES:
            return remove(db, unused)
        raise psycopg.errors.DeadlockDetected("given up for another's sake")

    monkeypatch.setattr(sql_store, "remove_unused", give_up)

    async def law(store):
        await store.add_value(digest(b"one"), b"one", 1.0)
        if is_last_good:
            assert await store.prune_values(saved_before=9.0) == Pruned(1, 3)
        else:
            with pytest.raises(StoreError, match="given up for another's sake"):
                await store.prune_values(saved_before=9.0)
        assert len(tries) == postgres_store.TRIES
        assert all(each is tries[0] for each in tries)

    on_stores([postgres_url], law)


def test_appends_of_two_processes_to_the_same_resources_are_all_counted(postgres_url):
    """They raise the epochs of the same resources in opposite order, again and again."""

    async def law(one, other):
        async def drive(store, run_id, names):
            for _ in range(10):
                await asyncio.gather(*(note(store, f"{run_id}{name}", name) for name in names))

        rows = {}

        async def note(store, run_id, name):
            if run_id not in rows:
                rows[run_id] = await claimed(store, run_id)
            batch = batch_of(rows[run_id], b"x", opened={"w": name}, is_synced=True)
            await append(store, batch)
            rows[run_id] = after(rows[run_id], batch)

        names = ["a", "b", "c", "d"]
        await asyncio.gather(drive(one, "r", names), drive(other, "s", names[::-1]))
        assert (await one.epochs([*names, EVERYTHING])).count == {**dict.fromkeys(names, 20), EVERYTHING: 80}

    on_stores([postgres_url] * 2, law)


def test_a_lock_of_somebody_else_is_waited_for_and_then_told(cluster, postgres_url, monkeypatch):
    """A session that holds on to the tables: a StoreError after a while, and the same store goes on afterwards."""

    async def law(store):
        await store._main.call(lambda db: db.execute("SET lock_timeout='100ms'"))
        row = await claimed(store)
        with psycopg.connect(postgres_url) as other:
            other.execute("LOCK TABLE firmplan_runs")
            with pytest.raises(StoreError, match="another session holds locks"):
                await append(store, batch_of(row, b"one"))
        await append(store, batch_of(row, b"one"))
        assert await store.read_journal("r") == [b"one"]

    on_stores([postgres_url], law)


@pytest.mark.parametrize(
    "table",
    [
        "runs",
        "headers",
        "run_plans",
        "plan_texts",
        "journal",
        "decisions",
        "plans",
        "stored_values",
        "saved_values",
    ],
)
def test_nobody_writes_what_may_name_bytes_while_they_are_removed(postgres_url, monkeypatch, table):
    """From the last look at what was written until they are gone."""
    plain, seen = garbage._written_since, []

    def held(db, unused):
        with psycopg.connect(postgres_url) as other:
            try:
                other.execute(f"LOCK TABLE firmplan_{table} IN ROW EXCLUSIVE MODE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                seen.append(table)
        return plain(db, unused)

    monkeypatch.setattr(garbage, "_written_since", held)

    async def law(store):
        await store.add_value(digest(b"one"), b"one", 1.0)
        assert await store.prune_values(saved_before=9.0) == Pruned(1, 3)
        assert seen == [table]
        await store.add_value(digest(b"one"), b"one", 1.0)  # and now everybody may write

    on_stores([postgres_url], law)


def test_removing_beside_writers_loses_nothing(postgres_url, monkeypatch):
    """A run takes a value that nothing named when all was read, right before it would be removed: it stays."""
    value, orphan = digest(b"taken"), digest(b"orphan")
    is_read, is_taken = threading.Event(), threading.Event()
    remove = sql_store.remove_unused

    def late(db, unused, *more):
        assert unused.digests == {value, orphan}
        is_read.set()
        assert is_taken.wait(30)
        return remove(db, unused, *more)

    monkeypatch.setattr(sql_store, "remove_unused", late)

    async def law(store):
        row = await claimed(store)
        for name, data in ((value, b"taken"), (orphan, b"orphan")):
            await store.add_value(name, data, 1.0)
        pruning = asyncio.create_task(store.prune_values(saved_before=50.0))
        await asyncio.to_thread(is_read.wait, 30)
        await append(store, batch_of(row, b'{"output":"%s"}' % value.encode(), values={value: b"taken"}))
        is_taken.set()
        assert await pruning == Pruned(1, 6)
        assert await store.find_values([value, orphan]) == {value: b"taken"}

    on_stores([postgres_url], law)


# --- care


def test_a_value_that_is_not_what_it_was_is_found(cluster, postgres_url):
    """By its digest, which the server computes again."""
    name = digest(b"as it was")

    async def law(store):
        await store.add_value(name, b"as it was", 1.0)
        assert await store.find_damage() == []
        cluster.sql("UPDATE firmplan_stored_values SET data='changed'", postgres_url)
        assert await store.find_damage() == [f"the value {name} is not as it was written"]

    on_stores([postgres_url], law)


def test_a_copy_is_a_store_in_a_file_with_all_that_there_is(postgres_url, tmp_path):
    """Every table, as at one moment, and usable as any store."""
    result = Reusable("k", "r", "s", b"1", 5.0, {"box": 3}, {"HOME": None})
    call = CallRecord("r", "s", "tool", 3.0, "k", b'{"a":1}', "sha256:c", "")
    value = digest(b"v")

    async def fill(store):
        row = await claimed(store, task="a\0b")
        first = batch_of(row, b"one", b"two", values={value: b"v"}, opened={"w": "box"})
        await append(store, first)
        await append(store, batch_of(after(row, first), b"three", is_synced=True))
        await store.add_value(digest(b"saved"), b"saved", 9.0)
        await leave(store, ReuseEntries([call], [result], {"sha256:c": {"a": "b"}}))
        await store.add_decision("r", b"decided")
        await store.add_decisions("r", {DecisionKey("s", 1, "call"): b"yes"})
        await store.save_plan("p", json.dumps({"x": 1}), "sha256:p", 1.0)
        await store.note_use("p", "sha256:p", "answered", "r", 1.0)

    async def told(store):
        return [
            await store.find_run("r"), await store.read_journal("r"), await store.read_heads("r"),
            await store.find_values([value, digest(b"saved")]), await store.find_reusable(["k"]),
            await store.find_calls("r", ["s"]), await store.find_codes(["sha256:c"]), await store.list_decisions("r"),
            await store.list_plans(), [tuple(row) for row in await store.count_uses()],
            await store.epochs(["box", EVERYTHING]), await store.cache_stats(), await store.list_driven(),
            await store.add_decisions("r", {DecisionKey("s", 1, "call"): b"no"}),
        ]  # fmt: skip

    async def law(store):
        await fill(store)
        await store.copy_to(tmp_path / "copy.db")
        copy = SqliteStore(tmp_path / "copy.db")
        await copy.open()
        assert await told(copy) == await told(store)
        row = await copy.claim("r", "you", **DEAD)
        await append(copy, batch_of(row, b"four"))
        assert len(await copy.read_journal("r")) == 4
        await copy.close()
        assert [path.name for path in tmp_path.iterdir()] == ["copy.db"]

    on_stores([postgres_url], law)


# --- copies


def test_a_copy_has_runs_with_a_task_and_without(postgres_url, tmp_path):
    """A task is JSON on the server and a text in the copy; a run of a plan has none."""

    async def law(store):
        await store.create_run(row_of("words", task="do it"))
        await store.create_run(row_of("plan", task=None))
        await store.copy_to(tmp_path / "copy.db")
        copy = SqliteStore(tmp_path / "copy.db")
        await copy.open()
        found = [(await copy.find_run(run)).task for run in ("words", "plan")]
        await copy.close()
        assert found == ["do it", None]

    with_store(lambda: PostgresStore(postgres_url), law)


def test_a_copy_that_fails_is_an_error(postgres_url, tmp_path):
    """Nobody takes for a backup what is none: neither if the file refuses a row, nor if the server refuses a table."""

    async def law(store):
        await store.create_run(row_of())
        await store.copy_to(tmp_path / "copy.db")
        with pytest.raises(StoreError, match=r"copy\.db"):
            await store.copy_to(tmp_path / "copy.db")  # the run is there already
        with psycopg.connect(postgres_url, autocommit=True) as db:
            db.execute("ALTER TABLE firmplan_plan_uses RENAME TO other")
            with pytest.raises(StoreError, match="plan_uses"):
                await store.copy_to(tmp_path / "second.db")
            db.execute("ALTER TABLE other RENAME TO firmplan_plan_uses")

    with_store(lambda: PostgresStore(postgres_url), law)
