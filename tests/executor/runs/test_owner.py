"""An owner by itself, over a store and a view of others that the test makes: whom it claims from, what it lets go of, when it beats."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest
from firmplan import StoreError
from firmplan.executor.runs import owner
from firmplan.executor.runs.owner import Owner

ME, OTHER = "1-me@here~", "2-other@here~"
LONG_S = 10_000.0  # longer than any lease


class View:
    """Who is seen, and how: `True` and `False` of this machine, `None` of another."""

    is_leased = True

    def __init__(self, *, is_alone=False, seen=None):
        self.is_alone, self.seen, self.did = is_alone, seen or {}, []

    def new_name(self, *_):
        return ME

    def acquire(self, name):
        self.did.append(("acquire", name))

    def release(self, name):
        self.did.append(("release", name))

    def sees(self, name):
        return self.seen.get(name)


class Records:
    """A store that notes what it is asked, and fails as it is told."""

    def __init__(self, owners=()):
        self.owners = dict(owners)  # run -> (owner, beat)
        self.did, self.fault, self.beats = [], None, True

    def _note(self, *what):
        self.did.append(what)
        if self.fault is not None:
            raise self.fault

    async def expect_writable(self):
        self._note("expect_writable")

    async def claim(self, run_id, name, *, is_alive, **_):
        self._note("claim", run_id)
        has, beat = self.owners.get(run_id, (None, None))
        if has is not None and is_alive(has, beat):
            return None
        self.owners[run_id] = (name, 0)
        return row(run_id, name)

    async def release(self, epochs):
        self._note("release", dict(epochs))

    async def raise_beat(self, name):
        self._note("raise_beat", name)
        return self.beats

    async def list_owned(self, name):
        return {}

    async def list_owners(self):
        return dict(self.owners.values())

    async def list_driven(self, names):
        self._note("list_driven", tuple(names))
        return [row(run_id, name, beat=beat) for run_id, (name, beat) in self.owners.items() if name in names]


def row(run_id, has=None, *, epoch=3, beat=None):
    return SimpleNamespace(id=run_id, owner=has, epoch=epoch, beat=beat)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as the test moves them."""
    now = [100.0]
    monkeypatch.setattr(owner, "elapsed_s", lambda: now[0])
    return now


def test_an_owner_is_visible_before_its_first_claim_and_asks_once(clock):
    """Nobody is where a store can only be looked at; and what it claims it has, until it lets go."""

    async def main():
        view, store = View(), Records()
        me = Owner(view)
        assert view.did == []
        assert (await me.claim(store, "a")).id == "a"
        assert (await me.claim(store, "b")).id == "b"
        assert view.did == [("acquire", ME)]
        assert store.did == [("expect_writable",), ("claim", "a"), ("claim", "b")]
        assert [me.has(run_id) for run_id in "abc"] == [True, True, False]
        assert await me.claim(store, "a") is None, "it has it already"
        assert len(store.did) == 3
        me.forget("a")
        assert [me.has(run_id) for run_id in "ab"] == [False, True]
        assert (await me.claim(store, "a")).id == "a", (
            "the store still says that it has it: it may have it again"
        )
        shared = me.lease.moment
        me.release()
        assert view.did[-1] == ("release", ME)
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(shared.fd)

    asyncio.run(main())


def test_a_run_is_held_while_it_is_being_claimed(clock):
    """Whoever asks meanwhile is told that it is driven, and the store is asked once: two drivers of one process would call each write twice."""

    async def main():
        store, me = Records({"a": (OTHER, None)}), Owner(View())
        begun, go_on, claim = asyncio.Event(), asyncio.Event(), store.claim

        async def slow(*what, **options):
            begun.set()
            await go_on.wait()
            return await claim(*what, **options)

        store.claim = slow
        claiming = asyncio.create_task(me.claim(store, "a"))
        await begun.wait()
        assert me.has("a")
        assert me.is_driven(row("a", OTHER))
        go_on.set()
        assert await me.claim(store, "a") is None
        assert (await claiming).id == "a"
        assert store.did == [("expect_writable",), ("claim", "a")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("seen", "beat", "is_taken"),
    [(True, None, False), (True, 5, False), (False, 5, True), (None, 5, False), (None, None, True)],
    ids=["lives", "lives and beats", "is dead", "beats elsewhere", "has no beat elsewhere"],
)
def test_a_run_is_taken_from_the_dead_only(clock, seen, beat, is_taken):
    """Of this machine's owners it is seen; of others the beat tells. A claim that failed is no claim."""

    async def main():
        store = Records({"a": (OTHER, beat)})
        me = Owner(View(seen={OTHER: seen}))
        claimed = await me.claim(store, "a")
        assert (claimed is not None) == me.has("a") == is_taken

    asyncio.run(main())


