"""The results of the reuse log that were made or read by this process: the newest ones, without a lookup."""

from __future__ import annotations

import asyncio

import pytest
from appending import leave
from firmplan.executor import SqliteStore
from firmplan.executor.stores import result_cache, sqlite_store
from firmplan.executor.stores.result_cache import ResultCache
from firmplan.executor.stores.reuse_log import INLINE_BYTES_MAX, lines_in, segments_of
from firmplan.executor.stores.store import Reusable, ReuseEntries, RunRow
from firmplan.tools import tool
from rig import Rig, plan_of


def result(number, output=b"1"):
    return Reusable(f"sha256:{number:016x}{number:048x}", "r", f"s{number}", output, 1.0)


def lines_of(*results):
    (segment,) = segments_of(results)
    return lines_in(segment.results)


def keys_of(*results):
    return [each.key for each in results]


def outputs(found):
    return {key: each.output for key, each in found.items()}


def keep(cache, number, *results, newest=None, is_complete=False, changes=None, lines=None):
    """Keep a segment, all lines of which are the newest unless it is said which are."""
    cache.keep(
        number,
        lines or lines_of(*results),
        keys_of(*(results if newest is None else newest)),
        cache.changes if changes is None else changes,
        is_complete=is_complete,
    )


def test_a_result_that_is_the_newest_of_its_key_is_there():
    """As it was written; of the others nothing is known, until the index names them."""
    cache = ResultCache()
    made = [result(number, b'"%d"' % number) for number in range(3)]
    assert cache.find(keys_of(*made)) == {}
    keep(cache, 1, *made, newest=made[::2])
    for _ in range(2):  # parsed, and again from memory
        assert cache.find(keys_of(*made, result(9))) == {each.key: each for each in made[::2]}
    keep(cache, 1, *made, newest=made[1:2])
    assert cache.find(keys_of(*made)) == {each.key: each for each in made}


def test_a_result_that_has_a_newer_one_is_forgotten():
    """The others of its segment stay."""
    cache = ResultCache()
    one, two, newer = result(1), result(2), result(1, b"2")
    keep(cache, 1, one, two)
    cache.forget([one.key])
    assert cache.find(keys_of(one, two)) == {two.key: two}
    keep(cache, 2, newer)
    keep(cache, 1, one, two, newest=[two])
    assert cache.find(keys_of(one, two)) == {one.key: newer, two.key: two}


def test_a_result_that_was_added_is_there(monkeypatch):
    """In place of the older one, and of two the later; a large one is looked up, and all are bounded."""
    cache = ResultCache()
    keep(cache, 1, result(1), result(2))
    large = result(3, b'"%b"' % (b"x" * INLINE_BYTES_MAX))
    cache.add([result(1, b"2"), large])
    cache.add([result(4, b"3"), result(4, b"4")])
    found = outputs(cache.find(keys_of(*map(result, range(6)))))
    assert found == {result(1).key: b"2", result(2).key: b"1", result(4).key: b"4"}
    monkeypatch.setattr(result_cache, "BYTES_MAX", 2 * result_cache.OVERHEAD_BYTES + 10)
    for number in range(10, 20):
        cache.add([result(number)])
    assert set(cache.find(keys_of(*map(result, range(20))))) == set(keys_of(result(18), result(19)))


def test_what_was_read_before_a_newer_result_came_is_not_kept():
    """It may be the older one."""
    cache = ResultCache()
    changes = cache.changes
    cache.forget(["sha256:0"])
    keep(cache, 1, result(1), changes=changes)
    assert cache.find(keys_of(result(1))) == {}
    assert cache.lines_of(1) is None


def test_the_segments_that_were_read_first_make_room(monkeypatch):
    """A result that a later segment has stays."""
    segments = {
        number: [result(number), result(0), result(100 + number, b'"%b"' % (b"x" * 300))]
        for number in range(1, 5)
    }
    monkeypatch.setattr(result_cache, "BYTES_MAX", 2 * sum(map(len, lines_of(*segments[1]).values())))
    cache = ResultCache()
    for number, results in segments.items():
        keep(cache, number, *results)
    assert set(cache.find(keys_of(*map(result, range(5))))) == set(keys_of(*map(result, (0, 3, 4))))
    keep(cache, 3, *segments[3])  # once more: it counts once
    assert set(cache.find(keys_of(result(3), result(4)))) == set(keys_of(result(3), result(4)))
    assert [cache.lines_of(number) is not None for number in range(1, 5)] == [False, False, True, True]


