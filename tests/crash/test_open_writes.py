"""A write that killed its process is of unknown outcome: no fork calls it again unasked, and approved it goes out under the same key."""

from __future__ import annotations

import pytest
from firmplan import Engine, InputRejected
from forked import is_killed, start
from public import statuses, within
from write_child import PLAN, Server, run_and_die

STORES = ["file", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    """The name of a store that other processes can open."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else str(tmp_path / "s.db")


@pytest.fixture(params=[{}, {"idempotent": True}], ids=["plain", "idempotent"])
def options(request):
    """How the write is declared."""
    return request.param


@pytest.fixture
def server(store, tmp_path, options):
    """What the write has acted on once, when its process died."""
    assert is_killed(start(run_and_die, store, str(tmp_path / "till"), options))
    made = Server(tmp_path / "till")
    assert len(made.calls()) == 1
    return made


EDITED = {**PLAN, "steps": [*PLAN["steps"], {"id": "more", "tool": "look", "args": {"x": "${paid}"}}]}
CHANGES = [
    {},
    {"allow_writes": True},
    {"at": "paid", "allow_writes": True},
    {"at": "seen", "allow_writes": True},
    {"at": "other"},
    {"set": {"seen": 5}, "allow_writes": True},
    {"plan": EDITED, "allow_writes": True},
]


def test_no_fork_calls_it_again_unasked(store, server, options):
    """Inside the cone and outside it, with `allow_writes` and without, in forks of forks as well."""

    async def main():
        async with Engine(server.tools(**options), store=store) as engine:
            for changes in CHANGES:
                fork = await engine.fork("one", **changes)
                forth = await engine.fork(fork.id, at="paid", allow_writes=True)
                third = await engine.fork(forth.id, at="other", allow_writes=True)
                for run in (fork, forth, third):
                    assert statuses(run)["paid"] == "waiting"
                    told = run.steps["paid"].past_write
                    assert (told["outcome"], told["run"], told["same_key"]) == ("unknown", "one", True)
                    assert "unknown" in told["message"]
                    assert "the outcome of that call is unknown" in str(await engine.explain(run.id, "paid"))

    within(main())
    assert len(server.calls()) == 1


def test_an_approval_calls_it_under_the_same_key(store, server, options):
    """A server that knows the key does nothing twice, and is told the same time; the parent and a fork of the fork know what came of it."""

    async def main():
        async with Engine(server.tools(**options), store=store) as engine:
            fork = await engine.fork("one", at="paid", allow_writes=True)
            forth = await engine.fork(fork.id, allow_writes=True)
            await engine.approve(forth.id, "paid", by="ann")
            done = await engine.resume(forth.id)
            after = await engine.fork(done.id, at="other", allow_writes=True)
            return done, after, await engine.replay(done.id)

    done, after, replayed = within(main())
    assert (done.status, done.output, after.status) == ("succeeded", 6, "succeeded")
    first, second = server.calls()
    assert first == second
    assert server.effects() == 1
    assert replayed.digest == done.digest


def test_an_edited_call_is_another_call(store, server, options):
    """With other arguments the key is another one: the server must not take it for the first."""

    async def main():
        async with Engine(server.tools(**options), store=store) as engine:
            fork = await engine.fork("one", at="paid", allow_writes=True)
            await engine.approve(fork.id, "paid", by="ann", edit={"x": 7})
            return await engine.resume(fork.id)

    assert within(main()).status == "succeeded"
    assert [amount for _, amount, _ in server.calls()] == ["5", "7"]
    assert server.effects() == 2


def test_a_retry_goes_on_where_a_person_says_that_it_did_nothing(store, server, options):
    """From another process: what succeeded stands, the write is made anew under a key of its own, and the same retry is made once."""

    async def main():
        async with Engine(server.tools(**options), store=store) as engine:
            run = await engine.resume("one")
            if options:  # an idempotent write is made again by itself
                with pytest.raises(InputRejected, match="it has succeeded"):
                    await engine.retry("one")
                return None
            assert run.status == "indeterminate"
            await engine.resolve("one", "paid", fail="looked: it did nothing")
            assert (await engine.resume("one")).status == "failed"
            done = await engine.retry("one", run_id_new="two")
        async with Engine(server.tools(**options), store=store) as engine:
            again = await engine.retry("one", run_id_new="two")
            return done, again, await engine.replay("two")

    found = within(main())
    if found is not None:
        done, again, replayed = found
        assert (done.output, again.digest, replayed.digest) == (6, done.digest, done.digest)
        assert [path for path, step in done.steps.items() if step.reused] == ["seen", "other"]
        assert server.effects() == 2
    assert len(server.calls()) == 2