def test_a_look_for_lost_runs_reads_no_run_of_the_living(clock):
    """Rows are read of dead owners, and of this one only after a claim or a release that may have failed."""

    async def main():
        view, store = View(seen={OTHER: True}), Records({"theirs": (OTHER, 1)})
        me = Owner(view)
        mine = await me.claim(store, "mine")
        store.did = []
        assert await me.find_lost(store) == ([], [OTHER])
        assert store.did == [], "however many runs they have"
        view.seen[OTHER] = False
        lost, living = await me.find_lost(store)
        assert ([each.id for each in lost], living, store.did) == (
            ["theirs"],
            [],
            [("list_driven", (OTHER,))],
        )
        view.seen[OTHER], store.did, store.fault = True, [], StoreError("gone")
        with pytest.raises(StoreError):
            await me.let_go(store, mine)  # it may have worked, or not
        with pytest.raises(StoreError):
            await me.find_lost(store)
        store.fault = None
        for _ in range(2):
            assert [each.id for each in (await me.find_lost(store))[0]] == ["mine"], "until somebody has it"
        assert await me.claim(store, "mine")
        assert await me.find_lost(store) == ([], [OTHER])
        store.did = []
        assert await me.find_lost(store) == ([], [OTHER])
        assert store.did == [], "all is known again"

    asyncio.run(main())


def test_a_claim_that_the_store_fails_is_none(clock):
    """The run is not held, and may be claimed again."""

    async def main():
        store, me = Records(), Owner(View())
        store.fault = StoreError("gone")
        for _ in range(2):
            with pytest.raises(StoreError):
                await me.claim(store, "a")
            assert not me.has("a")
        store.fault = None
        assert await me.claim(store, "a")

    asyncio.run(main())


def test_what_could_not_be_let_go_of_is_let_go_of_before_the_next_claim(clock):
    """With the epoch that was held; once it worked it is not done again."""

    async def main():
        store, me = Records(), Owner(View())
        a, b = await me.claim(store, "a"), await me.claim(store, "b")
        store.fault = StoreError("gone")
        with pytest.raises(StoreError):
            await me.let_go(store, a)
        await me.let_go_beside(store, b)  # nobody waits for it: it tells nobody
        assert not me.has("a")
        assert not me.has("b")
        with pytest.raises(StoreError):
            await me.claim(store, "c")
        store.fault, store.did = None, []
        await me.claim(store, "c")
        assert store.did == [("release", {"a": 3, "b": 3}), ("claim", "c")]
        await me.claim(store, "d")
        assert store.did[2:] == [("claim", "d")]

    asyncio.run(main())


def test_runs_that_end_at_once_are_released_together(clock):
    """Those that are kept while a transaction is under way share the next one."""

    async def main():
        store, me = Records(), Owner(View())
        rows = [await me.claim(store, f"r{n}") for n in range(20)]
        store.did, go_on = [], asyncio.Event()
        release = store.release

        async def slow(epochs):
            await release(epochs)
            await go_on.wait()

        store.release = slow
        tasks = [me.let_go_beside(store, each) for each in rows[:1]]
        await asyncio.sleep(0)
        tasks += [me.let_go_beside(store, each) for each in rows[1:]]
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        await me.wait()
        assert all(task.done() for task in tasks)
        assert [len(what[1]) for what in store.did] == [1, 19]

    asyncio.run(main())