def test_a_result_whose_value_stands_elsewhere_is_looked_up_again():
    """The value may be removed; one whose output only looks like the name of a value is kept."""
    cache = ResultCache()
    large = result(1, b'"%b"' % (b"x" * INLINE_BYTES_MAX))
    alike = result(2, b'{"$value":"sha256:0"}')
    keep(cache, 1, large, alike)
    assert cache.find(keys_of(large, alike)) == {alike.key: alike}
    assert set(cache.lines_of(1) or ()) == set(keys_of(large, alike))


def test_all_lines_of_a_segment_are_looked_up_once_enough_of_them_were_asked_for():
    """Not for a single one: results that stand beside each other by chance are not asked for together."""
    cache = ResultCache()
    made = [result(number) for number in range(32)]
    assert not cache.is_worth_all(1, 32, 7)
    assert cache.is_worth_all(1, 32, 8)
    keep(cache, 1, *made, newest=made[:7])
    assert not cache.is_worth_all(1, 32, 0)
    assert cache.is_worth_all(1, 32, 1)
    keep(cache, 1, *made, newest=made[:20], is_complete=True)
    assert not cache.is_worth_all(1, 32, 12)


def test_an_altered_line_stands_for_no_call():
    """However often it is asked for."""
    cache, made = ResultCache(), result(1)
    keep(cache, 1, made, lines={key: line.replace(b"s1", b"s2") for key, line in lines_of(made).items()})
    for _ in range(2):
        assert cache.find([made.key])[made.key].refused == "altered"


@pytest.fixture
def questions(monkeypatch):
    """Each question to the index: the keys."""
    asked = []
    find = sqlite_store._numbers_of
    monkeypatch.setattr(sqlite_store, "_numbers_of", lambda db, keys: asked.append(keys) or find(db, keys))
    return asked


def test_a_run_that_runs_again_asks_the_index_a_few_times(tmp_path, questions):
    """In the process that made its results, and in a new one; not once for each group of ready calls, of which there are 80."""

    @tool(effect="pure", version=1)
    async def more(n: int) -> int:
        """Add."""
        return n + 1_000

    steps = [
        {"id": f"s{n}", "tool": "more", "args": {"n": f"${{s{n - 5}}}" if n > 4 else n}} for n in range(400)
    ]

    async def main():
        counts = []
        for runs in ((0, 400, 400), (400,)):
            async with Rig([more], str(tmp_path / "s.db")) as rig:
                for reused in runs:
                    questions.clear()
                    run = await rig.run(plan_of(*steps))
                    assert run.usage.get("reused", 0) == reused
                    counts.append(len(questions))
        return counts

    *by_who_made_them, in_a_new_process = asyncio.run(main())
    assert by_who_made_them[1:] == [0, 0]
    assert in_a_new_process <= 40  # a few for each of 7 segments


def test_results_that_stand_in_many_segments_are_looked_up_alone(tmp_path, questions):
    """Nobody asks for their neighbours; and the next time they are known."""

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        await store.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        for first in range(0, 400, 40):
            await leave(store, ReuseEntries(results=[result(first + number) for number in range(40)]))
        store._known.forget()  # a new process
        wanted = keys_of(*(result(first) for first in range(0, 400, 40)))
        for asked in (10, 0, 0):
            questions.clear()
            assert set(await store.find_reusable(wanted)) == set(wanted)
            assert sum(map(len, questions)) == asked
        await store.close()

    asyncio.run(main())


def test_a_result_that_is_made_anew_is_found_at_once(tmp_path):
    """Not the older one, which was read before."""

    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.open()
        await store.create_run(RunRow("r", "queued", None, None, None, 1.0, 1.0, "", {}))
        for number in range(5):
            made = [result(1, b"%d" % number), result(2)]
            await leave(store, ReuseEntries(results=made[: 1 if number else 2]))
            for _ in range(2):
                found = await store.find_reusable(keys_of(result(1), result(2)))
                assert outputs(found) == {result(1).key: b"%d" % number, result(2).key: b"1"}
        assert await store.shrink_cache(before=None, bytes_max=0) == 2
        assert await store.find_reusable(keys_of(result(1), result(2))) == {}
        await store.close()

    asyncio.run(main())
