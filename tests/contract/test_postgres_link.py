"""One connection to PostgreSQL: made when it is needed, made anew when it was lost, and clean after whatever failed on it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing

import psycopg
import pytest
from firmplan.errors import ConfigError, StoreError
from firmplan.executor.stores.location import PostgresUrl
from firmplan.executor.stores.postgres_connection import (
    DEADLOCKS_MAX,
    PostgresLink,
    connect,
    in_transaction,
    rows,
)

pytestmark = pytest.mark.postgres
IDLE = psycopg.pq.TransactionStatus.IDLE


def one(db, statement="SELECT 1"):
    return rows(db, statement)[0][0]


def with_link(url, law):
    async def main():
        link = PostgresLink(PostgresUrl.of(url), "test")
        await link.open()
        try:
            return await law(link)
        finally:
            await link.close()

    return asyncio.run(main())


def settings_of(db, *names):
    return [one(db, f"SHOW {name}") for name in names]


def test_a_session_is_as_stores_need_it(postgres_url):
    """Commits wait for the disk only where that is asked for; locks and idle transactions have limits, whatever the URL says."""
    names = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout", "client_encoding")
    joined = "&" if "?" in postgres_url else "?"
    with closing(connect(PostgresUrl.of(f"{postgres_url}{joined}client_encoding=LATIN1"))) as db:
        assert db.autocommit
        assert settings_of(db, *names) == ["off", "10s", "10s", "UTF8"]
        assert settings_of(db, "default_transaction_isolation", "application_name") == [
            "read committed",
            "firmplan",
        ]
        assert db.info.get_parameters()["tcp_user_timeout"] == "30000"
        with in_transaction(db, is_durable=True):
            inside = db.execute(
                "SELECT current_setting('synchronous_commit'), pg_current_xact_id_if_assigned()"
            )
            assert inside.fetchone() == ("on", None)
        assert settings_of(db, "synchronous_commit") == ["off"]
    with closing(
        connect(PostgresUrl.of(f"{postgres_url}{joined}application_name=other&keepalives_idle=77"))
    ) as db:
        assert settings_of(db, "application_name") == ["other"]
        assert db.info.get_parameters()["keepalives_idle"] == "77"


def test_a_session_that_cannot_be_set_up_is_told(postgres_url, monkeypatch):
    """And its connection is closed; what is no URL is told as one."""
    made, ask = [], psycopg.connect

    def asked(*words, **options):
        made.append(ask(*words, **options))
        return made[-1]

    monkeypatch.setattr(psycopg, "connect", asked)
    monkeypatch.setattr("firmplan.executor.stores.postgres_connection.SESSION", "SELECT nothing_there()")
    with pytest.raises(StoreError, match="nothing_there"):
        connect(PostgresUrl.of(postgres_url))
    assert [db.closed for db in made] == [True]
    with pytest.raises(ConfigError, match="is no such URL"):
        connect(PostgresUrl.of("postgresql://127.0.0.1/x?colour=red"))


def test_a_connection_is_kept_until_it_is_lost(cluster, postgres_url):
    """Lost while nobody used it, it is made anew without a word; lost in the middle of work, that fails, and the next goes on."""

    async def law(link):
        first = await link.call(lambda db: db)
        assert await link.call(lambda db: db) is first
        assert await asyncio.to_thread(link.call_here, lambda db: db) is first

        def end(db):
            number = one(db, "SELECT pg_backend_pid()")
            cluster.sql(f"SELECT pg_terminate_backend({number}, 5000)")

        await link.call(end)
        second = await link.call(lambda db: (one(db), db)[1])
        assert second is not first
        assert first.closed
        with pytest.raises(StoreError, match="the connection is lost"):
            await link.call(lambda db: (end(db), one(db)))
        assert await link.call(lambda db: (one(db), db)[1]) is not second
        await link.call(lambda db: db.close())
        assert await link.call(one) == 1

    with_link(postgres_url, law)


@pytest.mark.parametrize("fault", [StoreError("our own"), ValueError("a bug")])
def test_what_fails_leaves_no_transaction_behind(postgres_url, fault):
    """It is done once, told as an error of the store, and the connection is kept for what comes next."""

    async def law(link):
        done = []

        def work(db):
            done.append(db)
            db.execute("BEGIN")
            db.execute("CREATE TEMP TABLE t (x int)")
            raise fault

        with pytest.raises(StoreError, match=str(fault)) as raised:
            await link.call(work)
        assert (raised.value is fault) == isinstance(fault, StoreError)
        assert len(done) == 1
        assert await link.call(lambda db: (db is done[0], db.info.transaction_status)) == (True, IDLE)
        assert await link.call(lambda db: one(db, "SELECT to_regclass('pg_temp.t')::text")) is None

    with_link(postgres_url, law)


@pytest.mark.parametrize("count", [DEADLOCKS_MAX - 1, DEADLOCKS_MAX])
def test_what_the_server_gave_up_for_anothers_sake_is_tried_so_often(postgres_url, count):
    """Each time from the beginning."""

    async def law(link):
        done = []

        def work(db):
            done.append(db.info.transaction_status)
            db.execute("BEGIN")
            if len(done) <= count:
                raise psycopg.errors.DeadlockDetected("deadlock")
            db.execute("COMMIT")
            return len(done)

        if count < DEADLOCKS_MAX:
            assert await link.call(work) == DEADLOCKS_MAX
        else:
            with pytest.raises(StoreError, match="deadlock"):
                await link.call(work)
        assert done == [IDLE] * DEADLOCKS_MAX

    with_link(postgres_url, law)


def test_only_one_thread_at_a_time_uses_a_connection(postgres_url):
    """Whoever asks on a thread of its own waits for the one that is at work."""

    async def law(link):
        begun, goes_on, order = threading.Event(), threading.Event(), []

        def first(_db):
            begun.set()
            assert goes_on.wait(30)
            order.append("first")

        working = asyncio.create_task(link.call(first))
        assert await asyncio.to_thread(begun.wait, 30)
        asking = threading.Thread(target=link.call_here, args=(lambda _db: order.append("second"),))
        asking.start()
        assert link._turn.locked()
        goes_on.set()
        await working
        await asyncio.to_thread(asking.join)
        assert order == ["first", "second"]

    with_link(postgres_url, law)


def test_a_link_that_is_closed_says_so(postgres_url):
    """Closed twice, or not opened since it could not be; then it has no thread and no connection, and opens later."""

    async def main():
        link = PostgresLink(PostgresUrl.of(postgres_url), "test")

        def fail(_db):
            raise ValueError("not ready")

        with pytest.raises(StoreError, match="not ready"):
            await link.open(fail)
        for _ in range(2):
            assert (link.is_open, link._db) == (False, None)
            with pytest.raises(StoreError, match="is closed"):
                await link.call(one)
            with pytest.raises(StoreError, match="is closed"):
                link.call_here(one)
            await link.close()
        seen = []
        await link.open(seen.append)
        assert link.is_open
        assert await link.call(lambda db: db) is seen[0]
        thread = link._thread
        await link.close()
        assert seen[0].closed
        with pytest.raises(RuntimeError, match="after shutdown"):
            thread.submit(print)
        await link.close()

    asyncio.run(main())


def test_what_fails_in_a_transaction_leaves_nothing(postgres_url):
    """The link rolls back what the transaction had sent."""

    def work(db, fault=None):
        with in_transaction(db, is_durable=True):
            db.execute("INSERT INTO t VALUES (1)")
            if fault is not None:
                raise fault

    async def law(link):
        await link.call(lambda db: db.execute("CREATE TEMP TABLE t (x int)"))
        with pytest.raises(StoreError, match="a bug"):
            await link.call(lambda db: work(db, ValueError("a bug")))
        assert await link.call(lambda db: one(db, "SELECT count(*) FROM t")) == 0
        await link.call(work)
        assert await link.call(lambda db: one(db, "SELECT count(*) FROM t")) == 1

    with_link(postgres_url, law)