def test_a_beat_is_raised_when_it_is_due(clock):
    """Not before; one that was raised, or a claim, begins the time anew; an owner whose lease has gone is told."""

    async def main():
        store, me = Records(), Owner(View())
        assert not me.is_beat_due
        await me.keep_beating(store)
        assert store.did == []
        clock[0] += LONG_S
        assert me.is_beat_due
        await me.keep_beating(store)
        assert store.did == [("raise_beat", ME)]
        assert not me.is_beat_due
        await me.keep_beating(store)
        assert len(store.did) == 1
        clock[0] += LONG_S
        await me.claim(store, "a")
        assert not me.is_beat_due
        clock[0] += LONG_S
        store.beats = False
        for _ in range(2):
            with pytest.raises(StoreError, match="lost its lease"):
                await me.keep_beating(store)

    asyncio.run(main())


def test_who_has_a_store_alone_needs_no_lease(clock):
    async def main():
        store, me = Records(), Owner(View(is_alone=True))
        clock[0] += LONG_S
        assert not me.is_beat_due
        await me.keep_beating(store)
        assert store.did == []

    asyncio.run(main())


def test_whether_a_run_is_driven(clock):
    """By this owner, if it holds it, whatever the row says; by another one, if that lives; by nobody else."""

    async def main():
        me = Owner(View(seen={OTHER: True, "3-dead@here~": False}))
        await me.claim(Records(), "mine")
        assert me.is_driven(row("mine"))
        assert me.is_driven(row("mine", "3-dead@here~")), "the row was read before the claim"
        assert not me.is_driven(row("a", ME)), "it let go of it after the row was read"
        assert not me.is_driven(row("a"))
        assert me.is_driven(row("a", OTHER))
        assert not me.is_driven(row("a", "3-dead@here~"))
        assert me.is_anothers(row("a", OTHER))
        assert not me.is_anothers(row("mine"))
        assert not me.is_anothers(row("mine", OTHER))
        assert not me.is_anothers(row("a", "3-dead@here~"))
        assert me.is_driven(row("a", "4-far@elsewhere~", beat=1))
        assert not me.is_driven(row("a", "4-far@elsewhere~"))
        assert [me.is_elsewhere(name) for name in (OTHER, "3-dead@here~", "4-far@elsewhere~")] == [
            False,
            False,
            True,
        ]

    asyncio.run(main())


def test_a_beat_that_stands_still_is_a_death_whatever_its_number(clock):
    """Watched from here for the length of its lease; one that moves, or that was away for a while, begins the time anew."""
    me, name = Owner(View()), "4-k5000x0a@elsewhere~"
    for beat in (0, 1, -1, 7):
        assert me.is_alive(name, beat)
        clock[0] += 5.0
        assert me.is_alive(name, beat)
        clock[0] += 0.1
        assert not me.is_alive(name, beat)
    assert not me.is_alive(name)
    assert me.is_alive(name, 7), "it had none, and has one again"


def test_a_lease_is_renewed_before_a_write_is_called_unless_enough_is_left(clock):
    """Always where this process stood still since the write's intent was handed to the store."""

    async def main():
        store, me = Records(), Owner(View(), 30.0)
        await me.expect_lease(store, clock[0])
        clock[0] += 19.9
        await me.expect_lease(store, clock[0])
        assert store.did == []
        clock[0] += 0.1
        await me.expect_lease(store, clock[0])
        assert store.did == [("raise_beat", ME)]
        await me.expect_lease(store, clock[0] - 1.0)
        assert len(store.did) == 1
        await me.expect_lease(store, clock[0] - 1.1)
        assert len(store.did) == 2
        store.beats = False
        with pytest.raises(StoreError, match="lost its lease"):
            await me.expect_lease(store, clock[0] - 1.1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("owned", "beats", "ends"),
    [({"a": 3}, True, False), ({}, True, True), ({"a": 4}, True, True), ({"a": 3}, False, True)],
    ids=["has it", "lost it", "has it anew", "has lost its lease"],
)
def test_a_process_ends_if_the_run_of_a_write_under_way_was_taken_from_it(
    clock, monkeypatch, owned, beats, ends
):
    """It is found out when the beat is raised, and before; other runs of the same owner end nothing."""
    ended = []
    monkeypatch.setattr(owner, "end_process", ended.append)

    async def main():
        view = View()
        view.is_leased = False  # the watchdog has a clock of its own
        store, me = Records(), Owner(view)
        for run_id in "ab":
            await me.claim(store, run_id)

        async def list_owned(name):
            store._note("list_owned", name)
            return owned

        store.list_owned, store.beats, store.did = list_owned, beats, []
        with me.lease.guarding("a"):
            clock[0] += LONG_S
            if beats:
                await me.keep_beating(store)
            else:
                with pytest.raises(StoreError, match="lost its lease"):
                    await me.keep_beating(store)
        assert store.did == [("list_owned", ME), ("raise_beat", ME)]
        assert bool(ended) == ends
        assert all("run a was taken from this process" in why for why in ended)
        clock[0] += LONG_S
        store.beats, ended[:] = True, []
        await me.keep_beating(store)
        assert not ended, "no write is under way any more"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "seen", "left_s"),
    [
        ("2-k5000x0a@here~", False, 0.0),
        (ME, None, 0.0),
        ("2-k5000x0a@here~", True, 6.0),
        ("2-k5000x0a@far~", None, 6.0),
        ("2-l5000x0a@far~", None, None),
        ("2-old@far~", None, None),
    ],
    ids=[
        "is seen to be gone",
        "this one",
        "is there and ends",
        "ends elsewhere",
        "does not end",
        "does not say",
    ],
)
def test_how_long_a_call_of_a_former_owner_may_be_under_way(clock, name, seen, left_s):
    """Not longer than its lease and a moment, where it ends surely; of others nobody can say."""

    async def main():
        me = Owner(View(seen={name: seen}))
        assert me.may_survive([name]) == (left_s != 0.0)
        if left_s is None:
            assert "on host far" in await me.find_survivor([name])
            clock[0] += LONG_S
            assert me.may_survive([name])
        elif left_s:
            clock[0] += left_s - 0.1
            assert me.may_survive([name])
            clock[0] += 0.2
            assert not me.may_survive([name])
        if left_s is not None:
            assert await me.find_survivor([name]) is None
        assert not me.may_survive([])

    asyncio.run(main())


def test_calls_of_an_owner_that_ends_are_waited_for_until_they_are_surely_over(clock, monkeypatch):
    """To the end of its lease and a moment: a write that is repeated before may happen twice. It is looked often whether it is gone."""
    slept, view = [], View()

    async def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds
        if len(slept) == 50:
            view.seen["4-k5000x0b@here~"] = False

    monkeypatch.setattr(owner, "asyncio", SimpleNamespace(sleep=sleep, Lock=asyncio.Lock))

    async def main():
        me, began = Owner(view), clock[0]
        assert await me.find_survivor(["2-k5000x0a@far~"]) is None
        assert 6.0 <= clock[0] - began < 6.1
        assert max(slept) <= owner.LOOK_S
        assert await me.find_survivor(["4-k5000x0b@here~"]) is None
        assert len(slept) == 50, "it was seen to be gone"
        assert "on host far" in await me.find_survivor(["4-k5000x0b@here~", "3-l5000x0a@far~"])

    asyncio.run(main())


@pytest.mark.parametrize(("by_force", "waits_s"), [(False, 1.0), (True, 6.0)])
def test_the_wait_for_an_overtaken_owner_counts_from_where_its_beat_stood_still(clock, by_force, waits_s):
    """Of one that lived, from when it was overtaken: it may have raised its beat right before."""

    async def main():
        name = "2-k5000x0a@far~"
        store, me = Records({"a": (name, 7)}), Owner(View())
        assert me.is_alive(name, 7)
        clock[0] += 5.0 if by_force else 5.1
        claimed = await me.claim(store, "a", by_force=by_force)
        assert claimed
        clock[0] += waits_s - (0.1 if by_force else 0.2)
        assert me.may_survive([name])
        clock[0] += 0.2
        assert not me.may_survive([name])

    asyncio.run(main())
